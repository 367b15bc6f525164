"""A small differential-drive robot in a world's free space: where it may be, how it gets there, and how it moves.

Metres, radians, seconds, world axes. Seen from above the robot is a disc; what stands between its step height and its
own height is an obstacle. Everything is a function of its arguments and a seed: the same world gives the same drive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import math

import numpy as np
from scipy import ndimage

from worldfm_ros.geometry import Pose
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe

MAX_SPEED, MAX_TURN = 0.5, 1.0  # m/s, rad/s
ACCELERATION, TURN_ACCELERATION = 0.5, 1.5  # m/s^2, rad/s^2
BRAKING, TURN_BRAKING = 2.5, 5.0  # m/s^2, rad/s^2: from full speed it stands within 0.2 s

STEP_HEIGHT = 0.10  # what is lower than this above the floor is driven over (and is how uneven a scanned floor looks)
HEADROOM = 0.10  # the robot's height above its camera
REACH = 5.0  # the map ends this far from the keyframes' places; a stray anchor 1 km away must not size the grid
MAX_CELLS = 10**8  # 500 m square at 5 cm
KEEP_AWAY = 0.5  # routes prefer this distance between the robot's edge and what it could hit
SLOW_BELOW = 0.25  # with less than this distance the robot slows down, to 40 % at the least
UNSEEN_COST = 4.0  # a metre over floor that nobody saw counts as this many
PLACE_SPACING = 0.4  # keyframes nearer than this to each other are one place
ARRIVAL = 0.2  # a place counts as visited within this distance
LOOKAHEAD = 0.6  # pure pursuit steers to the point of the route this far ahead


def floor_height(points: np.ndarray, camera_heights: np.ndarray) -> float:
    """The floor's z: the lowest level that holds a fair share of the largest horizontal area below the cameras.

    points (N, 3) and camera_heights (K,), metres. Area and not anchor counts, so that walls do not outvote a floor that
    was hardly seen; the lowest fair share and not the largest, so that a table does not; below the cameras, so that a
    ceiling does not. Raises ValueError when no anchor lies below the lowest camera.
    """
    points = points[points[:, 2] < np.min(camera_heights) - STEP_HEIGHT]
    if not len(points):
        raise ValueError("no anchor lies below the cameras, so the world shows no floor to drive on")
    cells = np.unique(np.floor(points / [0.1, 0.1, 0.05]).astype(np.int64), axis=0)
    levels, area = np.unique(cells[:, 2], return_counts=True)
    level = 0.05 * (levels[np.argmax(area >= 0.2 * area.max())] + 0.5)
    return float(np.median(points[np.abs(points[:, 2] - level) < 0.075, 2]))


def median_height(keyframes: Sequence[Keyframe]) -> float:
    """The z at which the keyframes' cameras were, metres."""
    return float(np.median([keyframe.T_world_camera.translation[2] for keyframe in keyframes]))


