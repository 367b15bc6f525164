"""The procedural surface colours of worldfm_ros.scenes.textures, for many places at once, on any device.

The rules are those of that module, pattern by pattern. A `Patch` holds N places of surfaces, all of one texture.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from worldfm_ros.scenes.scene import Texture


@dataclass(frozen=True, eq=False)
class Patch:
    """colors (N, 3, 3) linear RGB; all others (N,): scale and seed of the material, (s, t) metres in a frame common to
    all solids of one yaw, (u, v) in -1..1 on the face of w x h metres, and the blur, a pixel's footprint in metres."""

    colors: Tensor
    scale: Tensor
    seed: Tensor
    s: Tensor
    t: Tensor
    u: Tensor
    v: Tensor
    w: Tensor
    h: Tensor
    blur: Tensor

    def __getitem__(self, chosen: Tensor) -> Patch:
        return Patch(*(getattr(self, field.name)[chosen] for field in fields(self)))


def albedo(texture: Tensor, patch: Patch) -> Tensor:
    """Linear RGB (N, 3) at places whose textures are `texture` (N,)."""
    out = patch.colors[:, 0].clone()  # PLAIN
    for kind, paint in PAINTERS.items():
        chosen = (texture == kind).nonzero()[:, 0]
        if len(chosen):
            part = patch[chosen]
            out[chosen] = paint(part, *part.colors.unbind(1))
    return out


def _hash(x, y, seed) -> Tensor:
    """A number in [0, 1) for whole-numbered places."""
    h = (_whole(x) * 374761393 + _whole(y) * 668265263 + _whole(seed) * 974711) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 2246822519) & 0xFFFFFFFF
    return (h ^ (h >> 15)).float() / 4294967296.0


def _whole(x):
    return x.long() if isinstance(x, Tensor) else x


