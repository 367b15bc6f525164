"""When the camera takes an image, what it publishes of it, and what can be asked of it while it runs; over real DDS."""

import json
import math
import re

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger
from test_encodings import decode_compressed_depth
from test_frame_camera import HEIGHT, WIDTH, Bench, Recorder, Robot, good_tf, start_camera

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes import camera_outputs, health
from worldfm_ros.nodes.camera_modes import NewPoses
from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.conversions import SECOND, ns_to_stamp, stamp_to_ns
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.ticks import StandingClock
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World, write_world

TENTH = SECOND // 10
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def bench(ros):
    return ros.spin(Bench())


@pytest.fixture
def robot(bench):
    robot = Robot(bench)
    yield robot
    robot.stopped.set()
    if robot.is_alive():
        robot.join()


def ask(ros, bench, kind, name, request):
    client = bench.create_client(kind, f"/camera/frame_camera/{name}")
    ros.wait_for(client.service_is_ready, f"the service {name}")
    future = client.call_async(request)
    ros.wait_for(future.done, f"the answer of {name}")
    return future.result()


def hear(bench, kind, topic, qos=10):
    heard = []
    bench.create_subscription(kind, f"/camera/{topic}", heard.append, qos)
    return heard


# ---- at a rate: clocks of other speeds, paused, set back

class Time:
    """A clock in tenths of a second, with TF and more often than the ticks, as a bag that is played."""

    def __init__(self, ros, bench, real_period):
        self.ros, self.bench, self.real_period = ros, bench, real_period

    def play(self, first, last):
        """Twentieths of a second from `first` to `last`, and the wait for the tick of each tenth."""
        for twentieth in range(first, last + 1):
            stamp = twentieth * SECOND // 20
            self.bench.publish(good_tf(stamp))
            self.bench.clock.publish(Clock(clock=ns_to_stamp(stamp)))
            self.ros.pause(self.real_period)


@pytest.mark.parametrize("real_period", [0.025, 0.2], ids=["2x", "0.25x"])
def test_ticks_follow_a_clock_of_any_speed_paused_and_looped(ros, bench, real_period):
    camera = start_camera(ros, bench, rate=10.0, use_sim_time=True, tf_timeout=5.0)
    accounts = camera.session.health.accounts
    time = Time(ros, bench, real_period)
    ros.wait_for(bench.clock.get_subscription_count, "discovery")
    due = {k * TENTH for k in range(102, 110)}
    for _ in range(2):
        time.play(190, 210)
        ros.wait_for(lambda: bench.stamps()[-1] == 105 * TENTH, "the last tick before the pause")
        asked = accounts.counts["asked"]
        ros.pause(0.4)
        assert accounts.counts["asked"] == asked, "the clock stands still"
        time.play(211, 220)
        ros.wait_for(lambda: bench.stamps()[-1] == 110 * TENTH, "the last tick")
    seen, overruns = bench.stamps(), accounts.counts["overruns"]  # a busy machine may be too slow for a clock at 2x
    assert sum(stamp in due for stamp in seen) + overruns >= 2 * len(due), "no tick is forgotten"
    assert all(stamp % TENTH == 0 for stamp in seen)
    turn = next(i for i in range(1, len(seen)) if seen[i] < seen[i - 1])
    for run in (seen[:turn], seen[turn:]):
        assert run == sorted(set(run)), "each tick once, in order, in each loop"


def test_a_clock_at_a_tenth_of_real_time_gives_each_tick_once(ros, bench):
    camera = start_camera(ros, bench, rate=10.0, use_sim_time=True, tf_timeout=5.0)
    ros.wait_for(bench.clock.get_subscription_count, "discovery")
    for hundredth in range(1000, 1033):
        stamp = hundredth * SECOND // 100
        bench.publish(good_tf(stamp))
        bench.clock.publish(Clock(clock=ns_to_stamp(stamp)))
        ros.pause(0.1)
    ros.wait_for(lambda: bench.stamps()[-1:] == [103 * TENTH], "the last tick")
    assert bench.stamps() == [101 * TENTH, 102 * TENTH, 103 * TENTH]
    assert camera.session.health.accounts.counts["overruns"] == 0


