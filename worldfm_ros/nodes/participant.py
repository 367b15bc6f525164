"""A node's part in a simulation in lockstep: it hears the steps and answers when it is done with one (lockstep.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import TimeReference

from worldfm_ros.nodes.accounts import nanoseconds
from worldfm_ros.nodes.conversions import make_header, ns_to_stamp, stamp_to_ns
from worldfm_ros.nodes.lockstep import DONE_TOPIC, STEP_TOPIC

ANSWERS = 100  # depth of the queue: several participants, several cameras each
STEPS = 10


class Participant:
    """Calls `on_step(previous, stamp)` (ns) for every step, repeated ones too, in the node's executor."""

    def __init__(self, node, on_step: Callable[[int, int], None]) -> None:
        self._name = node.get_fully_qualified_name()
        self._publisher = node.create_publisher(DiagnosticArray, DONE_TOPIC, ANSWERS)
        node.create_subscription(
            TimeReference, STEP_TOPIC,
            lambda step: on_step(stamp_to_ns(step.time_ref), stamp_to_ns(step.header.stamp)), STEPS)

    def done(self, stamp: int, values: Mapping[str, str]) -> None:
        """Say that the work up to `stamp` is finished. `values` tell of it, as FrameAccounts gives them."""
        self._publisher.publish(answer(self._name, stamp, values))

    def leave(self) -> None:
        """Say that nobody need wait for this node any more."""
        self._publisher.publish(answer(self._name, 0, {}, leaving=True))


def step_message(name: str, previous: int, stamp: int) -> TimeReference:
    """The question of the simulator `name`: finish all that lies after `previous`, up to and including `stamp` (ns)."""
    return TimeReference(header=make_header(stamp, ""), time_ref=ns_to_stamp(previous), source=name)


def answer(name: str, stamp: int, values: Mapping[str, str], leaving: bool = False) -> DiagnosticArray:
    """A participant's answer: its name is the header's frame_id and the status's name; STALE = it leaves."""
    level = DiagnosticStatus.STALE if leaving else DiagnosticStatus.OK
    status = DiagnosticStatus(level=level, name=name, values=[KeyValue(key=k, value=v) for k, v in values.items()])
    return DiagnosticArray(header=make_header(stamp, name), status=[status])


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {item.key: item.value for item in status.values}


def is_leaving(message: DiagnosticArray) -> bool:
    return any(status.level == DiagnosticStatus.STALE for status in message.status)


def newest_and_topics(values: Mapping[str, str]) -> tuple[int, list[str]]:
    """Of an answer: the stamp of the newest message (ns, 0 = none yet) on each of the participant's topics."""
    return nanoseconds(values.get("newest", "0")), values.get("topics", "").split()


def resolved(node, name: str) -> str:
    """A node's full name; a relative one is in this node's namespace, so that a pushed namespace moves both."""
    return name if name.startswith("/") else f"{node.get_namespace().rstrip('/')}/{name}"
