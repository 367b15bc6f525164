"""Fusing posed RGB-D frames into a world: voxel-averaged anchors and keyframes chosen by coverage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from worldfm_ros.rgbd_folder import RgbdFrame
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.storage import World

KEY_BITS = 21  # a voxel's integer coordinates, packed into one int64: +-10 km at 1 cm around the first camera
COVERAGE_CELL = 0.1  # metres; keyframes are chosen by the surface cells of this size that they show
COVERAGE_RANGE = 2.0  # a cell counts as shown from at most this many times its nearest viewing distance


@dataclass(frozen=True)
class FusionSettings:
    """How frames become a world.

    voxel: the cell that keeps one anchor, metres. max_depth: farther measurements are left out, metres.
    edge: a pixel whose 3x3 neighbourhood jumps by more than this fraction of its depth is a flying pixel and is dropped.
    max_keyframes, min_gain: keyframes are added while one still shows this fraction of the surface that no other shows.
    """

    voxel: float = 0.01
    max_depth: float = 8.0
    edge: float = 0.05
    max_keyframes: int = 96
    min_gain: float = 0.002

    def __post_init__(self) -> None:
        if not 1e-4 <= self.voxel <= 10.0:
            raise ValueError(f"the voxel size is between 0.0001 and 10 metres, got {self.voxel}")
        if not self.max_depth > 0 or not self.edge > 0 or self.max_keyframes < 1 or not 0 <= self.min_gain < 1:
            raise ValueError(f"fusion settings are positive (min_gain below 1), got {self}")


def fuse(frames: Sequence[RgbdFrame], name: str, settings: FusionSettings = FusionSettings(),
         label_names: dict[int, str] | None = None, track: Callable[[Iterable], Iterable] = iter) -> World:
    """Fuse posed frames into a metric world.

    An anchor is the mean of its voxel's measurements, weighted by 1 / depth^2 (nearer views are sharper); its label is the
    nearest view's. Its radius is the larger of the voxel and the pixel spacing of the nearest view, so that sparse
    surfaces close too. `track` wraps the loop over the frames (a progress bar). Raises ValueError when no frame has depth.
    """
    if not len(frames):
        raise ValueError("no frames to build a world from")
    voxels = None
    cells = []
    for frame in track(frames):
        points, pixels = measured_points(frame, settings)
        origin = np.round(frames[0].T_world_camera.translation) if voxels is None else voxels.origin
        voxels = voxels or VoxelMeans(settings.voxel, origin)
        voxels.add(points, frame, pixels)
        cells.append(_surface_cells(points - origin, frame.depth[pixels]))
    anchors = voxels.anchors()
    if not len(anchors):
        raise ValueError(f"none of the {len(frames)} frames has usable depth; a world of anchors needs depth images")
    keyframes = [_keyframe(frames[i]) for i in choose_keyframes(cells, settings)]
    return World(name, anchors, keyframes, settings.voxel, label_names or {})


def measured_points(frame: RgbdFrame, settings: FusionSettings) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """World points (N, 3) of a frame's trustworthy depth, and their pixels (rows, columns)."""
    depth = frame.depth
    nowhere = np.where(depth > 0, depth, np.float32(np.inf))
    kernel = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(depth, kernel) - cv2.erode(nowhere, kernel)
    with np.errstate(invalid="ignore"):
        good = (depth > 0) & (depth <= settings.max_depth) & (jump <= settings.edge * depth)
    rows, columns = np.nonzero(good)
    return frame.T_world_camera.apply(frame.intrinsics.unproject(depth)[rows, columns]), (rows, columns)


class VoxelMeans:
    """Weighted means of measurements per voxel. Rows wait in a list and are merged by sorting when many have gathered."""

    def __init__(self, voxel: float, origin: np.ndarray, merge_at: int = 8_000_000) -> None:
        self.voxel, self.origin, self.merge_at = voxel, origin, merge_at
        self._pending: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self._rows = 0

    def add(self, points: np.ndarray, frame: RgbdFrame, pixels: tuple[np.ndarray, np.ndarray]) -> None:
        """Add world points (N, 3) with colour and label of their pixels."""
        local = points - self.origin
        z = frame.depth[pixels].astype(np.float64)
        weight = 1.0 / np.square(z)
        sums = np.column_stack([weight, local * weight[:, None], frame.rgb[pixels] * weight[:, None]])
        labels = np.zeros(len(z), np.uint16) if frame.labels is None else frame.labels[pixels]
        spacing = np.maximum(self.voxel, z / np.sqrt(frame.intrinsics.fx * frame.intrinsics.fy))
        self._append(_merge(self._keys(local), sums, weight, labels, spacing))

    def anchors(self) -> AnchorMap:
        self._compact()
        if not self._rows:
            return AnchorMap()
        _, sums, _, labels, spacing = self._pending[0]
        means = sums[:, 1:] / sums[:, :1]
        colors = np.clip(np.rint(means[:, 3:]), 0, 255).astype(np.uint8)
        return AnchorMap.from_points(means[:, :3] + self.origin, colors, labels, spacing)

    def _keys(self, local: np.ndarray) -> np.ndarray:
        """One int64 a voxel. Cells are centred on multiples of the voxel, so that a floor at z = 0 is one layer."""
        index = np.rint(local / self.voxel).astype(np.int64) + (1 << (KEY_BITS - 1))
        if len(index) and (index.min() < 0 or index.max() >= 1 << KEY_BITS):
            raise ValueError(f"the scene is larger than {self.voxel * (1 << (KEY_BITS - 1)):.0f} m around its first camera; "
                             "use a larger voxel, and check the depth's unit (millimetres) and the poses (metres)")
        return (index[:, 0] << (2 * KEY_BITS)) | (index[:, 1] << KEY_BITS) | index[:, 2]

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


def _merge(keys, sums, nearest, labels, spacing) -> tuple:
    """One row a key: sums added, the label of the largest `nearest` weight, the smallest spacing."""
    order = np.lexsort((nearest, keys))
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    ends = np.append(starts[1:], len(keys)) - 1
    if not len(keys):
        return keys, sums, nearest, labels, spacing
    return (keys[starts], np.add.reduceat(sums[order], starts), nearest[order][ends], labels[order][ends],
            np.minimum.reduceat(spacing[order], starts))


def _surface_cells(local: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coarse cells that a view shows (unique keys) and the nearest distance it shows each from, metres."""
    index = np.floor(local / COVERAGE_CELL).astype(np.int64) + (1 << (KEY_BITS - 1))
    keys = (index[:, 0] << (2 * KEY_BITS)) | (index[:, 1] << KEY_BITS) | index[:, 2]
    order = np.lexsort((depth, keys))
    first = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return keys[order][first], depth[order][first]


def choose_keyframes(cells: Sequence[tuple[np.ndarray, np.ndarray]], settings: FusionSettings) -> list[int]:
    """Greedy maximum coverage: which views to keep, in time order, given the cells (keys, distances) that each shows."""
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


def _keyframe(frame: RgbdFrame) -> Keyframe:
    return Keyframe(frame.index, frame.rgb, frame.depth, frame.intrinsics, frame.T_world_camera)
