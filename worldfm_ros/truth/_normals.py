"""The kernel of normals.py: a plane in inverse depth about each pixel."""

from __future__ import annotations

import math

import numba
import numpy as np

RADIUS = 4  # pixels; of the window that a plane is fitted in
JUMP = 0.04  # of the depth; what differs by more is another surface


@numba.njit(cache=True, nogil=True)
def fit(depth, x, y, normals):
    """depth (H, W) float32; x (W,) and y (H,): pixels on the plane z = 1; normals (H, W, 3) float32 are written.

    Of a plane n . p = d, 1 / z is linear in x and y: 1 / z = (n . (x, y, 1)) / d. So n is along the coefficients.
    """
    height, width = depth.shape
    for i in range(height):
        for j in range(width):
            z = depth[i, j]
            if not z > 0:
                continue
            n = sx = sy = sxx = sxy = syy = sw = sxw = syw = 0.0
            for v in range(max(i - RADIUS, 0), min(i + RADIUS + 1, height)):
                for u in range(max(j - RADIUS, 0), min(j + RADIUS + 1, width)):
                    other = depth[v, u]
                    if other > 0 and abs(other - z) < JUMP * z:
                        a, b, w = x[u] - x[j], y[v] - y[i], 1.0 / other
                        n += 1.0
                        sx += a
                        sy += b
                        sxx += a * a
                        sxy += a * b
                        syy += b * b
                        sw += w
                        sxw += a * w
                        syw += b * w
            if n < 8:
                continue
            cxx, cxy, cyy = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
            cxw, cyw = sxw - sx * sw / n, syw - sy * sw / n
            determinant = cxx * cyy - cxy * cxy
            if determinant < 1e-9 * (cxx + cyy) ** 2:
                continue
            p, q = (cxw * cyy - cyw * cxy) / determinant, (cyw * cxx - cxw * cxy) / determinant
            r = sw / n - p * (sx / n + x[j]) - q * (sy / n + y[i])
            length = math.sqrt(p * p + q * q + r * r)
            if p * x[j] + q * y[i] + r > 0:  # towards the camera
                length = -length
            normals[i, j, 0], normals[i, j, 1], normals[i, j, 2] = p / length, q / length, r / length


def empty(shape) -> np.ndarray:
    return np.full((*shape, 3), np.nan, np.float32)
