"""A warehouse: pallet racks along aisles, goods on the floor, a forklift, people, panel lights under a high ceiling."""

from __future__ import annotations

import numpy as np

from worldfm_ros.scenes import interiors, looks, props
from worldfm_ros.scenes.building import Opening, Plan, Room
from worldfm_ros.scenes.furniture import BLACK, GLOW, STEEL, Label, standing, table
from worldfm_ros.scenes.placement import Area, clutter
from worldfm_ros.scenes.props import Prop
from worldfm_ros.scenes.scene import Box, Cylinder, Material, Scene, Solid, Sphere, Texture, moved

BAY, DEEP = 2.7, 1.0  # metres; length and depth of a rack's bay
MOST_SOLIDS = 850
BARE = Material.hex("#b8925f #8f6c42", Texture.WOOD)
CONE_ORANGE, CONE_WHITE = Material.hex("#e8641e"), Material.hex("#f4f2ee")
YELLOW = Material.hex("#e3b81f")


def warehouse(seed: int = 0) -> Scene:
    """A hall of about 90 to 170 m^2 by `seed`."""
    rng = np.random.default_rng([seed, 3])
    plan = floor_plan(rng)
    area = interiors.interior(plan.rooms["hall"], plan)
    tint = looks.light_color(rng)
    _racks(rng, area)
    _floor_goods(rng, area)
    panels, lights = interiors.ceiling_panels(rng, area, plan.height, tint, rng.uniform(0.65, 0.95), 4.0)
    ceiling = Material.hex("#9aa0a4 #878d92", Texture.STRIPES, 0.25) if rng.random() < 0.5 else looks.planks(rng)
    solids = [*interiors.shell_under(ceiling, plan), *area.solids, *panels, *_girders(rng, area),
              *_pipes(rng, area)]
    ambient = tuple(rng.uniform(0.12, 0.22) * c for c in looks.light_color(rng))
    lights += interiors.sunshine(rng, plan)
    return Scene("warehouse", tuple(solids), tuple(lights), ambient, props.NAMES, rng.uniform(0.8, 1.25))


def floor_plan(rng: np.random.Generator) -> Plan:
    """One hall, windows high up in some of its walls."""
    length, width, height = rng.uniform(11.0, 15.0), rng.uniform(8.0, 11.5), rng.uniform(4.4, 5.8)
    clad = Material((looks.color(rng, (0.0, 0.35), (0.5, 0.85)), looks.color(rng, (0.0, 0.3), (0.5, 0.85))),
                    Texture.STRIPES, rng.uniform(0.06, 0.3))
    walls = looks.pick(rng, (clad, clad, looks.brick(rng), looks.brick(rng), looks.concrete(rng)))
    floor = looks.pick(rng, (looks.concrete(rng), looks.concrete(rng), looks.tiles(rng, rng.uniform(0.6, 1.5))))
    windows = [Opening(1, line, x, x + 1.6, height - 1.5, height - 0.6)
               for line in (0.0, width) for x in np.arange(1.0, length - 2.0, rng.uniform(2.6, 4.0))
               if rng.random() < 0.5]
    return Plan({"hall": Room(0.0, 0.0, length, width, walls, floor, skirting=False)}, (), tuple(windows), height)


def _racks(rng: np.random.Generator, area: Area) -> None:
    """Rows of racks along x, single or back to back, aisles between them, and lines on the floor beside them."""
    steel, beam = looks.paint(rng), looks.pick(rng, (CONE_ORANGE, YELLOW, looks.paint(rng)))
    aisle, y = rng.uniform(2.3, 3.2), area.y[0] + 0.1
    bays = min(int((area.x[1] - area.x[0] - 3.6) / BAY), int(rng.integers(3, 5)))
    start = area.x[0] + rng.uniform(1.7, area.x[1] - area.x[0] - bays * BAY - 1.7)
    rows = []
    while y + DEEP < area.y[1]:
        rows.append(y + DEEP / 2.0)
        y += DEEP + (0.1 if len(rows) % 2 == 0 and rng.random() < 0.4 else aisle)
    fill = min(1.0, 0.45 * MOST_SOLIDS / (len(rows) * bays * 48.0))
    for row in rows:
        levels, pitch = int(rng.integers(2, 4)), rng.uniform(1.3, 1.6)
        levels = min(levels, int((area.walls[0].height - 0.8) / pitch))
        area.put(_rack(rng, start, row, bays, levels, pitch, fill, (steel, beam)), 0.0)
        for side in (-1, 1):
            area.solids.append(standing(Box, start + bays * BAY / 2.0, row + side * (DEEP / 2.0 + 0.25), 0.0,
                                        (bays * BAY, 0.1, 0.004), YELLOW, Prop.MARKING))


