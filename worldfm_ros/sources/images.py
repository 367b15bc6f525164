"""Picture files of RGB-D data."""

from __future__ import annotations

import io
from pathlib import Path
import re
import struct
import zlib

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from worldfm_ros.geometry import Intrinsics

MILLIMETRES = 1000.0  # units a metre
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
FULL = np.iinfo(np.uint16).max
SAME_ASPECT = 0.01


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

    Pillow, because it refuses a file that is cut short where OpenCV returns a half-grey picture. It passes over PNG's
    checksums; damage in a JPEG, which has none, may go unnoticed.
    """
    if data.startswith(PNG_MAGIC) and not _is_whole_png(data):
        raise ValueError(f"{where} is not a readable image (a checksum in it is wrong, or it is cut short)")
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Image.DecompressionBombError as error:
        raise ValueError(f"{where} announces too large a picture: {error}") from None
    except (OSError, SyntaxError) as error:  # Pillow reports broken PNG chunks as SyntaxError
        reason = "no format that is known" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{where} is not a readable image ({reason})") from None
    return image


def _is_whole_png(data: bytes) -> bool:
    """Whether a PNG's chunks have the checksums that they say, up to the last one."""
    at = len(PNG_MAGIC)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(memoryview(data)[at + 4:end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        if data[at + 4:at + 8] == b"IEND":
            return True
        at = end + 4
    return False


def read_depth(path: Path, units: float = MILLIMETRES) -> np.ndarray:
    """(H, W) float32 metres, 0 = none, of a picture of one channel of 16 bits, `units` a metre.

    Raises FileNotFoundError or ValueError naming the file.
    """
    return stored_depth(np.asarray(read_image(path)), units, str(path))


def stored_depth(stored: np.ndarray, units: float, where: str) -> np.ndarray:
    """(H, W) float32 metres, 0 = none, of a 16-bit picture's numbers. Raises ValueError naming `where`.

    0 and 65535 both say that nothing was measured. Older Pillows open 16-bit PNGs as int32.
    """
    if stored.dtype == np.int32 and stored.size and 0 <= stored.min() and stored.max() <= FULL:
        stored = stored.astype(np.uint16)
    if stored.ndim != 2 or stored.dtype != np.uint16:
        raise ValueError(f"{where}: depth is one channel of uint16 (millimetres if nothing else is said), got "
                         f"{stored.dtype} {stored.shape}")
    return np.where(stored < FULL, stored / np.float32(units), np.float32(0)).astype(np.float32)


def registered_depth(depth: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """Depth in the camera's number of pixels: what is smaller or larger, but of the same shape, shows the same view."""
    height, width = depth.shape
    alike = abs(width * intrinsics.height / (height * intrinsics.width) - 1) < SAME_ASPECT
    if not alike or (height, width) == (intrinsics.height, intrinsics.width):
        return depth
    return cv2.resize(depth, (intrinsics.width, intrinsics.height), interpolation=cv2.INTER_NEAREST_EXACT)


def natural(name: str) -> list:
    """A key that sorts names by the numbers in them: 2.png before 10.png."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def check_sizes(rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics, where: str) -> None:
    """Raise ValueError unless colour and depth have the camera's size."""
    size = (intrinsics.height, intrinsics.width)
    if rgb.shape[:2] != size or depth.shape != size:
        raise ValueError(f"{where}: colour is {rgb.shape[1]}x{rgb.shape[0]}, depth {depth.shape[1]}x{depth.shape[0]}, "
                         f"the camera {size[1]}x{size[0]}; depth must be registered to the colour's camera")
