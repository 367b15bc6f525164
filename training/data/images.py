"""Picture files of RGB-D data, and taking the lens distortion out of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8. Raises FileNotFoundError or ValueError naming the file."""
    return cv2.cvtColor(_read(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_depth(path: Path, unit: float = 0.001) -> np.ndarray:
    """(H, W) float32 metres, 0 = none, of a picture of one channel of uint16 times `unit` metres. Raises likewise."""
    depth = _read(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim != 2 or depth.dtype != np.uint16:
        raise ValueError(f"{path}: depth is one channel of uint16, got {depth.dtype} {depth.shape}")
    return depth.astype(np.float32) * np.float32(unit)


def check_sizes(rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics, where: str) -> None:
    """Raise ValueError unless colour and depth have the camera's size."""
    size = (intrinsics.height, intrinsics.width)
    if rgb.shape[:2] != size or depth.shape != size:
        raise ValueError(f"{where}: colour is {rgb.shape[1]}x{rgb.shape[0]}, depth {depth.shape[1]}x{depth.shape[0]}, "
                         f"the camera {size[1]}x{size[0]}; depth must be registered to the colour's camera")


def undistorted(rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics,
                distortion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a pinhole camera with the same K. distortion: OpenCV's coefficients."""
    if not np.any(distortion):
        return rgb, depth
    K, size = intrinsics.matrix, (intrinsics.width, intrinsics.height)
    maps = cv2.initUndistortRectifyMap(K, distortion, None, K, size, cv2.CV_32FC1)
    return cv2.remap(rgb, *maps, cv2.INTER_LINEAR), cv2.remap(depth, *maps, cv2.INTER_NEAREST)


def _read(path: Path, flags: int) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ValueError(f"{path} is not a readable picture")
    return image
