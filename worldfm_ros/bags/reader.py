"""Reading bags of ROS 1 and 2, any storage: what rosbags reads, with its errors in our words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
import os
from pathlib import Path
from typing import Any
from weakref import finalize

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from worldfm_ros.bags.checksums import Expected, chunks_have_checksums


class BadMessage(ValueError):
    """A message whose bytes are none of its type."""


class Bag:
    """A bag that is open: its connections, and its messages in the order in which they were recorded."""

    def __init__(self, reader: AnyReader, path: Path) -> None:
        self._reader, self.path = reader, path
        self.connections: list[Connection] = reader.connections
        self._storages = [storage for one in reader.readers for outer in [getattr(one, "storage", None)]
                          for storage in getattr(outer, "storages", [outer])]  # rosbags' readers of the files

    def expected(self) -> Expected:
        """What the bag's metadata announce, to be compared with what is read of it."""
        metadata = [getattr(getattr(one, "storage", None), "metadata", None) for one in self._reader.readers]
        return Expected(getattr(metadata[0], "custom", None) if metadata else None)

    def has_checksums(self) -> bool:
        """Whether damage to any message is found, because the storage itself has a checksum for it."""
        files = [getattr(storage, "path", None) for storage in self._storages]
        return all(file is not None and file.suffix == ".mcap" and chunks_have_checksums(file) for file in files)

    def messages(self, connections: Iterable[Connection] = (), start: int | None = None,
                 stop: int | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, time of recording, bytes). Raises ValueError where the bag is damaged."""
        messages = self._reader.messages(list(connections), start, stop)
        while (message := _in_our_words(lambda: next(messages, None), self.path)) is not None:
            yield message

    def deserialize(self, data: bytes, msgtype: str) -> Any:
        """Raises BadMessage."""
        try:
            return self._reader.deserialize(data, msgtype)
        except Exception as error:  # noqa: BLE001  damaged bytes raise anything in rosbags
            raise BadMessage(f"{self.path}: a {msgtype} that cannot be read: {type(error).__name__} {error}") from None

    def first(self, connection: Connection) -> Any:
        """The first message of a connection, None when there is none that can be read."""
        for _, _, data in self.messages([connection]):
            try:
                return self.deserialize(data, connection.msgtype)
            except BadMessage:
                return None
        return None


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """The bag at a path, open. Raises FileNotFoundError, or ValueError for what is no bag or is damaged."""
    path = usual_path(path)
    reader = _in_our_words(lambda: AnyReader([path], default_typestore=_typestore()), path)
    _in_our_words(reader.open, path)
    try:
        yield Bag(reader, path)
    finally:
        reader.close()


class KeptOpen:
    """A bag that is opened once in each process that reads it: a packed one is unpacked for that. Can be pickled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, ExitStack, Bag] | None = None
        self._inherited: list = []  # what a parent process has open: to let go of it would remove its unpacked files

    def bag(self) -> Bag:
        """The open bag. Raises as open_bag does."""
        if self._open is None or self._open[0] != os.getpid():  # an open file is not shared with a forked process
            self._inherited.append(self._open)
            stack = ExitStack()
            self._open = os.getpid(), stack, stack.enter_context(open_bag(self.path))
            finalize(self, _close, os.getpid(), stack)
        return self._open[2]

    def __getstate__(self) -> dict:
        return {"path": self.path, "_open": None, "_inherited": []}


def _close(process: int, stack: ExitStack) -> None:
    if os.getpid() == process:
        stack.close()


def usual_path(path: Path) -> Path:
    """The bag's folder, or the one file of a folder that has no metadata.yaml. Raises FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    if not path.is_dir() or (path / "metadata.yaml").exists():
        return path
    files = bag_files(path)
    if len(files) != 1:
        raise FileNotFoundError(f"{path} is no bag folder that can be read: it has no metadata.yaml and {len(files)} "
                                f"bag files; {ADVICE.format(path=path)}")
    return files[0]


def bag_files(folder: Path) -> list[Path]:
    """The storage files of a bag's folder, in order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3") and path.is_file())


ADVICE = "`worldfm bag recover {path} NEW` copies what can be read (or `ros2 bag reindex {path}`)"


def _in_our_words(call: Callable[[], Any], path: Path) -> Any:
    """Its result. Raises ValueError for whatever rosbags, its decompressors and databases raise about a bag's bytes."""
    try:
        return call()
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  damaged bytes raise anything: struct, zstd, lz4, apsw, assert, unicode
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is no bag that can be read, or is damaged: {said}; "
                         f"{ADVICE.format(path=path)}") from None


def nanoseconds(stamp: Any) -> int:
    """Of a builtin_interfaces/Time."""
    return stamp.sec * 10**9 + stamp.nanosec


def counted(reasons: Counter[str]) -> str:
    """Counts by reason as one line."""
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


@cache
def _typestore() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)
