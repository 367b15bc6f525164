"""What a stage is trained on: a batch of pairs, and random numbers that belong to its samples.

Every random number of training is drawn from (a sample's seed, what it is for). A sample therefore gets the same noise
in whatever batch, process or worker it comes, which is what makes resumed and distributed runs repeatable.
"""

from __future__ import annotations

from dataclasses import dataclass
import zlib

import numpy as np
import torch
from torch import Tensor

from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.composer import Candidates
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.composed import Memory

MULTIPLIER = 0x7F4A7C15  # multiplicative hashing, Knuth 6.4


@dataclass(frozen=True, eq=False)
class Pair:
    """One target view and what is known of it; pictures are (H, W, 3) uint8 of one size.

    guide (H, W, 8) uint8 is worldfm_ros.painting.guide's; coverage (H, W) bool: the pixels that the drawing covers.
    seed: of every random number that training draws for this sample. memory: with several references, for a composer.
    """

    target: np.ndarray
    drawing: np.ndarray
    coverage: np.ndarray
    reference: np.ndarray
    guide: np.ndarray
    T_world_target: Pose
    T_world_reference: Pose
    target_intrinsics: Intrinsics
    reference_intrinsics: Intrinsics
    seed: int
    memory: Memory | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures (B, 3, H, W) in [-1, 1]; guide (B, 8, H, W) in [-1, 1]; coverage (B, 1, H, W) bool.

    cameras: of the views [target, drawing, reference], relative to the reference. seeds: one a sample.
    candidates: of a composer, when the pairs have several references.
    """

    target: Tensor
    drawing: Tensor
    coverage: Tensor
    reference: Tensor
    guide: Tensor
    cameras: Cameras
    seeds: tuple[int, ...]
    candidates: Candidates | None = None

    def __len__(self) -> int:
        return len(self.seeds)

    @classmethod
    def collate(cls, pairs: list[Pair]) -> Batch:
        views = [cameras_of(pair) for pair in pairs]
        return cls(
            *(_unit(np.stack([getattr(pair, name) for pair in pairs])) for name in ("target", "drawing")),
            torch.from_numpy(np.stack([pair.coverage for pair in pairs]))[:, None],
            *(_unit(np.stack([getattr(pair, name) for pair in pairs])) for name in ("reference", "guide")),
            Cameras(torch.cat([v.w2c for v in views]), torch.cat([v.K for v in views]), views[0].image_hw),
            tuple(pair.seed for pair in pairs),
            None if pairs[0].memory is None else candidates_of([pair.memory for pair in pairs]),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its pictures on a device; cameras stay on the host, where their matrices are composed."""
        moved = (x.to(device, non_blocking=True) for x in
                 (self.target, self.drawing, self.coverage, self.reference, self.guide))
        candidates = self.candidates and self.candidates.map(lambda x: x.to(device, non_blocking=True))
        return Batch(*moved, self.cameras, self.seeds, candidates)

    def first(self, count: int) -> Batch:
        """The first samples alone; they keep their random numbers."""
        cut = (x[:count] for x in (self.target, self.drawing, self.coverage, self.reference, self.guide))
        cameras = Cameras(self.cameras.w2c[:count], self.cameras.K[:count], self.cameras.image_hw)
        return Batch(*cut, cameras, self.seeds[:count],
                     self.candidates and self.candidates.map(lambda x: x[:count]))

    def cameras_without_drawing(self) -> Cameras:
        """The cameras of [target, reference] alone, for a network that is given no drawing."""
        return Cameras(self.cameras.w2c[:, [0, 2]], self.cameras.K[:, [0, 2]], self.cameras.image_hw)

    def randn(self, purpose: str, *shape: int) -> Tensor:
        """Unit Gaussian (B, *shape) float32 on the batch's device; another one for each purpose."""
        draws = [torch.randn(shape, generator=self._generator(seed, purpose)) for seed in self.seeds]
        return torch.stack(draws).to(self.target.device)

    def rand(self, purpose: str) -> Tensor:
        """Uniform in [0, 1), (B,) float32 on the batch's device."""
        draws = [torch.rand((), generator=self._generator(seed, purpose)) for seed in self.seeds]
        return torch.stack(draws).to(self.target.device)

    @staticmethod
    def _generator(seed: int, purpose: str) -> torch.Generator:
        mixed = seed * MULTIPLIER + zlib.crc32(purpose.encode())
        return torch.Generator().manual_seed(mixed & 0xFFFFFFFF)  # torch's generator looks at no more bits


def cameras_of(pair: Pair) -> Cameras:
    """A batch of one: [target, drawing, reference], relative to the reference."""
    poses = [pair.T_world_target, pair.T_world_target, pair.T_world_reference]
    intrinsics = [pair.target_intrinsics, pair.target_intrinsics, pair.reference_intrinsics]
    return Cameras.from_poses(poses, intrinsics).recentred()


def candidates_of(memories: list[Memory]) -> Candidates:
    """A batch of memories of one size and number of references."""
    pictures, surface, facts = (np.stack([getattr(memory, name) for memory in memories])
                                for name in ("pictures", "surface", "facts"))
    return Candidates.of(*(torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, -3)))
                           for x in (pictures, surface, facts)))


def _unit(pictures: np.ndarray) -> Tensor:  # (B, H, W, C) uint8 -> (B, C, H, W) float32
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0
