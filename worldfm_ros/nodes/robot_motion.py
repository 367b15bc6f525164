"""What the demo robot does: it drives itself through a world, or replays a trajectory; and what it is told of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.drive.free_space import HEADROOM, FreeSpace, median_height
from worldfm_ros.drive.robot import DifferentialDrive, Pilot, tour
from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.nodes.parameters import describe
from worldfm_ros.sources.rgbd_folder import read_poses
from worldfm_ros.world.storage import read_world


@dataclass(frozen=True)
class RobotParameters:
    world: str = describe("", "world folder to drive in; not needed with a trajectory")
    trajectory: str = describe("", "poses file that the camera follows exactly; empty = the robot drives itself")
    rate: float = describe(10.0, "poses of the trajectory per second; in lockstep, about as many steps per second",
                           0.01, 1000.0)
    tf_rate: float = describe(50.0, "TF and odometry messages per second when the robot drives", 5.0, 1000.0)
    duration: float = describe(0.0, "seconds of motion, then the node ends; 0 = until stopped", 0.0)
    seed: int = describe(0, "seed of the tour through the keyframes' places", 0)
    map_frame: str = describe("map", "TF frame of the world's coordinates, in which the robot moves")
    frame_prefix: str = describe("", "before odom, base_link and camera_link, such as r1/: robots that share one /tf")
    camera_height: float = describe(0.0, "camera above the floor, metres; 0 = as keyframes or trajectory", 0.0, 10.0)
    camera_frame: str = describe("camera_optical_frame", "TF frame of the camera, optical axes")
    wait_for: list[str] = describe([], "nodes to wait for: hold still until they listen to /tf, at most 300 s; in "
                                       "lockstep, until they have answered, at each step, for as long as it takes")
    lockstep: bool = describe(False, "publish /clock, and go on only when every camera has published its frame")
    real_time_factor: float = describe(1.0, "in lockstep, simulated seconds that a real one may hold; 0 = any number",
                                       0.0, 1000.0)


class Motion(Protocol):
    """Where base_link is, tick by tick."""

    @property
    def pose(self) -> Pose:
        """T_map_base now."""

    def advance(self, command: tuple[float, float] | None, dt: float) -> None:
        """Move on by one tick of dt seconds; command: v (m/s) and w (rad/s) that somebody else asks for."""


class SelfDriving:
    """The tour through the keyframes' places; a command takes the wheel."""

    def __init__(self, drive: DifferentialDrive, pilot: Pilot) -> None:
        self._drive, self._pilot = drive, pilot

    @property
    def pose(self) -> Pose:
        return self._drive.pose

    def advance(self, command: tuple[float, float] | None, dt: float) -> None:
        self._drive.step(*(command or self._pilot.command()), dt)


class Playback:
    """One pose of base_link a tick; the last one holds."""

    def __init__(self, poses: list[Pose]) -> None:
        self._poses, self._index = poses, 0

    @property
    def pose(self) -> Pose:
        return self._poses[self._index]

    def advance(self, command: tuple[float, float] | None, dt: float) -> None:
        self._index = min(self._index + 1, len(self._poses) - 1)


def self_driving(parameters: RobotParameters) -> tuple[Motion, Pose]:
    """The motion and T_base_camera_link. Raises ValueError for a world that cannot be driven in."""
    if not parameters.world:
        raise ValueError("the parameters world and trajectory are empty; give a world folder to drive in, "
                         "as `worldfm world build` makes it, or a trajectory file to follow")
    world = read_world(parameters.world)
    height = parameters.camera_height
    try:
        space = FreeSpace.from_world(world.anchors, world.keyframes, robot_height=height + HEADROOM if height else None)
    except ValueError as error:
        raise ValueError(f"{error}: give a trajectory file instead") from None
    drive = DifferentialDrive.at_keyframe(space, world.keyframes[0])
    places = [keyframe.T_world_camera.translation[:2] for keyframe in world.keyframes]
    pilot = Pilot(drive, tour(space, places, parameters.seed))
    return SelfDriving(drive, pilot), camera_mount(height or median_height(world.keyframes) - space.floor)


def playback(parameters: RobotParameters) -> tuple[Motion, Pose]:
    """The motion and T_base_camera_link. Raises ValueError for a bad trajectory file."""
    cameras = list(read_poses(parameters.trajectory).values())  # T_map_camera_optical
    mount = camera_mount(parameters.camera_height or float(np.median([pose.translation[2] for pose in cameras])))
    T_optical_base = (mount @ T_BODY_OPTICAL).inverse()
    return Playback([pose @ T_optical_base for pose in cameras]), mount


def camera_mount(height: float) -> Pose:
    """T_base_camera_link: above the robot's centre, looking forward."""
    return Pose(Rotation.identity(), np.array([0.0, 0.0, height]))
