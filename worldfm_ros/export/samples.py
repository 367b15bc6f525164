"""What a data set is made of: pictures with their truth, read from rendered folders or from bags, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from worldfm_ros.geometry import Pose
from worldfm_ros.replay.files_output import BOXES, CLASSES, FACTS
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.camera_file import read_camera_file
from worldfm_ros.sources.rgbd_folder import read_poses

SEEN = 128  # of a confidence; a pixel with less is invented


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture and its truth. What a source does not have is None.

    name: unique in the data set; sequence: which drive and camera; stamp: nanoseconds, or the number of the frame
    rgb (H, W, 3) uint8; depth (H, W) float32 metres, 0 = none; labels, instances (H, W) uint16, 0 = none;
    confidence (H, W) uint8; boxes: truth.boxes.Box.to_dict of each instance
    """

    name: str
    sequence: str
    stamp: int
    camera: Camera
    T_world_camera: Pose
    rgb: np.ndarray
    depth: np.ndarray | None = None
    labels: np.ndarray | None = None
    instances: np.ndarray | None = None
    confidence: np.ndarray | None = None
    boxes: Sequence[dict] | None = None

    @property
    def invented(self) -> np.ndarray:
        """(H, W) bool: the pixels that a model made up, and nothing should be learned of."""
        return np.zeros(self.rgb.shape[:2], bool) if self.confidence is None else self.confidence < SEEN


class Samples(Protocol):
    """Samples in order. labels and instances: names by number; facts: of how they were made, JSON-ready; poses:
    T_world_camera by the samples' names, in order; drives: drive and camera by sequence."""

    labels: dict[int, str]
    instances: dict[int, str]
    facts: dict
    poses: dict[str, Pose]
    drives: dict[str, tuple[str, str]]

    def rgb(self, name: str) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...


class FolderSamples:
    """Of a folder that `worldfm render` made, or any RGB-D folder; or of a folder of such. Raises ValueError, OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folders = sorted(file.parent for file in path.rglob("poses.txt") if (file.parent / "rgb").is_dir())
        if not self._folders:
            raise ValueError(f"{path} is no folder of pictures: neither it nor a folder in it has rgb/ and poses.txt, "
                             "as `worldfm render` writes them")
        classes = [json.loads((folder / CLASSES).read_text()) for folder in self._folders
                   if (folder / CLASSES).exists()]
        self.labels, self.instances = ({int(number): name for one in classes for number, name in one[kind].items()}
                                       for kind in ("labels", "instances"))
        facts = path / FACTS
        self.facts = json.loads(facts.read_text()) if facts.exists() else {}
        self.poses, self._files, self.drives = {}, {}, {}
        for folder in self._folders:
            sequence = "_".join(folder.relative_to(path).parts) or path.resolve().name
            self.drives[sequence] = self._drive(folder, sequence)
            for index, pose in read_poses(folder / "poses.txt").items():
                name = f"{sequence}_{index:06d}"
                self.poses[name], self._files[name] = pose, (folder, index)

    def _drive(self, folder: Path, sequence: str) -> tuple[str, str]:
        """Of several cameras each has a folder by its name in the drive's."""
        cameras = [camera["namespace"] for camera in self.facts.get("cameras", ())]
        for camera in cameras if len(cameras) > 1 else ():
            if f"/{folder.relative_to(self.path)}".endswith(f"/{camera}"):
                camera = camera.replace("/", "_")
                return sequence.removesuffix(camera).rstrip("_") or self.path.resolve().name, camera
        return sequence, "camera"

    def __len__(self) -> int:
        return len(self.poses)

    def __iter__(self) -> Iterator[Sample]:
        cameras = {folder: read_camera_file(folder / "camera.yaml") for folder in self._folders}
        for name in self.poses:
            yield self._sample(name, cameras[self._files[name][0]])

    def rgb(self, name: str) -> np.ndarray:
        """One picture, (H, W, 3) uint8."""
        pixels = _image(*self._files[name], "rgb")
        if pixels is None:
            raise ValueError(f"{self._files[name][0]}: frame {self._files[name][1]:06d} has no picture in rgb/")
        return np.ascontiguousarray(pixels[..., ::-1])

    def _sample(self, name: str, camera: Camera) -> Sample:
        folder, index = self._files[name]
        rgb, size = self.rgb(name), (camera.picture.height, camera.picture.width)
        if rgb.shape[:2] != size:
            raise ValueError(f"{folder}: frame {index:06d} is {rgb.shape[1]}x{rgb.shape[0]}, camera.yaml says "
                             f"{size[1]}x{size[0]}")
        depth = _image(folder, index, "depth")
        boxes = folder / BOXES / f"{index:06d}.json"
        numbers = [_image(folder, index, kind) for kind in ("segmentation", "instances", "confidence")]
        return Sample(name, name.rpartition("_")[0], index, camera, self.poses[name], rgb,
                      None if depth is None else (depth / 1e3).astype(np.float32), *numbers,
                      json.loads(boxes.read_text()) if boxes.exists() else None)


def _image(folder: Path, index: int, kind: str) -> np.ndarray | None:
    """A file of a frame as it is; None where there is none. Raises ValueError."""
    files = [folder / kind / f"{index:06d}{suffix}" for suffix in (".png", ".jpg")]
    file = next(filter(Path.exists, files), None)
    if file is None:
        return None
    pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{file} is no picture, or is damaged")
    return pixels
