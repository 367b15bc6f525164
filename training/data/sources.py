"""Where clips come from: sequences of posed RGB-D frames, cut into clips of 16."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
import hashlib
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from worldfm_ros.clips import LENGTH, Clip, RgbdFrame
from worldfm_ros.sources.bag import BagFrames, Topics
from worldfm_ros.sources.colmap import ColmapFrames
from worldfm_ros.sources.rgbd_folder import RgbdFolder
from worldfm_ros.sources.transforms import TransformsFrames

EMPTY = MappingProxyType({})


class ClipSource(Protocol):
    """Clips by number, read or made when asked for; the same number gives the same clip."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Clip: ...


class KnownClips(ClipSource, Protocol):
    """Clips that a run recognises when it goes on: with other clips they have another fingerprint."""

    fingerprint: str


class Frames(Protocol):
    """Posed frames by position, read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> RgbdFrame: ...

    def files(self) -> list[Path]:
        """The files that frames are made of."""
        ...


class FrameClips(Sequence[Clip]):
    """The clips of a sequence of frames: 16 frames that are `stride` apart, from every start below the stride, so that
    each frame belongs to one clip but for a rest at the end.

    `skipped` counts the frames that belong to none, by reason, those included that the sequence had to leave out.
    Raises ValueError for a sequence without a single clip.
    """

    def __init__(self, frames: Frames, name: str, stride: int = 1,
                 skipped: Mapping[str, int] = EMPTY) -> None:
        if stride < 1:
            raise ValueError(f"{name}: the stride between a clip's frames is 1 or more, got {stride}")
        self.frames, self.name, self.stride = frames, name, stride
        self._starts = [start + phase for phase in range(stride)
                        for start in range(0, len(frames) - phase - (LENGTH - 1) * stride, LENGTH * stride)]
        if not self._starts:
            raise ValueError(f"{name}: a clip is {LENGTH} frames that are {stride} apart, and needs "
                             f"{(LENGTH - 1) * stride + 1} frames; there are {len(frames)}"
                             + "".join(f", {count} left out: {reason}" for reason, count in skipped.items()))
        rest = len(frames) - LENGTH * len(self._starts)
        self.skipped = Counter(skipped) + Counter({"fewer than a clip at the end of a sequence": rest})

    @property
    def fingerprint(self) -> str:
        """Tells the files that the clips are made of from others, by name, size and time: a sha256 (hexadecimal)."""
        digest = hashlib.sha256()
        for path in self.frames.files():
            facts = path.stat() if path.exists() else None
            digest.update(f"{path.name} {facts and (facts.st_size, facts.st_mtime_ns)}\n".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Clip:
        start = self._starts[number]
        return Clip(f"{self.name}-{range(len(self))[number]:04d}",
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


def rgbd_clips(folder: str | Path, stride: int = 1) -> FrameClips:
    """The clips of an RGB-D folder. Raises FileNotFoundError or ValueError naming what is wrong."""
    frames = RgbdFolder(folder)
    if not frames.has_depth:
        raise FileNotFoundError(f"{frames.path} has no depth/ folder; clips are made of frames with depth (uint16 "
                                "millimetres): estimate it first, or leave this source out")
    return FrameClips(frames, frames.path.resolve().name, stride)


def transforms_clips(path: str | Path, stride: int = 1) -> FrameClips:
    """The clips of a nerfstudio transforms.json (or its folder) with depth. Raises likewise."""
    frames = TransformsFrames(path)
    return FrameClips(frames, frames.path.resolve().parent.name, stride)


def colmap_clips(path: str | Path, images: str | Path, depth: str | Path | None, stride: int = 1) -> FrameClips:
    """The clips of a COLMAP model folder, its pictures and their depth maps. Raises likewise."""
    return FrameClips(ColmapFrames(path, images, depth), Path(images).resolve().parent.name, stride)


def bag_clips(bag: str | Path, stride: int = 1, topics: Topics | None = None) -> FrameClips:
    """The clips of a bag with colour, registered depth, camera_info and TF. Raises likewise."""
    frames = BagFrames(bag, topics)
    return FrameClips(frames, Path(bag).resolve().stem, stride, frames.skipped)


def open_source(path: str | Path, stride: int = 1, topics: Topics | None = None) -> FrameClips:
    """The clips of whatever is at a path: an RGB-D folder, a transforms.json, a COLMAP project (sparse/, images/ and
    stereo/depth_maps/ or depth/) or a bag, which `topics` are for. Raises ValueError for anything else."""
    path = Path(path)
    if path.suffix == ".json" or (path / "transforms.json").exists():
        return transforms_clips(path, stride)
    if path.suffix in (".mcap", ".db3", ".bag") or (path / "metadata.yaml").exists():
        return bag_clips(path, stride, topics)
    if (path / "sparse").is_dir():
        model = path / "sparse" / "0" if (path / "sparse" / "0").is_dir() else path / "sparse"
        depth = path / "depth" if (path / "depth").is_dir() else path / "stereo" / "depth_maps"
        return colmap_clips(model, path / "images", depth, stride)
    if (path / "poses.txt").exists():
        return rgbd_clips(path, stride)
    raise ValueError(f"{path} is no source of clips: expected an RGB-D folder (poses.txt), a transforms.json, a COLMAP "
                     "project (sparse/) or a bag (metadata.yaml)")
