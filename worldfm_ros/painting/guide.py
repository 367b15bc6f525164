"""Where the reference keyframe's pixels go in the target view, by the drawn depth: the pixel-exact part of the memory.

The depth of a hole is continued from its rim; a pixel's point is projected into the keyframe, and its colour is taken
unless the keyframe shows something nearer there. What comes out is aligned with the target, and as sharp as the
photograph; whether it is right is for a frame model to judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

NEAR = 1e-3  # metres; what is not farther in front of the reference is not seen by it
DEPTH_TOLERANCE = 0.05  # relative: what the keyframe shows this much nearer is in front, this much farther away behind
PATCH = np.ones((13, 13), np.uint8)  # pixels; where less of a surface is contradicted, its depth may be wrong


@dataclass(frozen=True, eq=False)
class WarpedReference:
    """rgb (H, W, 3) uint8, the reference seen from the target; shown (H, W) bool, where it shows that place, or might:
    nothing is in front of it. beyond (H, W) bool, where it looks past that place at something behind.
    """

    rgb: np.ndarray
    shown: np.ndarray
    beyond: np.ndarray


def nearest_drawn(coverage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (H, W) of the covered pixel nearest to each pixel. At least one must be covered."""
    return np.unravel_index(_nearest(coverage, np.ones_like(coverage)).reshape(coverage.shape), coverage.shape)


def _nearest(coverage: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N,) int32: for each pixel that is `wanted` (H, W) bool, the flat index of the covered one that is nearest."""
    _, labels = cv2.distanceTransformWithLabels((~coverage).view(np.uint8), cv2.DIST_L2, 5,
                                                labelType=cv2.DIST_LABEL_PIXEL)
    place = np.zeros(np.count_nonzero(coverage) + 1, np.int32)  # each covered pixel has a label of its own, from 1 up
    place[labels[coverage]] = np.flatnonzero(coverage)
    return place[labels[wanted]]


@dataclass(frozen=True, eq=False)
class Surface:
    """What a drawing's anchors are samples of: depth (H, W) float32 metres, everywhere; drawn (H, W) bool, the covered
    pixels that show it."""

    depth: np.ndarray
    drawn: np.ndarray

    @cached_property
    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns (H, W) of the drawn pixel nearest to each pixel."""
        return nearest_drawn(self.drawn)


