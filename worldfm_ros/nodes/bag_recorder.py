"""bag_recorder: writes topics, as serialised bytes, to a rosbag2 bag that any ROS tool opens.

    bag_recorder --ros-args -p bag:=run1 -p storage:=mcap -p topics:="['camera/image_raw sensor_msgs/msg/Image', ...]"

Exit codes: 0 stopped by a signal, the bag is closed; 1 the disk failed, the bag ends there; 2 it could not start, or
nothing was recorded; 3 a topic that was asked for has no message, the simulated time never began, or less than 99 % of
the images that a camera was asked for are in the bag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
import struct
import sys
from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.validate_topic_name import validate_topic_name
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from worldfm_ros.bags.splitting import Split
from worldfm_ros.bags.writer import BagWriter
from worldfm_ros.nodes.accounts import Ledger
from worldfm_ros.nodes.graph import recorded_topics
from worldfm_ros.nodes.health import ACCOUNTS
from worldfm_ros.nodes.lockstep import Receipts
from worldfm_ros.nodes.offered import Subscription
from worldfm_ros.nodes.parameters import declare_parameters, describe
from worldfm_ros.nodes.participant import resolved, values_of
from worldfm_ros.nodes.recording import Recording, Topic
from worldfm_ros.nodes.runner import run
from worldfm_ros.nodes.stepped_recorder import SteppedRecorder
from worldfm_ros.nodes.tf_history import CACHE, seconds
from worldfm_ros.nodes.ticks import missing_clock

DEPTH = 100  # messages that DDS keeps for a topic while the executor is busy
TAKE_TIME = 1.0  # seconds, at the end, for what DDS has delivered and nobody has taken, and the cameras' final accounts
CLOCK_PERIOD = 0.5  # seconds between two looks for a publisher of /clock
DISK_FAILED, NOTHING_RECORDED, INCOMPLETE = 1, 2, 3  # exit codes
TOPICS = recorded_topics(["camera"])


@dataclass(frozen=True)
class RecorderParameters:
    bag: str = describe("", "folder of the new bag; missing parents are created, an existing one is refused")
    storage: str = describe("mcap", "file format: mcap or sqlite3")
    compression: str = describe("auto", "of the chunks of an mcap file: zstd or none; auto = zstd for mcap")
    split: str = describe("", "go on in another file after a size or duration, such as 2GB or 10min; empty = never")
    topics: list[str] = describe(TOPICS, 'what to record, each as "NAME TYPE"; /clock is added when it is published')
    lockstep: bool = describe(False, "answer the simulator's steps, each when all of it has come and the disk keeps up")
    wait_for: list[str] = describe([], "in lockstep, the nodes whose answer to a step comes before this one's")


STATIC = "/tf_static"
CLOCK = "rosgraph_msgs/msg/Clock"


class BagRecorder(Node):
    """Subscribes to the topics and hands their bytes to a Recording.

    Raises ValueError for topics and OSError for a bag folder that will not do.
    """

    def __init__(self, **node_options) -> None:
        super().__init__("bag_recorder", **node_options)
        self.exit_code: int | None = None
        self._went_back = self._closing = False
        self._time_topic = Topic(self.resolve_topic_name("/clock"), CLOCK)
        parameters = declare_parameters(self, RecorderParameters)
        topics = dict.fromkeys(self._parse(text) for text in parameters.topics)
        # TF first: an image whose pose is not in the bag is of no use
        self._topics = sorted(topics, key=lambda topic: not topic.name.endswith(("/tf", "/tf_static")))
        self._asked = tuple(self._topics)
        classes = [message_class(topic.type) for topic in self._topics]
        self._bag = open_bag(parameters, self._topics)
        self._ledger = Ledger(topic.name for topic in self._topics)
        self._recording = Recording(self._bag, on_written=self._ledger.recorded)
        self._held: list[tuple[str, bytes, int]] = []  # came before the time did
        self._steps = self._join_steps(parameters) if parameters.lockstep else None
        for topic, cls in zip(self._topics, classes, strict=True):
            self._subscribe(topic, cls)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_accounts, DEPTH)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clock_search = self.create_timer(CLOCK_PERIOD, self._record_clock, clock=steady)
        self._watch = self.create_timer(CLOCK_PERIOD, self._check_disk, clock=steady)
        self.get_logger().info(f"recording {len(topics)} topics to {self._bag.path}")

    def _join_steps(self, parameters: RecorderParameters) -> SteppedRecorder:
        names = [resolved(self, name) for name in parameters.wait_for]
        receipts = Receipts(names, [topic.name for topic in self._topics])
        return SteppedRecorder(self, receipts, self._recording, self._on_accounts)

    def _on_accounts(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._ledger.report(status.name.removesuffix(ACCOUNTS), values_of(status))

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
        announced = False
        stamp_of = stamp_reader(cls)

        def receive(data: bytes) -> None:
            nonlocal announced
            if not announced:
                self._recording.add_topic(topic, self._offered_qos(topic.name))
                announced = True
            stamp = stamp_of(data)
            if self._steps is None or self._steps.received(topic.name, stamp, data):
                self._put(topic.name, data, stamp)

        Subscription(self, cls, topic.name, receive, DEPTH, latched=topic.name.endswith(STATIC), raw=True)

    def _put(self, topic: str, data: bytes, header_stamp: int) -> None:
        now = self.get_clock().now().nanoseconds
        newest = self._recording.newest
        stepped = self._steps is not None and now and not topic.endswith(STATIC)
        if stepped and abs(header_stamp - now) < CACHE > newest - now:
            now = max(newest, header_stamp)  # in lockstep it was published then, whatever of /clock has come
        self._held.append((topic, data, header_stamp))
        if not now and not self._closing:  # the simulated time has not begun, and what came is of its begin
            return
        self._check_time(now)
        taken = [self._recording.put(name, now, message, stamp) for name, message, stamp in self._held]
        self._held.clear()
        if not all(taken) and self._recording.running:
            self.get_logger().warning(f"the disk is too slow, {self._recording.lost.total()} messages lost so far",
                                      throttle_duration_sec=5.0)

    def _check_time(self, now: int) -> None:
        """Say it once for each time that the clock goes back."""
        newest, went_back = self._recording.newest, self._went_back
        self._went_back = now < newest
        if self._went_back and not went_back:
            self.get_logger().warning(
                f"time went back from {seconds(newest)} to {seconds(now)}; a bag's times never do: until the clock has "
                f"passed {seconds(newest)} again, that is the time of all messages in the bag (their headers keep "
                f"their own stamps). For a run from the start, start a new recording")

    def _offered_qos(self, topic: str) -> list[Qos]:
        """What the publishers offer; when they have gone already, what is usual."""
        durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.endswith(STATIC) else DurabilityPolicy.VOLATILE
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        return [to_bag_qos(profile) for profile in offered or [QoSProfile(depth=DEPTH, durability=durability)]]

    def _record_clock(self) -> None:
        """Record /clock from the moment that somebody publishes it."""
        if self._time_topic in self._topics:
            self._clock_search.cancel()
        elif self.count_publishers(self._time_topic.name):
            self._topics.append(self._time_topic)
            self._subscribe(self._time_topic, message_class(CLOCK))

    def _check_disk(self) -> None:
        if not self._recording.running:
            self.exit_code = DISK_FAILED

    def _take_delivered(self) -> None:
        """Receive what DDS has delivered, so that stopping a busy recorder does not part image and camera_info; and
        what the cameras have to say at the end, where they are stopped at the same time."""
        deadline, seen = monotonic() + TAKE_TIME, -1
        while monotonic() < deadline:
            received = self._recording.received.total()
            if received == seen and not self._ledger.unclosed():
                break
            seen = received
            for _ in range(len(self._topics) + 1):
                self.executor.spin_once(timeout_sec=0.005)

    def close(self) -> None:
        """Close the bag, say what is in it, and what of the images that were asked for is not."""
        self._take_delivered()
        self._closing = True
        if self._steps is not None:
            self._steps.leave()
        timeless = len(self._held)
        if self._held:
            self._put(*self._held.pop())
        self._recording.close()
        recording, log = self._recording, self.get_logger()
        for topic in self._topics:
            log.info(f"{recording.written[topic.name]:7d} {topic.name}")
        for line in self._ledger.lines():
            log.info(line)
        if recording.lost:
            log.warning("lost: " + ", ".join(f"{count} of {topic}" for topic, count in recording.lost.items()))
        summary = (f"bag {self._bag.path}: {recording.written.total()} messages, {self._bag.size / 1e6:.1f} MB, "
                   f"{recording.lost.total()} lost")
        if recording.error:
            self.exit_code = DISK_FAILED
            log.error(f"recording stopped: {recording.error}. What was written before is readable: {summary}")
        elif not recording.written.total():
            self.exit_code = NOTHING_RECORDED
            log.error(f"nothing was recorded: is anybody publishing these topics? {summary}")
        elif empty := [topic.name for topic in self._asked if not recording.written[topic.name]]:
            self.exit_code = INCOMPLETE
            log.error(f"the recording is incomplete: no message of {', '.join(empty)}; does anybody publish it "
                      f"(`ros2 topic info -v`)? {summary}")
        elif timeless:
            self.exit_code = INCOMPLETE
            log.error(f"the simulated time never began: {timeless} messages in the bag have the time 0 (their headers "
                      f"keep their own stamps). {missing_clock(self)} {summary}")
        elif shortfall := self._ledger.shortfall():
            self.exit_code = INCOMPLETE
            log.error(f"the recording is incomplete: {shortfall}; lockstep:=true loses none. {summary}")
        else:
            log.info(summary)


def open_bag(parameters: RecorderParameters, topics: list[Topic]) -> BagWriter:
    """A new bag; ValueError or OSError when the topics or the folder do not do."""
    if not parameters.bag:
        raise ValueError("parameter bag is the folder of the new bag: -p bag:=FOLDER")
    compression = parameters.compression
    if compression == "auto":
        compression = "zstd" if parameters.storage == "mcap" else "none"
    path = Path(parameters.bag).expanduser().absolute()
    bag = BagWriter(path, parameters.storage, compression, Split.parse(parameters.split))
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


def stamp_reader(cls: type) -> Callable[[bytes], int]:
    """Reads the stamp (ns) of serialised messages of a type: of the header, the first transform, the clock; else 0."""
    first = next(iter(cls.get_fields_and_field_types().items()), ("", ""))
    offset = {"std_msgs/Header": 4, "builtin_interfaces/Time": 4,
              "sequence<geometry_msgs/TransformStamped>": 8}.get(first[1])

    def read(data: bytes) -> int:
        if offset is None or len(data) < offset + 8:
            return 0
        sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, offset)
        return sec * 10**9 + nanosec

    return read


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
