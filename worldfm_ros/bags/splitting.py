"""When a bag goes on in another file, and the metadata of a bag of several files, as rosbag2 writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
import re

from rosbags.rosbag2.metadata import dump_qos_v9
from ruamel.yaml import YAML

NEVER = 2**63 - 1  # the start of a bag without messages, as rosbag2 writes it
SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
TIMES = {"S": 1, "MIN": 60, "H": 3600}


@dataclass(frozen=True)
class Split:
    """After so many bytes or nanoseconds a bag goes on in another file; 0 = never."""

    size: int = 0
    duration: int = 0

    @classmethod
    def parse(cls, text: str) -> Split:
        """Of `2GB`, `500MiB`, `60s`, `10min`, `1h`; empty = never. Raises ValueError for another text."""
        if not text:
            return cls()
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
        number, unit = (float(match[1]), match[2].upper()) if match else (0.0, "")
        if number > 0 and unit in SIZES:
            return cls(size=max(1, round(number * SIZES[unit])))
        if number > 0 and unit in TIMES:
            return cls(duration=max(1, round(number * TIMES[unit] * 10**9)))
        raise ValueError(f"a bag is split by size or duration, such as 2GB, 500MiB, 60s or 10min; got {text!r}")

    def is_due(self, size: int, duration: int) -> bool:
        return bool(self.size and size >= self.size) or bool(self.duration and duration >= self.duration)


@dataclass(frozen=True)
class BagFile:
    """One file of a bag: its messages by connection id, first and last timestamp (ns)."""

    name: str
    counts: dict[int, int] = field(default_factory=dict)
    first: int = NEVER
    last: int = 0

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    @property
    def entry(self) -> dict[str, object]:
        return {"path": self.name, "starting_time": {"nanoseconds_since_epoch": self.first},
                "duration": {"nanoseconds": max(0, self.last - self.first)}, "message_count": self.count}


def bag_metadata(files: Sequence[BagFile], connections: Sequence, storage: str, version: int,
                 custom_data: dict[str, str]) -> dict[str, object]:
    """What metadata.yaml says, below rosbag2_bagfile_information, of the files of a bag, in order."""
    first, last = min(file.first for file in files), max(file.last for file in files)
    return {
        "version": version,
        "storage_identifier": storage,
        "relative_file_paths": [file.name for file in files],
        "duration": {"nanoseconds": max(0, last - first)},
        "starting_time": {"nanoseconds_since_epoch": first},
        "message_count": sum(file.count for file in files),
        "topics_with_message_count": [{
            "topic_metadata": {
                "name": connection.topic, "type": connection.msgtype,
                "serialization_format": connection.ext.serialization_format,
                "offered_qos_profiles": dump_qos_v9(connection.ext.offered_qos_profiles),
                "type_description_hash": connection.digest,
            },
            "message_count": sum(file.counts.get(connection.id, 0) for file in files),
        } for connection in connections],
        "compression_format": "",  # chunks inside of an mcap file are that file's own matter
        "compression_mode": "",
        "files": [file.entry for file in files],
        "custom_data": custom_data or None,
        "ros_distro": "rosbags",
    }


def as_yaml(content: object) -> str:
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()
