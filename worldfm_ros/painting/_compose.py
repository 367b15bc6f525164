"""The compiled kernels of composed.py: what a composer reads, as frame_model.composer.Inputs.of; and its small decision
applied to full-size pictures, as frame_model.composer.compose.

What the decision holds is interpolated linearly, row by row: first between its rows, then along the row, in loops that
the compiler vectorises. Rows are independent; the bytes do not depend on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np

_HALF, _ONE, _ZERO, _WHITE = np.float32(0.5), np.float32(1), np.float32(0), np.float32(255)
_NINTH = np.float32(1 / 9)
_TINY = np.float32(1e-6)

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


@_kernel
def _places(small, full):
    """Of each of `full` pixels of a line, the first of the two of `small` that it lies between, and the next one's
    share."""
    first, share = np.empty(full, np.int32), np.empty(full, np.float32)
    scale = np.float32(small) / np.float32(full)
    for x in range(full):
        at = min(max((np.float32(x) + _HALF) * scale - _HALF, _ZERO), np.float32(small - 1))
        first[x] = min(np.int32(at), max(small - 2, 0))
        share[x] = at - np.float32(first[x])
    return first, share


@_kernel
def _row(image, y, rows, columns, between, out):
    """Row y of an image (h, w), enlarged, into out (W,). between (w + 1,) is worked in."""
    (above, down), (left, right) = rows, columns
    i, t = above[y], down[y]
    below = min(i + 1, len(image) - 1)
    width = image.shape[1]
    for x in range(width):
        between[x] = (_ONE - t) * image[i, x] + t * image[below, x]
    between[width] = between[width - 1]
    for x in range(len(out)):
        j = np.uint64(left[x])
        out[x] = (_ONE - right[x]) * between[j] + right[x] * between[j + np.uint64(1)]


@_kernel
def mix_rows(pictures, shown, weights, painted, mixed, known, top, bottom):
    """Fill rows top..bottom - 1 of mixed (3, H, W) float32, 0..255, and known (H, W) float32, 0..1.

    pictures (1 + K, H, W, 3) uint8, the drawing first; shown (1 + K, H, W) uint8: not 0 where a picture may be used;
    for the drawing, which always may, where it is drawn. weights (K + 2, h, w), painted (3, h', w') float32, 0..255.
    known: the share of what was drawn or shown.
    """
    count, height, width = pictures.shape[:3]
    share, line = np.empty((count + 1, width), np.float32), np.empty(width, np.float32)
    total, seen = np.empty(width, np.float32), np.empty(width, np.float32)
    between = np.empty(max(weights.shape[2], painted.shape[2]) + 1, np.float32)
    rows, columns = _places(weights.shape[1], height), _places(weights.shape[2], width)
    painted_rows, painted_columns = _places(painted.shape[1], height), _places(painted.shape[2], width)
    for y in range(top, bottom):
        total[:], seen[:] = _ZERO, _ZERO
        for k in range(count + 1):
            _row(weights[k], y, rows, columns, between, share[k])
            if 0 < k < count:
                for x in range(width):
                    share[k, x] = share[k, x] if shown[k, y, x] != 0 else _ZERO
            for x in range(width):
                total[x] += share[k, x]
            if k < count:
                for x in range(width):
                    seen[x] += share[k, x] if shown[k, y, x] != 0 else _ZERO
        for x in range(width):
            total[x] = _ONE / max(total[x], _TINY)
            known[y, x] = seen[x] * total[x]
        for channel in range(3):
            _row(painted[channel], y, painted_rows, painted_columns, between, line)
            for x in range(width):
                line[x] = line[x] * share[count, x]
            for k in range(count):
                for x in range(width):
                    line[x] += share[k, x] * np.float32(pictures[k, y, x, channel])
            for x in range(width):
                mixed[channel, y, x] = line[x] * total[x]


@_kernel
def finish_rows(mixed, extra, out, top, bottom):
    """Fill rows top..bottom - 1 of out (H, W, 3) uint8: mixed with its detail changed, and the residual.

    extra (4, h', w') float32: the residual, 0..255, and the part of the finest detail that is added.
    """
    height, width = mixed.shape[1:]
    detail, residual = np.empty(width, np.float32), np.empty(width, np.float32)
    around, between = np.empty(width, np.float32), np.empty(extra.shape[2] + 1, np.float32)
    column = np.empty(width + 2, np.float32)
    rows, columns = _places(extra.shape[1], height), _places(extra.shape[2], width)
    for y in range(top, bottom):
        _row(extra[3], y, rows, columns, between, detail)
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for channel in range(3):
            _row(extra[channel], y, rows, columns, between, residual)
            for x in range(width):
                column[x + 1] = mixed[channel, above, x] + mixed[channel, y, x] + mixed[channel, below, x]
            column[0], column[width + 1] = column[1], column[width]
            for x in range(width):
                around[x] = column[x] + column[x + 1] + column[x + 2]
            for x in range(width):
                value = mixed[channel, y, x]
                value += detail[x] * (value - around[x] * _NINTH) + residual[x]
                out[y, x, channel] = np.uint8(np.int32(min(max(value + _HALF, _ZERO), _WHITE)))


@_kernel
def read_rows(pictures, surface, facts, logarithms, references, drawing, prior, painted, top, bottom):
    """Fill rows top..bottom - 1, both even, of a composer's inputs; beyond the pictures their last pixels go on.

    pictures (1 + K, h, w, 3), surface (h, w, 2), facts (K, h, w, 7) uint8: painting.composed.Memory's. logarithms
    (2, 256) float32: of a weight, and of the painted picture's, by the rest of the weights. references (R, H, W, 10),
    drawing (H, W, 8), prior (H, W, R + 2), painted (H / 2, W / 2, 3), all float32: Inputs'.
    """
    count, places = len(facts), len(references)
    height, width = surface.shape[:2]
    unit, level = _ONE / _WHITE, np.float32(2) / _WHITE
    blend, quarter = np.empty(3, np.float32), np.float32(0.25)
    painted[top // 2:bottom // 2] = _ZERO
    references[count:, top:bottom] = _ZERO
    for row in range(top, bottom):
        y = min(row, height - 1)
        for column in range(prior.shape[1]):
            x, rest, blend[:] = min(column, width - 1), np.int64(255), _ZERO
            for k in range(count):
                weight = np.int64(facts[k, y, x, 1])
                rest -= weight
                prior[row, column, 1 + k] = logarithms[0, weight]
                for channel in range(3):
                    blend[channel] += np.float32(weight) * np.float32(pictures[1 + k, y, x, channel])
            for k in range(count, places):
                prior[row, column, 1 + k] = logarithms[0, 0]
            prior[row, column, 0] = logarithms[0, max(rest, 0)]
            prior[row, column, places + 1] = logarithms[1, max(rest, 0)]
            for channel in range(3):
                drawn = np.float32(pictures[0, y, x, channel])
                mixed = (blend[channel] + np.float32(rest) * drawn) * unit
                blend[channel] = mixed
                drawing[row, column, channel] = mixed * level - _ONE
                drawing[row, column, 3 + channel] = (drawn - mixed) * level
                painted[row // 2, column // 2, channel] += quarter * drawing[row, column, channel]
            drawing[row, column, 6] = np.float32(surface[y, x, 0]) * unit
            drawing[row, column, 7] = np.float32(surface[y, x, 1]) * np.float32(1 / 64)
            for k in range(count):
                for channel in range(3):
                    colour = (np.float32(pictures[1 + k, y, x, channel]) - blend[channel]) * level
                    references[k, row, column, channel] = colour if facts[k, y, x, 0] != 0 else _ZERO
                for fact in range(7):
                    references[k, row, column, 3 + fact] = np.float32(facts[k, y, x, fact]) * unit
