"""The anchor map: the scene's persistent coloured, labelled point cloud (paper 2.4.1, explicit spatial memory)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
import math

import numpy as np

from worldfm_ros.clips import Cloud
from worldfm_ros.geometry import Intrinsics, Pose

TILE = 4.0  # metres; the map is cut into cubes of this side, which are culled and stored one by one
CELLS = 32  # along each side of a tile (0.125 m); the anchors of a tile are kept in Morton order of these cells
BLOCK = 512  # consecutive anchors of a tile that the renderer culls and draws together
NEAR = 0.05  # metres; nothing nearer than this to the camera is drawn
TOLERANCE = 1e-6  # of the terms of a culling test; the renderer's float32 projection is off by less
FIELDS = {"points": np.float32, "colors": np.uint8, "labels": np.uint16, "radius": np.float32, "frames": np.int32,
          "confidence": np.uint8}
SCAN, MEASURED = -1, 255  # the frame of what a builder made; the confidence of what was measured


@dataclass(frozen=True, eq=False)
class Anchors:
    """One tile's anchors: structure of arrays, positions relative to `origin` so that float32 is exact far from zero.

    points (N, 3) float32, metres, relative to origin; colors (N, 3) uint8 RGB; labels (N,) uint16, 0 = none,
    radius (N,) float32, metres: the disc that closes the surface between an anchor and its neighbours (0 = one pixel);
    frames (N,) int32: the keyframe that it was inserted with, SCAN = it was there before; confidence (N,) uint8:
    MEASURED, or less: generated, and so sure is the depth (254 = certain). None: all of them of the scan, measured.
    """

    origin: np.ndarray  # (3,) float64, metres, world
    points: np.ndarray
    colors: np.ndarray
    labels: np.ndarray
    radius: np.ndarray
    frames: np.ndarray | None = None
    confidence: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", np.asarray(self.origin, dtype=np.float64))
        n = len(self.points)
        for name, value in {"frames": SCAN, "confidence": MEASURED}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(n, value, FIELDS[name]))
        for name in FIELDS:
            shape = (n, 3) if name in ("points", "colors") else (n,)
            array = np.ascontiguousarray(getattr(self, name))
            if array.shape != shape or array.dtype != FIELDS[name]:
                raise ValueError(
                    f"anchors.{name}: expected {shape} {np.dtype(FIELDS[name])}, got {array.shape} {array.dtype}"
                )
            object.__setattr__(self, name, array)
        bad = ~((self.radius >= 0) & (self.radius < np.inf))
        if bad.any():
            raise ValueError(
                f"anchors.radius: expected metres >= 0, got {bad.sum()} of {n} that are negative or not finite"
            )

    def __len__(self) -> int:
        return len(self.points)

    @property
    def world_points(self) -> np.ndarray:
        """(N, 3) float64, metres, world."""
        return self.points + self.origin

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3) float64: lowest and highest corner including the splats, metres, world."""
        r = self.radius[:, None]
        return np.stack([(self.points - r).min(0), (self.points + r).max(0)]) + self.origin

    @cached_property
    def blocks(self) -> np.ndarray:
        """(ceil(N / BLOCK), 7) float64: for each BLOCK consecutive anchors the box of their centres and their largest
        radius. Columns: middle of the box, half of its size, radius; metres, relative to origin."""
        starts = np.arange(0, len(self), BLOCK)
        low, high = (f.reduceat(self.points, starts).astype(np.float64) for f in (np.minimum, np.maximum))
        return np.column_stack([(low + high) / 2, (high - low) / 2, np.maximum.reduceat(self.radius, starts)])

    def select(self, index) -> Anchors:
        """The anchors at `index` (a mask, slice or index array)."""
        return Anchors(self.origin, *(getattr(self, name)[index] for name in FIELDS))


