"""A robot that carries the camera: it obeys cmd_vel, else drives itself through the world; or it replays a trajectory.

Publishes map -> odom -> base_link -> camera_link -> camera_optical_frame, and odom, at whole multiples of its period.
In lockstep it makes the time too: it publishes /clock, and a step's TF, and goes on when everybody has answered.
"""

from __future__ import annotations

import math
import sys
from time import monotonic, sleep

from geometry_msgs.msg import Twist, Vector3
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.nodes.conversions import SECOND, make_header, to_transform, to_transform_stamped
from worldfm_ros.nodes.offered import Subscription
from worldfm_ros.nodes.parameters import declare_parameters
from worldfm_ros.nodes.participant import resolved
from worldfm_ros.nodes.robot_motion import RobotParameters, playback, self_driving
from worldfm_ros.nodes.runner import run
from worldfm_ros.nodes.step_services import offer_services
from worldfm_ros.nodes.stepper import Stepper, StepSettings
from worldfm_ros.nodes.tf_history import seconds
from worldfm_ros.nodes.ticks import TickSchedule, missing_clock, tick_period

COMMAND_LIFE = SECOND // 2  # ns; who steers by cmd_vel repeats it, as Nav2 and teleop tools do
PATIENCE = 300.0  # seconds, real ones; the longest wait for listeners: a camera on a busy machine takes minutes
CLOCK_PERIOD = 5.0  # seconds between two complaints about a missing /clock
DISCOVERY = 3.0  # seconds in which a robot that runs already becomes known; mostly in one, but not on a busy machine
FIRST_STAMP = 10 * SECOND  # of a simulation in lockstep: 0 would mean "the latest" to TF
SETTLE = SECOND  # ns between the listeners' arrival and the start; discovery is not done on both sides at once


def body_twist(previous: Pose, pose: Pose, dt: float) -> Twist:
    """The mean velocity between two poses."""
    linear, angular = (Vector3(**dict(zip("xyz", vector, strict=True))) for vector in previous.velocity_to(pose, dt))
    return Twist(linear=linear, angular=angular)


