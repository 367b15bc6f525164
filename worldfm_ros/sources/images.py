"""Picture files of RGB-D data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.sources.rgbd_folder import read_image


def read_depth(path: Path) -> np.ndarray:
    """(H, W) float32 metres, 0 = none, of a picture of one channel of uint16 millimetres.

    Raises FileNotFoundError or ValueError naming the file.
    """
    depth = np.asarray(read_image(path))
    if depth.ndim != 2 or depth.dtype != np.uint16:
        raise ValueError(f"{path}: depth is one channel of uint16 millimetres, got {depth.dtype} {depth.shape}")
    return depth.astype(np.float32) / 1000


def check_sizes(rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics, where: str) -> None:
    """Raise ValueError unless colour and depth have the camera's size."""
    size = (intrinsics.height, intrinsics.width)
    if rgb.shape[:2] != size or depth.shape != size:
        raise ValueError(f"{where}: colour is {rgb.shape[1]}x{rgb.shape[0]}, depth {depth.shape[1]}x{depth.shape[0]}, "
                         f"the camera {size[1]}x{size[0]}; depth must be registered to the colour's camera")
