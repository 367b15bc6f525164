"""Cells of poses: what is done once for each place and direction, as inserting what is seen from there."""

from __future__ import annotations

import math

import numpy as np

from worldfm_ros.geometry import Pose

PLACE = 0.25  # metres, side of a cell
DIRECTION = math.radians(15.0)  # width of a cell
Cell = tuple[int, int, int, int, int]


def cell_of(T_world_camera: Pose) -> Cell:
    """Place (x, y, z) and direction (pitch, yaw) of the optical axis, as numbers of cells. Roll does not count."""
    x, y, z = np.floor(T_world_camera.translation / PLACE).astype(int).tolist()
    forward = T_world_camera.rotation.apply([0.0, 0.0, 1.0])
    pitch = round(math.asin(np.clip(forward[2], -1.0, 1.0)) / DIRECTION)
    cells = max(1, round(math.tau * math.cos(pitch * DIRECTION) / DIRECTION))  # around, fewer towards the poles
    return x, y, z, pitch, round(math.atan2(forward[1], forward[0]) / math.tau * cells) % cells
