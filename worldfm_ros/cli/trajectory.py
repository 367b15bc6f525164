"""`worldfm trajectory`: poses files for `worldfm render` and `trajectory:=`, each with a picture from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from worldfm_ros import trajectories
from worldfm_ros.bags.reader import open_bag
from worldfm_ros.cli.rendering import Frames, check_rate
from worldfm_ros.drive.free_space import FreeSpace
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.replay.bag_poses import Wanted, poses_of
from worldfm_ros.replay.cameras import NAMESPACE, ReplayCamera
from worldfm_ros.replay.engine import check_new
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.settings import SensorSettings
from worldfm_ros.sources.rgbd_folder import write_poses
from worldfm_ros.trajectories import Ground, top_view
from worldfm_ros.world.storage import World, read_world

Source = tyro.conf.Positional[Path]


@dataclass(frozen=True)
class Way:
    """What all ways have.

    rate: poses a second.
    height: metres of the camera above the floor; by default as the keyframes' cameras.
    """

    rate: float = 10.0
    height: float | None = None


Common = tyro.conf.OmitArgPrefixes[Way]


def orbit(world: Source, out: Path, center: tuple[float, float] | None = None, radius: float | None = None,
          way: Common = Way()) -> None:
    """A circle that looks at its centre.

    Args:
        world: the world folder.
        out: the poses file to write; a view from above goes beside it, as .png.
        center: x and y, metres; by default the place with most room.
        radius: metres; by default as far as there is room.
    """
    _, ground = _begin(world, out, way)
    _finish(trajectories.orbit(ground, center, radius), ground.space, out)


def spline(world: Source, out: Path, goals: int = 6, seed: int = 0, way: Common = Way()) -> None:
    """A smooth way past random places, looking ahead.

    Args:
        world: the world folder.
        out: the poses file to write; a view from above goes beside it, as .png.
        goals: how many places.
        seed: another seed, other places.
    """
    if goals < 1:
        raise ValueError(f"--goals is how many places to pass, from 1 up, got {goals}")
    _, ground = _begin(world, out, way)
    _finish(trajectories.spline(ground, goals, seed), ground.space, out)


def coverage(world: Source, out: Path, seed: int = 0, way: Common = Way()) -> None:
    """Past every free place, looking around.

    Args:
        world: the world folder.
        out: the poses file to write; a view from above goes beside it, as .png.
        seed: another seed, another start.
    """
    _, ground = _begin(world, out, way)
    _finish(trajectories.coverage(ground, seed), ground.space, out)


def random_walk(world: Source, out: Path, duration: float = 60.0, seed: int = 0, way: Common = Way()) -> None:
    """As the demo robot drives, from random place to random place.

    Args:
        world: the world folder.
        out: the poses file to write; a view from above goes beside it, as .png.
        duration: seconds.
        seed: another seed, another walk.
    """
    read, ground = _begin(world, out, way)
    _finish(trajectories.random_walk(ground, read, duration, seed), ground.space, out)


def from_bag(world: Source, out: Path, *, bag: Path, frames: tyro.conf.OmitArgPrefixes[Frames] = Frames(),
             way: Common = Way()) -> None:
    """Where a camera was in a bag, by its TF.

    Args:
        world: the world folder.
        out: the poses file to write; a view from above goes beside it, as .png.
        bag: a bag with /tf and /tf_static.
    """
    read, ground = _begin(world, out, way)
    eye = Camera(Intrinsics(1, 1, 1.0, 1.0, 0.0, 0.0))
    camera = ReplayCamera(NAMESPACE, frames.camera_frame or "camera_optical_frame", eye, SensorSettings())
    with open_bag(bag) as source:
        asked = poses_of(source, Wanted([camera], frames.map_frame or read.frame_id, way.rate, frames.tf_topic))
    _finish([job.pose for job in asked.jobs], ground.space, out)


def _begin(world: Path, out: Path, way: Way) -> tuple[World, Ground]:
    for file in (out, out.with_suffix(".png")):
        check_new(file)
    check_rate(way.rate)
    read = read_world(world)
    return read, Ground.of(read, way.rate, way.height)


def _finish(poses: Sequence[Pose], space: FreeSpace, out: Path) -> None:
    places = np.array([pose.translation[:2] for pose in poses])
    write_poses(dict(enumerate(poses)), out)
    cv2.imwrite(str(out.with_suffix(".png")), top_view(space, poses)[..., ::-1])
    length = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
    print(f"{out}: {len(poses)} poses, {length:.1f} m, {np.mean(space.is_free(*places.T)):.0%} where the robot may be")
