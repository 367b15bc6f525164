"""Furniture for procedural scenes: each function returns the solids of one piece.

A piece stands on the floor (or hangs at its own height) at the origin with its front towards +x; `scene.moved` places
it. Measures are those of ordinary shops, in metres.
"""

from __future__ import annotations

from enum import IntEnum
import math

import numpy as np

from worldfm_ros.scenes.scene import Box, Cylinder, Material, Solid, Sphere, Texture, Vector, moved


class Label(IntEnum):
    """The semantic classes of the procedural scenes."""

    FLOOR = 1
    WALL = 2
    CEILING = 3
    DOOR = 4
    WINDOW = 5
    SOFA = 6
    CHAIR = 7
    TABLE = 8
    BED = 9
    CABINET = 10
    SHELF = 11
    BOOK = 12
    PLANT = 13
    LAMP = 14
    PICTURE = 15
    COUNTER = 16
    APPLIANCE = 17
    RUG = 18
    CURTAIN = 19
    CUSHION = 20
    SINK = 21
    BATHTUB = 22
    TOILET = 23
    MIRROR = 24
    SCREEN = 25
    TOWEL = 26
    CLOTHES = 27
    OBJECT = 28


LABEL_NAMES = {int(label): label.name.lower() for label in Label}

hexed = Material.hex
OAK = hexed("#c59a66 #a87b48", Texture.WOOD)
WALNUT = hexed("#7a4f30 #5a3820", Texture.WOOD)
WHITE = hexed("#f1eee8")
BLACK = hexed("#232327")
STEEL = hexed("#b3b8bc")
CERAMIC = hexed("#f6f7f5")
LEAF = hexed("#5a9a48 #2c6a35", Texture.NOISE, 0.06)
SOIL = hexed("#4a3527")
CLAY = hexed("#bf6b42")
GLOW = hexed("#fff0d2", emission=1.6)
SCREEN = hexed("#16222e #2b4a66", Texture.NOISE, 0.5)
SPINES = ("#a83232", "#2f5f8f", "#d9a441", "#3d7a53", "#e7dfcf", "#6b4a86", "#22333b", "#cf6f3a", "#5d8aa8", "#8a1f3d")


def standing(shape: type[Solid], x: float, y: float, z: float, size: Vector, material: Material, label: int,
             yaw: float = 0.0) -> Solid:
    """A solid whose underside's middle is at (x, y, z)."""
    return shape((x, y, z + size[2] / 2.0), size, material, label, yaw)


def legs(length: float, width: float, height: float, side: float, material: Material, label: int) -> list[Solid]:
    """Four legs whose outer edges bound length x width."""
    x, y = (length - side) / 2.0, (width - side) / 2.0
    return [standing(Box, sx * x, sy * y, 0.0, (side, side, height), material, label)
            for sx in (-1, 1) for sy in (-1, 1)]


def sofa(fabric: Material, cushions: tuple[Material, ...], width: float = 2.1) -> list[Solid]:
    seat = (width - 0.36) / (1 if width < 1.2 else 3)
    count = round((width - 0.36) / seat)
    solids = [
        standing(Box, 0.0, 0.0, 0.07, (0.9, width, 0.23), fabric, Label.SOFA),
        standing(Box, -0.35, 0.0, 0.30, (0.2, width, 0.5), fabric, Label.SOFA),
        *legs(0.84, width - 0.06, 0.07, 0.05, WALNUT, Label.SOFA),
    ]
    for side in (-1, 1):
        solids.append(standing(Box, 0.0, side * (width - 0.18) / 2.0, 0.30, (0.88, 0.18, 0.3), fabric, Label.SOFA))
    for k in range(count):
        y = (k - (count - 1) / 2.0) * seat
        solids.append(standing(Box, 0.1, y, 0.30, (0.68, seat - 0.02, 0.15), fabric, Label.SOFA))
        solids.append(standing(Box, -0.2, y, 0.46, (0.14, seat - 0.04, 0.36), fabric, Label.SOFA))
    for k, material in enumerate(cushions):
        y = (width / 2.0 - 0.42) * (1.0 - 2.0 * k / max(len(cushions) - 1, 1))
        solids += moved(cushion(0.42, material), -0.06, y, 0.45, 0.2 * (-1) ** k)
    return solids


