"""A street between facades: pavements, road, trees, lamp posts, parked cars, people, under sun or clouds.

Road and pavements are level but for kerbs of 2 cm, so that a robot may cross. Above the roofs is nothing: rays leave
the scene there and see the sky's light, without depth.
"""

from __future__ import annotations

import math

import numpy as np

from worldfm_ros.scenes import furniture as f
from worldfm_ros.scenes import looks, props
from worldfm_ros.scenes.building import between
from worldfm_ros.scenes.furniture import BLACK, GLOW, STEEL, WHITE, Label, standing
from worldfm_ros.scenes.placement import Area, Wall
from worldfm_ros.scenes.props import Prop
from worldfm_ros.scenes.scene import (
    Box,
    Cylinder,
    Light,
    Material,
    Scene,
    Solid,
    Sphere,
    Texture,
    Vector,
    moved,
)

MOST_SOLIDS = 820
LEAVES = ("#5c9a42 #2f6a2e", "#86a83e #55782a", "#c98a35 #8a5520", "#3f7f4a #1f5330", "#b4553a #7a3226")
DARK_GLASS = Material.hex("#27313c #56697a", Texture.NOISE, 0.7)
PALE_GLASS = Material.hex("#8fb3cc #d5e3ea", Texture.NOISE, 0.9)
LIT_GLASS = Material.hex("#f2c878", emission=0.9)
ASPHALT = (0.27, 0.27, 0.28)
SKIES: tuple[tuple[Vector, Vector, float], ...] = (  # linear sky, linear sun, its least height as a slope
    ((0.42, 0.56, 0.80), (2.6, 2.3, 1.9), 0.6),  # a clear day
    ((0.80, 0.84, 0.90), (0.5, 0.5, 0.5), 1.2),  # clouds
    ((0.50, 0.42, 0.48), (2.6, 1.5, 0.8), 0.4),  # evening
)


def street(seed: int = 0) -> Scene:
    """A street of 18 to 24 m by `seed`, closed by houses at both ends."""
    rng = np.random.default_rng([seed, 4])
    length, road, walk = rng.uniform(18.0, 24.0), rng.uniform(5.0, 6.4), rng.uniform(2.2, 3.2)
    half = road / 2.0 + walk
    area = Area((-length / 2.0, length / 2.0), (-half, half),
                [Wall((0.0, -half), math.pi / 2.0, length, 3.0), Wall((0.0, half), -math.pi / 2.0, length, 3.0)])
    ends = [Wall((-length / 2.0, 0.0), 0.0, 2.0 * half + 0.6, 3.0),
            Wall((length / 2.0, 0.0), math.pi, 2.0 * half + 0.6, 3.0)]
    solids = _ground(rng, length, road, half)
    for wall in (*area.walls, *ends):
        solids += _row_of_houses(rng, wall)
    area.keep_free((-length / 2.0, length / 2.0), (-0.35, 0.35))  # nothing is parked in the middle of the road
    _kerbside(rng, area, road)
    _park(rng, area, road)
    _furnish(rng, area, MOST_SOLIDS - len(solids))
    sky, lights = _sky(rng)
    lamps = [s for s in area.solids if s.label == Label.LAMP and s.material.emission > 0.0]
    lights += [looks.lamp_light(lamp, (1.2, 0.9, 0.6), rng.uniform(1.0, 3.0), downwards=True) for lamp in lamps]
    return Scene("street", (*solids, *area.solids), tuple(lights), sky, props.NAMES, rng.uniform(0.95, 1.25))


def _sky(rng: np.random.Generator) -> tuple[Vector, list[Light]]:
    """The sky's light and the sun."""
    sky, sun, slope = looks.pick(rng, SKIES)
    azimuth, power = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.7, 1.2)
    where = (60.0 * math.cos(azimuth), 60.0 * math.sin(azimuth), 60.0 * rng.uniform(slope, slope + 1.0))
    strength = power * float(np.dot(where, where))
    light = Light(where, tuple(strength * c for c in sun), (2.0, 2.0, 0.0))
    return tuple(rng.uniform(0.8, 1.2) * c for c in sky), [light]


