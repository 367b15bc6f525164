"""Fusing posed RGB-D frames into a world: anchors from their depth, and keyframes chosen by coverage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
import math
from typing import Protocol

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Pose
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.storage import World

KEY_BITS = 21  # a voxel's integer coordinates, packed into one int64: +-10 km at 1 cm around the first camera
RADIUS = math.sqrt(
    0.5
)  # of an anchor, in spacings: discs on a square grid just close (smaller leaves holes, larger fattens edges)
STEEPEST = math.tan(math.radians(80.0))  # surfaces seen more obliquely than this are taken for depth edges
COVERAGE_CELL = 0.1  # metres; keyframes are chosen by the surface cells of this size that they show
COVERAGE_RANGE = 2.0  # a cell counts as shown from at most this many times its nearest viewing distance


@dataclass(frozen=True)
class FusionSettings:
    """How frames become a world.

    voxel: the distance between anchors, metres. max_depth: farther measurements are left out, metres.
    edge: a pixel is a flying pixel, and is dropped, when the depth in its 3x3 neighbourhood jumps by this fraction more
    than a surface shows that is seen at 80 degrees from its normal.
    min_views: measured surfaces are kept where this many frames agree (at most an eighth of the frames is asked for).
    min_gain: keyframes are added while one still shows this fraction of the surface that no other shows.
    parallax, turn: then those that look from elsewhere than all before: moved by this part of the distance to what they
    see (median), or turned by so many degrees. A picture is best where a keyframe is near.
    max_keyframes: of both; the farthest from the others come first.
    """

    voxel: float = 0.01
    max_depth: float = 8.0
    edge: float = 0.03
    min_views: int = 10
    min_gain: float = 0.002
    parallax: float = 0.01
    turn: float = 2.0
    max_keyframes: int = 256

    def __post_init__(self) -> None:
        if not 1e-4 <= self.voxel <= 10.0:
            raise ValueError(f"the voxel size is between 0.0001 and 10 metres, got {self.voxel}")
        positive = min(self.max_depth, self.edge, self.min_views, self.max_keyframes, self.parallax, self.turn) > 0
        if not positive or not 0 <= self.min_gain < 1:
            raise ValueError(f"fusion settings are positive (min_gain below 1), got {self}")


class Surface(Protocol):
    """Gathers the depth of frames, and becomes anchors."""

    def add(self, frame: RgbdFrame, depth: np.ndarray) -> None:
        """Add a frame with its trustworthy depth (H, W) float32, metres, 0 = none."""

    def anchors(self) -> AnchorMap:
        """The anchors of all that was added."""


def fuse(
    frames: Sequence[RgbdFrame],
    name: str,
    surface: Surface,
    settings: FusionSettings,
    label_names: dict[int, str] | None = None,
    track: Callable[[Iterable], Iterable] = iter,
) -> World:
    """Fuse posed frames into a world, on `surface`. `track` wraps the loop over the frames (a progress bar).

    Raises ValueError when no frame has usable depth.
    """
    if not len(frames):
        raise ValueError("no frames to build a world from")
    cells, nearest, distances = [], math.inf, []
    origin = np.round(frames[0].T_world_camera.translation)
    for frame in track(frames):
        nearest = min(nearest, frame.depth[frame.depth > 0].min(initial=math.inf))
        depth = trustworthy_depth(frame, settings)
        surface.add(frame, depth)
        cells.append(_surface_cells(frame, depth, origin))
        distances.append(np.median(depth[depth > 0]) if depth.any() else math.inf)
    anchors = surface.anchors()
    if not len(anchors):
        raise ValueError(no_surface(len(frames), [len(keys) for keys, _ in cells], nearest, settings))
    poses = [frame.T_world_camera for frame in frames]
    chosen = spread_keyframes(choose_keyframes(cells, settings), poses, np.array(distances), settings)
    keyframes = [Keyframe.of(frames[i]) for i in chosen]
    return World(name, anchors, keyframes, settings.voxel, label_names or {}, metric=getattr(frames, "metric", True))


def no_surface(frames: int, shown: Sequence[int], nearest: float, settings: FusionSettings) -> str:
    """Why nothing is left of a source's depth. shown: surface cells a frame; nearest: of all measurements, metres."""
    none = f"none of the {frames} frames has usable depth: "
    if nearest == math.inf:
        return none + "nothing was measured; a world of anchors needs depth images"
    if nearest > settings.max_depth:
        return none + (f"all of it is beyond max_depth, {settings.max_depth:g} m, the nearest at {nearest:.3g} m; "
                       "raise --max-depth, or say the depth's unit with --depth-scale")
    if not any(shown):
        return none + f"all of it is at depth edges (edge {settings.edge:g}) or beyond max_depth"
    return none + f"no surface is seen alike by {settings.min_views} of them; lower --min-views, or mend the poses"


