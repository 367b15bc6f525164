"""Small things, people and their labels for the procedural scene families; placed like the pieces of `furniture`."""

from __future__ import annotations

from enum import IntEnum
import math

import numpy as np

from worldfm_ros.scenes import looks
from worldfm_ros.scenes.furniture import BLACK, CERAMIC, LABEL_NAMES, SCREEN, STEEL, Label, standing
from worldfm_ros.scenes.scene import Box, Cylinder, Material, Solid, Sphere, moved


class Prop(IntEnum):
    """The semantic classes beyond those of `furniture.Label`."""

    PERSON = 29
    VEHICLE = 30
    BOX = 31
    PALLET = 32
    RACK = 33
    CONE = 34
    PARTITION = 35
    BOARD = 36
    BUILDING = 37
    ROAD = 38
    PAVEMENT = 39
    TREE = 40
    POLE = 41
    MARKING = 42


NAMES = LABEL_NAMES | {int(label): label.name.lower() for label in Prop}
SKINS = tuple(Material.hex(tone) for tone in ("#f0c8a8", "#d9a47c", "#a9714a", "#6f4630", "#4a2f22"))
CARDBOARD = ("#b98d5c", "#a67c4f", "#c9a576", "#8f6a45")
PAPER = Material.hex("#f2f0e8")


def person(rng: np.random.Generator) -> list[Solid]:
    """A standing figure, 1.5 to 1.95 m tall, facing +x."""
    tall = rng.uniform(1.5, 1.95)
    skin, hair = looks.pick(rng, SKINS), looks.grey(rng, 0.05, 0.5)
    shirt, trousers = looks.fabric(rng), looks.fabric(rng)
    stride = rng.uniform(-0.12, 0.12)
    solids = [standing(Cylinder, 0.0, 0.0, 0.45 * tall, (0.2, 0.32, 0.37 * tall), shirt, Prop.PERSON),
              standing(Sphere, 0.0, 0.0, 0.76 * tall, (0.21, 0.42, 0.12 * tall), shirt, Prop.PERSON),
              standing(Cylinder, 0.0, 0.0, 0.83 * tall, (0.1, 0.1, 0.06 * tall), skin, Prop.PERSON),
              standing(Sphere, 0.0, 0.0, 0.865 * tall, (0.19, 0.16, 0.135 * tall), skin, Prop.PERSON),
              standing(Sphere, -0.02, 0.0, 0.9 * tall, (0.2, 0.18, 0.105 * tall), hair, Prop.PERSON)]
    for side in (-1, 1):
        solids += [
            standing(Cylinder, side * stride, 0.09 * side, 0.04, (0.15, 0.14, 0.44 * tall), trousers, Prop.PERSON),
            standing(Box, side * stride + 0.05, 0.09 * side, 0.0, (0.28, 0.1, 0.08), BLACK, Prop.PERSON),
            standing(Cylinder, -side * stride / 2.0, 0.23 * side, 0.46 * tall, (0.09, 0.09, 0.35 * tall), shirt,
                     Prop.PERSON),
            standing(Sphere, -side * stride / 2.0, 0.23 * side, 0.41 * tall, (0.09, 0.08, 0.07 * tall), skin,
                     Prop.PERSON)]
    return solids


def carton(rng: np.random.Generator, length: float, width: float, height: float) -> list[Solid]:
    """A cardboard box with tape over its lid and a label on two sides, these or those."""
    if rng.random() < 0.5:
        return moved(_carton(rng, width, length, height), 0.0, 0.0, 0.0, math.pi / 2.0)
    return _carton(rng, length, width, height)


def _carton(rng: np.random.Generator, length: float, width: float, height: float) -> list[Solid]:
    board = Material.hex(looks.pick(rng, CARDBOARD)) if rng.random() < 0.7 else looks.paint(rng)
    tag = looks.picture_paint(rng) if rng.random() < 0.5 else PAPER
    w, h = rng.uniform(0.35, 0.7) * width, rng.uniform(0.3, 0.55) * height
    y, z = rng.uniform(-0.15, 0.15) * width, rng.uniform(0.1, 0.25) * height
    return [standing(Box, 0.0, 0.0, 0.0, (length, width, height), board, Prop.BOX),
            standing(Box, 0.0, y, z, (length + 0.008, w, h), tag, Prop.BOX),
            standing(Box, 0.0, 0.0, 0.8 * height, (length + 0.006, min(0.06, width / 4.0), 0.2 * height + 0.003),
                     looks.grey(rng, 0.5, 0.9), Prop.BOX)]


def small_carton(rng: np.random.Generator) -> list[Solid]:
    return carton(rng, *rng.uniform(0.12, 0.24, 2), rng.uniform(0.08, 0.2))


def book_stack(rng: np.random.Generator) -> list[Solid]:
    solids, z = [], 0.0
    for _ in range(rng.integers(1, 5)):
        thick = rng.uniform(0.015, 0.05)
        solids.append(standing(Box, 0.0, 0.0, z, (rng.uniform(0.14, 0.2), rng.uniform(0.19, 0.26), thick),
                               looks.paint(rng), Label.BOOK, rng.uniform(-0.3, 0.3)))
        z += thick
    size = (0.12, 0.17, 0.002)
    return [*solids, standing(Box, 0.0, 0.0, z, size, looks.picture_paint(rng), Label.BOOK, solids[-1].yaw)]


