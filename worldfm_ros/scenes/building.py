"""Rooms of a procedural scene: floors, walls with doorways and windows, ceiling, daylight.

The rooms are rectangles between the centre lines of walls and tile the plan's bounding rectangle. Each brings its own
shell of half a wall, so both sides of a wall have their own colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from worldfm_ros.scenes.furniture import WHITE, Label, hexed
from worldfm_ros.scenes.scene import Box, Light, Material, Solid, Texture

HALF_WALL = 0.06  # metres; a room's share of an inner wall
OUTER_WALL = 0.24  # metres; how far outer walls reach beyond the centre line
SKY = hexed("#5f9ad6 #d3e4ee #648f4e", Texture.SKY, emission=1.0)
TRIM = hexed("#f3f0ea")
DAYLIGHT = (1.0, 1.06, 1.16)
SUNLIGHT = (1.0, 0.9, 0.74)


@dataclass(frozen=True)
class Opening:
    """A gap from `low` to `high` along the wall on centre line `line` of `axis` (0: the wall x = line), metres."""

    axis: int
    line: float
    low: float
    high: float
    bottom: float = 0.0
    top: float = 2.05


@dataclass(frozen=True)
class Room:
    """A rectangle between the centre lines of its walls, metres."""

    west: float
    south: float
    east: float
    north: float
    walls: Material
    floor: Material
    skirting: bool = True


@dataclass(frozen=True)
class Plan:
    """Rooms by name, inner doorways, windows in outer walls; `height` from floor to ceiling, metres."""

    rooms: dict[str, Room]
    doors: tuple[Opening, ...]
    windows: tuple[Opening, ...]
    height: float = 2.6

    @cached_property
    def outline(self) -> np.ndarray:
        """(2, 2): west and south, east and north centre lines of the outer walls."""
        rooms = self.rooms.values()
        return np.array([[min(r.west for r in rooms), min(r.south for r in rooms)],
                         [max(r.east for r in rooms), max(r.north for r in rooms)]])

    def inward(self, window: Opening) -> float:
        """+1 or -1: the way into the building across the window's wall."""
        return 1.0 if window.line == self.outline[0, window.axis] else -1.0


def shell(plan: Plan) -> list[Solid]:
    """Everything of a building but its furniture. Seen from inside it has no gap."""
    (west, south), (east, north) = plan.outline + [[-OUTER_WALL] * 2, [OUTER_WALL] * 2]
    solids = [between((west, east), (south, north), (plan.height, plan.height + 0.1), hexed("#f5f2ec"), Label.CEILING)]
    for room in plan.rooms.values():
        solids += [_floor(room, plan), *_walls(room, plan)]
    for door in plan.doors:
        solids += _casing(door)
    for window in plan.windows:
        solids += _window(window, plan.inward(window))
    return solids


def daylight(plan: Plan, sun: tuple[float, float, float], strength: float, glow: float) -> list[Light]:
    """The sun from the distant point `sun` with that irradiance, and the sky in every window."""
    power = strength * float(np.dot(sun, sun))
    lights = [Light(sun, tuple(c * power for c in SUNLIGHT), (5.0, 0.0, 5.0))]
    for w in plan.windows:
        inward, area = plan.inward(w), (w.high - w.low) * (w.top - w.bottom)
        position = _along(w.axis, w.line - inward * (OUTER_WALL - 0.03), (w.low + w.high) / 2.0)
        size, direction = _along(w.axis, 0.0, w.high - w.low - 0.1), _along(w.axis, inward, 0.0)
        lights.append(Light((*position, (w.bottom + w.top) / 2.0), tuple(c * glow * area for c in DAYLIGHT),
                            (*size, w.top - w.bottom - 0.1), (*direction, 0.0)))
    return lights


def between(x, y, z, material: Material, label: int) -> Solid:
    """The axis-aligned box of the ranges x, y and z."""
    low, high = np.array([x, y, z], dtype=np.float64).T
    return Box(tuple(map(float, (low + high) / 2.0)), tuple(map(float, high - low)), material, label)


