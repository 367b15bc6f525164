"""The simulator's side of lockstep in ROS: publishes /clock and the steps, and goes on when everybody has answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import TimeReference

from worldfm_ros.nodes.conversions import SECOND, ns_to_stamp, stamp_to_ns
from worldfm_ros.nodes.lockstep import DONE_TOPIC, STEP_TOPIC, Barrier
from worldfm_ros.nodes.participant import ANSWERS, STEPS, answer, is_leaving, step_message
from worldfm_ros.nodes.tf_history import seconds

REPEAT = 0.5  # seconds until a step that somebody has not answered is asked for again
COMPLAIN = 5.0  # seconds between two lines about who is waited for
PATIENCE = 4.0  # no complaint before this many times what the slowest of the last steps took: a slow model is no news


@dataclass(frozen=True)
class StepSettings:
    """start and period in ns; speed: how many simulated seconds a real one may hold, 0 = any number; wait_for: full
    names of nodes; topics: full names of those on which the simulator publishes for the stamp of each step.
    """

    start: int
    period: int
    speed: float
    wait_for: Sequence[str]
    topics: Sequence[str]


class Stepper:
    """Runs in the node's executor. `advance(previous, stamp)` moves the robot and publishes TF for all between;
    `repeat` publishes that again; `finished(stamp)` is called when everybody has answered; true ends the steps.

    The first step, to the start, has nothing to do: it shows that all who are waited for are there.
    """

    def __init__(self, node, settings: StepSettings, advance: Callable[[int, int], None], repeat: Callable[[], None],
                 finished: Callable[[int], bool]) -> None:
        self._node, self._settings = node, settings
        self._advance, self._repeat, self._finished = advance, repeat, finished
        self._barrier = Barrier(settings.wait_for, settings.start)
        self._name = node.get_fully_qualified_name()
        self._clock = node.create_publisher(ClockMessage, "/clock", 10)
        self._steps = node.create_publisher(TimeReference, STEP_TOPIC, STEPS)
        self._answers = node.create_publisher(DiagnosticArray, DONE_TOPIC, ANSWERS)
        node.create_subscription(DiagnosticArray, DONE_TOPIC, self._on_answer, ANSWERS)
        self._asked_at = self._silent_since = self._began_at = monotonic()
        self._usual = 0.0  # seconds that a step takes, the slow ones remembered for some time
        self._step_began = monotonic()
        self._complained = False
        self._open = True  # the present step is not answered by all
        self.paused, self._granted = False, 0
        self.on_idle: Callable[[], None] = lambda: None  # called when there is no step to do, for now or for ever
        self._ended = False
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(REPEAT / 5, self._remind, clock=steady)
        self._alarm = node.create_timer(1.0, self._on_alarm, clock=steady)
        self._alarm.cancel()
        advance(settings.start, settings.start)
        self._ask()

    @property
    def stamp(self) -> int:
        """The stamp of the present step, ns."""
        return self._barrier.stamp

    def tell_time(self, stamp: int) -> None:
        """For `advance`: publish a time between two steps."""
        self._clock.publish(ClockMessage(clock=ns_to_stamp(stamp)))

    def pause(self, paused: bool) -> None:
        """Stop after the present step, or go on."""
        self.paused, self._granted = paused, 0
        self._began_at = monotonic()  # time that stood still is not made up for
        self._go_on()

    def grant(self, steps: int) -> None:
        """Let a paused simulation do some steps more."""
        self._granted += steps
        self._go_on()

    def _ask(self) -> None:
        self._asked_at = monotonic()
        self.tell_time(self._barrier.stamp)
        self._steps.publish(step_message(self._name, self._barrier.previous, self._barrier.stamp))
        values = {"newest": seconds(self._barrier.stamp), "topics": " ".join(self._settings.topics)}
        self._answers.publish(answer(self._name, self._barrier.stamp, values))

    def _on_answer(self, message: DiagnosticArray) -> None:
        if message.header.frame_id != self._name:
            self._barrier.answer(message.header.frame_id, stamp_to_ns(message.header.stamp), is_leaving(message))
            self._go_on()

    def _go_on(self) -> None:
        if self._open and not self._barrier.missing():
            self._open = False
            if self.stamp > self._settings.start:  # the first one waits for models to be loaded
                self._usual = max(0.9 * self._usual, monotonic() - self._step_began)
            self._tell_that_it_goes_on()
            self._ended = self._ended or self._finished(self.stamp)
        if self._open:
            return
        if self._ended or (self.paused and not self._granted):
            self.on_idle()
            return
        wait = self._early()
        if wait > 0:
            self._alarm.timer_period_ns = max(1, round(wait * SECOND))
            self._alarm.reset()
            return
        self._granted = max(0, self._granted - 1)
        self._open, self._silent_since, self._step_began = True, monotonic(), monotonic()
        self._barrier.begin(self.stamp + self._settings.period)
        self._advance(self._barrier.previous, self._barrier.stamp)
        self._ask()

    def _early(self) -> float:
        """Real seconds until the next step may begin; a slow step is not made up for."""
        if not self._settings.speed:
            return 0.0
        now = monotonic()
        due = self._began_at + self._settings.period / SECOND / self._settings.speed
        if due <= now:
            self._began_at = max(due, now - self._settings.period / SECOND / self._settings.speed)
            return 0.0
        return due - now

    def _on_alarm(self) -> None:
        self._alarm.cancel()
        self._go_on()

    def _remind(self) -> None:
        now = monotonic()
        if self._open and now - self._asked_at > REPEAT:
            self._repeat()
            self._ask()
        late = now - self._step_began > PATIENCE * self._usual
        if self._open and late and now - self._silent_since > COMPLAIN:
            self._silent_since, self._complained = now, True
            self._complain(", ".join(self._barrier.missing()))

    def _complain(self, names: str) -> None:
        if self.stamp == self._settings.start:
            self._node.get_logger().info(f"the simulation has not begun: it waits for {names}")
        else:
            self._node.get_logger().warning(f"the simulation stands at {seconds(self.stamp)} and waits for {names}")

    def _tell_that_it_goes_on(self) -> None:
        if self._complained:
            self._node.get_logger().info(f"all have answered for {seconds(self.stamp)}: the simulation goes on")
        self._complained = False