def in_front(drawing: AnchorView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearness, 1 / z, and the same closed over gaps of a pixel (H, W) float32; drawn (H, W) bool: what does not show
    through such a gap."""
    nearness = np.divide(1, drawing.depth, out=np.zeros_like(drawing.depth), where=drawing.coverage)
    closed = cv2.morphologyEx(nearness, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return nearness, closed, drawing.coverage & (nearness >= (1 - DEPTH_TOLERANCE) * closed)


def find_surface(drawing: AnchorView) -> Surface:
    """The surface of a drawing, which must not be empty.

    Through the gaps of a sparse surface farther anchors show. So nearness, 1 / z, is closed morphologically: a gap of a
    pixel takes its rim's, and what is drawn farther away there does not count. Larger holes continue the nearest drawn
    depth. Noise is smoothed, but not over edges: each pixel's own noise would tear a warped picture to pieces.
    """
    nearness, closed, drawn = in_front(drawing)
    holes = ~drawn & (closed <= 0)
    whole = np.where(drawn, nearness, closed)
    if holes.any():
        whole[holes] = nearness.reshape(-1)[_nearest(drawn, holes)]
    depth = np.exp(cv2.bilateralFilter(-np.log(cv2.medianBlur(whole, 3)), 5, DEPTH_TOLERANCE, 2))
    return Surface(depth, drawn)


def warp(reference: Keyframe, depth: np.ndarray, T_world_camera: Pose, intrinsics: Intrinsics) -> WarpedReference:
    """The reference seen by a camera for which every pixel's depth (H, W), metres along z, is known; 0 = not known.

    A reference of finer pixels is first brought to the size at which both have the same focal length, without aliasing.
    """
    u, v, z = _projected(depth, T_world_camera, intrinsics, reference)
    camera = reference.intrinsics
    inside = (z > NEAR) & (u >= -0.5) & (u < camera.width - 0.5) & (v >= -0.5) & (v < camera.height - 0.5)
    u, v = np.where(inside, u, 0), np.where(inside, v, 0)
    measured = cv2.remap(reference.depth, u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    shown = inside & (depth > 0) & ((measured == 0) | (measured > (1 - DEPTH_TOLERANCE) * z))
    beyond = shown & (measured > (1 + DEPTH_TOLERANCE) * z)
    rgb = reference.rgb
    if (scale := intrinsics.fx / camera.fx) < 1:
        size = max(1, round(scale * camera.width)), max(1, round(scale * camera.height))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        u, v = ((x + 0.5) * np.float32(new / old) - 0.5
                for x, new, old in ((u, rgb.shape[1], camera.width), (v, rgb.shape[0], camera.height)))
    rgb = cv2.remap(rgb, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    rgb[~shown] = 0
    return WarpedReference(rgb, shown, beyond)


def _projected(depth: np.ndarray, T_world_camera: Pose, intrinsics: Intrinsics,
               reference: Keyframe) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel (u, v) and depth z in the reference, (H, W) float32, of what the target's pixels show.

    (u z, v z, z) = depth K_r R K^-1 (column, row, 1) + K_r t, composed in float64. Behind the reference u and v mean
    nothing.
    """
    T_reference_camera = reference.T_world_camera.inverse() @ T_world_camera
    K = reference.intrinsics.matrix
    direction = (K @ T_reference_camera.rotation.as_matrix() @ np.linalg.inv(intrinsics.matrix)).astype(np.float32)
    origin = (K @ T_reference_camera.translation).astype(np.float32)
    row, column = np.ogrid[:np.float32(intrinsics.height), :np.float32(intrinsics.width)]
    uz, vz, z = (depth * (a * column + (b * row + c)) + o
                 for (a, b, c), o in zip(direction, origin, strict=True))
    safe = np.where(z > NEAR, z, np.float32(1))
    return uz / safe, vz / safe, z


GUIDE_CHANNELS = 8


def guide(drawing: AnchorView, reference: Keyframe | None, T_world_camera: Pose, intrinsics: Intrinsics) -> np.ndarray:
    """(H, W, 8) uint8, what geometry alone knows of the target: best guess RGB, warped reference RGB, and two masks
    (0 or 255), where anchors cover and where the reference shows.

    The best guess is the drawing, in its holes the warped reference, and elsewhere the nearest drawn colour. Where the
    reference looks through a drawn surface it shows another place; in a hole the depth is a guess, and it may be right.
    Objects are as they are drawn: no reference shows them.
    """
    guided = np.zeros((*drawing.coverage.shape, GUIDE_CHANNELS), np.uint8)
    if drawing.static.coverage.any():
        _guide(guided, drawing.static, reference, T_world_camera, intrinsics)
    if drawing.objects is not None:
        touched = drawing.objects.touched
        guided[..., :3] = drawing.objects.over(guided[..., :3])
        guided[touched, 3:] = [0, 0, 0, 255, 0]
    return guided


def _guide(guided: np.ndarray, drawing: AnchorView, reference: Keyframe | None, T_world_camera: Pose,
           intrinsics: Intrinsics) -> None:
    """Fill `guided` for a drawing of anchors alone, which must not be empty."""
    surface = find_surface(drawing)
    guided[..., :3] = drawing.rgb[surface.nearest]
    guided[..., 6] = np.where(surface.drawn, 255, 0)
    if reference is not None:
        warped = warp(reference, surface.depth, T_world_camera, intrinsics)
        through = cv2.morphologyEx((surface.drawn & warped.beyond).astype(np.uint8), cv2.MORPH_OPEN, PATCH) > 0
        shown = warped.shown & ~through
        holes = shown & ~surface.drawn
        guided[..., :3][holes] = warped.rgb[holes]
        guided[..., 3:6][shown] = warped.rgb[shown]
        guided[..., 7] = np.where(shown, 255, 0)
