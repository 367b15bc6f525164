"""Pictures and depth as the bytes that ROS's transports carry: JPEG, PNG, compressedDepth, millimetres, points.

compressedDepth is image_transport_plugins' format: a header of an enum and two floats, then a 16-bit PNG; float depth
is stored as its inverse, so that near depth is fine and far depth coarse. No ROS here.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics

FORMATS = ("jpeg", "png")  # of compressed pictures
INVERSE_DEPTH = 1  # of the header's enum: undefined, inverse depth
QUANTIZATION = 100.0  # as the plugin's default: a step of 1 is a hundredth of the depth at 1 m
DEPTH_MAX = 100.0  # metres; farther depth is none
NEAREST = 0.16  # metres; nearer depth has no 16-bit inverse
POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])  # PCL's layout: 0x00rrggbb in 4 bytes


def encode_picture(rgb: np.ndarray, kind: str, quality: int) -> bytes:
    """(H, W, 3) uint8 as `jpeg` of a quality 1 to 100, or as `png`, of which only the speed is chosen here: fast."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return cv2.imencode("." + kind, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def millimetres(depth: np.ndarray) -> np.ndarray:
    """(H, W) uint16 of metres: REP-118's 16UC1, 0 = none; so is what is farther than 65.535 m."""
    rounded = np.rint(depth * np.float32(1e3))
    return np.where((rounded > 0) & (rounded < 65536), rounded, 0).astype(np.uint16)


def metres(depth: np.ndarray) -> np.ndarray:
    """(H, W) float32: REP-118's 32FC1, NaN = none, of depth with 0 = none."""
    return np.where(depth > 0, depth, np.float32(np.nan)).astype(np.float32, copy=False)


def compress_depth(depth: np.ndarray) -> bytes:
    """The compressedDepth of (H, W) float32 metres (0 or NaN = none) or of uint16 millimetres (0 = none)."""
    if depth.dtype == np.uint16:
        return struct.pack("<iff", INVERSE_DEPTH, 0.0, 0.0) + _png16(depth)
    a = QUANTIZATION * (QUANTIZATION + 1.0)
    b = 1.0 - a / DEPTH_MAX
    known = (depth >= NEAREST) & (depth < DEPTH_MAX)
    inverse = np.where(known, a / np.where(known, depth, 1.0) + b, 0.0)
    return struct.pack("<iff", INVERSE_DEPTH, a, b) + _png16(inverse.astype(np.uint16))


def _png16(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


class OrganisedPoints:
    """A cloud with one point a pixel, in the camera's optical frame; the same memory for every frame."""

    def __init__(self, intrinsics: Intrinsics) -> None:
        shape = intrinsics.height, intrinsics.width
        v, u = np.indices(shape, dtype=np.float32)
        self._x = ((u - intrinsics.cx) / intrinsics.fx).astype(np.float32)
        self._y = ((v - intrinsics.cy) / intrinsics.fy).astype(np.float32)
        self.points = np.zeros(shape, POINT)

    def fill(self, depth: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        """(H, W) POINT of float32 metres (0 or NaN = none: x, y and z are NaN) and of (H, W, 3) uint8 colours."""
        z = metres(depth)
        self.points["x"], self.points["y"], self.points["z"] = self._x * z, self._y * z, z
        self.points["rgb"] = pack_colours(rgb)
        return self.points


def pack_colours(rgb: np.ndarray) -> np.ndarray:
    """(...,) uint32 0x00rrggbb of (..., 3) uint8."""
    r, g, b = np.moveaxis(rgb, -1, 0).astype(np.uint32)
    return r << 16 | g << 8 | b
