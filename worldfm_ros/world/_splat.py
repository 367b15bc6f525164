"""The renderer's compiled kernels: `draw` splats points into a buffer of keys, `resolve` and `paint` make images of it.

They follow the rule in renderer.py with the same float32 operations in the same order as its numpy reference, so the
images are equal. A key packs the splat's depth (float bits; positive floats sort like integers) above the point's
number: the smallest key wins, whatever the order of drawing. The kernels keep no state and run without the GIL.

Points are taken in blocks that stay in the L1 cache; blocks that cannot touch the image are skipped. Most splats touch
a few pixels, so each point gets the box of pixels around its disc, and points with a box of the same size are drawn
together: loops of fixed length and no unpredictable branches. Positions come as one flat array, because only a known
stride lets the compiler vectorise the projection (6 times as fast).
"""

from __future__ import annotations

import numba
import numpy as np

# compiled in, and numba's cache does not notice a change of them: delete __pycache__ after one
from worldfm_ros.world.anchors import BLOCK, NEAR, TOLERANCE

MAX_SPLAT = 64  # pixels, the largest radius of a splat
MIN_SQUARED = np.float32(1e-12)  # square pixels; a radius of 0 must not divide by 0
EMPTY = 0x7F800000 << 32  # the key of an uncovered pixel: depth infinity
BOX = 4  # pixels; splats of a larger box are drawn one by one
PAD = BOX - 1  # pixels around the image, so that a box that touches the image needs no clipping
PAGE = 4096  # the points of a tile are numbered from a multiple of this, so that a number's page tells its tile

_LARGE = BOX * BOX + 1
_SLACK = np.float32(2e-3)  # pixels; boxes are generous by this much, far more than float32 rounding at 8192 pixels
_ROUND = np.float32(1.5 * 2**23)  # (x + _ROUND) - _ROUND is x rounded half to even, for |x| < 2**22
_HALF, _ONE, _ZERO, _INF = np.float32(0.5), np.float32(1), np.float32(0), np.float32(np.inf)
_NEAR, _MAX_SPLAT, _BOX = np.float32(NEAR), np.float32(MAX_SPLAT), np.float32(BOX)
_U, _V, _Z, _R2, _FALL, _RADIUS, _X0, _Y0, _GROUP, _ROWS = range(10)  # what is known of each point of a block

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


def key_buffer(width: int, height: int) -> np.ndarray:
    """An empty (height + 2 PAD, width + 2 PAD) int64 buffer for `draw`."""
    return np.full((height + 2 * PAD, width + 2 * PAD), EMPTY, np.int64)


