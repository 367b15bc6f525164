"""Image and CompressedImage messages, as rosbags reads them, to arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from worldfm_ros.sources.images import FULL, MILLIMETRES, decode_image, stored_depth

COLORS = {"rgb8": None, "bgr8": cv2.COLOR_BGR2RGB, "rgba8": cv2.COLOR_RGBA2RGB, "bgra8": cv2.COLOR_BGRA2RGB,
          "mono8": cv2.COLOR_GRAY2RGB}
CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
DEPTHS = {"16UC1": np.uint16, "mono16": np.uint16, "32FC1": np.float32}
COMPRESSED_DEPTH_HEADER = 12  # bytes: a format number and, for 32FC1, the two parameters of its quantisation
PNG_MAGIC = b"\x89PNG"


def decode_color(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises ValueError for an encoding that is not known or data that is no picture."""
    if not hasattr(message, "encoding"):
        return np.asarray(_decompress(message.data, message.format).convert("RGB"))
    if message.encoding not in COLORS:
        raise ValueError(f"colour encoding {message.encoding!r} is none of {tuple(COLORS)}")
    image = pixel_rows(message, np.uint8, CHANNELS[message.encoding])
    conversion = COLORS[message.encoding]
    return np.ascontiguousarray(image) if conversion is None else cv2.cvtColor(image, conversion)


def decode_depth(message: Any) -> np.ndarray:
    """(H, W) float32 metres, 0 = none. Raises ValueError likewise."""
    if not hasattr(message, "encoding"):
        return _compressed_depth(message)
    if message.encoding not in DEPTHS:
        raise ValueError(f"depth encoding {message.encoding!r} is none of {tuple(DEPTHS)}")
    return _metres(pixel_rows(message, DEPTHS[message.encoding], 1)[..., 0])


def _compressed_depth(message: Any) -> np.ndarray:
    """compressed_depth_image_transport: a header, then a PNG of millimetres or, for 32FC1, of quantised disparity."""
    data = np.asarray(message.data)
    if data[:4].tobytes() == PNG_MAGIC:  # a plain PNG
        return _metres(np.asarray(_decompress(data, message.format)))
    image = np.asarray(_decompress(data[COMPRESSED_DEPTH_HEADER:], message.format))
    if not message.format.startswith("32FC1"):
        return _metres(image)
    a, b = data[4:COMPRESSED_DEPTH_HEADER].view("<f4")
    measured = (image > 0) & (image < FULL)
    return np.where(measured, a / np.maximum(image.astype(np.float32) - b, 1e-6), 0).astype(np.float32)


def _metres(depth: np.ndarray) -> np.ndarray:
    if depth.dtype != np.float32:
        return stored_depth(depth, MILLIMETRES, "a depth message")
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def pixel_rows(message: Any, dtype: type, channels: int) -> np.ndarray:
    """(H, W, channels) of an Image, without the padding of its rows."""
    order = ">" if message.is_bigendian else "<"
    pixel = np.dtype(dtype).itemsize * channels
    data = np.asarray(message.data, np.uint8)
    if message.step < message.width * pixel or len(data) != message.step * message.height:
        raise ValueError(f"an image of {message.width}x{message.height} {message.encoding} with step {message.step} "
                         f"has {len(data)} bytes")
    rows = np.ascontiguousarray(data.reshape(message.height, message.step)[:, :message.width * pixel])
    image = rows.view(np.dtype(dtype).newbyteorder(order)).astype(dtype)
    return image.reshape(message.height, message.width, channels)


def _decompress(data: np.ndarray, name: str) -> Image.Image:
    return decode_image(np.asarray(data, np.uint8).tobytes(), f"a picture of format {name!r}")