def _mix(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    return a + (b - a) * f[:, None]


def _clamp(x: Tensor) -> Tensor:
    return x.clamp(0.0, 1.0)


def _noise(x: Tensor, y: Tensor, seed) -> Tensor:
    """Smooth value noise in 0..1 with features of size 1."""
    i, j = x.floor(), y.floor()
    fx, fy = x - i, y - j
    fx, fy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
    low = _hash(i, j, seed).lerp(_hash(i + 1, j, seed), fx)
    high = _hash(i, j + 1, seed).lerp(_hash(i + 1, j + 1, seed), fx)
    return low.lerp(high, fy)


def _detail(x: Tensor, y: Tensor, size, blur: Tensor, seed) -> Tensor:
    """Two octaves of noise of feature `size` metres, centred on 0.5; octaves below `blur` fade out."""
    coarse = (_noise(x / size, y / size, seed) - 0.5) * _clamp(1.5 - blur / size)
    fine = (_noise(2.7 * x / size, 2.7 * y / size, seed + 1) - 0.5) * _clamp(1.5 - 2.7 * blur / size)
    return 0.5 + 0.65 * coarse + 0.35 * fine


def _line(x: Tensor, period, width, blur: Tensor) -> Tensor:
    """How much of a `blur` wide window at x lies on lines of `width` at the multiples of `period`."""
    distance = (x - period * (x / period + 0.5).floor()).abs()
    window = blur.clamp(min=1e-4)
    share = _clamp((0.5 * (width + window) - distance) / window) * (width / window).clamp(max=1.0)
    return torch.where(blur >= period, width / period, share)


def _alternate(x: Tensor, period, blur: Tensor) -> Tensor:
    """0 and 1 in turn for each `period`, softened over `blur`."""
    return _line(x - 0.5 * period, 2.0 * period, period, blur)


def _plaster(p: Patch, c0, c1, c2) -> Tensor:
    return c0 * (0.97 + 0.06 * (_detail(p.s, p.t, 0.12, p.blur, p.seed) - 0.5))[:, None]


def _wood(p: Patch, c0, c1, c2) -> Tensor:
    return _mix(c0, c1, _detail(0.1 * p.s, p.t, 0.05 * p.scale, p.blur, p.seed))


def _planks(p: Patch, c0, c1, c2) -> Tensor:
    length = 8.0 * p.scale
    row = (p.t / p.scale).floor()
    along = p.s + length * _hash(row, 7, 3)
    board = (along / length).floor()
    grain = _detail(0.12 * p.s + 9.0 * _hash(row, board, 6), p.t, 0.02, p.blur, row)
    tint = _mix(c0, c1, _clamp(_hash(row, board, 5) + 0.7 * (grain - 0.5)))
    joint = torch.full_like(p.s, 0.004)
    return _mix(tint, c2, torch.maximum(_line(p.t, p.scale, joint, p.blur), _line(along, length, joint, p.blur)))


def _cells(p: Patch, c0, c1, c2, height: Tensor, joint: Tensor, shift: float) -> Tensor:
    """A wall or floor of rectangular cells with joints; every second row is shifted by `shift` of a cell."""
    row = (p.t / height).floor()
    s = p.s + shift * p.scale * row.remainder(2.0)
    tint = _mix(c0, c1, _hash((s / p.scale).floor(), row, 11))
    return _mix(tint, c2, torch.maximum(_line(s, p.scale, joint, p.blur), _line(p.t, height, joint, p.blur)))


def _tiles(p: Patch, c0, c1, c2) -> Tensor:
    return _cells(p, c0, c1, c2, p.scale, 0.03 * p.scale, 0.0)


def _brick(p: Patch, c0, c1, c2) -> Tensor:
    return _cells(p, c0, c1, c2, p.scale / 3.0, 0.05 * p.scale, 0.5)


def _checker(p: Patch, c0, c1, c2) -> Tensor:
    a, b = _alternate(p.s, p.scale, p.blur), _alternate(p.t, p.scale, p.blur)
    return _mix(c0, c1, a + b - 2.0 * a * b)


def _stripes(p: Patch, c0, c1, c2) -> Tensor:
    return _mix(c0, c1, _alternate(p.s, p.scale, p.blur))


def _clouds(p: Patch, c0, c1, c2) -> Tensor:
    return _mix(c0, c1, _clamp(1.6 * _detail(p.s, p.t, p.scale, p.blur, p.seed) - 0.3))


def _rug(p: Patch, c0, c1, c2) -> Tensor:
    edge = 0.5 * torch.minimum(p.w * (1.0 - p.u.abs()), p.h * (1.0 - p.v.abs()))
    a, b = 0.5 * (p.u * p.w + p.v * p.h), 0.5 * (p.u * p.w - p.v * p.h)
    lines = torch.maximum(*(_line(x, p.scale, 0.12 * p.scale, p.blur) for x in (a, b)))
    hearts = [_line(x + 0.5 * p.scale, p.scale, 0.3 * p.scale, p.blur) for x in (a, b)]
    field = _mix(_mix(c0, c1, lines), c2, hearts[0] * hearts[1])
    border = _mix(c2, c1, _alternate(a, torch.full_like(a, 0.06), p.blur))
    return _where(edge < 0.06, c1, _where(edge < 0.12, border, field))


def _painting(p: Patch, c0, c1, c2) -> Tensor:
    kind = p.seed.remainder(4)
    out = _waves(p, c0, c1, c2)
    for k, paint in enumerate((_hills, _fields, _circles)):
        out = _where(kind == k, paint(p, c0, c1, c2), out)
    return out


def _hills(p: Patch, c0, c1, c2) -> Tensor:
    """The sun over hills."""
    ridge = -0.35 + 0.25 * torch.sin(2.6 * p.u + p.seed) + 0.1 * torch.sin(7.0 * p.u)
    sun = (p.u - 0.3) ** 2 + (p.v - 0.3) ** 2 < 0.07
    sky = _where(sun, c1, _mix(c1, c0, _clamp(0.5 + 0.6 * p.v)))
    shade = 0.4 * c2 + 0.6 * c2.new_tensor([0.02, 0.03, 0.05])
    return _where(p.v < ridge - 0.25, shade, _where(p.v < ridge, c2, sky))


def _fields(p: Patch, c0, c1, c2) -> Tensor:
    """Coloured fields between black bars."""
    x, y = 1.6 * p.u + 0.3, 1.9 * p.v
    one, blur = torch.ones_like(x), torch.full_like(x, 0.01)
    bars = _line(x, one, 0.09 * one, blur) + _line(y - 0.2, one, 0.09 * one, blur) > 0.5
    pick = _hash(x.floor(), (y - 0.2).floor(), p.seed)
    fields = _where(pick < 0.25, c0, _where(pick < 0.5, c1, _where(pick < 0.75, c2, c0.new_tensor([0.85, 0.82, 0.75]))))
    return _where(bars, c0.new_tensor([0.01, 0.01, 0.012]), fields)


def _circles(p: Patch, c0, c1, c2) -> Tensor:
    color = c0
    for i in range(5):
        x, y = (1.4 * _hash(i, k, p.seed) - 0.7 for k in (1, 2))
        r = 0.2 + 0.35 * _hash(i, 3, p.seed)
        color = _where((p.u - x) ** 2 + (p.v - y) ** 2 < r * r, _mix(c1, c2, _hash(i, 4, p.seed)), color)
    return color


def _waves(p: Patch, c0, c1, c2) -> Tensor:
    bands = p.v + 0.5 * _noise(1.5 * p.u + 3.0, 1.5 * p.v, p.seed) + 0.2 * p.u
    step = _clamp((2.5 * (bands + 1.0)).floor() / 5.0)
    return _where(step < 0.5, _mix(c0, c1, 2.0 * step), _mix(c1, c2, 2.0 * step - 1.0))


def _sky(p: Patch, c0, c1, c2) -> Tensor:
    x, y = p.u * p.w, p.v * p.h
    hills = -0.55 + 0.10 * torch.sin(1.3 * x + p.w) + 0.06 * _noise(5.0 * x, torch.zeros_like(x), 4)
    cloud = _clamp(2.2 * (_noise(1.1 * x, 2.5 * y, 8) * 0.7 + _noise(3.0 * x, 6.0 * y, 9) * 0.3 - 0.5))
    air = _mix(_mix(c1, c0, _clamp(0.5 * p.v + 0.5)), torch.ones_like(c0), 0.8 * cloud)
    return _where(p.v < hills, _mix(c2, c1, 0.35 * _clamp(1.0 + (p.v - hills))), air)


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition[:, None], a, b)


PAINTERS = {
    Texture.PLASTER: _plaster, Texture.WOOD: _wood, Texture.PLANKS: _planks, Texture.TILES: _tiles,
    Texture.CHECKER: _checker, Texture.BRICK: _brick, Texture.STRIPES: _stripes, Texture.NOISE: _clouds,
    Texture.RUG: _rug, Texture.PAINTING: _painting, Texture.SKY: _sky,
}
