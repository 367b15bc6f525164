"""When a camera takes an image in real time: at a rate, at each new pose, or when asked. Stamps are integer ns."""

from __future__ import annotations

from collections.abc import Callable

from worldfm_ros.nodes.tf_history import CACHE
from worldfm_ros.nodes.ticks import TickSchedule, tick_period

Take = Callable[[int], None]


class AtRate:
    """At every whole multiple of 1 / rate on the node's clock."""

    def __init__(self, node, take: Take, rate: float) -> None:
        self._clock, self._take = node.get_clock(), take
        self._ticks = TickSchedule(tick_period(rate))
        self._timer = node.create_timer(1.0 / rate, self._on_timer)

    def set_rate(self, rate: float) -> None:
        self._ticks = TickSchedule(tick_period(rate))
        self._on_timer()

    def restart(self) -> None:
        """After a jump of the clock."""
        self._ticks.restart(self._clock.now().nanoseconds)

    def _on_timer(self) -> None:
        now = self._clock.now().nanoseconds
        for stamp in self._ticks.due(now):
            self._take(stamp)
        self._timer.timer_period_ns = self._ticks.wait(now)
        self._timer.reset()


class NewPoses:
    """The stamps at which a pose becomes known, at most `rate` a second of the stamps' own time. No ROS here."""

    def __init__(self, rate: float) -> None:
        self._period = tick_period(rate)
        self._last: int | None = None

    def restart(self) -> None:
        """After a jump back: every stamp is new."""
        self._last = None

    def is_due(self, stamp: int | None) -> bool:
        """Whether the newest stamp at which the pose is known asks for an image. After a jump back it does."""
        if stamp is None or (self._last is not None and 0 <= self._last - stamp <= CACHE // 10):
            return False  # not known, the same again, or a straggler
        # half a period of the publisher's jitter is no reason to skip a pose
        if self._last is not None and self._last < stamp < self._last + self._period - self._period // 10:
            return False
        self._last = stamp
        return True


class AtPoses:
    """At each new pose that TF gives, as soon as it is known."""

    def __init__(self, listener, take: Take, frames: tuple[str, str], rate: float) -> None:
        """`frames`: the map's and the camera's."""
        self._listener, self._take, self._frames = listener, take, frames
        self.set_rate(rate)
        listener.on_moved = self._on_moved

    def set_rate(self, rate: float) -> None:
        self._poses = NewPoses(rate)

    def restart(self) -> None:
        self._poses.restart()

    def _on_moved(self) -> None:
        stamp = self._listener.latest(*self._frames)
        if self._poses.is_due(stamp):
            self._take(stamp)


class WhenAsked:
    """Only when the topic or service `trigger` asks."""

    def set_rate(self, rate: float) -> None:
        """There is none."""

    def restart(self) -> None:
        """There is nothing to forget."""
