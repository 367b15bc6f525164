"""Ways for a camera through a world's free space: each a function of the world and a seed, none through anything.

A way is T_world_camera (optical axes) of each frame. The camera is level, at `height` metres above the floor, and its
place is one where the demo robot could stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
import math

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from worldfm_ros.drive.free_space import FreeSpace, median_height
from worldfm_ros.drive.robot import DifferentialDrive, Pilot, plan
from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.world.storage import World

SPEED, TURN = 0.5, 0.8  # m/s and rad/s of ways that are drawn, not driven
KNOTS = (0.8, 0.4, 0.2)  # metres between the knots of a spline: the widest that stays free
REACH = 1.0  # metres; a coverage passes every free place within this
STEP = 0.02  # seconds of a driven way's simulation
MARGIN = 3  # cells between an orbit and where it would touch
PIXELS = 6  # of a top view, for each cell


@dataclass(frozen=True, eq=False)
class Ground:
    """Where a camera may go, and how: frames a second, metres above the floor."""

    space: FreeSpace
    height: float
    rate: float

    @classmethod
    def of(cls, world: World, rate: float, height: float | None = None) -> Ground:
        """By default as high as the keyframes' cameras. Raises ValueError for a world without free space."""
        space = FreeSpace.from_world(world.anchors, world.keyframes)
        return cls(space, height or median_height(world.keyframes) - space.floor, rate)

    def looking(self, x: float, y: float, yaw: float) -> Pose:
        place = Pose(Pose.planar(0.0, 0.0, yaw).rotation, np.array([x, y, self.space.floor + self.height]))
        return place @ T_BODY_OPTICAL

    def check_free(self, places: np.ndarray) -> None:
        """Raise ValueError for places (N, 2) that are not free."""
        blocked = ~self.space.is_free(*places.T)
        if blocked.any():
            x, y = places[np.argmax(blocked)]
            raise ValueError(f"the way leads through something: {blocked.sum()} of {len(places)} places are not free, "
                             f"the first at x {x:.2f} y {y:.2f}")


def orbit(ground: Ground, center: Sequence[float] | None = None, radius: float | None = None) -> list[Pose]:
    """Once around a centre (x, y), looking at it; by default where there is most room, and as wide as it allows.

    Raises ValueError when something is in the way.
    """
    space = ground.space
    if center is None:
        center = space.centre(np.unravel_index(np.argmax(np.where(space.roomy, space.distance, -1)), space.free.shape))
    if radius is None:
        radius = float(space.clearance(*center)) - space.robot_radius - MARGIN * space.resolution
        if radius <= 0:
            raise ValueError(f"there is no room to go around x {center[0]:.2f} y {center[1]:.2f}; give a --radius")
    count = max(8, math.ceil(math.tau * radius / SPEED * ground.rate))
    angles = np.arange(count) * math.tau / count
    places = center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ground.check_free(places)
    return [ground.looking(x, y, angle + math.pi) for (x, y), angle in zip(places, angles, strict=True)]


def spline(ground: Ground, goals: int, seed: int) -> list[Pose]:
    """A smooth way past so many random places, looking ahead, at a constant speed."""
    stops = list(islice(_random_places(ground.space, seed), goals + 1))
    route = _joined(plan(ground.space, a, b) for a, b in pairwise(stops))
    places = next((curve for knots in KNOTS if ground.space.is_free(*(curve := _curve(route, knots)).T).all()), route)
    return _ahead(ground, places)


def coverage(ground: Ground, seed: int) -> list[Pose]:
    """Past every free place, with a full turn on the spot at places that lie about `REACH` apart."""
    places, poses = _spread(ground.space, seed), []
    here = places.pop(0)
    poses += _turn(ground, here, 0.0)
    while places:
        goal = places.pop(int(np.argmin([math.dist(here, place) for place in places])))
        poses += (way := _ahead(ground, plan(ground.space, here, goal)))
        here = way[-1].translation[:2]
        poses += _turn(ground, here, _yaw(way[-1]))
    return poses


def random_walk(ground: Ground, world: World, seconds: float, seed: int) -> list[Pose]:
    """As the demo robot drives, from random place to random place, so long."""
    drive = DifferentialDrive.at_keyframe(ground.space, world.keyframes[0])
    pilot = Pilot(drive, _random_places(ground.space, seed))
    poses, steps = [], max(1, round(1 / (ground.rate * STEP)))
    for _ in range(max(1, round(seconds * ground.rate))):
        poses.append(ground.looking(drive.x, drive.y, drive.yaw))
        for _ in range(steps):
            drive.step(*pilot.command(), 1 / (ground.rate * steps))
    return poses


