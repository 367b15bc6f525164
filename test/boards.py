"""Analytic scenes for cameras: a chessboard, and a plane with a pattern, seen exactly by a pinhole camera."""

from dataclasses import dataclass

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose

COLUMNS, ROWS, SQUARE = 9, 6, 0.05  # inner corners; metres
CORNERS = np.stack([*np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), np.zeros((ROWS, COLUMNS))], -1).reshape(-1, 3)
CORNERS = SQUARE * CORNERS


@dataclass(frozen=True, eq=False)
class Picture:
    rgb: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    coverage: np.ndarray
    reference_id: int | None = None
    reference_ids: tuple = ()


def plane(T_world_camera: Pose, intrinsics: Intrinsics, T_world_plane: Pose):
    """Where the rays of a pinhole camera meet the plane z = 0: its x and y, the depth (inf: not), the pixel's size."""
    T_plane_camera = T_world_plane.inverse() @ T_world_camera
    rays = intrinsics.unproject(np.ones((intrinsics.height, intrinsics.width)))
    directions, origin = rays @ T_plane_camera.rotation.as_matrix().T, T_plane_camera.translation
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -origin[2] / directions[..., 2]
        depth = np.where(depth > 0, depth, np.inf)
        points = origin + directions * np.where(np.isfinite(depth), depth, 0.0)[..., None]
    return points[..., 0], points[..., 1], depth


def edge(x: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """A square wave of period 2 in x whose edges, at the whole numbers, are as soft as a pixel (its size in x)."""
    nearest = np.rint(x)
    sign = np.where(nearest % 2 == 0, 1.0, -1.0)
    return sign * np.clip((x - nearest) / np.maximum(pixel, 1e-9), -0.5, 0.5) * 2


def chessboard(T_world_board: Pose):
    """A generator of pictures of a board with inner corners at CORNERS, white around it, grey elsewhere."""
    def generate(T_world_camera: Pose, intrinsics: Intrinsics) -> Picture:
        x, y, depth = plane(T_world_camera, intrinsics, T_world_board)
        x, y = x / SQUARE, y / SQUARE
        widths = [np.hypot(*np.gradient(a)) for a in (x, y)]
        squares = -edge(x, widths[0]) * edge(y, widths[1])
        value = 127 + 100 * squares
        outside = (np.abs(x - (COLUMNS - 1) / 2) > (COLUMNS + 1) / 2) | (np.abs(y - (ROWS - 1) / 2) > (ROWS + 1) / 2)
        value = np.where(outside, 227, value)
        hit = np.isfinite(depth)
        value, depth = np.where(hit, value, 127), np.where(hit, depth, 0)
        rgb = np.repeat(np.rint(value).astype(np.uint8)[..., None], 3, axis=-1)
        return Picture(rgb, depth.astype(np.float32), hit.astype(np.uint16), hit)

    return generate
