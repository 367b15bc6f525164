"""Where a robot may be in a world. Metres, world axes.

Seen from above the robot is a disc; what stands between its step height and its own height is an obstacle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from scipy import ndimage

from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe

STEP_HEIGHT = 0.10  # what is lower than this above the floor is driven over (and is how uneven a scanned floor looks)
HEADROOM = 0.10  # the robot's height above its camera
REACH = 5.0  # the map ends this far from the keyframes' places; a stray anchor 1 km away must not size the grid
MAX_CELLS = 10**8  # 500 m square at 5 cm


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
