"""A small differential-drive robot: how it gets from place to place in the free space, and how it moves.

Metres, radians, seconds, world axes. Everything is a function of its arguments and a seed: the same world gives the
same drive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import math

import numpy as np
from scipy import ndimage

from worldfm_ros.drive.free_space import FreeSpace
from worldfm_ros.geometry import Pose
from worldfm_ros.world.keyframes import Keyframe

MAX_SPEED, MAX_TURN = 0.5, 1.0  # m/s, rad/s
ACCELERATION, TURN_ACCELERATION = 0.5, 1.5  # m/s^2, rad/s^2
BRAKING, TURN_BRAKING = 2.5, 5.0  # m/s^2, rad/s^2: from full speed it stands within 0.2 s

KEEP_AWAY = 0.5  # routes prefer this distance between the robot's edge and what it could hit
SLOW_BELOW = 0.25  # with less than this distance the robot slows down, to 40 % at the least
UNSEEN_COST = 4.0  # a metre over floor that nobody saw counts as this many
PLACE_SPACING = 0.4  # keyframes nearer than this to each other are one place
ARRIVAL = 0.2  # a place counts as visited within this distance
LOOKAHEAD = 0.6  # pure pursuit steers to the point of the route this far ahead


def plan(free_space: FreeSpace, start, goal) -> np.ndarray:
    """A route (N, 2), metres, from start (2,) to goal (2,), or from and to the free cells nearest to them.

    The cheapest one: it is short, keeps away from obstacles and from floor that nobody saw, and has no sharp corners
    where there is room to round them.
    """
    from skimage.graph import route_through_array

    room = free_space.distance - free_space.robot_radius
    cost = (1.0 + 30.0 * np.clip(1.0 - room / KEEP_AWAY, 0.0, 1.0) ** 3) * np.where(free_space.seen, 1.0, UNSEEN_COST)
    ends = [free_space.cell(*free_space.nearest_free(*end)) for end in (start, goal)]
    cells, _ = route_through_array(np.where(free_space.roomy, cost, -1.0), *ends, fully_connected=True, geometric=True)
    route = free_space.centre(cells)
    smoother = (_smooth(route, metres / free_space.resolution) for metres in (0.3, 0.15))
    return next((smooth for smooth in smoother if free_space.is_roomy(*smooth.T).all()), route)


def _smooth(route: np.ndarray, sigma: float) -> np.ndarray:
    """The route (N, 2) smoothed by a Gaussian of `sigma` points; mirrored at its ends, so that they stay in place."""
    width = math.ceil(4.0 * sigma)
    mirrored = np.pad(route, ((width, width), (0, 0)), mode="reflect", reflect_type="odd")
    return ndimage.gaussian_filter1d(mirrored, sigma, axis=0)[width:-width]


def tour(free_space: FreeSpace, places, seed: int) -> Iterator[np.ndarray]:
    """Endless goals (2,) in the free space: all places (K, 2) in random order, then all in another order, and so on.

    Places count once when they are near each other. A world seen from one or two places gets random goals added.
    """
    random = np.random.default_rng(seed)
    goals: list[np.ndarray] = []
    for goal in (free_space.nearest_free(*place) for place in places):
        if all(math.dist(goal, other) >= PLACE_SPACING for other in goals):
            goals.append(goal)
    while len(goals) < 3:
        goals.append(free_space.centre(random.choice(np.argwhere(free_space.roomy))))
    while True:
        for index in random.permutation(len(goals)):
            yield goals[index]


@dataclass
class DifferentialDrive:
    """The robot's state: x, y (m) and yaw (rad) in the world, v (m/s) along its x axis, w (rad/s) about z."""

    free_space: FreeSpace
    x: float
    y: float
    yaw: float
    v: float = 0.0
    w: float = 0.0

    @classmethod
    def at_keyframe(cls, free_space: FreeSpace, keyframe: Keyframe) -> DifferentialDrive:
        """Standing where the keyframe was taken, or as near as it is free, and facing the way it looks."""
        x, y = free_space.nearest_free(*keyframe.T_world_camera.translation[:2])
        forward = keyframe.T_world_camera.rotation.apply([0.0, 0.0, 1.0])
        return cls(free_space, float(x), float(y), math.atan2(forward[1], forward[0]))

    @property
    def pose(self) -> Pose:
        """T_map_base: on the floor, below the robot's centre."""
        return Pose(Pose.planar(0.0, 0.0, self.yaw).rotation, np.array([self.x, self.y, self.free_space.floor]))

    def step(self, v: float, w: float, dt: float) -> None:
        """Drive for dt seconds towards the velocities v (m/s) and w (rad/s), as fast as the limits allow.

        It only takes up a velocity from which it can still brake within the free space; so it stops before an obstacle
        without ever braking harder than its limit, and can turn away from it. dt is the same from step to step.
        """
        v, w = np.clip(v, -MAX_SPEED, MAX_SPEED), np.clip(w, -MAX_TURN, MAX_TURN)
        for wanted_v, wanted_w in ((v, w), (0.0, w), (0.0, 0.0)):  # the last is the braking that the last step checked
            next_v = _towards(self.v, wanted_v, ACCELERATION * dt, BRAKING * dt)
            next_w = _towards(self.w, wanted_w, TURN_ACCELERATION * dt, TURN_BRAKING * dt)
            x, y, yaw = self._braking(next_v, next_w, dt)
            if self.free_space.is_free(x, y).all():
                break
        self.v, self.w, self.x, self.y, self.yaw = next_v, next_w, float(x[0]), float(y[0]), float(yaw[0])

    def _braking(self, v: float, w: float, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and yaw (N,) after each step: one at v and w, the others braking to a stop. Exact arcs, by chords."""
        steps = np.arange(2 + math.ceil(max(abs(v) / BRAKING, abs(w) / TURN_BRAKING) / dt))
        speed = math.copysign(1.0, v) * np.maximum(abs(v) - steps * BRAKING * dt, 0.0)
        turn = math.copysign(dt, w) * np.maximum(abs(w) - steps * TURN_BRAKING * dt, 0.0)
        yaw = self.yaw + np.cumsum(turn)
        chord = speed * dt * np.sinc(turn / (2.0 * np.pi))  # np.sinc(t) is sin(pi t) / (pi t)
        heading = yaw - turn / 2.0
        return self.x + np.cumsum(chord * np.cos(heading)), self.y + np.cumsum(chord * np.sin(heading)), yaw


def _towards(value: float, wanted: float, faster: float, slower: float) -> float:
    """One step from a velocity to the wanted one: `faster` away from 0 at most, `slower` towards 0, and not past it."""
    if value * wanted < 0.0:
        wanted = 0.0
    change = slower if abs(wanted) < abs(value) else faster
    return float(value + np.clip(wanted - value, -change, change))


class Pilot:
    """Drives a robot from goal to goal by pure pursuit of a planned route."""

    def __init__(self, drive: DifferentialDrive, goals: Iterator[np.ndarray]) -> None:
        self._drive = drive
        self._goals = goals
        self._goal = next(goals)
        self._plan()

    def command(self) -> tuple[float, float]:
        """The velocities (v m/s, w rad/s) to drive with now. Near its goal it plans the way to the next one."""
        drive, space = self._drive, self._drive.free_space
        here = np.array([drive.x, drive.y])
        if math.dist(here, self._goal) < ARRIVAL:
            self._goal = next(self._goals)
            self._plan()
        dx, dy = self._target(here) - here
        bearing = math.remainder(math.atan2(dy, dx) - drive.yaw, math.tau)
        room = space.clearance(*here) - space.robot_radius
        speed = MAX_SPEED * np.clip(room / SLOW_BELOW, 0.4, 1.0) * max(0.0, math.cos(min(1.5 * abs(bearing), math.pi)))
        # pure pursuit is w = 2 v sin(bearing) / lookahead; with the top speed for v it turns on the spot as well
        return float(speed), 2.0 * MAX_SPEED * bearing / LOOKAHEAD

    def _target(self, here: np.ndarray) -> np.ndarray:
        """(2,) where to steer: the farthest point of the route, within the lookahead, with a roomy straight way to it.

        Too near to something for that, it is the nearest point of the route with a free straight way; and when somebody
        else has driven the robot out of sight of its route, a new route is planned.
        """
        space = self._drive.free_space
        ahead = self._points_ahead(here)
        for allowed, points in ((space.is_roomy, ahead[::-1]), (space.is_free, ahead)):
            for point in points:
                if allowed(*_line(here, point)).all():
                    return point
        self._plan()
        return self._route[0]

    def _points_ahead(self, here: np.ndarray) -> np.ndarray:
        """(N, 2) the route's points within the lookahead but not so near that their direction says nothing.

        Drops the part of the route that lies behind.
        """
        nearest = np.argmin(np.linalg.norm(self._route[:40] - here, axis=1))  # of 2 m: it may pass a place twice
        self._route = self._route[nearest:]
        distance = np.linalg.norm(self._route - here, axis=1)
        near = np.cumsum(distance > LOOKAHEAD) == 0
        return self._route[near & (distance > self._drive.free_space.resolution)]

    def _plan(self) -> None:
        self._route = plan(self._drive.free_space, (self._drive.x, self._drive.y), self._goal)  # what is left to drive


def _line(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x and y (2, N) of points every 5 mm from a (2,) to b (2,)."""
    steps = np.linspace(0.0, 1.0, 2 + int(math.dist(a, b) / 0.005))
    return a[:, None] + (b - a)[:, None] * steps
