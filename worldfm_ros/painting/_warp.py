"""The compiled kernel of warp.py: the same float32 operations in the same order as its numpy version, so equal arrays.

Of each row of the target, first what depends on the pixel alone (a loop that the compiler vectorises), then what is
looked up in the reference. Rows are independent: threads take bands of them, and the bytes do not depend on how many.
No function is called for a pixel that takes an array: numba would count references, which costs more than the work.
"""

from __future__ import annotations

import numba
import numpy as np

# compiled in, and numba's cache does not notice a change of it: delete __pycache__ after one
from worldfm_ros.painting.pyramid import LANE

FRACTION_BITS = 5
FRACTIONS = 1 << FRACTION_BITS  # places between two pixels that are told apart
FINER = 0.1  # the level is the finer one of the two around a place's size; the coarser one when it nearly fits
WEIGHT_BITS = 12  # the weights of the 16 pixels around a place sum up to 2 ** 12
SHRINK = 4  # pixels, the side of the squares that holes are filled from
BIAS = 128 << WEIGHT_BITS  # added to each channel's sum: cubic weights are partly negative, at most by 114 levels

_MASK = (1 << LANE) - 1
_BIASES = BIAS | BIAS << LANE | BIAS << (2 * LANE)
_ZERO, _HALF, _ONE, _TWO, _WHITE = (np.float32(x) for x in (0, 0.5, 1, 2, 255))
_NEUTRAL, _OCTAVE, _FRACTIONS = np.float32(128), np.float32(32), np.float32(FRACTIONS)
_FINER = np.float32(FINER)
_0, _1, _2 = np.uint64(0), np.uint64(1), np.uint64(2)
_U, _V, _Z, _CHORD, _OCTAVES, _FOUND, _FARTHER = range(7)  # what is known of each pixel of a row

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


@_kernel
def warp_rows(pyramid, measured, target, projection, limits, gain, out, top, bottom):
    """Fill rows top..bottom - 1 of `out` = (rgb, shown, beyond, quality (5 or 0, H, W)), all 0, from one reference.

    pyramid: pixels, levels and scales, and the table of weights; measured (h, w) float32, the reference's depth;
    target: its depth (H, W) float32, and moves (2, H, W) float32 or (2, 0, 0); projection: 20 float32, see
    `Projection`; limits: NEAR, tolerance and scale of depth; gain: 3 float32, over 2 ** WEIGHT_BITS.
    """
    rgb, shown, beyond, quality = out
    surface, moves = target
    line, where = np.empty((7, surface.shape[1]), np.float32), np.empty((3, surface.shape[1]), np.int32)
    rows, columns = np.empty(surface.shape[1], np.float32), np.arange(surface.shape[1]).astype(np.float32)
    totals = np.zeros(surface.shape[1], np.int64)
    for row in range(top, bottom):
        if moves.shape[1]:
            for m in range(len(rows)):
                columns[m] = np.float32(m) + moves[0, row, m]
            for m in range(len(rows)):
                rows[m] = np.float32(row) + moves[1, row, m]
        else:
            rows[:] = np.float32(row)
        _place(line, surface[row], np.float32(row), (rows, columns), projection, limits[0])
        _look(line, where[0], measured, limits, shown[row], beyond[row], quality[:, row])
        _take(line, (where[0], where[1], where[2], totals), pyramid, gain, shown[row], rgb[row])


