"""Writing ROS 2 bags (rosbag2 version 9, mcap or sqlite3) that survive a full disk and a killed writer.

The rule behind everything here: after each flush the bag on disk is a complete bag. An mcap file always ends in an
empty footer that the next chunk overwrites, sqlite3 commits, and metadata.yaml is there from the start. So a full disk
costs what was written since the last flush; a killed writer also costs index and exact counts, which `recovery`
restores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
import os
from pathlib import Path
import sqlite3
import struct
from time import monotonic
from zlib import crc32

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from rosbags.typesys import Stores, get_typestore

FLUSH_PERIOD = 1.0  # seconds: about what a killed writer loses
FLUSH_BYTES = 4 * 2**20
METADATA_PERIOD = 3.0  # seconds between two rewritings of metadata.yaml
BALLAST = "reserved_for_closing"  # a file that keeps the space which index and metadata need when the disk is full
BALLAST_STEP = 2**20  # bytes; indexing takes some 200 bytes for each MB of data, the ballast grows with the bag
INDEXED_BY_STEP = 2**31  # bytes of data for which one ballast step is plenty
DISK_ERRORS = (OSError, sqlite3.Error)
NEVER = 2**63 - 1  # the start of a bag without messages, as rosbag2 writes it

MCAP_MAGIC = b"\x89MCAP0\r\n"
DATA_END = 0x0F
CHUNK_CRC = 9 + 24  # where the checksum lies in a chunk record
# DataEnd, a footer without a summary, magic: with it a file is complete, and readers scan it instead of using an index
MCAP_TRAILER = struct.pack("<BQI", DATA_END, 4, 0) + struct.pack("<BQQQI", 0x02, 20, 0, 0, 0) + MCAP_MAGIC


@dataclass(frozen=True)
class Progress:
    """What the bag on disk holds: messages by connection id, first and last timestamp (ns)."""

    counts: dict[int, int] = field(default_factory=dict)
    first: int = NEVER
    last: int = 0


class FlushedMcap(McapWriter):
    """An mcap file that is complete after every chunk."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        self.saved = Progress()
        self.end = self.bio.tell()  # where the next chunk goes: behind the last whole one, over the trailer
        self.bio.write(MCAP_TRAILER)
        self.bio.flush()

    def close_chunk(self) -> None:
        if not self.chunk.msgs:
            self.chunk.message_start_time = 0  # as the format asks of a chunk with definitions only
        checksum = crc32(self.chunk.bio.getvalue())
        self.bio.seek(self.end)
        super().close_chunk()
        end = self.bio.tell()
        self.bio.seek(self.end + CHUNK_CRC)  # rosbags leaves it 0, and damage would be read as pictures
        self.bio.write(struct.pack("<I", checksum))
        self.bio.seek(end)
        self.bio.write(MCAP_TRAILER)
        self.bio.flush()
        self.end = end
        self.saved = Progress(dict(self.channel_stats), self.message_start_time, self.message_end_time)

    def flush(self) -> None:
        if self.chunk.bio.tell():
            self.close_chunk()

    def rollback(self) -> Progress:
        """Cut the file back to the last flush."""
        self.bio.raw.close()  # drops what is still buffered: flushing it would fail again
        self.bio = self.path.open("r+b")
        self.bio.truncate(self.end)
        self.bio.seek(self.end)
        self.bio.write(MCAP_TRAILER)
        self.bio.flush()
        self.chunk = PendingChunk(NEVER, 0, BytesIO(), defaultdict(list))
        self.chunks = [chunk for chunk in self.chunks if chunk_start(chunk) < self.end]
        self.channel_stats.update({id: self.saved.counts.get(id, 0) for id in self.channel_stats})
        self.message_start_time, self.message_end_time = self.saved.first, self.saved.last
        return self.saved

    def close(self, version: int, metadata: str) -> None:
        self.flush()
        self.bio.seek(self.end)
        super().close(version, metadata)


def chunk_start(chunk_index: BytesIO) -> int:
    """The file position in an mcap chunk index record: its third number."""
    return int.from_bytes(chunk_index.getbuffer()[16:24], "little")


class FlushedSqlite3(Sqlite3Writer):
    """An sqlite3 file whose messages are committed at every flush, and never written before."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        self.conn.close()
        self.conn = sqlite3.connect(self.path, check_same_thread=False)  # opened here, written from a recorder's thread
        self.conn.execute("PRAGMA cache_spill=OFF")
        self.cursor = self.conn.cursor()

    def flush(self) -> None:
        self.conn.commit()

    def rollback(self) -> Progress:
        """Forget what was not committed."""
        self.conn.rollback()
        counts = dict(self.conn.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        first, last = self.conn.execute("SELECT min(timestamp), max(timestamp) FROM messages").fetchone()
        return Progress(counts, first, last) if counts else Progress()


class MetadataOnly:
    """Stands in for the storage while metadata.yaml is written of a bag that stays open."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def close(self, version: int, metadata: str) -> None:
        """The storage stays open."""


