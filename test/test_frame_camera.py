"""The camera node over real DDS: what it publishes for good TF, and what it does about bad TF."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
import math
import os
from pathlib import Path
import queue
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from rcl_interfaces.msg import Log
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from scenes import room_world
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import T_BODY_OPTICAL, Intrinsics, Pose
from worldfm_ros.nodes import camera_loading, health
from worldfm_ros.nodes.conversions import SECOND, ns_to_stamp, stamp_to_ns, to_transform_stamped
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.ticks import TickSchedule
from worldfm_ros.nodes.worker import NewestWorker, Threads
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World, read_world, write_world

WIDTH, HEIGHT = 32, 24
T_BASE_CAMERA = Pose(Rotation.from_euler("xyz", [0.1, 0.2, 0.3]), [0.1, 0.02, 0.5])
IMAGES = {"image_raw": "rgb8", "depth/image_rect": "32FC1", "segmentation/image_raw": "mono16"}
INFOS = ["camera_info", "depth/camera_info"]


@dataclass
class Picture:
    rgb: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    coverage: np.ndarray
    reference_id: int | None = None


@dataclass
class Recorder:
    """A generator that remembers the poses it got and writes their number into the picture."""

    poses: list[Pose] = field(default_factory=list)
    coverage: bool = True
    error: Exception | None = None
    world: World = World("stage", AnchorMap(), [], 0.1)

    def generate(self, T_world_camera: Pose, intrinsics: Intrinsics) -> Picture:
        if self.error:
            raise self.error
        number = len(self.poses)
        self.poses.append(T_world_camera)
        shape = intrinsics.height, intrinsics.width
        rgb, depth = np.zeros((*shape, 3), np.uint8), np.full(shape, 2.5, np.float32)
        rgb[0, 0, :2] = number % 256, number // 256
        depth[0] = 0.0
        return Picture(rgb, depth, np.full(shape, 300, np.uint16), np.full(shape, self.coverage))


def number_of(image: Image) -> int:
    return image.data[0] + 256 * image.data[1]


def path(stamp: int) -> Pose:
    """Where the robot is: a curve on which linear interpolation shows."""
    t = stamp % (1000 * SECOND) / SECOND
    return Pose(Rotation.from_euler("xyz", [0.3 * math.sin(3 * t), 0.2 * math.cos(2 * t), 2 * t]),
                [3 * math.sin(t), 2 * math.cos(2 * t), 0.1 * t])


def good_tf(stamp: int) -> list[TransformStamped]:
    return [to_transform_stamped(Pose.planar(1.0, 2.0, 0.5), "map", "odom", stamp),
            to_transform_stamped(path(stamp), "odom", "base_link", stamp)]


class Bench(Node):
    """The rest of the robot: publishes TF, collects all that the camera publishes."""

    def __init__(self) -> None:
        super().__init__("bench")
        self.tf = self.create_publisher(TFMessage, "/tf", 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_static = self.create_publisher(TFMessage, "/tf_static", latched)
        self.tf_static.publish(TFMessage(transforms=[
            to_transform_stamped(T_BASE_CAMERA, "base_link", "camera_link", 0),
            to_transform_stamped(T_BODY_OPTICAL, "camera_link", "camera_optical_frame", 0)]))
        self.clock = self.create_publisher(Clock, "/clock", 10)
        self.sent: list[tuple[int, Pose]] = []  # stamp, T_odom_base
        self.got: dict[str, list] = {topic: [] for topic in (*IMAGES, *INFOS)}
        self.status: dict[str, str] = {}
        self.level, self.message = b"", ""
        self.warnings: list[str] = []
        for topic in self.got:
            kind = Image if topic in IMAGES else CameraInfo
            self.create_subscription(kind, f"/camera/{topic}", self.got[topic].append, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_subscription(Log, "/rosout", self._on_log, 100)

    def publish(self, transforms) -> None:
        self.tf.publish(TFMessage(transforms=transforms))

    def _on_diagnostics(self, message) -> None:
        status, = message.status
        self.status = {value.key: value.value for value in status.values}
        self.level, self.message = status.level, status.message

    def _on_log(self, message) -> None:
        if message.name == "camera.frame_camera" and message.level >= 30:
            self.warnings.append(message.msg)

    def dropped(self) -> int:
        return sum(int(value) for key, value in self.status.items() if key.startswith("dropped."))

    def stamps(self, topic="image_raw") -> list[int]:
        return [stamp_to_ns(message.header.stamp) for message in self.got[topic]]


class Robot(threading.Thread):
    """Publishes make_tf(now) some 41 times a second, a rate that does not coincide with the camera's ticks."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(daemon=True)
        self.bench, self.make_tf, self.stopped = bench, good_tf, threading.Event()
        self.last_good = 0

    def run(self) -> None:
        while not self.stopped.wait(1 / 41):
            stamp = self.bench.get_clock().now().nanoseconds
            make_tf = self.make_tf
            if make_tf is good_tf:
                self.bench.sent.append((stamp, path(stamp)))
                self.last_good = stamp
            self.bench.publish(make_tf(stamp))