def cushion(side: float, material: Material) -> list[Solid]:
    """A stuffed square that stands on an edge."""
    return [standing(Box, 0.0, 0.0, 0.03 * k, (0.08 + 0.04 * k, side - 0.06 * k, side - 0.06 * k), material,
                     Label.CUSHION) for k in range(2)]


def chair(wood: Material, pad: Material) -> list[Solid]:
    solids = legs(0.42, 0.42, 0.44, 0.04, wood, Label.CHAIR)
    solids.append(standing(Box, 0.0, 0.0, 0.44, (0.44, 0.44, 0.03), wood, Label.CHAIR))
    solids.append(standing(Box, 0.01, 0.0, 0.47, (0.4, 0.4, 0.03), pad, Label.CHAIR))
    for y in (-0.19, 0.19):
        solids.append(standing(Box, -0.19, y, 0.47, (0.04, 0.04, 0.43), wood, Label.CHAIR))
    for z in (0.58, 0.71, 0.83):
        solids.append(standing(Box, -0.19, 0.0, z, (0.02, 0.34, 0.07), wood, Label.CHAIR))
    return solids


def table(length: float, width: float, height: float, wood: Material, side: float = 0.06) -> list[Solid]:
    top = standing(Box, 0.0, 0.0, height - 0.04, (length, width, 0.04), wood, Label.TABLE)
    return [top, *legs(length - 0.06, width - 0.06, height - 0.04, side, wood, Label.TABLE)]


def books(width: float, rng: np.random.Generator, depth: float = 0.18, height: float = 0.27) -> list[Solid]:
    """A row of upright books along y, spines towards +x, a gap left at a random place."""
    solids, y, gap = [], -width / 2.0, rng.uniform(-0.5, 0.3) * width
    while y < width / 2.0 - 0.06:
        thick = rng.uniform(0.025, 0.055)
        color = SPINES[rng.integers(len(SPINES))]
        d, h = depth * rng.uniform(0.8, 1.0), height * rng.uniform(0.68, 1.0)
        solids.append(standing(Box, (depth - d) / 2.0 - 0.03 * rng.random(), y + thick / 2.0, 0.0,
                               (d, thick - 0.002, h), hexed(color), Label.BOOK))
        y += thick
        if y > gap:
            y, gap = y + rng.uniform(0.08, 0.2), math.inf
    return solids


def bookcase(rng: np.random.Generator, width: float = 0.9, height: float = 2.0, wood: Material = WHITE,
             back: Material | None = None) -> list[Solid]:
    depth, board, count = 0.3, 0.025, max(round(height / 0.4), 1)
    pitch = (height - board) / count
    solids = [standing(Box, -depth / 2.0 + 0.01, 0.0, 0.0, (0.02, width, height), back or wood, Label.SHELF)]
    for y in (-1, 1):
        solids.append(standing(Box, 0.0, y * (width - board) / 2.0, 0.0, (depth, board, height), wood, Label.SHELF))
    for k in range(count + 1):
        solids.append(standing(Box, 0.01, 0.0, k * pitch, (depth - 0.02, width - 2 * board, board), wood, Label.SHELF))
    for k in range(count):
        z = k * pitch + board
        if rng.random() < 0.75:
            solids += moved(books(width - 0.08, rng, height=0.8 * pitch), 0.0, 0.0, z)
        else:
            solids += moved(vase(rng, 0.7 * pitch), 0.0, rng.uniform(-0.2, 0.2) * width, z)
    return solids


