"""LeRobot's format, version 3, written by LeRobot itself: what drives as the robot drove is taught with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
import json
from pathlib import Path
import shutil

import numpy as np

from worldfm_ros.export.posed import EARLIEST, FRAME_RATE
from worldfm_ros.export.samples import Samples
from worldfm_ros.export.splits import NAMES
from worldfm_ros.files import write_json
from worldfm_ros.geometry import T_BODY_OPTICAL, Pose

STATE = ["x", "y", "z", "qx", "qy", "qz", "qw"]
STAMP = ["sec", "nanosec"]
ACTION = ["vx", "vy", "vz", "wx", "wy", "wz"]
SECOND = 10**9  # ns
UNEVEN = 0.1  # of the time between two pictures; LeRobot's clock has none of that within an episode


@dataclass(frozen=True)
class Moment:
    """The pictures of a drive's cameras at one time (ns), by camera; T_world_body: of the first camera."""

    drive: str
    split: str
    time: int
    pictures: dict[str, str]
    T_world_body: Pose


def lerobot_dataset():
    """LeRobot's class of a data set. Raises ImportError."""
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except (ImportError, RuntimeError) as error:  # the second: a torchvision that was built for another torch
        raise ImportError(f"this format is written by lerobot, which does not import ({error}): pip install "
                          "'lerobot>=0.4' in an environment of its own, in which this package is installed, too"
                          ) from None
    if not hasattr(LeRobotDataset, "finalize"):
        raise ImportError("this lerobot writes data sets of version 2, which today's does not read: pip install "
                          "'lerobot>=0.4' in an environment of its own, in which this package is installed, too")
    import datasets

    datasets.disable_progress_bars()  # one for each episode
    return LeRobotDataset


def export_lerobot(samples: Samples, splits: dict[str, str], out: Path) -> dict[str, int]:
    """Write the data set; its episodes by split. An episode is a stretch of a drive in one split and without a gap.

    observation.images.CAMERA: without loss; observation.state: where the first camera is in the world, its axes x
    forward, y left, z up: metres, quaternion; observation.stamp: the source's; action: the mean velocity until the next
    picture in those axes, m/s and rad/s, as a Twist has it (the last picture of a drive has the one before it).
    Pictures of one time are in the split of the first camera's place, to which `splits` is changed, and a time that not
    every camera has a picture of is left out. Raises ImportError, ValueError.
    """
    kind = lerobot_dataset()
    moments = moments_of(samples, splits)
    period = float(np.median(np.concatenate([np.diff([m.time for m in drive]) for drive in by_drive(moments)])))
    rate = SECOND / period
    out.rmdir()  # LeRobot makes its folder itself
    dataset = kind.create("worldfm", round(rate) if abs(rate - round(rate)) < 1e-3 else rate,
                          features_of(samples, moments[0]), root=out, robot_type="worldfm_ros", use_videos=False)
    task, counts = task_of(samples), dict.fromkeys(NAMES, 0)
    stretches = [stretch for drive in by_drive(moments) for stretch in stretches_of(drive, period)]
    for stretch in sorted(stretches, key=lambda stretch: NAMES.index(stretch[0][0].split)):
        for moment, velocity in stretch:
            pose = moment.T_world_body
            dataset.add_frame({f"observation.images.{camera}": samples.rgb(name)
                               for camera, name in moment.pictures.items()} | {
                "observation.state": np.float32([*pose.translation, *pose.quaternion]),
                "observation.stamp": np.array(divmod(moment.time, SECOND)), "action": np.float32(velocity),
                "task": task})
        dataset.save_episode()
        counts[stretch[0][0].split] += 1
    dataset.finalize()
    shutil.rmtree(out / "images", ignore_errors=True)  # where it kept pictures until they were in its tables
    _write_splits(out / "meta" / "info.json", counts)
    return {f"{name} episodes": count for name, count in counts.items()}


def moments_of(samples: Samples, splits: dict[str, str]) -> list[Moment]:
    """By drive, in order of time. Changes `splits`, see export_lerobot. Raises ValueError."""
    pictures: dict[tuple[str, int], dict[str, str]] = {}
    for name in samples.poses:
        sequence, _, stamp = name.rpartition("_")
        drive, camera = samples.drives[sequence]
        pictures.setdefault((drive, int(stamp)), {})[camera] = name
    cameras = list(dict.fromkeys(camera for _, camera in samples.drives.values()))
    moments = []
    for (drive, stamp), seen in sorted(pictures.items(), key=lambda item: item[0]):
        if seen.keys() != set(cameras):
            for name in seen.values():
                del splits[name]
            continue
        first = seen[cameras[0]]
        splits.update(dict.fromkeys(seen.values(), splits[first]))
        moments.append(Moment(drive, splits[first], stamp if stamp >= EARLIEST else round(stamp * SECOND / FRAME_RATE),
                              {camera: seen[camera] for camera in cameras},
                              samples.poses[first] @ T_BODY_OPTICAL.inverse()))
    lone = [drive[0].drive for drive in by_drive(moments) if len(drive) < 2]
    if lone or not moments:
        raise ValueError(f"an action leads from one picture to the next, and {', '.join(lone) or 'no drive'} has not "
                         f"two times with a picture of each camera ({', '.join(cameras)})")
    return moments


def by_drive(moments: list[Moment]) -> list[list[Moment]]:
    return [list(group) for _, group in groupby(moments, lambda moment: moment.drive)]


def stretches_of(drive: list[Moment], period: float) -> Iterator[list[tuple[Moment, np.ndarray]]]:
    """Moments in a row with even times (period: ns) and one split, each with its velocity (6,)."""
    velocities = [np.concatenate(here.T_world_body.velocity_to(there.T_world_body, (there.time - here.time) / SECOND))
                  for here, there in pairwise(drive)]
    stretch: list[tuple[Moment, np.ndarray]] = []
    for moment, velocity in zip(drive, [*velocities, velocities[-1]], strict=True):
        if stretch:
            last = stretch[-1][0]
            if moment.split != last.split or abs(moment.time - last.time - period) > UNEVEN * period:
                yield stretch
                stretch = []
        stretch.append((moment, velocity))
    yield stretch


def features_of(samples: Samples, moment: Moment) -> dict[str, dict]:
    """What LeRobot is told of a frame."""
    images = {f"observation.images.{camera}": {"dtype": "image", "shape": samples.rgb(name).shape,
                                               "names": ["height", "width", "channels"]}
              for camera, name in moment.pictures.items()}
    return images | {"observation.state": {"dtype": "float32", "shape": (len(STATE),), "names": STATE},
                     "observation.stamp": {"dtype": "int64", "shape": (len(STAMP),), "names": STAMP},
                     "action": {"dtype": "float32", "shape": (len(ACTION),), "names": ACTION}}


def task_of(samples: Samples) -> str:
    """What the robot does, in words."""
    world = samples.facts.get("world", {}).get("name")
    return f"drive through {world}" if world else "drive"


def _write_splits(info: Path, counts: dict[str, int]) -> None:
    """Ranges of episodes, where LeRobot says that all are for training."""
    ends = np.cumsum(list(counts.values())).tolist()
    ranges = {name: f"{end - counts[name]}:{end}" for name, end in zip(NAMES, ends, strict=True) if counts[name]}
    write_json(info, json.loads(info.read_text()) | {"splits": ranges})
