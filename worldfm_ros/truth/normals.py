"""Surface normals of a frame's depth."""

from __future__ import annotations

import numpy as np

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.truth import _normals


def normals_of(depth: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """(H, W, 3) float32 in optical axes, of length 1, towards the camera; NaN = none. Of a pinhole picture's depth
    (H, W) float32, metres, 0 = none: the plane that fits best about each pixel, over its own surface alone."""
    x = (np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy
    normals = _normals.empty(depth.shape)
    _normals.fit(np.ascontiguousarray(depth, np.float32), x, y, normals)
    return normals
