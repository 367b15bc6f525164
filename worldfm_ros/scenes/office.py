"""An office floor: a corridor, an open-plan room of desk islands, a meeting room and a side room, people at work."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

from worldfm_ros.scenes import furniture as f
from worldfm_ros.scenes import interiors, looks, props
from worldfm_ros.scenes.building import Opening, Plan, Room
from worldfm_ros.scenes.furniture import BLACK, STEEL, WHITE, Label, standing
from worldfm_ros.scenes.placement import Area, clutter
from worldfm_ros.scenes.props import Prop
from worldfm_ros.scenes.scene import Box, Cylinder, Material, Scene, Solid, Sphere, Texture, moved

DOOR = 1.1  # metres; a doorway's width
MOST_SOLIDS = {"corridor": 40, "side": 40, "meeting": 80, "desks": 220, "open": 330}  # no more is added beyond
WALL_PIECES = {"corridor": 7, "side": 7, "meeting": 2, "open": 12}  # tries; as many things are hung
INK = ("#c03030", "#2050b0", "#208050", "#202020")


@dataclass(frozen=True)
class Style:
    """What an office has bought in bulk."""

    wood: Material
    partition: Material
    seat: Material


def office(seed: int = 0) -> Scene:
    """An office floor of about 90 to 160 m^2 by `seed`."""
    rng = np.random.default_rng([seed, 2])
    plan = floor_plan(rng)
    tint, power = looks.light_color(rng), rng.uniform(0.3, 0.45)
    style = Style(looks.timber(rng), looks.fabric(rng), looks.fabric(rng))
    solids, lights = interiors.shell_under(_ceiling(rng), plan), interiors.sunshine(rng, plan)
    areas = {name: interiors.interior(room, plan) for name, room in plan.rooms.items()}
    for name, area in areas.items():
        if name == "open":
            _open_plan(rng, area, style)
        elif name == "meeting":
            _meeting(rng, area, style)
        else:
            interiors.closed_door(rng, area)
        _line_walls(rng, area, WALL_PIECES[name], MOST_SOLIDS[name])
        panels, glow = interiors.ceiling_panels(rng, area, plan.height, tint, power, 3.0)
        solids += [*area.solids, *panels]
        lights += glow
    ambient = tuple(rng.uniform(0.1, 0.2) * c for c in looks.light_color(rng))
    return Scene("office", tuple(solids), tuple(lights), ambient, props.NAMES, rng.uniform(0.8, 1.2))


def floor_plan(rng: np.random.Generator) -> Plan:
    """The corridor lies south, the open-plan room north-west, the meeting room and the side room north-east."""
    deep, wide, length = rng.uniform(1.9, 2.6), rng.uniform(5.5, 8.0), rng.uniform(7.0, 11.0)
    east = length + rng.uniform(3.2, 4.5)
    cut, north, height = deep + 0.55 * wide, deep + wide, rng.uniform(2.6, 3.2)
    carpet, walls = looks.floor_covering(rng), looks.wall_covering(rng)
    made = {"corridor": Room(0.0, 0.0, east, deep, walls, looks.floor_covering(rng)),
            "open": Room(0.0, deep, length, north, looks.wall_covering(rng), carpet),
            "meeting": Room(length, deep, east, cut, looks.wall_covering(rng), looks.floor_covering(rng)),
            "side": Room(length, cut, east, north, walls, carpet)}
    spans = ((0.5, 3.0), (length + 0.5, east - 0.5 - DOOR), (cut + 0.4, north - 0.4 - DOOR))
    starts = [rng.uniform(*span) for span in spans]
    doors = (Opening(1, deep, starts[0], starts[0] + DOOR), Opening(1, deep, starts[1], starts[1] + DOOR, top=2.2),
             Opening(0, length, starts[2], starts[2] + DOOR),
             Opening(1, deep, length - 1.6, length - 1.6 + DOOR, top=2.3))
    sill, top = rng.uniform(0.7, 1.1), rng.uniform(2.0, 2.4)
    count = int(length / rng.uniform(2.2, 3.5))
    windows = [Opening(1, north, (k + 0.15) * length / count, (k + 0.8) * length / count, sill, top)
               for k in range(count) if rng.random() < 0.8]
    if rng.random() < 0.6:
        windows.append(Opening(0, east, deep + 0.6, cut - 0.6, sill, top))
    return Plan(made, doors, tuple(windows), height)


def _ceiling(rng: np.random.Generator) -> Material:
    """Suspended panels."""
    return looks.tiles(rng, 0.6) if rng.random() < 0.3 else Material.hex("#e8e8e2 #d6d7d2 #8a8d8f", Texture.TILES, 0.6)


def _open_plan(rng: np.random.Generator, area: Area, style: Style) -> None:
    """Islands of two or four desks in a grid, a few more at odd angles, and people."""
    pair = rng.random() < 0.5
    pitch = (rng.uniform(2.5, 3.2) if pair else rng.uniform(4.0, 4.6), rng.uniform(2.9, 3.3))
    spans = [high - low for low, high in (area.x, area.y)]
    counts = [max(int((span - 0.2) / p), 1) for span, p in zip(spans, pitch, strict=True)]
    for i in range(counts[0]):
        for k in range(counts[1]):
            x = area.x[0] + (i + 0.5) * spans[0] / counts[0] + rng.uniform(-0.08, 0.08)
            y = area.y[0] + (k + 0.5) * spans[1] / counts[1] + rng.uniform(-0.05, 0.05)
            if len(area.solids) < MOST_SOLIDS["desks"] and rng.random() < 0.92:
                turn = rng.choice((0.0, math.pi)) + rng.uniform(-0.06, 0.06)
                area.put(moved(_island(rng, 1 if pair else 2, style), x, y, 0.0, turn), 0.1, 0.05)
    for _ in range(3):
        if len(area.solids) < MOST_SOLIDS["desks"]:
            area.amid(rng, _island(rng, 1, style), 0.5)
    for _ in range(rng.integers(1, 5)):
        area.amid(rng, props.person(rng), 0.45)


def _meeting(rng: np.random.Generator, area: Area, style: Style) -> None:
    """One table with chairs around, a whiteboard and a large screen."""
    spans = [high - low for low, high in (area.x, area.y)]
    length, width = max(spans) - 2.4, min(min(spans) - 2.6, 1.2)
    group = []
    if length > 0.8 and width > 0.6:
        group = [*f.table(length, width, 0.74, style.wood),
                 *moved(clutter(rng, length - 0.1, width - 0.1, props.DESK_THINGS, 0.4), 0.0, 0.0, 0.74)]
        for k in range(int(length / 0.7)):
            x = (k + 0.5) / int(length / 0.7) * length - length / 2.0
            for side in (-1, 1):
                group += moved(swivel_chair(style.seat), x, side * (width / 2.0 + 0.15), 0.0,
                               -side * math.pi / 2.0 + rng.uniform(-0.5, 0.5))
    turn = 0.0 if spans[0] > spans[1] else math.pi / 2.0
    if group:
        area.put(moved(group, sum(area.x) / 2.0, sum(area.y) / 2.0, 0.0, turn), 0.0)
    area.hang(rng, whiteboard(rng), (1.5, 1.6))
    area.hang(rng, _wall_screen(rng), (1.5, 1.6))


def _line_walls(rng: np.random.Generator, area: Area, count: int, most: int) -> None:
    """Pieces along the walls, then things on them."""
    pieces = (_files, _files, _shelf, _copier, _cooler, _bin, _locker, lambda rng: f.plant(rng, rng.uniform(0.8, 1.7),
                                                                                           looks.paint(rng)))
    for _ in range(count):
        if len(area.solids) < most:
            area.against(rng, looks.pick(rng, pieces)(rng))
    for _ in range(count):
        area.hang(rng, looks.pick(rng, (interiors.picture, whiteboard, _pinboard, _clock))(rng), (1.4, 1.8))


def _island(rng: np.random.Generator, columns: int, style: Style) -> list[Solid]:
    """Desks face to face across a partition along x."""
    width = 1.5
    solids = [standing(Box, 0.0, 0.0, 0.35, (columns * width, 0.04, rng.uniform(0.75, 1.05)), style.partition,
                       Prop.PARTITION)]
    for k in range(columns):
        for side in (-1, 1):
            desk = [*f.table(0.72, width - 0.04, 0.73, style.wood, 0.05), *_desk_top(rng),
                    *moved(swivel_chair(style.seat), rng.uniform(0.45, 0.65), rng.uniform(-0.25, 0.25), 0.0,
                           math.pi + rng.uniform(-0.8, 0.8)),
                    standing(Box, -0.05, 0.52, 0.0, (0.5, 0.36, 0.6), WHITE, Label.CABINET),
                    standing(Box, -0.1, -0.58, 0.0, (0.42, 0.18, 0.42), BLACK, Label.OBJECT)]
            solids += moved(desk, (k - (columns - 1) / 2.0) * width, side * 0.4, 0.0, side * math.pi / 2.0)
    return solids


def _desk_top(rng: np.random.Generator) -> list[Solid]:
    """One or two screens, a keyboard, a mouse and clutter, for a desk 0.73 m high whose user is at +x."""
    twin = rng.random() < 0.4
    solids = [solid for y in ((-0.3, 0.3) if twin else (0.0,))
              for solid in moved(props.monitor(rng, rng.uniform(0.48, 0.58)), -0.18, y, 0.73, -0.3 * y)]
    solids += [standing(Box, 0.12, 0.0, 0.73, (0.14, 0.42, 0.018), looks.grey(rng), Label.OBJECT),
               standing(Box, 0.12, 0.0, 0.748, (0.1, 0.38, 0.004), looks.tiles(rng, 0.02), Label.OBJECT),
               standing(Sphere, 0.12, 0.3, 0.73, (0.1, 0.06, 0.035), BLACK, Label.OBJECT)]
    for y in (-0.55, 0.55):
        solids += moved(clutter(rng, 0.5, 0.28, props.DESK_THINGS, 0.7), 0.05, y, 0.73)
    return solids


def swivel_chair(seat: Material) -> list[Solid]:
    feet = [standing(Box, 0.0, 0.0, 0.0, (0.56, 0.06, 0.08), BLACK, Label.CHAIR, k * math.pi / 3.0) for k in range(3)]
    return [*feet,
            standing(Cylinder, 0.0, 0.0, 0.08, (0.06, 0.06, 0.36), STEEL, Label.CHAIR),
            standing(Box, 0.0, 0.0, 0.44, (0.46, 0.48, 0.08), seat, Label.CHAIR),
            standing(Box, -0.22, 0.0, 0.6, (0.07, 0.42, 0.5), seat, Label.CHAIR),
            standing(Box, -0.23, 0.0, 0.5, (0.04, 0.08, 0.2), BLACK, Label.CHAIR)]


def whiteboard(rng: np.random.Generator) -> list[Solid]:
    """With writing and a coloured chart."""
    width, height = rng.uniform(1.0, 1.8), rng.uniform(0.8, 1.1)
    solids = [Box((0.01, 0.0, 0.0), (0.02, width + 0.05, height + 0.05), STEEL, Prop.BOARD),
              Box((0.015, 0.0, 0.0), (0.02, width, height), WHITE, Prop.BOARD),
              Box((0.05, 0.0, -height / 2.0), (0.08, 0.5 * width, 0.02), STEEL, Prop.BOARD)]
    for k in range(rng.integers(4, 9)):
        long, ink = rng.uniform(0.15, 0.45) * width, Material.hex(looks.pick(rng, INK))
        solids.append(Box((0.026, -0.45 * width + long / 2.0, (0.38 - 0.09 * k) * height), (0.002, long, 0.018), ink,
                          Prop.BOARD))
    for k in range(rng.integers(0, 6)):
        tall = rng.uniform(0.1, 0.5) * height
        solids.append(Box((0.026, (0.1 + 0.07 * k) * width, -0.35 * height + tall / 2.0), (0.002, 0.05 * width, tall),
                          Material.hex(looks.pick(rng, INK)), Prop.BOARD))
    return solids


def _pinboard(rng: np.random.Generator) -> list[Solid]:
    """Cork with notes and photographs."""
    width, height = rng.uniform(0.8, 1.4), rng.uniform(0.6, 0.9)
    cork = Material.hex("#b98a58 #8f6238", Texture.NOISE, 0.015)
    notes = [Box((0.022, (i + 0.5) * width / 5.0 - width / 2.0, (k - 1) * height / 3.2),
                 (0.004, rng.uniform(0.08, 0.16), rng.uniform(0.1, 0.18)),
                 looks.pick(rng, (looks.paint, looks.picture_paint))(rng), Prop.BOARD)
             for i in range(5) for k in range(3) if rng.random() < 0.7]
    return [Box((0.01, 0.0, 0.0), (0.02, width, height), cork, Prop.BOARD), *notes]


def _clock(rng: np.random.Generator) -> list[Solid]:
    return [Box((0.015, 0.0, 0.2), (0.03, 0.3, 0.3), looks.paint(rng), Label.OBJECT),
            Box((0.03, 0.0, 0.2), (0.006, 0.25, 0.25), WHITE, Label.OBJECT),
            Box((0.034, 0.0, 0.24), (0.004, 0.015, 0.09), BLACK, Label.OBJECT),
            Box((0.034, 0.04, 0.2), (0.004, 0.09, 0.012), BLACK, Label.OBJECT)]


def _wall_screen(rng: np.random.Generator) -> list[Solid]:
    return [Box((0.03, 0.0, 0.0), (0.06, 1.3, 0.76), BLACK, Label.SCREEN),
            Box((0.061, 0.0, 0.0), (0.004, 1.26, 0.72), looks.picture_paint(rng), Label.SCREEN)]


def _files(rng: np.random.Generator) -> list[Solid]:
    """A filing cabinet, things on top."""
    width, height = rng.uniform(0.45, 1.2), rng.uniform(0.7, 1.3)
    return [*f.cabinet(0.45, width, height, looks.pick(rng, (looks.grey, looks.paint, looks.timber))(rng),
                       max(round(width / 0.5), 1), int(rng.integers(2, 5))),
            *moved(clutter(rng, 0.32, width - 0.1, props.DESK_THINGS), 0.0, 0.0, height)]


def _shelf(rng: np.random.Generator) -> list[Solid]:
    return f.bookcase(rng, rng.uniform(0.7, 1.0), rng.uniform(1.2, 2.0), looks.timber(rng), looks.paint(rng))


def _copier(rng: np.random.Generator) -> list[Solid]:
    body, trim = looks.grey(rng, 0.6, 0.9), looks.grey(rng, 0.1, 0.35)
    trays = [standing(Box, 0.32, 0.0, 0.12 + 0.2 * k, (0.02, 0.52, 0.16), body, Label.APPLIANCE) for k in range(3)]
    return [standing(Box, 0.0, 0.0, 0.05, (0.62, 0.6, 0.8), trim, Label.APPLIANCE), *trays,
            standing(Box, 0.0, 0.0, 0.0, (0.5, 0.5, 0.05), BLACK, Label.APPLIANCE),
            standing(Box, 0.0, 0.0, 0.9, (0.62, 0.6, 0.16), body, Label.APPLIANCE),
            standing(Box, -0.1, 0.0, 0.85, (0.4, 0.5, 0.05), BLACK, Label.APPLIANCE),
            standing(Box, 0.33, 0.1, 0.98, (0.08, 0.24, 0.06), looks.picture_paint(rng), Label.SCREEN)]


def _cooler(rng: np.random.Generator) -> list[Solid]:
    return [standing(Box, 0.0, 0.0, 0.0, (0.34, 0.34, 1.0), WHITE, Label.APPLIANCE),
            standing(Box, 0.16, 0.0, 0.65, (0.05, 0.24, 0.22), looks.paint(rng), Label.APPLIANCE),
            standing(Cylinder, 0.0, 0.0, 1.0, (0.27, 0.27, 0.36), Material.hex("#8fc4dd"), Label.APPLIANCE)]


def _bin(rng: np.random.Generator) -> list[Solid]:
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.3, 0.3, 0.4), looks.paint(rng), Label.OBJECT),
            standing(Sphere, 0.0, 0.0, 0.3, (0.24, 0.24, 0.16), looks.grey(rng, 0.6, 0.9), Label.OBJECT)]


def _locker(rng: np.random.Generator) -> list[Solid]:
    return f.cabinet(0.45, 0.4 * rng.integers(2, 4), 1.8, looks.paint(rng), 3, int(rng.integers(1, 4)))
