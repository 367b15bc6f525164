"""Copying what is readable in a bag whose writer was killed into a new bag. The damaged one is only ever read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BufferedReader, RawIOBase
import os
from pathlib import Path
import shutil
import sqlite3
import struct
from tempfile import TemporaryDirectory

from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader

from worldfm_ros.bags.writer import BALLAST, DATA_END, MCAP_MAGIC, MCAP_TRAILER, BagWriter


class UnclosedMcap(RawIOBase):
    """An mcap file for reading, as if it had been closed behind its last whole record. Nothing is written."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._file = path.open("rb", buffering=0)
        self._end, self._trailer = end_of_records(path)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._end + len(self._trailer))[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        if self._position >= self._end:
            start = self._position - self._end
            data = self._trailer[start:start + len(buffer)]
        else:
            self._file.seek(self._position)
            data = self._file.read(min(len(buffer), self._end - self._position))
        buffer[:len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def end_of_records(path: Path) -> tuple[int, bytes]:
    """Where the last whole record of an mcap file ends, and what has to follow there: nothing if it was closed."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - len(MCAP_TRAILER)))
        tail = file.read()
        if tail.endswith(MCAP_MAGIC) and any(tail[-28:-20]):  # the footer names a summary: the file was closed
            return size, b""
        end = file.seek(len(MCAP_MAGIC))
        while len(header := file.read(9)) == 9:
            opcode, length = struct.unpack("<BQ", header)
            if opcode in (0, DATA_END) or file.tell() + length > size:
                break
            end = file.seek(length, os.SEEK_CUR)
    return end, MCAP_TRAILER


class UnclosedMcapReader(McapReader):
    """Reads an mcap file whose writer was killed."""

    def open(self) -> None:
        """Raises ReaderError or OSError."""
        self.bio = BufferedReader(UnclosedMcap(self.path))
        self._open()


class UnclosedReader(DirectoryReader):
    """Reads a bag whose writer was killed, and changes nothing in it."""

    STORAGE_PLUGINS = {**DirectoryReader.STORAGE_PLUGINS, "mcap": UnclosedMcapReader}


def recover(source: Path, target: Path) -> Counter[str]:
    """Copy all that is readable in a bag whose writer was killed to a new bag with index and exact counts.

    The source stays as it is, byte for byte. Returns messages by topic. Raises FileNotFoundError when source is no bag,
    FileExistsError when there is something at target, ValueError when source is damaged in another way: what was
    readable before that is at target.
    """
    if not (source / "metadata.yaml").exists():
        raise FileNotFoundError(f"{source} is no bag folder: it has no metadata.yaml")
    writer = BagWriter(target, "mcap" if any(source.glob("*.mcap")) else "sqlite3")
    with rolled_back(source, target.absolute().parent) as bag:
        reader = UnclosedReader(bag)
        try:
            reader.open()
            with closing(reader), writer:
                return copy_messages(reader, writer)
        except ReaderError as error:
            kept = f"what could be read before is in {target}" if target.exists() else "nothing is recovered"
            raise ValueError(f"{source} is damaged: {' '.join(str(error).split())}; {kept}") from None


def copy_messages(reader: UnclosedReader, writer: BagWriter) -> Counter[str]:
    """Returns messages by topic."""
    counts: Counter[str] = Counter()
    defined = [connection for connection in reader.connections if connection.msgdef.data]
    copies = {c.id: writer.add_connection(c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest,
                                          offered_qos_profiles=c.ext.offered_qos_profiles) for c in defined}
    for connection, timestamp, data in reader.messages(defined):
        writer.write(copies[connection.id], timestamp, data)
        counts[connection.topic] += 1
    return counts


@contextmanager
def rolled_back(source: Path, scratch: Path) -> Iterator[Path]:
    """The bag; or, when its sqlite3 files have a half-written commit, a copy without that in the folder `scratch`."""
    if not any(source.glob("*.db3-journal")) and not any(source.glob("*.db3-wal")):
        yield source
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix=".recover.") as temporary:
        copy = Path(shutil.copytree(source, Path(temporary) / "bag", ignore=shutil.ignore_patterns(BALLAST)))
        for file in copy.glob("*.db3"):
            database = sqlite3.connect(file)
            database.execute("SELECT count(*) FROM topics").fetchone()  # reading rolls a half-written commit back
            database.close()
        yield copy
