"""Samples of a bag of `worldfm bag render` or a recording of the live camera: matched by stamp, posed by TF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
import json
from pathlib import Path
from typing import Any

import numpy as np

from worldfm_ros.bags.reader import Bag, KeptOpen, nanoseconds
from worldfm_ros.export.samples import Sample
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.replay.bag_output import NAMES, note_of
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.lens import make_lens
from worldfm_ros.sources.bag_images import decode_color, decode_depth
from worldfm_ros.sources.bag_scan import Scan
from worldfm_ros.sources.bag_topics import transform_topics
from worldfm_ros.tf.history import TransformError

COLOURS = ("image_raw", "image_raw/compressed")
DEPTHS = ("depth/image_rect", "depth/image_rect/compressedDepth")
NUMBERS = {"labels": "segmentation/image_raw", "instances": "instances/image_raw",
           "confidence": "confidence/image_raw"}
BOXES = "boxes"


class BagSamples:
    """Of every camera in a bag whose pictures have a pose in TF. Raises ValueError, OSError."""

    def __init__(self, path: Path) -> None:
        self.path, self._reader = path, KeptOpen(path)
        bag = self._reader.bag()
        types = {c.topic: c.msgtype for c in bag.connections}
        self._cameras = {topic.removesuffix(f"/{name}"): topic for name in reversed(COLOURS) for topic in types
                         if topic.endswith(f"/{name}") and "depth" not in topic}
        self._cameras = {space: topic for space, topic in self._cameras.items() if f"{space}/camera_info" in types}
        if not self._cameras:
            raise ValueError(f"{path} has no camera: no topic image_raw beside a camera_info; it has "
                             f"{', '.join(sorted(types)) or 'nothing'}")
        self._types = types
        self.drives = {sequence: (path.stem, sequence) for sequence in map(_sequence, self._cameras)}
        self.labels, self.instances = (self._named(bag, name) for name in NAMES)
        self.facts = note_of(path)
        self.poses, self._recorded = self._posed(bag)

    def _named(self, bag: Bag, name: str) -> dict[int, str]:
        for connection in bag.connections:
            if connection.topic.endswith(f"/{name}"):
                return {int(number): text for number, text in json.loads(bag.first(connection).data).items()}
        return {}

    def _posed(self, bag: Bag) -> tuple[dict[str, Pose], dict[str, tuple[str, int]]]:
        """The pose of each picture, and its topic and time of recording, by name."""
        pictures = list(self._cameras.values())
        scan = Scan(bag, pictures, "", transform_topics(self._types, pictures[0], None, self.path), {})
        poses, recorded = {}, {}
        for space, topic in self._cameras.items():
            for seen in scan.pictures[topic]:
                with suppress(TransformError):  # a picture without a pose has no place
                    name = f"{_sequence(space)}_{seen.stamp}"
                    poses[name] = scan.trees[seen.sequence].from_root(seen.frame_id, seen.stamp)[1]
                    recorded[name] = topic, seen.recorded
        if not poses:
            raise ValueError(f"{self.path}: TF gives no pose for any of its pictures")
        return poses, recorded

    def __len__(self) -> int:
        return len(self.poses)

    def rgb(self, name: str) -> np.ndarray:
        """One picture, (H, W, 3) uint8."""
        topic, recorded = self._recorded[name]
        bag, stamp = self._reader.bag(), int(name.rpartition("_")[2])
        for connection, _, data in bag.messages([c for c in bag.connections if c.topic == topic], recorded,
                                                recorded + 1):
            message = bag.deserialize(data, connection.msgtype)
            if nanoseconds(message.header.stamp) == stamp:
                return decode_color(message)
        raise ValueError(f"{self.path}: the picture {name} is gone")

    def __iter__(self) -> Iterator[Sample]:
        """Camera after camera."""
        for space, topic in self._cameras.items():
            yield from self._samples(space, topic)

    def _samples(self, space: str, color: str) -> Iterator[Sample]:
        bag, sequence = self._reader.bag(), _sequence(space)
        wanted = {color, f"{space}/camera_info", f"{space}/{BOXES}", *(f"{space}/{name}" for name in DEPTHS),
                  *(f"{space}/{name}" for name in NUMBERS.values())}
        connections = [c for c in bag.connections if c.topic in wanted and c.msgcount]
        complete, open_ = {c.topic for c in connections}, {}
        for connection, _, data in bag.messages(connections):
            message = bag.deserialize(data, connection.msgtype)
            stamp = _stamp(message)
            group = open_.setdefault(stamp, {})
            group[connection.topic] = message
            if group.keys() == complete:
                del open_[stamp]
                if f"{sequence}_{stamp}" in self.poses:
                    yield self._sample(space, color, stamp, group)

    def _sample(self, space: str, color: str, stamp: int, group: dict[str, Any]) -> Sample:
        name = f"{_sequence(space)}_{stamp}"
        messages = {topic.removeprefix(f"{space}/"): message for topic, message in group.items()}
        numbers = {field: _numbers(messages[topic]) for field, topic in NUMBERS.items() if topic in messages}
        depth = next((_metres(messages[topic]) for topic in DEPTHS if topic in messages), None)
        boxes = json.loads(messages[BOXES].data)["boxes"] if BOXES in messages else None
        return Sample(name, name.rpartition("_")[0], stamp, camera_of_info(messages["camera_info"]), self.poses[name],
                      decode_color(group[color]), depth, boxes=boxes, **numbers)


def _sequence(space: str) -> str:
    """What a camera's sequence is called."""
    return space.strip("/").replace("/", "_")


def _stamp(message: Any) -> int:
    return nanoseconds(message.header.stamp) if hasattr(message, "header") else json.loads(message.data)["stamp"]


def _numbers(message: Any) -> np.ndarray:
    kind = np.uint16 if message.encoding == "mono16" else np.uint8
    return np.frombuffer(message.data, kind).reshape(message.height, message.width)


def _metres(message: Any) -> np.ndarray:
    depth = decode_depth(message)
    scale = 1.0 if depth.dtype == np.float32 else 1e-3
    return np.nan_to_num(depth * np.float32(scale), nan=0.0).astype(np.float32)


def camera_of_info(info: Any) -> Camera:
    """The camera of a CameraInfo."""
    D = info.d if np.any(info.d) else []
    lens = make_lens(info.distortion_model or "plumb_bob", [float(d) for d in D])
    return Camera(Intrinsics.from_matrix(int(info.width), int(info.height), info.k), lens)
