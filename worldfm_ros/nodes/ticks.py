"""When things happen: at whole multiples of a period in integer nanoseconds, for every node alike.

So a camera tick has a TF sample of exactly its stamp when the robot's period divides the camera's.
"""

from __future__ import annotations

from worldfm_ros.nodes.tf_history import CACHE, SECOND


def missing_clock(node) -> str:
    """Why nothing will ever happen on a node's clock; empty when nothing is known to be wrong with it."""
    if not node.get_clock().ros_time_is_active or node.count_publishers(node.resolve_topic_name("/clock")):
        return ""
    return "use_sim_time is set and nobody publishes /clock: start the simulator, or set use_sim_time to false"


class StandingClock:
    """How long a clock has stood still, seconds of real time; a paused simulator's does."""

    def __init__(self) -> None:
        self._seen: tuple[int, float] | None = None  # what it showed, ns, and when it was first seen to

    def look(self, now: int, real: float) -> float:
        """The clock shows `now` (ns) at the real time `real` (s)."""
        if self._seen is None or self._seen[0] != now:
            self._seen = now, real
        return real - self._seen[1]


def tick_period(rate: float) -> int:
    """Nanoseconds between two ticks at `rate` Hz. Ticks are at whole multiples of it, for every node alike."""
    return round(SECOND / rate)


class TickSchedule:
    """The whole multiples of a period, each once, as a clock passes them."""

    def __init__(self, period: int) -> None:
        self._period = period  # ns
        self._last: int | None = None

    def restart(self, now: int) -> None:
        """The clock was set to `now`: the ticks from then on are due, also those passed by the next call."""
        self._last = now - 1 - (now - 1) % self._period

    def due(self, now: int) -> list[int]:
        """The ticks since the last call, ns; after a jump back, or forward by more than TF remembers, the newest."""
        newest = now - now % self._period
        last, self._last = self._last, newest
        if last is None:
            return []
        if not 0 <= newest - last <= CACHE:
            return [newest]
        return list(range(last + self._period, newest + 1, self._period))

    def wait(self, now: int) -> int:
        """Nanoseconds until the next tick."""
        return self._period - now % self._period