def _rack(rng: np.random.Generator, start: float, row: float, bays: int, levels: int, pitch: float, fill: float,
          paints: tuple[Material, Material]) -> list[Solid]:
    """Uprights, beams and decks, and loads on `fill` of the places; the lowest loads stand on the floor."""
    steel, beam = paints
    height, solids = levels * pitch + 0.3, []
    for k in range(bays + 1):
        x = start + k * BAY
        for side in (-1, 1):
            solids.append(standing(Box, x, row + side * (DEEP / 2.0 - 0.05), 0.0, (0.1, 0.1, height), steel, Prop.RACK))
        solids += [standing(Box, x, row, z, (0.04, DEEP - 0.2, 0.06), steel, Prop.RACK)
                   for z in np.arange(0.5, height - 0.1, 0.9)]
    for k in range(bays):
        x = start + (k + 0.5) * BAY
        for level in range(levels + 1):
            z = level * pitch
            if level:
                solids += [standing(Box, x, row + side * (DEEP / 2.0 - 0.03), z - 0.12, (BAY - 0.1, 0.05, 0.12), beam,
                                    Prop.RACK) for side in (-1, 1)]
                solids.append(standing(Box, x, row, z - 0.03, (BAY - 0.1, DEEP - 0.1, 0.03), BARE, Prop.RACK))
            for side in (-0.63, 0.63):
                if rng.random() < fill and level < levels + rng.integers(0, 2):
                    tall = min(pitch - 0.35, 1.2)
                    solids += moved(load(rng, 1.1, DEEP - 0.15, tall), x + side, row, z)
    return solids


def load(rng: np.random.Generator, length: float, width: float, height: float) -> list[Solid]:
    """A pallet with one thing on it: a large carton, a stack of cartons, drums or sacks; up to `height` above z = 0."""
    room, kind = (height - 0.14) * rng.uniform(0.55, 1.0), rng.random()
    if kind < 0.35:
        goods = props.carton(rng, length * rng.uniform(0.8, 1.0), width * rng.uniform(0.8, 1.0), room)
    elif kind < 0.7:
        goods = [s for i in (-1, 1) for k in range(rng.integers(1, 3)) for s in moved(props.carton(
            rng, length * rng.uniform(0.36, 0.48), width * rng.uniform(0.7, 0.95), room / 2.0),
            i * length / 4.0, 0.0, k * (room / 2.0 + 0.003))]
    elif kind < 0.85:
        paint, band = looks.paint(rng), looks.paint(rng)
        goods = [solid for i in (-1, 1) for solid in (
            standing(Cylinder, i * length / 4.0, 0.0, 0.0, (0.48, 0.48, room), paint, Label.OBJECT),
            standing(Cylinder, i * length / 4.0, 0.0, 0.4 * room, (0.49, 0.49, 0.15 * room), band, Label.OBJECT))]
    else:
        cloth, count = looks.fabric(rng), max(int(room / 0.16), 1)
        goods = [standing(Sphere, 0.0, 0.0, 0.13 * k, (length * rng.uniform(0.8, 1.0), width * rng.uniform(0.8, 1.0),
                                                       0.24), cloth, Label.OBJECT) for k in range(min(count, 4))]
    return [*pallet(length, width), *moved(goods, 0.0, 0.0, 0.14)]


def pallet(length: float, width: float) -> list[Solid]:
    runners = [standing(Box, 0.0, y * (width - 0.1) / 2.0, 0.0, (length, 0.1, 0.11), BARE, Prop.PALLET)
               for y in (-1, 1)]
    return [standing(Box, 0.0, 0.0, 0.11, (length, width, 0.03), BARE, Prop.PALLET), *runners]


