"""Procedural surface colours (numba). They are functions of the place on a surface only, so every view sees the same.

Detail that is finer than `blur`, the footprint of a pixel on the surface in metres, fades into its mean: no aliasing.
"""

from __future__ import annotations

import math

from worldfm_ros.scenes.scene import Texture
from worldfm_ros.scenes.solids import kernel


@kernel
def _hash(x, y, seed):
    """A number in [0, 1) for a whole-numbered place."""
    h = (int(x) * 374761393 + int(y) * 668265263 + int(seed) * 974711) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 2246822519) & 0xFFFFFFFF
    return (h ^ (h >> 15)) / 4294967296.0


@kernel
def _mix(a, b, f):
    return (a[0] + (b[0] - a[0]) * f, a[1] + (b[1] - a[1]) * f, a[2] + (b[2] - a[2]) * f)


@kernel
def _clamp(x):
    return min(max(x, 0.0), 1.0)


@kernel
def _noise(x, y, seed):
    """Smooth value noise in 0..1 with features of size 1."""
    i, j = math.floor(x), math.floor(y)
    fx, fy = x - i, y - j
    fx, fy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
    low = _hash(i, j, seed) * (1.0 - fx) + _hash(i + 1, j, seed) * fx
    high = _hash(i, j + 1, seed) * (1.0 - fx) + _hash(i + 1, j + 1, seed) * fx
    return low * (1.0 - fy) + high * fy


@kernel
def _detail(x, y, size, blur, seed):
    """Two octaves of noise of feature `size` metres, centred on 0.5; octaves below `blur` fade out."""
    coarse = (_noise(x / size, y / size, seed) - 0.5) * _clamp(1.5 - blur / size)
    fine = (_noise(2.7 * x / size, 2.7 * y / size, seed + 1) - 0.5) * _clamp(1.5 - 2.7 * blur / size)
    return 0.5 + 0.65 * coarse + 0.35 * fine


@kernel
def _line(x, period, width, blur):
    """How much of a `blur` wide window at x lies on lines of `width` at the multiples of `period`."""
    if blur >= period:
        return width / period
    distance = abs(x - period * math.floor(x / period + 0.5))
    blur = max(blur, 1e-4)
    return _clamp((0.5 * (width + blur) - distance) / blur) * min(1.0, width / blur)


@kernel
def _alternate(x, period, blur):
    """0 and 1 in turn for each `period`, softened over `blur`."""
    return _line(x - 0.5 * period, 2.0 * period, period, blur)


@kernel
def _boards(c0, c1, c2, scale, s, t, blur):
    row = math.floor(t / scale)
    along = s + 8.0 * scale * _hash(row, 7, 3)
    board = math.floor(along / (8.0 * scale))
    grain = _detail(0.12 * s + 9.0 * _hash(row, board, 6), t, 0.02, blur, row)
    tint = _mix(c0, c1, _clamp(_hash(row, board, 5) + 0.7 * (grain - 0.5)))
    seam = max(_line(t, scale, 0.004, blur), _line(along, 8.0 * scale, 0.004, blur))
    return _mix(tint, c2, seam)


@kernel
def _cells(c0, c1, c2, width, height, joint, shift, s, t, blur):
    """A wall or floor of rectangular cells with joints; every second row is shifted by `shift` of a cell."""
    row = math.floor(t / height)
    s += shift * width * (row % 2)
    tint = _mix(c0, c1, _hash(math.floor(s / width), row, 11))
    return _mix(tint, c2, max(_line(s, width, joint, blur), _line(t, height, joint, blur)))


@kernel
def _rug(c0, c1, c2, scale, u, v, w, h, blur):
    edge = 0.5 * min(w * (1.0 - abs(u)), h * (1.0 - abs(v)))
    if edge < 0.06:
        return c1
    if edge < 0.12:
        return _mix(c2, c1, _alternate(0.5 * (u * w + v * h), 0.06, blur))
    a, b = 0.5 * (u * w + v * h), 0.5 * (u * w - v * h)
    lines = max(_line(a, scale, 0.12 * scale, blur), _line(b, scale, 0.12 * scale, blur))
    heart = _line(a + 0.5 * scale, scale, 0.3 * scale, blur) * _line(b + 0.5 * scale, scale, 0.3 * scale, blur)
    return _mix(_mix(c0, c1, lines), c2, heart)


