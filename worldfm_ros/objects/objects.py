"""objects.yaml: what moves in a world, and where each thing is at a stamp."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
import difflib
import math
from pathlib import Path

import numpy as np
import yaml

from worldfm_ros.geometry import Pose
from worldfm_ros.objects import shapes
from worldfm_ros.objects.mesh import FORMATS, Mesh, grounded, read_mesh
from worldfm_ros.objects.route import Route, State, pace_of, timed
from worldfm_ros.share import share_directory
from worldfm_ros.world.storage import World

DEMO = "demo"
LAST = 65535  # of labels and instance ids, which are uint16
SOLIDS = {"box": shapes.box, "cylinder": shapes.cylinder, "sphere": shapes.ellipsoid}
MACHINES = {"forklift": shapes.forklift, "robot": shapes.robot}
KEYS = ("name", "id", "label", "shape", "size", "color", "frame", "path", "speed", "waypoints", "repeat", "start")
GREY = (120, 120, 130)

Lookup = Callable[[str], State | None]  # where a TF frame is in the map; None = not known


@dataclass(frozen=True, eq=False)
class MovingObject:
    """One entry of the file. It is at `frame` (a TF frame), or follows `route`, which begins at `start` seconds.

    id: its instance id, 1 to 65535, unique; label: the class's name; mesh: in its own axes; None for a person, whose
    mesh follows from the gait.
    """

    name: str
    id: int
    label: str
    mesh: Mesh | None
    frame: str = ""
    route: Route | None = None
    start: float = 0.0
    color: tuple[int, ...] = GREY
    size: tuple[float, ...] = shapes.STANDING

    def shape_at(self, state: State) -> Mesh:
        """Its mesh in the world."""
        mesh = self.mesh
        if mesh is None:
            phase = math.pi * state.travelled / (shapes.STEP * self.size[2] / shapes.HEIGHT)
            mesh = shapes.person(self.color, phase, pace_of(state.speed), self.size)
        return mesh.at(state.T_world_object)


@dataclass(frozen=True, eq=False)
class Placed:
    """An object at a stamp: its mesh in the world, its instance id, its label, and where its own axes are, in which its
    box is upright."""

    mesh: Mesh
    id: int
    label: int
    T_world_object: Pose = field(default_factory=Pose.identity)


@dataclass(frozen=True, eq=False)
class Objects:
    """All that moves in a world. labels: the number of each class's name."""

    items: tuple[MovingObject, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def frames(self) -> list[str]:
        """The TF frames that must be known to place them."""
        return [item.frame for item in self.items if item.frame]

    def at(self, stamp: int, lookup: Lookup = lambda frame: None) -> list[Placed]:
        """The objects at a stamp (ns), in the order of the file; without those whose frame is not known."""
        placed = []
        for item in self.items:
            state = item.route.at(stamp - round(item.start * 1e9)) if item.route else lookup(item.frame)
            if state is not None:
                mesh, label = item.shape_at(state), self.labels[item.label]
                placed.append(Placed(mesh, item.id, label, state.T_world_object))
        return placed

    def named(self, world: World) -> World:
        """The world with the names of the objects' labels."""
        names = {label: name for name, label in self.labels.items()}
        return replace(world, label_names=world.label_names | names) if names else world


NOTHING = Objects()


def load_objects(name: str, world: World) -> Objects:
    """The objects of a file, or of the demo's apartment, for a world, whose labels they share where the names are the
    same. `name` empty: none. Raises ValueError."""
    if not name:
        return NOTHING
    file = objects_file(name)
    items = read_objects(file)
    numbers = {text: label for label, text in world.label_names.items()}
    labels, free = {}, max([0, *world.label_names]) + 1
    for item in items:
        if item.label not in labels:
            labels[item.label] = numbers.get(item.label, free)
            free += item.label not in numbers
    if free > LAST + 1:
        raise ValueError(f"{file}: the world has {len(world.label_names)} labels; none is left for the objects")
    return Objects(tuple(items), labels)


def objects_file(name: str) -> Path:
    """The file that a name means: its own, or the demo's, which has a person walk through the apartment."""
    return share_directory() / "config" / "objects.yaml" if name == DEMO else Path(name).expanduser()


def read_objects(file: Path) -> list[MovingObject]:
    """The objects of an objects.yaml. Raises ValueError naming the file, the object and the entry that is wrong."""
    try:
        content = yaml.safe_load(file.read_text())
        entries = content["objects"]
    except FileNotFoundError:
        raise ValueError(f"there is no objects file {file}; give a YAML file, or {DEMO}") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no objects file ({' '.join(str(error).split())}); "
                         "expected `objects:` and a list (docs/objects.md)") from None
    if not isinstance(entries, list):
        raise ValueError(f"{file}: objects is a list, got {type(entries).__name__}")
    items, used = [], set()
    for number, entry in enumerate(entries, start=1):
        try:
            item = _item(entry, number, file.parent)
            if item.id in used:
                raise ValueError(f"id {item.id} is another object's; ids are unique")
        except (TypeError, ValueError) as error:
            name = entry.get("name", number) if isinstance(entry, Mapping) else number
            raise ValueError(f"{file}: object {name}: {error}") from None
        used.add(item.id)
        items.append(item)
    return items


