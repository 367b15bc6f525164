"""A rendering as files: RGB-D folders whose further truth lies beside the depth, or videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
import json
import os
from pathlib import Path
import shutil

import cv2
import numpy as np

from worldfm_ros.files import write_json
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.replay import truths
from worldfm_ros.replay.engine import Rendering
from worldfm_ros.replay.recipe import Job, Recipe, Shot
from worldfm_ros.sources.rgbd_folder import write_camera, write_poses

CLASSES, FACTS = "classes.json", "rendering.json"
BOXES, RANDOMIZATION = "boxes", "randomization"
VIDEOS = (".mp4",)


@dataclass(frozen=True)
class FolderFiles:
    """The files of a shot, by folder. truth: what else, of truths.TRUTHS."""

    truth: tuple[str, ...] = ()

    def __call__(self, shot: Shot) -> dict[str, bytes]:
        instances = truths.instances_of(shot)
        images = pictures_of(shot, instances)
        if "normals" in self.truth:
            normals = np.nan_to_num(truths.normals(shot))[..., ::-1]
            images["normals"] = np.rint(normals * 32767 + 32768).astype(np.uint16)
        if "flow" in self.truth:
            images["flow"] = flow_image(truths.flow(shot))
        made = {f"{name}.png": png(image) for name, image in images.items()}
        if "boxes" in self.truth:
            made[f"{BOXES}.json"] = json.dumps(truths.boxes(shot, instances)).encode()
        if shot.taken.values:
            made[f"{RANDOMIZATION}.json"] = json.dumps(dict(shot.taken.values)).encode()
        return made


def flow_image(flow: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint16 as KITTI has it, in OpenCV's order: known or not, down, right: pixels * 64 + 2^15."""
    known = np.isfinite(flow).all(axis=-1) & (np.abs(flow) < 511).all(axis=-1)
    packed = np.rint(np.where(known[..., None], flow, 0) * 64 + 2**15).astype(np.uint16)
    return np.dstack([known.astype(np.uint16), np.where(known, packed[..., 1], 0), np.where(known, packed[..., 0], 0)])


def pictures_of(shot: Shot, instances: np.ndarray | None) -> dict[str, np.ndarray]:
    """Of a shot, by folder: rgb, depth (uint16 millimetres, 0 = none), segmentation (uint16, 0 = none),
    instances where objects move (uint16, 0 = none) and, of a model that can tell, confidence (uint8: 255 = seen,
    0 = invented)."""
    frame = shot.taken.frame
    millimetres = np.rint(frame.depth * 1000.0)
    images = {"rgb": frame.rgb[..., ::-1], "segmentation": frame.labels,
              "depth": np.where(millimetres <= np.iinfo(np.uint16).max, millimetres, 0).astype(np.uint16)}
    if instances is not None:
        images["instances"] = instances
    if frame.confidence is not None:
        images["confidence"] = frame.confidence
    return images


def video_frame(shot: Shot) -> dict[str, bytes]:
    """The picture of a shot."""
    return {"rgb": png(shot.taken.frame.rgb[..., ::-1])}


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def job_name(group: str, index: int) -> str:
    """What a picture of a trajectory is called; `group`: the folder or video of its trajectory and camera."""
    return f"{group}/{index:06d}"


def group_of(job: Job) -> str:
    return job.name.rpartition("/")[0]


def write_folders(rendering: Rendering) -> None:
    """An RGB-D folder at rendering.out, or one below it for each group; whole, or not there at all. Raises OSError."""
    partial = rendering.folder / rendering.out.name
    shutil.rmtree(partial, ignore_errors=True)
    recipe = rendering.painting.recipe
    for group, rendered in groupby(rendering.made(), lambda each: group_of(each[0])):
        _write_folder(rendered, partial / group, recipe)
    write_json(partial / FACTS, recipe.to_dict())
    partial.rename(rendering.out)
    rendering.close()


def _write_folder(rendered: Iterable[tuple[Job, Mapping[str, bytes]]], path: Path, recipe: Recipe) -> None:
    poses = {}
    for job, made in rendered:
        poses[job.stamp] = job.pose
        for name, data in made.items():
            folder, kind = path / name.partition(".")[0], name.partition(".")[2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{job.stamp:06d}.{kind}").write_bytes(data)
    camera = recipe.cameras[job.camera].camera
    write_poses(poses, path / "poses.txt")
    write_camera(camera.picture, path / "camera.yaml", camera.lens)
    write_json(path / CLASSES, {"labels": recipe.scene.label_names(), "instances": recipe.scene.instance_names()})


@dataclass(frozen=True)
class Videos:
    """One video at the output's path; with several groups one each, named NAME-GROUP.mp4. rate: frames a second."""

    rate: float

    def paths(self, out: Path, groups: Sequence[str]) -> dict[str, Path]:
        """By group."""
        if len(groups) == 1:
            return {groups[0]: out}
        return {group: out.with_name(f"{out.stem}-{group.replace('/', '-')}{out.suffix}") for group in groups}

    def write(self, rendering: Rendering) -> None:
        """Each whole or not at all. Raises OSError."""
        paths = self.paths(rendering.out, sorted({group_of(job) for job in rendering.jobs}))
        cameras = rendering.painting.recipe.cameras
        for group, rendered in groupby(rendering.made(), lambda each: group_of(each[0])):
            (first, made), *_ = head = [next(rendered)]
            pictures = (_decoded(made["rgb"]) for part in (head, rendered) for _, made in part)
            write_video(pictures, cameras[first.camera].camera.picture, self.rate, paths[group])
        rendering.close()


def _decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def write_video(pictures: Iterable[np.ndarray], intrinsics: Intrinsics, rate: float, path: Path) -> None:
    """MPEG-4 of pictures (H, W, 3) uint8 RGB, whole or not at all. Raises OSError when this OpenCV cannot write it, or
    the disk is full."""
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        video = cv2.VideoWriter(str(partial), cv2.VideoWriter_fourcc(*"mp4v"), rate,
                                (intrinsics.width, intrinsics.height))
        if not video.isOpened():
            raise OSError(f"OpenCV cannot write {intrinsics.width}x{intrinsics.height} MPEG-4 video; "
                          "render into a folder")
        written = 0
        for picture in pictures:
            video.write(np.ascontiguousarray(picture[..., ::-1]))
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
