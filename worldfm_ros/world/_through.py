"""The compiled kernel that tells which points a depth image looks through."""

import numba
import numpy as np


@numba.njit(nogil=True, cache=True, error_model="numpy")
def mark(points, rotation, eye, camera, depth, margin, through):
    """Set through (N,) bool for points (N, 3) float64 that lie before what depth (H, W) float32 shows, metres along z,
    by more than margin of their own; others stay. rotation (3, 3): camera to world; camera: fx, fy, cx, cy."""
    height, width = depth.shape
    for n in range(len(points)):
        if through[n]:
            continue
        dx, dy, dz = points[n, 0] - eye[0], points[n, 1] - eye[1], points[n, 2] - eye[2]
        z = rotation[0, 2] * dx + rotation[1, 2] * dy + rotation[2, 2] * dz
        if z <= 1e-3:
            continue
        u = (rotation[0, 0] * dx + rotation[1, 0] * dy + rotation[2, 0] * dz) / z * camera[0] + camera[2]
        v = (rotation[0, 1] * dx + rotation[1, 1] * dy + rotation[2, 1] * dz) / z * camera[1] + camera[3]
        if -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5:
            column, row = min(max(int(np.rint(u)), 0), width - 1), min(max(int(np.rint(v)), 0), height - 1)
            through[n] = depth[row, column] > (1.0 + margin) * z