@_kernel
def blend_rows(warped, drawing, tables, out, top, bottom):
    """Rows top..bottom - 1 of `out` = (rgb, known): the mean of the references and the drawing by weight.

    warped: rgb (K, H, W, 3), shown, angles and rims (K, H, W); drawing: rgb (H, W, 3), its levels after the gain
    (3, 256) uint8, and drawn (H, W) bool; tables: the weights (K, 256) float32 of a reference by its angle, to be
    multiplied with its rim, and the drawing's. Known is what has a weight of 1 or more.
    """
    pictures, shown, angles, rims = warped
    drawn_rgb, drawn_levels, drawn = drawing
    weights, drawn_weight = tables
    rgb, known = out
    width = drawn.shape[1]
    weight, sums, total = np.empty(width, np.float32), np.empty((3, width), np.float32), np.empty(width, np.float32)
    for row in range(top, bottom):
        for m in range(width):
            total[m] = drawn_weight if drawn[row, m] else _ZERO
        for channel in range(3):
            for m in range(width):
                level = drawn_levels[channel, np.uint64(drawn_rgb[row, m, channel])]
                sums[channel, m] = total[m] * np.float32(level)
        for k in range(len(pictures)):
            for m in range(width):
                weight[m] = weights[k, np.uint64(angles[k, row, m])]
            for m in range(width):
                weight[m] = weight[m] * np.float32(rims[k, row, m]) if shown[k, row, m] else _ZERO
                total[m] += weight[m]
            for channel in range(3):
                for m in range(width):
                    sums[channel, m] += weight[m] * np.float32(pictures[k, row, m, channel])
        for m in range(width):
            known[row, m] = total[m] > _ZERO
            total[m] = _ONE / max(total[m], _ONE)
        for channel in range(3):
            for m in range(width):
                rgb[row, m, channel] = _byte(sums[channel, m] * total[m])


@_kernel
def shrink(rgb, holes, small):
    """Fill small (h, w, 4) float32: the sums of R, G, B and the number of what is known in squares of SHRINK pixels."""
    for row in range(len(rgb)):
        for column in range(rgb.shape[1]):
            if not holes[row, column]:
                y, x = row // SHRINK, column // SHRINK
                small[y, x, 0] += np.float32(rgb[row, column, 0])
                small[y, x, 1] += np.float32(rgb[row, column, 1])
                small[y, x, 2] += np.float32(rgb[row, column, 2])
                small[y, x, 3] += _ONE


@_kernel
def _look(line, where, measured, limits, shown, beyond, quality):
    """What the reference's depth says of the row's places. quality (5, W)

    Short loops that each write one array are vectorised; one loop for all is four times as slow.
    """
    _, tolerance, scale = limits
    height, width = measured.shape
    flat = measured.reshape(-1)
    low, right = np.float32(height) - _HALF, np.float32(width) - _HALF
    for m in range(len(shown)):
        u, v = line[_U, m], line[_V, m]
        inside = (line[_Z, m] > _ZERO) & (u >= -_HALF) & (u < right) & (v >= -_HALF) & (v < low)
        row = min(np.int32(v + _HALF if inside else _ZERO), np.int32(height - 1))
        column = min(np.int32(u + _HALF if inside else _ZERO), np.int32(width - 1))
        where[m] = row * np.int32(width) + column if inside else np.int32(-1)
    for m in range(len(shown)):
        line[_FOUND, m] = flat[np.uint64(max(where[m], 0))]
    for m in range(len(shown)):
        z, found = line[_Z, m], line[_FOUND, m]
        farther = (found - z) / (z if z > _ZERO else _ONE)
        line[_FARTHER, m] = farther if found > _ZERO else _ZERO
    for m in range(len(shown)):
        shown[m] = (where[m] >= 0) & (line[_FARTHER, m] > -tolerance)
    for m in range(len(shown)):
        beyond[m] = shown[m] & (line[_FARTHER, m] > tolerance)
    if not len(quality):
        return
    for m in range(len(shown)):
        quality[0, m] = _byte(_WHITE * line[_CHORD, m]) if shown[m] else 0
    for m in range(len(shown)):
        quality[1, m] = _byte(_NEUTRAL + _OCTAVE * line[_OCTAVES, m]) if shown[m] else 0
    for m in range(len(shown)):
        quality[2, m] = _byte(_NEUTRAL + scale * line[_FARTHER, m]) if shown[m] else 0
    for m in range(len(shown)):
        quality[3, m] = 255 if shown[m] & (line[_FOUND, m] > _ZERO) else 0


@_kernel
def _byte(x):
    return np.uint8(np.int32(min(max(x + _HALF, _ZERO), _WHITE)))


