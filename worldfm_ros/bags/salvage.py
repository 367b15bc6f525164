"""Whatever can still be read in the storage files of a damaged bag, whole messages only.

The summary of an mcap file and metadata.yaml are not trusted: chunks are walked from the start, a damaged one is
passed over and counted, and behind bytes that are no record the next chunk is looked for. Of sqlite3 files all rows are
read that the database still gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
import io
import mmap
from pathlib import Path
import sqlite3
import struct
from typing import NamedTuple
from urllib.parse import quote
from zlib import crc32

from rosbags.rosbag2.storage_mcap import DECOMPRESSORS

from worldfm_ros.bags.storages import MCAP_MAGIC

SCHEMA, CHANNEL, MESSAGE, CHUNK = 3, 4, 5, 6
KNOWN = range(1, 16)  # opcodes of the mcap format
HEADER = 9  # bytes before a record: opcode and length
LARGEST = 2**32  # bytes of an unpacked chunk: a larger number is damage


@dataclass(frozen=True)
class Topic:
    """What a message is of: its topic's name, type, definition (ros2msg text) and hash."""

    name: str
    msgtype: str
    definition: str
    digest: str = ""
    qos: str = ""


class Found(NamedTuple):
    topic: Topic
    timestamp: int
    data: bytes


def salvage(path: Path, lost: Counter[str]) -> Iterator[Found]:
    """The messages of an mcap or db3 file, in the order in which they lie there. What cannot be read is counted in
    `lost`, by kind. Raises OSError."""
    yield from (_rows if path.suffix == ".db3" else _records)(path, lost)


def _records(path: Path, lost: Counter[str]) -> Iterator[Found]:
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader, at = _Mcap(lost), len(MCAP_MAGIC) if data[:8] == MCAP_MAGIC else 0
        while at + HEADER <= len(data):
            opcode, length = struct.unpack_from("<BQ", data, at)
            if opcode not in KNOWN or length > len(data) - at - HEADER:
                if data[at:at + 8] == MCAP_MAGIC:
                    break
                lost["stretches of bytes that are no record"] += 1
                at = _next_chunk(data, at + 1)
                continue
            if opcode in (SCHEMA, CHANNEL, MESSAGE, CHUNK):
                yield from reader.record(opcode, data[at + HEADER:at + HEADER + length])
            at += HEADER + length


def _next_chunk(data: mmap.mmap, at: int) -> int:
    """Where the next bytes lie that look like a chunk; the end for none."""
    while (at := data.find(b"\x06", at)) >= 0:
        head = data[at:at + HEADER + 40]
        if len(head) < HEADER + 40:
            break
        length, size, name = *struct.unpack_from("<Q", head, 1), *struct.unpack_from("<QxxxxI", head, HEADER + 16)
        if 40 <= length <= len(data) - at - HEADER and size < LARGEST and name in (0, 3, 4):
            return at
        at += 1
    return len(data)


class _Mcap:
    """Records of one file: definitions are remembered, messages come out."""

    def __init__(self, lost: Counter[str]) -> None:
        self._lost = lost
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._topics: dict[int, Topic] = {}

    def record(self, opcode: int, content: bytes) -> Iterator[Found]:
        try:
            found = list(self._chunk(content)) if opcode == CHUNK else self._one(opcode, content)
        except (struct.error, ValueError, EOFError):  # UnicodeDecodeError is one
            self._lost["records that are damaged"] += 1
            return
        yield from found

    def _one(self, opcode: int, content: bytes) -> list[Found]:
        bio = io.BytesIO(content)
        if opcode == SCHEMA:
            (key,) = _unpack("<H", bio)
            name, encoding, text = _text(bio), _text(bio), _text(bio)
            self._schemas[key] = name, encoding, text
        elif opcode == CHANNEL:
            key, schema = _unpack("<HH", bio)
            topic, encoding, metadata = _text(bio), _text(bio), _bytes(bio)
            name, kind, text = self._schemas.get(schema, ("", "", ""))
            if kind == "ros2msg" and encoding == "cdr":
                self._topics[key] = Topic(topic, name, text, "", _entry(metadata, "offered_qos_profiles"))
        elif opcode == MESSAGE:
            key, _, log_time, _ = _unpack("<HIQQ", bio)
            if key in self._topics and log_time < 2**63:
                return [Found(self._topics[key], log_time, bio.read())]
            self._lost["messages of a topic whose definition is lost"] += 1
        return []

    def _chunk(self, content: bytes) -> Iterator[Found]:
        bio = io.BytesIO(content)
        _, _, size, crc = _unpack("<QQQI", bio)
        name, packed = _text(bio), bio.read()[8:]
        raw = self._unpacked(name, packed, size, crc)
        at = 0
        while at + HEADER <= len(raw):
            opcode, length = struct.unpack_from("<BQ", raw, at)
            if opcode not in KNOWN or length > len(raw) - at - HEADER:
                self._lost["chunks that end in damage"] += 1
                return
            if opcode in (SCHEMA, CHANNEL, MESSAGE):
                yield from self._one(opcode, raw[at + HEADER:at + HEADER + length])
            at += HEADER + length

    def _unpacked(self, name: str, packed: bytes, size: int, crc: int) -> bytes:
        """Raises ValueError for what is not, byte for byte, what was written."""
        if name not in DECOMPRESSORS or size > LARGEST:
            raise ValueError(f"no such compression: {name}")
        try:
            raw = DECOMPRESSORS[name](packed, size)
        except Exception as error:  # noqa: BLE001  each decompressor has errors of its own
            raise ValueError(f"a chunk does not unpack: {error}") from None
        if len(raw) != size or (crc and crc32(raw) != crc):
            raise ValueError("a chunk's checksum is wrong")
        return raw


