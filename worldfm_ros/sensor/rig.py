"""Rigs: where cameras sit on a robot, and what makes two of them a stereo pair. Body axes: x forward, y left, z up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import math

from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.stereo import rectified_pair

MAX_CAMERAS = 32


@dataclass(frozen=True, eq=False)
class Mounted:
    """A camera, and where its body axes are on the robot."""

    camera: Camera
    T_base_link: Pose

    @property
    def T_base_optical(self) -> Pose:
        return self.T_base_link @ T_BODY_OPTICAL


def surround(count: int, radius: float, height: float = 0.0, pitch: float = 0.0) -> list[Pose]:
    """T_base_link of cameras on a circle that look outwards, the first one ahead, the others on its left and around.

    Metres and radians; a positive pitch looks down. Raises ValueError.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= MAX_CAMERAS:
        raise ValueError(f"a surround rig has 2 to {MAX_CAMERAS} cameras, got {count!r}")
    yaws = [2 * math.pi * number / count for number in range(count)]
    return [Pose(Rotation.from_euler("xyz", [0.0, pitch, yaw]),
                 [radius * math.cos(yaw), radius * math.sin(yaw), height]) for yaw in yaws]


def with_stereo(rig: Mapping[str, Mounted], pairs: Iterable[tuple[str, str]]) -> dict[str, Camera]:
    """The cameras of a rig, those of its (left, right) pairs with the R and P that make their rows one.

    Raises ValueError for a pair that cannot be one, naming it.
    """
    cameras = {name: mounted.camera for name, mounted in rig.items()}
    used: set[str] = set()
    for pair in pairs:
        for name in pair:
            if name not in rig:
                raise ValueError(f"stereo: there is no camera {name!r}; the cameras: {', '.join(rig)}")
            if name in used or pair[0] == pair[1]:
                raise ValueError(f"stereo: {name!r} is in more than one place; a camera is left or right of one pair")
        used |= set(pair)
        left, right = (rig[name] for name in pair)
        try:
            T_left_right = left.T_base_optical.inverse() @ right.T_base_optical
            cameras |= zip(pair, rectified_pair(left.camera, right.camera, T_left_right), strict=True)
        except ValueError as error:
            raise ValueError(f"stereo pair {', '.join(pair)}: {error}") from None
    return cameras
