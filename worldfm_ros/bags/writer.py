"""Writing ROS 2 bags (rosbag2 version 9, mcap or sqlite3) that survive a full disk and a killed writer.

The rule behind everything here: after each flush the bag on disk is a complete bag. An mcap file always ends in an
empty footer that the next chunk overwrites, sqlite3 commits, and metadata.yaml is there from the start. So a full disk
costs what was written since the last flush; a killed writer also costs index and exact counts, which `recovery`
restores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import sqlite3
from time import monotonic

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from worldfm_ros.bags.checksums import Sums
from worldfm_ros.bags.splitting import NEVER, BagFile, Split, as_yaml, bag_metadata
from worldfm_ros.bags.storages import FlushedMcap, FlushedSqlite3

FLUSH_PERIOD = 1.0  # seconds: about what a killed writer loses
FLUSH_BYTES = 4 * 2**20
METADATA_PERIOD = 3.0  # seconds between two rewritings of metadata.yaml
BALLAST = "reserved_for_closing"  # a file that keeps the space which index and metadata need when the disk is full
BALLAST_STEP = 2**20  # bytes; indexing takes some 200 bytes for each MB of data, the ballast grows with the bag
INDEXED_BY_STEP = 2**31  # bytes of data for which one ballast step is plenty
DISK_ERRORS = (OSError, sqlite3.Error)
COMPRESSIONS = ("none", "zstd")  # of an mcap file's chunks


class BagWriter(Writer):
    """A rosbags Writer whose bag is readable at any time. A context manager.

    `write` and `close` raise OSError or sqlite3.Error when the disk fails; `abort` then keeps all that was flushed.
    """

    STORAGE_PLUGINS = {StoragePlugin.MCAP: FlushedMcap, StoragePlugin.SQLITE3: FlushedSqlite3}

    def __init__(self, path: Path | str, storage: str = "mcap", compression: str = "none",
                 split: Split | None = None, notes: Mapping[str, str] | None = None,
                 flush_period: float = FLUSH_PERIOD) -> None:
        """`compression` is that of mcap's chunks, zstd or none; `notes`: what else the custom data of the metadata
        say; `flush_period`: seconds, and with math.inf the files' bytes follow from the messages alone.

        Raises ValueError for an unknown storage or compression and FileExistsError when there is something at `path`.
        """
        names = [plugin.name.lower() for plugin in self.STORAGE_PLUGINS]
        if storage not in names:
            raise ValueError(f"bag storage is one of {', '.join(names)}, got {storage!r}")
        if compression not in COMPRESSIONS or (compression != "none" and storage != "mcap"):
            raise ValueError(f"bag compression is one of {', '.join(COMPRESSIONS)}, and none for {names[1]}; "
                             f"got {compression!r} for {storage}")
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"bag {path} exists and is never overwritten: name another folder or remove it")
        super().__init__(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
        if compression != "none":
            self.compression_mode = CompressionMode.STORAGE
        self.typestore = get_typestore(Stores.ROS2_JAZZY)
        self._split = split or Split()
        self._flush_bytes = min(FLUSH_BYTES, self._split.size // 8 or FLUSH_BYTES)  # others have no size yet
        self._finished: list[BagFile] = []
        self._first_in_file, self._last_in_file = NEVER, 0  # timestamps in the file that is open
        self._sums = Sums()
        self._notes, self._flush_period = dict(notes or {}), flush_period
        self.custom_data = dict(self._notes)
        self._unflushed = 0
        self._written = 0
        self._flushed_at = self._metadata_at = monotonic()

    def open(self) -> None:
        """Create the folder (and missing parents). Raises OSError."""
        try:
            super().open()
        except sqlite3.Error as error:
            raise OSError(f"cannot create bag {self.path}: {error}") from error
        if self._split != Split():
            self._name_file()
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
        if self._split != Split():
            self._split_if_due(timestamp)
        super().write(connection, timestamp, data)
        self._first_in_file = min(timestamp, self._first_in_file)
        self._last_in_file = max(timestamp, self._last_in_file)
        self._sums.of[connection.topic].add(timestamp, data)
        self._unflushed += len(data)
        if self._unflushed > self._flush_bytes or monotonic() - self._flushed_at > self._flush_period:
            self.flush()

    def flush(self) -> None:
        """Make the bag on disk complete. Costs nothing when there is nothing new."""
        if not self._unflushed:
            return
        self.storage.flush()
        self.custom_data = self._notes | self._sums.texts()  # of what is on the disk, and stays there
        self._written += self._unflushed
        self._unflushed, self._flushed_at = 0, monotonic()
        if self._flushed_at - self._metadata_at > METADATA_PERIOD:
            self._grow_ballast()
            self._write_metadata()

    def close(self) -> None:
        """Write index and metadata. After a disk error, which is raised, the bag holds what was flushed before."""
        self._ballast.unlink(missing_ok=True)
        flushed, self.custom_data = self.custom_data, self._notes | self._sums.texts()
        try:
            self._close()
        except DISK_ERRORS:
            self.custom_data = flushed
            self.abort()
            raise

    def abort(self) -> None:
        """Close after a failed write: keep what was flushed, with index and exact counts if the disk has room."""
        if self.storage is None:
            return
        self._ballast.unlink(missing_ok=True)
        self._roll_back()
        try:
            self._close()
        except DISK_ERRORS:  # not even room for the index: readers scan the file instead
            if self.storage is not None:
                self._roll_back()
                super().abort()
            self.metapath.with_suffix(".yaml.tmp").unlink(missing_ok=True)  # metadata.yaml is that of the last flush

    def _roll_back(self) -> None:
        files = [*self._finished, self.storage.rollback()]
        self.counts = {connection.id: sum(file.counts.get(connection.id, 0) for file in files)
                       for connection in self.connections}
        self.min_timestamp, self.max_timestamp = min(file.first for file in files), max(file.last for file in files)
        self._first_in_file, self._last_in_file = files[-1].first, files[-1].last

    def _close(self) -> None:
        """Close the file that is open, and tell of all in metadata.yaml. Raises what the disk raises."""
        content = self._metadata()
        self.storage.close(self.version, as_yaml(content).strip())
        self.storage = None
        self._replace_metadata(content)

    def _name_file(self) -> None:
        """As rosbag2 names the files of a bag that is split."""
        path = self.storage.path
        self.storage.rename(f"{self.path.name}_{len(self._finished)}{path.suffix}")

    def _split_if_due(self, timestamp: int) -> None:
        """Go on in another file, when this one is large or long enough."""
        start = self._first_in_file
        size = self.storage.path.stat().st_size if self._split.size else 0
        if start == NEVER or not self._split.is_due(size, timestamp - start):
            return
        self.flush()
        file, announced = self._file(), self.storage.announced
        self.storage.close(self.version, as_yaml(self._metadata()).strip())
        self._finished.append(file)
        self.storage = self.STORAGE_PLUGINS[self.storage_plugin](self.path, self.compression_mode)
        self._name_file()
        self._first_in_file, self._last_in_file = NEVER, 0
        types: set[str] = set()
        for connection, offered_qos in announced:
            if connection.msgtype not in types:
                self.storage.add_msgtype(connection)
                types.add(connection.msgtype)
            self.storage.add_connection(connection, offered_qos)
        self.storage.flush()
        self._write_metadata()

    def _file(self) -> BagFile:
        """The file that is open, with all that was written to it."""
        before = self._finished
        counts = {id: count - sum(file.counts.get(id, 0) for file in before) for id, count in self.counts.items()}
        return BagFile(self.storage.path.name, counts, self._first_in_file, self._last_in_file)

    def _metadata(self) -> dict[str, object]:
        files = [*self._finished, self._file()]
        return bag_metadata(files, self.connections, self.storage_plugin.name.lower(), self.version,
                            self.custom_data)

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
        self._replace_metadata(self._metadata())
        self._metadata_at = monotonic()

    def _replace_metadata(self, content: dict[str, object]) -> None:
        temporary = self.metapath.with_suffix(".yaml.tmp")
        temporary.write_text(as_yaml({"rosbag2_bagfile_information": content}), "utf8")
        temporary.replace(self.metapath)
