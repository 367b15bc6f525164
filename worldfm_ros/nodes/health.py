"""What a camera says about itself: counters on /diagnostics once a second, and warnings that do not flood the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
import threading
import time
from types import MappingProxyType

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration

from worldfm_ros.nodes.accounts import DROPPED, OVERRUNS, FrameAccounts, losses
from worldfm_ros.nodes.tf_history import seconds
from worldfm_ros.nodes.ticks import StandingClock, missing_clock

ACCOUNTS = ": images"  # after a camera's name, in the name of its status
START_UP = 3.0  # seconds in which missing TF is no news
SIMULATOR = 10.0  # seconds that one may take to start on a busy machine, before a clock is missed
WARNING_PERIOD = 5.0  # seconds between two warnings for the same reason
REPORT_PERIOD = 1.0  # seconds
TOLERATED = 0.02  # overruns, as a part of the ticks: below that, a slow moment
STAGES = ("wait_tf", "generate", "publish")  # of an image
STANDS = 3.0  # seconds of real time without news from the clock until it is said to stand still
CALM = 3  # reports without overruns until the status is OK again


ADVICE = {
    "unknown_frame": "Does the robot run, and are the parameters map_frame and camera_frame frames of its TF tree?",
    "not_connected": "A link of the TF tree is missing, often map -> odom or the static mount of the camera.",
    "extrapolation_future": "TF comes late or not at all: does its publisher run, on this clock (use_sim_time)? "
                            "If it is only slow, raise tf_timeout.",
    "gap": "TF stopped for a while, or its publisher is slower than 1 Hz.",
    "extrapolation_past": "This camera's clock is behind TF's: do both have the same use_sim_time?",
    "invalid_transform": "Correct the publisher of that transform.",
    "outdated_transform": "That publisher's clock is behind: does it have the same use_sim_time as the others?",
    "transform_loop": "Two publishers disagree about which of the frames is the parent.",
    "time_jump": "The TF history starts again; this is expected when a simulation is reset.",
}


class Health:
    """Keeps a camera's accounts and tells them: what was published and what was lost, by reason. Thread-safe."""

    def __init__(self, node, refused: Mapping[str, int], accounts: FrameAccounts,
                 others: Mapping[str, int] = MappingProxyType({})) -> None:
        """`refused`: the TF listener's count of transforms that it ignored, by reason. `others`: more counts, by their
        full names."""
        self._node, self._refused, self._others = node, refused, others
        self.accounts = accounts
        self._lock = threading.Lock()
        self._nothing_seen = 0
        self._stages: dict[str, tuple[int, float]] = {}  # calls and seconds of each stage of an image
        self._warned: dict[str, float] = {}
        self._waits_for = ""
        self._clock, self._stands = StandingClock(), False
        self._calm = CALM
        self._started = time.monotonic()
        self._reported = self._started, Counter(), 0  # when, and the counts then
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # on the steady clock: a simulation that stands still must still be explained
        node.create_timer(REPORT_PERIOD, self.report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def published(self, stamp: int) -> None:
        self.accounts.published(stamp)

    def overrun(self, count: int) -> None:
        """Ticks gave way to newer ones, because the generator is slower than the rate."""
        self.accounts.lost(OVERRUNS, count)

    def stage(self, name: str, duration: float) -> None:
        """Seconds that a stage of an image took: wait_tf, generate or publish."""
        with self._lock:
            calls, total = self._stages.get(name, (0, 0.0))
            self._stages[name] = calls + 1, total + duration

    def dropped(self, reason: str, text: str) -> None:
        """Count an image that could not be made, and say why."""
        self.accounts.lost(DROPPED + reason, 1)
        self.warn(reason, text)

    def waits(self, reason: str, text: str) -> None:
        """A tick of before the drive: TF has never been known so far. Warns of it after a while."""
        self.accounts.outside()
        self._waits_for = text
        self.warn(f"waits.{reason}", text)

    def begun(self) -> None:
        """TF is known: the drive has begun. Told at once, so that a recorder counts from here."""
        self._waits_for = ""
        self.report()

    def after(self) -> None:
        """A tick of after the drive: the publisher of TF has gone."""
        self.accounts.outside()

    def nothing_seen(self, text: str) -> None:
        """Count an image that shows nothing of the world, and say so."""
        with self._lock:
            self._nothing_seen += 1
        self.warn("nothing_seen", text)

    def warn(self, reason: str, text: str) -> None:
        """Log `text` unless it is too early, or the same reason was logged a moment ago."""
        now = time.monotonic()
        with self._lock:
            if now - self._started < START_UP or now - self._warned.get(reason, 0.0) < WARNING_PERIOD:
                return
            self._warned[reason] = now
        self._node.get_logger().warning(text)

    def close(self) -> None:
        """Tell the final accounts, and let a recorder get them."""
        self.accounts.final = True
        self.report()
        self._publisher.wait_for_all_acked(Duration(seconds=0.3))
        self._node.get_logger().info(f"images: {self.accounts.summary()}")

    def report(self) -> None:
        """Tell the accounts on /diagnostics: once a second, and at the end."""
        problem = "" if self.accounts.final else self._clock_problem()  # at the end it may have gone before us
        array = DiagnosticArray(status=[self._status(problem)])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _clock_problem(self) -> str:
        """Says in the log that there is no clock, or once that it stands still and once that it goes on."""
        now, problem = self._node.get_clock().now().nanoseconds, missing_clock(self._node)
        stood, self._stands = self._stands, bool(now) and self._clock.look(now, time.monotonic()) > STANDS
        if not now and problem and time.monotonic() - self._started > SIMULATOR:
            self.warn("no_clock", problem)
        if self._stands:
            why = "nobody publishes /clock any more." if problem else "is the simulator paused, or does it wait?"
            problem = f"the clock stands still at {seconds(now)}: {why} Images go on when it does"
        if self._stands and not stood:
            self._node.get_logger().warning(problem)
        if stood and not self._stands:
            self._node.get_logger().info("the clock goes on")
        return problem

    def _status(self, clock_problem: str) -> DiagnosticStatus:
        counts = self.accounts.counts
        with self._lock:
            now, nothing_seen = time.monotonic(), self._nothing_seen
            since, before, seen_before = self._reported
            self._reported = now, counts, nothing_seen
            means = {name: total / calls for name, (calls, total) in self._stages.items()}
        news = Counter({name: count - before[name] for name, count in counts.items()})
        rate = news["published"] / max(1e-3, now - since)
        values = self.accounts.values() | {
            "rate": f"{rate:.2f}",
            **{f"mean_{name}_ms": f"{1e3 * means.get(name, 0.0):.1f}" for name in STAGES},
            "nothing_seen": nothing_seen,
            **{f"tf_refused.{reason}": n for reason, n in sorted(self._refused.items())},
            **dict(sorted(self._others.items())),
        }
        lost = sum(count for reason, count in losses(news).items() if reason != OVERRUNS)
        problems = [f"{lost} dropped"] if lost else []
        problems += self._overrun_problem(news, means.get("generate", 0.0))
        unseen = nothing_seen - seen_before
        problems += [f"{unseen} see nothing of the world"] if unseen else []
        problems += [self._waits_for] if self._waits_for else []
        problems += [clock_problem] if clock_problem else []
        bad = DiagnosticStatus.ERROR if lost and not rate else DiagnosticStatus.WARN
        return DiagnosticStatus(
            level=bad if problems else DiagnosticStatus.OK,
            name=self._node.get_fully_qualified_name() + ACCOUNTS,
            message=", ".join([f"{rate:.1f} images/s", *problems]),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def _overrun_problem(self, news: Counter[str], mean: float) -> list[str]:
        """Says that the model is too slow, and goes on saying it until it has kept up for CALM reports."""
        ticks = news["published"] + news[OVERRUNS]
        overrun = news[OVERRUNS] > TOLERATED * ticks
        self._calm = 0 if overrun else self._calm + 1
        if not overrun:
            return [] if self._calm >= CALM else ["the model was too slow a moment ago"]
        text = (f"{news[OVERRUNS]} of {ticks} images lost: the model takes {1e3 * mean:.0f} ms a frame, too slow for "
                f"this rate; lockstep loses none")
        self.warn("overruns", text)
        return [text]