def _unpack(layout: str, bio: io.BytesIO) -> tuple:
    return struct.unpack(layout, bio.read(struct.calcsize(layout)))


def _bytes(bio: io.BytesIO) -> bytes:
    (length,) = _unpack("<I", bio)
    if len(data := bio.read(length)) != length:
        raise EOFError
    return data


def _text(bio: io.BytesIO) -> str:
    return _bytes(bio).decode()


def _entry(metadata: bytes, name: str) -> str:
    """A value of an mcap map of strings."""
    bio = io.BytesIO(metadata)
    while bio.tell() < len(metadata):
        key, value = _text(bio), _text(bio)
        if key == name:
            return value
    return ""


def _rows(path: Path, lost: Counter[str]) -> Iterator[Found]:
    """A file that is no database at all gives nothing."""
    alone = not any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal"))
    options = "mode=ro&immutable=1" if alone else "mode=rw"  # else it is our own copy, see recovery.rolled_back
    database = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{options}", uri=True)
    try:
        topics = _topics(database, lost)
        last = -1
        while True:
            try:
                rows = database.execute("SELECT id, topic_id, timestamp, data FROM messages WHERE id > ? ORDER BY id",
                                        (last,))
                for number, topic, timestamp, data in rows:
                    if number <= last:  # of a damaged tree, whose rows would come again and again
                        raise sqlite3.DatabaseError("rows are not in their order")
                    last = number
                    if topic not in topics or not isinstance(data, bytes) or not isinstance(timestamp, int):
                        lost["messages of a topic whose definition is lost"] += 1
                    else:
                        yield Found(topics[topic], timestamp, data)
                return
            except (sqlite3.Error, OverflowError, UnicodeDecodeError):
                lost["stretches of rows that are damaged"] += 1
                if (last := _row_after(database, last)) is None:
                    return
    finally:
        database.close()


def _row_after(database: sqlite3.Connection, last: int) -> int | None:
    """A number above `last`, behind which a row can be read, trying ever farther ones; None for the end."""
    step = 1
    while step < 2**20:
        try:
            found = database.execute("SELECT id FROM messages WHERE id > ? AND data IS NOT NULL ORDER BY id LIMIT 1",
                                     (last + step,)).fetchone()
            return None if found is None else max(last + step, found[0] - 1)
        except (sqlite3.Error, OverflowError):
            step *= 2
    return None


def _topics(database: sqlite3.Connection, lost: Counter[str]) -> dict[int, Topic]:
    try:
        texts = {kind: (text, digest) for kind, encoding, text, digest in database.execute(
            "SELECT topic_type, encoding, encoded_message_definition, type_description_hash FROM message_definitions")
            if encoding == "ros2msg"}
    except (sqlite3.Error, UnicodeDecodeError):
        texts = {}  # older bags have no such table
    try:
        return {number: Topic(name, kind, *texts.get(kind, ("", "")), qos) for number, name, kind, qos in
                database.execute("SELECT id, name, type, offered_qos_profiles FROM topics")
                if isinstance(name, str) and isinstance(kind, str)}
    except (sqlite3.Error, UnicodeDecodeError):
        lost["databases whose topics are lost"] += 1
        return {}