def trustworthy_depth(frame: RgbdFrame, settings: FusionSettings) -> np.ndarray:
    """(H, W) float32: the frame's depth without flying pixels at depth edges and without what is too far; 0 = none."""
    depth = frame.depth
    nowhere = np.where(depth > 0, depth, np.float32(np.inf))
    kernel = np.ones((3, 3), np.uint8)
    slant = 2.0 * STEEPEST / min(frame.intrinsics.fx, frame.intrinsics.fy)  # of a surface, over two pixels
    with np.errstate(invalid="ignore"):
        jump = cv2.dilate(depth, kernel) - cv2.erode(nowhere, kernel)
        return np.where((depth <= settings.max_depth) & (jump <= (settings.edge + slant) * depth), depth, np.float32(0))


class VoxelMeans:
    """Anchors as weighted means of the measurements in each voxel: for depth that is exact.

    The weight is 1 / depth^2 (nearer views are sharper); the label is the nearest view's. The radius closes the gap to
    the neighbours: the larger of the voxel and the pixel spacing of the nearest view decides. Rows wait in a list and
    are merged by sorting when `merge_at` have gathered.
    """

    def __init__(self, voxel: float, merge_at: int = 8_000_000) -> None:
        self.voxel, self.merge_at = voxel, merge_at
        self._origin: np.ndarray | None = None  # near where it began, so that indices stay small
        self._pending: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self._rows = 0

    def add(self, frame: RgbdFrame, depth: np.ndarray) -> None:
        if self._origin is None:
            self._origin = np.round(frame.T_world_camera.translation)
        pixels = np.nonzero(depth)
        z = depth[pixels].astype(np.float64)
        points = frame.T_world_camera.apply(frame.intrinsics.unproject(depth)[pixels])
        labels = None if frame.labels is None else frame.labels[pixels]
        self.insert(points, frame.rgb[pixels], z, z / np.sqrt(frame.intrinsics.fx * frame.intrinsics.fy), labels)

    def insert(self, points: np.ndarray, colors: np.ndarray, distance: np.ndarray, spacing: np.ndarray,
               labels: np.ndarray | None = None) -> None:
        """Add world points (N, 3) with RGB (N, 3), seen from so far (N,), that far from their neighbours (N,)."""
        if not len(points):
            return
        if self._origin is None:
            self._origin = np.round(points[0])
        local, weight = points - self._origin, 1.0 / np.square(distance)
        sums = np.column_stack([weight, local * weight[:, None], colors * weight[:, None]])
        labels = np.zeros(len(points), np.uint16) if labels is None else labels
        # cells are centred on multiples of the voxel, so that a floor at z = 0 is one layer
        keys = _cell_keys(np.rint(local / self.voxel))
        self._append(_merge(keys, sums, weight, labels, np.maximum(self.voxel, spacing)))

    def anchors(self) -> AnchorMap:
        self._compact()
        if not self._rows:
            return AnchorMap()
        _, sums, _, labels, spacing = self._pending[0]
        means = sums[:, 1:] / sums[:, :1]
        colors = np.clip(np.rint(means[:, 3:]), 0, 255).astype(np.uint8)
        return AnchorMap.from_points(means[:, :3] + self._origin, colors, labels, RADIUS * spacing)

    def _append(self, rows: tuple) -> None:
        self._pending.append(rows)
        self._rows += len(rows[0])
        if self._rows > self.merge_at:
            self._compact()

    def _compact(self) -> None:
        if len(self._pending) > 1:
            self._pending = [_merge(*(np.concatenate(column) for column in zip(*self._pending, strict=True)))]
        self._rows = len(self._pending[0][0]) if self._pending else 0
        self.merge_at = max(self.merge_at, 2 * self._rows)


