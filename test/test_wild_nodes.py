"""The camera in a ROS graph that is not as it was told: words about what is probably meant."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from rcl_interfaces.msg import Log
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from test_frame_camera import Recorder, bench, robot, start_camera  # noqa: F401
from tf2_msgs.msg import TFMessage

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes import camera_session, health
from worldfm_ros.nodes.conversions import to_transform_stamped
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.hints import axes_hint

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


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
    ros.wait_for(lambda: any("/tf sends best effort" in text for text in bench.warnings), "the word about it")


@pytest.mark.parametrize("preset, asked, words", [
    ("reliable", LATCHED, "more durability than is offered and gets nothing: let it ask for durability volatile, or "
                          "set the parameter qos to latched"),
    ("sensor_data", QoSProfile(depth=1), "more reliability than is offered and gets nothing: let it ask for best "
                                         "effort, or set the parameter qos to reliable"),
])
def test_subscribers_that_ask_for_too_much_are_told_what_to_change(ros, bench, preset, asked, words):  # noqa: F811
    ros.spin(FrameCamera(Recorder(), namespace="camera", parameter_overrides=[Parameter("qos", value=preset)]))
    for _ in range(2):
        bench.create_subscription(Image, "/camera/depth/image_rect", lambda message: None, asked)

    def said() -> int:
        return sum("/camera/depth/image_rect asks for " + words in text for text in bench.warnings)

    ros.wait_for(said, "the word about it")
    ros.pause(0.5)
    assert said() == 1, bench.warnings


def test_transforms_in_a_namespace_are_named(ros, monkeypatch):
    monkeypatch.setattr(health, "START_UP", 0.0)
    said: list[str] = []
    from rclpy.node import Node

    fleet = ros.spin(Node("fleet"))
    fleet.create_subscription(Log, "/rosout", lambda message: said.append(message.msg), 100)
    static = fleet.create_publisher(TFMessage, "/robot1/tf_static", LATCHED)
    static.publish(TFMessage(transforms=[to_transform_stamped(Pose.identity(), "map", "camera_optical_frame", 0)]))
    overrides = [Parameter("always_on", value=True), Parameter("tf_timeout", value=0.1)]
    ros.spin(FrameCamera(Recorder(), namespace="camera", parameter_overrides=overrides))
    ros.wait_for(lambda: any("-r /tf:=/robot1/tf" in text for text in said), "the word about the namespace")
