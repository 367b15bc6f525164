"""The released choice of a reference: the keyframe whose depth confirms most of a sample of the drawn surface.

The specification that the golden cases hold. A camera chooses by reference.py, which confirms samples in this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import FRONT, Keyframe


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
    confirmed = confirms(keyframes, points, eye, settings)
    hits = confirmed.sum(1)
    centers = np.array([keyframe.T_world_camera.translation for keyframe in keyframes])
    score = hits * distance_weight(np.linalg.norm(centers - eye, axis=1), settings)
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


def confirms(keyframes: Sequence[Keyframe], points: np.ndarray, eye: np.ndarray,
             settings: SelectionSettings) -> np.ndarray:
    """(V, N) bool: which world points (N, 3), seen from `eye`, each keyframe's own depth shows too.

    Depth is looked at, and read from a file, only of keyframes that have a point in their picture.
    """
    pixels, z = projected(keyframes, points)
    radius = settings.pixel_radius
    sizes = np.array([(keyframe.intrinsics.width, keyframe.intrinsics.height) for keyframe in keyframes])[:, None]
    near = (z > FRONT) & np.all((pixels >= -radius) & (pixels < sizes + radius), axis=2)
    confirmed = np.zeros(z.shape, dtype=bool)
    for k in np.flatnonzero(near.any(1)):
        at, keyframe = np.flatnonzero(near[k]), keyframes[k]
        tolerance = np.maximum(settings.relative_tolerance * z[k, at], settings.absolute_tolerance)
        shown = depth_error(keyframe.depth, pixels[k, at].astype(int), z[k, at], radius) < tolerance
        if settings.max_angle < np.pi:
            seen = points[at]
            shown &= angle(seen - eye, seen - keyframe.T_world_camera.translation) <= settings.max_angle
        confirmed[k, at] = shown
    return confirmed


def projected(keyframes: Sequence[Keyframe], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where world points (N, 3) fall in all views: the nearest pixels (V, N, 2), x and y, and z (V, N) metres.

    Pixels mean nothing where z is not positive."""
    T_camera_world = np.linalg.inv([keyframe.T_world_camera.matrix for keyframe in keyframes])
    cameras = [keyframe.intrinsics for keyframe in keyframes]
    focal, center = (np.array(values)[:, None] for values in ([(c.fx, c.fy) for c in cameras],
                                                              [(c.cx, c.cy) for c in cameras]))
    seen = points @ T_camera_world[:, :3, :3].swapaxes(1, 2) + T_camera_world[:, None, :3, 3]
    z = seen[..., 2]
    return np.rint(focal * seen[..., :2] / np.where(z > FRONT, z, 1.0)[..., None] + center), z


def depth_error(depth: np.ndarray, pixels: np.ndarray, z: np.ndarray, radius: int) -> np.ndarray:
    """(N,) metres: how far a depth image (H, W) is off z (N,) at pixels (N, 2), infinite where it has none; the least
    of the pixels within `radius`."""
    height, width = depth.shape
    near = np.arange(-radius, radius + 1)
    columns, rows = (pixels[:, axis, None, None] + step for axis, step in ((0, near), (1, near[:, None])))
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    depths = np.where(inside, depth[rows.clip(0, height - 1), columns.clip(0, width - 1)], 0)
    depths = depths.reshape(len(pixels), near.size**2)
    return np.where(depths > 0, np.abs(depths - z[:, None]), np.inf).min(axis=1)


def distance_weight(distance: np.ndarray, settings: SelectionSettings) -> np.ndarray:
    if not settings.use_distance:
        return np.ones_like(distance)
    return np.interp(distance, [settings.distance_near, settings.distance_far],
                     [settings.weight_near, settings.weight_far])


def _spread(first: float, last: float, count: int) -> np.ndarray:
    """`count` whole numbers, evenly from first to last."""
    return np.rint(np.linspace(first, last, count)).astype(int)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # (..., 3), (..., 3) -> (...) radians
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.arccos(np.clip(np.einsum("...i,...i", a, b) / np.maximum(norms, 1e-12), -1.0, 1.0))
