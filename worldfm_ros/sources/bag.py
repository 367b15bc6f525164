"""Frames of a ROS 2 bag: colour, registered depth or a LiDAR's points of its time, the pose in TF."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

from worldfm_ros.bags.reader import Bag, KeptOpen, counted, nanoseconds
from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.bag_images import decode_color
from worldfm_ros.sources.bag_points import points_of, sparse_depth
from worldfm_ros.sources.bag_scan import Scan, Seen
from worldfm_ros.sources.bag_topics import POINTS, Topics, find_topics, transform_topics
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.images import MILLIMETRES
from worldfm_ros.sources.rgbd_camera import SLOP, RgbdCamera
from worldfm_ros.sources.tf_tree import TfTree
from worldfm_ros.tf.history import TransformError

__all__ = ["BagFrames", "Topics"]

SCAN_SLOP = 100_000_000  # of colour and a LiDAR's points, whose own place at their time is known


class BagFrames(PosedFrames):
    """The pictures with depth of the same time (within 20 ms; a LiDAR's points within 100 ms) and a known pose, by
    time, in the frame that is the root of TF. `skipped` counts the others by reason.

    Raises ValueError or FileNotFoundError naming the topic that is missing or wrong.
    """

    def __init__(self, path: str | Path, topics: Topics | None = None) -> None:
        self.path, self._reader = Path(path), KeptOpen(Path(path))
        self.skipped, self.ignored = Counter(), Counter()
        bag = self._reader.bag()  # stays open: to unpack a packed one a second time would take as long again
        types = {c.topic: c.msgtype for c in bag.connections}
        connection = {c.topic: c for c in bag.connections}
        self.topics = find_topics(types, topics or Topics(), self.path, lambda topic: bag.first(connection[topic]))
        self.sparse = types[self.topics.depth] == POINTS
        color, depth, info_topic = self.topics.color, self.topics.depth, self.topics.camera_info
        tf_topics = transform_topics(types, color, self.topics.tf, self.path)
        scan = Scan(bag, (color, depth), info_topic, tf_topics, self.ignored)
        self.notes = tuple(scan.notes)
        colors, depths = scan.pictures[color], scan.pictures[depth]
        for topic, messages in ((color, colors), (depth, depths), (info_topic, scan.info)):
            if not messages:
                raise ValueError(f"{path}: {topic} has no message; frames are made of colour, depth and camera_info"
                                 + (f"; ignored: {counted(self.ignored)}" if self.ignored else ""))
        try:
            self._rgbd = RgbdCamera(scan.info, color, depth)
        except ValueError as error:
            raise ValueError(f"{path}: {info_topic}: {error}") from None
        self.intrinsics, self.distortion = self._rgbd.intrinsics, self._rgbd.distortion
        self.units = 1.0 if self.sparse or scan.encodings.get(depth, "").startswith("32FC1") else MILLIMETRES
        self._frames: list[tuple[Seen, Seen, Pose]] = []
        self._T_camera_points: list[Pose] = []  # of a LiDAR, by frame
        turned = self._rgbd.T_optical_picture
        for number, tree in enumerate(scan.trees):
            mine = ([seen for seen in pictures if seen.sequence == number] for pictures in (colors, depths))
            matched = self._matched(tree, *mine)
            self._frames += [(c, d, pose @ turned) for c, d, pose in matched]
            if self.sparse:
                self._T_camera_points += [(pose @ turned).inverse() @ tree.from_root(d.frame_id, d.stamp)[1]
                                          for _, d, pose in matched]
        self.sequences = tuple(sorted({next(k for k, (c, _, _) in enumerate(self._frames) if c.sequence == number)
                                       for number in {c.sequence for c, _, _ in self._frames}})) or (0,)

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, position: int) -> RgbdFrame:
        color, depth, pose = self._frames[position]
        bag = self._reader.bag()
        rgb = decode_color(self._message(bag, self.topics.color, color))
        measured = self._message(bag, self.topics.depth, depth)
        if self.sparse:
            z = sparse_depth(points_of(measured), self._T_camera_points[position], self.intrinsics)
        else:
            z = self._rgbd.depth(measured)
        return self._rgbd.frame(position, rgb, z, pose, f"{self.path} at {color.stamp} ns")

    @property
    def camera(self) -> Intrinsics:
        return self.intrinsics

    @property
    def poses(self) -> list[Pose]:
        return [pose for _, _, pose in self._frames]

    def files(self) -> list[Path]:
        return sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]

    def _matched(self, tree: TfTree, colors: list[Seen], depths: list[Seen]) -> list[tuple[Seen, Seen, Pose]]:
        depths = sorted(depths, key=lambda seen: seen.stamp)
        stamps, frames, root = [seen.stamp for seen in depths], [], None
        for color in sorted(colors, key=lambda seen: seen.stamp):
            near = depths[max(0, bisect_left(stamps, color.stamp) - 1):][:2]
            depth = min(near, key=lambda seen: abs(seen.stamp - color.stamp), default=None)
            if depth is None or abs(depth.stamp - color.stamp) > (SCAN_SLOP if self.sparse else SLOP):
                self.skipped["no depth at the picture's time"] += 1
                continue
            if depth.frame_id != color.frame_id and not self.sparse:
                raise ValueError(f"{self.path}: {self.topics.depth} is in frame {depth.frame_id}, "
                                 f"{self.topics.color} in {color.frame_id}; depth must be registered to the "
                                 "colour's camera")
            try:
                this_root, pose = tree.from_root(color.frame_id, color.stamp)
                if self.sparse and tree.from_root(depth.frame_id, depth.stamp)[0] != this_root:
                    raise ValueError(f"{self.path}: TF does not say where {depth.frame_id}, the frame of "
                                     f"{self.topics.depth}, is in {this_root}")
            except TransformError as error:
                self.skipped[str(error)] += 1
                continue
            if this_root != color.frame_id and not tree.moves(color.frame_id) and len(colors) > 1:
                raise ValueError(f"{self.path}: TF has fixed transforms alone between {this_root} and {color.frame_id}"
                                 ": nothing says how the camera moved; record /tf (odometry) as well, or name another "
                                 "robot's with --tf-topic")
            if this_root == color.frame_id or root not in (None, this_root):
                why = ("no transform has it as its child; record /tf and /tf_static as well"
                       if this_root == color.frame_id else f"its tree has two roots, {root} and {this_root}")
                raise ValueError(f"{self.path}: TF does not say where {color.frame_id} is in one fixed frame: {why}")
            root = this_root
            frames.append((color, depth, pose))
        return frames

    def _message(self, bag: Bag, topic: str, seen: Seen) -> Any:
        connections = [c for c in bag.connections if c.topic == topic]
        for connection, _, raw in bag.messages(connections, start=seen.recorded, stop=seen.recorded + 1):
            message = bag.deserialize(raw, connection.msgtype)
            if nanoseconds(message.header.stamp) == seen.stamp:
                return message
        raise ValueError(f"{self.path}: the picture at {seen.recorded} ns of {topic} is gone")
