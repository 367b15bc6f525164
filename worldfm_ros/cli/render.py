"""`worldfm render`: a world along a trajectory, without ROS: pictures with depth and poses, or a video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import os
from pathlib import Path
import shutil

import cv2
import numpy as np
import tyro

from worldfm_ros.generator import Frame, load_generator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.progress import Progress
from worldfm_ros.rgbd_folder import read_camera, read_poses, write_camera, write_poses
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
) -> None:
    """Draw a world from every pose of a trajectory, into an RGB-D folder or a video.

    The camera is a pinhole: of camera.yaml, width, height and K count, as for a rectified photograph.

    Args:
        world: the world folder.
        trajectory: lines `index tx ty tz qx qy qz qw`, camera-to-world, optical axes.
        camera: a camera.yaml.
        model: `anchors` (no network), the name of an installed model, or a model folder.
        out: FILE.mp4, or an RGB-D folder (rgb/%06d.png, depth, poses.txt, camera.yaml), which must not exist.
        rate: frames a second of a video.
        seed: of the model's noise.
        preset: exact, or fast: what may be done to a network for speed.
    """
    check_out(out, rate)
    poses, (intrinsics, _) = read_poses(trajectory), read_camera(camera)
    generator = load_generator(read_world(world), model, seed, preset)
    indices = Progress(f"painting with {model}")(list(poses))
    frames = ((index, generator.generate(poses[index], intrinsics)) for index in indices)
    partial = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        if out.suffix in VIDEOS:
            write_video((frame for _, frame in frames), intrinsics, rate, partial)
        else:
            write_folder(frames, poses, intrinsics, partial)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
    print(f"{out}: {len(poses)} frames")


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


def write_video(frames: Iterator[Frame], intrinsics: Intrinsics, rate: float, path: Path) -> None:
    """MPEG-4. Raises OSError when this OpenCV cannot write it."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (intrinsics.width, intrinsics.height))
    if not video.isOpened():
        raise OSError(f"OpenCV cannot write {intrinsics.width}x{intrinsics.height} MPEG-4 video; render into a folder")
    for frame in frames:
        video.write(np.ascontiguousarray(frame.rgb[..., ::-1]))
    video.release()


def write_folder(frames: Iterable[tuple[int, Frame]], poses: dict[int, Pose], intrinsics: Intrinsics,
                 folder: Path) -> None:
    """An RGB-D folder; the depth is the anchors'. Raises OSError when a picture cannot be written."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    for index, frame in frames:
        millimetres = np.rint(frame.depth * 1000.0)
        depth = np.where(millimetres <= np.iinfo(np.uint16).max, millimetres, 0).astype(np.uint16)
        for name, image in (("rgb", np.ascontiguousarray(frame.rgb[..., ::-1])), ("depth", depth)):
            file = folder / name / f"{index:06d}.png"
            if not cv2.imwrite(str(file), image):
                raise OSError(f"{file} could not be written; is the disk full?")
    write_poses(poses, folder / "poses.txt")
    write_camera(intrinsics, folder / "camera.yaml")
