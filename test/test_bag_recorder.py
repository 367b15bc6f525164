"""The recorder node as a user runs it: a process of its own, fed over DDS, its bag read by other people's tools."""

from contextlib import contextmanager
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from builtin_interfaces.msg import Time  # noqa: E402
from geometry_msgs.msg import TransformStamped  # noqa: E402
from mcap.reader import make_reader  # noqa: E402
from mcap_ros2.decoder import DecoderFactory  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)
from rosbags.highlevel import AnyReader  # noqa: E402
from rosbags.interfaces import QosDurability, QosReliability  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from test_bag import check_with_doctor, small_disk  # noqa: E402, F401
from tf2_msgs.msg import TFMessage  # noqa: E402

from worldfm_ros.bags.writer import BagWriter  # noqa: E402
from worldfm_ros.nodes.bag_recorder import BagRecorder, Recording, Topic  # noqa: E402

PATIENCE = 30.0  # seconds for anything that must happen at all
IMAGE = Topic("/camera/image_raw", "sensor_msgs/msg/Image")
PUBLISHED = ("topics:=['/camera/image_raw sensor_msgs/msg/Image', '/camera/camera_info sensor_msgs/msg/CameraInfo', "
             "'/tf_static tf2_msgs/msg/TFMessage', '/tf tf2_msgs/msg/TFMessage', '/odom nav_msgs/msg/Odometry']")


@pytest.fixture(scope="module")
def node():
    rclpy.init()
    node = rclpy.create_node("fake_simulation")
    yield node
    node.destroy_node()
    rclpy.shutdown()


