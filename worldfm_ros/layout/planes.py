"""The planes that a place is built of: floor, ceiling and walls, found in its points.

Gravity is known: the world's z axis points up. A floor is the lowest level layer that holds much of what there is, a
ceiling the highest; walls stand upright in two directions at right angles, and reach high, as furniture does not. A
place without such planes has no layout: None, and nothing is continued there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
import math

import numpy as np

CELL = 0.1  # metres; areas are counted in squares of this side
THICK = 0.04  # metres; a layer of this thickness, and the one beside it, hold a plane and its noise
ALONE = 4  # layers on either side of a level plane in which nothing is
ALONE_WALL = 2  # and of a wall, whose other face is not far behind
LEAST_LEVEL, LEAST_WALL = 1.0, 2.0  # square metres of a floor or ceiling, and of a wall
SHARE = 0.25  # of the largest level layer: what holds less is a table or a shelf
CONTRAST = 3.0  # a plane holds so many times what a usual layer does
LEAST_HEIGHT = 1.8  # metres between floor and ceiling
REACH = 0.3  # metres below the ceiling that a wall's columns come to
TALL = 1.6  # metres above the floor that they come to where no ceiling is known
FULL = 0.5  # of a column's height that is wall, not gap
APART = 0.08  # metres between the planes of two walls
SAMPLES = 30_000  # points that directions are found from


@dataclass(frozen=True, eq=False)
class Plane:
    """A piece of a plane across one axis of the layout's frame: 0 and 1 = walls, 2 = floor or ceiling.

    offset: metres along that axis. low, high: metres along `along`, an axis in it: of a wall the horizontal one, of a
    level plane the first; where it was seen. label: what most of its points are called, 0 = nothing. assumed: nobody
    saw it.
    """

    axis: int
    offset: float
    low: float
    high: float
    label: int
    assumed: bool = False

    @property
    def within(self) -> tuple[int, int]:
        """The two axes in the plane; of a wall the upright one is the second."""
        return ((1, 2), (0, 2), (0, 1))[self.axis]


@dataclass(frozen=True, eq=False)
class Layout:
    """turn (3, 3): world to the layout's frame, about z; floor, ceiling: level planes, ceiling None where none was
    seen; walls; ends (2, 2): lowest and highest x, y of all that was seen, metres in the layout's frame."""

    turn: np.ndarray
    floor: Plane
    ceiling: Plane | None
    walls: tuple[Plane, ...]
    ends: np.ndarray

    @property
    def wall(self) -> int:
        """What most of the walls, by their length, are called."""
        lengths: dict[int, float] = {}
        for wall in self.walls:
            lengths[wall.label] = lengths.get(wall.label, 0.0) + wall.high - wall.low
        return max(lengths, key=lengths.__getitem__, default=0)

    @property
    def planes(self) -> tuple[Plane, ...]:
        return (self.floor, *(() if self.ceiling is None else (self.ceiling,)), *self.walls)


def find_layout(points: np.ndarray, labels: np.ndarray, eyes: np.ndarray) -> Layout | None:
    """The layout of points (N, 3), metres, z up, with labels (N,), that cameras at `eyes` (E, 3) have seen; None where
    there is no floor below them."""
    levels, eye = _levels(points), float(np.median(eyes[:, 2]))
    floor = next((z for z in levels if z < eye - CELL), None)
    if floor is None:
        return None
    ceiling = next((z for z in levels[::-1] if z > max(eye, floor + LEAST_HEIGHT)), None)
    inside = (points[:, 2] > floor + CELL) & (points[:, 2] < (np.inf if ceiling is None else ceiling - CELL))
    upright, named_so = points[inside], labels[inside]
    angle = direction(upright[:, :2])
    walls = _walls(upright @ about_z(angle).T, named_so, floor, ceiling)
    angle -= _slope(upright @ about_z(angle).T, walls)  # along the walls, and found again there
    turn = about_z(angle)
    seen = np.concatenate([points, eyes]) @ turn.T
    ends = np.stack([seen[:, :2].min(0), seen[:, :2].max(0)])
    turned = seen[:len(points)]
    return Layout(turn, _level(turned, labels, floor), None if ceiling is None else _level(turned, labels, ceiling),
                  tuple(_walls(upright @ turn.T, named_so, floor, ceiling)), ends)