def top_view(space: FreeSpace, poses: Iterable[Pose]) -> np.ndarray:
    """(H, W, 3) uint8: x to the right and y up; free places white, seen floor grey, the rest dark; the way from blue to
    red, with a tick in the direction of view twice a metre."""
    picture = np.full((*space.free.shape, 3), 70, np.uint8)
    picture[space.seen], picture[space.free] = 170, 245
    picture = np.repeat(np.repeat(picture, PIXELS, 0), PIXELS, 1)
    poses = list(poses)
    places = ((np.array([pose.translation[:2] for pose in poses]) - space.origin) / space.resolution * PIXELS).round()
    travelled = 1.0
    for number, (a, b) in enumerate(pairwise(places.astype(int))):
        color = cv2.applyColorMap(np.uint8([[255 * number / len(poses)]]), cv2.COLORMAP_JET)[0, 0, ::-1].tolist()
        cv2.line(picture, a.tolist(), b.tolist(), color, 2, cv2.LINE_AA)
        travelled += math.dist(a, b) / PIXELS * space.resolution
        if travelled >= 0.5:
            travelled = 0.0
            forward = poses[number].rotation.apply([0.0, 0.0, 1.0])[:2] * 0.2 / space.resolution * PIXELS
            cv2.line(picture, a.tolist(), (a + forward).astype(int).tolist(), (20, 20, 20), 1, cv2.LINE_AA)
    return np.ascontiguousarray(picture[::-1])


def _random_places(space: FreeSpace, seed: int) -> Iterator[np.ndarray]:
    random, cells = np.random.default_rng(seed), np.argwhere(space.roomy)
    while True:
        yield space.centre(random.choice(cells))


def _spread(space: FreeSpace, seed: int) -> list[np.ndarray]:
    """Free places with room, of which every other one is within REACH, by taking the farthest one again and again."""
    places = space.centre(np.argwhere(space.roomy))
    chosen = [places[np.random.default_rng(seed).integers(len(places))]]
    distance = np.linalg.norm(places - chosen[0], axis=1)
    while distance.max() > REACH:
        chosen.append(places[np.argmax(distance)])
        distance = np.minimum(distance, np.linalg.norm(places - chosen[-1], axis=1))
    return chosen


def _joined(routes: Iterable[np.ndarray]) -> np.ndarray:
    """Routes (N, 2) one after the other, without standing still between them."""
    route = np.concatenate(list(routes))
    return route[np.concatenate([[True], np.linalg.norm(np.diff(route, axis=0), axis=1) > 1e-6])]


def _lengths(route: np.ndarray) -> np.ndarray:
    """(N,) metres along a route to each of its points."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(route, axis=0), axis=1))])


def _curve(route: np.ndarray, knots: float) -> np.ndarray:
    """The cubic spline through points of a route that lie so many metres apart, a point each centimetre."""
    at = _lengths(route)
    wanted = np.linspace(0.0, at[-1], max(3, math.ceil(at[-1] / knots) + 1))
    points = np.stack([np.interp(wanted, at, route[:, axis]) for axis in range(2)], axis=1)
    return CubicSpline(wanted, points)(np.linspace(0.0, at[-1], max(2, math.ceil(at[-1] / 0.01))))


def _ahead(ground: Ground, route: np.ndarray) -> list[Pose]:
    """Along a route at a constant speed, looking where it leads in the next half metre."""
    at = _lengths(route)

    def place(distance) -> np.ndarray:
        return np.stack([np.interp(distance, at, route[:, axis]) for axis in range(2)], axis=-1)

    distances = np.arange(0.0, at[-1], SPEED / ground.rate)
    here, there = place(distances), place(np.minimum(distances + 0.5, at[-1]))
    yaws = np.unwrap(np.arctan2(*(there - here).T[::-1]))
    return [ground.looking(x, y, yaw) for (x, y), yaw in zip(here, yaws, strict=True)]


def _turn(ground: Ground, here: np.ndarray, yaw: float) -> list[Pose]:
    """Once around on the spot."""
    count = math.ceil(math.tau / TURN * ground.rate)
    return [ground.looking(*here, yaw + math.tau * k / count) for k in range(count)]


def _yaw(pose: Pose) -> float:
    forward = pose.rotation.apply([0.0, 0.0, 1.0])
    return math.atan2(forward[1], forward[0])
