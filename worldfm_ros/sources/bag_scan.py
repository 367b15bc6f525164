"""What is in a bag, without its pictures: transforms by sequence, the camera info, and when there are pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from rosbags.interfaces import Connection

from worldfm_ros.bags.checksums import Expected
from worldfm_ros.bags.reader import ADVICE, BadMessage, Bag, nanoseconds
from worldfm_ros.geometry import Pose
from worldfm_ros.sources.sequences import sequence_starts
from worldfm_ros.sources.tf_tree import STATIC, TfTree
from worldfm_ros.tf.history import TransformError, frames_of, pose_of


@dataclass(frozen=True)
class Seen:
    """A picture in the bag: its stamp, when it was recorded, its frame, the sequence that it is of."""

    stamp: int
    recorded: int
    frame_id: str
    sequence: int = 0


@dataclass(frozen=True)
class _Transform:
    parent: str
    child: str
    pose: Pose


class Scan:
    """One reading of a bag.

    info: the first camera info. pictures: by topic. trees: the transforms of each sequence; a new one begins where the
    clock goes back. encodings: by picture topic. What cannot be used is counted in `ignored`. notes: what a user has to
    know of the bag. Raises ValueError for a bag whose messages are not the ones that were written.
    """

    def __init__(self, bag: Bag, image_topics: Collection[str], info_topic: str, tf_topics: Collection[str],
                 ignored: Counter[str]) -> None:
        self.info: Any = None
        self.encodings: dict[str, str] = {}
        self._ignored, self._fixed = ignored, []
        self._events: list[tuple[str, int, Seen | _Transform]] = []  # stream, stamp
        self._tf_topics, self._info_topic = tf_topics, info_topic
        wanted = [c for c in bag.connections if c.topic in {*image_topics, info_topic, *tf_topics}]
        expected, found = bag.expected(), Counter()
        for connection, recorded, raw in bag.messages(wanted):
            expected.read(connection.topic, recorded, raw)
            found[connection.topic] += 1
            try:
                self._take(connection.topic, recorded, bag.deserialize(raw, connection.msgtype))
            except (BadMessage, AttributeError, TypeError):  # the latter two: the definition in the bag is another one
                ignored[f"messages of {connection.topic} that cannot be read"] += 1
        self.notes = self._judged(bag, wanted, expected, found)
        self._split(image_topics)

    @staticmethod
    def _judged(bag: Bag, wanted: list[Connection], expected: Expected, found: Counter[str]) -> list[str]:
        topics = {c.topic for c in wanted}
        if wrong := expected.wrong(topics):
            raise ValueError(f"{bag.path} is damaged: {', '.join(wrong)} is not what was written, by its checksum; "
                             f"{ADVICE.format(path=bag.path)}")
        announced = Counter()
        for c in wanted:
            announced[c.topic] += c.msgcount or 0
        notes = [f"{bag.path}: {found[topic]} of {count} messages of {topic} that it announces are there"
                 for topic, count in announced.items() if found[topic] < count]
        if not topics <= expected.announced.keys() and not bag.has_checksums():
            notes.append(f"{bag.path} has no checksums: damage to its pictures would not be noticed")
        return notes

    def _take(self, topic: str, recorded: int, message: Any) -> None:
        if topic in self._tf_topics:
            for transform in message.transforms:
                self._add(transform, topic.endswith("static"))
        elif topic == self._info_topic:
            self.info = self.info or message
        else:
            encoding = getattr(message, "encoding", "") or getattr(message, "format", "")
            seen = Seen(nanoseconds(message.header.stamp), recorded, message.header.frame_id.lstrip("/"))
            self.encodings.setdefault(topic, encoding)
            self._events.append((topic, seen.stamp, seen))

    def _add(self, transform: Any, static: bool) -> None:
        parent, child = frames_of(transform)
        try:
            pose = pose_of(transform)
        except TransformError as error:
            self._ignored[f"transforms of {child}: {error.reason}"] += 1
            return
        if static:
            self._fixed.append(_Transform(parent, child, pose))
        else:
            self._events.append((f"transform of {child}", nanoseconds(transform.header.stamp),
                                 _Transform(parent, child, pose)))

    def _split(self, image_topics: Collection[str]) -> None:
        starts = sequence_starts((stream, stamp) for stream, stamp, _ in self._events)
        self.trees = [TfTree() for _ in starts]
        self.pictures: dict[str, list[Seen]] = {topic: [] for topic in image_topics}
        for tree in self.trees:
            for fixed in self._fixed:
                tree.add(STATIC, fixed.parent, fixed.child, fixed.pose)
        number = 0
        for place, (stream, stamp, event) in enumerate(self._events):
            while number + 1 < len(starts) and place >= starts[number + 1]:
                number += 1
            if isinstance(event, Seen):
                self.pictures[stream].append(replace(event, sequence=number))
            else:
                self.trees[number].add(stamp, event.parent, event.child, event.pose)
        self._events.clear()
