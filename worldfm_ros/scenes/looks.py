"""Materials by chance for procedural scenes: every function draws one from a random generator."""

from __future__ import annotations

import colorsys

import numpy as np

from worldfm_ros.scenes.scene import Light, Material, Solid, Texture, Vector

FOLD = 0.006  # metres; the smallest detail of a fabric


def pick(rng: np.random.Generator, options):
    """One of a sequence, all alike likely."""
    return options[int(rng.integers(len(options)))]


def color(rng: np.random.Generator, saturation: tuple[float, float] = (0.15, 0.75),
          value: tuple[float, float] = (0.3, 0.9)) -> Vector:
    """An sRGB colour of any hue."""
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))


def shaded(base: Vector, factor: float) -> Vector:
    """The colour darkened (factor < 1) or brightened towards white (factor > 1)."""
    if factor <= 1.0:
        return tuple(c * factor for c in base)
    return tuple(1.0 - (1.0 - c) / factor for c in base)


def timber_color(rng: np.random.Generator) -> Vector:
    """From pale birch to dark walnut."""
    return colorsys.hsv_to_rgb(rng.uniform(0.04, 0.11), rng.uniform(0.3, 0.62), rng.uniform(0.3, 0.85))


def timber(rng: np.random.Generator) -> Material:
    base = timber_color(rng)
    return Material((base, shaded(base, rng.uniform(0.6, 0.8))), Texture.WOOD, rng.uniform(0.7, 2.0),
                    seed=int(rng.integers(100)))


def paint(rng: np.random.Generator) -> Material:
    """One even colour: lacquer, plastic, painted metal."""
    return Material((color(rng, (0.0, 0.85), (0.15, 0.95)),))


def grey(rng: np.random.Generator, low: float = 0.15, high: float = 0.85) -> Material:
    value = rng.uniform(low, high)
    return Material(((value, value, min(value * rng.uniform(0.95, 1.08), 1.0)),))


def fabric(rng: np.random.Generator) -> Material:
    base = color(rng)
    other = shaded(base, pick(rng, (0.6, 0.75, 1.6)))
    kind = rng.random()
    if kind < 0.45:
        return Material((base, other), Texture.NOISE, rng.uniform(2.0, 8.0) * FOLD, seed=int(rng.integers(100)))
    if kind < 0.7:
        return Material((base, color(rng)), Texture.STRIPES, rng.uniform(0.02, 0.12))
    if kind < 0.85:
        return Material((base, color(rng, (0.0, 0.3), (0.6, 0.95))), Texture.CHECKER, rng.uniform(0.03, 0.12))
    return Material((base,))


def picture_paint(rng: np.random.Generator) -> Material:
    """A painting or poster that fills its face."""
    colors = (color(rng), color(rng, value=(0.5, 1.0)), color(rng, (0.3, 0.9), (0.2, 0.8)))
    return Material(colors, Texture.PAINTING, seed=int(rng.integers(10_000)))


def carpet(rng: np.random.Generator) -> Material:
    """A rug's pattern."""
    if rng.random() < 0.6:
        return Material((color(rng), color(rng, (0.1, 0.4), (0.6, 0.95)), color(rng)), Texture.RUG,
                        rng.uniform(0.2, 0.5))
    return fabric(rng)


def wall_covering(rng: np.random.Generator) -> Material:
    """Paint, wallpaper, panels, brick or tiles."""
    light = color(rng, (0.05, 0.45), (0.55, 0.95))
    kind = rng.random()
    if kind < 0.25:
        return plaster(rng)
    if kind < 0.4:
        return Material((light, shaded(light, rng.uniform(0.72, 0.88))), Texture.NOISE, rng.uniform(0.03, 0.3),
                        seed=int(rng.integers(100)))
    if kind < 0.58:
        other = shaded(light, rng.uniform(0.75, 0.9)) if rng.random() < 0.6 else color(rng, (0.1, 0.5), (0.5, 0.95))
        return Material((light, other), Texture.STRIPES, rng.uniform(0.04, 0.3))
    if kind < 0.78:
        return brick(rng)
    if kind < 0.9:
        return tiles(rng, rng.uniform(0.08, 0.4))
    return planks(rng)


def plaster(rng: np.random.Generator) -> Material:
    return Material((color(rng, (0.0, 0.4), (0.6, 0.97)),), Texture.PLASTER, seed=int(rng.integers(100)))


def brick(rng: np.random.Generator) -> Material:
    base = colorsys.hsv_to_rgb(rng.uniform(0.0, 0.11), rng.uniform(0.15, 0.6), rng.uniform(0.5, 0.85))
    mortar = rng.uniform(0.45, 0.85)
    return Material((base, shaded(base, rng.uniform(0.7, 0.85)), (mortar, mortar, 0.96 * mortar)), Texture.BRICK,
                    rng.uniform(0.2, 0.34))


def tiles(rng: np.random.Generator, side: float) -> Material:
    base = color(rng, (0.0, 0.4), (0.45, 0.95))
    return Material((base, shaded(base, rng.uniform(0.8, 0.95)), shaded(base, pick(rng, (0.55, 0.75, 1.8)))),
                    Texture.TILES, side)


def planks(rng: np.random.Generator) -> Material:
    base = timber_color(rng)
    return Material((base, shaded(base, rng.uniform(0.7, 0.85)), shaded(base, 0.35)), Texture.PLANKS,
                    rng.uniform(0.08, 0.22))


def floor_covering(rng: np.random.Generator) -> Material:
    """Planks, tiles, a checkerboard, carpet or stone."""
    kind = rng.random()
    if kind < 0.4:
        return planks(rng)
    if kind < 0.62:
        return tiles(rng, rng.uniform(0.2, 0.6))
    base = color(rng, (0.05, 0.5), (0.3, 0.85))
    if kind < 0.76:
        return Material((base, shaded(base, pick(rng, (0.5, 1.8)))), Texture.CHECKER, rng.uniform(0.2, 0.5))
    return Material((base, shaded(base, rng.uniform(0.6, 0.8))), Texture.NOISE, rng.uniform(0.015, 0.2),
                    seed=int(rng.integers(100)))


def concrete(rng: np.random.Generator) -> Material:
    value = rng.uniform(0.5, 0.8)
    base = (value, value * rng.uniform(0.94, 1.0), value * rng.uniform(0.88, 1.02))
    return Material((base, shaded(base, rng.uniform(0.7, 0.85))), Texture.NOISE, rng.uniform(0.15, 0.6),
                    seed=int(rng.integers(100)))


def light_color(rng: np.random.Generator) -> Vector:
    """Linear RGB of a lamp, from candle-warm to cold daylight, of mean about 1."""
    warmth = rng.uniform(-0.25, 1.0)
    return 1.0 + 0.25 * warmth, 1.0, 1.0 - 0.5 * warmth if warmth > 0.0 else 1.0 - 0.7 * warmth


def lamp_light(solid: Solid, tint: Vector, power: float, downwards: bool = False) -> Light:
    """The light that a shining solid sheds from within; `power` as in Light.intensity."""
    x, y, z = solid.size
    size = (min(x, 0.5), min(y, 0.5), 0.0) if downwards else (0.0, 0.0, 0.6 * z)
    return Light(solid.centre, tuple(power * c for c in tint), size, (0.0, 0.0, -1.0) if downwards else None)