def vase(rng: np.random.Generator, height: float) -> list[Solid]:
    glaze = hexed(SPINES[rng.integers(len(SPINES))])
    width = height * rng.uniform(0.5, 0.7)
    return [standing(Sphere, 0.0, 0.0, 0.0, (width, width, 0.75 * height), glaze, Label.OBJECT),
            standing(Cylinder, 0.0, 0.0, 0.55 * height, (0.4 * width, 0.4 * width, 0.45 * height), glaze, Label.OBJECT)]


def plant(rng: np.random.Generator, height: float = 1.2, pot: Material = CLAY) -> list[Solid]:
    """Leaves on a spiral around a stem in a pot."""
    wide = 0.28 * min(height, 1.2) + 0.04
    solids = [standing(Cylinder, 0.0, 0.0, 0.0, (wide, wide, 0.26 * height), pot, Label.PLANT),
              standing(Cylinder, 0.0, 0.0, 0.26 * height, (0.88 * wide, 0.88 * wide, 0.01), SOIL, Label.PLANT),
              standing(Cylinder, 0.0, 0.0, 0.26 * height, (0.03, 0.03, 0.6 * height), SOIL, Label.PLANT)]
    for k in range(16):
        angle, rise = 2.4 * k + rng.uniform(-0.3, 0.3), (k + 1) / 16.0
        reach, length = 0.26 * height * (1.1 - 0.7 * rise), height * rng.uniform(0.2, 0.3) * (1.25 - 0.5 * rise)
        centre = (reach * math.cos(angle), reach * math.sin(angle), height * (0.4 + 0.52 * rise))
        solids.append(Sphere(centre, (length, 0.42 * length, 0.16 * length + 0.05 * height), LEAF, Label.PLANT, angle))
    return solids


def floor_lamp(height: float = 1.6) -> list[Solid]:
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.3, 0.3, 0.03), BLACK, Label.LAMP),
            standing(Cylinder, 0.0, 0.0, 0.03, (0.03, 0.03, height - 0.3), BLACK, Label.LAMP),
            standing(Cylinder, 0.0, 0.0, height - 0.3, (0.38, 0.38, 0.3), GLOW, Label.LAMP)]


def table_lamp() -> list[Solid]:
    return [standing(Sphere, 0.0, 0.0, 0.0, (0.15, 0.15, 0.2), CLAY, Label.LAMP),
            standing(Cylinder, 0.0, 0.0, 0.18, (0.02, 0.02, 0.06), BLACK, Label.LAMP),
            standing(Cylinder, 0.0, 0.0, 0.23, (0.24, 0.24, 0.17), GLOW, Label.LAMP)]


def pendant(drop: float, shade: Material) -> list[Solid]:
    """A lamp that hangs `drop` below the origin."""
    return [standing(Cylinder, 0.0, 0.0, -drop + 0.2, (0.012, 0.012, drop - 0.2), BLACK, Label.LAMP),
            standing(Cylinder, 0.0, 0.0, -drop + 0.1, (0.4, 0.4, 0.14), shade, Label.LAMP),
            standing(Sphere, 0.0, 0.0, -drop, (0.26, 0.26, 0.2), GLOW, Label.LAMP)]


def ceiling_lamp(width: float = 0.4) -> list[Solid]:
    return [standing(Cylinder, 0.0, 0.0, -0.03, (width + 0.04, width + 0.04, 0.03), STEEL, Label.LAMP),
            standing(Cylinder, 0.0, 0.0, -0.09, (width, width, 0.06), GLOW, Label.LAMP)]