def _ground(rng: np.random.Generator, length: float, road: float, half: float) -> list[Solid]:
    """Asphalt with lines, a crossing and covers; paved walks with kerbs."""
    x, edge = (-length / 2.0 - 0.3, length / 2.0 + 0.3), road / 2.0
    tint = rng.uniform(1.1, 1.7)
    asphalt = Material((looks.shaded(ASPHALT, tint), looks.shaded(ASPHALT, 0.7 * tint)), Texture.NOISE,
                       rng.uniform(0.02, 0.08))
    paving = looks.pick(rng, (looks.brick(rng), looks.tiles(rng, rng.uniform(0.3, 0.6)), looks.tiles(rng, 0.2)))
    solids = [between(x, (-edge, edge), (-0.1, 0.0), asphalt, Prop.ROAD)]
    for side in (-1, 1):
        solids.append(between(x, sorted((side * edge, side * (half + 0.3))), (-0.1, 0.0), paving, Prop.PAVEMENT))
        solids.append(between(x, sorted((side * edge, side * (edge + 0.15))), (-0.05, 0.02), looks.grey(rng, 0.5, 0.8),
                              Prop.PAVEMENT))
    crossing = rng.uniform(-0.3, 0.3) * length
    for k in range(int(road / 0.9)):
        y = -edge + 0.45 + 0.9 * k
        solids.append(standing(Box, crossing, y, 0.0, (2.2, 0.45, 0.004), WHITE, Prop.MARKING))
    for k in range(int(length / 3.0)):
        dash = -length / 2.0 + 1.5 + 3.0 * k
        if abs(dash - crossing) > 2.0:
            solids.append(standing(Box, dash, 0.0, 0.0, (1.4, 0.12, 0.004), WHITE, Prop.MARKING))
    for _ in range(3):
        cover = Material.hex("#6d6a66 #4c4a48 #2c2b2a", Texture.TILES, 0.08)
        solids.append(standing(Cylinder, rng.uniform(-0.4, 0.4) * length, rng.uniform(-0.3, 0.3) * road, 0.0,
                               (0.65, 0.65, 0.006), cover, Prop.MARKING))
    return solids


def _row_of_houses(rng: np.random.Generator, wall: Wall) -> list[Solid]:
    """Facades side by side along a wall, each its own width and height."""
    solids, start = [], -wall.length / 2.0
    while start < wall.length / 2.0 - 0.1:
        rest = wall.length / 2.0 - start
        width = rest if rest < 9.0 else rng.uniform(4.5, min(8.5, rest - 4.0))
        solids += wall.place(facade(rng, width, rng.uniform(4.5, 8.5)), start + width / 2.0, 0.0)
        start += width
    return solids


def facade(rng: np.random.Generator, width: float, height: float) -> list[Solid]:
    """The front of a house in the plane x = 0: a shop or a dwelling below, windows above."""
    skin, trim = looks.wall_covering(rng), looks.grey(rng, 0.5, 0.95)
    solids = [standing(Box, -0.25, 0.0, -0.1, (0.5, width, height + 0.1), skin, Prop.BUILDING),
              standing(Box, 0.0, 0.0, 0.0, (0.06, width, 0.4), looks.concrete(rng), Prop.BUILDING),
              standing(Box, 0.05, 0.0, height - 0.25, (0.4, width, 0.25), trim, Prop.BUILDING),
              standing(Box, 0.02, 0.0, 3.0, (0.12, width, 0.15), trim, Prop.BUILDING)]
    ground = looks.pick(rng, (_shop, _dwelling, _dwelling, _garage))
    solids += ground(rng, width, trim)
    columns, floors = max(int(width / rng.uniform(1.9, 2.6)), 1), int((height - 3.2) / 2.3)
    wide, tall, shutters = rng.uniform(0.8, 1.1), rng.uniform(1.2, 1.6), rng.random() < 0.35
    paint = looks.paint(rng)
    for floor in range(floors):
        for k in range(columns):
            y = ((k + 0.5) / columns - 0.5) * width
            solids += moved(window(rng, wide, tall, trim, paint if shutters else None), 0.0, y, 3.4 + 2.3 * floor)
    return solids


def window(rng: np.random.Generator, wide: float, tall: float, trim: Material, shutter: Material | None) -> list[Solid]:
    """A window whose lower edge is at z = 0, perhaps with shutters or flowers."""
    glass = looks.pick(rng, (DARK_GLASS, DARK_GLASS, PALE_GLASS, PALE_GLASS, LIT_GLASS))
    solids = [standing(Box, 0.0, 0.0, 0.0, (0.08, wide, tall), trim, Label.WINDOW),
              standing(Box, 0.01, 0.0, 0.06, (0.08, wide - 0.12, tall - 0.12), glass, Label.WINDOW),
              standing(Box, 0.03, 0.0, 0.06, (0.06, 0.05, tall - 0.12), trim, Label.WINDOW)]
    if shutter is not None:
        solids += [standing(Box, 0.02, side * 0.78 * wide, 0.0, (0.06, 0.5 * wide, tall), shutter, Label.WINDOW)
                   for side in (-1, 1)]
    elif rng.random() < 0.3:
        bloom = Material((looks.color(rng, (0.5, 0.9), (0.6, 0.95)), (0.2, 0.45, 0.2)), Texture.NOISE, 0.06)
        solids.append(standing(Box, 0.14, 0.0, -0.05, (0.2, wide, 0.3), bloom, Prop.TREE))
    return solids


