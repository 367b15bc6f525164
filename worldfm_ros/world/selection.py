"""The released choice of a reference: the keyframe whose depth confirms most of a sample of the drawn surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import Keyframe


@dataclass(frozen=True)
class SelectionSettings:
    """The released defaults. Distances in the world's units, the angle in radians.

    A keyframe's score is its hits times a weight, linear from weight_near when the camera centres are distance_near
    apart to weight_far at distance_far; without use_distance the weight is 1.
    """

    grid: int = 10  # columns and rows of samples over the image
    center_grid: int = 15  # and over its central box, which replaces the grid's samples there; 0 = the grid alone
    center_fraction: float = 0.5  # the box's share of the width and of the height
    relative_tolerance: float = 0.02  # of the depth; a hit differs by less than the larger of the two tolerances
    absolute_tolerance: float = 0.0
    pixel_radius: int = 0  # the best of the pixels this near counts
    max_angle: float = np.pi  # between the two cameras' rays to a point
    use_distance: bool = True
    distance_near: float = 1.0
    distance_far: float = 20.0
    weight_near: float = 1.0
    weight_far: float = 0.0


@dataclass(frozen=True, eq=False)
class Selection:
    """index: the first of the views with the highest score; 0 when there is nothing to see. hits, score (V,).

    points (N, 3): the samples' places in the world; confirmed (V, N) bool: which of them each view shows.
    """

    index: int
    hits: np.ndarray
    score: np.ndarray
    points: np.ndarray
    confirmed: np.ndarray

    @property
    def samples(self) -> int:
        return len(self.points)


def select_by_depth(keyframes: Sequence[Keyframe], depth: np.ndarray, T_world_camera: Pose, intrinsics: Intrinsics,
                    settings: SelectionSettings | None = None) -> Selection:
    """Choose among keyframes (at least one) for a drawn depth image (H, W), 0 = none. Only depths and cameras count."""
    settings = settings or SelectionSettings()
    if not keyframes:
        raise ValueError("there is no keyframe to choose from")
    rows, columns = sample_pixels(intrinsics.height, intrinsics.width, settings)
    known = depth[rows, columns] > 0
    points = T_world_camera.apply(intrinsics.unproject(depth)[rows[known], columns[known]])
    eye = T_world_camera.translation
    confirmed = np.array([confirms(keyframe, points, eye, settings) for keyframe in keyframes])
    hits = confirmed.sum(1)
    distances = [np.linalg.norm(keyframe.T_world_camera.translation - eye) for keyframe in keyframes]
    score = hits * distance_weight(np.array(distances), settings)
    return Selection(int(np.argmax(score)), hits, score, points, confirmed)


def sample_pixels(height: int, width: int, settings: SelectionSettings) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (N,) of the samples, row-major, each pixel once."""
    chosen = np.zeros((height, width), dtype=bool)
    rows, columns = _spread(0.0, height - 1.0, settings.grid), _spread(0.0, width - 1.0, settings.grid)
    chosen[np.ix_(rows, columns)] = True
    if settings.center_grid:
        margin = (1.0 - settings.center_fraction) / 2.0
        top, left = margin * (height - 1.0), margin * (width - 1.0)
        bottom, right = height - 1.0 - top, width - 1.0 - left
        in_rows, in_columns = rows[(rows >= top) & (rows <= bottom)], columns[(columns >= left) & (columns <= right)]
        chosen[np.ix_(in_rows, in_columns)] = False
        chosen[np.ix_(_spread(top, bottom, settings.center_grid), _spread(left, right, settings.center_grid))] = True
    return np.nonzero(chosen)


def confirms(keyframe: Keyframe, points: np.ndarray, eye: np.ndarray, settings: SelectionSettings) -> np.ndarray:
    """(N,) bool: which world points (N, 3), seen from `eye`, the keyframe's own depth shows too."""
    radius, (height, width) = settings.pixel_radius, keyframe.depth.shape
    pixels, z, _ = keyframe.lookup(points)
    beyond = radius + 1  # of the border: farther outside a point has no neighbours inside
    u, v = np.rint(pixels).clip(-beyond, [width - 1 + beyond, height - 1 + beyond]).astype(int).T
    near = np.arange(-radius, radius + 1)
    rows, columns = v[:, None, None] + near[:, None], u[:, None, None] + near
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    depths = np.where(inside, keyframe.depth[rows.clip(0, height - 1), columns.clip(0, width - 1)], 0)
    depths = depths.reshape(len(points), near.size**2)
    error = np.where(depths > 0, np.abs(depths - z[:, None]), np.inf).min(axis=1)
    tolerance = np.maximum(settings.relative_tolerance * z, settings.absolute_tolerance)
    confirmed = (z > 0) & (error < tolerance)
    if settings.max_angle < np.pi:
        confirmed &= angle(points - eye, points - keyframe.T_world_camera.translation) <= settings.max_angle
    return confirmed


def distance_weight(distance: np.ndarray, settings: SelectionSettings) -> np.ndarray:
    if not settings.use_distance:
        return np.ones_like(distance)
    return np.interp(distance, [settings.distance_near, settings.distance_far],
                     [settings.weight_near, settings.weight_far])


def _spread(first: float, last: float, count: int) -> np.ndarray:
    """`count` whole numbers, evenly from first to last."""
    return np.rint(np.linspace(first, last, count)).astype(int)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # (N, 3), (N, 3) -> (N,) radians
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.arccos(np.clip(np.sum(a * b, axis=1) / np.maximum(norms, 1e-12), -1.0, 1.0))
