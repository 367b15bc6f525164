"""Image messages as pictures for a browser."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import Image

from worldfm_ros.page.pictures import confidence_colours, depth_colours, label_colours

FORMS = {"rgb8": ("u1", 3), "bgr8": ("u1", 3), "mono8": ("u1", 1), "mono16": ("u2", 1), "16UC1": ("u2", 1),
         "32FC1": ("f4", 1)}
SHOWN: dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]] = {  # by layer and encoding: pixels to RGB
    "rgb": {"rgb8": lambda pixels: pixels, "bgr8": lambda pixels: pixels[..., ::-1],
            "mono8": lambda pixels: np.repeat(pixels[..., None], 3, -1)},
    "depth": {"32FC1": depth_colours, "16UC1": lambda pixels: depth_colours(pixels / 1000.0)},
    "labels": {"mono16": label_colours, "16UC1": label_colours, "mono8": label_colours},
    "confidence": {"mono8": confidence_colours},
}


def problem_with(image: Image, layer: str = "rgb") -> str:
    """Why the image cannot be shown; empty when it can."""
    if image.encoding not in SHOWN[layer]:
        return f"{image.encoding} images are not shown, only {', '.join(SHOWN[layer])}"
    kind, channels = FORMS[image.encoding]
    least = image.width * channels * np.dtype(kind).itemsize
    if not least or image.step < least or len(image.data) != image.step * image.height or not image.height:
        return (f"the image is malformed: {image.width} x {image.height} {image.encoding}, rows of {image.step} bytes, "
                f"{len(image.data)} bytes")
    return ""


def colours_of(image: Image, layer: str = "rgb") -> np.ndarray | None:
    """(H, W, 3) uint8 RGB; None when it cannot be shown."""
    if problem_with(image, layer):
        return None
    kind, channels = FORMS[image.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if image.is_bigendian else "<")
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    pixels = np.ascontiguousarray(rows[:, :image.width * channels * dtype.itemsize]).view(dtype)
    return SHOWN[layer][image.encoding](pixels.reshape(image.height, image.width, channels).squeeze(-1)
                                        if channels == 1 else pixels.reshape(image.height, image.width, channels))