def _along(axis: int, across, along) -> tuple:
    """(x, y) of what lies across and along a wall of `axis`."""
    return (across, along) if axis == 0 else (along, across)


def _slab(axis: int, along, across, height, material: Material, label: int) -> Solid:
    return between(*_along(axis, sorted(across), along), height, material, label)


def _floor(room: Room, plan: Plan) -> Solid:
    """The floor to the centre lines, and under the outer walls."""
    low, high = np.array([[room.west, room.south], [room.east, room.north]])
    low, high = low - OUTER_WALL * (low == plan.outline[0]), high + OUTER_WALL * (high == plan.outline[1])
    return between(*np.stack([low, high]).T, (-0.1, 0.0), room.floor, Label.FLOOR)


def _walls(room: Room, plan: Plan) -> Iterator[Solid]:
    for axis, line, inward in ((1, room.south, 1), (1, room.north, -1), (0, room.west, 1), (0, room.east, -1)):
        low, high = (room.south, room.north) if axis == 0 else (room.west, room.east)
        face = line + inward * HALF_WALL
        back = line - inward * OUTER_WALL * (line in plan.outline[:, axis])
        openings = [o for o in (*plan.doors, *plan.windows)
                    if o.axis == axis and o.line == line and low < o.low and o.high < high]
        reach = HALF_WALL if axis == 0 else 0.0  # the walls along x take the corners
        for start, stop, bottom, top in _around(openings, low + reach, high - reach, plan.height):
            yield _slab(axis, (start, stop), (face, back), (bottom, top), room.walls, Label.WALL)
            if room.skirting and bottom == 0.0 and top == plan.height:
                along = (max(start, low + HALF_WALL), min(stop, high - HALF_WALL))
                yield _slab(axis, along, (face, face + inward * 0.014), (0.0, 0.08), TRIM, Label.WALL)


def _around(openings: list[Opening], low: float, high: float, height: float) -> Iterator[tuple]:
    """(start, stop, bottom, top) of the rectangles that the openings leave of a wall from low to high."""
    start = low
    for o in sorted(openings, key=lambda o: o.low):
        yield start, o.low, 0.0, height
        yield o.low, o.high, o.top, height
        if o.bottom > 0.0:
            yield o.low, o.high, 0.0, o.bottom
        start = o.high
    yield start, high, 0.0, height


def _casing(door: Opening) -> list[Solid]:
    """The lining of a doorway, 3 cm thick, a little deeper than the wall."""
    across = (door.line - HALF_WALL - 0.02, door.line + HALF_WALL + 0.02)
    low, high, top = door.low, door.high, door.top
    parts = [((low, low + 0.03), (0.0, top)), ((high - 0.03, high), (0.0, top)),
             ((low + 0.03, high - 0.03), (top - 0.03, top))]
    return [_slab(door.axis, along, across, height, TRIM, Label.DOOR) for along, height in parts]


def _window(window: Opening, inward: float) -> list[Solid]:
    """The view in the outer plane of the wall, a frame with a mullion, a sill."""
    outside = window.line - inward * OUTER_WALL
    low, high, bottom, top = window.low, window.high, window.bottom, window.top
    middle, inner = (low + high) / 2.0, (low + 0.06, high - 0.06)

    def bar(along, height, material: Material = WHITE, depth=(0.04, 0.1)) -> Solid:
        across = [outside + inward * d for d in depth]
        return _slab(window.axis, along, across, height, material, Label.WINDOW)

    return [
        bar((low, high), (bottom, top), SKY, (0.0, 0.02)),
        bar((low, low + 0.06), (bottom, top)),
        bar((high - 0.06, high), (bottom, top)),
        bar((middle - 0.03, middle + 0.03), (bottom + 0.06, top - 0.06)),
        bar(inner, (bottom, bottom + 0.06)),
        bar(inner, (top - 0.06, top)),
        bar((low - 0.05, high + 0.05), (bottom - 0.03, bottom), depth=(OUTER_WALL + HALF_WALL, OUTER_WALL + 0.18)),
    ]
