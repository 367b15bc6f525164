"""What a plane looks like beyond the part of it that was seen.

Its colour goes on smoothly from the nearest part that was seen. Its pattern is that of the nearest square of it that
was seen whole, laid out like tiles that are mirrored at their edges, so that no edge shows and boards keep their
direction. A function of what was seen alone: no view of it matters.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from worldfm_ros.depth.completion import spread

SQUARES = (0.8, 0.4, 0.2)  # metres; the largest of which there is one is laid out
WHOLE = 0.9  # of a square that was seen
PATTERN = 3.0  # levels; what varies less in the middle is no pattern
CONTRAST = 20.0  # levels, between a band on a wall and the rest
STRIP = 0.7  # of a wall's strip that was seen
PLAIN = 1.2  # times the larger details of the plainest strip
BAND = 0.5  # metres of height over which light changes, and paint does not
COARSE = 0.2  # metres; what is larger is colour, what is smaller is pattern
MARGIN = 8.0  # metres around what was seen
ROW = 1024


class Texture:
    """The pattern and colours of one plane, from points in it."""

    def __init__(self, places: np.ndarray, colors: np.ndarray, pitch: float, upright: bool) -> None:
        """places (N, 2): metres in the plane; colors (N, 3) uint8; pitch: metres between them. upright: the second axis
        is the height of a wall, along which patterns change: they are not taken from another height."""
        self._pitch, self._origin = pitch, places.min(0)
        self._weight = np.array([1.0, 8.0 if upright else 1.0])
        fine, seen = gridded((places - self._origin) / pitch, colors, (0, 0))
        pad = int(MARGIN / COARSE)
        low, known = gridded((places - self._origin) / COARSE, colors, (pad, pad))
        self._low = np.stack([spread(low[..., k], known) for k in range(3)], axis=-1)
        self._start = self._origin - pad * COARSE
        rows, columns = np.indices(seen.shape)
        smooth = self._colour(self._origin + np.stack([columns, rows], -1).reshape(-1, 2) * pitch)
        self._detail = np.where(seen[..., None], fine - smooth.reshape(fine.shape), 0).astype(np.float32)
        self._side, self._squares = next(
            ((side, found) for side in SQUARES if len(found := whole_squares(seen, round(side / pitch)))),
            (SQUARES[0], np.zeros((0, 2), int)))

    def look(self, places: np.ndarray) -> np.ndarray:
        """(N, 3) uint8 of places (N, 2), metres in the plane."""
        color = self._colour(places)
        if len(self._squares):
            color += self._pattern(places)
        return np.clip(np.rint(color), 0, 255).astype(np.uint8)

    def _colour(self, places: np.ndarray) -> np.ndarray:
        return sampled(self._low, (places - self._start) / COARSE)

    def _pattern(self, places: np.ndarray) -> np.ndarray:
        side = round(self._side / self._pitch) * self._pitch
        at = (places - self._origin) / side + 0.5 * self._pitch / side
        square = np.floor(at).astype(int)
        first, width = square.min(0), int(np.ptp(square[:, 0])) + 1
        keys, number = np.unique((square[:, 1] - first[1]) * width + square[:, 0] - first[0], return_inverse=True)
        wanted = first + np.column_stack([keys % width, keys // width])
        away = np.sum(((wanted[:, None] - self._squares[None]) * self._weight) ** 2, axis=-1)
        source = self._squares[np.argmin(away, axis=1)][number]
        inside = at - square
        mirrored = (square - source) % 2 == 1
        return sampled(self._detail, (source + np.where(mirrored, 1 - inside, inside)) * side / self._pitch - 0.5)


def gridded(at: np.ndarray, colors: np.ndarray, pad: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours (H, W, 3) float32 of the cells that points (N, 2), (column, row), lie in, and which have any."""
    column, row = (np.rint(at).astype(int) + pad).T
    width, height = column.max() + 1 + pad[0], row.max() + 1 + pad[1]
    cell = row * width + column
    count = np.bincount(cell, minlength=width * height)
    sums = np.stack([np.bincount(cell, colors[:, k], width * height) for k in range(3)], axis=-1)
    mean = sums / np.maximum(count, 1)[:, None]
    return mean.reshape(height, width, 3).astype(np.float32), (count > 0).reshape(height, width)


