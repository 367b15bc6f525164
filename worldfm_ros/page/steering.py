"""Who steers from the page, and how: the last one wins, and who says nothing more stands still."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
import math
import threading
from time import monotonic

from worldfm_ros.page.pictures import Command

DEAD_MAN = 0.2  # seconds that a push holds: the page repeats it every 0.05 s, and a closed tab does not
REMEMBERED = 64  # pushes that somebody else has ended


@dataclass(frozen=True)
class Stick:
    """What is asked for, each from -1 to 1 of the full speed; `fly`: of a free camera, not of the robot."""

    forward: float = 0.0
    left: float = 0.0
    up: float = 0.0
    yaw: float = 0.0  # to the left
    pitch: float = 0.0  # up
    fly: bool = False

    @classmethod
    def parse(cls, values: dict) -> Stick:
        """Of a browser's JSON. Raises ValueError for what is no number from -1 to 1."""
        axes = {f.name: values.get(f.name, 0.0) for f in fields(cls) if f.name != "fly"}
        for name, value in axes.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.fabs(value) <= 1.0:
                raise ValueError(f"{name} is a number from -1 to 1, got {value!r}")
        return cls(**{name: float(value) for name, value in axes.items()}, fly=values.get("fly") is True)


class Steering:
    """The stick, in one hand at a time. Thread-safe.

    A push is what a hand does without letting go; all its commands carry one name. A push that is new takes the stick
    from whoever has it, whose own push is over then: the last one wins, and they do not fight.
    """

    def __init__(self, on_push: Callable[[], None] = lambda: None) -> None:
        """`on_push` is called after every command that counts."""
        self._lock = threading.Lock()
        self._on_push = on_push
        self._over: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)
        self._push: tuple[str, str] | None = None  # whose, and which
        self._stick, self._command = Stick(), None
        self._came = -math.inf
        self.engaged = False  # whether anybody has taken the stick; then the robot waits for it until it is given back

    def push(self, command: Command, push: str, stick: Stick) -> bool:
        """Whether it counts: not when somebody else has begun to steer since."""
        mine = command.client, push
        with self._lock:
            if mine in self._over:
                return False
            if self._push not in (None, mine):
                self._over.append(self._push)
            self._push, self._stick, self._command, self.engaged = mine, stick, command, True
            self._came = monotonic()
        self._on_push()
        return True

    def release(self) -> None:
        """Nobody steers any more: the robot may go its own ways."""
        with self._lock:
            if self._push:
                self._over.append(self._push)
            self._push, self._command, self.engaged, self._came = None, None, False, -math.inf

    def now(self) -> tuple[Stick, Command | None]:
        """What is asked for at this moment, and by which command; nothing when nobody has said it again in time."""
        with self._lock:
            if monotonic() - self._came > DEAD_MAN:
                return Stick(fly=self._stick.fly), None
            return self._stick, self._command

    def state(self) -> dict:
        """Who steers, for all browsers to see."""
        stick, command = self.now()
        with self._lock:
            driver = self._push[0] if self._push else None
        return {"engaged": self.engaged, "driver": driver, "moving": command is not None, "fly": stick.fly}
