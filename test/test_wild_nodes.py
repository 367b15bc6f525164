"""The camera in a ROS graph that is not as it was told: words about what is probably meant."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from rcl_interfaces.msg import Log
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from test_frame_camera import Recorder, bench, robot, start_camera  # noqa: F401
from tf2_msgs.msg import TFMessage

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes import camera_session, health
from worldfm_ros.nodes.conversions import to_transform_stamped
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.hints import axes_hint


def test_a_frame_with_x_forward_is_suspected(ros, bench, robot, monkeypatch):  # noqa: F811
    said = []
    monkeypatch.setattr(camera_session, "axes_hint", lambda pose, frame: said.append(axes_hint(pose, frame)) or "")
    start_camera(ros, bench, camera_frame="camera_link")
    robot.start()
    ros.wait_for(lambda: said, "a pose")
    assert "optical frame" in said[0]


def test_best_effort_transforms_are_taken(ros, bench):  # noqa: F811
    """Of a publisher that offers less than tf2's, beside one that offers all."""
    camera = start_camera(ros, bench, always_on=True)
    assert not camera.session._begun
    less = bench.create_publisher(TFMessage, "/tf", QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))

    def publish() -> None:
        stamp = bench.get_clock().now().nanoseconds
        less.publish(TFMessage(transforms=[to_transform_stamped(Pose.identity(), "map", "base_link", stamp)]))

    bench.create_timer(0.02, publish)
    ros.wait_for(lambda: camera.session._begun, "a pose")


def test_transforms_in_a_namespace_are_named(ros, monkeypatch):
    monkeypatch.setattr(health, "START_UP", 0.0)
    said: list[str] = []
    from rclpy.node import Node

    fleet = ros.spin(Node("fleet"))
    fleet.create_subscription(Log, "/rosout", lambda message: said.append(message.msg), 100)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = fleet.create_publisher(TFMessage, "/robot1/tf_static", latched)
    static.publish(TFMessage(transforms=[to_transform_stamped(Pose.identity(), "map", "camera_optical_frame", 0)]))
    overrides = [Parameter("always_on", value=True), Parameter("tf_timeout", value=0.1)]
    ros.spin(FrameCamera(Recorder(), namespace="camera", parameter_overrides=overrides))
    ros.wait_for(lambda: any("-r /tf:=/robot1/tf" in text for text in said), "the word about the namespace")
