"""Pixels as points: of a picture as its lens took it."""

from __future__ import annotations

import numpy as np

from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.sensor import pixel_rays


def points_of(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """(H, W, 3) float64, metres in the camera's optical axes, of a picture's depth (H, W); NaN where it is 0."""
    rays = pixel_rays(camera.picture, camera.lens)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((depth > 0) & (rays[..., 2] > 0), depth / rays[..., 2], np.nan)[..., None] * rays


def pixels_of(points: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 2) where points (..., 3) are in the picture; NaN for those behind it."""
    picture = camera.picture
    ahead = np.where(points[..., 2:] > 1e-6, points, np.nan)
    return camera.lens.project(ahead) * [picture.fx, picture.fy] + [picture.cx, picture.cy]
