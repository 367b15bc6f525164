"""Posed views of all of a scene, as a robot would have recorded them: the free floor, and cameras spread over it."""

from __future__ import annotations

from collections.abc import Iterator
import math

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import T_BODY_OPTICAL, Intrinsics, Pose
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.scene import Box, Scene, signed_distance

GRID = 0.1  # metres; candidate places on the floor
ROBOT_HEIGHTS = (0.1, 0.35, 0.6, 0.85, 1.1, 1.35, 1.6)  # metres; where a place is checked for room
CLEARANCE = 0.28  # metres; from a place's upright to anything
RING = 6  # directions a place
PITCHES = (math.radians(22.0), math.radians(-10.0))  # downwards, in turn: the floor, and the walls up to the ceiling
EYE_HEIGHTS = (1.1, 1.1, 1.55, 1.1, 0.6)  # metres above the floor, place by place
DEFAULT_CAMERA = Intrinsics.from_hfov(320, 240, math.radians(78.0))


def observe(scene: Scene, seed: int = 0, count: int = 72, intrinsics: Intrinsics = DEFAULT_CAMERA,
            samples: int = 2, texel: float = 0.08) -> Iterator[RgbdFrame]:
    """`count` exact views from free places all over the floor; `samples` and `texel` are the ray caster's."""
    return look_around(RayCaster(scene, texel), seed, count, intrinsics, samples)


def look_around(caster: RayCaster, seed: int, count: int, intrinsics: Intrinsics,
                samples: int = 2) -> Iterator[RgbdFrame]:
    """The same with a ray caster that is there already, whose light is not worked out again."""
    for index, pose in enumerate(viewpoints(caster.scene, seed, count)):
        image = caster.render(pose, intrinsics, samples)
        yield RgbdFrame(index, image.rgb, image.depth, intrinsics, pose, image.labels)


def viewpoints(scene: Scene, seed: int = 0, count: int = 72) -> list[Pose]:
    """T_world_camera of `count` views: rings of six directions from places that spread over the free floor.

    Every camera is more than 0.2 m from all solids. Raises ValueError when the scene has no free floor.
    """
    if count < 1:
        raise ValueError(f"a scene is observed by one view or more, got {count}")
    places = _spread(free_floor(scene), math.ceil(count / RING), seed)
    turns = np.random.default_rng(seed).uniform(0.0, 2.0 * math.pi / RING, len(places))
    poses = []
    for k in range(count):
        place, direction = divmod(k, RING)
        yaw = turns[place] + direction * 2.0 * math.pi / RING
        body = Pose.planar(*places[place], yaw)
        poses.append(body @ _mount(EYE_HEIGHTS[place % len(EYE_HEIGHTS)], PITCHES[k % 2]))
    return poses


def _mount(height: float, pitch: float) -> Pose:
    """T_body_camera of an optical frame at that height that looks forward and down by `pitch`."""
    return Pose(Rotation.from_rotvec([0.0, pitch, 0.0]), np.array([0.0, 0.0, height])) @ T_BODY_OPTICAL


def free_floor(scene: Scene, clearance: float = CLEARANCE) -> np.ndarray:
    """(N, 2) places on the floor z = 0, on a 0.1 m grid, with `clearance` metres of room around, up to a height of
    1.6 m; of separate areas the largest, so that all are connected. Raises ValueError when there is none."""
    (west, south, _), (east, north, _) = scene.bounds
    x, y = np.meshgrid(np.arange(west, east, GRID), np.arange(south, north, GRID), indexing="ij")
    free = _near(scene, x, y, -0.01, 0.0)
    for height in ROBOT_HEIGHTS:
        free &= ~_near(scene, x, y, height, min(clearance, height - 0.03))  # the floor itself is no obstacle
    areas, n = ndimage.label(free)
    if n == 0:
        raise ValueError(f"scene {scene.name!r} has no place on its floor z = 0 with {clearance} m of room around")
    largest = 1 + np.argmax(np.bincount(areas.ravel())[1:])
    return np.stack([x, y], axis=-1)[areas == largest]


def _near(scene: Scene, x: np.ndarray, y: np.ndarray, height: float, limit: float) -> np.ndarray:
    """Where on the grid, at that height, a solid is nearer than `limit` metres; each is tried on its own patch only."""
    near = np.zeros(x.shape, bool)
    for solid in scene.primitives:
        reach = math.hypot(*solid.size) / 2.0 + limit
        if abs(solid.centre[2] - height) > (solid.size[2] / 2.0 + limit if isinstance(solid, Box) else reach):
            continue
        low, high = (np.array(solid.centre[:2]) - (x[0, 0], y[0, 0]) + [[-reach], [reach]]) / GRID
        rows, columns = (slice(max(math.floor(a), 0), max(math.ceil(b) + 1, 0)) for a, b in zip(low, high, strict=True))
        points = np.stack([x[rows, columns], y[rows, columns], np.full_like(x[rows, columns], height)], axis=-1)
        distance = signed_distance(solid, points.reshape(-1, 3)).reshape(points.shape[:2])
        near[rows, columns] |= distance < limit
    return near


def _spread(places: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the places (N, 2), spread over all of them: farthest points, then the middles of what is nearest."""
    chosen = places[np.random.default_rng(seed).integers(len(places), size=1)]
    while len(chosen) < count:
        chosen = np.concatenate([chosen, places[[np.argmax(_distances(places, chosen).min(axis=1))]]])
    for _ in range(8):
        nearest = np.argmin(_distances(places, chosen), axis=1)
        means = np.array([places[nearest == k].mean(axis=0) if (nearest == k).any() else chosen[k]
                          for k in range(count)])
        chosen = places[np.argmin(_distances(places, means), axis=0)]
    return chosen


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) metres between (N, 2) and (M, 2)."""
    return np.linalg.norm(a[:, None] - b, axis=2)
