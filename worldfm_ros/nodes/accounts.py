"""What became of every frame that was asked for: counted by the camera, checked against the bag by the recorder.

No ROS here. The camera's `FrameAccounts` become `values`, text by text, that travel in a DiagnosticStatus; a recorder's
`Ledger` reads them on the other side and compares them with what it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
import threading
import time

from worldfm_ros.nodes.tf_history import SECOND, seconds

ENOUGH = 0.99  # of the asked images in the bag; a recording with fewer has failed
DROPPED = "dropped."  # before the reason of an image that could not be made
OVERRUNS = "overruns"  # ticks that gave way to newer ones


class FrameAccounts:
    """Every tick is asked for once and ends as published, as lost for a reason or as outside of the drive. Thread-safe.

    Outside: before TF was known for the first time, and after its publisher has gone. Such ticks are not asked for.
    """

    def __init__(self, topics: Iterable[str] = ()) -> None:
        """`topics`: full names of those that carry each published frame."""
        self._topics = tuple(topics)
        self._run = str(time.time_ns())
        self._lock = threading.Lock()
        self._ticks = 0
        self._counts: Counter[str] = Counter()
        self._newest = 0  # stamp of the newest published frame, ns
        self.final = False  # nothing will be added any more

    def tick(self) -> None:
        with self._lock:
            self._ticks += 1

    def published(self, stamp: int) -> None:
        with self._lock:
            self._counts["published"] += 1
            self._newest = stamp

    def lost(self, reason: str, count: int = 1) -> None:
        """`reason`: OVERRUNS, or a reason that begins with DROPPED."""
        with self._lock:
            self._counts[reason] += count

    def outside(self) -> None:
        with self._lock:
            self._counts["outside"] += 1

    @property
    def counts(self) -> Counter[str]:
        """asked, published, outside, unfinished and every reason of a loss; asked = published + lost + unfinished."""
        with self._lock:
            counts, ticks = self._counts.copy(), self._ticks
        counts["unfinished"] = ticks - counts.total()
        counts["asked"] = ticks - counts["outside"]
        return counts

    def values(self) -> dict[str, str]:
        """The accounts as text, for a Ledger."""
        counts = self.counts
        names = ("asked", "published", "unfinished", "outside", OVERRUNS)
        reasons = sorted(name for name in counts if name.startswith(DROPPED))
        texts = {name: str(counts[name]) for name in (*names, *reasons)}
        return texts | {"newest": seconds(self._newest), "topics": " ".join(self._topics), "run": self._run} | (
            {"final": "true"} if self.final else {})

    def summary(self) -> str:
        """One line: asked, published, lost by reason."""
        return summarise(self.counts)


def summarise(counts: Mapping[str, int]) -> str:
    """asked, published, lost by reason and unfinished, in words."""
    lost = losses(counts)
    text = f"{counts.get('asked', 0)} asked, {counts.get('published', 0)} published, {sum(lost.values())} lost"
    if lost:
        text += f" ({', '.join(f'{count} {reason}' for reason, count in lost.items())})"
    unfinished = counts.get("unfinished", 0)
    return text + (f", {unfinished} unfinished when it was stopped" if unfinished else "")


def losses(counts: Mapping[str, int]) -> dict[str, int]:
    """Lost frames by reason, without those of none."""
    return {name.removeprefix(DROPPED): count for name, count in sorted(counts.items())
            if count and (name == OVERRUNS or name.startswith(DROPPED))}


def _finished(counts: Counter[str]) -> Counter[str]:
    """The counts without the frames that are not finished."""
    return counts - Counter(asked=counts["unfinished"], unfinished=counts["unfinished"])


def nanoseconds(text: str) -> int:
    """Exact decimal seconds, as `tf_history.seconds` writes them. Raises ValueError for another text."""
    whole, _, fraction = text.partition(".")
    return int(whole) * SECOND + int(fraction.ljust(9, "0")[:9] or 0)


class Ledger:
    """A recorder's book: what each camera says of its frames, and which of them are in the bag.

    A camera's frames count from its first report on. A camera that starts again, its counts from 0, is the same camera.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        """`topics`: full names of what is recorded."""
        self._before: dict[str, Counter[str]] = {}  # by camera: what the runs before its present one add, or take away
        self._latest: dict[str, Counter[str]] = {}
        self._run: dict[str, str] = {}  # by camera: which run its latest report is of
        self._order: dict[str, int] = {}  # by camera: how far its latest report is
        self._since: dict[str, int] = {}  # by camera: stamp after which its frames count, ns
        self._topics: dict[str, tuple[str, ...]] = {}
        self._stamps: dict[str, set[int]] = {topic: set() for topic in topics}  # what is in the bag
        self._final: set[str] = set()  # cameras that have closed their accounts

    def report(self, camera: str, values: Mapping[str, str]) -> None:
        """`values` as FrameAccounts gives them; others are ignored. Raises ValueError for numbers that are none."""
        if not {"asked", "topics", "run"} <= values.keys():
            return
        named = ("asked", "published", "unfinished", OVERRUNS)
        counts = Counter({name: int(text) for name, text in values.items()
                          if name in named or name.startswith(DROPPED)})
        # ticks, and finished ticks: neither ever decreases in a run, as what was asked for does at the end of a drive
        order = 2 * (counts["asked"] + int(values.get("outside", 0))) - counts["unfinished"]
        if camera not in self._latest:
            self._since[camera] = nanoseconds(values.get("newest", "0"))
            self._before[camera] = Counter({name: -count for name, count in _finished(counts).items()})
        elif values["run"] != self._run[camera]:
            self._before[camera].update(_finished(self._latest[camera]))
        elif order < self._order[camera]:
            return  # overtaken by a newer one on another topic
        self._latest[camera], self._run[camera], self._order[camera] = counts, values["run"], order
        self._topics[camera] = tuple(values["topics"].split())
        (self._final.add if "final" in values else self._final.discard)(camera)

    def recorded(self, topic: str, stamp: int) -> None:
        """A message with this header stamp (ns) is in the bag."""
        if topic in self._stamps:
            self._stamps[topic].add(stamp)

    def unclosed(self) -> list[str]:
        """The cameras with recorded topics that have not told their final accounts."""
        return [camera for camera in self._topics if camera not in self._final and self._recorded_topics(camera)]

    def counts(self, camera: str) -> Counter[str]:
        """What the camera has asked for, published and lost since its first report."""
        counts = Counter(self._before[camera])
        counts.update(self._latest[camera])
        return counts

    def lines(self) -> list[str]:
        """One line for each recorded topic of each camera."""
        return [f"{topic}: {summarise(self.counts(camera))}, {self._in_bag(camera, topic)} in the bag"
                for camera in sorted(self._topics) for topic in self._recorded_topics(camera)]

    def shortfall(self) -> str:
        """What is missing where less than ENOUGH of what was asked for is in the bag; empty where nothing is."""
        for camera in sorted(self._topics):
            counts = self.counts(camera)
            asked = counts["asked"] - counts["unfinished"]
            for topic in self._recorded_topics(camera):
                in_bag = self._in_bag(camera, topic)
                if in_bag < ENOUGH * asked:
                    why = [f"{count} {reason}" for reason, count in losses(counts).items()]
                    on_the_way = counts["published"] - in_bag
                    why += [f"{on_the_way} lost on the way to the bag"] if on_the_way > 0 else []
                    return f"{in_bag} of {asked} asked images of {topic} are in the bag: {', '.join(why)}"
        return ""

    def _recorded_topics(self, camera: str) -> list[str]:
        return [topic for topic in self._topics[camera] if topic in self._stamps]

    def _in_bag(self, camera: str, topic: str) -> int:
        return sum(stamp > self._since[camera] for stamp in self._stamps[topic])
