"""Point clouds and 3D Gaussian splats of PLY files (text or binary), as coloured discs.

    point cloud        x y z, red green blue (or diffuse_red ...; 0..255, or 0..1 as float), optional radius, label
    Gaussian splats    x y z, f_dc_0..2, opacity, scale_0..2 (Kerbl et al. 2023): the centre, the colour of the first
                       spherical harmonic, opacity before the sigmoid, and logarithms of the standard deviations
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElementParseError, PlyHeaderParseError

from worldfm_ros.sources.ply_text import Track, read_rows

HEADER = 1 << 16  # bytes; no header of a point cloud is longer
TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
         "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
         "float32": "f4", "float64": "f8"}
COLORS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
HARMONIC = 0.28209479177387814  # of degree 0: 1 / (2 sqrt(pi))
SPLAT = ("f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2")
FAINT = 0.1  # opacity; splats below are no surface
DEVIATIONS = 1.5  # of a splat, that its disc has as radius


@dataclass(frozen=True, eq=False)
class Discs:
    """points (N, 3) float64, colors (N, 3) uint8, labels (N,) uint16 or None, radius (N,) float32 or None, in the units
    of the file. skipped: how many were left out, by reason."""

    points: np.ndarray
    colors: np.ndarray
    labels: np.ndarray | None
    radius: np.ndarray | None
    skipped: Counter[str]

    def __len__(self) -> int:
        return len(self.points)

    def select(self, index: np.ndarray, reason: str) -> Discs:
        """Those at a mask; the others are counted."""
        count = len(self) - int(np.count_nonzero(index))
        labels, radius = (None if x is None else x[index] for x in (self.labels, self.radius))
        return Discs(self.points[index], self.colors[index], labels, radius,
                     self.skipped + Counter({reason: count} if count else {}))


@dataclass(frozen=True)
class Element:
    """One of a header's: its properties' types by name; None = a list."""

    name: str
    count: int
    kinds: dict[str, str | None]

    @property
    def numbers(self) -> bool:
        return None not in self.kinds.values()


def read_ply(path: str | Path, track: Track = iter) -> Discs:
    """The points of a PLY file. Those that are not finite, or too faint, are left out and counted. `track` wraps the
    loop over a text file (a progress bar).

    Raises FileNotFoundError or ValueError, naming the file and what is missing or wrong in it; a file that announces
    more than it holds is refused before anything is made of it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, or no file")
    vertex = vertices(path, track)
    names = set(vertex)
    if missing := {"x", "y", "z"} - names:
        raise ValueError(f"{path}: element vertex has no {', '.join(sorted(missing))}; "
                         f"it has {', '.join(sorted(names))}")
    points = np.stack([np.asarray(vertex[name], np.float64) for name in "xyz"], axis=1)
    if names >= set(SPLAT):
        first, logs = (np.stack([np.asarray(vertex[f"{name}_{k}"], np.float64) for k in range(3)], axis=1)
                       for name in ("f_dc", "scale"))
        return usable(splats(points, first, logs, np.asarray(vertex["opacity"], np.float64)), path)
    return usable(cloud(points, vertex, path), path)


