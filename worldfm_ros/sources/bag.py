"""Frames of a ROS 2 bag: colour and registered depth of the same time, the camera's pose in TF."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader

from worldfm_ros.bags.reader import nanoseconds, open_bag
from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.bag_images import decode_color, decode_depth
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.images import check_sizes
from worldfm_ros.sources.lens import DISTORTION_COEFFICIENTS, rectified
from worldfm_ros.sources.tf_tree import STATIC, TfTree

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
SLOP = 20_000_000  # nanoseconds between the stamps of colour and depth that belong together


@dataclass(frozen=True)
class Topics:
    """The topics that a bag's frames are made of; what is None is found by its name and type.

    depth is registered to the colour's camera, which camera_info tells of.
    """

    color: str | None = None
    depth: str | None = None
    camera_info: str | None = None


@dataclass(frozen=True)
class _Seen:
    """A picture in the bag: its stamp, when it was recorded, its frame."""

    stamp: int
    recorded: int
    frame_id: str


class BagFrames(PosedFrames):
    """The pictures with depth of the same time (within 20 ms) and a known pose, in order of time, in the frame that is
    the root of TF. `skipped` counts the other ones by reason.

    Raises ValueError or FileNotFoundError naming the topic that is missing or wrong.
    """

    def __init__(self, path: str | Path, topics: Topics | None = None) -> None:
        self.path = Path(path)
        with open_bag(self.path) as reader:
            self.topics = find_topics({c.topic: c.msgtype for c in reader.connections}, topics or Topics(), self.path)
            tree, info, colors, depths = self._scan(reader)
        for topic, messages in ((self.topics.color, colors), (self.topics.depth, depths),
                                (self.topics.camera_info, info)):
            if not messages:
                raise ValueError(f"{path}: {topic} has no message; frames are made of colour, depth and camera_info")
        if info.distortion_model not in DISTORTION_COEFFICIENTS and np.any(info.d):
            raise ValueError(f"{path}: distortion_model {info.distortion_model!r} is none of "
                             f"{tuple(DISTORTION_COEFFICIENTS)}; record rectified pictures")
        self.intrinsics = Intrinsics.from_matrix(int(info.width), int(info.height), info.k)
        self.distortion = np.array(info.d, np.float64)
        self.skipped: Counter[str] = Counter()
        self._frames = self._matched(tree, colors, depths)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, position: int) -> RgbdFrame:
        color, depth, pose = self._frames[position]
        with open_bag(self.path) as reader:  # anew: a file that is open cannot be shared by the workers of a loader
            rgb = decode_color(self._message(reader, self.topics.color, color))
            z = decode_depth(self._message(reader, self.topics.depth, depth))
        check_sizes(rgb, z, self.intrinsics, f"{self.path} at {color.stamp} ns")
        return rectified(RgbdFrame(position, rgb, z, self.intrinsics, pose), self.distortion)

    @property
    def camera(self) -> Intrinsics:
        return self.intrinsics

    @property
    def poses(self) -> list[Pose]:
        return [pose for _, _, pose in self._frames]

    def files(self) -> list[Path]:
        return sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]

    def _scan(self, reader: AnyReader) -> tuple[TfTree, Any, list[_Seen], list[_Seen]]:
        """All transforms, the first camera info, and what pictures there are."""
        tree, info = TfTree(), None
        color, depth, camera_info = self.topics.color, self.topics.depth, self.topics.camera_info
        pictures: dict[str, list[_Seen]] = {color: [], depth: []}
        wanted = [c for c in reader.connections if c.topic in (*pictures, camera_info) or _is_tf(c.topic)]
        for connection, recorded, raw in reader.messages(connections=wanted):
            message = reader.deserialize(raw, connection.msgtype)
            if _is_tf(connection.topic):
                for transform in message.transforms:
                    _add(tree, transform, connection.topic.endswith("static"))
            elif connection.topic == camera_info:
                info = info or message
            else:
                header = message.header
                pictures[connection.topic].append(_Seen(nanoseconds(header.stamp), recorded,
                                                              header.frame_id.lstrip("/")))
        return tree, info, pictures[color], pictures[depth]

    def _matched(self, tree: TfTree, colors: list[_Seen], depths: list[_Seen]) -> list[tuple[_Seen, _Seen, Pose]]:
        depths = sorted(depths, key=lambda seen: seen.stamp)
        stamps, frames, root = [seen.stamp for seen in depths], [], None
        for color in sorted(colors, key=lambda seen: seen.stamp):
            near = depths[max(0, bisect_left(stamps, color.stamp) - 1):][:2]
            depth = min(near, key=lambda seen: abs(seen.stamp - color.stamp), default=None)
            if depth is None or abs(depth.stamp - color.stamp) > SLOP:
                self.skipped["no depth at the picture's time"] += 1
                continue
            if depth.frame_id != color.frame_id:
                raise ValueError(f"{self.path}: {self.topics.depth} is in frame {depth.frame_id}, "
                                 f"{self.topics.color} in {color.frame_id}; depth must be registered to the "
                                 "colour's camera")
            try:
                this_root, pose = tree.from_root(color.frame_id, color.stamp)
            except LookupError as error:
                self.skipped[str(error)] += 1
                continue
            if this_root == color.frame_id or root not in (None, this_root):
                raise ValueError(f"{self.path}: TF does not say where {color.frame_id} is in one fixed frame")
            root = this_root
            frames.append((color, depth, pose))
        return frames

    def _message(self, reader: AnyReader, topic: str, seen: _Seen) -> Any:
        connections = [c for c in reader.connections if c.topic == topic]
        for connection, _, raw in reader.messages(connections, start=seen.recorded, stop=seen.recorded + 1):
            message = reader.deserialize(raw, connection.msgtype)
            if nanoseconds(message.header.stamp) == seen.stamp:
                return message
        raise ValueError(f"{self.path}: the picture at {seen.recorded} ns of {topic} is gone")


def find_topics(types: dict[str, str], asked: Topics, path: Path) -> Topics:
    """The topics to use, of those in a bag by name and type. Raises ValueError listing them when it is not clear."""
    pictures = [topic for topic, kind in types.items() if kind in IMAGES]
    infos = [topic for topic, kind in types.items() if kind == "sensor_msgs/msg/CameraInfo"]
    color = asked.color or _only("color", [t for t in pictures if "depth" not in t.lower()], path)
    depth = asked.depth or _only("depth", [t for t in pictures if "depth" in t.lower()], path)
    beside = [t for t in infos if color.startswith(t.rsplit("/", 1)[0] + "/")]
    found = Topics(color, depth, asked.camera_info or _only("camera_info", beside or infos, path))
    missing = {found.color, found.depth, found.camera_info} - set(types)
    if missing:
        raise ValueError(f"{path} has no topic {', '.join(sorted(missing))}; it has {', '.join(sorted(types))}")
    return found


def _only(what: str, topics: list[str], path: Path) -> str:
    if len(topics) != 1:
        raise ValueError(f"{path}: expected one {what} topic, got {topics or 'none'}; name the one to use with "
                         f"--{what.replace('_', '-')}-topic (depth must be registered to the colour's camera)")
    return topics[0]


def _is_tf(topic: str) -> bool:
    return topic.rsplit("/", 1)[-1] in ("tf", "tf_static")


def _add(tree: TfTree, transform: Any, static: bool) -> None:
    t, q = transform.transform.translation, transform.transform.rotation
    pose = Pose.from_quaternion([t.x, t.y, t.z], [q.x, q.y, q.z, q.w])
    tree.add(STATIC if static else nanoseconds(transform.header.stamp), transform.header.frame_id.lstrip("/"),
             transform.child_frame_id.lstrip("/"), pose)