def mug(rng: np.random.Generator) -> list[Solid]:
    glaze, height = looks.paint(rng), rng.uniform(0.08, 0.12)
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.08, 0.08, height), glaze, Label.OBJECT),
            standing(Cylinder, 0.0, 0.0, height, (0.068, 0.068, 0.002), Material.hex("#3a2416"), Label.OBJECT),
            standing(Box, 0.05, 0.0, 0.25 * height, (0.04, 0.014, 0.5 * height), glaze, Label.OBJECT)]


def bottle(rng: np.random.Generator) -> list[Solid]:
    glass, height, wide = looks.paint(rng), rng.uniform(0.16, 0.28), rng.uniform(0.06, 0.09)
    return [standing(Cylinder, 0.0, 0.0, 0.0, (wide, wide, height), glass, Label.OBJECT),
            standing(Cylinder, 0.0, 0.0, 0.25 * height, (wide + 0.003, wide + 0.003, 0.4 * height),
                     looks.picture_paint(rng), Label.OBJECT),
            standing(Cylinder, 0.0, 0.0, height, (0.4 * wide, 0.4 * wide, 0.3 * height), looks.paint(rng),
                     Label.OBJECT)]


def ball(rng: np.random.Generator) -> list[Solid]:
    side = rng.uniform(0.07, 0.22)
    return [standing(Sphere, 0.0, 0.0, 0.0, (side, side, side), looks.fabric(rng), Label.OBJECT)]


def bowl(rng: np.random.Generator) -> list[Solid]:
    fruit = [standing(Sphere, 0.06 * math.cos(2.1 * k), 0.06 * math.sin(2.1 * k), 0.045, (0.08, 0.08, 0.08),
                      looks.paint(rng), Label.OBJECT) for k in range(3)]
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.24, 0.24, 0.05), CERAMIC, Label.OBJECT), *fruit]


def papers(rng: np.random.Generator) -> list[Solid]:
    return [standing(Box, 0.03 * k, 0.02 * k, 0.002 * k, (0.15, 0.21, 0.002), looks.pick(
        rng, (PAPER, looks.picture_paint(rng))), Label.OBJECT, rng.uniform(-0.5, 0.5)) for k in range(2)]


def laptop(rng: np.random.Generator) -> list[Solid]:
    """Open, its screen towards +x."""
    picture = looks.picture_paint(rng) if rng.random() < 0.6 else SCREEN
    return [standing(Box, 0.02, 0.0, 0.0, (0.21, 0.3, 0.015), STEEL, Label.SCREEN),
            standing(Box, 0.03, 0.0, 0.015, (0.11, 0.26, 0.003), BLACK, Label.SCREEN),
            standing(Box, -0.085, 0.0, 0.015, (0.012, 0.3, 0.2), BLACK, Label.SCREEN),
            standing(Box, -0.078, 0.0, 0.025, (0.004, 0.28, 0.18), picture, Label.SCREEN)]


def monitor(rng: np.random.Generator, width: float = 0.56) -> list[Solid]:
    """A desk screen that shows something, towards +x."""
    shown = looks.picture_paint(rng) if rng.random() < 0.75 else SCREEN
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.2, 0.24, 0.012), BLACK, Label.SCREEN),
            standing(Box, -0.02, 0.0, 0.012, (0.03, 0.05, 0.16), BLACK, Label.SCREEN),
            standing(Box, 0.0, 0.0, 0.1, (0.04, width, 0.6 * width), BLACK, Label.SCREEN),
            standing(Box, 0.021, 0.0, 0.115, (0.004, width - 0.03, 0.6 * width - 0.03), shown, Label.SCREEN)]


def shelf(rng: np.random.Generator, width: float, height: float, things: list, wood: Material) -> list[Solid]:
    """An open shelf, its boards full of things."""
    depth, board = rng.uniform(0.28, 0.42), 0.025
    count = max(round(height / 0.38), 1)
    pitch = (height - board) / count
    solids = [standing(Box, -depth / 2.0 + 0.01, 0.0, 0.0, (0.02, width, height), looks.pick(rng, (
        wood, looks.paint(rng))), Label.SHELF)]
    for side in (-1, 1):
        solids.append(standing(Box, 0.0, side * (width - board) / 2.0, 0.0, (depth, board, height), wood, Label.SHELF))
    for k in range(count + 1):
        solids.append(standing(Box, 0.01, 0.0, k * pitch, (depth - 0.02, width - 2 * board, board), wood, Label.SHELF))
        y = -width / 2.0 + 0.17
        while k < count and y < width / 2.0 - 0.15:
            thing = looks.pick(rng, things)(rng)
            solids += moved(thing, 0.02, y, k * pitch + board, rng.uniform(-0.4, 0.4))
            y += rng.uniform(0.27, 0.4)
    return solids


DESK_THINGS = [book_stack, mug, papers, laptop, bottle, small_carton]
HOME_THINGS = [book_stack, mug, bottle, ball, bowl, small_carton, papers]
SHELF_THINGS = [book_stack, bottle, ball, small_carton, small_carton]
