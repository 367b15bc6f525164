"""Gaussian noise that repeats itself: from a seed, or tied to the world's surfaces so that neighbouring frames agree.

Few-step students turn every difference in the noise into a difference in the picture, so fresh noise in every frame,
the released recipe, flickers. `SeededNoise` is the same in every frame; it sticks to the screen. `WorldNoise` sticks to
the world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtri
import torch
from torch import Tensor

from worldfm_ros.geometry import Intrinsics, Pose

SAMPLES = 4  # a latent pixel is looked at through a grid of this many surface points a side
CELL = 2.0  # the width of a noise cell in sample spacings, before it is rounded to a power of two
GRID_OFFSET = (0.618034, 0.414214, 0.732051)  # cells; keeps surfaces at round coordinates off the cell boundaries


@dataclass(frozen=True, eq=False)
class DrawnSurface:
    """What the anchors drew: depth (H, W) float32, metres along z, 0 = none, seen from T_world_camera."""

    depth: np.ndarray
    intrinsics: Intrinsics
    T_world_camera: Pose


class Noise(Protocol):
    """Where a sampler's noise comes from."""

    def draw(self, count: int, channels: int, height: int, width: int, surface: DrawnSurface) -> Tensor:
        """(count, channels, height, width) float32 on the CPU: independent, zero mean, unit variance."""
        ...


@dataclass(frozen=True)
class SeededNoise:
    """The same noise for the same seed and shape, whatever is seen."""

    seed: int

    def draw(self, count: int, channels: int, height: int, width: int, surface: DrawnSurface | None = None) -> Tensor:
        generator = torch.Generator("cpu").manual_seed(self.seed)
        return torch.randn((count, channels, height, width), generator=generator)


class FreshNoise:
    """Other noise in every frame, the released recipe: it flickers, and no frame can be had again. For comparison."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def draw(self, count: int, channels: int, height: int, width: int, surface: DrawnSurface | None = None) -> Tensor:
        return torch.randn((count, channels, height, width), generator=self._generator)


@dataclass(frozen=True)
class WorldNoise:
    """The same surface point brings the same noise to every view of it.

    The world is cut into cubic cells about as wide as two sample spacings at their distance, a power of two metres,
    and each cell has Gaussian numbers hashed from its place. A latent pixel takes the sum of the cells seen inside
    it, each weighted by how many samples see it, over the root of the squared weights; a cell that two pixels see
    goes to that which sees more of it. So pixels share nothing (white) and each has unit variance, while a small
    camera motion leaves most cells in their pixel. Latent pixels without a surface get SeededNoise. Cells change
    size, and so their noise, where a distance crosses a power of two.
    """

    seed: int

    def draw(self, count: int, channels: int, height: int, width: int, surface: DrawnSurface) -> Tensor:
        noise = SeededNoise(self.seed).draw(count, channels, height, width).numpy()
        cells, pixels = surface_cells(surface, height, width, self.seed)
        cells, pixels, weights = owned_cells(cells, pixels)
        norm = np.sqrt(np.bincount(pixels, weights**2, height * width)).reshape(height, width)
        seen = norm > 0
        for plane, values in enumerate(noise.reshape(-1, height, width)):
            total = np.bincount(pixels, weights * hashed_gaussians(cells, plane), height * width).reshape(height, width)
            values[seen] = total[seen] / norm[seen]
        return torch.from_numpy(noise)


def surface_cells(surface: DrawnSurface, height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashed cell (N,) uint64 and the latent pixel (N,) int64 of every surface sample of a latent grid."""
    intrinsics = surface.intrinsics
    rows = np.arange(height * SAMPLES) * intrinsics.height // (height * SAMPLES)
    columns = np.arange(width * SAMPLES) * intrinsics.width // (width * SAMPLES)
    points = intrinsics.unproject(surface.depth)[np.ix_(rows, columns)].reshape(-1, 3)
    drawn = points[:, 2] > 0
    points = points[drawn]
    spacing = points[:, 2] / (intrinsics.fx * width * SAMPLES / intrinsics.width)
    level = np.rint(np.log2(CELL * spacing))
    index = np.floor(surface.T_world_camera.apply(points) / np.exp2(level)[:, None] + GRID_OFFSET).astype(np.int64)
    cells = np.full(len(points), seed, np.int64).view(np.uint64)
    for coordinate in (level.astype(np.int64), *index.T):
        cells = mix_bits(cells ^ coordinate.view(np.uint64))
    pixels = np.arange(height * width).reshape(height, width).repeat(SAMPLES, axis=0).repeat(SAMPLES, axis=1)
    return cells, pixels.reshape(-1)[drawn]


def owned_cells(cells: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each cell once, with the pixel that has most samples of it, and how many (float64)."""
    order = np.lexsort((pixels, cells))
    cells, pixels = cells[order], pixels[order]
    starts = np.flatnonzero(np.r_[True, (cells[1:] != cells[:-1]) | (pixels[1:] != pixels[:-1])][:len(cells)])
    counts = np.diff(np.r_[starts, len(cells)])
    cells, pixels = cells[starts], pixels[starts]
    order = np.lexsort((pixels, -counts, cells))  # a tie goes to the first pixel
    cells, pixels, counts = cells[order], pixels[order], counts[order]
    first = np.r_[True, cells[1:] != cells[:-1]][:len(cells)]
    return cells[first], pixels[first], counts[first].astype(np.float64)


def hashed_gaussians(cells: np.ndarray, plane: int) -> np.ndarray:
    """(N,) float64 normal deviates, a function of the cell and the number of the noise plane alone."""
    bits = mix_bits(cells ^ mix_bits(np.array([plane], np.uint64)))
    return ndtri(((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)


def mix_bits(x: np.ndarray) -> np.ndarray:
    """(N,) uint64 -> uint64: a bijection whose output looks random (splitmix64, Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