def cone(rng: np.random.Generator) -> list[Solid]:
    """A traffic cone in five steps."""
    height = rng.uniform(0.5, 0.8)
    rings = [standing(Cylinder, 0.0, 0.0, 0.03 + 0.19 * k * height, (0.3 - 0.052 * k, 0.3 - 0.052 * k, 0.19 * height),
                      CONE_WHITE if k in (1, 3) else CONE_ORANGE, Prop.CONE) for k in range(5)]
    return [standing(Box, 0.0, 0.0, 0.0, (0.36, 0.36, 0.03), BLACK, Prop.CONE), *rings]


def forklift(rng: np.random.Generator) -> list[Solid]:
    """Forks towards +x; 2.6 m long with them."""
    paint, lift = looks.pick(rng, (YELLOW, CONE_ORANGE, looks.paint(rng))), rng.uniform(0.05, 0.8)
    solids = [standing(Box, -0.35, 0.0, 0.15, (1.3, 0.95, 0.5), paint, Prop.VEHICLE),
              standing(Box, -0.85, 0.0, 0.3, (0.4, 1.0, 0.65), BLACK, Prop.VEHICLE),
              standing(Box, -0.35, 0.0, 0.65, (0.45, 0.5, 0.15), BLACK, Prop.VEHICLE),
              standing(Box, -0.56, 0.0, 0.8, (0.1, 0.5, 0.45), BLACK, Prop.VEHICLE),
              standing(Box, 0.15, 0.0, 0.65, (0.12, 0.6, 0.4), paint, Prop.VEHICLE),
              standing(Box, -0.4, 0.0, 2.0, (1.1, 0.95, 0.05), BLACK, Prop.VEHICLE),
              standing(Box, 0.42, 0.0, 0.1 + lift, (0.06, 0.9, 0.4), STEEL, Prop.VEHICLE),
              standing(Sphere, -0.85, 0.3, 2.05, (0.12, 0.12, 0.14), CONE_ORANGE, Prop.VEHICLE)]
    for side in (-1, 1):
        solids += [standing(Box, 0.36, 0.3 * side, 0.1, (0.1, 0.1, 2.0), STEEL, Prop.VEHICLE),
                   standing(Box, 0.95, 0.25 * side, 0.08 + lift, (1.05, 0.12, 0.04), STEEL, Prop.VEHICLE)]
        for x in (-0.9, 0.1):
            solids += [standing(Box, x, 0.43 * side, 0.6, (0.05, 0.05, 1.4), BLACK, Prop.VEHICLE),
                       standing(Sphere, x + 0.05, 0.46 * side, 0.0, (0.5, 0.2, 0.5), BLACK, Prop.VEHICLE)]
    return solids


def _floor_goods(rng: np.random.Generator, area: Area) -> None:
    """Gates, what stands along the walls and in the aisles, posters and signs."""
    for _ in range(rng.integers(1, 4)):
        placed = area.hang(rng, _gate(rng), (0.0, 0.0))
        if placed:
            x, y, _ = placed[0].centre
            area.keep_free((x - 1.3, x + 1.3), (y - 1.3, y + 1.3))
    area.amid(rng, forklift(rng), 0.6)
    for _ in range(6):
        area.amid(rng, looks.pick(rng, (_loaded, cone, cone, _trolley, props.person))(rng), 0.6)
    for _ in range(10):
        if len(area.solids) < 0.8 * MOST_SOLIDS:
            area.against(rng, looks.pick(rng, (_loaded, _loaded, _workbench, _shelf))(rng), 0.1, 0.2)
    for _ in range(22):
        area.hang(rng, looks.pick(rng, (interiors.picture, _sign, _sign))(rng), (0.9, 2.8))


def _loaded(rng: np.random.Generator) -> list[Solid]:
    return load(rng, 1.2, 0.85, rng.uniform(0.6, 1.6))


