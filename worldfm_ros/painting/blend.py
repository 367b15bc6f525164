"""The frame model without a network: references warped by the drawn depth and blended over the drawing. The baseline.

A reference counts the more, the smaller the angle is between its ray and the camera's (the surface's errors shift its
pixels by that much, and it may look different from there), and the farther a pixel is from the rim of what it shows, so
that no seam is seen. The drawing counts where no reference shows the place; what is left is filled from around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
import math

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting._warp import SHRINK, blend_rows, shrink
from worldfm_ros.painting.gaps import opaque
from worldfm_ros.painting.guide import PATCH, find_surface
from worldfm_ros.painting.painted import Painted
from worldfm_ros.painting.warp import ANGLE, RIM, SAMPLES, Target, WarpedReferences, gain_between, warp_references
from worldfm_ros.threads import THREADS, work_off
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

INPAINT_RADIUS = 3  # pixels
NEARBY = 0.03  # on the scale of angles; below, references count alike
FALL = 1.5  # the weight falls with the angle by this exponent
RANK = 1.5  # how much more a reference counts than the next one
UNIT = 4096  # the weight of the first reference at angle 0, in the middle of what it shows, is 255 times this
DRAWING = 8192  # the drawing's weight: little, but at large angles and rims it matters
BANDS = 8  # of rows, which threads share


class Blend:
    """A FrameModel of geometry alone."""

    def paint(self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
              intrinsics: Intrinsics) -> np.ndarray:
        """(H, W, 3) uint8. A drawing without any anchor stays black: there is no surface to bring a reference to."""
        return self.compose(drawing, references, T_world_camera, intrinsics).rgb

    def compose(self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
                intrinsics: Intrinsics) -> Painted:
        """The picture, and which of its pixels are known. Objects come before what is painted of the anchors."""
        anchors, objects = drawing.static, drawing.objects
        painted = Painted(anchors.rgb, np.zeros(anchors.coverage.shape, np.uint8))
        if anchors.coverage.any():
            surface = find_surface(opaque(anchors, references, T_world_camera, intrinsics))
            warped = warp_references(references, Target(surface.depth, T_world_camera, intrinsics))
            rgb, known = blend(anchors.rgb, surface.drawn, warped)
            painted = Painted(fill(rgb, ~known), 255 * known.astype(np.uint8))
        if objects is None:
            return painted
        return Painted(objects.over(painted.rgb), np.where(objects.touched, np.uint8(255), painted.confidence))


def blend(drawn_rgb: np.ndarray, drawn: np.ndarray, warped: WarpedReferences,
          threads: int = THREADS) -> tuple[np.ndarray, np.ndarray]:
    """rgb (H, W, 3) uint8 and known (H, W) bool: where a reference shows the place or the drawing does."""
    rgb, known = np.zeros_like(drawn_rgb), np.zeros_like(drawn)
    shown = warped.shown & ~looked_through(drawn, warped)
    bands = np.linspace(0, len(drawn), 1 + min(BANDS, len(drawn))).astype(int).tolist()
    tables = weights_by_angle(len(warped.rgb)), np.float32(DRAWING)
    sources = warped.rgb, shown, warped.quality[..., ANGLE], warped.quality[..., RIM]
    drawn_source = drawn_rgb, balanced_levels(drawn_rgb, drawn, warped), drawn

    def fill_band(band: tuple[int, int]) -> None:
        blend_rows(sources, drawn_source, tables, (rgb, known), *band)

    work_off(fill_band, list(pairwise(bands)), threads)
    return rgb, known


@cache
def weights_by_angle(count: int) -> np.ndarray:
    """(K, 256) float32, whole, by the angle's place on its scale."""
    angle, rank = np.arange(256) / 255, np.arange(count)[:, None]
    return np.rint(UNIT * RANK**-rank * (NEARBY / (angle + NEARBY)) ** FALL).clip(1).astype(np.float32)


def looked_through(drawn: np.ndarray, warped: WarpedReferences) -> np.ndarray:
    """(K, H, W) bool: surfaces that a reference sees past, so that it shows another thing. Specks of that are noise."""
    through = np.zeros(warped.shown.shape, np.uint8)
    for k, beyond in enumerate(warped.beyond):
        eroded = cv2.erode((drawn & beyond).view(np.uint8), PATCH)
        if eroded.any():
            cv2.dilate(eroded, PATCH, through[k])
    return through.view(bool)


def balanced_levels(drawn_rgb: np.ndarray, drawn: np.ndarray, warped: WarpedReferences) -> np.ndarray:
    """(3, 256) uint8: what the drawing's levels become, so that its exposure is the first reference's."""
    gain = np.ones(3)
    if len(warped.rgb):
        step = max(1, math.isqrt(drawn.size // SAMPLES))
        few = np.s_[::step, ::step]
        both = drawn[few] & warped.shown[0][few] & ~warped.beyond[0][few]
        gain = gain_between(drawn_rgb[few][both], warped.rgb[0][few][both])
    return np.clip(np.rint(np.arange(256) * gain[:, None]), 0, 255).astype(np.uint8)


def fill(rgb: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """rgb (H, W, 3) uint8 with the pixels of `holes` (H, W) bool filled from what is around, at the scale of the hole.

    Pull-push (Gortler et al., The lumigraph, 1996): means of what is known, at half the size again and again until no
    hole is left; each size fills its holes from the next one. It takes the same time whatever the holes.
    """
    if not holes.any():
        return rgb
    height, width = holes.shape
    sums = np.zeros((-(-height // SHRINK), -(-width // SHRINK), 4), np.float32)
    shrink(rgb, holes, sums)
    small = np.clip(_pull_push(sums) + 0.5, 0, 255).astype(np.uint8)
    # squares at the right and lower border may be cut: their middles stay where they are
    filled = cv2.resize(small, None, fx=SHRINK, fy=SHRINK, interpolation=cv2.INTER_LINEAR)[:height, :width]
    return cv2.copyTo(np.ascontiguousarray(filled), holes.view(np.uint8), rgb.copy())


def _pull_push(sums: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32: the means, of sums of R, G, B and numbers (h, w, 4); where nothing is known, what is near."""
    known = sums[..., 3:] > 0
    means = sums[..., :3] / np.maximum(sums[..., 3:], 1)
    height, width = sums.shape[:2]
    if known.all() or (height, width) == (1, 1):
        return means
    share = np.minimum(sums, sums / np.maximum(sums[..., 3:], 1))  # a square that is known at all counts as one
    padded = np.pad(share, ((0, height % 2), (0, width % 2), (0, 0)))
    smaller = _pull_push(padded.reshape((height + 1) // 2, 2, (width + 1) // 2, 2, 4).sum((1, 3)))
    filled = cv2.resize(smaller, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)[:height, :width]
    return np.where(known, means, filled)


def inpaint(rgb: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """rgb (H, W, 3) uint8 with the pixels of `holes` (H, W) bool filled from their surroundings (Telea 2004)."""
    return cv2.inpaint(rgb, holes.astype(np.uint8), INPAINT_RADIUS, cv2.INPAINT_TELEA) if holes.any() else rgb
