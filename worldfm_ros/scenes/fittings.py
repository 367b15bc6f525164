"""Kitchen, bathroom and hall fittings for procedural scenes; placed like the pieces of `furniture`."""

from __future__ import annotations

import numpy as np

from worldfm_ros.scenes.furniture import (
    BLACK,
    CERAMIC,
    OAK,
    SPINES,
    STEEL,
    WHITE,
    Label,
    cabinet,
    hexed,
    standing,
)
from worldfm_ros.scenes.scene import Box, Cylinder, Material, Solid, Sphere, Texture, moved

STONE = hexed("#e4e0d8 #b9b2a6", Texture.NOISE, 0.12)
WATER = hexed("#9fd0d8 #b9dfe3", Texture.NOISE, 0.3)
GLASS = hexed("#20242a #39424c", Texture.NOISE, 0.3)
MIRROR = hexed("#c3d3da #e6eef0", Texture.NOISE, 0.8)
FRUIT = tuple(hexed(color) for color in ("#d8432f", "#e69a2c", "#8db53c", "#e8c93a"))


def kitchen_run(length: float, front: Material, tiles: Material, window: tuple[float, float]) -> list[Solid]:
    """A counter along y with sink, hob, oven and tiles behind; wall cabinets hang outside the `window` stretch of y."""
    solids = moved(cabinet(0.58, length, 0.86, front, round(length / 0.6), label=Label.COUNTER), 0.0, 0.0)
    solids.append(standing(Box, 0.01, 0.0, 0.86, (0.62, length, 0.04), STONE, Label.COUNTER))
    solids.append(standing(Box, -0.295, 0.0, 0.90, (0.012, length, 0.2), tiles, Label.WALL))
    low, high = window
    for start, stop in ((-length / 2.0, low), (high, length / 2.0)):
        width, middle = stop - start, (start + stop) / 2.0
        if width > 0.3:
            solids.append(standing(Box, -0.295, middle, 1.1, (0.012, width, 0.4), tiles, Label.WALL))
            hung = cabinet(0.34, width - 0.04, 0.7, front, max(round(width / 0.5), 1), plinth=0.01)
            solids += moved(hung, -0.12, middle, 1.5)
    solids += moved(_sink(), 0.0, (low + high) / 2.0, 0.9)
    solids += moved(_stove(), 0.0, high + 0.4)
    solids += moved(_fruit_bowl(), 0.05, low - 0.35, 0.9)
    return solids


def _sink() -> list[Solid]:
    return [standing(Box, 0.0, 0.0, 0.0, (0.44, 0.7, 0.008), STEEL, Label.SINK),
            standing(Box, 0.0, 0.0, 0.008, (0.36, 0.62, 0.002), hexed("#7f868b"), Label.SINK),
            standing(Cylinder, -0.2, 0.0, 0.0, (0.03, 0.03, 0.28), STEEL, Label.SINK),
            standing(Box, -0.12, 0.0, 0.26, (0.18, 0.025, 0.025), STEEL, Label.SINK)]


def _stove() -> list[Solid]:
    """A hob on the counter, the oven's front below and a pot."""
    solids = [standing(Box, 0.02, 0.0, 0.9, (0.5, 0.58, 0.008), BLACK, Label.APPLIANCE),
              standing(Box, 0.295, 0.0, 0.2, (0.03, 0.58, 0.62), STEEL, Label.APPLIANCE),
              standing(Box, 0.312, 0.0, 0.26, (0.01, 0.48, 0.36), GLASS, Label.APPLIANCE),
              standing(Box, 0.335, 0.0, 0.66, (0.02, 0.5, 0.02), BLACK, Label.APPLIANCE)]
    for x in (-0.1, 0.14):
        for y in (-0.15, 0.15):
            solids.append(standing(Cylinder, x, y, 0.908, (0.2, 0.2, 0.003), GLASS, Label.APPLIANCE))
    red = hexed("#b3372f")
    solids += [standing(Cylinder, -0.1, 0.15, 0.911, (0.22, 0.22, 0.15), red, Label.OBJECT),
               standing(Cylinder, -0.1, 0.15, 1.061, (0.2, 0.2, 0.015), STEEL, Label.OBJECT),
               standing(Sphere, -0.1, 0.15, 1.07, (0.04, 0.04, 0.04), BLACK, Label.OBJECT)]
    return solids


