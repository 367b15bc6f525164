"""The frame model without a network: the anchor drawing with its holes filled. The baseline, and the no-network mode.

What no anchor covers is taken from the reference keyframe, where it shows the place; the rest is inpainted.
"""

from __future__ import annotations

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.guide import find_surface, warp
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

INPAINT_RADIUS = 3  # pixels


class AnchorFill:
    """A FrameModel of geometry alone."""

    def paint(
        self, drawing: AnchorView, reference: Keyframe | None, T_world_camera: Pose, intrinsics: Intrinsics
    ) -> np.ndarray:
        """(H, W, 3) uint8. A drawing without any anchor stays black: there is nothing to continue."""
        if not drawing.coverage.any():
            return drawing.rgb
        rgb, surface = drawing.rgb, find_surface(drawing)
        holes = ~surface.drawn
        if reference is not None and holes.any():
            warped = warp(reference, surface.depth, T_world_camera, intrinsics)
            found = holes & warped.shown
            rgb, holes = np.where(found[..., None], warped.rgb, rgb), holes & ~found
        return inpaint(rgb, holes)


def inpaint(rgb: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """rgb (H, W, 3) uint8 with the pixels of `holes` (H, W) bool filled from their surroundings (Telea 2004)."""
    return cv2.inpaint(rgb, holes.astype(np.uint8), INPAINT_RADIUS, cv2.INPAINT_TELEA) if holes.any() else rgb