class DemoRobot(Node):
    """The node. Raises ValueError or OSError for a world, trajectory or parameter that it cannot work with, and
    ValueError when there is such a robot already.
    """

    def __init__(self, **node_options) -> None:
        super().__init__("demo_robot", **node_options)
        self.exit_code: int | None = None
        self._settings = parameters = declare_parameters(self, RobotParameters)
        self._motion, mount = (playback if parameters.trajectory else self_driving)(parameters)
        self._period = tick_period(parameters.rate if parameters.trajectory else parameters.tf_rate)
        self._ticks = TickSchedule(self._period)
        self._came = monotonic()
        self._start: int | None = None  # stamp of the start pose, ns, once that is decided
        self._command: tuple[int, tuple[float, float]] | None = None  # when it came, ns; v, w
        self._sent: list[tuple[TFMessage, Odometry]] = []  # for the present step
        self._tf = self.create_publisher(TFMessage, "/tf", 100)
        self._check_alone()
        self._odom = self.create_publisher(Odometry, "odom", 10)
        self._publish_static(mount)
        if not parameters.trajectory:
            Subscription(self, Twist, "cmd_vel", self._on_command, 1)
        if parameters.lockstep:
            self._begin_lockstep()
        else:
            self._timer = self.create_timer(self._period / SECOND, self._on_timer)
            self.create_timer(CLOCK_PERIOD, self._check_clock, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Let the last pose arrive: whoever records needs it for the last image."""
        self._tf.wait_for_all_acked(Duration(seconds=0.1))

    def _check_alone(self) -> None:
        """Raise ValueError when another demo robot publishes the same frames: listeners would get a mixture of both."""
        topic, prefix = self._tf.topic_name, self._settings.frame_prefix
        ours = full_name if prefix else lambda info: info.node_name  # without a prefix all have the same frames
        while monotonic() - self._came < DISCOVERY:
            names = [ours(info) for info in self.get_publishers_info_by_topic("/tf")]
            if names.count(self.get_fully_qualified_name() if prefix else self.get_name()) > 1:
                self.destroy_node()
                raise ValueError(
                    f"another demo_robot publishes {topic} in ROS domain {self.context.get_domain_id()}; stop it "
                    f"(one that was killed is forgotten after 20 s), or give this one a name (in a simulation: "
                    f"robot:=r2), frames of its own in a namespace of its own (tf_prefix:=r2/), or another "
                    f"ROS_DOMAIN_ID")
            sleep(0.05)

    def _begin_lockstep(self) -> None:
        """Make the time. Raises ValueError when somebody else does."""
        if self.get_clock().ros_time_is_active or self.count_publishers(self.resolve_topic_name("/clock")):
            self.destroy_node()
            raise ValueError("in lockstep this robot makes the time; use_sim_time or a publisher of /clock says that "
                             "somebody else does: set lockstep to false, or let that simulator ask for the steps")
        settings, period = self._settings, self._period
        if not settings.trajectory:  # several of the robot's periods a step, all of them published
            period *= max(1, tick_period(settings.rate) // period)
        names = [resolved(self, name) for name in settings.wait_for]
        topics = [self._tf.topic_name, self._odom.topic_name]
        start = FIRST_STAMP - FIRST_STAMP % self._period
        self._start = start
        self.stepper = Stepper(self, StepSettings(start, period, settings.real_time_factor, names, topics),
                               self._advance, self._repeat, self._finish)
        self._step_services = offer_services(self, self.stepper)

    def _advance(self, previous: int, stamp: int) -> None:
        """Publish all of a step, whose end the stepper tells."""
        self._sent = self._sent[-1:]  # a camera that comes back needs the pose before the step as well
        for tick in range(previous + self._period, stamp + 1, self._period) if stamp > previous else [stamp]:
            self._tick(tick)
            if tick < stamp:
                self.stepper.tell_time(tick)

    def _repeat(self) -> None:
        for transforms, odometry_message in self._sent:
            self._tf.publish(transforms)
            self._odom.publish(odometry_message)

    def _finish(self, stamp: int) -> bool:
        if self._is_over(stamp):
            self.exit_code = 0
        return self.exit_code is not None

    def _check_clock(self) -> None:
        if problem := missing_clock(self):
            self.get_logger().warning(f"the robot stands still: {problem}")

    def _publish_static(self, mount: Pose) -> None:
        # odom too: it is exact, so there is never a correction, and nobody has to wait for its stamp
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._tf_static = self.create_publisher(TFMessage, "/tf_static", latched)
        settings, prefix = self._settings, self._settings.frame_prefix
        now = FIRST_STAMP if settings.lockstep else self.get_clock().now().nanoseconds
        self._tf_static.publish(TFMessage(transforms=[
            to_transform_stamped(Pose.identity(), settings.map_frame, f"{prefix}odom", now),
            to_transform_stamped(mount, f"{prefix}base_link", f"{prefix}camera_link", now),
            to_transform_stamped(T_BODY_OPTICAL, f"{prefix}camera_link", settings.camera_frame, now),
        ]))

    def _on_command(self, twist: Twist) -> None:
        command = twist.linear.x, twist.angular.z
        if not all(map(math.isfinite, command)):
            self.get_logger().warning(f"cmd_vel ignored: linear.x and angular.z are finite, got {command}",
                                      throttle_duration_sec=5.0)
            return
        self._command = self._now(), command

    def _now(self) -> int:
        return self.stepper.stamp if self._settings.lockstep else self.get_clock().now().nanoseconds

    def _on_timer(self) -> None:
        now = self.get_clock().now().nanoseconds
        for stamp in self._ticks.due(now):
            self._tick(stamp)
        self._timer.timer_period_ns = self._ticks.wait(now)
        self._timer.reset()

    def _tick(self, stamp: int) -> None:
        """Be where the robot is at this stamp, and say so."""
        before, dt = self._motion.pose, self._period / SECOND
        if self._start is None:
            self._decide_start(stamp)
        elif stamp > self._start and self.exit_code is None:
            self._motion.advance(self._command_at(stamp), dt)
        pose, prefix = self._motion.pose, self._settings.frame_prefix
        frames = f"{prefix}odom", f"{prefix}base_link"
        transforms = TFMessage(transforms=[to_transform_stamped(pose, *frames, stamp)])
        odometry_message = odometry(pose, body_twist(before, pose, dt), frames, stamp)
        self._tf.publish(transforms)
        self._odom.publish(odometry_message)
        if self._settings.lockstep:
            self._sent.append((transforms, odometry_message))
        elif self._is_over(stamp):
            self.exit_code = 0

    def _is_over(self, stamp: int) -> bool:
        """Whether the motion's duration is over at this stamp."""
        return self._start is not None and 0 < self._settings.duration <= (stamp - self._start) / SECOND

    def _decide_start(self, stamp: int) -> None:
        """Set the start when everybody who is waited for listens to /tf, or when they have not come in time."""
        listening = {full_name(info) for info in self.get_subscriptions_info_by_topic("/tf")}
        missing = [name for name in self._settings.wait_for if resolved(self, name) not in listening]
        if missing and monotonic() - self._came < PATIENCE:
            return
        if missing:
            self.get_logger().warning(f"{', '.join(missing)} did not come to listen to /tf; the robot starts anyway")
        self._start = stamp + math.ceil(SETTLE / self._period) * self._period
        self.get_logger().info(f"motion starts at {seconds(self._start)}")

    def _command_at(self, stamp: int) -> tuple[float, float] | None:
        """The command in force: the last one, unless it is too old."""
        if self._command is None or stamp - self._command[0] > COMMAND_LIFE:
            return None
        return self._command[1]


def full_name(endpoint) -> str:
    """The full name of the node that a publisher or subscription belongs to."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def odometry(pose: Pose, twist: Twist, frames: tuple[str, str], stamp: int) -> Odometry:
    """`pose` is T_odom_base, `frames` are odom's and the base's. The covariances stay 0: both are exact."""
    message = Odometry(header=make_header(stamp, frames[0]), child_frame_id=frames[1])
    transform = to_transform(pose)
    position, t = message.pose.pose.position, transform.translation
    position.x, position.y, position.z = t.x, t.y, t.z
    message.pose.pose.orientation = transform.rotation
    message.twist.twist = twist
    return message


def main(args=None) -> int:
    return run(DemoRobot, args)


if __name__ == "__main__":
    sys.exit(main())