def _trolley(rng: np.random.Generator) -> list[Solid]:
    paint = looks.paint(rng)
    wheels = [standing(Sphere, x, y, 0.0, (0.14, 0.05, 0.14), BLACK, Label.OBJECT)
              for x in (-0.4, 0.4) for y in (-0.25, 0.25)]
    return [*wheels, standing(Box, 0.0, 0.0, 0.12, (1.0, 0.6, 0.05), paint, Label.OBJECT),
            standing(Box, -0.47, 0.0, 0.17, (0.04, 0.56, 0.75), STEEL, Label.OBJECT),
            *moved(props.carton(rng, 0.6, 0.45, rng.uniform(0.25, 0.5)), 0.1, 0.0, 0.17)]


def _workbench(rng: np.random.Generator) -> list[Solid]:
    top = clutter(rng, 0.6, 1.7, [props.small_carton, props.bottle, props.book_stack, props.mug])
    return [*table(0.7, 1.8, 0.9, looks.timber(rng), 0.08), *moved(top, 0.0, 0.0, 0.9)]


def _shelf(rng: np.random.Generator) -> list[Solid]:
    return props.shelf(rng, rng.uniform(1.0, 1.6), rng.uniform(1.4, 2.2), [props.small_carton, props.bottle],
                       looks.grey(rng))


def _gate(rng: np.random.Generator) -> list[Solid]:
    """A closed roller shutter between striped posts, a lamp above."""
    width, height = rng.uniform(2.2, 3.0), rng.uniform(2.4, 3.0)
    base = looks.color(rng, (0.0, 0.7), (0.4, 0.9))
    slats = Material((base, looks.shaded(base, 0.9), looks.shaded(base, 0.5)), Texture.PLANKS, rng.uniform(0.1, 0.25))
    posts = [standing(Box, 0.06, side * (width / 2.0 + 0.06), 0.0, (0.12, 0.12, height), YELLOW, Label.DOOR)
             for side in (-1, 1)]
    return [standing(Box, 0.03, 0.0, 0.0, (0.06, width, height), slats, Label.DOOR), *posts,
            standing(Box, 0.1, 0.0, height, (0.2, width + 0.24, 0.25), looks.paint(rng), Label.DOOR),
            standing(Box, 0.06, 0.0, height + 0.3, (0.1, 0.5, 0.12), GLOW, Label.LAMP)]


def _sign(rng: np.random.Generator) -> list[Solid]:
    """A plate with a symbol."""
    side = rng.uniform(0.35, 0.9)
    ground, mark = looks.paint(rng), looks.paint(rng)
    return [Box((0.01, 0.0, 0.0), (0.02, side * rng.uniform(1.0, 1.8), side), ground, Label.PICTURE),
            Box((0.021, 0.0, 0.15 * side), (0.006, 0.8 * side, 0.16 * side), mark, Label.PICTURE),
            Box((0.021, 0.0, -0.15 * side), (0.006, 0.5 * side, 0.28 * side), looks.picture_paint(rng), Label.PICTURE)]


def _girders(rng: np.random.Generator, area: Area) -> list[Solid]:
    """Beams across the hall under the ceiling, on columns against the walls."""
    paint, height = looks.paint(rng), area.walls[0].height
    wide, middle = area.y[1] - area.y[0], sum(area.y) / 2.0
    count = int((area.x[1] - area.x[0]) / rng.uniform(3.5, 5.0))
    places = [area.x[0] + (k + 0.5) * (area.x[1] - area.x[0]) / count + 0.7 for k in range(count)]
    return [standing(Box, x, middle, height - 0.4, (0.18, wide, 0.3), paint, Label.CEILING) for x in places]


def _pipes(rng: np.random.Generator, area: Area) -> list[Solid]:
    """A coloured rail near the floor and pipes overhead, along every wall."""
    rail, pipes = looks.paint(rng), [looks.paint(rng) for _ in range(2)]
    solids = []
    for wall in area.walls:
        rods = [Box((0.1 + 0.12 * k, 0.0, wall.height - 0.75 + 0.1 * k), (0.07, wall.length, 0.07), paint, Label.OBJECT)
                for k, paint in enumerate(pipes)]
        band = Box((0.004, 0.0, 0.25), (0.008, wall.length, 0.3), rail, Label.WALL)
        solids += wall.place([band, *rods], 0.0, 0.0)
    return solids