@pytest.fixture
def bench(ros) -> Bench:
    return ros.spin(Bench())


@pytest.fixture
def robot(bench):
    robot = Robot(bench)
    yield robot
    robot.stopped.set()
    if robot.is_alive():
        robot.join()


def start_camera(ros, bench, generator=None, **parameters) -> FrameCamera:
    parameters = {"width": WIDTH, "height": HEIGHT, "rate": 50.0, "tf_timeout": 0.2} | parameters
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    camera = FrameCamera(generator or Recorder(), namespace="camera", parameter_overrides=overrides)
    ros.wait_for(lambda: bench.tf.get_subscription_count() and camera.session.outputs.wanted(), "discovery")
    return ros.spin(camera)


def oracle(sent, stamps) -> np.ndarray:
    """(N, 4, 4) T_map_camera from what was published, with SciPy alone."""
    sent = list(sent)  # the robot goes on appending to it meanwhile
    start = sent[0][0]
    times = np.array([stamp - start for stamp, _ in sent]) / SECOND
    wanted = (np.array(stamps) - start) / SECOND
    base = np.tile(np.eye(4), (len(stamps), 1, 1))
    base[:, :3, :3] = Slerp(times, Rotation.concatenate([pose.rotation for _, pose in sent]))(wanted).as_matrix()
    base[:, :3, 3] = np.stack([np.interp(wanted, times, column)
                               for column in np.array([pose.translation for _, pose in sent]).T], axis=-1)
    return Pose.planar(1.0, 2.0, 0.5).matrix @ base @ T_BASE_CAMERA.matrix @ T_BODY_OPTICAL.matrix


def test_the_pose_shown_is_the_pose_at_the_stamp(ros, bench, robot):
    """Every image: its stamp is a whole tick, and the pose given to the generator is TF interpolated at that stamp."""
    generator = Recorder()
    start_camera(ros, bench, generator)
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) >= 120, "120 images")
    images = bench.got["image_raw"][:120]
    stamps = [stamp_to_ns(image.header.stamp) for image in images]
    assert all(stamp % (SECOND // 50) == 0 for stamp in stamps)
    assert (np.diff(stamps) > 0).all()
    shown = np.stack([generator.poses[number_of(image)].matrix for image in images])
    np.testing.assert_allclose(shown, oracle(bench.sent, stamps), atol=1e-9, rtol=0)


def test_all_outputs_of_a_tick_have_one_header(ros, bench, robot):
    start_camera(ros, bench)
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) >= 30, "30 images")
    robot.stopped.set()
    ros.wait_for(lambda: len({*map(len, bench.got.values())}) == 1, "as many infos as images")
    for topic in bench.got:
        assert bench.stamps(topic) == bench.stamps(), topic
        assert {message.header.frame_id for message in bench.got[topic]} == {"camera_optical_frame"}


