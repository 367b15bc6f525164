"""Optical flow between neighbouring stamps, from depth and poses: exact for what stands still or moves as a whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worldfm_ros.geometry import Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.truth.rays import pixels_of, points_of


def flow_of(depth: np.ndarray, instances: np.ndarray, camera: Camera, poses: tuple[Pose, Pose],
            motions: Mapping[int, Pose]) -> np.ndarray:
    """(H, W, 2) float32: how far right and down, in pixels, what each pixel shows is in the picture of the next stamp;
    NaN where depth is not known or it is behind that camera. It may be hidden or outside of the picture there.

    depth (H, W) and instances (H, W) of this stamp; poses: T_world_camera of both; motions: T_later_now in the world
    of the instances that move.
    """
    here, later = poses
    points = here.apply(points_of(depth, camera))
    for instance, motion in motions.items():
        mine = instances == instance
        points[mine] = motion.apply(points[mine])
    v, u = np.indices(depth.shape)
    moved = pixels_of(later.inverse().apply(points), camera)
    return (moved - np.stack([u, v], axis=-1)).astype(np.float32)
