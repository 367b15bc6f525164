"""Whether a world's z axis points up, as REP-103 wants it: by how its cameras were held and by the slope of its floor.

Cameras are held upright or on their side, rarely upside down, and look down rather than up. The floor is what lies
lowest; a plane through it that is steep, but holds far more of it than any level one, tells that the frame is tilted.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe

CELL, EVEN = 0.25, 0.04  # metres: the floor is the lowest anchor of each such cell, and so even
PLANES, PLACES = 200, 5000  # how many planes are tried, and of how many of the floor's anchors
SLOPE, SHARE, FEW = math.radians(5.0), 1.5, 20  # a tilted floor: steeper, so many times what is level, and cells
TURN = "a robot needs z to point up (REP-103): turn the poses it is built from and build it again"


def check_gravity_aligned(anchors: AnchorMap, keyframes: Sequence[Keyframe]) -> None:
    """Raise ValueError for a world whose keyframes or floor tell that z does not point up; without them, nothing."""
    if not keyframes or not len(anchors):
        return
    _, down, forward = np.array([keyframe.T_world_camera.rotation.as_matrix()[2] for keyframe in keyframes]).T
    if np.mean(-down - forward) < -0.5:  # 1 level or straight down, 0 on its side, -1 straight up or upside down
        raise ValueError("the world's frame is not gravity aligned: its cameras look along z or are upside down; "
                         + TURN)
    height = np.median([keyframe.T_world_camera.translation[2] for keyframe in keyframes])
    points = np.concatenate([tile.world_points for tile in anchors.tiles])
    slope = floor_slope(points[points[:, 2] < height])
    if slope > SLOPE:
        raise ValueError(f"the world's frame is not gravity aligned: its floor slopes by {math.degrees(slope):.0f} "
                         f"degrees; {TURN}")


def floor_slope(points: np.ndarray) -> float:
    """Radians between level and the plane that holds most of the floor below points (N, 3), metres; 0 unless it holds
    clearly more than any level one. RANSAC, with a seed of its own."""
    ground = _lowest(points)
    if len(ground) < 3:
        return 0.0
    random = np.random.default_rng(0)
    ground = random.permutation(ground)[:PLACES]
    a, b, c = ground[random.integers(len(ground), size=(3, PLANES))]
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    inclined = np.abs(normals[:, 2]) > 0.7 * length  # up to 45 degrees; steeper ones are walls
    normals[inclined] /= length[inclined, None]
    held = np.where(inclined, _held(ground, normals, a), 0)
    level = _held(ground, np.broadcast_to([0.0, 0.0, 1.0], a.shape), a)
    best = np.argmax(held)
    return math.acos(min(abs(normals[best, 2]), 1.0)) if held[best] > max(SHARE * level.max(), FEW) else 0.0


def _held(ground: np.ndarray, normals: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(P,) how many of the points (N, 3) lie on each plane through a place (P, 3) with a unit normal (P, 3)."""
    return np.sum(np.abs(ground @ normals.T - np.sum(normals * places, axis=1)) < EVEN, axis=0)


def _lowest(points: np.ndarray) -> np.ndarray:
    """(N, 3) the lowest of the points in each cell, seen from above."""
    ordered = points[np.argsort(points[:, 2])]
    _, first = np.unique(np.floor(ordered[:, :2] / CELL).astype(np.int64), axis=0, return_index=True)
    return ordered[first]
