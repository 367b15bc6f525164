"""The robot node over real DDS: its TF chain, stamps and odometry, who steers it, how a trajectory is replayed."""

from itertools import pairwise
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from test_drive import PLACES, anchor_map, keyframe, room_points
from tf2_msgs.msg import TFMessage

from worldfm_ros.drive.free_space import FreeSpace
from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.nodes import demo_robot
from worldfm_ros.nodes.conversions import SECOND, ns_to_stamp, pose_from_transform, stamp_to_ns
from worldfm_ros.nodes.demo_robot import DemoRobot
from worldfm_ros.nodes.tf_history import seconds
from worldfm_ros.nodes.ticks import tick_period
from worldfm_ros.sources.rgbd_folder import write_poses
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World, write_world

HEIGHT = 1.2  # of the keyframes above the floor
START_YAW = 0.3


def make_world() -> World:
    keyframes = [keyframe(i, *place, HEIGHT, START_YAW) for i, place in enumerate(PLACES)]
    return World("room", anchor_map(room_points()), keyframes, 0.04)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robot") / "world"
    write_world(make_world(), folder)
    return str(folder)


@pytest.fixture(autouse=True)
def no_other_robots(monkeypatch):
    monkeypatch.setattr(demo_robot, "DISCOVERY", 0.0)


class Bench(Node):
    """Everybody else: listens to TF and odometry, steers, and gives the time where it is simulated."""

    def __init__(self):
        super().__init__("bench")
        self.tf, self.static, self.odom = [], [], []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(TFMessage, "/tf", self.tf.append, 1000)
        self.create_subscription(TFMessage, "/tf_static", self.static.append, latched)
        self.create_subscription(Odometry, "odom", self.odom.append, 1000)
        self.cmd_vel = self.create_publisher(Twist, "cmd_vel", 1)
        self.clock = self.create_publisher(Clock, "/clock", 10)

    def freeze(self):
        """Keep what has come so far; the subscriptions go on with the old lists."""
        self.tf, self.odom = self.tf[:], self.odom[:]

    def steer(self, v, w):
        command = Twist()
        command.linear.x, command.angular.z = float(v), float(w)
        self.cmd_vel.publish(command)

    @property
    def stamps(self):
        return np.array([stamp_to_ns(m.transforms[0].header.stamp) for m in self.tf])

    @property
    def bases(self):
        """T_odom_base of every TF message."""
        return [pose_from_transform(m.transforms[0].transform) for m in self.tf]

    @property
    def mounts(self):
        """(parent, child) -> pose of the static transforms."""
        return {(t.header.frame_id, t.child_frame_id): pose_from_transform(t.transform)
                for m in self.static for t in m.transforms}

    @property
    def cameras(self):
        """T_map_camera_optical of every TF message, through the whole chain."""
        mounts = self.mounts
        front = mounts["map", "odom"]
        back = mounts["base_link", "camera_link"] @ mounts["camera_link", "camera_optical_frame"]
        return [front @ base @ back for base in self.bases]

    @property
    def twists(self):
        """(N, 6) linear and angular velocity of every odometry message."""
        return np.array([[v for part in (m.twist.twist.linear, m.twist.twist.angular) for v in (part.x, part.y, part.z)]
                         for m in self.odom])


def make_robot(**parameters):
    return DemoRobot(parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()])


def test_it_moves_in_the_frame_that_it_is_told(ros, world):
    bench = ros.spin(Bench())
    ros.spin(make_robot(world=world, map_frame="site"))
    ros.wait_for(lambda: bench.static, "the mounts")
    assert [parent for parent, child in bench.mounts if child == "odom"] == ["site"]


def difference(a, b):
    """Metres, radians between two poses."""
    return np.linalg.norm(a.translation - b.translation), (a.rotation.inv() * b.rotation).magnitude()


def check_stamps(stamps, period):
    assert not np.any(stamps % period), "stamps are whole multiples of the period"
    assert np.all(np.diff(stamps) == period), "strictly increasing, none missing"


