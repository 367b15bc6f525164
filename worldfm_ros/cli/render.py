"""`worldfm render`: a world along a trajectory, without ROS: pictures with depth and poses, or a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
import os
from pathlib import Path

import cv2
import numpy as np
import tyro

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.generator import Frame, FrameGenerator, load_generator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.progress import Progress
from worldfm_ros.sensor.camera_file import read_sensor_file
from worldfm_ros.sensor.motion import along
from worldfm_ros.sensor.sensor import Sensor
from worldfm_ros.sources.rgbd_folder import read_poses, write_rgbd_folder
from worldfm_ros.world.storage import read_world

VIDEOS = (".mp4",)


def render(
    world: tyro.conf.Positional[Path],
    *,
    trajectory: Path,
    camera: Path,
    model: str,
    out: Path,
    rate: float = 30.0,
    seed: int = 0,
    preset: str = "exact",
    objects: str = "",
) -> None:
    """Draw a world from every pose of a trajectory, into an RGB-D folder or a video.

    The camera has the lens of its file, and takes its pictures as the file's key `sensor` says (docs/sensors.md):
    noise, exposure, vignette, motion blur and rolling shutter, for which pose follows pose at `rate`.

    Args:
        world: the world folder.
        trajectory: lines `index tx ty tz qx qy qz qw`, camera-to-world, optical axes.
        camera: a camera.yaml, or a ROS camera_info file.
        model: `anchors` (no network), the name of an installed model, or a model folder.
        out: FILE.mp4, or an RGB-D folder (rgb/%06d.png, depth, poses.txt, camera.yaml), which must not exist.
        rate: frames a second of a video, and poses a second for what moves while a picture is taken.
        seed: of the model's noise.
        preset: exact, or fast: what may be done to a network for speed.
        objects: what moves: an objects.yaml (docs/objects.md), or demo; pose number n is at n / rate seconds.
    """
    check_out(out, rate)
    poses, sensor = read_poses(trajectory), Sensor(*read_sensor_file(camera))
    generator = load_generator(read_world(world), model, seed, preset, objects)
    frames = taken(sensor, generator, poses, rate, Progress(f"painting with {model}"))
    if out.suffix in VIDEOS:
        write_video(frames, sensor.camera.picture, rate, out)
    else:
        write_rgbd_folder(frames, out, sensor.camera.lens)
    print(f"{out}: {len(poses)} frames")


def taken(sensor: Sensor, generator: FrameGenerator, poses: Mapping[int, Pose], rate: float,
          progress: Progress) -> Iterator[RgbdFrame]:
    """A picture from each pose, in order; the noise of each follows from its index."""
    path = list(poses.values())
    for place, index in enumerate(progress(list(poses))):
        about = [along(path, place + offset * rate) for offset in sensor.offsets]
        placed = generator.objects.at(round(place / rate * 1e9))
        picture = sensor.take(partial(generator.generate, objects=placed), about, index).frame
        yield pictured(picture, index, path[place], sensor.camera.picture)


def pictured(frame: Frame, index: int, pose: Pose, intrinsics: Intrinsics) -> RgbdFrame:
    """A generated frame as if a camera had taken it; the depth is the anchors'."""
    return RgbdFrame(index, frame.rgb, frame.depth, intrinsics, pose, frame.labels)


def check_out(out: Path, rate: float) -> None:
    """Raise ValueError, before the work, when nothing can be written there."""
    if not 0 < rate < np.inf:
        raise ValueError(f"the rate is frames a second, above 0, got {rate}")
    if not out.parent.is_dir():
        raise ValueError(f"cannot write {out}: there is no folder {out.parent}")
    if out.suffix and out.suffix not in VIDEOS:
        raise ValueError(f"cannot write {out}: name a folder, or a video that ends in {', '.join(VIDEOS)}")
    if out.is_dir() if out.suffix in VIDEOS else out.exists():
        raise ValueError(f"{out} exists; choose another name")


def write_video(frames: Iterator[RgbdFrame], intrinsics: Intrinsics, rate: float, path: Path) -> None:
    """MPEG-4, whole or not at all. Raises OSError when this OpenCV cannot write it, or the disk is full."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        video = cv2.VideoWriter(str(partial), cv2.VideoWriter_fourcc(*"mp4v"), rate,
                                (intrinsics.width, intrinsics.height))
        if not video.isOpened():
            raise OSError(f"OpenCV cannot write {intrinsics.width}x{intrinsics.height} MPEG-4 video; "
                          "render into a folder")
        written = 0
        for frame in frames:
            video.write(np.ascontiguousarray(frame.rgb[..., ::-1]))
            written += 1
        video.release()
        if (readable := count_frames(partial)) != written:  # OpenCV does not say when a write fails
            raise OSError(f"cannot write {path}: {readable} of {written} frames can be read back; is the disk full?")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def count_frames(path: Path) -> int:
    """The frames of a video that can be read; 0 for what is none."""
    video, count = cv2.VideoCapture(str(path)), 0
    while video.grab():
        count += 1
    video.release()
    return count