def about_z(angle: float) -> np.ndarray:
    """(3, 3): coordinates in axes that are turned by the angle, radians."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def _levels(points: np.ndarray) -> list[float]:
    """Heights of the layers that hold much, from the lowest; of neighbours the fullest."""
    layers = Layers.of(points[:, 2], points[:, :2])
    least = max(LEAST_LEVEL, SHARE * layers.area.max(initial=0.0), CONTRAST * layers.usual)
    return [float(np.median(points[layers.on(k), 2])) for k in _peaks(layers.area, round(LEAST_HEIGHT / 4 / THICK))
            if layers.area[k] >= least]


@dataclass(frozen=True, eq=False)
class Layers:
    """Points in cells of layers. A cell is flat in a layer when it has points in this one or the next, and none nearby
    above or below: it is a piece of a plane.

    squares (C, 2): whole coordinates of the cells within a layer; cell, layer (N,): which of them each point lies in;
    flat (C, K) bool: in which layers the cells are flat.
    """

    squares: np.ndarray
    cell: np.ndarray
    layer: np.ndarray
    flat: np.ndarray

    @classmethod
    def of(cls, across: np.ndarray, within: np.ndarray, alone: int = ALONE) -> Layers:
        """Of points `across` (N,) metres from the origin, and `within` (N, 2) metres the layers. alone: layers above
        and below in which nothing is near a flat cell."""
        if not len(across):
            return cls(np.zeros((0, 2), int), *np.zeros((2, 0), int), np.zeros((0, 0), bool))
        layer = np.floor(across / THICK).astype(np.int64)
        layer -= layer.min()
        count = int(layer.max()) + 1
        square = np.floor(within / CELL).astype(np.int64)
        low = square.min(0)
        width = int(square[:, 1].max() - low[1]) + 1
        numbers, cell = np.unique((square[:, 0] - low[0]) * width + square[:, 1] - low[1], return_inverse=True)
        held = np.zeros((len(numbers), count + 2 * alone + 2), np.int16)
        held[cell, layer + alone + 1] = 1
        total = np.cumsum(held, axis=1, dtype=np.int16)  # up to and with a layer; the first one is at alone + 1

        def between(low: int, high: int) -> np.ndarray:
            return total[:, alone + high:alone + high + count] - total[:, alone + low:alone + low + count]

        inside = between(0, 2)
        flat = (inside > 0) & (inside == between(-alone, 2 + alone - 1))
        return cls(np.column_stack([numbers // width, numbers % width]) + low, cell, layer, flat)

    @cached_property
    def area(self) -> np.ndarray:
        """(K,) square metres of each layer that are flat."""
        return np.count_nonzero(self.flat, axis=0) * CELL**2

    @property
    def usual(self) -> float:
        """What a usual one of the layers holds: nothing, where all is planes."""
        return float(np.median(self.area)) if len(self.area) else 0.0

    def on(self, k: int) -> np.ndarray:
        """(N,) bool: the points that lie flat in a layer and the next one."""
        return self.flat[self.cell, k] & ((self.layer == k) | (self.layer == k + 1))


def _peaks(held: np.ndarray, apart: int) -> list[int]:
    """Numbers of the largest values, in order, none nearer than `apart` to a larger one (or an equal one before)."""
    chosen: list[int] = []
    for k in np.argsort(-held, kind="stable"):
        if held[k] > 0 and all(abs(int(k) - other) > apart for other in chosen):
            chosen.append(int(k))
    return sorted(chosen)


def direction(points: np.ndarray) -> float:
    """The angle, radians in [0, pi/2), of axes along which points (N, 2) lie most in lines."""
    points = points[::max(1, len(points) // SAMPLES)]

    def gathered(angle: float) -> float:
        turned = points @ about_z(angle)[:2, :2].T
        return sum(float(np.sum(np.bincount(c - c.min()).astype(float) ** 2))
                   for c in np.floor(turned / THICK).astype(np.int64).T)

    if not len(points):
        return 0.0
    coarse = max(np.radians(np.arange(0.0, 90.0, 1.0)), key=gathered)
    return float(max(coarse + np.radians(np.arange(-1.0, 1.01, 0.1)), key=gathered))


def _walls(points: np.ndarray, labels: np.ndarray, floor: float, ceiling: float | None) -> list[Plane]:
    """Of the points (N, 3) between floor and ceiling, in the layout's frame."""
    walls = []
    for axis in (0, 1):
        layers = Layers.of(points[:, axis], points[:, [1 - axis, 2]] - [0.0, floor], ALONE_WALL)
        for k in _peaks(layers.area, math.ceil(APART / THICK)):
            if layers.area[k] >= max(LEAST_WALL, CONTRAST * layers.usual):
                there = layers.on(k)
                wall = Plane(axis, float(np.median(points[there, axis])), *_standing(layers.squares[layers.flat[:, k]],
                             None if ceiling is None else ceiling - floor), label=named(labels[there]))
                walls += [wall] if wall.low < wall.high else []
    return walls


def _standing(squares: np.ndarray, height: float | None) -> tuple[float, float]:
    """From where to where a wall goes whose flat cells are (C, 2), along and above the floor; (0, 0) unless enough of
    it reaches high enough. height: of the ceiling, metres above the floor, if it is known."""
    columns, number = np.unique(squares[:, 0], return_inverse=True)
    highest, count = np.zeros(len(columns)), np.bincount(number)
    np.maximum.at(highest, number, (squares[:, 1] + 1) * CELL)
    wanted = TALL if height is None else height - REACH
    tall = (highest >= wanted) & (count * CELL >= FULL * highest)
    if tall.sum() * wanted * CELL < LEAST_WALL:
        return 0.0, 0.0
    held = columns[count >= 2] * CELL  # what is above a door carries a wall on
    return float(held.min()), float(held.max()) + CELL


def _slope(points: np.ndarray, walls: list[Plane]) -> float:
    """Radians by which the walls' points, in the layout's frame, are turned against it: the median of the walls'."""
    slopes = []
    for wall in walls:
        near = points[np.abs(points[:, wall.axis] - wall.offset) <= THICK]
        along = near[:, 1 - wall.axis] - near[:, 1 - wall.axis].mean()
        slope = float(along @ (near[:, wall.axis] - near[:, wall.axis].mean()) / max(along @ along, 1e-9))
        slopes.append(slope if wall.axis == 0 else -slope)
    return float(np.median(slopes)) if slopes else 0.0


def _level(points: np.ndarray, labels: np.ndarray, height: float) -> Plane:
    there = np.abs(points[:, 2] - height) <= THICK
    return Plane(2, height, float(points[there, 0].min()), float(points[there, 0].max()), named(labels[there]))


def named(labels: np.ndarray) -> int:
    """The label that two thirds or more of the points (N,) have, else 0."""
    counts = np.bincount(labels) if len(labels) else np.zeros(1, int)
    return int(counts.argmax()) if 3 * counts.max() >= 2 * max(len(labels), 1) else 0
