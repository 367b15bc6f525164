"""The files of a bag that is being written, mcap and sqlite3: each is complete after every flush."""

from __future__ import annotations

from collections import defaultdict
from io import BytesIO
from pathlib import Path
import sqlite3
import struct
import sys
from zlib import crc32

from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer

from worldfm_ros.bags.splitting import NEVER, BagFile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_LEVEL = 1  # the fastest: a recorder must keep up; images get no smaller with the others
MCAP_MAGIC = b"\x89MCAP0\r\n"
DATA_END = 0x0F
CHUNK_CRC = 9 + 24  # where the checksum lies in a chunk record
# DataEnd, a footer without a summary, magic: with it a file is complete, and readers scan it instead of using an index
MCAP_TRAILER = struct.pack("<BQI", DATA_END, 4, 0) + struct.pack("<BQQQI", 0x02, 20, 0, 0, 0) + MCAP_MAGIC


class FlushedMcap(McapWriter):
    """An mcap file that is complete after every chunk."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        if self.compression:
            self.compressor = lambda data: zstd.compress(data, level=ZSTD_LEVEL)
        self.announced: list[tuple[Connection, str]] = []
        self.saved = BagFile(self.path.name)
        self.end = self.bio.tell()  # where the next chunk goes: behind the last whole one, over the trailer
        self.bio.write(MCAP_TRAILER)
        self.bio.flush()

    def rename(self, name: str) -> None:
        """Give the file another name in its folder."""
        self.path = self.path.rename(self.path.with_name(name))

    def add_connection(self, connection: Connection, offered_qos_profiles: str) -> None:
        super().add_connection(connection, offered_qos_profiles)
        self.announced.append((connection, offered_qos_profiles))

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
        self.saved = BagFile("", dict(self.channel_stats), self.message_start_time, self.message_end_time)

    def flush(self) -> None:
        if self.chunk.bio.tell():
            self.close_chunk()

    def rollback(self) -> BagFile:
        """Cut the file back to the last flush. Returns what it holds."""
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
        self.announced: list[tuple[Connection, str]] = []
        self.rename(self.path.name)

    def rename(self, name: str) -> None:
        """Give the file another name in its folder."""
        self.conn.close()
        self.path = self.path.rename(self.path.with_name(name))
        self.conn = sqlite3.connect(self.path, check_same_thread=False)  # opened here, written from a recorder's thread
        self.conn.execute("PRAGMA cache_spill=OFF")
        self.cursor = self.conn.cursor()

    def add_connection(self, connection: Connection, offered_qos_profiles: str) -> None:
        super().add_connection(connection, offered_qos_profiles)
        self.announced.append((connection, offered_qos_profiles))

    def flush(self) -> None:
        self.conn.commit()

    def rollback(self) -> BagFile:
        """Forget what was not committed. Returns what the file holds."""
        self.conn.rollback()
        counts = dict(self.conn.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        first, last = self.conn.execute("SELECT min(timestamp), max(timestamp) FROM messages").fetchone()
        return BagFile("", counts, first, last) if counts else BagFile("")
