"""One to three furnished rooms, everything about them by chance: sizes, doors, windows, materials, furniture, light."""

from __future__ import annotations

from collections.abc import Callable
import math

import numpy as np

from worldfm_ros.scenes import fittings, interiors, looks, props
from worldfm_ros.scenes import furniture as f
from worldfm_ros.scenes.building import Opening, Plan, Room
from worldfm_ros.scenes.placement import Area, clutter
from worldfm_ros.scenes.scene import Scene, Solid, moved

DOOR = 1.05  # metres; a doorway's width
MOST_SOLIDS = 850


def rooms(seed: int = 0) -> Scene:
    """One to three rooms of 3 to 6 m by `seed`."""
    rng = np.random.default_rng([seed, 1])
    plan = floor_plan(rng)
    ceiling = looks.pick(rng, (looks.planks, looks.plaster, looks.plaster))(rng)
    solids, lights = interiors.shell_under(ceiling, plan), interiors.sunshine(rng, plan)
    tint, power = looks.light_color(rng), rng.uniform(0.2, 0.34)
    areas = [interiors.interior(room, plan) for room in plan.rooms.values()]
    for area in areas:
        solids += furnished(rng, area, MOST_SOLIDS // len(areas))
        lights += interiors.room_lights(area, plan.height, tint, power)
    ambient = tuple(rng.uniform(0.1, 0.2) * c for c in looks.light_color(rng))
    return Scene("rooms", tuple(solids), tuple(lights), ambient, props.NAMES, exposure=rng.uniform(0.85, 1.3))


def floor_plan(rng: np.random.Generator) -> Plan:
    """Rooms beside each other, the last one perhaps cut in two; a doorway in each wall between them."""
    depth, first, second = rng.uniform(3.2, 5.5), rng.uniform(3.2, 6.0), rng.uniform(2.8, 4.6)
    count, cut = int(rng.integers(1, 4)), rng.uniform(0.42, 0.58) * depth
    if count == 3 and depth < 4.6:
        depth, cut = depth + 1.6, cut + 0.8
    rectangles = [(0.0, 0.0, first, depth)]
    doors = [_between(rng, 0, first, 0.0, cut if count == 3 else depth)] if count > 1 else []
    if count == 2:
        rectangles.append((first, 0.0, first + second, depth))
    if count == 3:
        rectangles += [(first, 0.0, first + second, cut), (first, cut, first + second, depth)]
        other = _between(rng, 0, first, cut, depth) if rng.random() < 0.5 else None
        doors.append(other or _between(rng, 1, cut, first, first + second))
    made = {f"room {k}": Room(*r, looks.wall_covering(rng), looks.floor_covering(rng), rng.random() < 0.7)
            for k, r in enumerate(rectangles)}
    height = rng.uniform(2.4, 3.4)
    windows = _windows(rng, rectangles, (0.0, 0.0, first + second * (count > 1), depth), height)
    return Plan(made, tuple(doors), windows, height)


def _between(rng: np.random.Generator, axis: int, line: float, low: float, high: float) -> Opening:
    start = rng.uniform(low + 0.3, high - 0.3 - DOOR)
    return Opening(axis, line, start, start + DOOR, top=rng.uniform(2.0, 2.25))


def _windows(rng: np.random.Generator, rectangles: list, outline: tuple, height: float) -> tuple[Opening, ...]:
    """For about two of three outer walls of each room, one window."""
    windows = []
    for west, south, east, north in rectangles:
        for axis, line, low, high, outer in ((0, west, south, north, outline[0]), (1, south, west, east, outline[1]),
                                             (0, east, south, north, outline[2]), (1, north, west, east, outline[3])):
            width = rng.uniform(0.7, 1.9)
            if line == outer and rng.random() < 0.5 and high - low > width + 0.9:
                start, bottom = rng.uniform(low + 0.4, high - 0.4 - width), rng.uniform(0.5, 1.1)
                windows.append(Opening(axis, line, start, start + width, bottom, min(rng.uniform(1.9, 2.4),
                                                                                     height - 0.15)))
    return tuple(windows)


def furnished(rng: np.random.Generator, area: Area, most: int) -> list[Solid]:
    """Everything in one room: large pieces in the middle, pieces along the walls, things on the walls."""
    size = (area.x[1] - area.x[0]) * (area.y[1] - area.y[0])
    interiors.closed_door(rng, area)
    for piece in (_dining, _lounge)[::int(rng.choice((-1, 1)))]:
        if size > 15.0 and rng.random() < 0.75:
            area.amid(rng, piece(rng), 0.7)
    for _ in range(int(size * rng.uniform(0.6, 1.1))):
        if len(area.solids) < most:
            area.against(rng, looks.pick(rng, WALL_PIECES)(rng))
    for _ in range(int(size * rng.uniform(0.4, 0.9))):
        area.hang(rng, looks.pick(rng, WALL_THINGS)(rng), (1.35, 1.9))
    if rng.random() < 0.3:
        area.amid(rng, props.person(rng), 0.6)
    if rng.random() < 0.4:
        interiors.beams(rng, area)
    rug = f.rug(*rng.uniform(0.4, 0.7, 2) * (area.x[1] - area.x[0], area.y[1] - area.y[0]), looks.carpet(rng))
    middle = [sum(area.x) / 2.0, sum(area.y) / 2.0]
    return [*area.solids, *moved(rug, *middle)]


def _dining(rng: np.random.Generator) -> list[Solid]:
    """A laid table with chairs all around."""
    length, width, wood, cloth = rng.uniform(1.0, 1.8), rng.uniform(0.75, 0.95), looks.timber(rng), looks.fabric(rng)
    solids = [*f.table(length, width, 0.75, wood),
              *moved(clutter(rng, length - 0.1, width - 0.1, props.HOME_THINGS), 0.0, 0.0, 0.75)]
    for k in range(int(length / 0.55)):
        x = (k + 0.5) / int(length / 0.55) * length - length / 2.0
        for side in (-1, 1):
            solids += moved(f.chair(wood, cloth), x, side * (width / 2.0 + rng.uniform(0.1, 0.25)), 0.0,
                            -side * math.pi / 2.0 + rng.uniform(-0.2, 0.2))
    return solids


def _lounge(rng: np.random.Generator) -> list[Solid]:
    """A low table with an armchair."""
    wood, cloth = looks.timber(rng), looks.fabric(rng)
    return [*f.table(0.9, 0.6, 0.42, wood), *moved(clutter(rng, 0.8, 0.5, props.HOME_THINGS), 0.0, 0.0, 0.42),
            *moved(f.sofa(cloth, (looks.fabric(rng),), 0.95), -1.05, 0.0)]


def _desk(rng: np.random.Generator) -> list[Solid]:
    width, wood = rng.uniform(1.1, 1.6), looks.timber(rng)
    return [*f.table(0.62, width, 0.74, wood), *moved(props.monitor(rng), -0.15, 0.0, 0.74),
            *moved(clutter(rng, 0.25, width - 0.1, props.DESK_THINGS), 0.16, 0.0, 0.74),
            *moved(f.chair(wood, looks.fabric(rng)), 0.55, rng.uniform(-0.2, 0.2), 0.0, math.pi)]


def _chest(rng: np.random.Generator) -> list[Solid]:
    width, height = rng.uniform(0.7, 1.6), rng.uniform(0.6, 1.05)
    lamp = moved(f.table_lamp(), 0.0, width / 2.0 - 0.2, height) if rng.random() < 0.4 else []
    top = clutter(rng, 0.3, width - 0.6, props.HOME_THINGS)
    return [*f.cabinet(0.42, width, height, looks.pick(rng, (looks.timber, looks.paint))(rng), int(rng.integers(1, 4)),
                       int(rng.integers(1, 4))), *moved(top, 0.0, -0.2, height), *lamp]


def _sofa(rng: np.random.Generator) -> list[Solid]:
    return f.sofa(looks.fabric(rng), tuple(looks.fabric(rng) for _ in range(rng.integers(1, 4))), looks.pick(
        rng, (0.95, 1.6, 2.1)))


def _kitchen(rng: np.random.Generator) -> list[Solid]:
    length = rng.uniform(2.0, 2.8)
    return fittings.kitchen_run(length, looks.paint(rng), looks.tiles(rng, 0.1), (-0.55, length / 2.0 - 0.75))


def _shelf(rng: np.random.Generator) -> list[Solid]:
    return props.shelf(rng, rng.uniform(0.7, 1.3), rng.uniform(0.8, 2.1), props.SHELF_THINGS, looks.timber(rng))


def _bookcase(rng: np.random.Generator) -> list[Solid]:
    return f.bookcase(rng, rng.uniform(0.6, 1.0), rng.uniform(0.9, 2.1), looks.timber(rng), looks.paint(rng))


WALL_PIECES: tuple[Callable[[np.random.Generator], list[Solid]], ...] = (
    _desk, _chest, _chest, _sofa, _shelf, _shelf, _bookcase, _kitchen,
    lambda rng: f.bed(looks.timber(rng), looks.fabric(rng), looks.fabric(rng), 2.1, rng.uniform(0.9, 1.7)),
    lambda rng: f.cabinet(0.58, rng.uniform(0.8, 1.6), rng.uniform(1.9, 2.2), looks.timber(rng), 2),
    lambda rng: f.screen_on_stand(looks.timber(rng)),
    lambda rng: f.plant(rng, rng.uniform(0.6, 1.8), looks.paint(rng)),
    lambda rng: f.floor_lamp(rng.uniform(1.3, 1.8)),
    lambda rng: fittings.fridge(looks.paint(rng)),
    lambda rng: fittings.washing_machine(),
    lambda rng: f.chair(looks.timber(rng), looks.fabric(rng)),
)
WALL_THINGS = (interiors.picture, interiors.picture, interiors.wall_shelf)