def test_images_and_infos_are_what_tools_expect(ros, bench, robot):
    start_camera(ros, bench, hfov=90.0)
    robot.start()
    ros.wait_for(lambda: all(bench.got.values()), "one message of each topic")
    messages = {topic: received[0] for topic, received in bench.got.items()}
    for topic, encoding in IMAGES.items():
        image = messages[topic]
        bytes_per_pixel = {"rgb8": 3, "32FC1": 4, "mono16": 2}[encoding]
        assert (image.encoding, image.width, image.height, image.is_bigendian) == (encoding, WIDTH, HEIGHT, 0)
        assert image.step == WIDTH * bytes_per_pixel and len(image.data) == image.step * HEIGHT
    depth = np.frombuffer(messages["depth/image_rect"].data, np.float32).reshape(HEIGHT, WIDTH)
    assert np.isnan(depth[0]).all() and (depth[1:] == 2.5).all()
    assert (np.frombuffer(messages["segmentation/image_raw"].data, np.uint16) == 300).all()
    for topic in INFOS:
        info = messages[topic]
        f, cx, cy = WIDTH / 2, (WIDTH - 1) / 2, (HEIGHT - 1) / 2
        assert (info.width, info.height, info.distortion_model, list(info.d)) == (WIDTH, HEIGHT, "plumb_bob", [0.0] * 5)
        np.testing.assert_allclose(info.k, [f, 0, cx, 0, f, cy, 0, 0, 1], rtol=1e-12)
        np.testing.assert_allclose(info.p, [f, 0, cx, 0, 0, f, cy, 0, 0, 0, 1, 0], rtol=1e-12)
        assert list(info.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_qos_is_reliable_and_can_be_overridden(ros, bench):
    start_camera(ros, bench, **{"qos_overrides./camera/image_raw.publisher.reliability": "best_effort",
                                "qos_overrides./camera/image_raw.publisher.depth": 7})
    changed, = bench.get_publishers_info_by_topic("/camera/image_raw")
    default, = bench.get_publishers_info_by_topic("/camera/depth/image_rect")
    assert changed.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert default.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert default.qos_profile.durability == DurabilityPolicy.VOLATILE


def test_nobody_listens_nothing_is_painted(ros):
    class Deaf(Bench):
        def create_subscription(self, kind, topic, callback, *args):
            return super().create_subscription(kind, topic, callback, *args) if topic == "/diagnostics" else None

    bench, generators = ros.spin(Deaf()), [Recorder(), Recorder()]
    for generator, always_on in zip(generators, (False, True), strict=True):
        ros.spin(FrameCamera(generator, namespace=f"camera{always_on}", parameter_overrides=[
            Parameter("always_on", value=always_on), Parameter("rate", value=50.0)]))
    robot = Robot(bench)
    robot.start()
    ros.wait_for(lambda: len(generators[1].poses) > 20, "the camera that is always on")
    robot.stopped.set()
    robot.join()
    assert not generators[0].poses


def test_the_installed_node_shows_a_world(ros, bench, robot, tmp_path):
    """The process that a launch file starts: its images are, byte for byte, what the generator makes of the pose."""
    world = room_world(6)
    write_world(world, tmp_path / "room")
    command = [sys.executable, "-c", "import sys; from worldfm_ros.nodes.frame_camera import main; sys.exit(main())",
               "--ros-args", "-r", "__ns:=/camera", "-p", f"world:={tmp_path / 'room'}", "-p", "model:=anchors",
               "-p", "rate:=20", "-p", f"width:={WIDTH}", "-p", f"height:={HEIGHT}"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        ros.wait_for(bench.tf.get_subscription_count, "the camera", 120.0)
        robot.make_tf = still
        robot.start()
        ros.wait_for(lambda: len(bench.got["image_raw"]) > 5, "images")
    finally:
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=20)[1]
    assert process.returncode == 0
    speed, account = errors.splitlines()  # the log has nothing else
    assert re.search(r"this model takes \d+ ms a frame here: ", speed)
    asked, published, lost = map(int, re.search(r"images: (\d+) asked, (\d+) published, (\d+) lost", account).groups())
    assert published >= len(bench.got["image_raw"]) and asked >= published + lost
    intrinsics = Intrinsics.from_hfov(WIDTH, HEIGHT, math.radians(70))
    frame = load_generator(read_world(tmp_path / "room")).generate(Pose.planar(0, 0, 1.0) @ ROOM_CAMERA, intrinsics)
    image, labels = bench.got["image_raw"][0], bench.got["segmentation/image_raw"][0]
    np.testing.assert_array_equal(np.frombuffer(image.data, np.uint8).reshape(frame.rgb.shape), frame.rgb)
    np.testing.assert_array_equal(np.frombuffer(labels.data, np.uint16).reshape(frame.labels.shape), frame.labels)
    depth = np.frombuffer(bench.got["depth/image_rect"][0].data, np.float32).reshape(frame.depth.shape)
    np.testing.assert_array_equal(np.nan_to_num(depth, nan=0.0), frame.depth)


def test_the_pose_is_told_in_the_frame_that_the_world_names(ros, bench, robot):
    generator = Recorder(world=World("yard", AnchorMap(), [], 0.1, frame_id="site"))
    start_camera(ros, bench, generator)
    aside = Pose.planar(5.0, 0.0, 0.0)
    robot.make_tf = lambda stamp: [to_transform_stamped(aside, "site", "map", stamp), *still(stamp)]
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) > 2, "images")
    truth = aside @ Pose.planar(0, 0, 1.0) @ ROOM_CAMERA
    np.testing.assert_allclose(generator.poses[0].translation, truth.translation, atol=1e-9)


