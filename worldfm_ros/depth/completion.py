"""What every depth completer gives, and what they share: known depth stays, and pulls the rest to where it is."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Protocol

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics

WITHIN = math.log(1.1)  # confidence is about depth that is right within 10 %
LEAST = 1e-3  # metres; no depth is smaller


@dataclass(frozen=True, eq=False)
class DenseDepth:
    """depth (H, W) float32, metres along z, above 0 everywhere; confidence (H, W) float32 in 0..1: about the
    probability that it is right within 10 %, where nothing was known up to the scale of the whole."""

    depth: np.ndarray
    confidence: np.ndarray


class DepthCompleter(Protocol):
    """Makes depth dense. metric: whether depth is in metres even where none was known; else its scale is a guess.
    needs_depth: whether it refuses pictures of which nothing is known."""

    metric: bool
    needs_depth: bool

    def complete(self, rgb: np.ndarray, known: np.ndarray | None, intrinsics: Intrinsics) -> DenseDepth:
        """Of a picture (H, W, 3) uint8 and known depth (H, W) float32, metres, 0 = unknown; None = nothing is known.
        Known depth is returned as it is. Raises ValueError for sizes that differ, and for depth that is no length."""
        ...


def checked(rgb: np.ndarray, known: np.ndarray | None, intrinsics: Intrinsics) -> np.ndarray:
    """The known depth as float32, 0 where none. Raises ValueError for sizes that differ and depth that is no length."""
    size = (intrinsics.height, intrinsics.width)
    if rgb.shape != (*size, 3) or rgb.dtype != np.uint8:
        raise ValueError(f"the picture of this camera is {(*size, 3)} uint8, got {rgb.shape} {rgb.dtype}")
    if known is None:
        return np.zeros(size, np.float32)
    if known.shape != size:
        raise ValueError(f"known depth is as large as the picture, {size}, got {known.shape}")
    if not np.isfinite(known).all() or (known < 0).any():
        raise ValueError("known depth is metres along z, 0 = unknown; got numbers that are negative or not finite")
    return known.astype(np.float32)


def pulled(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`depth` (H, W), all of it positive, times a smooth factor that makes it `known` where that is above 0."""
    mask = known > 0
    off = np.where(mask, np.log(np.where(mask, known, 1)) - np.log(depth), 0).astype(np.float32)
    return np.where(mask, known, depth * np.exp(spread(off, mask))).astype(np.float32)


def spread(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`values` (H, W) float32 over the whole picture: as they are inside of `mask`, elsewhere the mean of what is near,
    however far that is (pull-push: Gortler et al. 1996, section 3.3); 0 where nothing is known.

    depth/network.py has the same for tensors."""
    height, width = mask.shape
    if max(height, width) == 1:
        return values * mask
    room = ((0, height % 2), (0, width % 2))
    weight, sums = (np.pad(x, room).reshape(-(-height // 2), 2, -(-width // 2), 2).sum((1, 3))
                    for x in (mask.astype(np.float32), values * mask))
    coarse = spread(sums / np.maximum(weight, 1), weight > 0)
    return np.where(mask, values, cv2.resize(coarse, (coarse.shape[1] * 2, coarse.shape[0] * 2),
                                             interpolation=cv2.INTER_LINEAR)[:height, :width])


def confidence_of(error: np.ndarray) -> np.ndarray:
    """The probability that depth is right within 10 %, from the mean absolute error of its logarithm (Laplace)."""
    return (1.0 - np.exp(-WITHIN / np.maximum(error, 1e-6))).astype(np.float32)


def reduced(known: np.ndarray, width: int, height: int) -> np.ndarray:
    """Known depth at a smaller size: the geometric mean of what is known in each pixel, 0 where none."""
    if known.shape == (height, width):
        return known
    mask = known > 0
    logs = np.where(mask, np.log(np.where(mask, known, 1)), 0).astype(np.float32)
    share, sums = (cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA)
                   for x in (mask.astype(np.float32), logs))
    there = share > 1e-6
    return np.where(there, np.exp(sums / np.where(there, share, 1)), 0).astype(np.float32)


def size_of(shape: tuple[int, int], pixels: int) -> tuple[int, int]:
    """(width, height) of a picture's aspect, (height, width), with about so many pixels, and not larger than it is."""
    height, width = shape
    scale = min(1.0, math.sqrt(pixels / (width * height)))
    return max(1, round(width * scale)), max(1, round(height * scale))
