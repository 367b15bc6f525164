"""What the indoor scene families share: a room's floor and walls to furnish, its light, doors and what hangs there."""

from __future__ import annotations

from dataclasses import replace
import math

import numpy as np

from worldfm_ros.scenes import furniture as f
from worldfm_ros.scenes import looks, props
from worldfm_ros.scenes.building import HALF_WALL, Opening, Plan, Room, daylight, shell
from worldfm_ros.scenes.furniture import Label, standing
from worldfm_ros.scenes.placement import Area, Wall, clutter
from worldfm_ros.scenes.scene import Box, Light, Material, Solid, Sphere, Vector, moved


def shell_under(ceiling: Material, plan: Plan) -> list[Solid]:
    """Floors, walls, doorways and windows under a ceiling of that look."""
    return [replace(solid, material=ceiling) if solid.label == Label.CEILING else solid for solid in shell(plan)]


def interior(room: Room, plan: Plan) -> Area:
    """A room's floor and walls, with its windows taken and the ways through its doors kept free."""
    area = Area.room((room.west + HALF_WALL, room.east - HALF_WALL), (room.south + HALF_WALL, room.north - HALF_WALL),
                     plan.height)
    for opening in (*plan.doors, *plan.windows):
        for wall, axis, line in zip(area.walls, (0, 1, 0, 1), (room.west, room.south, room.east, room.north),
                                    strict=True):
            if (opening.axis, opening.line) == (axis, line):
                _take(area, wall, opening)
    return area


def _take(area: Area, wall: Wall, opening: Opening) -> None:
    """Keep the wall of an opening clear, and the floor before it where it is a doorway of this room."""
    centre = (opening.low + opening.high) / 2.0
    span = area.y if opening.axis == 0 else area.x
    if not span[0] < centre < span[1]:
        return
    along = (centre - wall.middle[1]) * math.cos(wall.facing) if opening.axis == 0 else \
        (wall.middle[0] - centre) * math.sin(wall.facing)
    half = (opening.high - opening.low) / 2.0 + 0.08
    wall.taken.append(((along - half, along + half), (opening.bottom - 0.05, opening.top + 0.08)))
    if opening.bottom == 0.0:
        deep, wide = (wall.middle[opening.axis] - 1.0, wall.middle[opening.axis] + 1.0), (centre - 0.5, centre + 0.5)
        area.keep_free(*((deep, wide) if opening.axis == 0 else (wide, deep)))


def room_lights(area: Area, height: float, tint: Vector, power: float) -> list[Light]:
    """A lamp under the ceiling, and the light of every lamp that stands in the room."""
    middle, size = [sum(area.x) / 2.0, sum(area.y) / 2.0], (area.x[1] - area.x[0]) * (area.y[1] - area.y[0])
    lights = [Light((*middle, height - 0.25), tuple(power * size * c for c in tint), (0.5, 0.5, 0.0),
                    (0.0, 0.0, -1.0))]
    shades = [s for s in area.solids if s.label == Label.LAMP and s.material.emission > 0.0]
    return lights + [looks.lamp_light(shade, (1.2, 0.9, 0.6), 0.35) for shade in shades[:4]]


def sunshine(rng: np.random.Generator, plan: Plan) -> list[Light]:
    """Sun from anywhere, and the sky in the windows."""
    azimuth, strength = rng.uniform(0.0, 2.0 * math.pi), rng.choice((0.0, 1.5, 4.0))
    sun = (80.0 * math.cos(azimuth), 80.0 * math.sin(azimuth), rng.uniform(30.0, 90.0))
    lights = daylight(plan, sun, strength, rng.uniform(0.5, 1.6))
    return lights[0 if strength > 0.0 and plan.windows else 1:]


def closed_door(rng: np.random.Generator, area: Area) -> None:
    """A closed door with panels on a free stretch of wall."""
    leaf, trim = looks.pick(rng, (looks.timber, looks.paint))(rng), looks.grey(rng, 0.6, 0.95)
    door = [standing(Box, 0.02, 0.0, 0.0, (0.04, 0.9, 2.03), leaf, Label.DOOR),
            standing(Sphere, 0.07, 0.38, 1.0, (0.06, 0.06, 0.06), f.STEEL, Label.DOOR),
            standing(Box, 0.03, 0.0, 2.03, (0.06, 1.06, 0.08), trim, Label.DOOR)]
    for side in (-1, 1):
        door += [standing(Box, 0.03, 0.49 * side, 0.0, (0.06, 0.08, 2.03), trim, Label.DOOR),
                 standing(Box, 0.04, 0.0, 1.05 + 0.45 * side, (0.02, 0.62, 0.6 - 0.14 * side), trim, Label.DOOR)]
    placed = area.hang(rng, door, (0.0, 0.0))
    if placed:
        x, y, _ = placed[0].centre
        area.keep_free((x - 0.6, x + 0.6), (y - 0.6, y + 0.6))


def beams(rng: np.random.Generator, area: Area) -> None:
    """Timber under the ceiling, wall to wall."""
    (south, north), height, wood = area.y, area.walls[0].height, looks.timber(rng)
    side = rng.uniform(0.1, 0.18)
    for x in np.arange(area.x[0] + 0.4, area.x[1] - 0.2, rng.uniform(0.6, 1.1)):
        area.solids.append(standing(Box, float(x), (south + north) / 2.0, height - side,
                                    (side, north - south, side), wood, Label.CEILING))


def picture(rng: np.random.Generator) -> list[Solid]:
    return f.picture(*rng.uniform(0.4, 1.1, 2), looks.picture_paint(rng), looks.pick(rng, (f.BLACK, f.OAK, f.WHITE)))


def wall_shelf(rng: np.random.Generator) -> list[Solid]:
    width = rng.uniform(0.6, 1.1)
    return [standing(Box, 0.12, 0.0, 0.0, (0.24, width, 0.03), looks.timber(rng), Label.SHELF),
            *moved(clutter(rng, 0.2, width - 0.1, props.SHELF_THINGS, 0.8), 0.125, 0.0, 0.03)]


def ceiling_panels(rng: np.random.Generator, area: Area, height: float, tint: Vector, power: float,
                   spacing: float) -> tuple[list[Solid], list[Light]]:
    """Panels about `spacing` apart, as solids and lights; one here and there is broken. `power` lights 1 m^2."""
    spans = (area.x, area.y)
    counts = [max(round((high - low) / spacing), 1) for low, high in spans]
    cells = [(high - low) / count for (low, high), count in zip(spans, counts, strict=True)]
    shine, dark = Material((tuple(min(0.85 * c, 1.0) for c in tint),), emission=1.5), looks.grey(rng, 0.4, 0.6)
    solids, lights = [], []
    for i in range(counts[0]):
        for k in range(counts[1]):
            x, y = area.x[0] + (i + 0.5) * cells[0], area.y[0] + (k + 0.5) * cells[1]
            works = rng.random() < 0.9 or i == k == 0
            panel = standing(Box, x, y, height - 0.05, (1.2, 0.45, 0.04), shine if works else dark, Label.LAMP)
            solids.append(panel)
            if works:
                lights.append(looks.lamp_light(panel, tint, power * cells[0] * cells[1], downwards=True))
    return solids, lights
