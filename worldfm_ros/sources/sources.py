"""Sources of clips: posed RGB-D frames of any kind, cut into clips of 16 that have a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from worldfm_ros.clips import LENGTH, Clip
from worldfm_ros.sources.bag import Topics
from worldfm_ros.sources.colmap import ColmapFrames
from worldfm_ros.sources.conventions import Conventions, with_conventions
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.open import open_frames


class ClipSource(Protocol):
    """Clips by number, read or made when asked for; the same number gives the same clip."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Clip: ...


class KnownClips(ClipSource, Protocol):
    """Clips that a run recognises when it goes on: with other clips they have another fingerprint."""

    fingerprint: str


class FrameClips(Sequence[Clip]):
    """The clips of a sequence of frames: 16 frames that are `stride` apart, from every start below the stride, so that
    each frame belongs to one clip but for a rest at the end.

    `skipped` counts the frames that belong to none, by reason, those included that the sequence had to leave out.
    Raises ValueError for a sequence without depth or without a single clip.
    """

    def __init__(self, frames: PosedFrames, stride: int = 1) -> None:
        if stride < 1:
            raise ValueError(f"{frames.path}: the stride between a clip's frames is 1 or more, got {stride}")
        frames.require_depth()
        self.frames, self.stride = frames, stride
        bounds = zip(frames.sequences, (*frames.sequences[1:], len(frames)), strict=True)
        self._starts = [start for first, end in bounds for phase in range(stride)
                        for start in range(first + phase, end - (LENGTH - 1) * stride, LENGTH * stride)]
        if not self._starts:
            raise ValueError(f"{frames.path}: a clip is {LENGTH} frames that are {stride} apart, and needs "
                             f"{(LENGTH - 1) * stride + 1} frames; there are {len(frames)}"
                             + "".join(f", {count} left out: {reason}" for reason, count in frames.skipped.items()))
        rest = len(frames) - LENGTH * len(self._starts)
        self.skipped = frames.skipped + Counter({"fewer than a clip at the end of a sequence": rest})

    @property
    def fingerprint(self) -> str:
        return self.frames.fingerprint

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Clip:
        start = self._starts[number]
        return Clip(f"{self.frames.name}-{range(len(self))[number]:04d}",
                    tuple(self.frames[start + k * self.stride] for k in range(LENGTH)))


class Joined(Sequence[Clip]):
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[ClipSource]) -> None:
        self.sources = list(sources)
        self._where = [(source, k) for source in self.sources for k in range(len(source))]

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, number: int) -> Clip:
        source, k = self._where[number]
        return source[k]


def open_source(path: str | Path, stride: int = 1, topics: Topics | None = None,
               conventions: Conventions = Conventions()) -> FrameClips:
    """The clips of whatever is at a path. Raises ValueError as open_frames and FrameClips do."""
    return FrameClips(with_conventions(open_frames(path, topics), conventions), stride)


def colmap_clips(model: str | Path, images: str | Path, depth: str | Path, stride: int = 1) -> FrameClips:
    """The clips of a COLMAP model whose pictures and depth maps lie elsewhere than in a project. Raises likewise."""
    return FrameClips(ColmapFrames(model, images, depth), stride)