def _door(rng: np.random.Generator, trim: Material) -> list[Solid]:
    leaf = looks.pick(rng, (looks.paint, looks.timber))(rng)
    return [standing(Box, 0.02, 0.0, 0.0, (0.1, 1.15, 2.25), trim, Label.DOOR),
            standing(Box, 0.04, 0.0, 0.0, (0.1, 0.95, 2.1), leaf, Label.DOOR),
            standing(Box, 0.06, 0.0, 1.2, (0.08, 0.5, 0.6), DARK_GLASS, Label.DOOR),
            standing(Sphere, 0.11, 0.38, 1.0, (0.06, 0.06, 0.06), STEEL, Label.DOOR),
            standing(Box, 0.02, 0.8, 1.6, (0.1, 0.3, 0.2), looks.picture_paint(rng), Label.PICTURE)]


def _dwelling(rng: np.random.Generator, width: float, trim: Material) -> list[Solid]:
    """A door between windows."""
    columns = max(int(width / 1.9), 1)
    entry, shutter = int(rng.integers(columns)), looks.paint(rng) if rng.random() < 0.3 else None
    solids: list[Solid] = []
    for k in range(columns):
        part = _door(rng, trim) if k == entry else moved(window(rng, 1.0, 1.5, trim, shutter), 0.0, 0.0, 0.9)
        solids += moved(part, 0.0, ((k + 0.5) / columns - 0.5) * width)
    return solids


def _shop(rng: np.random.Generator, width: float, trim: Material) -> list[Solid]:
    """Display windows full of goods, a sign with letters, an awning."""
    pane, frame = (width - 1.9) / 2.0, looks.paint(rng)
    solids = [*_door(rng, trim)]
    for side in (-1, 1):
        y = side * (0.75 + pane / 2.0)
        solids += [standing(Box, 0.02, y, 0.4, (0.1, pane, 2.0), frame, Label.WINDOW),
                   standing(Box, 0.03, y, 0.5, (0.1, pane - 0.16, 1.8), looks.picture_paint(rng), Label.WINDOW)]
    sign, ink = looks.paint(rng), looks.paint(rng)
    solids.append(standing(Box, 0.06, 0.0, 2.45, (0.12, width - 0.6, 0.5), sign, Label.PICTURE))
    for k in range(rng.integers(4, 8)):
        solids.append(standing(Box, 0.125, (k - 3) * 0.3, 2.55, (0.01, rng.uniform(0.08, 0.24), rng.uniform(0.15, 0.3)),
                               ink, Label.PICTURE))
    if rng.random() < 0.6:
        cloth = Material((looks.color(rng, (0.4, 0.9)), (0.95, 0.93, 0.88)), Texture.STRIPES, rng.uniform(0.12, 0.3))
        solids += [standing(Box, 0.38 + 0.25 * k, 0.0, 2.38 - 0.06 * k, (0.55, width - 0.4, 0.05), cloth, Label.CURTAIN)
                   for k in range(2)]
    return solids


def _garage(rng: np.random.Generator, width: float, trim: Material) -> list[Solid]:
    """A gate of boards, posters beside it."""
    wide = min(width - 1.6, 3.0)
    base = looks.color(rng, (0.0, 0.7), (0.3, 0.9))
    boards = Material((base, looks.shaded(base, 0.85), looks.shaded(base, 0.4)), Texture.PLANKS, rng.uniform(0.12, 0.3))
    posters = [Box((0.01, side * (wide / 2.0 + 0.45), 1.6), (0.03, 0.6, 0.85), looks.picture_paint(rng), Label.PICTURE)
               for side in (-1, 1)]
    return [standing(Box, 0.01, 0.0, 0.0, (0.1, wide + 0.3, 2.6), trim, Label.DOOR),
            standing(Box, 0.03, 0.0, 0.0, (0.1, wide, 2.45), boards, Label.DOOR), *posters]


