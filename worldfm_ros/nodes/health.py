"""What a camera says about itself: counters on /diagnostics once a second, and warnings that do not flood the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType

from worldfm_ros.nodes.ticks import missing_clock

START_UP = 3.0  # seconds in which missing TF is no news
WARNING_PERIOD = 5.0  # seconds between two warnings for the same reason
REPORT_PERIOD = 1.0  # seconds


class Health:
    """Counts what was published and what was dropped, by reason. Thread-safe."""

    def __init__(self, node, refused: Mapping[str, int]) -> None:
        """`refused`: the TF listener's count of transforms that it ignored, by reason."""
        self._node, self._refused = node, refused
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._generated, self._generate_seconds = 0, 0.0
        self._warned: dict[str, float] = {}
        self._started = time.monotonic()
        self._reported = self._started, Counter()  # when, and the counts then
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # on the steady clock: a simulation that stands still must still be explained
        node.create_timer(REPORT_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def published(self) -> None:
        self._count("published")

    def overrun(self, count: int) -> None:
        """Ticks gave way to newer ones, because the generator is slower than the rate."""
        self._count("overruns", count)

    def generated(self, duration: float) -> None:
        with self._lock:
            self._generated += 1
            self._generate_seconds += duration

    def dropped(self, reason: str, text: str) -> None:
        """Count an image that could not be made, and say why."""
        self._count(f"dropped.{reason}")
        self.warn(reason, text)

    def nothing_seen(self, text: str) -> None:
        """Count an image that shows nothing of the world, and say so."""
        self._count("nothing_seen")
        self.warn("nothing_seen", text)

    def warn(self, reason: str, text: str) -> None:
        """Log `text` unless it is too early, or the same reason was logged a moment ago."""
        now = time.monotonic()
        with self._lock:
            if now - self._started < START_UP or now - self._warned.get(reason, 0.0) < WARNING_PERIOD:
                return
            self._warned[reason] = now
        self._node.get_logger().warning(text)

    def _count(self, name: str, count: int = 1) -> None:
        with self._lock:
            self._counts[name] += count

    def _report(self) -> None:
        no_clock = missing_clock(self._node)
        if no_clock:
            self.warn("no_clock", no_clock)
        array = DiagnosticArray(status=[self._status(no_clock)])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _status(self, no_clock: str) -> DiagnosticStatus:
        with self._lock:
            now, counts = time.monotonic(), self._counts.copy()
            since, before = self._reported
            self._reported = now, counts
            mean = self._generate_seconds / max(1, self._generated)
        news = counts - before
        rate = news["published"] / (now - since)
        dropped = {name: count for name, count in sorted(counts.items()) if name.startswith("dropped.")}
        lost = sum(news[name] for name in dropped)
        values = {
            "published": counts["published"],
            "rate": f"{rate:.2f}",
            "mean_generate_ms": f"{1e3 * mean:.1f}",
            "overruns": counts["overruns"],
            "nothing_seen": counts["nothing_seen"],
            **dropped,
            **{f"tf_refused.{reason}": n for reason, n in sorted(self._refused.items())},
        }
        problems = [f"{lost} dropped"] if lost else []
        problems += [f"{news['nothing_seen']} see nothing of the world"] if news["nothing_seen"] else []
        problems += [no_clock] if no_clock else []
        bad = DiagnosticStatus.ERROR if lost and not rate else DiagnosticStatus.WARN
        return DiagnosticStatus(
            level=bad if problems else DiagnosticStatus.OK,
            name=f"{self._node.get_fully_qualified_name()}: images",
            message=", ".join([f"{rate:.1f} images/s", *problems]),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
