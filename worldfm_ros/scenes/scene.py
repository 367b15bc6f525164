"""A procedural scene as plain data: solids with a material and a label, lights, names. Metres, radians, z up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
import math

import numpy as np

Vector = tuple[float, float, float]


class Texture(IntEnum):
    """What a material's colours do over a surface. `c0 c1 c2` are the material's colours, `scale` its length."""

    PLAIN = 0  # c0
    PLASTER = 1  # c0, faintly mottled
    WOOD = 2  # grain between c0 and c1
    PLANKS = 3  # boards `scale` wide in tints from c0 to c1, seams c2
    TILES = 4  # squares of side `scale` in tints from c0 to c1, grout c2
    CHECKER = 5  # squares of side `scale`, c0 and c1
    BRICK = 6  # bricks `scale` long in tints from c0 to c1, mortar c2
    STRIPES = 7  # upright bands `scale` wide, c0 and c1
    NOISE = 8  # clouds of size `scale` between c0 and c1: carpet, leaves, marble
    RUG = 9  # field c0, borders c1 and c2, diamonds of side `scale`
    PAINTING = 10  # a picture that fills the face, chosen by `seed`
    SKY = 11  # a daylight view that fills the face: c0 at the top, c1 at the horizon, c2 hills


@dataclass(frozen=True)
class Material:
    """How a surface looks. Colours are one to three sRGB triples in 0..1; every surface is Lambertian, because
    colours seen from many sides are fused into one. A surface with `emission` > 0 shines by itself with that times
    its colour, and casts no shadow (its light is a `Light` beside or inside it)."""

    colors: tuple[Vector, ...]
    texture: Texture = Texture.PLAIN
    scale: float = 1.0
    emission: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.colors) <= 3:
            raise ValueError(f"a material has one to three colours, got {len(self.colors)}")
        if not all(len(color) == 3 and all(0.0 <= c <= 1.0 for c in color) for color in self.colors):
            raise ValueError(f"a colour is three sRGB numbers in 0..1, got {self.colors}")
        if not (0.0 < self.scale < math.inf and 0.0 <= self.emission < math.inf):
            raise ValueError(f"scale is positive and emission not negative, got {self.scale} and {self.emission}")

    @classmethod
    def hex(cls, colors: str, texture: Texture = Texture.PLAIN, scale: float = 1.0, **rest) -> Material:
        """From sRGB hex colours, for example `Material.hex("#b98a5a #a87848 #5a3d22", Texture.PLANKS, 0.14)`."""
        rgb = tuple(tuple(int(c[i:i + 2], 16) / 255.0 for i in (1, 3, 5)) for c in colors.split())
        return cls(rgb, texture, scale, **rest)


@dataclass(frozen=True)
class Solid:
    """A convex solid that fills the cuboid of `size` (x, y, z extents) about `centre`, turned by `yaw` about z."""

    centre: Vector
    size: Vector
    material: Material
    label: int
    yaw: float = 0.0

    def __post_init__(self) -> None:
        if not all(0.0 < s < math.inf for s in self.size) or len(self.size) != 3:
            raise ValueError(f"a solid's size is three positive extents in metres, got {self.size}")
        if not all(math.isfinite(c) for c in (*self.centre, self.yaw)) or len(self.centre) != 3:
            raise ValueError(f"a solid's centre is three finite numbers in metres, got {self.centre}, yaw {self.yaw}")

    def moved(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Solid:
        """This solid after a turn by `yaw` about the world's z axis and a shift by (x, y, z)."""
        cx, cy, cz = self.centre
        c, s = math.cos(yaw), math.sin(yaw)
        return replace(self, centre=(c * cx - s * cy + x, s * cx + c * cy + y, cz + z), yaw=self.yaw + yaw)


class Box(Solid):
    """The whole cuboid."""


class Cylinder(Solid):
    """Its upright elliptic cylinder."""


class Sphere(Solid):
    """Its ellipsoid."""


def moved(solids: Iterable[Solid], x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> list[Solid]:
    """A group of solids, turned by `yaw` about the origin and then shifted: how furniture is placed."""
    return [solid.moved(x, y, z, yaw) for solid in solids]


@dataclass(frozen=True)
class Light:
    """A cuboid of `size` (zero extents for a point) that sheds light. `intensity` is linear RGB: a white surface that
    faces it at distance r without shadow receives intensity / r^2. With `direction`, it shines like a Lambertian
    panel towards that side only."""

    position: Vector
    intensity: Vector
    size: Vector = (0.0, 0.0, 0.0)
    direction: Vector | None = None


@dataclass(frozen=True)
class Scene:
    """Solids, lights and the names of their labels. `ambient` is the linear RGB irradiance of light that has bounced
    more often than the ray caster follows; it is also what a ray sees that leaves the scene. Shading is multiplied
    by `exposure`. Raises ValueError for a solid whose label has no name."""

    name: str
    primitives: Sequence[Solid]
    lights: Sequence[Light]
    ambient: Vector
    label_names: dict[int, str]
    exposure: float = 1.0

    def __post_init__(self) -> None:
        if not self.primitives:
            raise ValueError(f"scene {self.name!r} has no solids; it needs one at least")
        unknown = {solid.label for solid in self.primitives} - set(self.label_names)
        if unknown or not all(1 <= label <= 65535 for label in self.label_names):
            raise ValueError(f"scene {self.name!r}: every solid's label is in label_names and in 1..65535, "
                             f"unnamed: {sorted(unknown)}, names: {self.label_names}")

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3) lowest and highest corner of all solids, metres."""
        corners = np.array([solid_bounds(solid) for solid in self.primitives])
        return np.stack([corners[:, 0].min(0), corners[:, 1].max(0)])

    def clearance(self, points) -> np.ndarray:
        """Metres from points (N, 3) to the nearest solid, negative inside; never more than the true distance."""
        points = np.asarray(points, dtype=np.float64)
        nearest = np.full(len(points), np.inf)
        for solid in self.primitives:
            np.minimum(nearest, signed_distance(solid, points), out=nearest)
        return nearest


def solid_bounds(solid: Solid) -> np.ndarray:
    """(2, 3) corners of the axis-aligned box around a solid, metres."""
    c, s = abs(math.cos(solid.yaw)), abs(math.sin(solid.yaw))
    half = np.array([[c, s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ np.array(solid.size) / 2.0
    return np.stack([solid.centre - half, solid.centre + half])


def signed_distance(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Metres (N,) from points (N, 3) to a solid, negative inside: exact for boxes and round solids; elliptic ones
    count as their circumscribed round one."""
    c, s = math.cos(solid.yaw), math.sin(solid.yaw)
    local = (points - solid.centre) @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    half = np.array(solid.size) / 2.0
    if isinstance(solid, Sphere):
        return np.linalg.norm(local, axis=1) - half.max()
    excess = np.abs(local) - half
    if isinstance(solid, Cylinder):
        excess = np.stack([np.hypot(local[:, 0], local[:, 1]) - half[:2].max(), excess[:, 2]], axis=1)
    return np.linalg.norm(np.maximum(excess, 0.0), axis=1) + np.minimum(excess.max(axis=1), 0.0)
