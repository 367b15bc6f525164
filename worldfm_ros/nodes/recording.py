"""Messages on their way into a bag: a thread that writes, and a queue that is bounded. No ROS here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
import threading
from time import monotonic

from rosbags.interfaces import Connection, Qos

from worldfm_ros.bags.writer import DISK_ERRORS, FLUSH_PERIOD, BagWriter

QUEUE_BYTES = 256 * 2**20  # what may wait for a slow disk
DRAIN_TIME = 1.5  # seconds for what waits for the disk at the end


@dataclass(frozen=True)
class Topic:
    """A topic by its full name, and its type as "package/msg/Name"."""

    name: str
    type: str


class Recording:
    """Writes to a bag from a thread of its own, so that a slow disk does not block the caller.

    Stamps in the bag never decrease. When more than `queue_bytes` wait for the disk, messages are lost and counted.
    After `close`, `written` holds what is in the bag, by topic, and `lost` all else that was received.
    """

    def __init__(self, bag: BagWriter, queue_bytes: int = QUEUE_BYTES,
                 on_written: Callable[[str, int], None] = lambda topic, header_stamp: None) -> None:
        """`on_written` is called in the writing thread, for every message that is in the bag."""
        self.received: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.error: Exception | None = None
        self._bag = bag
        self._on_written = on_written
        self._size = self._room = queue_bytes
        self._queue: deque[tuple[str, int, bytes, int]] = deque()
        self._changed = threading.Condition()
        self._topics: dict[str, tuple[Topic, list[Qos]]] = {}
        self._connections: dict[str, Connection] = {}
        self.newest = 0  # stamp, ns
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._write_all, name="bag writer", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """False once the disk has failed (or the bag is closed)."""
        return self._thread.is_alive()

    def add_topic(self, topic: Topic, offered_qos: list[Qos]) -> None:
        """Call before the first message of the topic."""
        self._topics[topic.name] = topic, offered_qos

    @property
    def backlog(self) -> int:
        """Bytes that wait for the disk."""
        with self._changed:
            return self._size - self._room

    def put(self, topic: str, stamp: int, data: bytes, header_stamp: int = 0) -> bool:
        """Queue a message received at `stamp` (ns). False when it is lost: the disk is too slow or failed."""
        with self._changed:
            self.received[topic] += 1
            if self.error or self._deadline is not None or len(data) > self._room:
                self.lost[topic] += 1
                return False
            self.newest = max(self.newest, stamp)
            self._queue.append((topic, self.newest, data, header_stamp))
            self._room -= len(data)
            self._changed.notify()
        return True

    def close(self, drain_time: float = DRAIN_TIME) -> None:
        """Write what waits, for `drain_time` seconds at most, and close the bag."""
        with self._changed:
            self._deadline = monotonic() + drain_time
            self._changed.notify()
        self._thread.join()

    def _write_all(self) -> None:
        try:
            while (message := self._next()) is not None:
                self._write(*message)
            self._bag.close()
        except DISK_ERRORS as error:
            self.error = error
            self._bag.abort()
        finally:
            self.written.update({c.topic: self._bag.counts[c.id] for c in self._bag.connections})
            self.lost = self.received - self.written

    def _next(self) -> tuple[str, int, bytes, int] | None:
        """The next message, None at the end; flushes the bag while none comes."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._deadline is not None, FLUSH_PERIOD)
                late = self._deadline is not None and monotonic() > self._deadline
                if self._queue and not late:
                    self._room += len(self._queue[0][2])
                    return self._queue.popleft()
                if self._deadline is not None:
                    return None
            self._bag.flush()  # outside the lock: it may take long, and `put` must not

    def _write(self, topic: str, stamp: int, data: bytes, header_stamp: int) -> None:
        if topic not in self._connections:
            announced, offered_qos = self._topics[topic]
            self._connections[topic] = self._bag.add_topic(announced.name, announced.type, offered_qos)
        self._bag.write(self._connections[topic], stamp, data)
        self._on_written(topic, header_stamp)
