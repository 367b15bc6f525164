"""The compiled kernels of composed.py: a small decision applied to full-size pictures, as frame_model.composer.compose.

What the decision holds is interpolated linearly at each pixel, not enlarged first: that would write ten times as much
memory as is read. Rows are independent; the bytes do not depend on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np

_HALF, _ONE, _ZERO, _WHITE = np.float32(0.5), np.float32(1), np.float32(0), np.float32(255)
_NINTH = np.float32(1 / 9)
_TINY = np.float32(1e-6)

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


@_kernel
def _place(x, small, full):
    """The two pixels of a row of `small` that pixel x of `full` lies between, and the second one's share."""
    at = (np.float32(x) + _HALF) * (np.float32(small) / np.float32(full)) - _HALF
    at = min(max(at, _ZERO), np.float32(small - 1))
    first = int(at)
    return first, min(first + 1, small - 1), at - np.float32(first)


@_kernel
def mix_rows(pictures, shown, weights, painted, mixed, known, top, bottom):
    """Fill rows top..bottom - 1 of mixed (H, W, 3) float32, 0..255, and known (H, W) float32, 0..1.

    pictures (1 + K, H, W, 3) uint8, the drawing first; shown (1 + K, H, W) uint8: not 0 where a picture may be used;
    for the drawing, which always may, where it is drawn. weights (h, w, K + 2), painted (h', w', 3) float32, 0..255.
    known: the share of what was drawn or shown.
    """
    count, height, width = pictures.shape[:3]
    share = np.empty(count + 1, np.float32)
    for y in range(top, bottom):
        a, b, t = _place(y, weights.shape[0], height)
        c, d, s = _place(y, painted.shape[0], height)
        for x in range(width):
            i, j, u = _place(x, weights.shape[1], width)
            total = _ZERO
            for k in range(count + 1):
                value = ((_ONE - t) * ((_ONE - u) * weights[a, i, k] + u * weights[a, j, k])
                         + t * ((_ONE - u) * weights[b, i, k] + u * weights[b, j, k]))
                if 0 < k < count and shown[k, y, x] == 0:
                    value = _ZERO
                share[k] = value
                total += value
            scale = _ONE / max(total, _TINY)
            m, n, v = _place(x, painted.shape[1], width)
            for channel in range(3):
                value = ((_ONE - s) * ((_ONE - v) * painted[c, m, channel] + v * painted[c, n, channel])
                         + s * ((_ONE - v) * painted[d, m, channel] + v * painted[d, n, channel])) * share[count]
                for k in range(count):
                    value += share[k] * np.float32(pictures[k, y, x, channel])
                mixed[y, x, channel] = value * scale
            seen = _ZERO
            for k in range(count):
                if shown[k, y, x] != 0:
                    seen += share[k]
            known[y, x] = seen * scale


@_kernel
def finish_rows(mixed, extra, out, top, bottom):
    """Fill rows top..bottom - 1 of out (H, W, 3) uint8: mixed with its detail changed, and the residual.

    extra (h', w', 4) float32: the residual, 0..255, and the part of the finest detail that is added.
    """
    height, width = mixed.shape[:2]
    for y in range(top, bottom):
        a, b, t = _place(y, extra.shape[0], height)
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            i, j, u = _place(x, extra.shape[1], width)
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            detail = ((_ONE - t) * ((_ONE - u) * extra[a, i, 3] + u * extra[a, j, 3])
                      + t * ((_ONE - u) * extra[b, i, 3] + u * extra[b, j, 3]))
            for channel in range(3):
                residual = ((_ONE - t) * ((_ONE - u) * extra[a, i, channel] + u * extra[a, j, channel])
                            + t * ((_ONE - u) * extra[b, i, channel] + u * extra[b, j, channel]))
                around = (mixed[above, left, channel] + mixed[above, x, channel] + mixed[above, right, channel]
                          + mixed[y, left, channel] + mixed[y, x, channel] + mixed[y, right, channel]
                          + mixed[below, left, channel] + mixed[below, x, channel] + mixed[below, right, channel])
                value = mixed[y, x, channel]
                value += detail * (value - around * _NINTH) + residual
                out[y, x, channel] = np.uint8(min(max(value + _HALF, _ZERO), _WHITE))
