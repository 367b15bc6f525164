"""Where things go in a procedural scene, by chance and without overlap: a floor area, its walls, and a table's top.

Pieces are solids about the origin with their front towards +x, as in `furniture`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
import math

import numpy as np

from worldfm_ros.scenes.scene import Solid, moved

TRIES = 20
PASSAGE = 0.85  # metres; what stays free between pieces that do not touch
HEADROOM = 1.7  # metres; what hangs above is in nobody's way

Span = tuple[float, float]
Rectangle = tuple[Span, Span]  # ranges of two coordinates, metres


def extent(solids: Iterable[Solid]) -> tuple[Span, Span, Span]:
    """The ranges of x, y and z that solids fill."""
    low, high = [math.inf] * 3, [-math.inf] * 3
    for solid in solids:
        c, s = abs(math.cos(solid.yaw)), abs(math.sin(solid.yaw))
        a, b, h = solid.size
        for k, half in enumerate(((c * a + s * b) / 2.0, (s * a + c * b) / 2.0, h / 2.0)):
            low[k] = min(low[k], solid.centre[k] - half)
            high[k] = max(high[k], solid.centre[k] + half)
    return tuple(zip(low, high, strict=True))


def overlap(a: Rectangle, b: Rectangle, gap: float = 0.0) -> bool:
    """Are two rectangles less than `gap` apart along both axes?"""
    return all(p[0] < q[1] + gap and q[0] < p[1] + gap for p, q in zip(a, b, strict=True))


@dataclass
class Wall:
    """The inner face of a wall: its middle (x, y) at the floor, the way it faces, its length and height, and the
    (along, upwards) rectangles that are taken. `along` is measured from the middle, to the left of who faces out."""

    middle: tuple[float, float]
    facing: float
    length: float
    height: float
    taken: list[Rectangle] = field(default_factory=list)

    def place(self, piece: Iterable[Solid], along: float, off: float, z: float = 0.0) -> list[Solid]:
        """A piece moved to a place along the wall, its origin `off` metres in front."""
        c, s = math.cos(self.facing), math.sin(self.facing)
        return moved(piece, self.middle[0] + c * off - s * along, self.middle[1] + s * off + c * along, z, self.facing)

    def free(self, area: Rectangle, gap: float = 0.02) -> bool:
        inside = -self.length / 2.0 <= area[0][0] and area[0][1] <= self.length / 2.0 and area[1][1] <= self.height
        return inside and not any(overlap(area, other, gap) for other in self.taken)


@dataclass
class Area:
    """A rectangle of floor with walls around some of its sides, filled piece by piece."""

    x: Span
    y: Span
    walls: list[Wall] = field(default_factory=list)
    taken: list[Rectangle] = field(default_factory=list)
    solids: list[Solid] = field(default_factory=list)

    @classmethod
    def room(cls, x: Span, y: Span, height: float) -> Area:
        """A rectangle between four walls."""
        (west, east), (south, north) = x, y
        middle = ((west + east) / 2.0, (south + north) / 2.0)
        return cls(x, y, [Wall((west, middle[1]), 0.0, north - south, height),
                          Wall((middle[0], south), math.pi / 2.0, east - west, height),
                          Wall((east, middle[1]), math.pi, north - south, height),
                          Wall((middle[0], north), -math.pi / 2.0, east - west, height)])

    def keep_free(self, x: Span, y: Span) -> None:
        """Nothing will stand there."""
        self.taken.append((x, y))

    def put(self, piece: list[Solid], gap: float = PASSAGE, border: float = 0.0) -> list[Solid]:
        """Add a piece that is where it shall be, if it stays inside by `border` and `gap` away from all others.
        This and the ways to place a piece by chance return what was added: nothing when there was no room."""
        x, y, z = extent(piece)
        inside = (x[0] > self.x[0] + border and x[1] < self.x[1] - border
                  and y[0] > self.y[0] + border and y[1] < self.y[1] - border)
        if not inside or any(overlap((x, y), other, gap) for other in self.taken):
            return []
        if z[0] < HEADROOM:
            self.taken.append((x, y))
        self.solids += piece
        return piece

    def against(self, rng: np.random.Generator, piece: list[Solid], off: float = 0.01,
                close: float = 0.6) -> list[Solid]:
        """Stand a piece with its back to a wall, a passage apart from others or, with probability `close`, beside."""
        x, y, z = extent(piece)
        for _ in range(TRIES):
            wall = self.walls[int(rng.integers(len(self.walls)))]
            reach = (wall.length - (y[1] - y[0])) / 2.0 - 0.02
            if reach <= 0.0:
                continue
            along = rng.uniform(-reach, reach)
            face = ((along + y[0], along + y[1]), z)
            gap = 0.05 if rng.random() < close else PASSAGE
            if wall.free(face) and (placed := self.put(wall.place(piece, along, off - x[0]), gap)):
                wall.taken.append(face)
                return placed
        return []

    def amid(self, rng: np.random.Generator, piece: list[Solid], gap: float = PASSAGE) -> list[Solid]:
        """Stand a piece somewhere in the open, turned in any way."""
        for _ in range(TRIES):
            turned = moved(piece, rng.uniform(*self.x), rng.uniform(*self.y), 0.0, rng.uniform(0.0, 2.0 * math.pi))
            if self.put(turned, gap, border=gap):
                return turned
        return []

    def hang(self, rng: np.random.Generator, piece: list[Solid], heights: Span) -> list[Solid]:
        """Hang a piece, back at x = 0, on a wall with its origin at one of the heights."""
        _, y, z = extent(piece)
        for _ in range(TRIES):
            wall = self.walls[int(rng.integers(len(self.walls)))]
            reach = max((wall.length - (y[1] - y[0])) / 2.0 - 0.05, 0.0)
            along, up = rng.uniform(-reach, reach), rng.uniform(*heights)
            face = ((along + y[0], along + y[1]), (up + z[0], up + z[1]))
            if wall.free(face, 0.08):
                wall.taken.append(face)
                placed = wall.place(piece, along, 0.002, up)
                self.solids += placed
                return placed
        return []


def clutter(rng: np.random.Generator, length: float, width: float, things: list[Callable], fill: float = 0.7,
            cell: float = 0.3) -> list[Solid]:
    """Small things, each no wider than a cell, strewn over a top of length (x) by width (y) at z = 0. A thing is a
    function of the random generator."""
    columns, rows = max(int(length / cell), 1), max(int(width / cell), 1)
    solids: list[Solid] = []
    for k in range(columns * rows):
        if rng.random() < fill:
            x = ((k % columns + 0.5) / columns - 0.5) * length
            y = ((k // columns + 0.5) / rows - 0.5) * width
            thing = things[int(rng.integers(len(things)))](rng)
            solids += moved(thing, x, y, 0.0, rng.uniform(0.0, 2.0 * math.pi))
    return solids
