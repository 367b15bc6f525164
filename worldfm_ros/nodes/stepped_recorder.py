"""A recorder in lockstep: the simulation goes on when what was published for a step is on its way to the disk."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from worldfm_ros.nodes.conversions import stamp_to_ns
from worldfm_ros.nodes.lockstep import DONE_TOPIC, Receipts
from worldfm_ros.nodes.participant import ANSWERS, Participant, newest_and_topics, values_of
from worldfm_ros.nodes.recording import Recording

BACKLOG = 64 * 2**20  # bytes that may wait for the disk while a simulation in lockstep goes on


class SteppedRecorder:
    """The recorder's part in lockstep: a step is over when all that the others have published for it has come."""

    def __init__(self, node: Node, receipts: Receipts, recording: Recording,
                 on_accounts: Callable[[DiagnosticArray], None]) -> None:
        self._logger, self._receipts, self._recording = node.get_logger(), receipts, recording
        self._name, self._on_accounts = node.get_fully_qualified_name(), on_accounts
        self._answered: int | None = None
        self._participant = Participant(node, self._on_step)
        node.create_subscription(DiagnosticArray, DONE_TOPIC, self._on_answer, ANSWERS)

    def received(self, topic: str, stamp: int, data: bytes) -> bool:
        """Whether the message is a new one: what comes twice is not recorded twice."""
        new = self._receipts.received(topic, stamp, data)
        self._answer()
        return new

    def leave(self) -> None:
        self._participant.leave()

    def _on_answer(self, message: DiagnosticArray) -> None:
        name = message.header.frame_id
        if name != self._name and message.status:
            newest, topics = newest_and_topics(values_of(message.status[0]))
            self._receipts.published(name, stamp_to_ns(message.header.stamp), newest, topics)
            self._on_accounts(message)
            self._answer()

    def _on_step(self, previous: int, stamp: int) -> None:
        repeated = stamp == self._receipts.step
        self._receipts.step = stamp
        if self._answered == stamp:
            self._participant.done(stamp, {})
        elif not self._answer() and repeated:
            self._explain()

    def _answer(self) -> bool:
        step = self._receipts.step
        if step in (None, self._answered) or self._receipts.missing() or self._recording.backlog > BACKLOG:
            return False
        self._answered = step
        self._participant.done(step, {})
        return True

    def _explain(self) -> None:
        """What the simulation waits for here; not for a camera's answer, which the simulator tells."""
        lacking = [text for text in self._receipts.missing() if text.startswith("/")]
        if self._recording.backlog > BACKLOG:
            lacking.append(f"the disk, {self._recording.backlog / 2**20:.0f} MB behind")
        if lacking:
            self._logger.warning(f"the simulation waits here for {', '.join(lacking)}", throttle_duration_sec=5.0,
                                 skip_first=True)