def bed(frame: Material, cover: Material, pillow: Material, length: float = 2.1, width: float = 1.6) -> list[Solid]:
    """The headboard is at -x."""
    head = -length / 2.0
    solids = [
        standing(Box, 0.0, 0.0, 0.12, (length, width, 0.16), frame, Label.BED),
        standing(Box, head + 0.03, 0.0, 0.28, (0.06, width, 0.72), frame, Label.BED),
        standing(Box, 0.03, 0.0, 0.28, (length - 0.1, width - 0.06, 0.2), WHITE, Label.BED),
        standing(Box, 0.34, 0.0, 0.36, (length - 0.66, width + 0.03, 0.17), cover, Label.BED),
        standing(Box, -0.32, 0.0, 0.49, (0.24, width + 0.02, 0.06), WHITE, Label.BED),
        *legs(length - 0.1, width - 0.1, 0.12, 0.08, frame, Label.BED),
    ]
    for side in (-1, 1):
        y = side * width / 4.0
        solids.append(standing(Sphere, head + 0.32, y, 0.44, (0.46, 0.72, 0.2), WHITE, Label.CUSHION))
        solids += moved(cushion(0.4, pillow), head + 0.5, y, 0.47)
    return solids


def cabinet(depth: float, width: float, height: float, wood: Material, doors: int, rows: int = 1,
            label: int = Label.CABINET, plinth: float = 0.06) -> list[Solid]:
    """A body whose front carries doors x rows panels with knobs."""
    solids = [standing(Box, -0.01, 0.0, plinth, (depth - 0.02, width, height - plinth), wood, label),
              standing(Box, -0.03, 0.0, 0.0, (depth - 0.06, width - 0.04, plinth), BLACK, label)]
    w, h = width / doors, (height - plinth) / rows
    for k in range(doors):
        for row in range(rows):
            y, z = (k - (doors - 1) / 2.0) * w, plinth + row * h
            knob = y + (w / 2.0 - 0.06) * (1 if k % 2 == 0 else -1) if rows == 1 else y
            solids.append(standing(Box, depth / 2.0 - 0.01, y, z + 0.004, (0.02, w - 0.008, h - 0.008), wood, label))
            solids.append(standing(Sphere, depth / 2.0 + 0.012, knob, z + h / 2.0 - 0.015, (0.03, 0.03, 0.03),
                                   STEEL, label))
    return solids


def screen_on_stand(wood: Material) -> list[Solid]:
    """A television on a low cabinet."""
    return [*cabinet(0.4, 1.6, 0.45, wood, 3, 1),
            standing(Box, 0.0, 0.0, 0.45, (0.2, 0.5, 0.02), BLACK, Label.SCREEN),
            standing(Box, 0.0, 0.0, 0.47, (0.04, 0.1, 0.08), BLACK, Label.SCREEN),
            standing(Box, 0.0, 0.0, 0.53, (0.05, 1.15, 0.66), BLACK, Label.SCREEN),
            standing(Box, 0.026, 0.0, 0.55, (0.006, 1.11, 0.62), SCREEN, Label.SCREEN)]


def picture(width: float, height: float, art: Material, frame: Material = BLACK) -> list[Solid]:
    """Hangs with its back at x = 0 and its middle at the origin."""
    return [Box((0.015, 0.0, 0.0), (0.03, width, height), frame, Label.PICTURE),
            Box((0.03, 0.0, 0.0), (0.006, width - 0.07, height - 0.07), WHITE, Label.PICTURE),
            Box((0.034, 0.0, 0.0), (0.004, width - 0.15, height - 0.15), art, Label.PICTURE)]


def rug(length: float, width: float, pattern: Material) -> list[Solid]:
    return [standing(Box, 0.0, 0.0, 0.0, (length, width, 0.012), pattern, Label.RUG)]


def curtains(width: float, height: float, cloth: Material) -> list[Solid]:
    """A rod over a window of that width and the folds at both sides; the wall is at x = 0, the floor at z = 0."""
    solids = [standing(Box, 0.09, 0.0, height - 0.02, (0.025, width + 0.9, 0.025), BLACK, Label.CURTAIN)]
    for side in (-1, 1):
        for k in range(5):
            y = side * (width / 2.0 + 0.02 + 0.07 * k)
            solids.append(standing(Cylinder, 0.09 + 0.012 * (-1) ** k, y, 0.04, (0.06, 0.09, height - 0.07), cloth,
                                   Label.CURTAIN))
    return solids
