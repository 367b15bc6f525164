"""Checksums of a bag's topics: what tells damage from pictures, where the storage has none of its own.

Our writer keeps, in the custom data of metadata.yaml, how many messages of a topic were written and the CRC-32 of their
times and bytes. An mcap file has a checksum for each chunk, if its writer made one; sqlite3 and ROS 1 have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
import re
import struct
from zlib import crc32

KEY = "worldfm_ros.crc32:"  # before a topic's name
CHUNK, MESSAGE, DATA_END = 6, 5, 15  # opcodes of the mcap format
MAGIC = 8  # bytes before the first record
CRC = 24  # where it lies in a chunk


@dataclass
class Sum:
    """Of the first `count` messages of a topic, in order of time."""

    count: int = 0
    crc: int = 0
    newest: int = -1
    in_order: bool = True

    def add(self, timestamp: int, data: bytes | memoryview) -> None:
        self.in_order &= timestamp >= self.newest
        self.newest, self.count = timestamp, self.count + 1
        self.crc = crc32(data, crc32(struct.pack("<q", timestamp), self.crc))


@dataclass
class Sums:
    """The running sums of topics that are written."""

    of: dict[str, Sum] = field(default_factory=lambda: defaultdict(Sum))

    def texts(self) -> dict[str, str]:
        """For the metadata. Readers sort by time: what came in another order cannot be told from damage."""
        return {KEY + topic: f"{known.count} {known.crc:08x}" for topic, known in self.of.items() if known.in_order}


class Expected:
    """What the metadata announce, compared with what is read."""

    def __init__(self, custom: object) -> None:
        """custom: the custom data of a bag's metadata, of any form."""
        texts = custom if isinstance(custom, Mapping) else {}
        found = {topic: re.fullmatch(r"(\d+) ([0-9a-f]{8})", str(text)) for topic, text in texts.items()}
        self.announced = {topic.removeprefix(KEY): (int(match[1]), int(match[2], 16))
                          for topic, match in found.items() if str(topic).startswith(KEY) and match}
        self._read: dict[str, Sum] = defaultdict(Sum)
        self._wrong: set[str] = set()

    def read(self, topic: str, timestamp: int, data: bytes) -> None:
        """A message has been read; all of a topic's, in order of time."""
        if topic in self.announced:
            count, crc = self.announced[topic]
            known = self._read[topic]
            known.add(timestamp, data)
            if known.count == count and known.crc != crc:
                self._wrong.add(topic)

    def wrong(self, topics: set[str]) -> list[str]:
        """Those of the topics whose messages are not the ones that were written."""
        short = {topic for topic, (count, _) in self.announced.items() if self._read[topic].count < count}
        return sorted((self._wrong | short) & topics)


def chunks_have_checksums(file: Path) -> bool:
    """Whether all messages of an mcap file are in chunks with a checksum."""
    size, at, chunks = file.stat().st_size, MAGIC, 0
    with file.open("rb") as data:
        while at + 9 <= size:
            data.seek(at)
            opcode, length = struct.unpack("<BQ", data.read(9))
            if opcode == DATA_END:
                break
            if opcode == MESSAGE or (opcode == CHUNK and not _has_checksum(data.read(min(length, CRC + 4)))):
                return False
            chunks += opcode == CHUNK
            at += 9 + length
    return chunks > 0


def _has_checksum(head: bytes) -> bool:
    return len(head) == CRC + 4 and any(head[CRC:])