def _item(entry: object, number: int, folder: Path) -> MovingObject:
    if not isinstance(entry, Mapping):
        raise ValueError(f"an object is a mapping of {', '.join(KEYS)}, got {entry!r}")
    for key in entry:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            raise ValueError(f"there is no entry {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                             + f" The entries: {', '.join(KEYS)}")
    shape, ident = str(entry.get("shape", "")), entry.get("id", number)
    if type(ident) is not int or not 1 <= ident <= LAST:
        raise ValueError(f"id is a whole number from 1 to {LAST}, got {ident!r}")
    color = tuple(int(c) for c in _numbers(entry, "color", 3, GREY))
    if not all(0 <= c <= 255 for c in color):
        raise ValueError(f"color is red, green and blue of 0 to 255, got {list(color)}")
    size = tuple(_numbers(entry, "size", 3, shapes.STANDING if shape == "person" else None) or ())
    if size and not all(0.01 <= extent <= 100 for extent in size):
        raise ValueError(f"size is three extents from 0.01 to 100 metres, got {list(size)}")
    frame, route = _motion(entry)
    start = _number(entry, "start", 0.0)
    label = str(entry.get("label", shape if shape in (*SOLIDS, *MACHINES, "person") else "object"))
    return MovingObject(str(entry.get("name", f"object_{number}")), ident, label,
                        _mesh(shape, size, color, folder, "color" in entry), frame, route, start, color,
                        size or shapes.STANDING)


def _mesh(shape: str, size: tuple[float, ...], color: tuple[int, ...], folder: Path, colored: bool) -> Mesh | None:
    if shape == "person":
        return None
    if shape in SOLIDS:
        if not size:
            raise ValueError(f"a {shape} needs a size: [x, y, z] metres")
        return grounded(SOLIDS[shape](size, color))
    if shape in MACHINES:
        mesh = MACHINES[shape](color)
    elif Path(shape).suffix.lower() in FORMATS:
        mesh = read_mesh(folder / Path(shape).expanduser(), color if colored else None)
    else:
        raise ValueError(f"shape is person, {', '.join([*SOLIDS, *MACHINES])}, or a file that ends in "
                         f"{', '.join(FORMATS)}; got {shape!r}")
    return mesh.stretched(size) if size else mesh


def _motion(entry: Mapping) -> tuple[str, Route | None]:
    given = [key for key in ("frame", "path", "waypoints") if key in entry]
    if len(given) != 1:
        raise ValueError(f"an object has one of frame, path and waypoints, got {', '.join(given) or 'none'}")
    repeat = entry.get("repeat", True)
    if not isinstance(repeat, bool):
        raise ValueError(f"repeat is true or false, got {repeat!r}")
    if given == ["frame"]:
        if not entry["frame"] or not isinstance(entry["frame"], str):
            raise ValueError(f"frame is the name of a TF frame, got {entry['frame']!r}")
        return entry["frame"], None
    sizes = (2, 3) if given == ["path"] else (3, 4, 5)
    rows = _rows(entry[given[0]], given[0], sizes)
    if given == ["waypoints"]:
        return "", timed(rows, repeat)
    speed = _number(entry, "speed", 1.0)
    if not 0 < speed <= 100:
        raise ValueError(f"speed is metres per second, above 0 and at most 100, got {speed}")
    places = np.array([[*row, *([0.0] * (3 - len(row)))] for row in rows])
    return "", Route.at_speed(places, speed, repeat)


def _rows(value: object, name: str, sizes: tuple[int, ...]) -> list[list[float]]:
    rows = value if isinstance(value, list) else []
    good = all(isinstance(row, list) and len(row) in sizes and all(_is_number(x) for x in row) for row in rows)
    if not rows or not good:
        kind = "[x, y] or [x, y, z]" if name == "path" else "[seconds, x, y], with z and yaw (degrees) if you like"
        raise ValueError(f"{name} is a list of {kind}, finite numbers; got {value!r}"[:300])
    return [[float(x) for x in row] for row in rows]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(entry: Mapping, key: str, default: float) -> float:
    value = entry.get(key, default)
    if not _is_number(value):
        raise ValueError(f"{key} is a finite number, got {value!r}")
    return float(value)


def _numbers(entry: Mapping, key: str, count: int, default: Sequence[float] | None) -> Sequence[float] | None:
    value = entry.get(key, default)
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != count or not all(map(_is_number, value)):
        raise ValueError(f"{key} is {count} finite numbers, got {value!r}")
    return value