def test_chain_stamps_and_odometry_of_a_drive(ros, world):
    bench = ros.spin(Bench())
    ros.spin(make_robot(world=world, tf_rate=60.0))
    ros.wait_for(lambda: len(bench.odom) >= 180 and len(bench.tf) >= 180 and bench.static, "three seconds of TF")
    bench.freeze()
    bases, cameras, stamps = bench.bases, bench.cameras, bench.stamps
    check_stamps(stamps, tick_period(60.0))
    assert [t.child_frame_id for m in bench.tf for t in m.transforms] == ["base_link"] * len(stamps)

    assert set(bench.mounts) == {("map", "odom"), ("base_link", "camera_link"), ("camera_link", "camera_optical_frame")}
    space = FreeSpace.from_world(make_world().anchors, make_world().keyframes)
    start = Pose(Pose.planar(0, 0, START_YAW).rotation, [*space.nearest_free(*PLACES[0]), space.floor])
    assert max(difference(bases[0], start)) < 1e-9, "it starts where the first keyframe was taken, facing as it did"
    for base, camera in zip(bases, cameras, strict=True):
        expected = base @ Pose(Rotation.identity(), [0, 0, HEIGHT - space.floor]) @ T_BODY_OPTICAL
        assert max(difference(camera, expected)) < 1e-9
    assert cameras[0].translation[2] == pytest.approx(HEIGHT)
    ahead = [math.cos(START_YAW), math.sin(START_YAW), 0]
    np.testing.assert_allclose(cameras[0].rotation.apply([0, 0, 1]), ahead, atol=1e-9)

    moved = [max(difference(base, bases[0])) for base in bases]
    assert max(moved[:50]) == 0.0 and moved[-1] > 0.1, "it stands still for a second, then it drives"
    for message in bench.odom:
        assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
    stamp_of_odom = {stamp_to_ns(m.header.stamp): m for m in bench.odom}
    for stamp, base, before in zip(stamps[1:], bases[1:], bases[:-1], strict=True):
        if stamp in stamp_of_odom:
            check_odometry(stamp_of_odom[stamp], before, base, 1 / 60)


def check_odometry(message, before, base, dt):
    """Pose as TF has it; driving on from the pose before with the twist leads to it."""
    position = message.pose.pose.position
    np.testing.assert_allclose((position.x, position.y, position.z), base.translation, atol=1e-12)
    v, w = message.twist.twist.linear, message.twist.twist.angular.z
    assert (v.z, abs(v.y) < 1e-9) == (0.0, True), "wheels do not slide sideways"
    step = before.inverse() @ base
    np.testing.assert_allclose(step.rotation.as_rotvec(), [0, 0, w * dt], atol=1e-9)
    np.testing.assert_allclose(step.translation, [v.x * dt * math.cos(w * dt / 2), v.x * dt * math.sin(w * dt / 2), 0],
                               atol=1e-9)


def test_a_late_subscriber_gets_all_static_transforms_at_once(ros, world):
    early = ros.spin(Bench())
    ros.spin(make_robot(world=world, camera_height=0.45))
    ros.wait_for(lambda: early.static and early.tf, "the robot")
    late = ros.spin(Bench())
    ros.wait_for(lambda: late.static, "the latched transforms")
    assert len(late.static) == 1 and len(late.mounts) == 3
    assert late.mounts["base_link", "camera_link"].translation[2] == pytest.approx(0.45)


def test_cmd_vel_takes_the_wheel_and_gives_it_back(ros, world):
    bench = ros.spin(Bench())
    ros.spin(make_robot(world=world))

    def drives_by_itself():
        return len(bench.odom) > 1 and bench.twists[-1, 0] > 0.1

    def obeys(v, w):
        bench.steer(v, w)
        return np.allclose(bench.twists[-1], [v, 0, 0, 0, 0, w], atol=1e-6)

    ros.wait_for(drives_by_itself, "its own tour")
    ros.wait_for(lambda: obeys(0.0, 0.7), "the commanded turn")
    ros.wait_for(lambda: obeys(-0.2, 0.0), "the commanded way back")
    silent = stamp_to_ns(bench.odom[-1].header.stamp)
    for nonsense in (math.nan, math.inf):
        bench.steer(0.0, nonsense)  # is not obeyed, and does not count as a command
    ros.wait_for(drives_by_itself, "its own tour again")
    obeyed = np.isclose(bench.twists[:, 0], -0.2, atol=1e-6)
    held = stamp_to_ns(bench.odom[np.flatnonzero(obeyed)[-1]].header.stamp) - silent
    assert held / SECOND >= 0.4, "a command holds for half a second"
    assert np.isfinite(bench.twists).all()


