"""Keyframes: posed photographs kept with the map (paper 2.4.1, implicit spatial memory), and the choice of a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose

VOTES = 32  # the drawn surface is sampled on a grid of this many columns and rows
DEPTH_TOLERANCE = 0.05  # relative: a keyframe sees a point when its own depth there agrees within this


@dataclass(frozen=True, eq=False)
class Keyframe:
    """One observed view. rgb (H, W, 3) uint8; depth (H, W) float32, metres along z, 0 = none."""

    id: int
    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: Intrinsics
    T_world_camera: Pose

    def __post_init__(self) -> None:
        size = (self.intrinsics.height, self.intrinsics.width)
        if self.rgb.shape != (*size, 3) or self.rgb.dtype != np.uint8:
            raise ValueError(f"keyframe {self.id}: expected rgb {(*size, 3)} uint8, got {self.rgb.shape} {self.rgb.dtype}")
        if self.depth.shape != size or self.depth.dtype != np.float32:
            raise ValueError(f"keyframe {self.id}: expected depth {size} float32, got {self.depth.shape} {self.depth.dtype}")

    def lookup(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where world points (N, 3) fall in this view: pixels (N, 2), z (N,) metres, and whether they are in the image."""
        camera = self.T_world_camera.inverse().apply(points)
        z = camera[:, 2]
        front = z > 1e-3
        pixels = self.intrinsics.project(np.where(front[:, None], camera, [0.0, 0.0, 1.0]))
        inside = front & np.all((pixels >= -0.5) & (pixels < [self.intrinsics.width - 0.5, self.intrinsics.height - 0.5]), 1)
        return pixels, z, inside

    def sees(self, points: np.ndarray) -> np.ndarray:
        """(N,) bool: which world points (N, 3) this view shows, by its own depth."""
        pixels, z, inside = self.lookup(points)
        u, v = np.rint(np.where(inside[:, None], pixels, 0)).astype(int).T
        depth = self.depth[v, u]
        return inside & (depth > 0) & (np.abs(depth - z) < DEPTH_TOLERANCE * z)


def sample_surface(depth: np.ndarray, T_world_camera: Pose, intrinsics: Intrinsics) -> np.ndarray:
    """World points (N, 3) on a regular grid over a drawn depth image (0 = none): what the reference has to show."""
    rows = np.unique(np.linspace(0, intrinsics.height - 1, VOTES).astype(int))
    columns = np.unique(np.linspace(0, intrinsics.width - 1, VOTES).astype(int))
    points = intrinsics.unproject(depth)[np.ix_(rows, columns)].reshape(-1, 3)
    return T_world_camera.apply(points[points[:, 2] > 0])


def select_reference(keyframes: Sequence[Keyframe], depth: np.ndarray, T_world_camera: Pose,
                     intrinsics: Intrinsics) -> Keyframe | None:
    """The keyframe that sees most of the drawn surface; None when no keyframe sees any of it.

    depth (H, W) float32 is the anchor drawing's. A function of its arguments alone: the same pose has the same reference.
    """
    points = sample_surface(depth, T_world_camera, intrinsics)
    votes = [int(keyframe.sees(points).sum()) for keyframe in keyframes]
    return keyframes[int(np.argmax(votes))] if any(votes) else None
