"""The topics of a camera: everything that is painted for one stamp goes out with one header."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.nodes.conversions import ImageMessage, camera_info

DEPTH = 10  # frames that are kept for a subscriber; rosbag2 takes its own depth from here


class CameraOutputs:
    """The camera's topics. Everything painted for one stamp goes out with one header, and no info without its image."""

    def __init__(self, node: Node, intrinsics: Intrinsics) -> None:
        def publisher(kind, topic):
            # reliable matches every kind of subscriber, and best effort loses whole images above 512 KB on one host;
            # one profile for each topic, because rclpy writes the overrides into it
            qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
            overridable = QoSOverridingOptions.with_default_policies()
            try:
                return node.create_publisher(kind, topic, qos, qos_overriding_options=overridable)
            except RuntimeError as error:
                raise ValueError(f"the publisher of {topic} cannot be made: {error}") from None

        size = intrinsics.width, intrinsics.height
        self._intrinsics = intrinsics
        # mono16, not 16UC1: every viewer shows it, and nothing mistakes the labels for millimetres of depth
        self._images = {
            "rgb": (publisher(Image, "image_raw"), ImageMessage(*size, "rgb8")),
            "depth": (publisher(Image, "depth/image_rect"), ImageMessage(*size, "32FC1")),
            "labels": (publisher(Image, "segmentation/image_raw"), ImageMessage(*size, "mono16")),
        }
        self._infos = [publisher(CameraInfo, "camera_info"), publisher(CameraInfo, "depth/camera_info")]
        self._publishers = [*(publisher for publisher, _ in self._images.values()), *self._infos]
        self.topics = [publisher.topic_name for publisher in self._publishers]

    def wanted(self) -> bool:
        """Whether anybody subscribes to any of the topics."""
        return any(self.subscribers())

    def subscribers(self) -> list[int]:
        """How many subscriptions each topic has."""
        return [publisher.get_subscription_count() for publisher in self._publishers]

    def publish(self, frame, header: Header) -> None:
        """`frame`: a generator's Frame. Its depth 0 = none becomes NaN (REP-118)."""
        depth = np.where(frame.depth > 0, frame.depth, np.float32(np.nan))
        pixels = {"rgb": frame.rgb, "depth": depth, "labels": frame.labels}
        images = [(publisher, message.filled(pixels[name], header))
                  for name, (publisher, message) in self._images.items()]
        info = camera_info(self._intrinsics, header)
        for publisher, message in [*images, *((publisher, info) for publisher in self._infos)]:
            publisher.publish(message)