def _fruit_bowl() -> list[Solid]:
    solids = [standing(Cylinder, 0.0, 0.0, 0.0, (0.3, 0.3, 0.06), CERAMIC, Label.OBJECT)]
    for k, (x, y, z) in enumerate([(0.07, 0.0, 0.05), (-0.06, 0.06, 0.05), (-0.04, -0.08, 0.05), (0.0, 0.0, 0.1)]):
        solids.append(standing(Sphere, x, y, z, (0.085, 0.085, 0.085), FRUIT[k], Label.OBJECT))
    return solids


def table_setting() -> list[Solid]:
    """A bowl of fruit and two plates, for a table top along x at z = 0."""
    plates = [standing(Cylinder, x, 0.0, 0.0, (0.24, 0.24, 0.012), CERAMIC, Label.OBJECT) for x in (-0.45, 0.45)]
    return [*_fruit_bowl(), *plates]


def fridge(front: Material) -> list[Solid]:
    solids = [standing(Box, -0.02, 0.0, 0.0, (0.61, 0.64, 1.86), STEEL, Label.APPLIANCE)]
    for z, height in ((0.06, 0.62), (0.7, 1.14)):
        solids.append(standing(Box, 0.3, 0.0, z, (0.04, 0.63, height), front, Label.APPLIANCE))
        solids.append(standing(Box, 0.335, 0.25, z + 0.15, (0.03, 0.025, height - 0.3), STEEL, Label.APPLIANCE))
    return solids


def bathtub(length: float = 1.7, width: float = 0.75) -> list[Solid]:
    """Along y, a rim around the water."""
    solids = [standing(Box, 0.0, 0.0, 0.0, (width, length, 0.42), CERAMIC, Label.BATHTUB),
              standing(Box, 0.0, 0.0, 0.42, (width - 0.14, length - 0.2, 0.02), WATER, Label.BATHTUB)]
    for side in (-1, 1):
        solids.append(standing(Box, side * (width - 0.07) / 2.0, 0.0, 0.42, (0.07, length, 0.14), CERAMIC,
                               Label.BATHTUB))
        solids.append(standing(Box, 0.0, side * (length - 0.1) / 2.0, 0.42, (width - 0.14, 0.1, 0.14), CERAMIC,
                               Label.BATHTUB))
    solids.append(standing(Box, 0.0, length / 2.0 - 0.08, 0.56, (0.05, 0.12, 0.14), STEEL, Label.BATHTUB))
    return solids


def toilet() -> list[Solid]:
    return [standing(Cylinder, 0.04, 0.0, 0.0, (0.42, 0.28, 0.34), CERAMIC, Label.TOILET),
            standing(Cylinder, 0.05, 0.0, 0.34, (0.52, 0.38, 0.06), CERAMIC, Label.TOILET),
            standing(Cylinder, 0.06, 0.0, 0.4, (0.48, 0.36, 0.03), OAK, Label.TOILET),
            standing(Box, -0.25, 0.0, 0.34, (0.2, 0.4, 0.42), CERAMIC, Label.TOILET),
            standing(Cylinder, -0.25, 0.0, 0.76, (0.06, 0.06, 0.015), STEEL, Label.TOILET)]


def washbasin(front: Material) -> list[Solid]:
    """A basin on a cabinet under a mirror with a shelf; the wall is at x = -0.25."""
    return [*cabinet(0.46, 0.9, 0.78, front, 2),
            standing(Box, 0.01, 0.0, 0.78, (0.5, 0.94, 0.04), STONE, Label.SINK),
            standing(Cylinder, 0.02, 0.0, 0.82, (0.36, 0.5, 0.1), CERAMIC, Label.SINK),
            standing(Cylinder, 0.02, 0.0, 0.92, (0.3, 0.44, 0.003), WATER, Label.SINK),
            standing(Cylinder, -0.19, 0.0, 0.82, (0.03, 0.03, 0.26), STEEL, Label.SINK),
            standing(Box, -0.12, 0.0, 1.06, (0.16, 0.025, 0.025), STEEL, Label.SINK),
            standing(Box, -0.235, 0.0, 1.2, (0.03, 0.86, 0.86), OAK, Label.MIRROR),
            standing(Box, -0.218, 0.0, 1.23, (0.01, 0.8, 0.8), MIRROR, Label.MIRROR),
            standing(Cylinder, 0.1, 0.36, 0.82, (0.07, 0.07, 0.16), FRUIT[2], Label.OBJECT),
            standing(Cylinder, 0.02, 0.4, 0.82, (0.06, 0.06, 0.11), FRUIT[1], Label.OBJECT)]