def _kerbside(rng: np.random.Generator, area: Area, road: float) -> None:
    """A lamp post, then trees, more lamp posts, bollards and signs in a row along both kerbs."""
    for side in (-1, 1):
        y, x, make = side * (road / 2.0 + 0.5), area.x[0] + rng.uniform(1.0, 3.0), lamp_post
        while x < area.x[1] - 1.0:
            area.put(moved(make(rng), x, y, 0.0, -side * math.pi / 2.0), 0.0)
            make = looks.pick(rng, (tree, tree, lamp_post, _sign_post, _bollards, _hydrant))
            x += rng.uniform(2.2, 4.2)


def _park(rng: np.random.Generator, area: Area, road: float) -> None:
    """Cars along both kerbs, gaps between."""
    for side in (-1, 1):
        x = area.x[0] + rng.uniform(2.8, 5.0)
        while x < area.x[1] - 2.8:
            if rng.random() < 0.8:
                turn = rng.uniform(-0.03, 0.03) + (math.pi if side > 0 else 0.0)
                area.put(moved(car(rng), x, side * (road / 2.0 - 0.98), 0.0, turn), 0.0)
            x += rng.uniform(4.8, 6.5)


def _furnish(rng: np.random.Generator, area: Area, most: int) -> None:
    """Benches, bins, plants and goods along the facades; people and cones anywhere."""
    pieces = (_bench, _bin, _crates, _crates, lambda rng: f.plant(rng, rng.uniform(0.8, 1.6), looks.paint(rng)))
    for _ in range(rng.integers(3, 8)):
        if len(area.solids) + 13 < most:
            area.amid(rng, props.person(rng), 0.3)
    for _ in range(12):
        if len(area.solids) + 20 < most:
            area.against(rng, looks.pick(rng, pieces)(rng), 0.12)


def tree(rng: np.random.Generator) -> list[Solid]:
    """Its crown begins above a robot's head."""
    high, wide, leaf = rng.uniform(1.9, 2.6), rng.uniform(1.3, 2.1), Material.hex(
        looks.pick(rng, LEAVES), Texture.NOISE, rng.uniform(0.08, 0.2))
    bark = Material.hex("#6b5138 #473423", Texture.NOISE, 0.06)
    solids = [standing(Cylinder, 0.0, 0.0, 0.0, (0.2, 0.2, high + 0.8), bark, Prop.TREE),
              standing(Box, 0.0, 0.0, 0.0, (0.8, 0.8, 0.006), Material.hex("#4a3a2c #2f251c", Texture.NOISE, 0.05),
                       Prop.TREE)]
    for k in range(9):
        angle, reach = 2.4 * k, 0.32 * wide * (k > 0)
        size = wide * rng.uniform(0.45, 0.7)
        solids.append(standing(Sphere, reach * math.cos(angle), reach * math.sin(angle), high + 0.16 * wide * (k % 4),
                               (size, size, 0.75 * size), leaf, Prop.TREE))
    return solids


def lamp_post(rng: np.random.Generator) -> list[Solid]:
    height, paint = rng.uniform(3.4, 4.6), looks.grey(rng, 0.1, 0.4)
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.24, 0.24, 0.5), paint, Prop.POLE),
            standing(Cylinder, 0.0, 0.0, 0.5, (0.12, 0.12, height - 0.5), paint, Prop.POLE),
            standing(Box, 0.4, 0.0, height - 0.06, (0.9, 0.07, 0.06), paint, Prop.POLE),
            standing(Box, 0.75, 0.0, height - 0.1, (0.5, 0.22, 0.04), GLOW, Label.LAMP)]


def _sign_post(rng: np.random.Generator) -> list[Solid]:
    height = rng.uniform(2.2, 2.8)
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.07, 0.07, height), STEEL, Prop.POLE),
            standing(Box, 0.05, 0.0, height - 0.6, (0.02, 0.6, 0.6), looks.paint(rng), Prop.POLE),
            standing(Box, 0.06, 0.0, height - 0.55, (0.01, 0.5, 0.5), looks.picture_paint(rng), Prop.POLE),
            standing(Box, 0.05, 0.0, height - 0.95, (0.02, 0.5, 0.25), WHITE, Prop.POLE)]


