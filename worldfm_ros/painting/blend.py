"""The frame model without a network: references warped by the drawn depth and blended over the drawing. The baseline.

A reference counts the more, the smaller the angle is between its ray and the camera's (the surface's errors shift its
pixels by that much, and it may look different from there), and the farther a pixel is from the rim of what it shows, so
that no seam is seen. The drawing counts where no reference shows the place; what is left is filled from around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting._warp import blend_rows
from worldfm_ros.painting.guide import PATCH, find_surface
from worldfm_ros.painting.warp import WarpedReferences, gain_between, warp_references
from worldfm_ros.threads import THREADS, work_off
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

INPAINT_RADIUS = 3  # pixels
ANGLE = 0.03  # radians about; below, references count alike
RANK = 2.0  # how much more a reference counts than the next one
UNIT = 4096  # the weight of the first reference at angle 0, in the middle of what it shows, is 255 times this
DRAWING = 8192  # the drawing's weight: little, but at large angles and rims it matters
BANDS = 8  # of rows, which threads share


class Blend:
    """A FrameModel of geometry alone."""

    def paint(self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
              intrinsics: Intrinsics) -> np.ndarray:
        """(H, W, 3) uint8. A drawing without any anchor stays black: there is no surface to bring a reference to."""
        if not drawing.coverage.any():
            return drawing.rgb
        surface = find_surface(drawing)
        warped = warp_references(references, surface.depth, T_world_camera, intrinsics)
        rgb, known = blend(drawing.rgb, surface.drawn, warped)
        return fill(rgb, ~known)


def blend(drawn_rgb: np.ndarray, drawn: np.ndarray, warped: WarpedReferences,
          threads: int = THREADS) -> tuple[np.ndarray, np.ndarray]:
    """rgb (H, W, 3) uint8 and known (H, W) bool: where a reference shows the place or the drawing does."""
    rgb, known = np.zeros_like(drawn_rgb), np.zeros_like(drawn)
    shown = warped.shown & ~looked_through(drawn, warped)
    bands = np.linspace(0, len(drawn), 1 + min(BANDS, len(drawn))).astype(int).tolist()
    tables = weights_by_angle(len(warped.rgb)), DRAWING
    source = drawn_rgb, balanced_levels(drawn_rgb, drawn, warped), drawn

    def fill_band(band: tuple[int, int]) -> None:
        blend_rows((warped.rgb, shown, warped.quality), source, tables, (rgb, known), *band)

    work_off(fill_band, list(pairwise(bands)), threads)
    return rgb, known


def weights_by_angle(count: int) -> np.ndarray:
    """(K, 256) int64, by the angle's place on its scale."""
    angle = np.arange(256) / 255
    return np.rint(UNIT * RANK ** -np.arange(count)[:, None] * ANGLE / (angle + ANGLE)).astype(np.int64).clip(1)


def looked_through(drawn: np.ndarray, warped: WarpedReferences) -> np.ndarray:
    """(K, H, W) bool: surfaces that a reference sees past, so that it shows another thing. Specks of that are noise."""
    return np.array([cv2.morphologyEx((drawn & beyond).view(np.uint8), cv2.MORPH_OPEN, PATCH) > 0
                     for beyond in warped.beyond], bool).reshape(warped.shown.shape)


def balanced_levels(drawn_rgb: np.ndarray, drawn: np.ndarray, warped: WarpedReferences) -> np.ndarray:
    """(3, 256) uint8: what the drawing's levels become, so that its exposure is the first reference's."""
    gain = np.ones(3)
    if len(warped.rgb):
        step = np.s_[::4, ::4]
        both = (drawn & warped.shown[0] & ~warped.beyond[0])[step]
        gain = gain_between(drawn_rgb[step][both], warped.rgb[0][step][both])
    return np.clip(np.rint(np.arange(256) * gain[:, None]), 0, 255).astype(np.uint8)


def fill(rgb: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """rgb (H, W, 3) uint8 with the pixels of `holes` (H, W) bool filled from what is around, at the scale of the hole.

    Pull-push (Gortler et al., The lumigraph, 1996): means of what is known, at half the size again and again until no
    hole is left; each size fills its holes from the next one. It takes the same time whatever the holes.
    """
    if not holes.any():
        return rgb
    pictures = [np.dstack([rgb, np.where(holes, 0, 255).astype(np.uint8)]).astype(np.float32)]
    pictures[0][holes] = 0
    while not pictures[-1][..., 3].all() and max(pictures[-1].shape[:2]) > 1:
        height, width = pictures[-1].shape[:2]
        smaller = cv2.resize(pictures[-1], ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        share = smaller[..., 3:] / 255
        pictures.append(np.where(share > 0, smaller / np.maximum(share, 1e-6), 0))
    filled = pictures[-1][..., :3]
    for picture in reversed(pictures[:-1]):
        height, width = picture.shape[:2]
        filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
        filled = np.where(picture[..., 3:] > 0, picture[..., :3], filled)
    return np.where(holes[..., None], np.clip(filled + 0.5, 0, 255).astype(np.uint8), rgb)


def inpaint(rgb: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """rgb (H, W, 3) uint8 with the pixels of `holes` (H, W) bool filled from their surroundings (Telea 2004)."""
    return cv2.inpaint(rgb, holes.astype(np.uint8), INPAINT_RADIUS, cv2.INPAINT_TELEA) if holes.any() else rgb
