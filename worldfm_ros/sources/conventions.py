"""What the numbers of a source mean, where people's files differ: the depth's unit, and how poses are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
import math
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import T_BODY_OPTICAL, Intrinsics, Pose
from worldfm_ros.sources.borders import Borders
from worldfm_ros.sources.frames import PosedFrames

PoseConvention = Literal["camera-to-world", "world-to-camera", "opengl", "opengl-world-to-camera", "body"]
FLIP = Pose(Rotation.from_matrix(np.diag([1.0, -1.0, -1.0])), np.zeros(3))  # OpenGL's camera axes <-> optical axes
METRES_A_UNIT_BELOW = 0.1  # a scale below it is metres a unit, from it on units a metre

# written pose -> T_world_camera with optical axes, and back
READ: dict[str, Callable[[Pose], Pose]] = {
    "camera-to-world": lambda pose: pose,
    "world-to-camera": Pose.inverse,
    "opengl": lambda pose: pose @ FLIP,
    "opengl-world-to-camera": lambda pose: pose.inverse() @ FLIP,
    "body": lambda pose: pose @ T_BODY_OPTICAL,
}
WRITE: dict[str, Callable[[Pose], Pose]] = {
    "camera-to-world": lambda pose: pose,
    "world-to-camera": Pose.inverse,
    "opengl": lambda pose: pose @ FLIP,
    "opengl-world-to-camera": lambda pose: (pose @ FLIP).inverse(),
    "body": lambda pose: pose @ T_BODY_OPTICAL.inverse(),
}


@dataclass(frozen=True)
class Conventions:
    """What a source's files mean, where they do not say it themselves or say it wrongly.

    depth_scale: units of the stored depth a metre: 1000 (millimetres), 5000 (TUM), 6553.5 (Replica), 256 (KITTI); below
    0.1, metres a unit (0.001).
    poses: how they are written: T_world_camera or its inverse; optical axes (x right, y down), OpenGL's (y up, looking
    along -z) or, body, those of a robot's frames (x forward, z up: camera_link).
    """

    depth_scale: float | None = None
    poses: PoseConvention | None = None

    def __post_init__(self) -> None:
        if self.depth_scale is not None:
            units_a_metre(self.depth_scale)


def units_a_metre(scale: float, name: str = "depth_scale") -> float:
    """Of a scale as people write it: 1000, or 0.001 for the same. Raises ValueError."""
    number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
    if not number or not 1e-6 <= scale <= 1e6:
        raise ValueError(f"{name} is the depth's units a metre, such as 1000 (or metres a unit, 0.001), got {scale!r}")
    return 1.0 / scale if scale < METRES_A_UNIT_BELOW else float(scale)


def reread(pose: Pose, written: str, asked: str) -> Pose:
    """T_world_camera that was read as if written in one convention, read in another one."""
    return READ[asked](WRITE[written](pose))


class Reread(PosedFrames):
    """The frames of a source with other conventions than its own."""

    def __init__(self, frames: PosedFrames, conventions: Conventions) -> None:
        self.frames, self.conventions = frames, conventions
        self.path, self.skipped, self.has_depth = frames.path, frames.skipped, frames.has_depth
        self.metric, self.ignored, self.sequences = frames.metric, frames.ignored, frames.sequences
        self.notes, self.sparse = frames.notes, frames.sparse
        self.written = conventions.poses or frames.written
        self.units = frames.units if conventions.depth_scale is None else units_a_metre(conventions.depth_scale)

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, position: int) -> RgbdFrame:
        frame = self.frames.read(position)
        factor = self.frames.units / self.units
        depth = frame.depth if math.isclose(factor, 1.0) else frame.depth * np.float32(factor)
        return replace(frame, depth=depth, T_world_camera=self._reread(frame.T_world_camera))

    def _reread(self, pose: Pose) -> Pose:
        return reread(pose, self.frames.written, self.written)

    @cached_property
    def poses(self) -> list[Pose]:
        return [self._reread(pose) for pose in self.frames.poses]

    @property
    def borders(self) -> Borders:
        return self.frames.borders

    @property
    def name(self) -> str:
        return self.frames.name

    @property
    def camera(self) -> Intrinsics:
        return self.frames.camera

    def files(self) -> list[Path]:
        return self.frames.files()


def with_conventions(frames: PosedFrames, conventions: Conventions) -> PosedFrames:
    """The frames, read as the conventions say."""
    return frames if conventions == Conventions() else Reread(frames, conventions)