class AnchorMap:
    """All anchors of a world, in tiles. It changes only through `insert`, `insert_tile`, `keep` and `become`.

    revision: a number that is another after each change."""

    def __init__(self) -> None:
        self.revision = 0
        self._tiles: dict[tuple[int, int, int], Anchors] = {}
        self._boxes: np.ndarray | None = None  # of `tiles`, made when first needed

    @classmethod
    def from_points(cls, points, colors, labels=None, radius=0.0) -> AnchorMap:
        """A map from world points (N, 3), RGB (N, 3) uint8, labels (N,) and radius (N,) or one number, metres."""
        anchors = cls()
        anchors.insert(points, colors, labels, radius)
        return anchors

    @classmethod
    def from_cloud(cls, cloud: Cloud) -> AnchorMap:
        """A cloud's points as splats of one pixel."""
        return cls.from_points(cloud.points, cloud.colors)

    def __len__(self) -> int:
        return sum(len(tile) for tile in self._tiles.values())

    @property
    def tiles(self) -> list[Anchors]:
        """Every tile, in a fixed order."""
        return [self._tiles[key] for key in sorted(self._tiles)]

    @property
    def bounds(self) -> np.ndarray | None:
        """(2, 3) lowest and highest corner, metres, world; None for an empty map."""
        if not self._tiles:
            return None
        corners = np.array([tile.bounds for tile in self.tiles])
        return np.stack([corners[:, 0].min(0), corners[:, 1].max(0)])

    def insert(self, points, colors, labels=None, radius=0.0, frames=SCAN, confidence=MEASURED) -> None:
        """Add anchors: world points (N, 3) metres, RGB (N, 3) uint8, labels (N,), and radius, frames and confidence,
        each (N,) or one number.

        Within a tile, anchors are kept in Morton order of 0.125 m cells: neighbours in memory are neighbours in space,
        so a block of them is small. In a cell they keep the order in which they came. Inserting in parts gives the same
        map as inserting at once. Raises ValueError for points that are not finite and for radii that are no lengths.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise ValueError(f"anchor positions must be finite, got {np.sum(~np.isfinite(points).all(1))} that are not")
        n = len(points)
        colors = np.asarray(colors)
        labels = np.zeros(n, np.uint16) if labels is None else np.asarray(labels).astype(np.uint16)
        numbers = {"radius": radius, "frames": frames, "confidence": confidence}
        numbers = [np.broadcast_to(np.asarray(value, FIELDS[name]), (n,)) for name, value in numbers.items()]
        keys = np.floor(points / TILE).astype(np.int64)
        order = np.lexsort(keys.T[::-1])
        starts = np.flatnonzero(np.any(np.diff(keys[order], axis=0, prepend=keys[order][:1] - 1), axis=1))
        for index in np.split(order, starts[1:]) if n else []:
            key = tuple(int(k) for k in keys[index[0]])
            origin = (np.array(key) + 0.5) * TILE
            local = (points[index] - origin).astype(np.float32)
            self._add(key, Anchors(origin, local, colors[index], labels[index], *(part[index] for part in numbers)))

    def insert_tile(self, anchors: Anchors) -> None:
        """Add a tile as it was stored; it keeps its order unless the map has anchors there already."""
        key = tuple(int(k) for k in np.floor(anchors.origin / TILE))
        if key in self._tiles:
            self._add(key, anchors)
        elif len(anchors):
            self._set(key, anchors)

    def keep(self, choose: Callable[[Anchors], np.ndarray | None]) -> int:
        """Remove anchors: `choose` says of a tile which stay, (N,) bool, None = all. Returns how many have gone."""
        gone = 0
        for key in sorted(self._tiles):
            tile = self._tiles[key]
            mask = choose(tile)
            if mask is None or mask.all():
                continue
            gone += len(tile) - int(mask.sum())
            if mask.any():
                self._set(key, tile.select(mask))
            else:
                del self._tiles[key]
                self._boxes, self.revision = None, self.revision + 1
        return gone

    def become(self, other: AnchorMap) -> None:
        """Hold what the other map holds, at once."""
        self._tiles, self._boxes = dict(other._tiles), None
        self.revision += 1

    def _set(self, key: tuple[int, int, int], anchors: Anchors) -> None:
        self._tiles[key], self._boxes = anchors, None
        self.revision += 1

    def _add(self, key: tuple[int, int, int], anchors: Anchors) -> None:
        old = self._tiles.get(key)
        if old is not None:
            anchors = Anchors(
                old.origin,
                *(np.concatenate([getattr(old, f.name), getattr(anchors, f.name)]) for f in fields(Anchors)[1:]),
            )
        order = np.argsort(morton_codes(anchors.points), kind="stable")
        self._set(key, anchors.select(order))

    def visible(self, T_world_camera: Pose, intrinsics: Intrinsics) -> list[Anchors]:
        """The tiles that the view frustum may touch (conservative), nearest first: what the renderer is handed."""
        tiles = self.tiles
        if self._boxes is None:
            self._boxes = np.array([tile_box(tile) for tile in tiles]).reshape(-1, 7)
        return [tiles[k] for k in touched(self._boxes, T_world_camera, intrinsics)[0]]


def touched(boxes: np.ndarray, T_world_camera: Pose, intrinsics: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Which of the boxes (T, 7), as `tile_box` gives them, the view frustum may touch (conservative), nearest first;
    and the distance (T,) of each, metres."""
    middle, half, radius = boxes[:, :3] - T_world_camera.translation, boxes[:, 3:6], boxes[:, 6:]
    KR = intrinsics.matrix @ T_world_camera.rotation.as_matrix().T
    planes = frustum(intrinsics)
    normals = planes[:, :3] @ KR
    slack = (np.abs(middle) + half) @ (np.abs(planes[:, :3]) @ np.abs(KR)).T * TOLERANCE
    farthest = middle @ normals.T + half @ np.abs(normals).T + radius * planes[:, 3]  # along each inward normal
    seen = np.flatnonzero(~np.any(farthest + slack < planes[:, 4], axis=1))
    distance = np.linalg.norm(np.maximum(0, np.abs(middle) - half), axis=1)
    return seen[np.argsort(distance[seen], kind="stable")], distance


