"""Whether a clip can be trained on: its depth is there, and its poses and depth tell of one scene."""

from __future__ import annotations

from itertools import combinations
import math

import numpy as np

from worldfm_ros.clips import REFERENCE_GROUP, Clip, RgbdFrame

LEAST_DEPTH = 0.05  # of a reference frame's pixels
AGREEMENT = 0.03  # relative difference in depth up to which two views show the same surface
LEAST_AGREEMENT = 0.4  # of the points that both views see; noise and occlusion leave more, a wrong convention less
POINTS = 2500  # about so many are compared
ENOUGH_POINTS = 100  # so many must both views have measured


def problem(clip: Clip) -> str | None:
    """Why a clip is no good, in a few words that are the same for all clips with this fault; None for a good one."""
    group = [clip.frames[k] for k in REFERENCE_GROUP]
    for frame in group:
        size = (frame.intrinsics.height, frame.intrinsics.width)
        if frame.rgb.shape != (*size, 3) or frame.depth.shape != size:
            return "colour, depth and camera differ in size"
        if np.mean(frame.depth > 0) < LEAST_DEPTH:
            return f"less than {LEAST_DEPTH:.0%} of a reference frame has depth"
    shares = [share for a, b in combinations(group, 2) if (share := agreement(a, b)) is not None]
    if not shares:
        return "no two reference frames show the same place"
    if np.median(shares) < LEAST_AGREEMENT:
        return "poses do not match the depth (is the camera convention or the unit another one?)"
    return None


def agreement(a: RgbdFrame, b: RgbdFrame) -> float | None:
    """The share of a's points, among those in b's view, that b measures at the same depth; None for too few points."""
    step = max(1, round(math.sqrt(a.depth.size / POINTS)))
    points = a.intrinsics.unproject(a.depth)[::step, ::step].reshape(-1, 3)
    points = (b.T_world_camera.inverse() @ a.T_world_camera).apply(points[points[:, 2] > 0])
    points = points[points[:, 2] > 0]
    u, v = np.rint(b.intrinsics.project(points)).T
    inside = (u >= 0) & (v >= 0) & (u < b.intrinsics.width) & (v < b.intrinsics.height)
    measured = b.depth[v[inside].astype(int), u[inside].astype(int)]
    z = points[inside, 2][measured > 0]
    if len(z) < ENOUGH_POINTS:
        return None
    return float(np.mean(np.abs(measured[measured > 0] - z) < AGREEMENT * z))