def vertices(path: Path, track: Track) -> Mapping[str, np.ndarray]:
    """The properties of the element vertex. Raises ValueError."""
    text, begin, elements = header(path)
    place = next((k for k, element in enumerate(elements) if element.name == "vertex"), None)
    if text and place is not None and elements[place].numbers:
        skip = sum(element.count for element in elements[:place])
        return read_rows(path, begin, skip, elements[place].count, elements[place].kinds, track)
    try:
        vertex = PlyData.read(path)["vertex"]
    except (PlyHeaderParseError, PlyElementParseError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged or no PLY file: {str(error).strip() or repr(error)}") from None
    return {entry.name: vertex[entry.name] for entry in vertex.properties}


def usable(made: Discs, path: Path) -> Discs:
    """Those that have a place and a size. Raises ValueError where none has."""
    made = made.select(np.isfinite(made.points).all(1), "coordinates that are not finite")
    if made.radius is not None:
        made = made.select(np.isfinite(made.radius) & (made.radius >= 0), "a size that is no length")
    if not len(made):
        raise ValueError(f"{path} holds no usable point; " + (", ".join(f"{n} left out: {why}" for why, n in
                         made.skipped.items()) or "element vertex is empty"))
    return made


def splats(points: np.ndarray, first: np.ndarray, logs: np.ndarray, opacity: np.ndarray) -> Discs:
    """Gaussian splats as discs: the two larger deviations are the surface, the third its thickness. first: (N, 3), of
    the harmonics; logs: (N, 3), of the deviations; opacity: (N,), before the sigmoid."""
    colors = 0.5 + HARMONIC * first
    with np.errstate(over="ignore", invalid="ignore"):
        radius = (DEVIATIONS * np.exp(np.sort(logs, axis=1)[:, 1:].mean(1))).astype(np.float32)
        opaque = 1.0 / (1.0 + np.exp(-opacity))
    surface = np.isfinite(colors).all(1) & (opaque >= FAINT)
    made = Discs(points, levels(colors), None, radius, Counter()).select(
        surface, f"splats fainter than {FAINT:g}, or without a colour")
    return made.select(made.radius != 0, "splats of size 0")


def cloud(points: np.ndarray, vertex: Mapping[str, np.ndarray], path: Path) -> Discs:
    """A point cloud. Raises ValueError when it has no colour."""
    names = set(vertex)
    found = next((kind for kind in COLORS if names >= set(kind)), None)
    if found is None:
        raise ValueError(f"{path}: element vertex has no colour (red, green, blue; or f_dc_0, f_dc_1, f_dc_2, opacity "
                         f"and scale_0, scale_1, scale_2 of Gaussian splats); it has {', '.join(sorted(names))}. A "
                         "camera cannot show points without one: colour them first")
    columns = [np.asarray(vertex[name]) for name in found]
    colors = np.stack(columns, axis=1)
    colors = levels(colors) if colors.dtype.kind == "f" else colors.clip(0, 255).astype(np.uint8)
    labels = np.asarray(vertex["label"]).clip(0, 65535).astype(np.uint16) if "label" in names else None
    radius = np.asarray(vertex["radius"], np.float32) if "radius" in names else None
    return Discs(points, colors, labels, radius, Counter())


def levels(colors: np.ndarray) -> np.ndarray:
    """0..1 to 0..255; what is not finite is black."""
    return np.rint(255 * np.nan_to_num(colors).clip(0, 1)).astype(np.uint8)


def header(path: Path) -> tuple[bool, int, list[Element]]:
    """Whether the file is text, where its elements begin, and what they are.

    Raises ValueError, naming the file, for what is no PLY header or announces more than the file can hold.
    """
    with path.open("rb") as stream:
        start = stream.read(HEADER)
    end = start.find(b"end_header")
    if not start.startswith(b"ply") or end < 0:
        packed = start.startswith((b"NGSP", b"\x1f\x8b"))
        raise ValueError(f"{path} is {'packed: SPZ files are named .spz' if packed else 'no PLY file'} "
                         "(it does not begin with a header from `ply` to `end_header`)")
    text, elements = b"ascii" in start[:end].split(b"\n", 2)[1], []
    for line in start[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["element"] and len(words) == 3:
            elements.append(Element(words[1], int(words[2]) if words[2].isdecimal() else 0, {}))
        elif words[:1] == ["property"] and len(words) > 2 and elements:
            elements[-1].kinds[words[-1]] = TYPES.get(words[1])
    least = sum(element.count * sum(1 if text else np.dtype(kind or "u1").itemsize for kind in element.kinds.values())
                for element in elements)
    holds = path.stat().st_size - end
    if least > holds:
        raise ValueError(f"{path}: its header announces elements of {least} bytes or more, the file holds {holds}; "
                         "is it cut short?")
    return text, start.find(b"\n", end) + 1, elements
