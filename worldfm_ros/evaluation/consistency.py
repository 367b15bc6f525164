"""Whether neighbouring pictures show one scene: jitter (warp PSNR) and epipolar consistency (TSED).

Both need cameras; jitter needs the true depth too. The photographs of the same cameras have figures of their own, which
say what exact poses and depth would allow: a view's shading, exposure and noise change between photographs as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from worldfm_ros.evaluation.scoring import psnr
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import Keyframe

DEPTH_TOLERANCE = 0.03  # relative: two measurements that differ by less are of one surface
MATCH_RATIO = 0.8  # Lowe's: the best match is this much nearer than the second best
MIN_MATCHES = 10  # TSED's T_matches
MAX_DISTANCE = 2.0 / 256  # TSED's T_error: 2 pixels of a picture of 256 rows


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Where a view's pixels are in a second view: pixels (H, W, 2) float32, and whether it shows them, (H, W) bool."""

    pixels: np.ndarray
    visible: np.ndarray


def correspondence(view: Keyframe, other: Keyframe) -> Correspondence:
    """By the depth of both: a pixel is visible in `other` where both measured the same surface."""
    points = view.T_world_camera.apply(view.intrinsics.unproject(view.depth).reshape(-1, 3))
    pixels, z, inside = other.lookup(points)
    pixels = np.where(inside[:, None], pixels, 0)
    columns, rows = np.rint(pixels).astype(int).T
    same = np.abs(other.depth[rows, columns] - z) < DEPTH_TOLERANCE * z
    visible = (inside & same).reshape(view.depth.shape) & (view.depth > 0)
    return Correspondence(pixels.reshape(*view.depth.shape, 2).astype(np.float32), visible)


def warp_psnr(picture: np.ndarray, other: np.ndarray, where: Correspondence) -> float | None:
    """dB between a picture and a second one that is brought into its view; low = it flickers. None = nothing shared.

    picture (H, W, 3) uint8 and `other` belong to the views that `where` was made of.
    """
    if not where.visible.any():
        return None
    warped = cv2.remap(other, where.pixels, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return psnr(warped, picture, where.visible)


@dataclass(frozen=True, eq=False)
class Features:
    """SIFT features of a picture: points (N, 2) pixels, descriptors (N, 128) float32."""

    points: np.ndarray
    descriptors: np.ndarray


def find_features(picture: np.ndarray, mask: np.ndarray) -> Features:
    """The features whose centre lies in the mask."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    keypoints, descriptors = cv2.SIFT_create().detectAndCompute(grey, mask.astype(np.uint8))
    points = np.array([keypoint.pt for keypoint in keypoints], np.float64).reshape(-1, 2)
    return Features(points, np.empty((0, 128), np.float32) if descriptors is None else descriptors)


def match(a: Features, b: Features) -> tuple[np.ndarray, np.ndarray]:
    """Points (M, 2) of a and of b that are each other's best match, clearly better than the second best."""
    if min(len(a.points), len(b.points)) < 2:
        return np.empty((0, 2)), np.empty((0, 2))
    pairs = _clear_matches(a, b) & {(i, j) for j, i in _clear_matches(b, a)}
    index = np.array(sorted(pairs), int).reshape(-1, 2)
    return a.points[index[:, 0]], b.points[index[:, 1]]


def _clear_matches(a: Features, b: Features) -> set[tuple[int, int]]:
    nearest = cv2.BFMatcher().knnMatch(a.descriptors, b.descriptors, k=2)
    return {(best.queryIdx, best.trainIdx) for best, second in nearest if best.distance < MATCH_RATIO * second.distance}


def fundamental(T_b_a: Pose, a: Intrinsics, b: Intrinsics) -> np.ndarray:
    """F (3, 3) with p_b^T F p_a = 0 for pixels (u, v, 1) of one point; all 0 for cameras at one place."""
    x, y, z = T_b_a.translation
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.linalg.inv(b.matrix).T @ cross @ T_b_a.rotation.as_matrix() @ np.linalg.inv(a.matrix)


def epipolar_distance(points_a: np.ndarray, points_b: np.ndarray, F: np.ndarray) -> np.ndarray:
    """(M,) pixels: the symmetric epipolar distance, the mean of both points' distances to the other's epipolar line."""
    a, b = (np.column_stack([points, np.ones(len(points))]) for points in (points_a, points_b))
    lines_b, lines_a = a @ F.T, b @ F
    residual = np.abs(np.sum(b * lines_b, axis=1))
    lengths = (np.linalg.norm(lines[:, :2], axis=1) for lines in (lines_a, lines_b))
    return sum(residual / np.maximum(length, 1e-300) for length in lengths) / 2


def epipolar_consistent(a: Features, b: Features, view_a: Keyframe, view_b: Keyframe) -> bool | None:
    """Whether two pictures obey the views' epipolar geometry; TSED is the share of neighbours that do.

    They do when at least MIN_MATCHES features match with a median symmetric epipolar distance below MAX_DISTANCE of
    the picture's rows (Yu et al., Long-term photometric consistent novel view synthesis with diffusion models, 2023).
    None for cameras at one place, which have no epipolar geometry.
    """
    T_b_a = view_b.T_world_camera.inverse() @ view_a.T_world_camera
    if np.linalg.norm(T_b_a.translation) < 1e-6:
        return None
    points_a, points_b = match(a, b)
    if len(points_a) < MIN_MATCHES:
        return False
    F = fundamental(T_b_a, view_a.intrinsics, view_b.intrinsics)
    return bool(np.median(epipolar_distance(points_a, points_b, F)) < MAX_DISTANCE * view_a.intrinsics.height)