class BagWriter(Writer):
    """A rosbags Writer whose bag is readable at any time. A context manager.

    `write` and `close` raise OSError or sqlite3.Error when the disk fails; `abort` then keeps all that was flushed.
    """

    STORAGE_PLUGINS = {StoragePlugin.MCAP: FlushedMcap, StoragePlugin.SQLITE3: FlushedSqlite3}

    def __init__(self, path: Path | str, storage: str = "mcap") -> None:
        """Raises ValueError for an unknown storage and FileExistsError when there is something at `path`."""
        names = [plugin.name.lower() for plugin in self.STORAGE_PLUGINS]
        if storage not in names:
            raise ValueError(f"bag storage is one of {', '.join(names)}, got {storage!r}")
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"bag {path} exists and is never overwritten: name another folder or remove it")
        super().__init__(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
        self.typestore = get_typestore(Stores.ROS2_JAZZY)
        self._unflushed = 0
        self._written = 0
        self._flushed_at = self._metadata_at = monotonic()

    def open(self) -> None:
        """Create the folder (and missing parents). Raises OSError."""
        try:
            super().open()
        except sqlite3.Error as error:
            raise OSError(f"cannot create bag {self.path}: {error}") from error
        self._grow_ballast()
        self._write_metadata()

    def add_topic(self, topic: str, msgtype: str, offered_qos: Sequence[Qos] = ()) -> Connection:
        """Announce a topic, its type as "package/msg/Name". Raises ValueError for a type without a known definition."""
        self.check_type(msgtype)
        connection = self.add_connection(topic, msgtype, typestore=self.typestore, offered_qos_profiles=offered_qos)
        self.storage.flush()
        self._write_metadata()
        return connection

    def check_type(self, msgtype: str) -> None:
        """Raise ValueError unless the definition of `msgtype` is known."""
        if msgtype not in self.typestore.fielddefs:
            raise ValueError(f"message type {msgtype!r} has no known definition; expected a ROS 2 Jazzy type such as "
                             f"sensor_msgs/msg/Image")

    @property
    def size(self) -> int:
        """Bytes of the bag's files on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir() if file.name != BALLAST)

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        """Append serialised (CDR) bytes at `timestamp` (ns); flushes every second and every few MB."""
        super().write(connection, timestamp, data)
        self._unflushed += len(data)
        if self._unflushed > FLUSH_BYTES or monotonic() - self._flushed_at > FLUSH_PERIOD:
            self.flush()

    def flush(self) -> None:
        """Make the bag on disk complete. Costs nothing when there is nothing new."""
        if not self._unflushed:
            return
        self.storage.flush()
        self._written += self._unflushed
        self._unflushed, self._flushed_at = 0, monotonic()
        if self._flushed_at - self._metadata_at > METADATA_PERIOD:
            self._grow_ballast()
            self._write_metadata()

    def close(self) -> None:
        """Write index and metadata. After a disk error, which is raised, the bag holds what was flushed before."""
        self._ballast.unlink(missing_ok=True)
        try:
            super().close()
        except DISK_ERRORS:
            self.abort()
            raise

    def abort(self) -> None:
        """Close after a failed write: keep what was flushed, with index and exact counts if the disk has room."""
        if self.storage is None:
            return
        self._ballast.unlink(missing_ok=True)
        self._roll_back()
        try:
            super().close()
        except DISK_ERRORS:  # not even room for the index: readers scan the file instead
            if self.storage is not None:
                self._roll_back()
                super().abort()
            self.metapath.with_suffix(".yaml.tmp").unlink(missing_ok=True)  # metadata.yaml is that of the last flush

    def _roll_back(self) -> None:
        saved = self.storage.rollback()
        self.counts = {connection.id: saved.counts.get(connection.id, 0) for connection in self.connections}
        self.min_timestamp, self.max_timestamp = saved.first, saved.last

    @property
    def _ballast(self) -> Path:
        return self.path / BALLAST

    def _grow_ballast(self) -> None:
        wanted = BALLAST_STEP * (1 + self._written // INDEXED_BY_STEP)
        with self._ballast.open("ab") as ballast:
            if ballast.tell() < wanted:
                ballast.write(os.urandom(wanted - ballast.tell()))  # bytes that no file system compresses away

    def _write_metadata(self) -> None:
        """Replace metadata.yaml by the counts of now."""
        with self._storage_kept_open():
            super().close()
        self._metadata_at = monotonic()

    @contextmanager
    def _storage_kept_open(self):
        storage, self.storage = self.storage, MetadataOnly(self.storage.path)
        try:
            yield
        finally:
            self.storage = storage
