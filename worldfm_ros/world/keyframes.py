"""Keyframes: posed photographs that are kept with the map (paper 2.4.1, implicit spatial memory)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose

FRONT = 1e-3  # metres; nearer than this, nothing is before a camera
NOT_LENT = np.float32(1e-3)  # metres; the depth of a pixel that shows nothing to others: as if a finger lay on the lens


def lookup(keyframe, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where world points (N, 3) fall in this view: pixels (N, 2), z (N,) metres, and whether they are in it."""
    camera = keyframe.T_world_camera.inverse().apply(points)
    z = camera[:, 2]
    front = z > FRONT
    pixels = keyframe.intrinsics.project(np.where(front[:, None], camera, [0.0, 0.0, 1.0]))
    inside = front & np.all(
        (pixels >= -0.5) & (pixels < [keyframe.intrinsics.width - 0.5, keyframe.intrinsics.height - 0.5]), 1
    )
    return pixels, z, inside


@dataclass(frozen=True, eq=False)
class Keyframe:
    """One observed view. rgb (H, W, 3) uint8; depth (H, W) float32, metres along z, 0 = none, NOT_LENT = shows nothing.

    inserted: it came while driving (insertion.py). painted: by a frame model; only what was invented shows.
    """

    id: int
    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: Intrinsics
    T_world_camera: Pose
    inserted: bool = False
    painted: bool = False

    @classmethod
    def of(cls, frame: RgbdFrame) -> Keyframe:
        """A frame as a reference picture; its id is the frame's index. What is not the scene shows nothing, and has the
        nearest colours of the scene, so that nothing else bleeds from there when it is resampled."""
        if frame.scene is None or frame.scene.all() or not frame.scene.any():
            return cls(frame.index, frame.rgb, frame.depth, frame.intrinsics, frame.T_world_camera)
        nearest = ndimage.distance_transform_edt(~frame.scene, return_distances=False, return_indices=True)
        return cls(frame.index, frame.rgb[tuple(nearest)], np.where(frame.scene, frame.depth, NOT_LENT),
                   frame.intrinsics, frame.T_world_camera)

    def __post_init__(self) -> None:
        size = (self.intrinsics.height, self.intrinsics.width)
        if self.rgb.shape != (*size, 3) or self.rgb.dtype != np.uint8:
            raise ValueError(
                f"keyframe {self.id}: expected rgb {(*size, 3)} uint8, got {self.rgb.shape} {self.rgb.dtype}"
            )
        if self.depth.shape != size or self.depth.dtype != np.float32:
            raise ValueError(
                f"keyframe {self.id}: expected depth {size} float32, got {self.depth.shape} {self.depth.dtype}"
            )

    lookup = lookup
