"""What a camera says about itself: counters on /diagnostics once a second, and warnings that do not flood the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType

START_UP = 3.0  # seconds in which missing TF is no news
WARNING_PERIOD = 5.0  # seconds between two warnings for the same reason
REPORT_PERIOD = 1.0  # seconds


class Health:
    """Counts what was published and what was dropped, by reason. Thread-safe."""

    def __init__(self, node, refused: Mapping[str, int]) -> None:
        """`refused`: the TF listener's count of transforms that it ignored, by reason."""
        self._node, self._refused = node, refused
        self._lock = threading.Lock()
        self._published = self._overruns = self._generated = 0
        self._generate_seconds = 0.0
        self._dropped: Counter[str] = Counter()
        self._warned: dict[str, float] = {}
        self._started = time.monotonic()
        self._reported = (self._started, 0, 0)  # when, published, dropped
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # on the steady clock: a simulation that stands still must still be explained
        node.create_timer(REPORT_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def published(self) -> None:
        with self._lock:
            self._published += 1

    def overrun(self, count: int) -> None:
        """Ticks gave way to newer ones, because the generator is slower than the rate."""
        with self._lock:
            self._overruns += count

    def generated(self, duration: float) -> None:
        with self._lock:
            self._generated += 1
            self._generate_seconds += duration

    def dropped(self, reason: str, text: str) -> None:
        """Count an image that could not be made, and say why."""
        with self._lock:
            self._dropped[reason] += 1
        self.warn(reason, text)

    def warn(self, reason: str, text: str) -> None:
        """Log `text` unless it is too early, or the same reason was logged a moment ago."""
        now = time.monotonic()
        with self._lock:
            if now - self._started < START_UP or now - self._warned.get(reason, 0.0) < WARNING_PERIOD:
                return
            self._warned[reason] = now
        self._node.get_logger().warning(text)

    def _report(self) -> None:
        array = DiagnosticArray(status=[self._status()])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _status(self) -> DiagnosticStatus:
        with self._lock:
            now, dropped = time.monotonic(), self._dropped.total()
            since, published_then, dropped_then = self._reported
            self._reported = now, self._published, dropped
            rate = (self._published - published_then) / (now - since)
            values = {
                "published": self._published,
                "rate": f"{rate:.2f}",
                "mean_generate_ms": f"{1e3 * self._generate_seconds / max(1, self._generated):.1f}",
                "overruns": self._overruns,
                **{f"dropped.{reason}": n for reason, n in sorted(self._dropped.items())},
                **{f"tf_refused.{reason}": n for reason, n in sorted(self._refused.items())},
            }
        lost = dropped - dropped_then
        return DiagnosticStatus(
            level=DiagnosticStatus.OK if not lost else DiagnosticStatus.WARN if rate else DiagnosticStatus.ERROR,
            name=f"{self._node.get_fully_qualified_name()}: images",
            message=f"{rate:.1f} images/s" + (f", {lost} dropped" if lost else ""),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
