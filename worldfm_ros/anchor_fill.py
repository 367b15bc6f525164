"""The frame model without a network: the anchor drawing with its holes filled. The baseline, and the no-network mode.

What no anchor covers is looked up in the reference keyframe: the depth of a hole is continued from its rim, the point
there is projected into the keyframe, and its colour is taken unless the keyframe shows something nearer. The rest is
inpainted.
"""

from __future__ import annotations

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

INPAINT_RADIUS = 3  # pixels
DEPTH_TOLERANCE = 0.05  # relative: what the keyframe shows this much nearer is in front of the hole


class AnchorFill:
    """A FrameModel of geometry alone."""

    def paint(
        self, drawing: AnchorView, reference: Keyframe | None, T_world_camera: Pose, intrinsics: Intrinsics
    ) -> np.ndarray:
        """(H, W, 3) uint8. A drawing without any anchor stays black: there is nothing to continue."""
        if not drawing.coverage.any():
            return drawing.rgb
        rgb, holes = drawing.rgb.copy(), ~drawing.coverage
        if reference is not None and holes.any():
            reproject(reference, continue_depth(drawing), T_world_camera, intrinsics, rgb, holes)
        return inpaint(rgb, holes)


def inpaint(rgb: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """rgb (H, W, 3) uint8 with the pixels of `holes` (H, W) bool filled from their surroundings (Telea 2004)."""
    return cv2.inpaint(rgb, holes.astype(np.uint8), INPAINT_RADIUS, cv2.INPAINT_TELEA) if holes.any() else rgb


def continue_depth(drawing: AnchorView) -> np.ndarray:
    """(H, W) float32 metres: the drawn depth, in the holes that of the nearest drawn pixel."""
    _, nearest = cv2.distanceTransformWithLabels(
        (~drawing.coverage).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    depth_of = np.zeros(nearest.max() + 1, np.float32)
    depth_of[nearest[drawing.coverage]] = drawing.depth[drawing.coverage]
    return depth_of[nearest]


def reproject(
    reference: Keyframe,
    depth: np.ndarray,
    T_world_camera: Pose,
    intrinsics: Intrinsics,
    rgb: np.ndarray,
    holes: np.ndarray,
) -> None:
    """Fill what the reference shows of `holes` into `rgb`, given a depth for every pixel; both are changed in place."""
    rows, columns = np.nonzero(holes)
    points = T_world_camera.apply(intrinsics.unproject(depth)[rows, columns])
    pixels, z, inside = reference.lookup(points)
    pixels = np.where(inside[:, None], pixels, 0).astype(np.float32)
    u, v = np.rint(pixels).astype(int).T
    measured = reference.depth[v, u]
    shown = inside & ((measured == 0) | (measured > (1 - DEPTH_TOLERANCE) * z))
    maps = np.zeros((*holes.shape, 2), np.float32)
    maps[rows, columns] = pixels
    colors = cv2.remap(reference.rgb, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rows, columns = rows[shown], columns[shown]
    rgb[rows, columns] = colors[rows, columns]
    holes[rows, columns] = False