def morton_codes(points: np.ndarray) -> np.ndarray:
    """The place (N,) uint16 of each tile-relative point (N, 3) along the Morton curve through the tile's cells."""
    cells = np.clip(np.floor(points * (CELLS / TILE)) + CELLS // 2, 0, CELLS - 1).astype(np.uint16)
    codes = np.zeros(len(points), np.uint16)
    for bit in range(CELLS.bit_length() - 1):
        for axis in range(3):
            codes |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return codes


def tile_box(tile: Anchors) -> np.ndarray:
    """(7,) float64: like a row of `Anchors.blocks`, for the whole tile, in world coordinates."""
    blocks = tile.blocks
    low, high = (blocks[:, :3] - blocks[:, 3:6]).min(0), (blocks[:, :3] + blocks[:, 3:6]).max(0)
    return np.concatenate([(low + high) / 2 + tile.origin, (high - low) / 2, [blocks[:, 6].max()]])


def frustum(intrinsics: Intrinsics) -> np.ndarray:
    """The culling test: (5, 5) float64, a row (a, b, c, reach, least) for each plane of the view frustum.

    A splat that projects to (u z, v z, z) may touch the image only if a u z + b v z + c z + reach radius >= least for
    all rows: it covers the pixels within sqrt(fx fy) radius / z of (u, v) and the nearest one. That one is within half
    a pixel; the 0.01 more is for the float32 rounding of u and v.
    """
    reach = math.sqrt(intrinsics.fx * intrinsics.fy) * (1 + TOLERANCE)
    return np.array([
        [1, 0, 0.51, reach, 0],
        [-1, 0, intrinsics.width - 0.49, reach, 0],
        [0, 1, 0.51, reach, 0],
        [0, -1, intrinsics.height - 0.49, reach, 0],
        [0, 0, 1, 0, NEAR],
    ])  # fmt: skip
