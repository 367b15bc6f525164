"""A camera in lockstep: the simulator's steps say which frames are due, and it answers when all of them are out."""

from __future__ import annotations

from collections.abc import Callable
import math

from rclpy.node import Node

from worldfm_ros.nodes.camera_outputs import CameraOutputs, Shot
from worldfm_ros.nodes.health import ADVICE, Health
from worldfm_ros.nodes.lockstep import StepWork
from worldfm_ros.nodes.participant import Participant
from worldfm_ros.nodes.tf_buffer import TransformListener
from worldfm_ros.nodes.tf_history import seconds
from worldfm_ros.nodes.ticks import tick_period


class SteppedCamera:
    """A camera's part in lockstep: which frames the present step asks for, and the answer when all are out."""

    def __init__(self, node: Node, outputs: CameraOutputs, health: Health, listener: TransformListener,
                 request: Callable[[int, float], None]) -> None:
        """`request(stamp, timeout)` begins the work for a tick, which ends in `finish`."""
        self._outputs, self._health, self._listener, self._request = outputs, health, listener, request
        period = tick_period(node.settings.rate)
        self._work = StepWork(period)
        self._kept: list[Shot] = []  # the frames of the present step
        self._heard = outputs.subscribers()  # how many have subscribed to each topic when they were published
        self._participant = Participant(node, self._on_step)

    def keep(self, shot: Shot) -> None:
        """Remember what was published, for who comes late."""
        self._heard = self._outputs.subscribers()
        self._kept.append(shot)

    def finish(self, stamp: int) -> None:
        """A tick was published or lost. From any thread."""
        step = self._work.finish(stamp)
        if step is not None:
            self._participant.done(step, self._health.accounts.values())

    def leave(self) -> None:
        self._participant.leave()

    def _on_step(self, previous: int, stamp: int) -> None:
        ticks = self._work.begin(previous, stamp)
        if ticks is None:
            self._on_repeated_step()
            return
        self._kept.clear()
        for tick in ticks:
            self._request(tick, math.inf)
        if not ticks:
            self._participant.done(stamp, self._health.accounts.values())

    def _on_repeated_step(self) -> None:
        """Somebody has not answered: the answer may not have come, a recorder may have subscribed too late, or TF is
        missing here, and then the log should say so."""
        step = self._work.finished
        if step is None:
            self._explain()
            return
        if any(now > then for now, then in zip(self._outputs.subscribers(), self._heard, strict=True)):
            for shot in self._kept:
                self._outputs.publish(shot)
            self._heard = self._outputs.subscribers()
        self._participant.done(step, self._health.accounts.values())

    def _explain(self) -> None:
        for stamp, error in self._listener.waiting():
            self._health.warn("waits_for_tf", f"the simulation waits for the pose at {seconds(stamp)}: {error}. "
                                              f"{ADVICE[error.reason]}")
