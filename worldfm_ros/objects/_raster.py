"""The compiled kernel that draws triangles: for each pixel the nearest one that holds its centre.

A pixel belongs to a triangle when its centre lies inside or on an edge, in float64, so that what is covered is what a
ray through the centre hits. Of equal depths the one that was drawn first stays.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


@_kernel
def draw_triangles(vertices, colors, triangles, camera, near, owner, depth, rgb, owners):
    """Draw triangles (T, 3) of vertices (V, 3) float64 in the camera's axes, with colours (V, 3) float64, through
    camera = (fx, fy, cx, cy), as far as they are more than `near` metres before it.

    depth (H, W) float32, infinite where nothing is yet; rgb (H, W, 3) uint8; owners (H, W) int32 takes `owner`.
    """
    polygon, count = np.empty((4, 6)), 0
    for t in range(len(triangles)):
        count = 0
        for k in range(3):  # cut at the near plane: up to four corners are left
            a, b = triangles[t, k], triangles[t, (k + 1) % 3]
            za, zb = vertices[a, 2], vertices[b, 2]
            if za > near:
                _corner(polygon[count], vertices, colors, a, a, 0.0)
                count += 1
            if (za > near) != (zb > near):
                _corner(polygon[count], vertices, colors, a, b, (near - za) / (zb - za))
                count += 1
        for k in range(count):
            polygon[k, 2] = 1.0 / polygon[k, 2]
            polygon[k, 0] = camera[0] * polygon[k, 0] * polygon[k, 2] + camera[2]
            polygon[k, 1] = camera[1] * polygon[k, 1] * polygon[k, 2] + camera[3]
        for k in range(2, count):
            _fill(polygon[0], polygon[k - 1], polygon[k], owner, depth, rgb, owners)


@_kernel
def _corner(out, vertices, colors, a, b, share):
    for axis in range(3):
        out[axis] = vertices[a, axis] + share * (vertices[b, axis] - vertices[a, axis])
        out[3 + axis] = colors[a, axis] + share * (colors[b, axis] - colors[a, axis])


@_kernel
def _fill(p, q, r, owner, depth, rgb, owners):
    """One triangle, its corners (u, v, 1 / z, red, green, blue)."""
    area = (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])
    if area == 0.0:
        return
    height, width = depth.shape
    left, right = max(math.ceil(min(p[0], q[0], r[0])), 0), min(math.floor(max(p[0], q[0], r[0])), width - 1)
    top, bottom = max(math.ceil(min(p[1], q[1], r[1])), 0), min(math.floor(max(p[1], q[1], r[1])), height - 1)
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            a = ((r[0] - q[0]) * (row - q[1]) - (r[1] - q[1]) * (column - q[0])) / area
            b = ((p[0] - r[0]) * (row - r[1]) - (p[1] - r[1]) * (column - r[0])) / area
            c = ((q[0] - p[0]) * (row - p[1]) - (q[1] - p[1]) * (column - p[0])) / area
            if a < 0.0 or b < 0.0 or c < 0.0:
                continue
            nearness = a * p[2] + b * q[2] + c * r[2]
            z = np.float32(1.0 / nearness)
            if z >= depth[row, column]:
                continue
            depth[row, column], owners[row, column] = z, owner
            for k in range(3):
                light = (a * p[2] * p[3 + k] + b * q[2] * q[3 + k] + c * r[2] * r[3 + k]) / nearness
                rgb[row, column, k] = np.uint8(min(max(light + 0.5, 0.0), 255.0))
