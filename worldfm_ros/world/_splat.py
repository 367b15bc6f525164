"""The renderer's compiled kernels: `draw` splats points into a buffer of keys, `paint` makes images of the buffers.

They follow the rule in renderer.py with the same float32 operations in the same order as its numpy reference, so the
images are equal. A key packs the splat's depth (float bits; positive floats sort like integers) above the point's
number: the smallest key wins, whatever the order of drawing. The kernels keep no state and run without the GIL.

Points are taken in blocks that stay in the L1 cache; blocks that cannot touch the image are skipped. Most splats touch
a few pixels: the box of pixels around such a disc is one vector (`draw_box`). What a point needs is found out for the
whole block first, so that each kind is drawn by a loop without unpredictable branches. Positions come as one flat
array, because only a known stride lets the compiler vectorise the projection (6 times as fast).
"""

from __future__ import annotations

import numba
import numpy as np

# compiled in, and numba's cache does not notice a change of them: delete __pycache__ after one
from worldfm_ros.world._vectors import BOX, ROUND, draw_box, pointer, prefetch, take
from worldfm_ros.world.anchors import BLOCK, NEAR, TOLERANCE

MAX_SPLAT = 64  # pixels, the largest radius of a splat
MIN_SQUARED = np.float32(1e-12)  # square pixels; a radius of 0 must not divide by 0
EMPTY = 0x7F800000 << 32  # the key of an uncovered pixel: depth infinity
PAD = BOX - 1  # pixels around the image, so that a box that touches the image needs no clipping
PAGE = 4096  # the points of a tile are numbered from a multiple of this, so that a number's page tells its tile
CHUNK = 64 * BLOCK  # points drawn at a time by one thread
TILE = np.dtype([("P", np.float32, (3, 4)), ("first", np.int64), ("count", np.int64),
                 *((name, np.uint64) for name in ("points", "radius", "colors", "labels", "blocks"))])

_SLACK = np.float32(2e-3)  # pixels; boxes are generous by this much, far more than float32 rounding at 8192 pixels
_HALF, _ONE, _ZERO, _INF = np.float32(0.5), np.float32(1), np.float32(0), np.float32(np.inf)
_NEAR, _MAX_SPLAT, _BOX = np.float32(NEAR), np.float32(MAX_SPLAT), np.float32(BOX)
_U, _V, _Z, _R2, _FALL, _RADIUS, _X0, _Y0, _KIND, _ROWS = range(10)  # what is known of each point of a block
_UNSEEN, _DOT, _FLAT, _BOXED, _LARGE, _KINDS = range(6)  # by the pixels: none, 1, 2 rows, up to BOX rows, more

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


@_kernel
def draw(keys, frustum, scale, tiles, chunks, taken):
    """Splat points into `keys` (height + 2 PAD, width + 2 PAD) int64, which is empty first.

    `tiles` are records of TILE: the projection P from tile coordinates to u z, v z, z; the number of the first point,
    their count, and where the arrays of `Anchors` begin. `chunks` (C, 2) are tiles and points at which CHUNK points
    begin; `taken` (1,) counts the chunks that some thread has taken. `frustum` is the test for blocks (`frustum`).
    """
    keys[:] = EMPTY
    room = (np.empty((_ROWS, BLOCK), np.float32), np.empty(BLOCK, np.int64), np.empty((_KINDS, BLOCK), np.uint32),
            np.empty(_KINDS, np.uint64))
    while True:
        c = take(taken)
        if c >= len(chunks):
            return
        tile = tiles[chunks[c, 0]]
        _draw_chunk(keys, frustum, scale, tile, chunks[c, 1], room)


