"""Pictures with the depth that is to be found and the part of it that is known: nothing, points, or all but regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from training.data.loader import PairSettings, Sample, Shares
from training.data.sensors import Camera, Sensors
from worldfm_ros.clips import LENGTH, Clip
from worldfm_ros.depth.smooth import smoothest
from worldfm_ros.frame_model.imaging import crop_to_aspect, resize
from worldfm_ros.geometry import Intrinsics

Range = tuple[float, float]
SOLVED = 48 * 36  # pixels at which the smooth completion is solved for: a fifth of what it takes at full size


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """What is not known, and what cameras do to the rest.

    nothing, points, lines: probabilities that no depth is known, that of points alone or of some rows; else of regions.
    share: the part of the pixels that points have, log-uniform. rows: the number of rows, as of a LiDAR.
    regions: up to so many ellipses, and one half of the picture, are not known. zoom: the part of the picture's width
    that is shown. colour: up to so many stops lighter, darker, redder, ...; noise: relative, of each depth.
    """

    nothing: float = 0.35
    points: float = 0.2
    lines: float = 0.1
    share: Range = (0.002, 0.15)
    rows: tuple[int, int] = (4, 32)
    regions: int = 3
    zoom: Range = (0.6, 1.0)
    colour: float = 0.6
    noise: float = 0.01
    sensors: Sensors = Sensors(registered=0.9)


@dataclass(frozen=True, eq=False)
class DepthSample:
    """rgb (H, W, 3) uint8; truth, known (H, W) float32 metres along z, 0 = none; smooth, the completion of known."""

    rgb: np.ndarray
    truth: np.ndarray
    known: np.ndarray
    smooth: np.ndarray
    intrinsics: Intrinsics
    seed: int


@dataclass(frozen=True, eq=False)
class DepthBatch:
    """picture (B, 3, H, W) in [-1, 1]; truth, known, smooth (B, 1, H, W) metres, 0 = none; rays (B, 2, H, W)."""

    picture: Tensor
    truth: Tensor
    known: Tensor
    smooth: Tensor
    rays: Tensor
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    @classmethod
    def collate(cls, samples: list[DepthSample]) -> DepthBatch:
        rgb, truth, known, smooth = (torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))
                                     for name in ("rgb", "truth", "known", "smooth"))
        rays = np.stack([sample.intrinsics.unproject(np.ones(sample.truth.shape))[..., :2] for sample in samples])
        return cls(rgb.permute(0, 3, 1, 2).float() / 127.5 - 1.0, truth[:, None], known[:, None], smooth[:, None],
                   torch.from_numpy(rays).permute(0, 3, 1, 2).float(), tuple(sample.seed for sample in samples))

    def to(self, device: torch.device | str) -> DepthBatch:
        return DepthBatch(*(x.to(device, non_blocking=True) for x in self._tensors), self.seeds)

    def first(self, count: int) -> DepthBatch:
        """The first samples alone."""
        return DepthBatch(*(x[:count] for x in self._tensors), self.seeds[:count])

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.picture, self.truth, self.known, self.smooth, self.rays


@dataclass(frozen=True, kw_only=True)
class DepthSettings(PairSettings):
    """Batches of pictures with depth in place of pairs."""

    unknown: Unknown = Unknown()
    positions: ClassVar[tuple[int, ...]] = tuple(range(LENGTH))

    def collate(self, shares: Shares, samples: list[Sample], size: tuple[int, int],
                memories: dict[int, int]) -> DepthBatch:
        return DepthBatch.collate([depth_sample(shares.clip(sample.clip), sample.target, size, self.unknown,
                                                sample.seed) for sample in samples])


def depth_sample(clip: Clip, target: int, size: tuple[int, int], unknown: Unknown, seed: int) -> DepthSample:
    """A part of a clip's frame at size (height, width). The same arguments give the same bytes."""
    rng = np.random.default_rng(seed)
    frame = clip.frames[target]
    rgb, depth, intrinsics = zoomed(frame.rgb, frame.depth, frame.intrinsics, size, rng.uniform(*unknown.zoom), rng)
    if rng.random() < 0.5:
        rgb, depth = rgb[:, ::-1], depth[:, ::-1]
        intrinsics = replace(intrinsics, cx=intrinsics.width - 1 - intrinsics.cx)
    truth = np.ascontiguousarray(depth)
    camera = Camera.draw(unknown.sensors, rng)
    rgb = camera.picture(coloured(np.ascontiguousarray(rgb), unknown.colour, rng), 1.0, rng)
    known = known_part(truth, camera, unknown, rng)
    return DepthSample(rgb, truth, known, smoothest(known, rgb, SOLVED), intrinsics, seed)


def zoomed(rgb: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics, size: tuple[int, int], share: float,
           rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Intrinsics]:
    """A random part of a picture and its depth, so much of its width, with the size's aspect, at that size."""
    height, width = size
    rgb, cropped = crop_to_aspect(rgb, intrinsics, width, height)
    depth, _ = crop_to_aspect(depth, intrinsics, width, height)
    rows, columns = round(share * cropped.height), round(share * cropped.width)
    top, left = (int(rng.integers(0, whole - part + 1)) for whole, part in
                 ((cropped.height, rows), (cropped.width, columns)))
    part = cropped.cropped(left, top, columns, rows)
    inside = np.s_[top:top + rows, left:left + columns]
    depth = cv2.resize(depth[inside], (width, height), interpolation=cv2.INTER_NEAREST)
    return resize(rgb[inside], width, height), depth, part.resized(width, height)


def coloured(rgb: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    """With other exposure, contrast and colours of the light."""
    gamma = 2.0 ** rng.uniform(-stops, stops)
    gains = 2.0 ** (rng.uniform(-stops, stops) + rng.uniform(-stops / 2, stops / 2, 3))
    curve = np.clip((np.arange(256)[:, None] / 255.0) ** gamma * gains, 0, 1)
    return cv2.LUT(rgb, np.rint(255 * curve).astype(np.uint8)[:, None])


def known_part(truth: np.ndarray, camera: Camera, unknown: Unknown, rng: np.random.Generator) -> np.ndarray:
    """The known depth (H, W) metres, 0 elsewhere."""
    height, width = truth.shape
    kind = rng.random()
    if kind < unknown.nothing:
        return np.zeros_like(truth)
    noise = np.exp(unknown.noise * rng.random() * rng.standard_normal(truth.shape)).astype(np.float32)
    if kind < unknown.nothing + unknown.points:
        return truth * noise * (rng.random(truth.shape) < np.exp(rng.uniform(*np.log(unknown.share))))
    if kind < unknown.nothing + unknown.points + unknown.lines:
        rows = np.zeros(height, bool)
        rows[np.linspace(0, height - 1, rng.integers(*unknown.rows), dtype=int)] = True
        return truth * noise * rows[:, None]
    kept = np.ones((height, width), np.uint8)
    for _ in range(rng.integers(0, unknown.regions + 1)):
        center, axes = rng.random(2) * (width, height), rng.random(2) * (0.3 * width, 0.3 * height)
        cv2.ellipse(kept, (tuple(center), tuple(axes), rng.uniform(0, 180)), 0, cv2.FILLED)
    if rng.random() < 0.6:
        angle, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.8)
        row, column = np.mgrid[:height, :width]
        along = column * np.cos(angle) + row * np.sin(angle)
        kept[along < np.quantile(along, share)] = 0
    return np.ascontiguousarray(camera.measured(truth, rng) * noise * kept)
