"""The anchors of a world that stay on the disk: tiles are memory-mapped when they are seen, within a budget of bytes.

A frame costs what it shows: tiles outside of the view are not touched, and far ones are drawn from a coarser level
whose anchors are half a pixel apart or less. Which levels are drawn follows from the pose, the camera, the map and the
budget alone. What may be seen next is read ahead in a thread of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
import math
from pathlib import Path
import threading

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import FIELDS, Anchors, touched
from worldfm_ros.world.chunks import map_chunk
from worldfm_ros.world.levels import level_for

AHEAD = 6.0  # metres around the camera in which tiles are read ahead


@dataclass(frozen=True, eq=False)
class StoredTile:
    """files: of its levels, all anchors first; counts: their anchors; box (7,) float64, as `tile_box` gives it."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    box: np.ndarray

    def bytes(self, level: int) -> int:
        """That it takes in memory."""
        return self.counts[level] * BYTES


BYTES = sum(np.dtype(kind).itemsize * (3 if name in ("points", "colors") else 1) for name, kind in FIELDS.items())


class StoredMap:
    """Reads like an AnchorMap; it does not change. `budget`: bytes of tiles that are kept."""

    revision = 0

    def __init__(self, tiles: Sequence[StoredTile], spacing: float, budget: int) -> None:
        self._stored, self._spacing, self.budget = list(tiles), spacing, budget
        self._boxes = np.array([tile.box for tile in tiles]).reshape(-1, 7)
        self._kept: OrderedDict[tuple[int, int], Anchors] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()
        self._reader, self._reading = ThreadPoolExecutor(1, thread_name_prefix="read ahead"), Future()
        self._reading.set_result(None)

    def __len__(self) -> int:
        return sum(tile.counts[0] for tile in self._stored)

    @property
    def tiles(self) -> list[Anchors]:
        """Every tile in full, mapped: what is looked at is in memory as long as the system has room for it."""
        return [map_chunk(tile.files[0]) for tile in self._stored]

    @property
    def bounds(self) -> np.ndarray | None:
        """(2, 3) lowest and highest corner, metres, world; None for an empty map. A little generous."""
        if not self._stored:
            return None
        middle, half = self._boxes[:, :3], self._boxes[:, 3:6] + self._boxes[:, 6:]
        return np.stack([(middle - half).min(0), (middle + half).max(0)])

    @property
    def resident(self) -> int:
        """Bytes of the tiles that are kept."""
        return self._bytes

    def visible(self, T_world_camera: Pose, intrinsics: Intrinsics) -> list[Anchors]:
        """The tiles that the view frustum may touch, nearest first, each at the level that the picture needs."""
        seen, distance = touched(self._boxes, T_world_camera, intrinsics)
        wanted = self._within_budget(seen, [self._level(k, distance[k], intrinsics) for k in seen])
        tiles = [self._get(*place, keep=set(wanted)) for place in wanted]
        self._read_ahead(wanted, distance, intrinsics)
        return tiles

    def _level(self, k: int, distance: float, intrinsics: Intrinsics) -> int:
        focal = math.sqrt(intrinsics.fx * intrinsics.fy)
        return level_for(float(distance), focal, self._spacing, len(self._stored[k].files))

    def _within_budget(self, seen: np.ndarray, levels: list[int]) -> list[tuple[int, int]]:
        """The tiles with their levels; the farthest are coarser than the picture asks for where the budget asks it."""
        total = sum(self._stored[k].bytes(level) for k, level in zip(seen, levels, strict=True))
        while total > self.budget:
            before = total
            for n in reversed(range(len(seen))):
                tile = self._stored[seen[n]]
                if total > self.budget and levels[n] + 1 < len(tile.files):
                    total += tile.bytes(levels[n] + 1) - tile.bytes(levels[n])
                    levels[n] += 1
            if total == before:
                break  # no tile has a coarser level: the picture needs more than the budget
        return [(int(k), level) for k, level in zip(seen, levels, strict=True)]

    def _get(self, k: int, level: int, keep: set[tuple[int, int]]) -> Anchors:
        """The tile; others than those to keep leave for it, where it has to be read."""
        with self._lock:
            if (k, level) in self._kept:
                self._kept.move_to_end((k, level))
                return self._kept[k, level]
        tile = map_chunk(self._stored[k].files[level])
        with self._lock:
            if (k, level) not in self._kept:
                size = self._stored[k].bytes(level)
                self._make_room(size, keep)
                self._kept[k, level] = tile
                self._bytes += size
        return tile

    def _make_room(self, size: int, keep: set[tuple[int, int]]) -> None:
        """Before a tile of that many bytes comes, so that there are never more than the budget for a moment."""
        for place in list(self._kept):
            if self._bytes + size <= self.budget:
                return
            if place not in keep:
                del self._kept[place]
                self._bytes -= self._stored[place[0]].bytes(place[1])

    def _read_ahead(self, wanted: list[tuple[int, int]], distance: np.ndarray, intrinsics: Intrinsics) -> None:
        """Begin to read what is near and not kept, as far as the budget allows; one such work at a time."""
        if not self._reading.done():
            return
        near = [int(k) for k in np.argsort(distance, kind="stable") if distance[k] < AHEAD]
        places = [(k, self._level(k, distance[k], intrinsics)) for k in near]
        room = self.budget - sum(self._stored[k].bytes(level) for k, level in wanted)
        ahead = []
        for k, level in (place for place in places if place not in wanted):
            room -= self._stored[k].bytes(level)
            if room < 0:
                break
            ahead.append((k, level))
        missing = [place for place in ahead if place not in self._kept]
        if missing:
            self._reading = self._reader.submit(self._load, missing, {*wanted, *ahead})

    def _load(self, places: list[tuple[int, int]], keep: set[tuple[int, int]]) -> None:
        for place in places:
            self._get(*place, keep)
