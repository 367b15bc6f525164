"""The cloud of a clip's reference group, thinned and shuffled: sparse and disordered as the anchors of a robot's map.

It is made and drawn once, a few milliseconds a pair, so it is one tile in the order of the pixels and no AnchorMap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np

from training.data.corruption import NOISE_PERIOD, Corruption, repeated
from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.world.anchors import Anchors

KEY_BITS = 21  # of a voxel's coordinate along an axis
SLOT_BITS = 20  # of the hash table that finds one anchor for each voxel
FIBONACCI = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing, Knuth 6.4


@dataclass(frozen=True)
class Density:
    """How much of each frame becomes anchors: every `stride`-th pixel across and down, and of these a fraction."""

    stride: int
    fraction: float

    @classmethod
    def draw(cls, corruption: Corruption, rng: np.random.Generator) -> Density:
        keep = math.exp(rng.uniform(*np.log(corruption.keep)))
        stride = int(1 / math.sqrt(keep) + 1e-9)
        return cls(stride, min(1.0, keep * stride**2))


def thinned(frame: RgbdFrame, stride: int, rng: np.random.Generator) -> RgbdFrame:
    """Every `stride`-th pixel of a frame across and down, from a random first one, with its camera; no copy."""
    top, left = rng.integers(0, stride, 2)
    depth, camera = frame.depth[top::stride, left::stride], frame.intrinsics
    intrinsics = Intrinsics(depth.shape[1], depth.shape[0], camera.fx / stride, camera.fy / stride,
                            (camera.cx - left) / stride, (camera.cy - top) / stride)
    return RgbdFrame(frame.index, frame.rgb[top::stride, left::stride], depth, intrinsics, frame.T_world_camera)


def cloud(frames: Sequence[RgbdFrame], fraction: float, origin: np.ndarray, corruption: Corruption,
          rng: np.random.Generator) -> Anchors:
    """Anchors around `origin` (3,) of this fraction of the frames' pixels with depth."""
    voxel = rng.uniform(*corruption.voxel) * _mean_depth(frames) if rng.random() < corruption.voxels else 0.0
    splat = rng.uniform(*corruption.splat) if rng.random() < corruption.splats else 0.0
    parts = [_unproject(frame, fraction, voxel, splat, origin, corruption, rng) for frame in frames]
    points, colors, radius = (np.concatenate(column) for column in zip(*parts, strict=True))
    if voxel:
        kept = one_a_voxel(points, voxel)
        points, colors = points.take(kept, 0), colors.take(kept, 0)
        radius = np.full(len(points), voxel * rng.uniform(*corruption.voxel_radius), np.float32)
    return Anchors(origin, points, colors, np.zeros(len(points), np.uint16), radius)


def _unproject(frame: RgbdFrame, fraction: float, voxel: float, splat: float, origin: np.ndarray,
               corruption: Corruption, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) float32 relative to the origin, colours (N, 3) and radius (N,) float32 metres of a frame."""
    depth, rgb = frame.depth, np.ascontiguousarray(frame.rgb)
    if fraction < 1:
        depth = depth * (repeated(rng.random(NOISE_PERIOD, np.float32), depth.shape) < fraction)
    pixels = np.flatnonzero(depth > 0)
    z = depth.ravel().take(pixels)
    moved = rng.integers(0, max(1, len(z)), int(len(z) * corruption.shuffled * rng.random()))
    z[moved] *= 1 + np.float32(corruption.shuffle) * rng.standard_normal(len(moved), np.float32)
    if voxel:
        rgb = _mean_over(rgb, voxel, z, frame.intrinsics)
    v, u = (x.astype(np.float32) for x in np.divmod(pixels.astype(np.int32), np.int32(frame.intrinsics.width)))
    rays = (frame.T_world_camera.rotation.as_matrix() @ np.linalg.inv(frame.intrinsics.matrix)).astype(np.float32)
    start = (frame.T_world_camera.translation - origin).astype(np.float32)
    points = np.empty((len(z), 3), np.float32)
    for axis in range(3):
        points[:, axis] = (rays[axis, 0] * u + rays[axis, 1] * v + rays[axis, 2]) * z + start[axis]
    spacing = np.float32(splat / math.sqrt(frame.intrinsics.fx * frame.intrinsics.fy * min(1.0, fraction)))
    return points, rgb.reshape(-1, 3).take(pixels, 0), z * spacing


def _mean_depth(frames: Sequence[RgbdFrame]) -> float:
    """Metres; 1 when there is none."""
    z = np.concatenate([frame.depth[::8, ::8].ravel() for frame in frames])
    return float(z[z > 0].mean()) if z.any() else 1.0


def _mean_over(rgb: np.ndarray, voxel: float, z: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """A voxel shows about the mean of the pixels that fall into it; their number is taken at the mean depth."""
    width = round(voxel * intrinsics.fx / float(z.mean())) if len(z) else 1
    return cv2.blur(rgb, (width, width)) if width > 1 else rgb


def one_a_voxel(points: np.ndarray, voxel: float) -> np.ndarray:
    """Indices of one point (N, 3) for each voxel. Hashed, not sorted: voxels that share a slot keep one of them all."""
    x, y, z = np.floor(points.T * np.float32(1 / voxel)).astype(np.int64)
    slots = ((x << 2 * KEY_BITS) + (y << KEY_BITS) + z).view(np.uint64) * FIBONACCI >> np.uint64(64 - SLOT_BITS)
    winner = np.empty(1 << SLOT_BITS, np.int32)
    numbers = np.arange(len(points), dtype=np.int32)
    winner[slots] = numbers
    return np.flatnonzero(winner[slots] == numbers)