@_kernel
def _place(line, depth, row, moved, projection, near):
    """Place in the reference of what is at the moved places (rows and columns) at a row's depth, angle and ratio of
    sizes of its pixels; z = 0 for what is not in front of the reference."""
    rows, columns = moved
    a0, b0, c0, o0, a1, b1, c1, o1, a2, b2, c2, o2, fx, fy, cx, cy, ex, ey, ez, zoom = projection
    y = (row - cy) * fy
    tiny = near * near * near * near
    for m in range(len(depth)):
        d, column = depth[m], np.float32(m)
        z = d * (a2 * columns[m] + (b2 * rows[m] + c2)) + o2
        front = (d > _ZERO) & (z > near)
        safe = z if front else _ONE
        line[_Z, m] = z if front else _ZERO
        line[_U, m] = (d * (a0 * columns[m] + (b0 * rows[m] + c0)) + o0) / safe
        line[_V, m] = (d * (a1 * columns[m] + (b1 * rows[m] + c1)) + o1) / safe
        ratio = np.float32(d * zoom / safe)
        line[_OCTAVES, m] = np.float32(np.float32(ratio).view(np.int32)) * np.float32(2**-23) - np.float32(127)
        px, py = d * ((column - cx) * fx), d * y
        qx, qy, qz = px - ex, py - ey, d - ez
        square = (px * px + py * py + d * d) * (qx * qx + qy * qy + qz * qz)
        cosine = (px * qx + py * qy + d * qz) / np.sqrt(square if square > tiny else tiny)
        chord = _TWO - _TWO * cosine
        line[_CHORD, m] = np.sqrt(chord if chord > _ZERO else _ZERO)


@_kernel
def _take(line, where, pyramid, gain, shown, rgb):
    """The colours at the row's places: the 16 pixels around each, in the level for the ratio of sizes, by weight."""
    pixels, levels, scales, weights = pyramid
    numbers, xs, ys, totals = where
    last = np.float32(len(levels) - 1)
    for m in range(len(shown)):
        number = min(max(_TWO * line[_OCTAVES, m] + _FINER, _ZERO), last)
        numbers[m] = np.int32(number if shown[m] else _ZERO)
    for m in range(len(shown)):
        number = np.uint64(numbers[m])
        line[_CHORD, m], line[_FOUND, m] = scales[number, _0], scales[number, _1]  # what was there is not needed now
    for m in range(len(shown)):
        u, v = (line[_U, m], line[_V, m]) if shown[m] else (_ZERO, _ZERO)
        xs[m] = np.int32(np.floor(((u + _HALF) * line[_CHORD, m] - _HALF) * _FRACTIONS + _HALF))
        ys[m] = np.int32(np.floor(((v + _HALF) * line[_FOUND, m] - _HALF) * _FRACTIONS + _HALF))
    for m in range(len(shown)):
        if not shown[m]:
            continue
        number = np.uint64(numbers[m])
        first, width, height = levels[number, _0], levels[number, _1], levels[number, _2]
        x, y = np.int64(xs[m]), np.int64(ys[m])
        entry = np.uint64(((y & (FRACTIONS - 1)) << FRACTION_BITS) | (x & (FRACTIONS - 1)))
        x, y = (x >> FRACTION_BITS) - 1, (y >> FRACTION_BITS) - 1
        total = np.int64(_BIASES)
        if (x >= 0) & (x + 3 < width) & (y >= 0) & (y + 3 < height):
            for j in range(4):
                at = first + (y + j) * width + x
                for i in range(4):
                    total += np.int64(weights[entry, np.uint64(4 * j + i)]) * pixels[np.uint64(at + i)]
        else:
            for j in range(4):
                at = first + min(max(y + j, 0), height - 1) * width
                for i in range(4):
                    total += (np.int64(weights[entry, np.uint64(4 * j + i)])
                              * pixels[np.uint64(at + min(max(x + i, 0), width - 1))])
        totals[m] = total
    for channel in range(3):
        for m in range(len(shown)):
            total = np.int32((totals[m] >> (LANE * channel)) & _MASK) - np.int32(BIAS)
            numbers[m] = np.int32(_byte(np.float32(total) * gain[channel])) if shown[m] else 0
        for m in range(len(shown)):
            rgb[m, channel] = np.uint8(numbers[m])
