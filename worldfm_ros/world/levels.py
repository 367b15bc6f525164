"""Levels of detail of a tile: each has a quarter of the anchors of the one before, for what is far away."""

from __future__ import annotations

from collections.abc import Iterator
import math

import numpy as np

from worldfm_ros.world.anchors import TILE, Anchors, morton_codes

LEAST = 512  # anchors; a tile of fewer has no coarser level
RADIUS = math.sqrt(0.5)  # of an anchor, in spacings: discs on a square grid just close
FINEST = 1e-3  # metres; the spacing of a world that does not tell one
PIXELS = 0.5  # anchors of a level that is drawn are at most so far apart in the picture


def levels(tile: Anchors, spacing: float) -> Iterator[Anchors]:
    """The coarser levels of a tile whose anchors are `spacing` metres apart: twice as far in each."""
    spacing = max(spacing, FINEST)
    while len(tile) > LEAST and spacing < TILE / 4:
        spacing *= 2
        tile = coarser(tile, spacing)
        yield tile


def coarser(tile: Anchors, spacing: float) -> Anchors:
    """One anchor in each cell of `spacing` metres: the mean place and colour, the label of the first, and the least
    confidence."""
    cells = np.floor((tile.points + np.float32(TILE / 2)) / np.float32(spacing)).astype(np.int64)
    side = cells.max() + 1
    keys = (cells[:, 0] * side + cells[:, 1]) * side + cells[:, 2]
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    counts = np.diff(starts, append=len(keys))[:, None]
    points = np.add.reduceat(tile.points[order].astype(np.float64), starts) / counts
    colors = np.add.reduceat(tile.colors[order].astype(np.int64), starts) / counts
    radius = np.maximum(np.maximum.reduceat(tile.radius[order], starts), np.float32(RADIUS * spacing))
    first = order[starts]
    level = Anchors(tile.origin, points.astype(np.float32), np.rint(colors).astype(np.uint8), tile.labels[first],
                    radius, tile.frames[first], np.minimum.reduceat(tile.confidence[order], starts))
    return level.select(np.argsort(morton_codes(level.points), kind="stable"))


def level_for(distance: float, focal: float, spacing: float, count: int) -> int:
    """Which of `count` levels (0 = all anchors) a tile is drawn from whose nearest place is so many metres away."""
    apart = focal * max(spacing, FINEST) / max(distance, 1e-6)  # pixels between neighbours of level 0
    return min(max(0, math.floor(math.log2(PIXELS / apart))), count - 1) if apart < PIXELS else 0