@_kernel
def draw(keys, frustum, P, scale, points, radius, blocks, first):
    """Splat points (3 N,) float32 with radius (N,), numbered from `first`, through P (3, 4) float32 into `keys`.

    `blocks` are the bounds of each BLOCK points (`Anchors.blocks`), `frustum` is the test for them (`frustum`).
    """
    height, stride = keys.shape
    width, height = stride - 2 * PAD, height - 2 * PAD
    flat = keys.reshape(-1)
    planes, terms = _planes(frustum, P)
    block = np.empty((_ROWS, BLOCK), np.float32)
    corner = np.empty(BLOCK, np.int64)
    groups = np.empty((_LARGE + 1, BLOCK), np.uint32)
    counts = np.empty(_LARGE + 1, np.uint32)
    depths = np.empty((BOX * BOX, BLOCK), np.float32)
    for start in range(0, len(radius), BLOCK):
        if _outside(blocks[start // BLOCK], frustum, planes, terms):
            continue
        n = min(BLOCK, len(radius) - start)
        _project(block, P, scale, points[3 * start:], radius[start:], n, width, height)
        if not _group(block, n, stride, corner, groups, counts):
            continue
        _draw_boxes(flat, stride, block, n, corner, groups, counts, depths, first + start)
        for k in range(counts[_LARGE]):
            m = groups[_LARGE, k]
            _draw_disc(flat, stride, width, height, block[:, m], first + start + np.int64(m))


@_kernel
def _planes(frustum, P):
    """The frustum's planes (5, 4) in tile coordinates, and the sums of the sizes of the terms that make them up."""
    planes, terms = np.zeros((len(frustum), 4)), np.zeros((len(frustum), 4))
    for k in range(len(frustum)):
        for row in range(3):
            for column in range(4):
                term = frustum[k, row] * P[row, column]
                planes[k, column] += term
                terms[k, column] += abs(term)
    return planes, terms


@_kernel
def _outside(bounds, frustum, planes, terms):
    """Whether a block lies outside of a plane, even were the points' projections wrong by TOLERANCE of their terms."""
    for k in range(len(planes)):
        farthest = planes[k, 3] + frustum[k, 3] * bounds[6]
        slack = terms[k, 3]
        for axis in range(3):
            farthest += planes[k, axis] * bounds[axis] + abs(planes[k, axis]) * bounds[axis + 3]
            slack += terms[k, axis] * (abs(bounds[axis]) + bounds[axis + 3])
        if farthest + TOLERANCE * slack < frustum[k, 4]:
            return True
    return False


@_kernel
def _project(block, P, scale, points, radius, n, width, height):
    """Where the block's points fall and their group: columns + BOX (rows - 1) of the box, _LARGE, or 0 for unseen."""
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    a0, a1, a2, a3 = P[0, 0], P[0, 1], P[0, 2], P[0, 3]
    b0, b1, b2, b3 = P[1, 0], P[1, 1], P[1, 2], P[1, 3]
    c0, c1, c2, c3 = P[2, 0], P[2, 1], P[2, 2], P[2, 3]
    for m in range(n):
        X, Y, Z, R = points[3 * m], points[3 * m + 1], points[3 * m + 2], radius[m]
        z = c0 * X + c1 * Y + c2 * Z + c3
        inverse = _ONE / z
        u = (a0 * X + a1 * Y + a2 * Z + a3) * inverse
        v = (b0 * X + b1 * Y + b2 * Z + b3) * inverse
        r = scale * R * inverse
        r = r if r < _MAX_SPLAT else _MAX_SPLAT
        r2 = r * r
        r2 = r2 if r2 > MIN_SQUARED else MIN_SQUARED
        reach = (r if r > _HALF else _HALF) + (_SLACK - _HALF)  # -0.5: rounding then gives ceil and floor
        x0, x1 = ((u - reach) + _ROUND) - _ROUND, ((u + reach) + _ROUND) - _ROUND
        y0, y1 = ((v - reach) + _ROUND) - _ROUND, ((v + reach) + _ROUND) - _ROUND
        seen = (z > _NEAR) & (x1 >= _ZERO) & (x0 <= right) & (y1 >= _ZERO) & (y0 <= bottom)
        small = (x1 - x0 < _BOX) & (y1 - y0 < _BOX)
        group = (x1 - x0 + _ONE) + (y1 - y0) * _BOX if small else np.float32(_LARGE)
        block[_U, m], block[_V, m], block[_Z, m], block[_R2, m] = u, v, z, r2
        block[_FALL, m], block[_RADIUS, m], block[_X0, m], block[_Y0, m] = R / r2, R, x0, y0
        block[_GROUP, m] = group if seen else _ZERO


@_kernel
def _group(block, n, stride, corner, groups, counts):
    """Sort the block's points by group, and find where each box begins in the buffer. False: no point is seen."""
    seen = 0
    for m in range(n):
        seen += np.int64(block[_GROUP, m] > _ZERO)
    if seen == 0:
        return False
    counts[:] = 0
    for m in range(n):
        group = np.uint32(np.int32(block[_GROUP, m]))
        groups[group, counts[group]] = m
        counts[group] += np.uint32(1)
    for m in range(n):
        corner[m] = (np.int64(block[_Y0, m]) + PAD) * stride + np.int64(block[_X0, m]) + PAD
    return True


@_kernel
def _draw_boxes(flat, stride, block, n, corner, groups, counts, depths, first):
    """First each point's key depth at every place of the largest box, then the updates of the buffer by group."""
    columns = rows = 0
    for group in range(1, _LARGE):
        if counts[group] > 0:
            columns, rows = max(columns, (group - 1) % BOX + 1), max(rows, (group - 1) // BOX + 1)
    for j in range(rows):
        for i in range(columns):
            for m in range(n):
                u, v, radius = block[_U, m], block[_V, m], block[_RADIUS, m]
                x, y = block[_X0, m] + np.float32(i), block[_Y0, m] + np.float32(j)
                d2 = (x - u) * (x - u) + (y - v) * (y - v)
                fall = d2 * block[_FALL, m]
                covers = (d2 <= block[_R2, m]) | ((x == (u + _ROUND) - _ROUND) & (y == (v + _ROUND) - _ROUND))
                depths[j * BOX + i, m] = block[_Z, m] + (fall if fall < radius else radius) if covers else _INF
    for group in range(1, _LARGE):
        members = groups[group]
        for j in range((group - 1) // BOX + 1):
            for i in range((group - 1) % BOX + 1):
                place = depths[j * BOX + i]
                offset = j * stride + i
                for k in range(counts[group]):
                    m = members[k]
                    key = (np.int64(np.float32(place[m]).view(np.int32)) << 32) | (first + np.int64(m))
                    at = np.uint64(corner[m] + offset)
                    old = flat[at]
                    flat[at] = key if key < old else old


@_kernel
def _draw_disc(flat, stride, width, height, point, index):
    """One large splat; its own pixel is always inside."""
    u, v, z, r2, slope, radius = point[_U], point[_V], point[_Z], point[_R2], point[_FALL], point[_RADIUS]
    reach = np.sqrt(r2) + _SLACK
    x0, x1 = max(int(np.ceil(u - reach)), 0), min(int(np.floor(u + reach)), width - 1)
    y0, y1 = max(int(np.ceil(v - reach)), 0), min(int(np.floor(v + reach)), height - 1)
    for y in range(y0, y1 + 1):
        row = (y + PAD) * stride + PAD
        dv = np.float32(y) - v
        for x in range(x0, x1 + 1):
            du = np.float32(x) - u
            d2 = du * du + dv * dv
            fall = d2 * slope
            depth = z + (fall if fall < radius else radius) if d2 <= r2 else _INF
            key = (np.int64(np.float32(depth).view(np.int32)) << 32) | index
            at = np.uint64(row + x)
            old = flat[at]
            flat[at] = key if key < old else old


@_kernel
def resolve(keys, top, bottom, tile_of_page, tiles):
    """The winners of the image rows top..bottom - 1, tile by tile.

    Returns pixels (M,) uint32, flat indices into the image; numbers (M,) uint32 of the points that won them; and
    starts (tiles + 1,): tile t has won pixels[starts[t]:starts[t + 1]].
    """
    width = keys.shape[1] - 2 * PAD
    starts = np.zeros(tiles + 1, np.int64)
    for y in range(top, bottom):
        for x in range(width):
            key = keys[y + PAD, x + PAD]
            if key < EMPTY:
                starts[tile_of_page[(key & 0xFFFFFFFF) // PAGE] + 1] += 1
    starts = np.cumsum(starts)
    cursor = starts.copy()
    pixels, numbers = np.empty(starts[-1], np.uint32), np.empty(starts[-1], np.uint32)
    for y in range(top, bottom):
        for x in range(width):
            key = keys[y + PAD, x + PAD]
            if key < EMPTY:
                number = key & 0xFFFFFFFF
                tile = tile_of_page[number // PAGE]
                pixels[cursor[tile]], numbers[cursor[tile]] = y * width + x, number
                cursor[tile] += 1
    return pixels, numbers, starts


@_kernel
def paint(pixels, numbers, first, P, points, colors, labels, rgb, depth, label_image):
    """Fill the flat images (H W, 3), (H W,), (H W,) at the pixels that a tile has won."""
    c0, c1, c2, c3 = P[2, 0], P[2, 1], P[2, 2], P[2, 3]
    for k in range(len(pixels)):
        p, m = pixels[k], np.uint32(numbers[k] - first)
        depth[p] = c0 * points[3 * m] + c1 * points[3 * m + 1] + c2 * points[3 * m + 2] + c3
        label_image[p] = labels[m]
        rgb[p, 0], rgb[p, 1], rgb[p, 2] = colors[m, 0], colors[m, 1], colors[m, 2]
