"""Predictivity: whether an algorithm does on generated pictures what it does on the photographs of the same poses.

Two neighbouring views are matched by ORB and by SIFT, and the camera's motion between them is estimated from the SIFT
matches, as visual odometry does: essential matrix by RANSAC, then the pose (Nister 2004; OpenCV). Each side's figures
are told beside the photographs', and as ratios of both: 1 is a camera that predicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import NamedTuple

import cv2
import numpy as np

from worldfm_ros.evaluation.consistency import MATCH_RATIO, find_features, match
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import Keyframe

ORB_FEATURES = 1000
CONFIDENCE, THRESHOLD = 0.999, 1.0  # of RANSAC; pixels
LEAST = 8  # inliers that a pose is believed with
SHORT = 0.01  # of the views' median depth: with a shorter way between them, its direction cannot be seen
RATIOS = ("orb_inliers", "sift_inliers", "rotation_error", "direction_error", "tracked")


class Motion(NamedTuple):
    """inliers: matches that obey one essential matrix; T_b_a's rotation (3, 3) and direction (3,), None when lost."""

    inliers: int
    rotation: np.ndarray | None = None
    direction: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Sights:
    """A view by side: pictures (H, W, 3) uint8; scene (H, W) bool, the pixels that count; the camera with its depth."""

    pictures: Mapping[str, np.ndarray]
    scene: np.ndarray
    camera: Keyframe


class Predictivity:
    """Gathers neighbouring views, side by side."""

    def __init__(self) -> None:
        self._rows: list[dict[str, dict[str, float | None]]] = []

    def add(self, view: Sights, previous: Sights) -> None:
        """A view and the one before it."""
        row = {}
        for side, picture in view.pictures.items():
            before = previous.pictures[side]
            sift = match(find_features(picture, view.scene), find_features(before, previous.scene))
            orb = orb_matches(picture, before, view.scene, previous.scene)
            row[side] = compare(orb, sift, view.camera, previous.camera)
        self._rows.append(row)

    def figures(self) -> dict:
        """pairs, and by side the means over them, of errors the medians; `ratio`: of each to the photographs'."""
        sides = {side: {name: _middle(name, [row[side][name] for row in self._rows]) for name in RATIOS}
                 for side in (self._rows[0] if self._rows else ())}
        truth = sides.get("photograph", {})
        for side, figures in sides.items():
            if side != "photograph":
                figures["ratio"] = {name: _ratio(figures[name], truth[name]) for name in RATIOS}
        return {"pairs": len(self._rows), **sides}


def compare(orb: tuple[np.ndarray, np.ndarray], sift: tuple[np.ndarray, np.ndarray], view: Keyframe,
            other: Keyframe) -> dict[str, float | None]:
    """Inliers of both kinds of matches, and how wrong the motion is that the SIFT ones tell, in degrees."""
    by_orb, by_sift = (motion(points, others, view.intrinsics, other.intrinsics) for points, others in (orb, sift))
    truth = other.T_world_camera.inverse() @ view.T_world_camera
    figures = {"orb_inliers": by_orb.inliers, "sift_inliers": by_sift.inliers,
               "tracked": float(by_sift.rotation is not None), "rotation_error": None, "direction_error": None}
    if by_sift.rotation is None:
        return figures
    figures["rotation_error"] = rotation_error(by_sift.rotation, truth)
    depth = view.depth[view.depth > 0]
    if len(depth) and np.linalg.norm(truth.translation) > SHORT * np.median(depth):
        figures["direction_error"] = direction_error(by_sift.direction, truth)
    return figures


def orb_matches(picture: np.ndarray, other: np.ndarray, scene: np.ndarray,
                other_scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (M, 2) of both pictures, in their scenes, whose ORB descriptors are each other's best, and clearly so."""
    orb = cv2.ORB_create(ORB_FEATURES)
    (points, a), (others, b) = (
        orb.detectAndCompute(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), mask.astype(np.uint8))
        for each, mask in ((picture, scene), (other, other_scene)))
    if a is None or b is None or min(len(a), len(b)) < 2:
        return np.empty((0, 2)), np.empty((0, 2))
    forth, back = (_clear(x, y) for x, y in ((a, b), (b, a)))
    pairs = [(i, j) for i, j in forth.items() if back.get(j) == i]
    return (np.array([points[i].pt for i, _ in pairs]).reshape(-1, 2),
            np.array([others[j].pt for _, j in pairs]).reshape(-1, 2))


def _clear(a: np.ndarray, b: np.ndarray) -> dict[int, int]:
    """Of each descriptor its best match where that is clear."""
    nearest = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(a, b, k=2)
    return {best.queryIdx: best.trainIdx for best, second in nearest if best.distance < MATCH_RATIO * second.distance}


def motion(points_a: np.ndarray, points_b: np.ndarray, a: Intrinsics, b: Intrinsics) -> Motion:
    """T_b_a up to scale from matched pixels (M, 2) of cameras a and b; the same matches give the same motion."""
    if len(points_a) < LEAST:
        return Motion(0)
    rays_a, rays_b = ((points - [k.cx, k.cy]) / [k.fx, k.fy] for points, k in ((points_a, a), (points_b, b)))
    cv2.setRNGSeed(0)
    threshold = THRESHOLD / math.sqrt(a.fx * a.fy)
    E, mask = cv2.findEssentialMat(rays_a, rays_b, np.eye(3), cv2.RANSAC, CONFIDENCE, threshold)
    if E is None or E.shape != (3, 3):
        return Motion(0)
    inliers = int(np.count_nonzero(mask))
    if inliers < LEAST:
        return Motion(inliers)
    _, rotation, direction, _ = cv2.recoverPose(E, rays_a, rays_b, np.eye(3), mask=mask)
    return Motion(inliers, rotation, direction.ravel())


def rotation_error(rotation: np.ndarray, truth: Pose) -> float:
    """Degrees between a rotation (3, 3) and a pose's."""
    cosine = (np.trace(rotation.T @ truth.rotation.as_matrix()) - 1.0) / 2.0
    return math.degrees(math.acos(np.clip(cosine, -1.0, 1.0)))


def direction_error(direction: np.ndarray, truth: Pose) -> float:
    """Degrees between a unit vector (3,) and a pose's translation."""
    cosine = direction @ truth.translation / np.linalg.norm(truth.translation)
    return math.degrees(math.acos(np.clip(cosine, -1.0, 1.0)))


def _middle(name: str, values: list[float | None]) -> float | None:
    """Of what is known; a median of errors, of which a single lost view can be 180 degrees."""
    known = [value for value in values if value is not None]
    return float((np.median if name.endswith("error") else np.mean)(known)) if known else None


def _ratio(value: float | None, truth: float | None) -> float | None:
    return None if value is None or not truth else value / truth
