"""What every reader of posed RGB-D frames gives: worlds, evaluation and training know nothing else of a source."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
import hashlib
from pathlib import Path

import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.borders import Borders, find_borders

LOOKED_AT = 12  # pictures, for borders


class PosedFrames(Sequence[RgbdFrame]):
    """Posed RGB-D frames in order, each read when it is asked for, as rectified pinhole views in one world frame. A
    border that is black in all pictures is no part of the scene.

    path: where they are. skipped: how many the source holds that could not be used, by reason. has_depth: whether
    depth was measured; frames without have 0 everywhere. metric: whether lengths are metres; else their scale is
    arbitrary. sparse: whether depth is of points with gaps between them, as a LiDAR's. units: of the stored depth a
    metre; written: how the stored poses are written (conventions.py): what they were read as. ignored: records that say
    nothing of a frame and could not be used, by reason. sequences: positions at which frames begin that do not go on
    from those before (the clock went back). notes: what a user has to know of the files besides.
    """

    path: Path
    skipped: Counter[str]
    has_depth: bool = True
    metric: bool = True
    sparse: bool = False
    units: float = 1000.0
    written: str = "camera-to-world"
    ignored: Counter[str] = Counter()
    sequences: tuple[int, ...] = (0,)
    notes: tuple[str, ...] = ()

    def __getitem__(self, position: int) -> RgbdFrame:
        return self.borders.hidden(self.read(position))

    @abstractmethod
    def read(self, position: int) -> RgbdFrame:
        """The frame as its files have it."""

    @cached_property
    def borders(self) -> Borders:
        """By pictures from all over the source; those that cannot be read say so when they are asked for."""
        places = np.linspace(0, len(self) - 1, min(len(self), LOOKED_AT))
        return find_borders(self._readable(np.unique(places.astype(int)).tolist()))

    def _readable(self, positions: Sequence[int]) -> Iterator[RgbdFrame]:
        for position in positions:
            try:
                yield self.read(position)
            except (ValueError, OSError):
                continue

    @property
    def name(self) -> str:
        """What worlds and clips that are made of them are called."""
        return self.path.resolve().stem

    @property
    @abstractmethod
    def camera(self) -> Intrinsics:
        """The first frame's camera; a source may have several, and each frame tells its own."""

    @property
    @abstractmethod
    def poses(self) -> list[Pose]:
        """T_world_camera of each frame, without reading the pictures."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that frames are made of."""

    @property
    def fingerprint(self) -> str:
        """Tells these files from others and from later ones, by name, size and time: a sha256 (hexadecimal)."""
        digest = hashlib.sha256()
        for path in self.files():
            facts = path.stat() if path.exists() else None
            digest.update(f"{path.name} {facts and (facts.st_size, facts.st_mtime_ns)}\n".encode())
        return digest.hexdigest()

    def require_depth(self) -> None:
        """Raise ValueError for frames whose depth was not measured."""
        if not self.has_depth:
            raise ValueError(f"{self.path} has no depth/ folder; maps and clips are made of depth images (uint16 "
                             "millimetres): estimate depth first, or leave this source out")