def washing_machine() -> list[Solid]:
    return [standing(Box, 0.0, 0.0, 0.0, (0.58, 0.6, 0.85), WHITE, Label.APPLIANCE),
            standing(Box, 0.295, 0.0, 0.72, (0.012, 0.56, 0.11), STEEL, Label.APPLIANCE),
            Sphere((0.29, 0.0, 0.4), (0.06, 0.42, 0.42), STEEL, Label.APPLIANCE),
            Sphere((0.3, 0.0, 0.4), (0.07, 0.32, 0.32), GLASS, Label.APPLIANCE)]


def towel_rail(cloths: tuple[Material, ...]) -> list[Solid]:
    """Hangs on the wall at x = 0."""
    solids = [standing(Box, 0.06, 0.0, 1.3, (0.02, 0.34 * len(cloths), 0.02), STEEL, Label.TOWEL)]
    for k, cloth in enumerate(cloths):
        y = 0.34 * (k - (len(cloths) - 1) / 2.0)
        solids.append(standing(Box, 0.06, y, 0.72 + 0.08 * k, (0.05, 0.28, 0.605 - 0.08 * k), cloth, Label.TOWEL))
    return solids


def coat_rack(rng: np.random.Generator, width: float = 0.9) -> list[Solid]:
    """Coats on hooks on the wall at x = 0, hats above."""
    solids = [standing(Box, 0.015, 0.0, 1.6, (0.03, width, 0.12), OAK, Label.SHELF),
              standing(Box, 0.13, 0.0, 1.8, (0.26, width, 0.025), OAK, Label.SHELF)]
    for k in range(3):
        y, coat = (k - 1) * width / 3.2, hexed(SPINES[rng.integers(len(SPINES))])
        hem = 0.9 - 0.12 * k
        solids.append(standing(Sphere, 0.11, y, 1.34, (0.16, 0.3, 0.26), coat, Label.CLOTHES))
        solids.append(standing(Cylinder, 0.11, y, hem, (0.13, 0.24, 1.48 - hem), coat, Label.CLOTHES))
        for side in (-0.12, 0.12):
            solids.append(standing(Cylinder, 0.1, y + side, 1.0, (0.08, 0.07, 0.47), coat, Label.CLOTHES))
    solids.append(standing(Cylinder, 0.13, -0.15, 1.825, (0.24, 0.3, 0.12), hexed("#9c8256"), Label.CLOTHES))
    solids.append(standing(Box, 0.13, 0.22, 1.825, (0.22, 0.3, 0.16), hexed("#7d4b3a"), Label.OBJECT))
    return solids


def shoe_bench() -> list[Solid]:
    solids = [standing(Box, 0.0, 0.0, 0.4, (0.34, 0.8, 0.04), OAK, Label.SHELF),
              standing(Box, 0.0, 0.0, 0.14, (0.34, 0.76, 0.02), OAK, Label.SHELF),
              standing(Box, 0.0, 0.0, 0.44, (0.32, 0.76, 0.05), hexed("#5b7f8c"), Label.CUSHION)]
    for y in (-0.39, 0.39):
        solids.append(standing(Box, 0.0, y, 0.0, (0.34, 0.03, 0.44), OAK, Label.SHELF))
    for k, color in enumerate(("#2b2b2f", "#7a3b2a", "#d9d4c8")):
        for side in (-0.055, 0.055):
            solids.append(standing(Sphere, 0.02, 0.24 * (k - 1) + side, 0.16, (0.27, 0.09, 0.1), hexed(color),
                                   Label.OBJECT))
    return solids