class FakeCamera:
    """Publishes what a simulation publishes, with stamps 1 s, 2 s, ..."""

    def __init__(self, node, side=64):
        static = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node, self.side, self.count = node, side, 0
        self.publishers = {
            "image": node.create_publisher(Image, "/camera/image_raw", 50),
            "info": node.create_publisher(CameraInfo, "/camera/camera_info", 50),
            "odom": node.create_publisher(Odometry, "/odom", 50),
            "static": node.create_publisher(TFMessage, "/tf_static", static),
            "tf": node.create_publisher(TFMessage, "/tf", 50),
        }
        mount = TransformStamped(child_frame_id="camera_link")
        mount.header.frame_id = "base_link"
        self.publishers["static"].publish(TFMessage(transforms=[mount]))

    def publish(self, count):
        for _ in range(count):
            self.count += 1
            image = Image(width=self.side, height=self.side, encoding="rgb8", step=3 * self.side)
            image.data = bytes([self.count % 256]) * (3 * self.side**2)
            image.header.stamp.sec = self.count
            info = CameraInfo(header=image.header, width=self.side, height=self.side)
            transform = TransformStamped(header=image.header, child_frame_id="base_link")
            self.publishers["image"].publish(image)
            self.publishers["info"].publish(info)
            self.publishers["tf"].publish(TFMessage(transforms=[transform]))
            time.sleep(0.01)

    def wait_until_delivered(self):
        for publisher in self.publishers.values():
            assert publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=PATIENCE))

    def close(self):
        for publisher in self.publishers.values():
            self.node.destroy_publisher(publisher)


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def start(bag, *parameters):
    return subprocess.Popen(
        [sys.executable, "-m", "worldfm_ros.nodes.bag_recorder", "--ros-args", "-p", f"bag:={bag}",
         *(word for parameter in parameters for word in ("-p", parameter))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextmanager
def recording(node, bag, *parameters):
    """A recorder that has subscribed to everything, and the camera that it listens to."""
    camera, process = FakeCamera(node), start(bag, *parameters)
    last = "/tf" if parameters and "topics" in parameters[0] and "/odom" not in parameters[0] else "/odom"
    try:
        wait_for(lambda: node.count_subscribers(last) or process.poll() is not None)
        yield camera, process
    finally:
        process.kill()
        process.wait()
        camera.close()
        if process.returncode != -signal.SIGKILL:  # a killed process stays in the graph for 20 s
            wait_for(lambda: not node.count_subscribers("/tf"))


def stop(process, number=signal.SIGINT):
    """Exit code and output."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def stamps(path, topic):
    """The header stamps (s) of a topic, after rosbags."""
    with AnyReader([path]) as reader:
        connections = [c for c in reader.connections if c.topic == topic]
        return [reader.deserialize(data, c.msgtype).header.stamp.sec for c, _, data in reader.messages(connections)]


@pytest.mark.parametrize("storage, number", [("mcap", signal.SIGINT), ("sqlite3", signal.SIGTERM)])
def test_everything_published_is_in_the_bag(node, tmp_path, storage, number):
    path = tmp_path / "new" / "bag"
    with recording(node, path, PUBLISHED, f"storage:={storage}") as (camera, process):
        camera.publish(40)
        camera.publishers["odom"].publish(Odometry())
        camera.wait_until_delivered()
        code, output = stop(process, number)
    assert code == 0, output
    assert stamps(path, "/camera/image_raw") == stamps(path, "/camera/camera_info") == list(range(1, 41))
    with AnyReader([path]) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        times = [stamp for _, stamp, _ in reader.messages()]
    assert counts == {"/camera/image_raw": 40, "/camera/camera_info": 40, "/tf": 40, "/tf_static": 1, "/odom": 1}
    assert times == sorted(times) and abs(times[-1] / 1e9 - time.time()) < 60
    assert f"bag {path}: 122 messages" in output and ", 0 lost" in output and "40 /camera/image_raw" in output
    assert "Traceback" not in output
    check_with_doctor(path)


def test_less_than_reliable_is_taken_as_it_is_offered_and_a_silent_topic_is_an_error(node, tmp_path):
    """A best-effort sensor, a static transform that nobody keeps, and a topic that nobody publishes."""
    topics = ("topics:=['/eye/image_raw sensor_msgs/msg/Image', '/tf_static tf2_msgs/msg/TFMessage', "
              "'/tf tf2_msgs/msg/TFMessage', '/lidar sensor_msgs/msg/Image']")
    process = start(tmp_path / "bag", topics)
    eye = node.create_publisher(Image, "/eye/image_raw", qos_profile_sensor_data)
    static, moving = (node.create_publisher(TFMessage, topic, 10) for topic in ("/tf_static", "/tf"))
    publishers = eye, static, moving
    try:
        wait_for(lambda: all(publisher.get_subscription_count() for publisher in publishers))
        for _ in range(20):
            for publisher, message in zip(publishers, (Image(), TFMessage(), TFMessage()), strict=True):
                publisher.publish(message)
            time.sleep(0.05)
        code, output = stop(process)
    finally:
        process.kill()
        for publisher in publishers:
            node.destroy_publisher(publisher)
    with AnyReader([tmp_path / "bag"]) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
    assert counts["/tf"] == 20 and counts["/tf_static"] >= 15 and counts["/eye/image_raw"] >= 15
    assert code == 3 and "/lidar" in output.splitlines()[-1] and "/eye" not in output.splitlines()[-1]


@pytest.mark.parametrize("begins", [True, False])
def test_what_comes_before_the_simulated_time_waits_for_it(node, tmp_path, begins):
    process = start(tmp_path / "bag", "topics:=['/tf tf2_msgs/msg/TFMessage']", "use_sim_time:=true")
    moving, clock = node.create_publisher(TFMessage, "/tf", 10), node.create_publisher(Clock, "/clock", 10)
    try:
        wait_for(moving.get_subscription_count)
        for _ in range(5):
            moving.publish(TFMessage())
        assert moving.wait_for_all_acked(rclpy.duration.Duration(seconds=PATIENCE))
        wait_for(lambda: clock.get_subscription_count() >= 2)  # its clock, and its search for one: it runs
        for second in range(100 * begins, 104 * begins):
            clock.publish(Clock(clock=Time(sec=second)))
            moving.publish(TFMessage())
            time.sleep(0.1)
        code, output = stop(process)
    finally:
        process.kill()
        node.destroy_publisher(moving), node.destroy_publisher(clock)
    with AnyReader([tmp_path / "bag"]) as reader:
        times = [when // 10**9 for connection, when, _ in reader.messages() if connection.topic == "/tf"]
    if begins:
        assert code == 0 and len(times) == 9 and min(times) >= 100, output
    else:
        assert code == 3 and len(times) == 5 and "the simulated time never began" in output


def test_bag_tells_types_hashes_and_qos_as_ros_does(node, tmp_path):
    with recording(node, tmp_path / "bag") as (camera, process):
        camera.publish(2)
        camera.wait_until_delivered()
        offered = {topic: node.get_publishers_info_by_topic(topic)[0] for topic in ("/tf_static", "/tf", IMAGE.name)}
        stop(process)
    with AnyReader([tmp_path / "bag"]) as reader:
        connections = {c.topic: c for c in reader.connections}
    for topic, info in offered.items():
        (profile,) = connections[topic].ext.offered_qos_profiles
        assert connections[topic].msgtype == info.topic_type
        assert connections[topic].digest == str(info.topic_type_hash)
        assert profile.durability.value == info.qos_profile.durability
        assert profile.deadline.sec * 10**9 + profile.deadline.nsec == info.qos_profile.deadline.nanoseconds
        assert profile.reliability == QosReliability.RELIABLE
    assert connections["/tf_static"].ext.offered_qos_profiles[0].durability == QosDurability.TRANSIENT_LOCAL
    with (tmp_path / "bag" / "bag.mcap").open("rb") as file:
        decoded = list(make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages(IMAGE.name))
    assert [message.header.stamp.sec for *_, message in decoded] == [1, 2]
    assert decoded[0][3].encoding == "rgb8" and set(decoded[0][3].data) == {1}


def test_clock_is_recorded_once_somebody_publishes_it(node, tmp_path):
    with recording(node, tmp_path / "bag", "topics:=['/tf tf2_msgs/msg/TFMessage']") as (_, process):
        clock = node.create_publisher(Clock, "/clock", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        wait_for(lambda: node.count_subscribers("/clock"))
        for _ in range(20):
            clock.publish(Clock())
            time.sleep(0.05)
        _, output = stop(process)
        node.destroy_publisher(clock)
    with AnyReader([tmp_path / "bag"]) as reader:
        assert [c.topic for c in reader.connections] == ["/clock"] and reader.message_count > 0, output


@pytest.mark.parametrize("parameters, message", [
    (["storage:=rosbag1"], "mcap"),
    (["topics:=['/image']"], "NAME TYPE"),
    (["topics:=['/image sensor_msgs/msg/Picture']"], "sensor_msgs/msg/Picture.*is not installed"),
    (["topics:=['bad-name sensor_msgs/msg/Image']"], "bad-name"),
])
def test_wrong_parameters_end_in_one_line(tmp_path, parameters, message):
    process = start(tmp_path / "bag", *parameters)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "Traceback" not in output, output
    assert any(line.startswith("error: ") for line in output.splitlines()) and not (tmp_path / "bag").exists()
    assert re.search(message, output)


def test_existing_bag_is_refused(tmp_path):
    (tmp_path / "bag").mkdir()
    process = start(tmp_path / "bag")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "never overwritten" in output and list((tmp_path / "bag").iterdir()) == []


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_full_disk_ends_the_recording_and_keeps_the_bag(node, small_disk, storage):  # noqa: F811
    path = small_disk / "bag"
    with recording(node, path, f"storage:={storage}", "compression:=none") as (camera, process):
        camera.side = 256
        wait_for(lambda: camera.publish(1) or process.poll() is not None)
        output = process.stdout.read()
    assert process.returncode == 1, output
    assert re.search("recording stopped: .*(No space left|disk is full)", output)
    images = stamps(path, "/camera/image_raw")
    assert f"{len(images)} /camera/image_raw" in output and re.search(r"lost: .*\b\d+ of /camera/image_raw", output)
    assert len(images) > 10 and images == list(range(1, len(images) + 1))
    check_with_doctor(path)


class SlowBag(BagWriter):
    """A bag on a disk that does not move until it is told to."""

    def __init__(self, path, moving):
        super().__init__(path)
        self.moving = moving

    def write(self, connection, timestamp, data):
        self.moving.wait()
        super().write(connection, timestamp, data)


def test_slow_disk_loses_messages_and_counts_them(tmp_path):
    moving = threading.Event()
    bag = SlowBag(tmp_path / "bag", moving)
    bag.open()
    record = Recording(bag, queue_bytes=1000)
    record.add_topic(IMAGE, [])
    taken = [record.put(IMAGE.name, stamp, bytes(100)) for stamp in range(30)]
    moving.set()
    record.close()
    assert 10 <= sum(taken) <= 11 and record.lost == {IMAGE.name: 30 - sum(taken)}  # one may be on its way to the disk
    assert record.written == {IMAGE.name: sum(taken)} and record.error is None


def test_stamps_in_the_bag_never_go_back(tmp_path):
    bag = BagWriter(tmp_path / "bag")
    bag.open()
    record = Recording(bag)
    record.add_topic(IMAGE, [])
    for stamp in (5, 9, 3, 10):
        record.put(IMAGE.name, stamp, b"\0" * 8)
    record.close()
    with AnyReader([tmp_path / "bag"]) as reader:
        assert [stamp for _, stamp, _ in reader.messages()] == [5, 9, 9, 10]


def test_a_clock_that_goes_back_is_reported_once_a_time(node, tmp_path, capfd):
    recorder = new_recorder(tmp_path / "bag")
    recorder._recording.add_topic(IMAGE, [])
    for stamp in (100, 101, 5, 6, 102, 7):
        recorder._check_time(stamp * 10**9)
        recorder._recording.put(IMAGE.name, stamp * 10**9, b"\0" * 8)
    log = capfd.readouterr().err
    assert log.count("time went back") == 2
    assert "time went back from 101.000000000 to 5.000000000; a bag's times never do: until the clock has passed" in log
    recorder._recording.close()
    recorder.destroy_node()


def test_a_recording_of_nothing_is_a_failure(node, tmp_path, capfd):
    recorder = new_recorder(tmp_path / "bag")
    executor = SingleThreadedExecutor()
    executor.add_node(recorder)
    recorder.close()
    assert recorder.exit_code == 2
    assert "nothing was recorded: is anybody publishing" in capfd.readouterr().err
    recorder.destroy_node()


def new_recorder(bag):
    return BagRecorder(parameter_overrides=[
        Parameter("bag", value=str(bag)), Parameter("topics", value=["/nobody sensor_msgs/msg/Image"])])


def test_stopping_drops_what_a_stuck_disk_does_not_take_and_counts_it(tmp_path):
    moving = threading.Event()
    bag = SlowBag(tmp_path / "bag", moving)
    bag.open()
    record = Recording(bag)
    record.add_topic(IMAGE, [])
    for stamp in range(5):
        record.put(IMAGE.name, stamp, b"\0" * 8)
    threading.Timer(0.3, moving.set).start()
    record.close(drain_time=0.0)
    assert record.written.total() + record.lost.total() == 5 and record.lost.total() >= 4


def stamps_on_disk(path):
    """While the recorder writes: what is there, or nothing in the instant of a flush."""
    try:
        return stamps(path, "/camera/image_raw")
    except Exception:  # noqa: BLE001
        return []


def test_killed_recorder_leaves_a_bag(node, tmp_path):
    with recording(node, tmp_path / "bag") as (camera, process):
        camera.publish(10)
        camera.wait_until_delivered()
        wait_for(lambda: stamps_on_disk(tmp_path / "bag") == list(range(1, 11)))
        process.kill()
    assert process.returncode == -signal.SIGKILL and stamps(tmp_path / "bag", "/camera/image_raw") == list(range(1, 11))