ROOM_CAMERA = Pose(Rotation.identity(), [0.0, 0.0, 0.7]) @ T_BASE_CAMERA @ T_BODY_OPTICAL


def still(stamp: int) -> list[TransformStamped]:
    return [to_transform_stamped(Pose.planar(0, 0, 1.0), "map", "odom", stamp),
            to_transform_stamped(Pose(Rotation.identity(), [0.0, 0.0, 0.7]), "odom", "base_link", stamp)]


# ---- bad TF

def nothing(stamp):
    return []


def not_a_number(stamp):
    return [to_transform_stamped(Pose.identity(), "map", "odom", stamp), broken(stamp, "translation", "x", math.nan)]


def no_quaternion(stamp):
    return [to_transform_stamped(Pose.identity(), "map", "odom", stamp), broken(stamp, "rotation", "w", 0.0)]


def broken(stamp, part, axis, value):
    message = to_transform_stamped(Pose(Rotation.identity(), [1, 2, 3]), "odom", "base_link", stamp)
    setattr(getattr(message.transform, part), axis, value)
    return message


def loop(stamp):
    return [to_transform_stamped(Pose.identity(), "base_link", "odom", stamp), good_tf(stamp)[1]]


def long_ago(stamp):
    return good_tf(stamp - 100 * SECOND)


class TooLate:
    """Each transform 0.5 s after its stamp."""

    def __init__(self) -> None:
        self.kept: list[int] = []

    def __call__(self, stamp):
        self.kept.append(stamp)
        ready = [old for old in self.kept if old < stamp - SECOND // 2]
        self.kept = self.kept[len(ready):]
        return [transform for old in ready for transform in good_tf(old)]


@pytest.mark.parametrize("bad_tf, counters, words", [
    (nothing, ["dropped.extrapolation_future"], "but the latest data is at time .* does its publisher run"),
    (not_a_number, ["dropped.invalid_transform", "tf_refused.invalid_transform"], "three finite numbers"),
    (no_quaternion, ["dropped.invalid_transform", "tf_refused.invalid_transform"], "of length 0"),
    (loop, ["dropped.transform_loop"], "in a loop: .*odom, base_link"),
    (long_ago, ["dropped.time_jump", "dropped.extrapolation_future", "tf_refused.outdated_transform"], "time"),
    (TooLate(), ["dropped.extrapolation_future"], "raise tf_timeout"),
], ids=["silent", "NaN", "quaternion", "loop", "jump-back", "late"])
def test_bad_tf_gives_no_image_but_a_reason_and_then_recovers(ros, bench, robot, monkeypatch, bad_tf, counters, words):
    monkeypatch.setattr(health, "START_UP", 0.0)
    generator = Recorder()
    start_camera(ros, bench, generator)
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) > 20, "images")
    robot.make_tf = bad_tf
    for counter in counters:
        ros.wait_for(lambda name=counter: int(bench.status.get(name, 0)) > 5, f"{counter} in /diagnostics")
    ros.wait_for(lambda: bench.dropped() > 50, "50 lost stamps")
    last_good, before = robot.last_good, len(bench.got["image_raw"])
    bench.sent.clear()
    robot.make_tf = good_tf
    ros.wait_for(lambda: len(bench.got["image_raw"]) > before + 20, "images again")
    # Between two samples TF is known: the bad time begins after the last good sample (and at most one bad one), and
    # ends for the ticks that were still waiting when the next good sample came.
    begin, end = last_good + SECOND // 10, bench.sent[0][0] - SECOND // 3
    assert end - begin > SECOND // 4 and not [stamp for stamp in bench.stamps() if begin < stamp < end]
    assert any(re.search(words, warning) for warning in bench.warnings), bench.warnings
    assert len(bench.warnings) < 8, bench.warnings  # one a reason, though more than 50 stamps were lost


