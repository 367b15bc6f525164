"""How a camera's topics are offered: quality-of-service presets by name, and what may be wrong with a choice."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from time import monotonic, sleep

from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, QoSOfferedIncompatibleQoSInfo
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions

from worldfm_ros.nodes.qos_presets import DEPTH, PRESETS

SAFE_BYTES = 512 * 2**10  # larger best-effort messages get lost on one host with Fast DDS as it comes
ON_THE_WAY = DEPTH // 2  # messages that a publisher may have sent unanswered; with more, some would be replaced unsent
PATIENCE = 0.1  # seconds for the answers; a subscriber that was killed never gives one
LOOK = 0.002  # seconds between two looks
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
VOLATILE, TRANSIENT_LOCAL = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL


def preset(name: str) -> QoSProfile:
    """A new profile each time, because rclpy writes overrides into it. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"parameter qos is one of {', '.join(PRESETS)}, got {name!r}")
    depth, reliable, latched = PRESETS[name]
    return QoSProfile(depth=depth, reliability=RELIABLE if reliable else BEST_EFFORT,
                      durability=TRANSIENT_LOCAL if latched else VOLATILE)


def publisher(node, kind: type, topic: str, qos: str):
    """A publisher with a preset that parameters may override; says once what a subscriber that gets nothing of it
    should change. Raises ValueError for a bad override."""
    told: set[str] = set()

    def on_more(event: QoSOfferedIncompatibleQoSInfo) -> None:
        text = more_than_offered(node.resolve_topic_name(topic), event.last_policy_kind)
        if text not in told:
            told.add(text)
            node.get_logger().warning(text)

    try:
        return node.create_publisher(kind, topic, preset(qos),
                                     event_callbacks=PublisherEventCallbacks(incompatible_qos=on_more),
                                     qos_overriding_options=QoSOverridingOptions.with_default_policies())
    except RuntimeError as error:
        raise ValueError(f"the publisher of {topic} cannot be made: {error}") from None


def more_than_offered(topic: str, policy: QoSPolicyKind) -> str:
    """What to do about a subscriber that asks for more of that policy than the topic's publisher offers."""
    name = qos_policy_name_from_kind(policy).lower()
    there, here = {
        QoSPolicyKind.RELIABILITY: ("best effort", "set the parameter qos to reliable"),
        QoSPolicyKind.DURABILITY: ("durability volatile", "set the parameter qos to latched"),
    }.get(policy, (f"no {name}", f"override it (qos_overrides.{topic}.publisher.{name})"))
    return (f"a subscriber of {topic} asks for more {name} than is offered and gets nothing: let it ask for {there}, "
            f"or {here}")


class PacedPublisher:
    """Publishes no faster than messages get through: with `send_from_a_thread` on a busy machine, a burst of images
    would else replace itself in the queue before it is sent (57 of 300 at 1920x1080).
    """

    def __init__(self, node, kind: type, topic: str, qos: str) -> None:
        """Raises ValueError for a bad override of the preset `qos`."""
        self.publisher = publisher(node, kind, topic, qos)
        self._unanswered = 0  # calls since all that was sent was known to have arrived

    def publish(self, message) -> None:
        """Returns when it is sent or on its way."""
        self.publisher.publish(message)
        self._unanswered = 0 if self._arrived() else self._unanswered + 1
        if self._unanswered == ON_THE_WAY:
            deadline = monotonic() + PATIENCE
            while not self._arrived() and monotonic() < deadline:
                sleep(LOOK)  # not rclpy's own wait, which holds Python's lock
            self._unanswered = 0

    def _arrived(self) -> bool:
        return self.publisher.wait_for_all_acked(Duration())


def send_from_a_thread(environment: MutableMapping[str, str]) -> None:
    """Let Fast DDS send from a thread of its own, unless the user has chosen. To be called before rclpy.init.

    Else `publish` sends, piece by piece, and holds Python's lock the while: 13 ms for a picture of 1920x1080, not 1.3.
    """
    environment.setdefault("RMW_FASTRTPS_PUBLICATION_MODE", "ASYNCHRONOUS")


def loss_to_expect(qos: str, image_bytes: int, environment: Mapping[str, str]) -> str:
    """Why images of this size will not arrive; empty when nothing speaks against it."""
    if PRESETS[qos].reliable or image_bytes <= SAFE_BYTES or any(name in environment for name in PROFILES):
        return ""
    return (f"images of {image_bytes / 2**10:.0f} KB are published best effort: Fast DDS as it comes loses nearly all "
            f"above {SAFE_BYTES // 2**10} KB on one host. Use qos:=reliable, or set {PROFILES[0]} to this package's "
            f"config/fastdds.xml for publisher and subscriber")
