"""bag_recorder: writes topics, as serialised bytes, to a rosbag2 bag that any ROS tool opens.

    bag_recorder --ros-args -p bag:=run1 -p storage:=mcap -p topics:="['camera/image_raw sensor_msgs/msg/Image', ...]"

Exit codes: 0 stopped by a signal, the bag is closed; 1 the disk failed, the bag ends there; 2 it could not start, or
nothing was recorded.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
import sys
import threading
from time import monotonic

from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.validate_topic_name import validate_topic_name
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from worldfm_ros.bags.writer import DISK_ERRORS, FLUSH_PERIOD, BagWriter
from worldfm_ros.nodes.graph import recorded_topics
from worldfm_ros.nodes.parameters import declare_parameters, describe
from worldfm_ros.nodes.runner import run
from worldfm_ros.nodes.tf_history import seconds

DEPTH = 100  # messages that DDS keeps for a topic while the executor is busy
QUEUE_BYTES = 256 * 2**20  # what may wait for a slow disk
TAKE_TIME = 0.5  # seconds for what DDS has delivered and nobody has taken when the recorder is stopped
DRAIN_TIME = 1.5  # seconds for what waits for the disk then
CLOCK_PERIOD = 0.5  # seconds between two looks for a publisher of /clock
DISK_FAILED, NOTHING_RECORDED = 1, 2  # exit codes
TOPICS = recorded_topics("camera")


@dataclass(frozen=True)
class RecorderParameters:
    bag: str = describe("", "folder of the new bag; missing parents are created, an existing one is refused")
    storage: str = describe("mcap", "file format: mcap or sqlite3")
    topics: list[str] = describe(TOPICS, 'what to record, each as "NAME TYPE"; /clock is added when it is published')


@dataclass(frozen=True)
class Topic:
    """A topic by its full name, and its type as "package/msg/Name"."""

    name: str
    type: str


CLOCK = Topic("/clock", "rosgraph_msgs/msg/Clock")


class Recording:
    """Writes to a bag from a thread of its own, so that a slow disk does not block the caller.

    Stamps in the bag never decrease. When more than `queue_bytes` wait for the disk, messages are lost and counted.
    After `close`, `written` holds what is in the bag, by topic, and `lost` all else that was received.
    """

    def __init__(self, bag: BagWriter, queue_bytes: int = QUEUE_BYTES) -> None:
        self.received: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.error: Exception | None = None
        self._bag = bag
        self._room = queue_bytes
        self._queue: deque[tuple[str, int, bytes]] = deque()
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

    def put(self, topic: str, stamp: int, data: bytes) -> bool:
        """Queue a message received at `stamp` (ns). False when it is lost: the disk is too slow or failed."""
        with self._changed:
            self.received[topic] += 1
            if self.error or self._deadline is not None or len(data) > self._room:
                self.lost[topic] += 1
                return False
            self.newest = max(self.newest, stamp)
            self._queue.append((topic, self.newest, data))
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

    def _next(self) -> tuple[str, int, bytes] | None:
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

    def _write(self, topic: str, stamp: int, data: bytes) -> None:
        if topic not in self._connections:
            announced, offered_qos = self._topics[topic]
            self._connections[topic] = self._bag.add_topic(announced.name, announced.type, offered_qos)
        self._bag.write(self._connections[topic], stamp, data)


class BagRecorder(Node):
    """Subscribes to the topics and hands their bytes to a Recording.

    Raises ValueError for topics and OSError for a bag folder that will not do.
    """

    def __init__(self, **node_options) -> None:
        super().__init__("bag_recorder", **node_options)
        self.exit_code: int | None = None
        self._went_back = False
        parameters = declare_parameters(self, RecorderParameters)
        topics = dict.fromkeys(self._parse(text) for text in parameters.topics)
        # TF first: an image whose pose is not in the bag is of no use
        self._topics = sorted(topics, key=lambda topic: topic.name not in ("/tf", "/tf_static"))
        classes = [message_class(topic.type) for topic in self._topics]
        self._bag = open_bag(parameters, self._topics)
        self._recording = Recording(self._bag)
        for topic, cls in zip(self._topics, classes, strict=True):
            self._subscribe(topic, cls)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clock_search = self.create_timer(CLOCK_PERIOD, self._record_clock, clock=steady)
        self._watch = self.create_timer(CLOCK_PERIOD, self._check_disk, clock=steady)
        self.get_logger().info(f"recording {len(topics)} topics to {self._bag.path}")

    def _parse(self, text: str) -> Topic:
        words = text.split()
        if len(words) != 2:
            raise ValueError(f'a recorded topic is "NAME TYPE", such as "{TOPICS[0]}", got {text!r}')
        try:
            validate_topic_name(words[0])
        except NameValidationException as error:
            raise ValueError(f"{words[0]!r} is no topic name: {error}") from None
        return Topic(self.resolve_topic_name(words[0]), words[1])

    def _subscribe(self, topic: Topic, cls: type) -> None:
        # no image may be lost; clocks are often best effort and each is outdated by the next
        reliability = ReliabilityPolicy.BEST_EFFORT if topic.name == CLOCK.name else ReliabilityPolicy.RELIABLE
        latched = topic.name.endswith("/tf_static")
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=DEPTH, reliability=reliability, durability=durability)
        announced = False

        def receive(data: bytes) -> None:
            nonlocal announced
            if not announced:
                self._recording.add_topic(topic, self._offered_qos(topic.name, qos))
                announced = True
            now = self.get_clock().now().nanoseconds
            self._check_time(now)
            taken = self._recording.put(topic.name, now, data)
            if not taken and self._recording.running:
                self.get_logger().warning(f"the disk is too slow, {self._recording.lost.total()} messages lost so far",
                                          throttle_duration_sec=5.0)

        self.create_subscription(cls, topic.name, receive, qos, raw=True)

    def _check_time(self, now: int) -> None:
        """Say it once for each time that the clock goes back."""
        newest, went_back = self._recording.newest, self._went_back
        self._went_back = now < newest
        if self._went_back and not went_back:
            self.get_logger().warning(
                f"time went back from {seconds(newest)} to {seconds(now)}; a bag's times never do: until the clock has "
                f"passed {seconds(newest)} again, that is the time of all messages in the bag (their headers keep "
                f"their own stamps). For a run from the start, start a new recording")

    def _offered_qos(self, topic: str, requested: QoSProfile) -> list[Qos]:
        """What the publishers offer; when they have gone already, what was requested (they offered as much)."""
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        return [to_bag_qos(profile) for profile in offered or [requested]]

    def _record_clock(self) -> None:
        """Record /clock from the moment that somebody publishes it."""
        if CLOCK in self._topics:
            self._clock_search.cancel()
        elif self.count_publishers(CLOCK.name):
            self._topics.append(CLOCK)
            self._subscribe(CLOCK, message_class(CLOCK.type))

    def _check_disk(self) -> None:
        if not self._recording.running:
            self.exit_code = DISK_FAILED

    def _take_delivered(self) -> None:
        """Receive what DDS has delivered, so that stopping a busy recorder does not part image and camera_info."""
        deadline, seen = monotonic() + TAKE_TIME, -1
        while (received := self._recording.received.total()) != seen and monotonic() < deadline:
            seen = received
            for _ in range(len(self._topics)):
                self.executor.spin_once(timeout_sec=0.0)

    def close(self) -> None:
        """Close the bag and say what is in it."""
        self._take_delivered()
        self._recording.close()
        recording, log = self._recording, self.get_logger()
        for topic in self._topics:
            log.info(f"{recording.written[topic.name]:7d} {topic.name}")
        if recording.lost:
            log.warning("lost: " + ", ".join(f"{count} of {topic}" for topic, count in recording.lost.items()))
        summary = (f"bag {self._bag.path}: {recording.written.total()} messages, {self._bag.size / 1e6:.1f} MB, "
                   f"{recording.lost.total()} lost")
        if recording.error:
            self.exit_code = DISK_FAILED
            log.error(f"recording stopped: {recording.error}. What was written before is readable: {summary}")
        elif not recording.written.total():
            self.exit_code = NOTHING_RECORDED
            log.error(f"nothing was recorded: is anybody publishing these topics, RELIABLE? {summary}")
        else:
            log.info(summary)


def open_bag(parameters: RecorderParameters, topics: list[Topic]) -> BagWriter:
    """A new bag; ValueError or OSError when the topics or the folder do not do."""
    if not parameters.bag:
        raise ValueError("parameter bag is the folder of the new bag: -p bag:=FOLDER")
    bag = BagWriter(Path(parameters.bag).expanduser().absolute(), parameters.storage)
    for topic in topics:
        bag.check_type(topic.type)
    bag.open()
    return bag


def message_class(name: str) -> type:
    """The Python class of a type such as "sensor_msgs/msg/Image"; ValueError when it is not installed."""
    try:
        package, kind, message = name.split("/")
        return getattr(import_module(f"{package}.{kind}"), message)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f'message type {name!r} is not installed (expected "package/msg/Name"): {error}') from None


def to_bag_qos(profile: QoSProfile) -> Qos:
    """rclpy's profile as rosbag2 stores it; both count their policies alike."""
    def time(duration) -> QosTime:
        return QosTime(*divmod(duration.nanoseconds, 10**9))

    return Qos(
        QosHistory(int(profile.history)), profile.depth, QosReliability(int(profile.reliability)),
        QosDurability(int(profile.durability)), time(profile.deadline), time(profile.lifespan),
        QosLiveliness(int(profile.liveliness)), time(profile.liveliness_lease_duration),
        profile.avoid_ros_namespace_conventions,
    )


def main(args=None) -> int:
    return run(BagRecorder, args)


if __name__ == "__main__":
    sys.exit(main())
