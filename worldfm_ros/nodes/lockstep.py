"""Simulation in lockstep: time goes on only when everybody has finished its work for the present stamp. No ROS here.

The simulator publishes TF for a stamp and asks for a step to it; every participant answers when it is done. The stamps
of a step are those after the previous step's, up to and including its own; so a participant that was killed and comes
back knows from the question alone what it owes. The simulator repeats the question until all have answered.
"""

from __future__ import annotations

from collections.abc import Iterable
import threading

from worldfm_ros.nodes.tf_history import CACHE, seconds

STEP_TOPIC = "/lockstep/step"  # absolute, as /clock is: there is one time
DONE_TOPIC = "/lockstep/done"


class Barrier:
    """The simulator's side: who has not finished the present step. Knows the steps by their stamps, ns."""

    def __init__(self, wait_for: Iterable[str], start: int) -> None:
        """`wait_for`: names that must take part. Whoever else answers is waited for too, until it leaves."""
        self._required = frozenset(wait_for)
        self._reached: dict[str, int | None] = dict.fromkeys(self._required)
        self.previous = self.stamp = start

    def begin(self, stamp: int) -> None:
        """The next step. Whoever has left may be missed again from now on."""
        assert stamp > self.stamp, "time goes on"
        self.previous, self.stamp = self.stamp, stamp

    def answer(self, name: str, stamp: int, leaving: bool = False) -> None:
        """A participant has finished its work up to `stamp`; one that leaves is waited for no more, unless required."""
        if not leaving:
            self._reached[name] = stamp
        elif name in self._required:
            self._reached[name] = None
        else:
            self._reached.pop(name, None)

    def missing(self) -> list[str]:
        """Who has not answered this step, sorted."""
        return sorted(name for name, stamp in self._reached.items() if stamp != self.stamp)


class StepWork:
    """A camera's side: the ticks of the present step that are not finished. Thread-safe."""

    def __init__(self, period: int) -> None:
        self._period = period  # ns
        self._lock = threading.Lock()
        self._step: tuple[int, int] | None = None
        self._open: set[int] = set()

    def begin(self, previous: int, stamp: int) -> list[int] | None:
        """The ticks of the step from `previous` (exclusive; 0 = not told) to `stamp` (ns); None when it is repeated.

        What is still open of another step is forgotten: the simulator has gone on without this camera.
        """
        with self._lock:
            if self._step == (previous, stamp):
                return None
            self._step = previous, stamp
            if not previous or not 0 <= stamp - previous <= CACHE:
                previous = stamp - self._period
            first = previous - previous % self._period + self._period
            ticks = list(range(first, stamp + 1, self._period))
            self._open = set(ticks)
            return ticks

    def finish(self, tick: int) -> int | None:
        """A tick was published or lost. Returns the step's stamp when it was the last open one of the step."""
        with self._lock:
            if tick not in self._open:
                return None
            self._open.discard(tick)
            return self._step[1] if not self._open else None

    @property
    def finished(self) -> int | None:
        """The stamp of the present step when none of its ticks is open, else None."""
        with self._lock:
            return self._step[1] if self._step and not self._open else None

    @property
    def open(self) -> list[int]:
        """The ticks that are not finished, in order."""
        with self._lock:
            return sorted(self._open)


class Receipts:
    """A recorder's side: whether everything that the others have published for a step has come.

    Also knows what comes twice: a simulator repeats its TF, and a restarted camera its last frames.
    """

    KEPT = 1000  # messages of a topic that are remembered as recorded
    SMALL = 4096  # bytes; a larger message is known by its stamp

    def __init__(self, wait_for: Iterable[str], topics: Iterable[str]) -> None:
        """`wait_for`: names whose answers come first; `topics`: what is recorded."""
        self._wait_for, self._topics = sorted(wait_for), frozenset(topics)
        self._said: dict[str, tuple[int, int, tuple[str, ...]]] = {}  # by name: step, newest stamp, its topics
        self._newest: dict[str, int] = {}
        self._known: dict[str, dict[object, None]] = {}
        self.step: int | None = None  # the stamp of the present step

    def published(self, name: str, step: int, newest: int, topics: Iterable[str]) -> None:
        """`name` has finished the step; `newest`: stamp (ns, 0 = none) of the newest message on each of its topics."""
        self._said[name] = step, newest, tuple(topics)

    def received(self, topic: str, stamp: int, data: bytes) -> bool:
        """A message has come, with its header's stamp. False when the same has come before."""
        known = self._known.setdefault(topic, {})
        key = data if len(data) <= self.SMALL else stamp
        if key in known:
            return False
        known[key] = None
        if len(known) > self.KEPT:
            del known[next(iter(known))]
        self._newest[topic] = max(stamp, self._newest.get(topic, 0))
        return True

    def missing(self) -> list[str]:
        """What has not come of the present step, in words; empty when all is there."""
        lacking = []
        for name in self._wait_for:
            step, newest, topics = self._said.get(name, (None, 0, ()))
            if step != self.step:
                lacking.append(f"an answer of {name}")
                continue
            lacking += [f"{topic} of {seconds(newest)}" for topic in topics
                        if newest and topic in self._topics and self._newest.get(topic, 0) < newest]
        return lacking