@pytest.fixture
def trajectory():
    """A hand-held camera: 30 poses with all six degrees of freedom, numbered with gaps."""
    random = np.random.default_rng(5)
    turns = Rotation.from_rotvec(random.normal(0, 1, (30, 3)))
    return {3 * i + 1: Pose(turn, random.uniform(-3, 3, 3) + [0, 0, 4]) for i, turn in enumerate(turns)}


def test_a_trajectory_is_replayed_exactly(ros, tmp_path, trajectory):
    write_poses(trajectory, tmp_path / "poses.txt")
    bench = ros.spin(Bench())
    robot = ros.spin(make_robot(trajectory=str(tmp_path / "poses.txt"), rate=30.0))
    expected = list(trajectory.values())
    ros.wait_for(lambda: len(bench.tf) > 90 and bench.static, "three seconds of TF")
    bench.freeze()
    check_stamps(bench.stamps, tick_period(30.0))
    cameras = bench.cameras
    start = next(i for i, camera in enumerate(cameras) if max(difference(camera, expected[1])) < 1e-9) - 1
    assert start >= 20, "the first pose holds until the start"
    for k, camera in enumerate(cameras):
        pose = expected[int(np.clip(k - start, 0, len(expected) - 1))]
        assert max(difference(camera, pose)) < 1e-12
    assert len(cameras) > start + 45 and robot.exit_code is None, "the last pose holds, and the node goes on"
    assert not robot.get_subscriptions_info_by_topic("/cmd_vel"), "nobody can push the camera off its trajectory"


def test_bad_input_is_refused_before_anything_is_published(ros, tmp_path, world):
    bench = ros.spin(Bench())
    (tmp_path / "nan.txt").write_text("0 0 0 1 0 0 0 1\n1 0 nan 1 0 0 0 1\n")
    with pytest.raises(ValueError, match=r"nan\.txt: 1 of 2 poses are lost .*first index 1"):
        make_robot(trajectory=str(tmp_path / "nan.txt"))
    with pytest.raises(OSError):
        make_robot(trajectory=str(tmp_path / "missing.txt"))
    with pytest.raises(ValueError, match="world and trajectory are empty"):
        make_robot()
    with pytest.raises(ValueError, match="tf_rate"):
        make_robot(world=world, tf_rate=0.0)
    write_world(World("empty", AnchorMap(), [], 0.04), tmp_path / "empty")
    with pytest.raises(ValueError, match="trajectory file"):
        make_robot(world=str(tmp_path / "empty"))
    node = ros.spin(make_robot(world=world))  # what came before would arrive before this
    ros.wait_for(lambda: bench.tf, "a good robot")
    assert len(bench.static) == 1 and node.count_publishers("/tf") == 1


