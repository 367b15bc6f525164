"""A view put into a world while it is in use: its surface becomes anchors, its picture a keyframe.

What was measured stays. Of what a frame model has invented only that becomes anchors which no keyframe contradicts,
which is no depth edge, and whose depth is sure enough. Nothing is inserted where the map has an anchor already.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world import _through
from worldfm_ros.world.anchors import MEASURED, AnchorMap, Anchors
from worldfm_ros.world.builders.fusion import RADIUS, FusionSettings, trustworthy_depth
from worldfm_ros.world.keyframes import NOT_LENT, Keyframe
from worldfm_ros.world.storage import World, in_millimetres

KEY_BITS = 21  # of a voxel's coordinate along an axis
MARGIN = 0.05  # of the depth: what is this much nearer than a measured surface is in space that is free
CERTAIN = 254  # the confidence of a generated anchor whose depth is certain


@dataclass(frozen=True)
class InsertionSettings:
    """least_confidence: 0..1, of a depth that is inserted. max_depth: metres; farther is left out. max_anchors: of the
    map; beyond, generated ones leave, the least sure and oldest first. max_keyframes: likewise, of inserted keyframes.

    Raises ValueError for numbers out of range.
    """

    least_confidence: float = 0.2
    max_depth: float = 8.0
    max_anchors: int = 5_000_000
    max_keyframes: int = 400

    def __post_init__(self) -> None:
        if not 0 <= self.least_confidence <= 1:
            raise ValueError(f"least_confidence is from 0 to 1, got {self.least_confidence}")
        if not 0 < self.max_depth < math.inf or min(self.max_anchors, self.max_keyframes) < 1:
            raise ValueError(f"max_depth, max_anchors and max_keyframes are above 0, got {self}")


@dataclass(frozen=True, eq=False)
class View:
    """What is inserted: a picture and dense depth from one pose.

    rgb (H, W, 3) uint8; depth (H, W) float32, metres along z, 0 = none; confidence (H, W) float32, of the depth, 0..1;
    known (H, W) bool: the pixels whose surface the map has already, or that were measured by a sensor (`measured`).
    """

    rgb: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray
    known: np.ndarray
    intrinsics: Intrinsics
    T_world_camera: Pose
    labels: np.ndarray | None = None
    measured: bool = False


@dataclass(frozen=True)
class Inserted:
    """What became of a view. frame: its keyframe's id; anchors: new ones; contradicted: pixels that were invented and
    did not pass; carved: generated anchors that were in the way of measured free space; evicted: that left for room."""

    frame: int
    anchors: int
    contradicted: int
    carved: int
    evicted: int


def insert(world: World, view: View, settings: InsertionSettings = InsertionSettings()) -> Inserted:
    """Fuse a view into the world's map and add it as a keyframe. The only way in which a map grows while driving."""
    number = 1 + max((keyframe.id for keyframe in world.keyframes), default=-1)
    depth = trustworthy_depth(RgbdFrame(number, view.rgb, view.depth, view.intrinsics, view.T_world_camera),
                              FusionSettings(voxel=max(world.spacing, 1e-4), max_depth=settings.max_depth))
    asked = (depth > 0) & (view.known if view.measured else ~view.known)
    asked &= view.measured | (view.confidence >= settings.least_confidence)
    pixels = np.nonzero(asked)
    points = view.T_world_camera.apply(view.intrinsics.unproject(depth)[pixels])
    passed = np.ones(len(points), bool) if view.measured else ~contradicted(points, world.keyframes)
    carved = _carve(world.anchors, view, depth) if view.measured else 0
    rows, columns = (axis[passed] for axis in pixels)
    new = _add(world, view, number, points[passed], (rows, columns))
    lent = np.full_like(view.depth, 0 if view.measured else NOT_LENT)
    lent[rows, columns] = in_millimetres(view.depth[rows, columns])
    world.keyframes.append(Keyframe(number, view.rgb, lent, view.intrinsics, view.T_world_camera, inserted=True,
                                    painted=not view.measured))
    evicted = _evict(world, settings)
    return Inserted(number, new, int((~passed).sum()), carved, evicted)


def contradicted(points: np.ndarray, keyframes) -> np.ndarray:
    """(N,) bool: world points (N, 3) that lie where a keyframe looks through, at a surface behind."""
    wrong = np.zeros(len(points), bool)
    for keyframe in keyframes:
        mark_through(points, keyframe, keyframe.depth, wrong)
    return wrong


