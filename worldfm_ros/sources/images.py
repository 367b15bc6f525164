"""Picture files of RGB-D data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from worldfm_ros.geometry import Intrinsics


def read_rgb(path: Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8. Raises as read_image does."""
    return np.asarray(read_image(path).convert("RGB"))


def read_image(path: Path) -> Image.Image:
    """A picture. Raises FileNotFoundError, or ValueError for one that is not whole; both name the file."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    return decode_image(path.read_bytes(), str(path))


def decode_image(data: bytes, where: str) -> Image.Image:
    """The picture of a file's bytes. Raises ValueError naming `where`.

    Pillow, because it refuses a file that is cut short where OpenCV returns a half-grey picture.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, SyntaxError) as error:  # Pillow reports broken PNG chunks as SyntaxError
        reason = "no format that is known" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{where} is not a readable image ({reason})") from None
    return image


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