def test_before_tf_is_known_nothing_is_lost(ros, bench, robot, monkeypatch):
    """The camera may start before the robot: those ticks are not asked for. It still says what it waits for."""
    monkeypatch.setattr(health, "START_UP", 0.0)
    camera = start_camera(ros, bench)
    ros.wait_for(lambda: int(bench.status.get("outside", 0)) > 10, "the counter")
    assert bench.dropped() == 0 and int(bench.status["published"]) == 0
    ros.wait_for(lambda: "the frame 'map' is not known" in bench.message, "why")
    assert bench.level == DiagnosticStatus.WARN
    assert any("the frame 'map' is not known" in text for text in bench.warnings)
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) > 20, "images")
    ros.wait_for(lambda: "is not known" not in bench.message, "all well")
    counts = camera.session.health.accounts.counts
    assert not [name for name in counts if name.startswith("dropped.")], counts


def test_after_the_publisher_of_tf_has_gone_nothing_is_lost(ros, bench, robot):
    camera = start_camera(ros, bench)
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) > 20, "images")
    robot.stopped.set()
    robot.join()
    before = camera.session.health.accounts.counts
    _, _, stop, thread = next(entry for entry in ros._spinning if entry[0] is bench)
    stop.set()  # nothing of a node may be destroyed while it spins
    thread.join()
    bench.destroy_publisher(bench.tf)
    accounts = camera.session.health.accounts
    ros.wait_for(lambda: accounts.counts["outside"] > before["outside"] + 20, "ticks after the drive")
    counts = accounts.counts
    assert counts["dropped.extrapolation_future"] == before["dropped.extrapolation_future"]
    assert counts["asked"] == counts["published"] + counts["overruns"] + counts["unfinished"]


def test_tf_within_the_timeout_is_waited_for(ros, bench, robot):
    robot.make_tf = late = TooLate()
    start_camera(ros, bench, tf_timeout=2.0)
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) > 20, "images")
    assert late.kept and max(bench.stamps()) < bench.get_clock().now().nanoseconds - SECOND // 3