def sampled(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(N, 3) float32: between the pixels of an image (H, W, 3) at (column, row) (N, 2); beyond its edge, the edge."""
    rows = -(-len(at) // ROW)
    full = np.zeros((rows * ROW, 2), np.float32)
    full[:len(at)] = at
    maps = np.ascontiguousarray(full.reshape(rows, ROW, 2).transpose(2, 0, 1))
    values = cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return values.reshape(-1, 3)[:len(at)]


def whole_squares(seen: np.ndarray, side: int) -> np.ndarray:
    """(K, 2): column and row, in squares of that side, of those of a lattice in which nearly all is seen (H, W)."""
    side = max(side, 1)
    rows, columns = (size // side for size in seen.shape)
    share = seen[:rows * side, :columns * side].reshape(rows, side, columns, side).mean((1, 3))
    row, column = np.nonzero(share >= WHOLE)
    return np.column_stack([column, row])


class Paint:
    """One wall's looks, the same along any other: its usual colour, what is usual at each height, so that a skirting
    board stays one, and the pattern of the most usual strip of it. What varies more slowly is light and is left out.

    unevenness: mean absolute difference from what is usual, in levels."""

    def __init__(self, places: np.ndarray, colors: np.ndarray, pitch: float) -> None:
        """places (N, 2): metres along and above; colors (N, 3) uint8; pitch: metres between them."""
        self._pitch, self._bottom = pitch, places[:, 1].min()
        fine, seen = gridded((places - places.min(0)) / pitch, colors, (0, 0))
        rows = np.arange(len(seen))
        known = seen.any(1)
        middle = np.stack([np.median(fine[row][seen[row]], axis=0) for row in rows[known]])
        usual = np.stack([np.interp(rows, rows[known], middle[:, k]) for k in range(3)], -1)[:, None].astype(np.float32)
        light = ndimage.median_filter(usual, (max(1, round(BAND / pitch)), 1, 1), mode="reflect")
        band = usual - light
        band *= np.abs(band).max(-1, keepdims=True) > CONTRAST
        self._usual = (band + np.median(fine[seen], axis=0)).astype(np.float32)
        detail = np.where(seen[..., None], fine - usual, 0)
        self.unevenness = float(np.abs(detail[seen]).mean())
        pattern = fast(detail, seen, COARSE / pitch)
        even = float(np.median(np.abs(pattern[seen]))) < PATTERN  # then what there is are outlines of things before it
        self._detail = np.zeros_like(pattern[:, :1]) if even else pattern[:, most_usual_strip(detail, seen, pitch)]

    def look(self, places: np.ndarray) -> np.ndarray:
        """(N, 3) uint8 of places (N, 2), metres along and above."""
        height, along = (places[:, 1] - self._bottom) / self._pitch, places[:, 0] / self._pitch
        last = self._detail.shape[1] - 1
        folded = last - np.abs(np.mod(along, 2 * last) - last) if last else np.zeros(len(places))
        color = (sampled(self._usual, np.column_stack([np.zeros(len(places)), height]))
                 + sampled(self._detail, np.column_stack([folded, height])))
        return np.clip(np.rint(color), 0, 255).astype(np.uint8)


def fast(values: np.ndarray, seen: np.ndarray, wide: float) -> np.ndarray:
    """What varies within `wide` pixels of values (H, W, 3) float32 that were seen (H, W) bool; 0 elsewhere."""
    side, weight = (max(1, round(wide)),) * 2, seen.astype(np.float32)
    share, slow = cv2.blur(weight, side), cv2.blur(values * weight[..., None], side)
    return np.where(seen[..., None], values - slow / np.maximum(share, 1e-6)[..., None], 0).astype(np.float32)


def most_usual_strip(detail: np.ndarray, seen: np.ndarray, pitch: float) -> slice:
    """The columns of the widest strip, of those of SQUARES, most of which was seen (H, W), that has hardly more of the
    larger details (H, W, 3) than the best narrow one: a pattern, and nothing that hangs there. One where none is."""
    large = np.abs(cv2.blur(detail, (max(1, round(COARSE / pitch)),) * 2)).mean(-1)
    found = []
    for side in SQUARES:
        wide = max(2, round(side / pitch))
        strips = [slice(k, k + wide) for k in range(0, seen.shape[1] - wide + 1, max(1, wide // 2))]
        found += [(float(large[:, strip].mean()), strip) for strip in strips if seen[:, strip].mean() >= STRIP]
    least = min((much for much, _ in found), default=0.0)
    return next((strip for much, strip in found if much <= PLAIN * least + 1.0), slice(0, 1))