@dataclass(frozen=True, eq=False)
class FreeSpace:
    """Where the centre of a round robot may be, on a grid of square cells, row = y and column = x.

    origin (2,) metres: the corner of cell (0, 0); floor: its z, metres
    blocked (R, C) bool: where an obstacle's anchors are
    distance (R, C) metres: at most that from any point of the cell to the nearest obstacle anchor or the map's border
    seen (R, C) bool: where anchors show the floor
    roomy (R, C) bool: one connected region with 1.5 cells to spare, in which goals and routes lie
    free (R, C) bool: that region and what is free next to it: from everywhere a short straight way leads back to it
    """

    origin: np.ndarray
    resolution: float
    floor: float
    robot_radius: float
    blocked: np.ndarray
    distance: np.ndarray
    seen: np.ndarray
    roomy: np.ndarray
    free: np.ndarray

    @classmethod
    def from_world(cls, anchors: AnchorMap, keyframes: Sequence[Keyframe], robot_radius: float = 0.2,
                   robot_height: float | None = None, resolution: float = 0.05) -> FreeSpace:
        """The free region next to most keyframes, for a robot of this radius and height, all in metres.

        Without a height, the robot is as tall as it must be to carry its camera where the keyframes were taken. Anchors
        from 0.10 m above the floor up to the robot's height are obstacles. Floor that nobody saw is free, but routes
        avoid it. Raises ValueError for a world without keyframes, without floor or without free space, and for numbers
        that no robot or map has.
        """
        if not (0.0 <= robot_radius < math.inf and 0.0 < resolution < math.inf
                and (robot_height is None or STEP_HEIGHT < robot_height < math.inf)):
            raise ValueError(f"a robot's radius is 0 m or more and its height above {STEP_HEIGHT} m, a map's "
                             f"resolution above 0 m; got {robot_radius}, {robot_height} and {resolution}")
        if not keyframes or not len(anchors):
            raise ValueError("a robot that drives itself needs anchors and keyframes, the world has "
                             f"{len(anchors)} and {len(keyframes)}")
        cameras = np.array([keyframe.T_world_camera.translation for keyframe in keyframes])
        points = np.concatenate([tile.world_points for tile in anchors.tiles])
        floor = floor_height(points, cameras[:, 2])
        height = points[:, 2] - floor
        robot_height = robot_height or median_height(keyframes) - floor + HEADROOM
        obstacles = points[(height > STEP_HEIGHT) & (height < robot_height), :2]
        ground = points[np.abs(height) <= STEP_HEIGHT, :2]

        low, high = _bounds(points[:, :2], cameras[:, :2], margin=robot_radius + 6 * resolution)
        shape = tuple(np.ceil((high - low) / resolution).astype(int)[::-1])
        if math.prod(map(int, shape)) > MAX_CELLS:
            raise ValueError(f"a map of {shape[1]} x {shape[0]} cells is too large; {resolution} m is too fine for it")
        blocked = _rasterise(obstacles, low, resolution, shape)
        # from centre to centre of cells, less half a cell's diagonal at either end: never more than the true distance
        padded = ndimage.distance_transform_edt(~np.pad(blocked, 1, constant_values=True))[1:-1, 1:-1]
        distance = resolution * (padded - math.sqrt(2.0))
        roomy = _main_region(distance >= robot_radius + 1.5 * resolution, (cameras[:, :2] - low) / resolution)
        free = ndimage.binary_dilation(roomy, iterations=3, mask=distance >= robot_radius)
        return cls(low, resolution, floor, robot_radius, blocked, distance,
                   _rasterise(ground, low, resolution, shape), roomy, free)

    def clearance(self, x, y) -> np.ndarray:
        """At most the distance from (x, y) to the nearest obstacle, metres; -inf outside the map. Arrays broadcast."""
        return self._at(self.distance, x, y, -np.inf)

    def is_free(self, x, y) -> np.ndarray:
        """Whether the robot's centre may be at (x, y). Arrays broadcast."""
        return self._at(self.free, x, y, False)

    def is_roomy(self, x, y) -> np.ndarray:
        """Whether (x, y) is free with 1.5 cells to spare. Arrays broadcast."""
        return self._at(self.roomy, x, y, False)

    def nearest_free(self, x: float, y: float) -> np.ndarray:
        """(2,) the centre of the nearest free cell with room to spare."""
        cells = np.argwhere(self.roomy)
        return self.centre(cells[np.argmin(np.sum((self.centre(cells) - [x, y]) ** 2, axis=1))])

    def centre(self, cells) -> np.ndarray:
        """Cells (..., 2) as (row, column) to the metres (..., 2) of their centres."""
        return self.origin + (np.asarray(cells)[..., ::-1] + 0.5) * self.resolution

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """(row, column) of the cell that holds (x, y)."""
        column, row = np.floor((np.array([x, y]) - self.origin) / self.resolution).astype(int)
        return int(row), int(column)

    def _at(self, grid: np.ndarray, x, y, outside) -> np.ndarray:
        column = np.floor((np.asarray(x) - self.origin[0]) / self.resolution).astype(int)
        row = np.floor((np.asarray(y) - self.origin[1]) / self.resolution).astype(int)
        inside = (row >= 0) & (row < grid.shape[0]) & (column >= 0) & (column < grid.shape[1])
        return np.where(inside, grid[np.where(inside, row, 0), np.where(inside, column, 0)], outside)


def _bounds(points: np.ndarray, places: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (2,) of the map: what the anchors cover near the places, and the places themselves."""
    low, high = places.min(0), places.max(0)
    return (np.minimum(np.maximum(points.min(0), low - REACH), low - margin),
            np.maximum(np.minimum(points.max(0), high + REACH), high + margin))


def _rasterise(points: np.ndarray, origin: np.ndarray, resolution: float, shape: tuple[int, int]) -> np.ndarray:
    """(R, C) bool: the cells that hold a point; points outside the grid are left out."""
    column, row = np.floor((points - origin) / resolution).astype(int).T
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    grid = np.zeros(shape, bool)
    grid[row[inside], column[inside]] = True
    return grid


def _main_region(free: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The connected region that is nearest to most places (K, 2), in cells as (x, y); the largest of equals."""
    if not free.any():
        raise ValueError("the robot fits nowhere: no place in the world is wide enough for it")
    regions, count = ndimage.label(free)
    cells = np.argwhere(free)
    votes = np.zeros(count + 1)
    for x, y in places:
        votes[regions[tuple(cells[np.argmin(np.sum((cells + 0.5 - [y, x]) ** 2, axis=1))])]] += 1
    size = np.bincount(regions[free], minlength=count + 1)
    return regions == np.lexsort((size, votes))[-1]


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