def test_simulated_time_and_its_reset(ros, bench):
    """Ticks follow /clock, each once; after a jump back the old TF is forgotten and images come from the new run."""
    generator = Recorder()
    camera = start_camera(ros, bench, generator, use_sim_time=True, rate=10.0)

    def play(start, steps):
        for i in range(steps):
            now = start + i * SECOND // 25
            bench.clock.publish(Clock(clock=ns_to_stamp(now)))
            ros.wait_for(lambda now=now: camera.get_clock().now().nanoseconds == now, f"/clock {now}")
            bench.publish(good_tf(now))
            last = ticks(start, now)[-1:]
            ros.wait_for(lambda last=last: not last or bench.stamps()[-1:] == last, f"the image of {last}")

    def ticks(start, now):
        first = start - start % (SECOND // 10) + SECOND // 10
        return list(range(first, now + 1, SECOND // 10))

    play(50 * SECOND, 26)
    first = bench.stamps()
    assert first == ticks(50 * SECOND, 51 * SECOND)
    play(7 * SECOND, 26)
    second = bench.stamps()[len(first):]
    assert second[-10:] == ticks(7 * SECOND, 8 * SECOND) and second[:-10] in ([], [7 * SECOND])
    shown = [generator.poses[number_of(image)] for image in bench.got["image_raw"]]
    for stamp, pose in zip(bench.stamps(), shown, strict=True):
        truth = Pose.planar(1.0, 2.0, 0.5) @ path(stamp) @ T_BASE_CAMERA
        np.testing.assert_allclose(pose.translation, truth.translation, atol=0.02)  # TF has 25 Hz


def test_a_picture_of_before_a_reset_does_not_come_after_it(ros, bench):
    """The clock goes back while one picture is painted and another one waits."""
    started, go_on = threading.Semaphore(0), threading.Semaphore(0)

    class Slow(Recorder):
        def generate(self, *args):
            started.release()
            go_on.acquire()
            return super().generate(*args)

    camera = start_camera(ros, bench, Slow(), use_sim_time=True, rate=10.0)

    def go_to(now):
        """Advance the clock to `now` (ns), with TF for it."""
        ros.wait_for(lambda: bench.clock.publish(Clock(clock=ns_to_stamp(now)))
                     or camera.get_clock().now().nanoseconds == now, f"/clock {now}")
        bench.publish(good_tf(now))

    times = iter(range(50 * SECOND, 60 * SECOND, SECOND // 10))
    ros.wait_for(lambda: go_to(next(times)) or started.acquire(blocking=False), "the first picture")
    ros.wait_for(lambda: go_to(next(times)) or camera.session._worker._waiting, "one that waits")
    go_to(7 * SECOND)
    ros.wait_for(lambda: all(stamp < 50 * SECOND for stamp, _ in list(camera.session._worker._waiting)), "the jump")
    go_on.release(1000)
    times = iter(range(7 * SECOND, 50 * SECOND, SECOND // 10))
    ros.wait_for(lambda: go_to(next(times)) or bench.stamps(), "an image of the new run")
    ros.wait_for(lambda: int(bench.status.get("dropped.time_jump", 0)) >= 2, "the counter")
    assert max(bench.stamps()) < 50 * SECOND


def test_simulated_time_without_a_clock_is_reported(ros, bench, monkeypatch):
    monkeypatch.setattr(health, "SIMULATOR", 0.0)
    monkeypatch.setattr(health, "START_UP", 0.0)
    bench.destroy_publisher(bench.clock)
    start_camera(ros, bench, use_sim_time=True)
    text = "use_sim_time is set and nobody publishes /clock"
    ros.wait_for(lambda: text in bench.message, "the diagnostics")
    assert bench.level == DiagnosticStatus.WARN
    ros.wait_for(lambda: any(text in warning for warning in bench.warnings), "the warning")


def test_after_close_nothing_is_delivered():
    started, go_on, done, delivered = threading.Event(), threading.Event(), threading.Event(), []

    def work(item):
        started.set()
        go_on.wait()
        done.set()
        return lambda: delivered.append(item)

    worker = NewestWorker(lambda item: partial(work, item), together=1.0)
    worker.offer(1)
    assert started.wait(20.0)
    worker.close()  # while the work goes on
    go_on.set()
    assert done.wait(20.0) and delivered == []


def test_the_next_is_worked_on_while_one_is_published_and_one_is_published_at_a_time():
    free, worked, published = threading.Event(), [queue.Queue() for _ in range(3)], queue.Queue()

    def work(item):
        worked[item].put(threading.get_ident())
        return lambda: (free.wait(), published.put((item, threading.get_ident())))

    worker = NewestWorker(lambda item: partial(work, item), together=1.0)
    for item in range(3):
        worker.offer(item)
    painters = {each.get(timeout=20.0) for each in worked[:2]}  # the first is not yet published
    assert worked[2].empty() and published.empty()
    free.set()
    outcomes = [published.get(timeout=20.0) for _ in range(3)]
    assert [item for item, _ in outcomes] == [0, 1, 2] and not painters & {thread for _, thread in outcomes}
    worker.close()


def test_what_is_forgotten_is_not_published_and_holds_up_nobody():
    free, entered, published = threading.Event(), queue.Queue(), queue.Queue()

    def work(item):
        return lambda: (entered.put(item), free.wait(), published.put(item))

    worker = NewestWorker(lambda item: partial(work, item), together=1.0)
    worker.offer("on its way")
    assert entered.get(timeout=20.0) == "on its way"
    for item in "waits to be published", "is not begun":
        worker.offer(item)
    threading.Timer(0.2, free.set).start()
    assert worker.clear() == ["waits to be published", "is not begun"]  # after the delivery in hand
    worker.offer("the next")
    assert [published.get(timeout=20.0) for _ in range(2)] == ["on its way", "the next"]
    worker.close()


def test_what_paints_is_made_in_the_thread_that_paints():
    """One thread asks for all of torch's: two teams on the same cores are far slower than one."""
    painted = queue.Queue()
    worker = NewestWorker(lambda item: lambda: painted.put(threading.get_ident()), together=1.0,
                          load=threading.get_ident)
    worker.offer(1)
    assert painted.get(timeout=20.0) == worker.loaded != threading.get_ident()
    worker.close()

    def fail():
        raise ValueError("no such world")

    with pytest.raises(ValueError, match="no such world"):
        NewestWorker(painted.put, together=1.0, load=fail)


def test_one_item_is_drawn_ahead_and_the_newest_is_drawn_next():
    """While one is painted the next is drawn, and what comes after that gives way to what is newer."""
    free, drawn, painted = threading.Semaphore(0), queue.Queue(), queue.Queue()

    def draw(item):
        drawn.put(item)
        return lambda: (free.acquire(), painted.put(item)) and None

    worker = NewestWorker(draw, together=0.0)
    lost = worker.offer(0)
    assert drawn.get(timeout=20.0) == 0
    lost += worker.offer(1)
    assert drawn.get(timeout=20.0) == 1  # while 0 is painted
    for item in range(2, 9):
        time.sleep(0.01)  # they do not belong together
        lost += worker.offer(item)
    assert lost == list(range(2, 8)) and drawn.empty()
    free.release(3)
    assert [painted.get(timeout=20.0) for _ in range(3)] == [0, 1, 8] and drawn.get() == 8
    worker.close()


def test_a_world_is_changed_while_nothing_is_drawn_or_painted():
    threads, seen = Threads(), queue.Queue()
    begun, go_on = threading.Event(), threading.Event()
    threads.drawing.do(lambda: threads.painting.do(lambda: (begun.set(), go_on.wait(), seen.put("painted"))))
    assert begun.wait(20.0)
    changing = threading.Thread(target=lambda: threads.call(lambda: seen.put("changed")))
    changing.start()
    threads.drawing.do(lambda: seen.put("drawn"))
    go_on.set()
    assert [seen.get(timeout=20.0) for _ in range(3)] == ["painted", "changed", "drawn"]
    changing.join()
    threads.close()


# ---- a bad generator

def test_a_generator_that_fails_is_reported_and_does_not_end_the_camera(ros, bench, robot, monkeypatch):
    monkeypatch.setattr(health, "START_UP", 0.0)
    generator = Recorder(error=RuntimeError("the paint is dry"))
    start_camera(ros, bench, generator)
    robot.start()
    ros.wait_for(lambda: int(bench.status.get("dropped.generate_failed", 0)) > 5, "the counter")
    assert bench.got["image_raw"] == [] and bench.got["camera_info"] == []
    generator.error = None
    ros.wait_for(lambda: bench.got["image_raw"], "images")
    assert len([text for text in bench.warnings if "RuntimeError: the paint is dry" in text]) == 1


def test_a_pose_that_cannot_be_shown_is_one_line_in_the_log(ros, bench, robot, monkeypatch):
    monkeypatch.setattr(health, "START_UP", 0.0)
    start_camera(ros, bench, Recorder(error=ValueError("too far away")))
    robot.start()
    line = re.compile(r"no image for time [0-9.]+: the generator failed at \[.*\]: too far away")
    ros.wait_for(lambda: any(map(line.fullmatch, bench.warnings)), "the warning")


def test_a_camera_that_sees_nothing_still_publishes_and_says_so(ros, bench, robot, monkeypatch):
    monkeypatch.setattr(health, "START_UP", 0.0)
    start_camera(ros, bench, Recorder(coverage=False))
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) > 10, "images")
    ros.wait_for(lambda: any("sees nothing of the world" in text for text in bench.warnings), "the warning")
    ros.wait_for(lambda: "see nothing of the world" in bench.message and int(bench.status["nothing_seen"]) > 10,
                 "the diagnostics")
    assert bench.level == DiagnosticStatus.WARN


def test_a_slow_generator_gets_the_newest_tick(ros, bench, robot):
    """Ticks that wait while a picture is painted give way to newer ones, and are counted."""
    painting = threading.Semaphore(0)

    class Slow(Recorder):
        def generate(self, *args):
            painting.acquire()
            return super().generate(*args)

    start_camera(ros, bench, Slow())
    robot.start()
    ros.wait_for(lambda: int(bench.status.get("overruns", 0)) > 20, "overruns")
    ros.wait_for(lambda: bench.level == DiagnosticStatus.WARN, "the status that says so")
    assert re.search(r"\d+ of \d+ images lost: the model takes \d+ ms a frame, too slow", bench.message)
    painting.release(2)
    ros.wait_for(lambda: len(bench.got["image_raw"]) == 2, "two images")
    first, second = bench.stamps()
    assert second - first > 20 * SECOND // 50
    painting.release(1000)


@pytest.mark.parametrize("parameters, message", [
    ({"width": 0}, "parameter width .*from 1 to 8192, got 0"),
    ({"height": 10**9}, "parameter height .*from 1 to 8192, got 1000000000"),
    ({"hfov": 180.0}, "parameter hfov .*degrees.* got 180"),
    ({"rate": 0}, "parameter rate .*images per second.* got 0"),
    ({"rate": float("nan")}, "parameter rate .* got nan"),
    ({"width": "wide"}, "parameter width .* is a whole number, got 'wide'"),
    ({"map_frame": 7}, "parameter map_frame .* is a string, got 7; quote it"),
    ({}, "world is empty; give a world folder"),
    ({"world": "/nowhere/at/all"}, "/nowhere/at/all"),
    ({"wrld": "apartment"}, "no parameter 'wrld'; did you mean 'world'?"),
    ({"widht": 64}, "no parameter 'widht'; did you mean 'width'?"),
])
def test_bad_parameters(ros, parameters, message):
    with pytest.raises((ValueError, OSError), match=message):
        FrameCamera(parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()])


def test_a_bad_qos_override_is_a_bad_parameter(ros):
    override = Parameter("qos_overrides./image_raw.publisher.reliability", value="fair")
    with pytest.raises(ValueError, match="publisher of image_raw .*reliability.*fair"):
        FrameCamera(Recorder(), parameter_overrides=[override])


def test_parameters_are_described_and_whole_numbers_do_for_a_float(ros):
    camera = ros.spin(FrameCamera(Recorder(), parameter_overrides=[Parameter("rate", value=5)]))
    assert camera.get_parameter("rate").value == 5.0
    described = camera.describe_parameter("hfov")
    assert "degrees" in described.description and not described.read_only
    assert camera.describe_parameter("lockstep").read_only
    assert (described.floating_point_range[0].from_value, described.floating_point_range[0].to_value) == (1.0, 179.0)


def test_parameters_that_may_be_meant_for_other_nodes_are_named_and_ignored(ros, capfd):
    names = ("robot_base", "use_sim_time", "qos_overrides./image_raw.publisher.depth")
    values = ("base_link", True, 3)
    ros.spin(FrameCamera(Recorder(), parameter_overrides=[
        Parameter(name, value=value) for name, value in zip(names, values, strict=True)]))
    log = capfd.readouterr().err
    assert "there is no parameter 'robot_base'; it is ignored" in log and log.count("there is no parameter") == 1


def test_every_reason_for_missing_tf_comes_with_advice():
    from worldfm_ros.nodes.tf_history import TransformError

    assert set(health.ADVICE) == {kind.reason for kind in TransformError.__subclasses__()}


@pytest.mark.parametrize("duration, rate, lockstep, text, bad", [
    (0.26, 10.0, False, "260 ms a frame here: about 3.8 of the 10 Hz asked; lockstep:=true loses none", True),
    (0.26, 10.0, True, "260 ms a frame here: lockstep slows the simulation to about 0.38 of real time and", False),
    (0.03, 10.0, False, "30 ms a frame here: enough for the 10 Hz asked", False),
])
def test_the_start_up_line_tells_the_rate_of_this_machine(duration, rate, lockstep, text, bad):
    line, is_bad = camera_loading.speed_line(duration, rate, lockstep)
    assert f"this model takes {text}" in line and is_bad == bad


def test_tick_schedule():
    ticks = TickSchedule(100)
    assert ticks.due(1234) == [] and ticks.wait(1234) == 66
    assert ticks.due(1299) == []
    assert ticks.due(1300) == [1300] and ticks.wait(1300) == 100
    assert ticks.due(1610) == [1400, 1500, 1600]
    assert ticks.due(250) == [200]  # time went back
    assert ticks.due(300) == [300]
    assert ticks.due(300 + 11 * SECOND) == [300 + 11 * SECOND]  # nobody knows the TF of all the ticks between


def test_no_tick_is_missed_between_a_jump_and_the_first_look_at_the_clock():
    ticks = TickSchedule(100)
    assert ticks.due(1050) == [] and ticks.due(1210) == [1100, 1200]
    ticks.restart(300)
    assert ticks.due(520) == [300, 400, 500]
    ticks.restart(310)
    assert ticks.due(520) == [400, 500]