def test_a_clock_that_stands_still_is_told_once_and_is_waited_for(ros, bench, monkeypatch):
    monkeypatch.setattr(health, "STANDS", 0.3)
    monkeypatch.setattr(health, "REPORT_PERIOD", 0.1)
    start_camera(ros, bench, rate=10.0, use_sim_time=True, tf_timeout=5.0)
    ros.wait_for(bench.clock.get_subscription_count, "discovery")
    time = Time(ros, bench, 0.02)
    for last, stamp in (205, "10.250000000"), (215, "10.750000000"):
        time.play(last - 10, last)
        said = f"the clock stands still at {stamp}: is the simulator paused"
        ros.wait_for(lambda said=said: any(said in warning for warning in bench.warnings), "the warning")
        ros.wait_for(lambda said=said: said in bench.message, "the diagnostics")
        ros.pause(0.5)
        assert sum("stands still" in warning for warning in bench.warnings) == (1 if last == 205 else 2), bench.warnings
        ros.wait_for(lambda last=last: bench.stamps()[-1:] == [last // 2 * TENTH], "the last image")


def test_a_standing_clock_is_timed_from_when_it_was_first_seen_to_stand():
    clock = StandingClock()
    assert [clock.look(now, real) for now, real in [(5, 1.0), (5, 3.0), (6, 4.0), (6, 4.5), (2, 5.0), (2, 9.0)]] == [
        0.0, 2.0, 0.0, 0.5, 0.0, 4.0]


# ---- at each new pose

def test_new_poses_are_taken_once_at_most_at_the_rate():
    poses = NewPoses(10.0)
    due = [stamp for stamp in (100, 100, 103, 107, 110, 111, 119, 121) if poses.is_due(stamp * SECOND // 100)]
    assert due == [100, 110, 119], "a tenth of a period early is in time"
    assert not poses.is_due(None)
    assert poses.is_due(5 * SECOND // 100), "the clock went back"
    assert not poses.is_due(4 * SECOND // 100), "a straggler"
    poses.restart()
    assert poses.is_due(4 * SECOND // 100), "the clock went back a little"


def test_every_new_pose_gets_an_image_of_its_stamp(ros, bench):
    generator = Recorder()
    start_camera(ros, bench, generator, mode="tf", rate=1000.0)
    base = bench.get_clock().now().nanoseconds
    stamps = [base + offset * 10**6 for offset in (0, 7, 50, 51, 333, 400)]
    for i, stamp in enumerate(stamps):
        def asked(i=i, stamp=stamp):  # again and again: what comes before the camera listens is lost
            bench.publish(good_tf(stamp))
            return len(bench.got["image_raw"]) == i + 1

        ros.wait_for(asked, "its image")
    assert bench.stamps() == stamps
    bench.publish(good_tf(stamps[-1]))  # the same pose again
    ros.pause(0.3)
    assert bench.stamps() == stamps and len(generator.poses) == len(stamps)


# ---- when asked

def test_images_are_taken_when_asked_and_only_then(ros, bench, robot):
    camera = start_camera(ros, bench, mode="trigger", tf_timeout=2.0)
    robot.start()
    ros.pause(0.5)
    assert bench.got["image_raw"] == []
    before = bench.get_clock().now().nanoseconds
    answer = ask(ros, bench, Trigger, "trigger", Trigger.Request())
    assert answer.success and "published the image of time" in answer.message, answer.message
    ros.wait_for(lambda: bench.got["image_raw"], "the image")
    assert bench.stamps()[0] > before
    topic = bench.create_publisher(Bool, "/camera/trigger", 10)
    ros.wait_for(topic.get_subscription_count, "discovery")
    topic.publish(Bool(data=False))
    topic.publish(Bool(data=True))
    ros.wait_for(lambda: len(bench.got["image_raw"]) == 2, "the second image")
    for _ in range(300):  # a flood
        topic.publish(Bool(data=True))
    ros.wait_for(lambda: camera.session.health.accounts.counts["unfinished"] == 0
                 and camera.session.health.accounts.counts["asked"] > 10, "the end of the flood")
    counts = camera.session.health.accounts.counts
    assert counts["asked"] == counts["published"] + counts["overruns"] + sum(
        count for reason, count in counts.items() if reason.startswith("dropped."))
    robot.stopped.set()
    robot.join()
    answer = ask(ros, bench, Trigger, "trigger", Trigger.Request())
    assert not answer.success and "no image for time" in answer.message, answer.message


# ---- what is published

def test_all_outputs_tell_of_the_same_frame(ros, bench, robot):
    class Painter(Recorder):
        def generate(self, *args):
            frame = super().generate(*args)
            frame.rgb[:] = (200, 100, 0)
            frame.confidence = np.full((HEIGHT, WIDTH), 255, np.uint8)
            return frame

    dots = AnchorMap.from_points(np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[255, 0, 1], [2, 3, 4]], np.uint8))
    generator = Painter(world=World("stage", dots, [], 0.1, label_names={0: "none", 7: "door"}))
    start_camera(ros, bench, generator, depth_encoding="16UC1", compressed="png")
    compressed = hear(bench, CompressedImage, "image_raw/compressed")
    compressed_depth = hear(bench, CompressedImage, "depth/image_rect/compressedDepth")
    points, poses = hear(bench, PointCloud2, "depth/points"), hear(bench, PoseStamped, "pose")
    confidence = hear(bench, Image, "confidence/image_raw")
    names = hear(bench, String, "segmentation/labels", LATCHED)
    robot.start()
    ros.wait_for(lambda: all((compressed, compressed_depth, points, poses, confidence, names)), "all outputs")
    assert json.loads(names[0].data) == {"0": "none", "7": "door"}
    picture, stamp = compressed[0], stamp_to_ns(compressed[0].header.stamp)
    assert picture.format == "rgb8; png compressed bgr8"
    assert cv2.imdecode(np.frombuffer(picture.data, np.uint8), 1)[5, 5].tolist() == [0, 100, 200]
    assert compressed_depth[0].format == "16UC1; compressedDepth png"
    millimetres, _ = decode_compressed_depth(bytes(compressed_depth[0].data))
    assert (millimetres[0] == 0).all() and (millimetres[1:] == 2500).all()
    assert bench.got["depth/image_rect"][0].encoding == "16UC1"
    cloud = np.frombuffer(points[0].data, np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")]))
    assert (points[0].width, points[0].height, points[0].point_step) == (WIDTH, HEIGHT, 16)
    assert np.isnan(cloud["z"][:WIDTH]).all() and (cloud["z"][WIDTH:] == 2.5).all() and (cloud["rgb"] == 0xC86400).all()
    assert confidence[0].encoding == "mono8" and set(confidence[0].data) == {255}
    truth = next(pose for pose in poses if stamp_to_ns(pose.header.stamp) >= stamp)
    p, q = truth.pose.position, truth.pose.orientation
    shown = Pose.from_quaternion((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
    assert truth.header.frame_id == "map" and np.linalg.norm(shown.matrix - np.eye(4)) > 0.1
    assert min(np.abs(pose.matrix - shown.matrix).max() for pose in generator.poses) < 1e-9
    anchors = hear(bench, PointCloud2, "anchor_map", LATCHED)  # asked for late
    ros.wait_for(lambda: anchors, "the anchors")
    cloud = np.frombuffer(anchors[0].data, cloud.dtype)
    assert anchors[0].header.frame_id == "map" and sorted(cloud["x"]) == [1, 4] and 0xFF0001 in cloud["rgb"]


def test_what_nobody_reads_is_not_made(ros, bench, robot, monkeypatch):
    for name in ("encode_picture", "compress_depth"):
        monkeypatch.setattr(camera_outputs, name, lambda *args, name=name: pytest.fail(f"{name} was called"))
    start_camera(ros, bench)
    robot.start()
    ros.wait_for(lambda: len(bench.got["image_raw"]) > 5, "images")


# ---- while it runs

def set_together(ros, bench, **values):
    request = SetParametersAtomically.Request(
        parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])
    return ask(ros, bench, SetParametersAtomically, "set_parameters_atomically", request).result


def test_parameters_change_together_or_not_at_all(ros, bench, robot):
    camera = start_camera(ros, bench)
    robot.start()
    ros.wait_for(lambda: bench.got["image_raw"], "images")
    result = set_together(ros, bench, width=64, height=20, hfov=90.0)
    assert result.successful, result.reason
    ros.wait_for(lambda: bench.got["image_raw"][-1].width == 64, "an image of the new size")
    image = bench.got["image_raw"][-1]
    assert (image.height, image.step, len(image.data)) == (20, 192, 64 * 20 * 3)
    infos = {stamp_to_ns(info.header.stamp): info for info in bench.got["camera_info"]}
    for image in bench.got["image_raw"]:  # no image with another's calibration
        info = infos.get(stamp_to_ns(image.header.stamp))
        assert info is None or (info.width, info.height) == (image.width, image.height)
    assert infos[max(infos)].k[0] == pytest.approx(32.0)
    for values, reason in [({"width": 128, "world": "/nowhere"}, "/nowhere"),
                           ({"width": 128, "lockstep": True}, "read-only"),
                           ({"width": 128, "height": 0}, "height")]:
        if "world" in values:
            camera._given = None  # so that the world is loaded
        result = set_together(ros, bench, **values)
        assert not result.successful and reason in result.reason, result.reason
        assert camera.get_parameter("width").value == 64 and camera.session.intrinsics.width == 64


def test_worlds_come_only_from_allowed_folders(tmp_path):
    settings = {"world": str(tmp_path / "in" / "w"), "allowed_folders": [str(tmp_path / "in")]}
    CameraParameters(**settings).check_folders()
    for world in (tmp_path / "out", tmp_path / "in" / ".." / "out", tmp_path / "inside"):
        with pytest.raises(ValueError, match="is not in the allowed folders"):
            CameraParameters(**settings | {"world": str(world)}).check_folders()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is not in the allowed folders"):
        CameraParameters(**settings | {"world": str(tmp_path / "in" / "link" / "w")}).check_folders()


def change_state(ros, bench, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return ask(ros, bench, ChangeState, "change_state", request).success


def test_the_lifecycle_from_the_outside(ros, bench, robot):
    overrides = {"width": WIDTH, "height": HEIGHT, "rate": 50.0, "autostart": False}
    camera = ros.spin(FrameCamera(Recorder(), namespace="camera", parameter_overrides=[
        Parameter(name, value=value) for name, value in overrides.items()]))
    robot.start()
    answer = ask(ros, bench, Trigger, "trigger", Trigger.Request())
    assert not answer.success and "not active" in answer.message
    assert not ask(ros, bench, Trigger, "reload_model", Trigger.Request()).success
    for _ in range(2):
        assert change_state(ros, bench, Transition.TRANSITION_CONFIGURE)
        bench.got["image_raw"].clear()
        assert change_state(ros, bench, Transition.TRANSITION_ACTIVATE)
        ros.wait_for(lambda: len(bench.got["image_raw"]) > 3, "images")
        assert change_state(ros, bench, Transition.TRANSITION_DEACTIVATE)
        ros.pause(0.2)
        count = len(bench.got["image_raw"])
        ros.pause(0.5)
        assert len(bench.got["image_raw"]) == count
        counts = camera.session.health.accounts.counts
        assert counts["unfinished"] == 0 and counts["asked"] > 0
        assert change_state(ros, bench, Transition.TRANSITION_CLEANUP)
        assert camera.count_publishers("/camera/image_raw") == 0


def test_a_configuration_that_fails_can_be_mended(ros, bench, tmp_path):
    overrides = {"world": "/nowhere", "autostart": False, "model": "anchors", "width": 32, "height": 24}
    camera = ros.spin(FrameCamera(namespace="camera", parameter_overrides=[
        Parameter(name, value=value) for name, value in overrides.items()]))
    assert not change_state(ros, bench, Transition.TRANSITION_CONFIGURE)
    dot = AnchorMap.from_points(np.zeros((1, 3)), np.zeros((1, 3), np.uint8))
    write_world(World("dot", dot, [], 0.1), tmp_path / "w")
    assert set_together(ros, bench, world=str(tmp_path / "w")).successful
    assert change_state(ros, bench, Transition.TRANSITION_CONFIGURE) and camera.session.generator.world.name == "dot"
    write_world(World("dots", dot, [], 0.1), tmp_path / "w")
    answer = ask(ros, bench, Trigger, "reload_model", Trigger.Request())
    assert answer.success and camera.session.generator.world.name == "dots"


def test_it_pauses_and_starts_again(ros, bench, robot):
    camera = start_camera(ros, bench)
    robot.start()
    ros.wait_for(lambda: bench.got["image_raw"], "images")
    assert ask(ros, bench, SetBool, "pause", SetBool.Request(data=True)).success
    ros.pause(0.3)
    count = len(bench.got["image_raw"])
    ros.pause(0.5)
    assert len(bench.got["image_raw"]) == count
    assert ask(ros, bench, Trigger, "reset", Trigger.Request()).success
    assert ask(ros, bench, SetBool, "pause", SetBool.Request(data=False)).success
    ros.wait_for(lambda: len(bench.got["image_raw"]) > count + 3, "images again")
    assert camera.session.listener is not None


# ---- what may be meant otherwise

@pytest.mark.parametrize("settings, words", [
    ({"hfov": 1.2}, ["hfov is in degrees.*say hfov 68.8"]), ({"hfov": 120.0}, ["outside of 50 to 100 degrees"]),
    ({"hfov": 70.0}, []), ({"hfov": 120.0, "model": "anchors"}, []),
])
def test_doubts_about_the_view(settings, words):
    doubts = CameraParameters(**settings).doubts()
    assert len(doubts) == len(words)
    for doubt, word in zip(doubts, words, strict=True):
        assert re.search(word, doubt)
    assert math.isfinite(CameraParameters().intrinsics.fx)