def _cell_keys(index: np.ndarray) -> np.ndarray:
    """One int64 a cell, from its whole coordinates (N, 3). Raises ValueError when they do not fit."""
    index = index.astype(np.int64) + (1 << (KEY_BITS - 1))
    if len(index) and (index.min() < 0 or index.max() >= 1 << KEY_BITS):
        raise ValueError(
            f"the scene reaches {1 << (KEY_BITS - 1)} voxels from its first camera; use a larger voxel, "
            "and check the depth's unit (millimetres) and the poses (metres)"
        )
    return (index[:, 0] << (2 * KEY_BITS)) | (index[:, 1] << KEY_BITS) | index[:, 2]


def _merge(keys, sums, nearest, labels, spacing) -> tuple:
    """One row a key: sums added, the label of the largest `nearest` weight, the smallest spacing."""
    if not len(keys):
        return keys, sums, nearest, labels, spacing
    order = np.lexsort((nearest, keys))
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    ends = np.append(starts[1:], len(keys)) - 1
    return (
        keys[starts],
        np.add.reduceat(sums[order], starts),
        nearest[order][ends],
        labels[order][ends],
        np.minimum.reduceat(spacing[order], starts),
    )


def _surface_cells(frame: RgbdFrame, depth: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coarse cells that a view shows (unique keys) and the nearest distance it shows each from, metres."""
    sparse = np.zeros_like(depth)
    sparse[::3, ::3] = depth[::3, ::3]  # finer than the cells at any useful distance
    pixels = np.nonzero(sparse)
    z = sparse[pixels]
    points = frame.T_world_camera.apply(frame.intrinsics.unproject(sparse)[pixels])
    keys = _cell_keys(np.floor((points - origin) / COVERAGE_CELL))
    order = np.lexsort((z, keys))
    first = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return keys[order][first], z[order][first]


def choose_keyframes(cells: Sequence[tuple[np.ndarray, np.ndarray]], settings: FusionSettings) -> list[int]:
    """Greedy maximum coverage: which views to keep, in order, given the cells (keys, distances) that each shows."""
    universe, place = np.unique(np.concatenate([keys for keys, _ in cells]), return_inverse=True)
    distance = np.full((len(cells), len(universe)), np.inf, np.float32)
    for view, part in enumerate(np.split(place, np.cumsum([len(keys) for keys, _ in cells])[:-1])):
        distance[view, part] = cells[view][1]
    shows = distance <= COVERAGE_RANGE * distance.min(axis=0)
    chosen: list[int] = []
    missing = np.ones(len(universe), bool)
    while len(chosen) < settings.max_keyframes:
        gain = shows[:, missing].sum(axis=1)
        best = int(np.argmax(gain))
        if gain[best] == 0 or (chosen and gain[best] < settings.min_gain * len(universe)):
            break
        chosen.append(best)
        missing &= ~shows[best]
    return sorted(chosen)


def spread_keyframes(chosen: Sequence[int], poses: Sequence[Pose], distances: np.ndarray,
                     settings: FusionSettings) -> list[int]:
    """Those `chosen` of views (V,) and others far from them, in order: which to keep. distances (V,) metres, to what
    each view sees; inf: to nothing, and it is not kept for its pose."""
    places = np.array([pose.translation for pose in poses])
    rotations = Rotation.concatenate([pose.rotation for pose in poses])
    apart = np.full(len(poses), math.inf)  # from the nearest that is kept; 1 = just far enough
    apart[~np.isfinite(distances)] = 0

    def keep(view: int) -> None:
        moved = np.linalg.norm(places - places[view], axis=1) / (settings.parallax * distances)
        turned = np.degrees((rotations[view].inv() * rotations).magnitude()) / settings.turn
        np.minimum(apart, np.maximum(moved, turned), out=apart)

    kept = list(chosen)
    for view in kept:
        keep(view)
    while len(kept) < settings.max_keyframes and apart.max() >= 1:
        kept.append(int(np.argmax(apart)))
        keep(kept[-1])
    return sorted(kept)
