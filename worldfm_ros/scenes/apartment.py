"""A furnished apartment as a procedural scene: living room, kitchen, bedroom, hall and bath on 9 x 7 m, metric.

The map's origin lies in the living room near the doorway to the hall. Doorways are 0.9 m wide or more.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

from worldfm_ros.scenes import fittings
from worldfm_ros.scenes import furniture as f
from worldfm_ros.scenes.building import TRIM, Opening, Plan, Room, daylight, shell
from worldfm_ros.scenes.furniture import LABEL_NAMES, OAK, WALNUT, WHITE, Label, hexed, standing
from worldfm_ros.scenes.scene import Box, Cylinder, Light, Material, Scene, Solid, Sphere, Texture, moved

WEST, BEDROOM_EAST, KITCHEN_WEST, BATH_WEST, EAST = -4.5, -0.5, 0.8, 1.6, 4.5  # centre lines of walls, x
SOUTH, MIDDLE, NORTH = -3.5, 0.6, 3.5  # and y
FACING_EAST, FACING_NORTH, FACING_WEST, FACING_SOUTH = (k * math.pi / 2.0 for k in range(4))

DOORS = (
    Opening(1, MIDDLE, -0.4, 0.65),  # living room - hall
    Opening(0, KITCHEN_WEST, -1.7, -0.1, top=2.25),  # living room - kitchen
    Opening(0, BEDROOM_EAST, 1.45, 2.45),  # hall - bedroom
    Opening(0, BATH_WEST, 1.45, 2.45),  # hall - bath
)
WINDOWS = (
    Opening(1, SOUTH, -3.7, -2.1, 0.5, 2.3),  # living room
    Opening(1, SOUTH, -1.2, 0.2, 0.85, 2.3),
    Opening(1, SOUTH, 1.6, 3.2, 0.95, 2.2),  # kitchen
    Opening(0, EAST, -2.3, -1.1, 1.15, 2.2),
    Opening(1, NORTH, -2.6, -1.2, 0.9, 2.25),  # bedroom
    Opening(0, EAST, 1.7, 2.4, 1.4, 2.2),  # bath
)
SUN = (-45.0, -70.0, 62.0)
WARM = (1.0, 0.78, 0.52)
LAMPS = (  # x, y, z and power
    (0.5, 2.1, 2.45, 1.8), (2.9, 1.9, 2.45, 2.0), (2.4, -1.9, 1.6, 0.5), (-4.1, -3.1, 1.45, 0.5),
    (-4.2, 0.95, 0.9, 0.2), (-4.2, 3.15, 0.9, 0.2), (-2.6, -1.4, 2.45, 1.0), (-2.0, 2.0, 2.45, 0.8),
)

PLANKS = hexed("#c39a6b #9a7049 #4e3623", Texture.PLANKS, 0.13)
STONE_TILES = hexed("#d8cfc0 #c6baa8 #9a9184", Texture.TILES, 0.45)
CHECKER = hexed("#f0eeea #6f8f96", Texture.CHECKER, 0.3)
BATH_TILES = hexed("#e4eff0 #cfe3e6 #f8fafa", Texture.TILES, 0.2)
BRICKS = hexed("#a9705a #8d5846 #cbbfb2", Texture.BRICK, 0.24)


@dataclass(frozen=True)
class Style:
    """The colours of one apartment: lists that a seed rotates."""

    seed: int
    walls: tuple[str, ...] = ("#ebdfc8", "#bccab4", "#a3b6c6", "#e3c8a4", "#d8b4a8", "#c7c0d8")
    fabrics: tuple[str, ...] = ("#3f6f72", "#b0604a", "#566690", "#7a7f4a", "#8a4660", "#5f6b73")
    accents: tuple[str, ...] = ("#e0a63a", "#c8553d", "#3f7d8c", "#e9dfc9", "#7d9a4f", "#6b4c7d")
    art: tuple[str, ...] = ("#e8b04a #d95f3b #2c4a63", "#f0e4cc #c0392b #1f4e79", "#dfe7e4 #2a7f86 #e2a23b",
                            "#24466b #6fa3b8 #f2e6c8", "#f3d9b1 #b85c6b #3b2f54", "#cfe0c3 #5c8a4a #d9702f")

    def _pick(self, colors: tuple[str, ...], k: int) -> str:
        return colors[(self.seed + k) % len(colors)]

    def wall(self, k: int) -> Material:
        return hexed(self._pick(self.walls, k), Texture.PLASTER, seed=k)

    def fabric(self, k: int) -> Material:
        return hexed(self._pick(self.fabrics, k))

    def accent(self, k: int) -> Material:
        return hexed(self._pick(self.accents, k))

    def stripes(self, k: int, scale: float) -> Material:
        return hexed(f"{self._pick(self.accents, k)} #f3ede0", Texture.STRIPES, scale)

    def rug(self, k: int) -> Material:
        colors = (self._pick(self.fabrics, k + 1), "#efe4cc", self._pick(self.accents, k))
        return hexed(" ".join(colors), Texture.RUG, 0.4)

    def painting(self, k: int) -> Material:
        return hexed(self._pick(self.art, k), Texture.PAINTING, seed=self.seed + k)


def floor_plan(style: Style) -> Plan:
    return Plan({
        "living room": Room(WEST, SOUTH, KITCHEN_WEST, MIDDLE, style.wall(0), PLANKS),
        "kitchen": Room(KITCHEN_WEST, SOUTH, EAST, MIDDLE, style.wall(1), STONE_TILES),
        "bedroom": Room(WEST, MIDDLE, BEDROOM_EAST, NORTH, style.wall(2), PLANKS),
        "hall": Room(BEDROOM_EAST, MIDDLE, BATH_WEST, NORTH, style.wall(3), PLANKS),
        "bath": Room(BATH_WEST, MIDDLE, EAST, NORTH, BATH_TILES, CHECKER, skirting=False),
    }, DOORS, WINDOWS)


def apartment(seed: int = 0) -> Scene:
    """The apartment; `seed` changes colours, fabrics, books, pictures and plants, never the plan."""
    style, rng = Style(seed), np.random.default_rng(seed)
    plan = floor_plan(style)
    solids = shell(plan)
    for furnish in (_living_room, _kitchen, _bedroom, _hall, _bath):
        solids += furnish(style, rng)
    lights = daylight(plan, SUN, 4.5, 1.3)
    for x, y, z, power in LAMPS:
        downwards = (0.0, 0.0, -1.0) if z > 2.0 else None
        lights.append(Light((x, y, z), tuple(c * power for c in WARM), (0.2, 0.2, 0.0), downwards))
    return Scene("apartment", tuple(solids), tuple(lights), (0.16, 0.155, 0.15), LABEL_NAMES, exposure=1.15)


def _living_room(style: Style, rng: np.random.Generator) -> list[Solid]:
    table = [*f.table(1.0, 0.6, 0.42, WALNUT), *moved(f.vase(rng, 0.24), 0.25, 0.05, 0.42),
             standing(Box, -0.2, 0.05, 0.42, (0.2, 0.28, 0.03), style.accent(1), Label.BOOK, 0.3),
             standing(Box, -0.2, 0.05, 0.45, (0.18, 0.25, 0.025), style.accent(2), Label.BOOK, 0.1)]
    desk = [*f.table(0.6, 1.3, 0.74, OAK), standing(Box, 0.0, -0.1, 0.74, (0.24, 0.34, 0.015), f.STEEL, Label.SCREEN),
            standing(Box, -0.13, -0.1, 0.75, (0.015, 0.34, 0.23), f.SCREEN, Label.SCREEN),
            *moved(f.table_lamp(), -0.1, 0.5, 0.74)]
    return [
        Box((WEST + 0.07, -1.45, 1.3), (0.025, 4.08, 2.6), BRICKS, Label.WALL),
        *moved(f.rug(2.7, 2.0, style.rug(0)), -2.55, -1.45),
        *moved(f.sofa(style.fabric(0), (style.accent(0), style.accent(3), style.accent(1))), -1.6, -1.45, 0.0,
               FACING_WEST),
        *moved(f.sofa(style.fabric(1), (style.accent(0),), 0.95), -2.9, -2.95, 0.0, FACING_NORTH + 0.15),
        *moved(table, -2.75, -1.45, 0.0, FACING_NORTH),
        *moved(f.screen_on_stand(WALNUT), -4.2, -1.45),
        *moved(f.bookcase(rng), -4.26, 0.06),
        *moved(f.floor_lamp(), -4.1, -3.1),
        *moved(f.curtains(1.6, 2.42, style.accent(2)), -2.9, SOUTH + 0.06, 0.0, FACING_NORTH),
        *moved(f.curtains(1.4, 2.42, style.accent(2)), -0.5, SOUTH + 0.06, 0.0, FACING_NORTH),
        *moved(desk, -0.55, -3.08, 0.0, FACING_NORTH),
        *moved(f.chair(OAK, style.fabric(2)), -0.55, -2.55, 0.0, FACING_SOUTH - 0.2),
        *moved(f.plant(rng, 1.5), 0.4, -3.05),
        *moved(f.plant(rng, 0.9, style.accent(2)), -3.75, 0.25),
        *moved(f.picture(1.1, 0.75, style.painting(0)), -2.6, MIDDLE - 0.06, 1.55, FACING_SOUTH),
        *moved(f.picture(0.55, 0.7, style.painting(1), OAK), -1.45, MIDDLE - 0.06, 1.55, FACING_SOUTH),
        *moved(f.picture(0.7, 0.9, style.painting(2), OAK), KITCHEN_WEST - 0.06, -2.5, 1.5, FACING_WEST),
        *moved(f.ceiling_lamp(0.5), -2.6, -1.4, 2.6),
    ]


def _kitchen(style: Style, rng: np.random.Generator) -> list[Solid]:
    front = hexed("#f2efe6") if style.seed % 2 else hexed("#3f6f6a")
    tiles = hexed("#f4f1e8 #e6e4da #b9c4bd", Texture.TILES, 0.1)
    table = [*f.table(1.3, 0.85, 0.75, OAK), *moved(fittings.table_setting(), 0.0, 0.0, 0.75)]
    chairs = [chair for x in (-0.33, 0.33) for side in (-1, 1)
              for chair in moved(f.chair(OAK, style.accent(1)), x, 0.55 * side, 0.0, -side * math.pi / 2.0)]
    return [
        *moved(fittings.kitchen_run(3.0, front, tiles, (-0.75, 0.55)), 4.13, -1.9, 0.0, FACING_WEST),
        *moved(fittings.fridge(style.accent(0)), 4.1, 0.15, 0.0, FACING_WEST),
        *moved([*table, *chairs], 2.4, -1.9),
        *moved(f.pendant(1.0, style.accent(1)), 2.4, -1.9, 2.6),
        *moved(f.curtains(1.6, 2.3, style.stripes(1, 0.02)), 2.4, SOUTH + 0.06, 0.0, FACING_NORTH),
        *moved(f.cabinet(0.4, 1.4, 0.85, OAK, 3, 2), 2.3, MIDDLE - 0.28, 0.0, FACING_SOUTH),
        *moved(f.vase(rng, 0.32), 1.85, 0.3, 0.85),
        *moved(f.books(0.45, rng), 2.6, 0.38, 0.85, FACING_SOUTH),
        *moved(f.picture(0.9, 0.6, style.painting(3)), 2.3, MIDDLE - 0.06, 1.55, FACING_SOUTH),
        *moved(f.plant(rng, 1.3, style.accent(3)), 1.2, -3.1),
        *moved(f.ceiling_lamp(0.3), 2.6, -0.3, 2.6),
    ]


def _bedroom(style: Style, rng: np.random.Generator) -> list[Solid]:
    stands = [solid for y in (0.98, 3.12) for solid in moved(
        [*f.cabinet(0.4, 0.42, 0.5, WALNUT, 1, 2), *moved(f.table_lamp(), 0.0, 0.0, 0.5)], -4.22, y)]
    return [
        *moved(f.rug(2.2, 1.3, style.rug(3)), -1.75, 2.0, 0.0, FACING_NORTH),
        *moved(f.bed(WALNUT, style.fabric(2), style.accent(0)), -3.38, 2.05),
        *stands,
        *moved(f.cabinet(0.58, 1.5, 2.1, WHITE, 3), -1.75, MIDDLE + 0.36, 0.0, FACING_NORTH),
        *moved(f.cabinet(0.4, 1.0, 0.75, OAK, 2, 3), -1.9, NORTH - 0.28, 0.0, FACING_SOUTH),
        *moved(f.vase(rng, 0.3), -2.15, NORTH - 0.28, 0.75),
        *moved(f.books(0.3, rng), -1.6, NORTH - 0.2, 0.75, FACING_SOUTH),
        *moved(f.curtains(1.4, 2.4, style.accent(3)), -1.9, NORTH - 0.06, 0.0, FACING_SOUTH),
        *moved(f.picture(1.2, 0.7, style.painting(4), WALNUT), WEST + 0.06, 2.05, 1.6, FACING_EAST),
        *moved(f.picture(0.5, 0.65, style.painting(5)), -3.3, MIDDLE + 0.06, 1.55, FACING_NORTH),
        *moved(f.plant(rng, 1.1, WHITE), -0.88, 3.1),
        *_leaf(BEDROOM_EAST - 0.08, 2.5, FACING_WEST - 0.1),
        *moved(f.ceiling_lamp(), -2.0, 2.0, 2.6),
    ]


def _hall(style: Style, rng: np.random.Generator) -> list[Solid]:
    entrance = [Box((0.0, 0.0, 1.03), (0.04, 0.92, 2.06), style.fabric(1), Label.DOOR),
                Box((0.02, 0.0, 1.45), (0.02, 0.6, 0.5), hexed("#cfe3ee", emission=0.6), Label.DOOR),
                Box((0.02, 0.0, 0.6), (0.02, 0.6, 0.7), style.fabric(1), Label.DOOR),
                standing(Sphere, 0.06, 0.38, 1.0, (0.06, 0.06, 0.06), f.STEEL, Label.DOOR)]
    frame = [Box((0.0, y, 1.07), (0.06, 0.08, 2.14), TRIM, Label.DOOR) for y in (-0.5, 0.5)]
    frame.append(Box((0.0, 0.0, 2.1), (0.06, 0.92, 0.08), TRIM, Label.DOOR))
    umbrellas = [standing(Cylinder, 0.0, 0.0, 0.0, (0.22, 0.22, 0.5), style.accent(2), Label.OBJECT),
                 standing(Cylinder, 0.03, 0.02, 0.5, (0.03, 0.03, 0.3), f.BLACK, Label.OBJECT),
                 standing(Cylinder, -0.04, -0.02, 0.5, (0.03, 0.03, 0.24), WALNUT, Label.OBJECT)]
    return [
        *moved(f.rug(2.2, 0.75, style.rug(2)), 0.35, 2.0, 0.0, FACING_NORTH),
        *moved([*entrance, *frame], 0.5, NORTH - 0.08, 0.0, FACING_SOUTH),
        *moved(fittings.coat_rack(rng), BATH_WEST - 0.06, 2.95, 0.0, FACING_WEST),
        *moved(fittings.shoe_bench(), BATH_WEST - 0.25, 1.1, 0.0, FACING_WEST),
        *moved(f.picture(0.6, 0.8, style.painting(1)), BATH_WEST - 0.06, 1.1, 1.5, FACING_WEST),
        *moved(f.picture(0.5, 0.5, style.painting(2)), BEDROOM_EAST + 0.06, 1.05, 1.55, FACING_EAST),
        *moved(f.cabinet(0.28, 0.75, 0.85, WALNUT, 1, 3), BEDROOM_EAST + 0.22, 3.0, 0.0, FACING_EAST),
        *moved(f.plant(rng, 0.5, style.accent(0)), BEDROOM_EAST + 0.22, 3.1, 0.85),
        *moved(umbrellas, -0.3, 1.15),
        *moved(f.ceiling_lamp(), 0.5, 2.1, 2.6),
    ]


def _bath(style: Style, rng: np.random.Generator) -> list[Solid]:
    mat = hexed(" ".join((style.accents[2], "#f4f2ea")), Texture.STRIPES, 0.08)
    band = [Box((3.05, MIDDLE + 0.064, 1.3), (2.78, 0.01, 0.1), style.accent(2), Label.WALL),
            Box((3.05, NORTH - 0.064, 1.3), (2.78, 0.01, 0.1), style.accent(2), Label.WALL)]
    return [
        *band,
        *moved(fittings.bathtub(), 3.58, NORTH - 0.445, 0.0, FACING_NORTH),
        *moved(fittings.washing_machine(), 2.1, NORTH - 0.36, 0.0, FACING_SOUTH),
        *moved(fittings.towel_rail((style.accent(0), style.accent(2))), EAST - 0.06, 1.35, 0.0, FACING_WEST),
        *moved(fittings.toilet(), 3.9, MIDDLE + 0.42, 0.0, FACING_NORTH),
        *moved(fittings.washbasin(OAK), 2.95, MIDDLE + 0.31, 0.0, FACING_NORTH),
        *moved(f.rug(0.9, 0.6, mat), 3.3, 2.1),
        *moved(f.plant(rng, 0.6, style.accent(1)), 2.1, NORTH - 0.3, 0.85),
        *_leaf(BATH_WEST + 0.08, 1.43, 0.12),
        *moved(f.ceiling_lamp(), 2.9, 1.9, 2.6),
    ]


def _leaf(x: float, y: float, yaw: float) -> list[Solid]:
    """An open door leaf that reaches 0.9 m from its hinge at (x, y) towards `yaw`."""
    leaf = [standing(Box, 0.45, 0.0, 0.01, (0.9, 0.04, 2.0), WHITE, Label.DOOR),
            standing(Sphere, 0.84, 0.05, 1.0, (0.06, 0.06, 0.06), f.STEEL, Label.DOOR),
            standing(Sphere, 0.84, -0.05, 1.0, (0.06, 0.06, 0.06), f.STEEL, Label.DOOR)]
    for side in (-1, 1):
        for z, height in ((0.2, 0.7), (1.1, 0.75)):
            leaf.append(standing(Box, 0.45, side * 0.022, z, (0.62, 0.012, height), TRIM, Label.DOOR))
    return moved(leaf, x, y, 0.0, yaw)