@kernel
def _painting(c0, c1, c2, u, v, seed):
    kind = seed % 4
    if kind == 0:  # the sun over hills
        ridge = -0.35 + 0.25 * math.sin(2.6 * u + seed) + 0.1 * math.sin(7.0 * u)
        if v < ridge - 0.25:
            return _mix(c2, (0.02, 0.03, 0.05), 0.6)
        if v < ridge:
            return c2
        return c1 if (u - 0.3) ** 2 + (v - 0.3) ** 2 < 0.07 else _mix(c1, c0, _clamp(0.5 + 0.6 * v))
    if kind == 1:  # coloured fields between black bars
        x, y = math.floor(1.6 * u + 0.3), math.floor(1.9 * v - 0.2)
        if _line(1.6 * u + 0.3, 1.0, 0.09, 0.01) + _line(1.9 * v - 0.2, 1.0, 0.09, 0.01) > 0.5:
            return (0.01, 0.01, 0.012)
        pick = _hash(x, y, seed)
        return c0 if pick < 0.25 else c1 if pick < 0.5 else c2 if pick < 0.75 else (0.85, 0.82, 0.75)
    if kind == 2:  # circles
        color = c0
        for i in range(5):
            x, y = 1.4 * _hash(i, 1, seed) - 0.7, 1.4 * _hash(i, 2, seed) - 0.7
            r = 0.2 + 0.35 * _hash(i, 3, seed)
            if (u - x) ** 2 + (v - y) ** 2 < r * r:
                color = _mix(c1, c2, _hash(i, 4, seed))
        return color
    bands = v + 0.5 * _noise(1.5 * u + 3.0, 1.5 * v, seed) + 0.2 * u  # waves
    step = _clamp(math.floor(2.5 * (bands + 1.0)) / 5.0)
    return _mix(c0, c1, 2.0 * step) if step < 0.5 else _mix(c1, c2, 2.0 * step - 1.0)


@kernel
def _sky(c0, c1, c2, u, v, w, h):
    hills = -0.55 + 0.10 * math.sin(1.3 * u * w + w) + 0.06 * _noise(5.0 * u * w, 0.0, 4)
    if v < hills:
        return _mix(c2, c1, 0.35 * _clamp(1.0 + (v - hills)))
    cloud = _clamp(2.2 * (_noise(1.1 * u * w, 2.5 * v * h, 8) * 0.7 + _noise(3.0 * u * w, 6.0 * v * h, 9) * 0.3 - 0.5))
    return _mix(_mix(c1, c0, _clamp(0.5 * v + 0.5)), (1.0, 1.0, 1.0), 0.8 * cloud)


@kernel
def _three(colors):
    return ((colors[0, 0], colors[0, 1], colors[0, 2]), (colors[1, 0], colors[1, 1], colors[1, 2]),
            (colors[2, 0], colors[2, 1], colors[2, 2]))


@kernel
def albedo(texture, colors, scale, seed, s, t, u, v, w, h, blur):
    """Linear RGB at a place of a surface: (s, t) metres in a frame common to all solids of one yaw, (u, v) in -1..1 on
    the face of w x h metres. `colors` (3, 3) linear."""
    c0, c1, c2 = _three(colors)
    if texture == Texture.PLASTER:
        return _mix((0.0, 0.0, 0.0), c0, 0.97 + 0.06 * (_detail(s, t, 0.12, blur, seed) - 0.5))
    if texture == Texture.WOOD:
        return _mix(c0, c1, _detail(0.1 * s, t, 0.05 * scale, blur, seed))
    if texture == Texture.PLANKS:
        return _boards(c0, c1, c2, scale, s, t, blur)
    if texture == Texture.TILES:
        return _cells(c0, c1, c2, scale, scale, 0.03 * scale, 0.0, s, t, blur)
    if texture == Texture.BRICK:
        return _cells(c0, c1, c2, scale, scale / 3.0, 0.05 * scale, 0.5, s, t, blur)
    if texture == Texture.CHECKER:
        a, b = _alternate(s, scale, blur), _alternate(t, scale, blur)
        return _mix(c0, c1, a + b - 2.0 * a * b)
    if texture == Texture.STRIPES:
        return _mix(c0, c1, _alternate(s, scale, blur))
    if texture == Texture.NOISE:
        return _mix(c0, c1, _clamp(1.6 * _detail(s, t, scale, blur, seed) - 0.3))
    if texture == Texture.RUG:
        return _rug(c0, c1, c2, scale, u, v, w, h, blur)
    if texture == Texture.PAINTING:
        return _painting(c0, c1, c2, u, v, seed)
    if texture == Texture.SKY:
        return _sky(c0, c1, c2, u, v, w, h)
    return c0

