"""The anchor map: the scene's persistent coloured, labelled point cloud (paper 2.4.1, explicit spatial memory)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose

TILE = 4.0  # metres; the map is cut into cubes of this side, which are culled and stored one by one
NEAR = 0.05  # metres; nothing nearer than this to the camera is drawn
FIELDS = {"points": np.float32, "colors": np.uint8, "labels": np.uint16, "radius": np.float32}


@dataclass(frozen=True, eq=False)
class Anchors:
    """One tile's anchors: structure of arrays, positions relative to `origin` so that float32 is exact far from zero.

    points (N, 3) float32, metres, relative to origin; colors (N, 3) uint8 RGB; labels (N,) uint16, 0 = none,
    radius (N,) float32, metres: the disc that closes the surface between an anchor and its neighbours (0 = one pixel).
    """

    origin: np.ndarray  # (3,) float64, metres, world
    points: np.ndarray
    colors: np.ndarray
    labels: np.ndarray
    radius: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", np.asarray(self.origin, dtype=np.float64))
        n = len(self.points)
        for name, shape in {"points": (n, 3), "colors": (n, 3), "labels": (n,), "radius": (n,)}.items():
            array = np.ascontiguousarray(getattr(self, name))
            if array.shape != shape or array.dtype != FIELDS[name]:
                raise ValueError(
                    f"anchors.{name}: expected {shape} {np.dtype(FIELDS[name])}, got {array.shape} {array.dtype}"
                )
            object.__setattr__(self, name, array)

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

    def select(self, index) -> Anchors:
        """The anchors at `index` (a mask, slice or index array)."""
        return Anchors(self.origin, *(getattr(self, name)[index] for name in FIELDS))


class AnchorMap:
    """All anchors of a world, in tiles. It changes only through `insert`."""

    def __init__(self) -> None:
        self._tiles: dict[tuple[int, int, int], Anchors] = {}
        self._bounds: dict[tuple[int, int, int], np.ndarray] = {}

    @classmethod
    def from_points(cls, points, colors, labels=None, radius=0.0) -> AnchorMap:
        """A map from world points (N, 3), RGB (N, 3) uint8, labels (N,) and radius (N,) or one number, metres."""
        anchors = cls()
        anchors.insert(points, colors, labels, radius)
        return anchors

    def __len__(self) -> int:
        return sum(len(tile) for tile in self._tiles.values())

    @property
    def tiles(self) -> list[Anchors]:
        """Every tile, in a fixed order."""
        return [self._tiles[key] for key in sorted(self._tiles)]

    @property
    def bounds(self) -> np.ndarray | None:
        """(2, 3) lowest and highest corner, metres, world; None for an empty map."""
        if not self._bounds:
            return None
        corners = np.array(list(self._bounds.values()))
        return np.stack([corners[:, 0].min(0), corners[:, 1].max(0)])

    def insert(self, points, colors, labels=None, radius=0.0) -> None:
        """Add anchors: world points (N, 3) metres, RGB (N, 3) uint8, labels (N,), radius (N,) or one number.

        Within a tile, anchors are kept in scan order of 0.25 m cells: neighbours in space are neighbours in memory.
        Raises ValueError for points that are not finite.
        """
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise ValueError(f"anchor positions must be finite, got {np.sum(~np.isfinite(points).all(1))} that are not")
        n = len(points)
        colors = np.asarray(colors)
        labels = np.zeros(n, np.uint16) if labels is None else np.asarray(labels).astype(np.uint16)
        radius = np.broadcast_to(np.asarray(radius, np.float32), (n,))
        keys = np.floor(points / TILE).astype(np.int64)
        cells = np.floor(points * 4.0).astype(np.int64)
        order = np.lexsort((*cells.T[::-1], *keys.T[::-1]))
        starts = np.flatnonzero(np.any(np.diff(keys[order], axis=0, prepend=keys[order][:1] - 1), axis=1))
        for index in np.split(order, starts[1:]) if n else []:
            key = tuple(int(k) for k in keys[index[0]])
            origin = (np.array(key) + 0.5) * TILE
            self._add(
                key,
                Anchors(
                    origin, (points[index] - origin).astype(np.float32), colors[index], labels[index], radius[index]
                ),
            )

    def insert_tile(self, anchors: Anchors) -> None:
        """Add a tile as it was stored."""
        key = tuple(int(k) for k in np.floor(anchors.origin / TILE))
        self._add(key, anchors)

    def _add(self, key: tuple[int, int, int], anchors: Anchors) -> None:
        old = self._tiles.get(key)
        if old is not None:
            anchors = Anchors(
                old.origin,
                *(np.concatenate([getattr(old, f.name), getattr(anchors, f.name)]) for f in fields(Anchors)[1:]),
            )
        self._tiles[key] = anchors
        self._bounds[key] = anchors.bounds

    def visible(self, T_world_camera: Pose, intrinsics: Intrinsics) -> list[Anchors]:
        """The tiles that the view frustum may touch (conservative), nearest first: what the renderer is handed."""
        K = intrinsics
        corners = np.array(
            [[(u - K.cx) / K.fx, (v - K.cy) / K.fy, 1.0] for u in (-0.5, K.width - 0.5) for v in (-0.5, K.height - 0.5)]
        )
        left, right, top, bottom = corners[0], corners[3], corners[0], corners[3]
        # inward normals of the frustum's sides, in the camera frame
        normals = np.array([[1, 0, -left[0]], [-1, 0, right[0]], [0, 1, -top[1]], [0, -1, bottom[1]], [0, 0, 1.0]])
        normals_world = T_world_camera.rotation.apply(normals)
        offset = np.array([0, 0, 0, 0, NEAR])
        seen = []
        for key in sorted(self._tiles):
            low, high = self._bounds[key] - T_world_camera.translation
            farthest = np.where(normals_world > 0, high, low)  # the corner farthest along each normal
            if np.all(np.sum(farthest * normals_world, axis=1) >= offset):
                distance = np.linalg.norm(np.maximum(0, np.maximum(low, -high)))
                seen.append((distance, key))
        return [self._tiles[key] for _, key in sorted(seen)]
