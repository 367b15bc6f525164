"""Posed RGB-D frames, and clips of them: what pairs for training and evaluation are built from (paper 2.4.1).

A clip is 16 consecutive frames. Four of them are its reference group: their depth makes the clip's point cloud. The
other twelve are targets, and each target's reference picture is the temporally closest frame of the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose

LENGTH = 16
REFERENCE_GROUP = (0, 5, 9, 13)  # positions in a clip
TARGETS = tuple(k for k in range(LENGTH) if k not in REFERENCE_GROUP)


@dataclass(frozen=True, eq=False)
class RgbdFrame:
    """A posed view: rgb (H, W, 3) uint8; depth (H, W) float32, metres along z, 0 = none; labels (H, W) uint16.

    scene (H, W) bool: the pixels that show the scene; None = all of them.
    """

    index: int
    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: Intrinsics
    T_world_camera: Pose
    labels: np.ndarray | None = None
    scene: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Cloud:
    """World points (N, 3) in metres and their RGB (N, 3) uint8."""

    points: np.ndarray
    colors: np.ndarray

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Clip:
    """16 posed RGB-D frames of one scene, in order of time. Raises ValueError for another number of frames."""

    name: str
    frames: tuple[RgbdFrame, ...]

    def __post_init__(self) -> None:
        if len(self.frames) != LENGTH:
            raise ValueError(f"clip {self.name}: a clip has {LENGTH} frames, got {len(self.frames)}")

    def closest(self, target: int) -> int:
        """The position in the reference group that is temporally closest to a target; of two, the earlier."""
        return self.by_closeness(target)[0]

    def by_closeness(self, target: int) -> list[int]:
        """The positions of the reference group, the one that is temporally closest to a target first."""
        return sorted(REFERENCE_GROUP, key=lambda k: abs(k - target))

    def anchors(self) -> Cloud:
        """What becomes the clip's anchors: every pixel of the reference group that has depth."""
        return unprojected([self.frames[k] for k in REFERENCE_GROUP])


def unprojected(frames: Sequence[RgbdFrame]) -> Cloud:
    """All pixels with depth, frame after frame."""
    points, colors = [np.empty((0, 3))], [np.empty((0, 3), np.uint8)]
    for frame in frames:
        measured = frame.depth > 0
        points.append(frame.T_world_camera.apply(frame.intrinsics.unproject(frame.depth)[measured]))
        colors.append(frame.rgb[measured])
    return Cloud(np.concatenate(points), np.concatenate(colors))


def cut(frames: Sequence[RgbdFrame], name: str) -> Iterator[Clip]:
    """The consecutive clips of a sequence; a rest of fewer than 16 frames belongs to none."""
    for number, start in enumerate(range(0, len(frames) - LENGTH + 1, LENGTH)):
        yield Clip(f"{name}-{number:03d}", tuple(frames[start + k] for k in range(LENGTH)))