@_kernel
def _draw_chunk(keys, frustum, scale, tile, begin, room):
    height, stride = keys.shape
    width, height = stride - 2 * PAD, height - 2 * PAD
    flat = keys.reshape(-1)
    block, corner, lists, counts = room
    points = numba.carray(pointer(tile.points), 3 * tile.count, np.float32)
    radius = numba.carray(pointer(tile.radius), tile.count, np.float32)
    blocks = numba.carray(pointer(tile.blocks), (-(-tile.count // BLOCK), 7), np.float64)
    planes, terms = _planes(frustum, tile.P)
    for start in range(begin, min(begin + CHUNK, tile.count), BLOCK):
        if _outside(blocks[start // BLOCK], frustum, planes, terms):
            continue
        n = min(BLOCK, tile.count - start)
        _project(block, tile.P, scale, points[3 * start:], radius[start:], n, width, height)
        for m in range(n):
            corner[m] = (np.int64(block[_Y0, m]) + PAD) * stride + np.int64(block[_X0, m]) + PAD
        _sort(block[_KIND], n, lists, counts)
        _draw_block(flat, stride, width, height, block, corner, lists, counts, tile.first + start)


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
    """Where the block's points fall, the corner of their boxes, and of what kind they are."""
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
        x0, x1 = ((u - reach) + ROUND) - ROUND, ((u + reach) + ROUND) - ROUND
        y0, y1 = ((v - reach) + ROUND) - ROUND, ((v + reach) + ROUND) - ROUND
        seen = (z > _NEAR) & (x1 >= _ZERO) & (x0 <= right) & (y1 >= _ZERO) & (y0 <= bottom)
        columns, rows = x1 - x0, y1 - y0  # less one
        kind = np.float32(_DOT) if (columns < _ONE) & (rows < _ONE) else np.float32(_FLAT)
        kind = kind if rows <= _ONE else np.float32(_BOXED)
        kind = kind if (columns < _BOX) & (rows < _BOX) else np.float32(_LARGE)
        block[_U, m], block[_V, m], block[_Z, m], block[_R2, m] = u, v, z, r2
        block[_FALL, m], block[_RADIUS, m], block[_X0, m], block[_Y0, m] = R / r2, R, x0, y0
        block[_KIND, m] = kind if seen else np.float32(_UNSEEN)


@_kernel
def _sort(kinds, n, lists, counts):
    """The points of each kind. Every list is written to, and grows where it should: no branch, no wait for a count."""
    dots = flat = boxed = large = np.uint64(0)
    for m in range(n):
        lists[_DOT, dots] = lists[_FLAT, flat] = lists[_BOXED, boxed] = lists[_LARGE, large] = m
        kind = np.int32(kinds[m])
        dots += np.uint64(kind == _DOT)
        flat += np.uint64(kind == _FLAT)
        boxed += np.uint64(kind == _BOXED)
        large += np.uint64(kind == _LARGE)
    counts[_DOT], counts[_FLAT], counts[_BOXED], counts[_LARGE] = dots, flat, boxed, large


@_kernel
def _draw_block(flat, stride, width, height, block, corner, lists, counts, first):
    for k in range(counts[_DOT]):
        m = lists[_DOT, k]
        u, v, z, _, fall, radius = _splat(block, m)
        d2 = (block[_X0, m] - u) * (block[_X0, m] - u) + (block[_Y0, m] - v) * (block[_Y0, m] - v)
        deeper = d2 * fall
        _update(flat, corner[m], z + (deeper if deeper < radius else radius), first + np.int64(m))
    for k in range(counts[_FLAT]):
        m = lists[_FLAT, k]
        draw_box(2, flat, corner[m], stride, first + np.int64(m), block[_X0, m], block[_Y0, m], _splat(block, m))
    for k in range(counts[_BOXED]):
        m = lists[_BOXED, k]
        draw_box(BOX, flat, corner[m], stride, first + np.int64(m), block[_X0, m], block[_Y0, m], _splat(block, m))
    for k in range(counts[_LARGE]):
        m = lists[_LARGE, k]
        _draw_disc(flat, stride, width, height, _splat(block, m), first + np.int64(m))


@_kernel
def _splat(block, m):
    return block[_U, m], block[_V, m], block[_Z, m], block[_R2, m], block[_FALL, m], block[_RADIUS, m]


@_kernel
def _update(flat, at, depth, number):
    key = (np.int64(np.float32(depth).view(np.int32)) << 32) | number
    old = flat[np.uint64(at)]
    flat[np.uint64(at)] = key if key < old else old


@_kernel
def _draw_disc(flat, stride, width, height, splat, number):
    """One large splat; its own pixel is always inside."""
    u, v, z, r2, fall, radius = splat
    reach = np.sqrt(r2) + _SLACK
    x0, x1 = max(int(np.ceil(u - reach)), 0), min(int(np.floor(u + reach)), width - 1)
    y0, y1 = max(int(np.ceil(v - reach)), 0), min(int(np.floor(v + reach)), height - 1)
    for y in range(y0, y1 + 1):
        row = (y + PAD) * stride + PAD
        dv = np.float32(y) - v
        for x in range(x0, x1 + 1):
            du = np.float32(x) - u
            d2 = du * du + dv * dv
            deeper = d2 * fall
            _update(flat, row + x, z + (deeper if deeper < radius else radius) if d2 <= r2 else _INF, number)


@_kernel
def paint(buffers, top, bottom, tiles, tile_of_page, rgb, depth, labels, coverage):
    """Fill the rows top..bottom - 1 of the images with the winners of all buffers (B, height + 2 PAD, width + 2 PAD).

    tile_of_page: the tile of each PAGE numbers. What no splat covers stays as it is. The winners of a row lie anywhere:
    all of them are asked for first.
    """
    width = rgb.shape[1]
    keys = np.empty(width, np.int64)
    for y in range(top, bottom):
        keys[:] = buffers[0, y + PAD, PAD:PAD + width]
        for other in buffers[1:]:
            row = other[y + PAD]
            for x in range(width):
                keys[x] = min(keys[x], row[x + PAD])
        for x in range(width):
            if keys[x] < EMPTY:
                number = keys[x] & 0xFFFFFFFF
                tile = tiles[tile_of_page[number // PAGE]]
                m = np.uint64(number - tile.first)
                prefetch(tile.points + np.uint64(12) * m)
                prefetch(tile.colors + np.uint64(3) * m)
                prefetch(tile.labels + np.uint64(2) * m)
        for x in range(width):
            if keys[x] == EMPTY:
                continue
            number = keys[x] & 0xFFFFFFFF
            tile = tiles[tile_of_page[number // PAGE]]
            m = np.uint64(number - tile.first)
            points = numba.carray(pointer(tile.points), 3 * tile.count, np.float32)
            colors = numba.carray(pointer(tile.colors), (tile.count, 3), np.uint8)
            P, three = tile.P, np.uint64(3)
            depth[y, x] = (P[2, 0] * points[three * m] + P[2, 1] * points[three * m + np.uint64(1)]
                           + P[2, 2] * points[three * m + np.uint64(2)] + P[2, 3])
            labels[y, x] = numba.carray(pointer(tile.labels), tile.count, np.uint16)[m]
            rgb[y, x, 0], rgb[y, x, 1], rgb[y, x, 2] = colors[m, 0], colors[m, 1], colors[m, 2]
            coverage[y, x] = True
