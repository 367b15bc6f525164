"""Where an object is that follows its own way: a pure function of the stamp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np

from worldfm_ros.geometry import Pose

SECOND = 1_000_000_000  # ns
CHORD = 0.25  # metres before and after a place that tell which way an object faces there
AMBLE, WALK = 0.15, 0.9  # m/s between which a person goes over from standing to a full gait


@dataclass(frozen=True, eq=False)
class State:
    """Where an object is at a stamp. travelled: metres since its way began; speed: m/s."""

    T_world_object: Pose
    travelled: float = 0.0
    speed: float = 0.0


@dataclass(frozen=True, eq=False)
class Route:
    """Straight from place to place, at given times. times (N,) seconds, rising, from 0; places (N, 3) metres; yaws (N,)
    radians, or None: it faces the way it goes. repeat: after the last time it begins again, else it stays there."""

    times: np.ndarray
    places: np.ndarray
    yaws: np.ndarray | None
    repeat: bool = True

    @classmethod
    def at_speed(cls, places: np.ndarray, speed: float, repeat: bool) -> Route:
        """At a constant speed (m/s); `repeat` closes the way to a loop."""
        places = np.concatenate([places, places[:1]]) if repeat and len(places) > 1 else places
        lengths = np.linalg.norm(np.diff(places, axis=0), axis=1)
        return cls(np.concatenate([[0.0], np.cumsum(lengths)]) / speed, places, None, repeat)

    def at(self, stamp: int) -> State:
        """The state at a stamp, nanoseconds. Before 0 it waits at its first place."""
        period = round(float(self.times[-1]) * SECOND)
        inside = stamp % period if self.repeat and period else min(max(stamp, 0), period)  # exact for any epoch
        time, travelled = inside / SECOND, self._lengths
        distance = float(np.interp(time, self.times, travelled))
        place = np.array([np.interp(time, self.times, self.places[:, axis]) for axis in range(3)])
        speed = 0.0
        if self.repeat and period or 0 < stamp < period:
            leg = min(int(np.searchsorted(self.times, time, side="right")), len(self.times) - 1)
            speed = float(np.diff(travelled)[leg - 1] / np.diff(self.times)[leg - 1])
        return State(Pose(Pose.planar(0.0, 0.0, self._yaw(time, distance)).rotation, place), distance, speed)

    @property
    def _lengths(self) -> np.ndarray:
        """(N,) metres along the way to each place."""
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.places, axis=0), axis=1))])

    def _yaw(self, time: float, distance: float) -> float:
        if self.yaws is not None:
            return float(np.interp(time, self.times, np.unwrap(self.yaws)))
        ahead = self._along(distance + CHORD) - self._along(distance - CHORD)
        return math.atan2(ahead[1], ahead[0])

    def _along(self, distance: float) -> np.ndarray:
        """(2,) the place so many metres along the way; a closed way goes on, an open one goes straight on."""
        lengths = self._lengths
        closed = self.repeat and np.allclose(self.places[0], self.places[-1])
        inside = distance % lengths[-1] if closed and lengths[-1] else min(max(distance, 0.0), lengths[-1])
        return np.array([np.interp(inside, lengths, self.places[:, axis]) for axis in range(2)])


def pace_of(speed: float) -> float:
    """How much of a full gait a person shows at a speed, 0 to 1."""
    return min(max((speed - AMBLE) / (WALK - AMBLE), 0.0), 1.0)


def timed(rows: Sequence[Sequence[float]], repeat: bool) -> Route:
    """A route of rows `time x y z yaw` (seconds, metres, degrees; z and yaw may be left out). Raises ValueError."""
    table = np.array([[*row[:3], *(row[3:4] or [0.0])] for row in rows], np.float64)
    yaws = [row[4] for row in rows if len(row) > 4]
    if yaws and len(yaws) != len(rows):
        raise ValueError("either all waypoints have a yaw or none has")
    if not (np.diff(table[:, 0]) > 0).all() or table[0, 0] != 0:
        raise ValueError("the times of waypoints begin with 0 and rise")
    return Route(table[:, 0], table[:, 1:], np.radians(yaws) if yaws else None, repeat)
