"""A clip as files of a webdataset sample: K.json, K.00.rgb.jpg, K.00.depth.png, K.00.labels.png, K.00.scene.png, ...

The JSON holds the clip's name and each frame's index, camera and pose (tx ty tz qx qy qz qw, camera-to-world, optical
axes, metres). Colours are JPEG of quality 95, depth is uint16 millimetres (0 = none, as is what lies beyond 65.5 m);
labels are there if they are known, scene (255, elsewhere 0) where a frame shows other things than the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json

import cv2
import numpy as np

from worldfm_ros.clips import Clip, RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose

QUALITY = 95
FARTHEST = 65.535  # metres
View = tuple[int, Intrinsics, Pose]  # a frame without its pictures


def encode(clip: Clip) -> dict[str, bytes]:
    """The files of a clip by extension, in the order in which they are stored."""
    files = {"json": json.dumps({"name": clip.name, "frames": [_facts(frame) for frame in clip.frames]}).encode()}
    for number, frame in enumerate(clip.frames):
        files[f"{number:02d}.rgb.jpg"] = _compress(".jpg", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR),
                                                   [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        depth = np.where(frame.depth <= FARTHEST, frame.depth, 0)
        files[f"{number:02d}.depth.png"] = _compress(".png", np.rint(depth * 1000).astype(np.uint16))
        if frame.labels is not None:
            files[f"{number:02d}.labels.png"] = _compress(".png", frame.labels)
        if frame.scene is not None and not frame.scene.all():
            files[f"{number:02d}.scene.png"] = _compress(".png", np.uint8(255) * frame.scene)
    return files


def decode(files: Mapping[str, bytes], where: str) -> Clip:
    """The inverse of `encode`; a frame's pictures are decoded when it is first asked for: a batch needs few.

    Raises ValueError, naming `where`, for files that are missing or wrong.
    """
    try:
        facts = json.loads(files["json"])
        return Clip(facts["name"], StoredFrames([_view(frame) for frame in facts["frames"]], files, where))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is no clip: {error!r}; build its shard again") from error


class StoredFrames(Sequence[RgbdFrame]):
    """The frames of a stored clip. Asking for one raises ValueError when its files are missing or no pictures."""

    def __init__(self, views: Sequence[View], files: Mapping[str, bytes], where: str) -> None:
        self._views, self._files, self._where = views, files, where
        self._decoded: dict[int, RgbdFrame] = {}

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, number: int) -> RgbdFrame:
        if not 0 <= number < len(self):
            raise IndexError(number)
        if number not in self._decoded:
            self._decoded[number] = self._decode(number)
        return self._decoded[number]

    def _decode(self, number: int) -> RgbdFrame:
        index, camera, pose = self._views[number]
        rgb = cv2.cvtColor(self._picture(number, "rgb.jpg", camera), cv2.COLOR_BGR2RGB)
        depth = self._picture(number, "depth.png", camera).astype(np.float32) / 1000
        labels, scene = (self._picture(number, kind, camera) if f"{number:02d}.{kind}" in self._files else None
                         for kind in ("labels.png", "scene.png"))
        return RgbdFrame(index, rgb, depth, camera, pose, labels, None if scene is None else scene > 0)

    def _picture(self, number: int, kind: str, camera: Intrinsics) -> np.ndarray:
        name = f"{number:02d}.{kind}"
        data = np.frombuffer(self._files.get(name, b""), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
        if image is None or image.shape[:2] != (camera.height, camera.width):
            size = "missing or no picture" if image is None else f"{image.shape[1]}x{image.shape[0]}"
            raise ValueError(f"{self._where}: {name} is {size}, expected {camera.width}x{camera.height}; "
                             "build its shard again")
        return image


def _facts(frame: RgbdFrame) -> dict:
    camera, pose = frame.intrinsics, frame.T_world_camera
    return {
        "index": int(frame.index),
        "camera": [camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy],
        "pose": [*pose.translation.tolist(), *(float(q) for q in pose.quaternion)],
    }


def _view(facts: Mapping) -> View:
    camera, pose = facts["camera"], facts["pose"]
    return facts["index"], Intrinsics(*camera), Pose.from_quaternion(pose[:3], pose[3:])


def _compress(extension: str, image: np.ndarray, options: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(extension, image, options)
    assert done, f"OpenCV cannot write {image.dtype} {image.shape} as {extension}"
    return data.tobytes()
