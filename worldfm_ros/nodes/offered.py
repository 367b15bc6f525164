"""Subscriptions that take what is offered: nothing is missed because a publisher promises less than others do."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

LESS = {  # what a publisher does that offers less, what that means, and what to change; said once
    QoSPolicyKind.RELIABILITY: "sends best effort: it is taken, and what gets lost on the way is not sent again; "
                               "let it publish reliable",
    QoSPolicyKind.DURABILITY: "keeps nothing for late subscribers: it is taken, without what it sent before; "
                              "let it publish with durability transient_local",
}


class Subscription:
    """A subscription that asks for reliable messages, and for kept ones where they are `latched`.

    DDS would give it nothing of a publisher that offers less. So where one comes that sends best effort, all of the
    topic is taken best effort; where one keeps nothing for late subscribers, what it sends from now on is taken too.
    """

    def __init__(self, node: Node, cls: type, topic: str, callback: Callable, depth: int, latched: bool = False,
                 raw: bool = False) -> None:
        self._node, self._arguments, self._raw = node, (cls, topic, callback), raw
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        self._depth, self._taken = depth, []
        self._wanted = [self._profile(ReliabilityPolicy.RELIABLE, durability)]
        self._subscribe()

    def destroy(self) -> None:
        """Take nothing any more."""
        while self._taken:
            self._node.destroy_subscription(self._taken.pop())

    def _profile(self, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
        return QoSProfile(depth=self._depth, reliability=reliability, durability=durability)

    def _subscribe(self) -> None:
        events = SubscriptionEventCallbacks(incompatible_qos=self._on_less, use_default_callbacks=False)
        before, self._taken = self._taken, [
            self._node.create_subscription(*self._arguments, qos, event_callbacks=events, raw=self._raw)
            for qos in self._wanted]
        for subscription in before:
            self._node.destroy_subscription(subscription)

    def _on_less(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        """A publisher has come that offers less than was asked for."""
        if event.last_policy_kind == QoSPolicyKind.RELIABILITY:
            less = ReliabilityPolicy.BEST_EFFORT
            wanted = [self._profile(less, qos.durability) for qos in self._wanted]
        elif event.last_policy_kind == QoSPolicyKind.DURABILITY:
            first = self._wanted[0]
            wanted = [first, self._profile(first.reliability, DurabilityPolicy.VOLATILE)]
        else:
            wanted = self._wanted
        if wanted != self._wanted:
            self._wanted = wanted
            self._subscribe()
            self._node.get_logger().warning(f"a publisher of {self._arguments[1]} {LESS[event.last_policy_kind]}")
        elif event.last_policy_kind != QoSPolicyKind.DURABILITY:
            name = qos_policy_name_from_kind(event.last_policy_kind)
            self._node.get_logger().warning(f"a publisher of {self._arguments[1]} offers less {name} than can be taken",
                                            throttle_duration_sec=5.0)