def test_simulated_time(ros, world):
    """Driven by /clock alone, faster than real time: 20 s of motion to the tick, then the end."""
    bench = ros.spin(Bench())
    robot = ros.spin(make_robot(world=world, tf_rate=10.0, duration=20.0, use_sim_time=True))
    ros.wait_for(lambda: bench.clock.get_subscription_count() and robot.count_subscribers("/tf"), "discovery")
    now = 100 * SECOND

    def advance():
        nonlocal now
        now += SECOND // 20
        bench.clock.publish(Clock(clock=ns_to_stamp(now)))
        return robot.exit_code is not None

    ros.wait_for(advance, "the end of the drive")
    assert robot.exit_code == 0
    ros.wait_for(lambda: bench.stamps[-1] - moving_stamps(bench)[0] == 19.9 * SECOND, "the end pose")
    check_stamps(bench.stamps, SECOND // 10)
    assert bench.stamps[0] >= 100 * SECOND
    travelled = sum(difference(a, b)[0] for a, b in pairwise(bench.bases))
    assert 2.0 < travelled < 10.0


def test_it_waits_for_listeners_in_real_time(ros, world, capfd):
    """A simulated minute may be over at once; then the listeners have had no time to come."""
    bench = ros.spin(Bench())
    robot = ros.spin(make_robot(world=world, tf_rate=10.0, use_sim_time=True, wait_for=["second"]))
    ros.wait_for(bench.clock.get_subscription_count, "discovery")
    first = now = 1_795_436_771 * SECOND

    def advance():
        nonlocal now
        now += 5 * SECOND
        ros.wait_for(lambda: bench.clock.publish(Clock(clock=ns_to_stamp(now)))
                     or robot.get_clock().now().nanoseconds == now, "the clock")

    while now < first + 70 * SECOND:
        advance()
    ros.wait_for(lambda: bench.tf and bench.stamps[-1] >= first + 65 * SECOND, "a minute of TF")
    assert robot._start is None
    second = ros.spin(rclpy.create_node("second"))
    second.create_subscription(TFMessage, "/tf", lambda _: None, 100)
    ros.wait_for(lambda: advance() or robot._start, "the start")
    text, log = f"motion starts at {seconds(robot._start)}", []
    ros.wait_for(lambda: log.append(capfd.readouterr().err) or text in "".join(log), "the exact stamp in the log")


def test_without_a_clock_it_says_why_it_stands_still(ros, world, capfd):  # nobody of this test publishes /clock
    ros.spin(make_robot(world=world, use_sim_time=True))._check_clock()
    assert "use_sim_time is set and nobody publishes /clock" in capfd.readouterr().err


def test_a_second_robot_is_refused(ros, world, monkeypatch):
    bench = ros.spin(Bench())
    ros.spin(make_robot(world=world))
    ros.wait_for(lambda: bench.tf and bench.static, "the first robot")
    monkeypatch.setattr(demo_robot, "DISCOVERY", 60.0)
    with pytest.raises(ValueError, match=r"another demo_robot publishes /tf in ROS domain \d+; .* ROS_DOMAIN_ID"):
        make_robot(world=world)
    ros.wait_for(lambda: bench.count_publishers("/tf") == 1, "the end of the second robot")
    assert len(bench.static) == 1, "which has published nothing"


def moving_stamps(bench):
    """The stamps at which the robot is somewhere else than one tick before."""
    bases, stamps = bench.bases, bench.stamps
    count = min(len(bases), len(stamps))  # the robot goes on publishing while we read
    moves = zip(stamps[1:count], pairwise(bases[:count]), strict=True)
    return [stamp for stamp, (a, b) in moves if max(difference(a, b)) > 0]


def test_the_process_waits_for_its_listeners_and_ends_after_the_duration(ros, world):
    """The whole program: still until both listen to /tf, then `duration` seconds of motion, then exit code 0."""
    environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    parameters = {"world": world, "duration": 1.5, "tf_rate": 40.0, "wait_for": "[bench, second]"}
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    bench = ros.spin(Bench())
    process = subprocess.Popen([sys.executable, "-m", "worldfm_ros.nodes.demo_robot", "--ros-args", *words],
                               env=environment)
    try:
        ros.wait_for(lambda: len(bench.tf) > 80, "two seconds of TF")  # more than the second before a start
        assert max(difference(bench.bases[0], bench.bases[-1])) == 0.0, "one listener is not two"
        joined = bench.stamps[-1]
        second = ros.spin(rclpy.create_node("second"))
        second.create_subscription(TFMessage, "/tf", lambda _: None, 100)
        assert ros.wait_for(lambda: process.poll() is not None and [process.returncode], "the end") == [0]
    finally:
        process.kill()
    moving = moving_stamps(bench)
    assert moving[0] - joined >= SECOND
    assert len(moving) == pytest.approx(1.5 * 40, abs=2), "the last messages may be lost when the process ends"
