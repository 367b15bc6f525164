"""Keyframes at every size that a target may need: each is resampled once, and kept.

A picture that is shown smaller than it was taken must be averaged first, or it aliases. Levels get smaller by the
square root of 2, so the one that is nearest to what a pixel asks for is off by 19 % at most: neither blurred nor
aliased to see.
"""

from __future__ import annotations

from dataclasses import dataclass
import threading
from weakref import WeakKeyDictionary

import cv2
import numpy as np

from worldfm_ros.world.keyframes import Keyframe

PER_OCTAVE = 2  # levels for each halving of the size
LEVELS = 12  # at most; the last one is 1/45 of the picture's size
LANE = 21  # bits of a packed pixel's channel: room for 8 bits times a 12-bit weight, and a sign
KEPT_BYTES = 384 << 20  # of pyramids; one of 640x480 has 5 MB


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A picture's levels behind one another. levels (L, 3) int64: first pixel, width, height; scales (L, 2) float32:
    width and height as parts of the first level's.

    pixels (N,) int64: R + G 2^21 + B 2^42. A weighted sum of such numbers is the weighted sum of each channel, so one
    multiplication does the work of three.
    """

    pixels: np.ndarray
    levels: np.ndarray
    scales: np.ndarray

    def level(self, number: int) -> np.ndarray:
        """(h, w, 3) uint8"""
        first, width, height = self.levels[number].tolist()
        return unpack(self.pixels[first:first + width * height].reshape(height, width)).astype(np.uint8)


def pack(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) numbers of 0 to 255 to (...,) int64."""
    rgb = rgb.astype(np.int64)
    return rgb[..., 0] | rgb[..., 1] << LANE | rgb[..., 2] << (2 * LANE)


def unpack(pixels: np.ndarray) -> np.ndarray:
    """(...,) int64 to (..., 3) int64, of sums in which no channel is negative."""
    return np.stack([pixels >> (LANE * channel) & ((1 << LANE) - 1) for channel in range(3)], axis=-1)


def build_pyramid(rgb: np.ndarray) -> Pyramid:
    """Of a picture (H, W, 3) uint8: level l has 2 ** (-l / PER_OCTAVE) of its width and height; one pixel at least."""
    height, width = rgb.shape[:2]
    pictures = [np.ascontiguousarray(rgb)]
    while len(pictures) < LEVELS and max(pictures[-1].shape[:2]) > 1:
        scale = 2 ** (-len(pictures) / PER_OCTAVE)
        size = max(1, round(scale * width)), max(1, round(scale * height))
        source = pictures[max(0, len(pictures) - PER_OCTAVE)]  # a whole octave larger: its pixels average evenly
        pictures.append(cv2.resize(source, size, interpolation=cv2.INTER_AREA))
    sizes = np.array([picture.shape[1::-1] for picture in pictures])
    first = np.cumsum(sizes.prod(1)) - sizes.prod(1)
    return Pyramid(np.concatenate([pack(picture).reshape(-1) for picture in pictures]), np.column_stack([first, sizes]),
                   (sizes / sizes[0]).astype(np.float32))


class Pyramids:
    """The pyramids of keyframes, built when first asked for; each leaves with its keyframe. The least recently used
    leave beyond `limit` bytes."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit = limit
        self._kept: WeakKeyDictionary[Keyframe, Pyramid] = WeakKeyDictionary()  # the least recently used first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, keyframe: Keyframe) -> Pyramid:
        with self._lock:
            pyramid = self._kept.pop(keyframe, None)
            if pyramid is not None:
                self._kept[keyframe] = pyramid
                return pyramid
        pyramid = build_pyramid(keyframe.rgb)
        with self._lock:
            self._kept[keyframe] = pyramid
            while len(self) > 1 and sum(kept.pixels.nbytes for kept in self._kept.values()) > self.limit:
                self._kept.pop(next(self._kept.keys()), None)
        return pyramid
