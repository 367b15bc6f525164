"""Copying what is readable in a damaged bag into a new bag. The damaged one is only ever read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
import shutil
import sqlite3
import sys
from tempfile import TemporaryDirectory

from rosbags.interfaces import Connection
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
import yaml

from worldfm_ros.bags.checksums import Expected, chunks_have_checksums
from worldfm_ros.bags.reader import bag_files
from worldfm_ros.bags.salvage import Topic, salvage
from worldfm_ros.bags.writer import BALLAST, BagWriter

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKED = b"\x28\xb5\x2f\xfd"  # how zstd's data begin; a serialised message begins with 0


def recover(source: Path, target: Path, lost: Counter[str] | None = None,
            notes: list[str] | None = None) -> Counter[str]:
    """Copy all that is readable in a damaged bag to a new bag with index and exact counts.

    source: a bag folder, with or without metadata.yaml, or one storage file; it stays as it is, byte for byte. What
    cannot be read is counted in `lost`, by kind; what else is to be known of the copy is added to `notes`. Returns
    messages by topic. Raises FileNotFoundError when source is no bag, FileExistsError when there is something at
    target, ValueError when nothing can be read.
    """
    lost = Counter() if lost is None else lost
    files = bag_files(source) if source.is_dir() else [source] if source.is_file() else []
    packed = sorted(source.glob("*.zstd")) if source.is_dir() else []
    if not files and not packed:
        raise FileNotFoundError(f"{source} is no bag: it has no .mcap or .db3 file")
    first = (files or [path.with_suffix("") for path in packed])[0]
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    writer = BagWriter(target, "sqlite3" if first.suffix == ".db3" else "mcap")
    with rolled_back(source, target.absolute().parent) as bag, TemporaryDirectory(
            dir=target.absolute().parent, prefix=".recover.") as scratch:
        readable = bag_files(bag) if bag.is_dir() else [bag]
        readable += [path for one in packed if (path := unpacked(one, Path(scratch), lost)) is not None]
        copier = Copier(writer, lost, Expected(custom_data(source)))
        unchecked = not all(file.suffix == ".mcap" and chunks_have_checksums(file) for file in readable)
        try:
            for file in readable:
                copier.copy(file)
        finally:
            copier.close()
    if not copier.counts:
        raise ValueError(f"{source} is damaged: nothing can be read in it"
                         + "".join(f"; {count} {kind}" for kind, count in lost.items()))
    for topic in copier.wrong():
        lost[f"topics with a damaged message among those that were copied, by its checksum: {topic}"] += 1
    if unchecked and notes is not None and not copier.counts.keys() <= copier.expected.announced.keys():
        notes.append(f"{source} has no checksums: damaged pictures may have been copied")
    return copier.counts


def custom_data(source: Path) -> object:
    """Of a bag's metadata.yaml; None where there is none that can be read."""
    try:
        return yaml.safe_load((source / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None


def unpacked(file: Path, folder: Path, lost: Counter[str]) -> Path | None:
    """A storage file that was packed with zstd, unpacked as far as that is possible."""
    out = folder / file.stem
    with file.open("rb") as data, out.open("wb") as written:
        try:
            with zstd.open(data, "rb") as stream:
                shutil.copyfileobj(stream, written, 2**16)
        except (zstd.ZstdError, EOFError):
            lost["packed files that end in damage"] += 1
    return out


class Copier:
    """Copies messages to a new bag, which is created with the first one."""

    def __init__(self, writer: BagWriter, lost: Counter[str], expected: Expected) -> None:
        self.counts: Counter[str] = Counter()
        self._writer, self._lost, self.expected = writer, lost, expected
        self._known: dict[tuple[str, str], Connection | None] = {}
        self._opened = False

    def copy(self, file: Path) -> None:
        """Raises OSError."""
        for topic, timestamp, data in salvage(file, self._lost):
            connection = self._connection(topic)
            whole = _whole(data) if connection is not None else None
            if whole is None:
                self._lost["messages without a definition, or damaged"] += 1
                continue
            self._writer.write(connection, timestamp, whole)
            self.expected.read(topic.name, timestamp, whole)
            self.counts[topic.name] += 1

    def wrong(self) -> list[str]:
        """The topics that are not what was written, and yet of as many messages."""
        return [topic for topic in self.expected.wrong(set(self.counts))
                if self.counts[topic] >= self.expected.announced[topic][0]]

    def close(self) -> None:
        """Raises OSError."""
        if self._opened:
            self._writer.close()

    def _connection(self, topic: Topic) -> Connection | None:
        key = topic.name, topic.msgtype
        if key not in self._known:
            self._known[key] = self._added(topic)
        return self._known[key]

    def _added(self, topic: Topic) -> Connection | None:
        defined = _definition(topic)
        if defined is None:
            return None
        if not self._opened:
            self._writer.open()
            self._opened = True
        text, digest = defined
        try:
            qos = parse_qos(topic.qos)
        except Exception:  # noqa: BLE001  damaged text raises anything; a bag without QoS is whole
            qos = []
        return self._writer.add_connection(topic.name, topic.msgtype, msgdef=text, rihs01=digest,
                                           offered_qos_profiles=qos)


def _definition(topic: Topic) -> tuple[str, str] | None:
    """The definition of a topic's type and its hash: the bag's own, else ROS 2's; None for a type that is not known."""
    store = get_typestore(Stores.ROS2_JAZZY)
    try:
        if topic.definition:
            own = get_typestore(Stores.EMPTY)
            own.register(get_types_from_msg(topic.definition, topic.msgtype))
            return topic.definition, own.hash_rihs01(topic.msgtype)
        return store.generate_msgdef(topic.msgtype, ros_version=2)[0], store.hash_rihs01(topic.msgtype)
    except Exception:  # noqa: BLE001  damaged definitions raise anything in rosbags
        return None


def _whole(data: bytes) -> bytes | None:
    """A message's bytes, unpacked where each message was packed; None for damage."""
    if data[:4] != PACKED:
        return data
    try:
        return zstd.decompress(data)
    except zstd.ZstdError:
        return None


@contextmanager
def rolled_back(source: Path, scratch: Path) -> Iterator[Path]:
    """The bag; or, when its sqlite3 files have a half-written commit, a copy without that in the folder `scratch`."""
    if not any(source.glob("*.db3-journal")) and not any(source.glob("*.db3-wal")):
        yield source
        return
    with TemporaryDirectory(dir=scratch, prefix=".recover.") as temporary:
        copy = Path(shutil.copytree(source, Path(temporary) / "bag", ignore=shutil.ignore_patterns(BALLAST)))
        for file in copy.glob("*.db3"):
            with closing(sqlite3.connect(file)) as database, suppress(sqlite3.Error):  # what is damaged is found later
                database.execute("SELECT count(*) FROM topics").fetchone()  # reading rolls a half-written commit back
        yield copy