def _bollards(rng: np.random.Generator) -> list[Solid]:
    paint, band = looks.paint(rng), looks.paint(rng)
    return [solid for y in (-0.7, 0.7) for solid in (
        standing(Cylinder, 0.0, y, 0.0, (0.14, 0.14, 0.9), paint, Prop.POLE),
        standing(Cylinder, 0.0, y, 0.65, (0.15, 0.15, 0.12), band, Prop.POLE))]


def _hydrant(rng: np.random.Generator) -> list[Solid]:
    paint = looks.paint(rng)
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.26, 0.26, 0.6), paint, Prop.POLE),
            standing(Sphere, 0.0, 0.0, 0.48, (0.28, 0.28, 0.28), paint, Prop.POLE),
            standing(Box, 0.0, 0.0, 0.4, (0.12, 0.4, 0.12), STEEL, Prop.POLE)]


def car(rng: np.random.Generator) -> list[Solid]:
    """About 4.2 m long, 1.75 m wide, bonnet towards +x."""
    paint, long, tall = looks.paint(rng), rng.uniform(3.8, 4.5), rng.uniform(0.5, 0.75)
    cabin = rng.uniform(0.45, 0.62) * long
    back = -0.08 * long
    solids = [standing(Box, 0.0, 0.0, 0.22, (long, 1.7, 0.38), paint, Prop.VEHICLE),
              standing(Box, 0.0, 0.0, 0.6, (long - 0.12, 1.6, 0.26), paint, Prop.VEHICLE),
              standing(Box, back, 0.0, 0.86, (cabin, 1.46, tall), DARK_GLASS, Prop.VEHICLE),
              standing(Box, back, 0.0, 0.84 + tall, (cabin - 0.25, 1.5, 0.06), paint, Prop.VEHICLE)]
    for x in (-0.5 * cabin + 0.05, 0.0, 0.5 * cabin - 0.05):
        solids.append(standing(Box, back + x, 0.0, 0.86, (0.09, 1.49, tall), paint, Prop.VEHICLE))
    for end, shine in ((1, "#f6f2dc"), (-1, "#b02020")):
        solids.append(standing(Box, end * long / 2.0, 0.0, 0.3, (0.08, 1.72, 0.14), BLACK, Prop.VEHICLE))
        solids.append(standing(Box, end * (long / 2.0 + 0.04), 0.0, 0.33, (0.01, 0.5, 0.1), WHITE, Prop.VEHICLE))
        for side in (-1, 1):
            solids.append(standing(Box, end * (long / 2.0 - 0.04), 0.6 * side, 0.5, (0.12, 0.36, 0.14),
                                   Material.hex(shine), Prop.VEHICLE))
            wheel = (end * 0.31 * long, 0.78 * side)
            solids += [standing(Sphere, *wheel, 0.0, (0.64, 0.26, 0.64), BLACK, Prop.VEHICLE),
                       standing(Sphere, *wheel, 0.14, (0.36, 0.28, 0.36), STEEL, Prop.VEHICLE)]
    return solids


def _bench(rng: np.random.Generator) -> list[Solid]:
    wood, iron = looks.timber(rng), looks.grey(rng, 0.1, 0.4)
    boards = [standing(Box, -0.14 + 0.14 * k, 0.0, 0.42, (0.11, 1.5, 0.035), wood, Label.CHAIR) for k in range(3)]
    boards += [standing(Box, -0.25, 0.0, z, (0.035, 1.5, 0.1), wood, Label.CHAIR) for z in (0.55, 0.72)]
    return [*boards, *(standing(Box, -0.02, y, 0.0, (0.4, 0.06, 0.42), iron, Label.CHAIR) for y in (-0.6, 0.6)),
            *(standing(Box, -0.25, y, 0.4, (0.04, 0.06, 0.42), iron, Label.CHAIR) for y in (-0.6, 0.6))]


def _bin(rng: np.random.Generator) -> list[Solid]:
    return [standing(Cylinder, 0.0, 0.0, 0.0, (0.45, 0.45, 0.8), looks.paint(rng), Label.OBJECT),
            standing(Cylinder, 0.0, 0.0, 0.8, (0.48, 0.48, 0.08), BLACK, Label.OBJECT),
            standing(Box, 0.2, 0.0, 0.35, (0.08, 0.24, 0.24), looks.picture_paint(rng), Label.OBJECT)]


def _crates(rng: np.random.Generator) -> list[Solid]:
    """Cartons piled up by a door."""
    return [solid for k in range(rng.integers(2, 4)) for solid in moved(
        props.carton(rng, 0.45, 0.5, 0.35), 0.0, 0.55 * (k // 2), 0.353 * (k % 2))]
