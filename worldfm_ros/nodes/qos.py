"""How a camera's topics are offered: quality-of-service presets by name, and what may be wrong with a choice."""

from __future__ import annotations

from collections.abc import Mapping

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

DEPTH = 10  # frames that are kept for a subscriber; rosbag2 takes its own depth from here
SAFE_BYTES = 512 * 2**10  # larger best-effort messages get lost on one host with Fast DDS as it comes
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
VOLATILE, TRANSIENT_LOCAL = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL
PRESETS = {  # depth, reliability, durability
    "reliable": (DEPTH, RELIABLE, VOLATILE),
    "sensor_data": (5, BEST_EFFORT, VOLATILE),
    "latched": (1, RELIABLE, TRANSIENT_LOCAL),
}


def preset(name: str) -> QoSProfile:
    """A new profile each time, because rclpy writes overrides into it. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"parameter qos is one of {', '.join(PRESETS)}, got {name!r}")
    depth, reliability, durability = PRESETS[name]
    return QoSProfile(depth=depth, reliability=reliability, durability=durability)


def publisher(node, kind: type, topic: str, qos: str):
    """A publisher with a preset that parameters may override. Raises ValueError for a bad override."""
    try:
        return node.create_publisher(kind, topic, preset(qos),
                                     qos_overriding_options=QoSOverridingOptions.with_default_policies())
    except RuntimeError as error:
        raise ValueError(f"the publisher of {topic} cannot be made: {error}") from None


def loss_to_expect(qos: str, image_bytes: int, environment: Mapping[str, str]) -> str:
    """Why images of this size will not arrive; empty when nothing speaks against it."""
    if PRESETS[qos][1] == RELIABLE or image_bytes <= SAFE_BYTES or any(name in environment for name in PROFILES):
        return ""
    return (f"images of {image_bytes / 2**10:.0f} KB are published best effort: Fast DDS as it comes loses nearly all "
            f"above {SAFE_BYTES // 2**10} KB on one host. Use qos:=reliable, or set {PROFILES[0]} to this package's "
            f"config/fastdds.xml for publisher and subscriber")
