"""Splits by place: views from one square of the floor are all in one split, so that none is tested where it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldfm_ros.geometry import Pose

NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """place: metres, the side of the squares; parts: of train, val and test; seed: another seed, other squares."""

    place: float = 1.0
    parts: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.place < np.inf:
            raise ValueError(f"--place is the side of a square in metres, above 0, got {self.place}")
        if min(self.parts) < 0 or not np.isclose(sum(self.parts), 1):
            raise ValueError(f"--parts are of {', '.join(NAMES)}, from 0 up, and their sum is 1; got {self.parts}")

    def places(self, poses: Sequence[Pose]) -> list[tuple[int, int]]:
        """The square of each view."""
        return [tuple(int(n) for n in np.floor(pose.translation[:2] / self.place)) for pose in poses]

    def of(self, poses: Sequence[Pose]) -> list[str]:
        """The split of each view. Squares are dealt in random order, each to the split that lacks most views."""
        squares = self.places(poses)
        known = sorted(set(squares))
        counts = {square: squares.count(square) for square in known}
        missing = dict(zip(NAMES, (part * len(poses) for part in self.parts), strict=True))
        splits = {}
        for number in np.random.default_rng(self.seed).permutation(len(known)):
            square = known[number]
            split = max(NAMES, key=lambda name: missing[name])
            splits[square] = split
            missing[split] -= counts[square]
        return [splits[square] for square in squares]