def mark_through(points: np.ndarray, keyframe, depth: np.ndarray, through: np.ndarray) -> None:
    """Set through (N,) bool for the world points (N, 3) that a keyframe, with this depth (H, W), looks through."""
    pose, camera = keyframe.T_world_camera, keyframe.intrinsics
    _through.mark(points, pose.rotation.as_matrix(), pose.translation,
                  np.array([camera.fx, camera.fy, camera.cx, camera.cy]), depth, MARGIN, through)


def _add(world: World, view: View, number: int, points: np.ndarray, pixels: tuple[np.ndarray, np.ndarray]) -> int:
    """Anchors at the points (N, 3) of these pixels: the nearest view's in each voxel that has none."""
    z = view.depth[pixels]
    voxels = np.rint(points / world.spacing).astype(np.int64)
    order = np.lexsort((z, *voxels.T))
    first = np.any(np.diff(voxels[order], axis=0, prepend=voxels[order][:1] - 1), axis=1)
    chosen = order[first]
    taken = occupied(world.anchors, voxels[chosen], world.spacing)
    chosen = np.sort(chosen[~taken])
    pixel = z[chosen] / math.sqrt(view.intrinsics.fx * view.intrinsics.fy)
    sure = MEASURED if view.measured else np.rint(CERTAIN * view.confidence[pixels][chosen])
    labels = None if view.labels is None else view.labels[pixels][chosen]
    world.anchors.insert(points[chosen], view.rgb[pixels][chosen], labels, RADIUS * np.maximum(world.spacing, pixel),
                         number, sure)
    return len(chosen)


def occupied(anchors: AnchorMap, voxels: np.ndarray, spacing: float) -> np.ndarray:
    """(N,) bool: which voxels (N, 3) int64, `spacing` metres wide, hold an anchor."""
    if not len(voxels):
        return np.zeros(0, bool)
    low, high = voxels.min(0), voxels.max(0)
    box = (np.stack([low, high]) + [[-0.5], [0.5]]) * spacing
    there = [np.empty(0, np.int64)]
    for tile in anchors.tiles:
        bounds = tile.bounds
        if (bounds[0] <= box[1]).all() and (bounds[1] >= box[0]).all():
            index = np.rint(tile.world_points / spacing).astype(np.int64)
            there.append(_keys(index[((index >= low) & (index <= high)).all(1)] - low))
    return np.isin(_keys(voxels - low), np.concatenate(there))


def _keys(index: np.ndarray) -> np.ndarray:
    return index[:, 0] << (2 * KEY_BITS) | index[:, 1] << KEY_BITS | index[:, 2]


def _carve(anchors: AnchorMap, view: View, depth: np.ndarray) -> int:
    """Remove what was generated and lies between the camera and a measured surface, or on it."""
    camera = Keyframe(0, view.rgb, depth, view.intrinsics, view.T_world_camera)

    def stay(tile: Anchors) -> np.ndarray | None:
        generated = np.flatnonzero(tile.confidence < MEASURED)
        if not len(generated):
            return None
        pixels, z, inside = camera.lookup(tile.world_points[generated])
        column, row = np.rint(np.where(inside[:, None], pixels, 0)).astype(int).T
        measured = depth[row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)]
        mask = np.ones(len(tile), bool)
        mask[generated] = ~(inside & (measured > 0) & (z < (1 + MARGIN) * measured))
        return mask

    return anchors.keep(stay)


def _evict(world: World, settings: InsertionSettings) -> int:
    """Keep within the caps: generated anchors leave, the least sure first and of those the oldest; and the oldest
    inserted keyframes. What was measured stays, whatever the cap."""
    tiles = world.anchors.tiles
    beyond, gone = len(world.anchors) - settings.max_anchors, 0
    if beyond > 0:
        rank = np.concatenate([_rank(tile) for tile in tiles])
        generated = np.sort(rank[rank < MEASURED << 32])
        if len(generated):
            limit = generated[min(beyond, len(generated)) - 1]
            gone = world.anchors.keep(lambda tile: _rank(tile) > limit)
    inserted = [keyframe for keyframe in world.keyframes if keyframe.inserted]
    for keyframe in inserted[:max(0, len(inserted) - settings.max_keyframes)]:
        world.keyframes.remove(keyframe)
    return gone


def _rank(tile: Anchors) -> np.ndarray:
    """(N,) int64: the smallest leaves first."""
    return tile.confidence.astype(np.int64) << 32 | tile.frames.clip(0)
