"""What pairs of frames say for and against each way of reading a source's poses and depth.

A point that one frame measured is carried into another one by the relative pose; there it agrees with what was measured
at its pixel, or not. Every reading of the files, the right one and the usual wrong ones, carries the same points of the
same pairs, so that a slow scan, noise and occlusion weigh on all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import math

import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Pose
from worldfm_ros.sources.conventions import READ, reread

AGREEMENT = 0.03  # relative difference in depth up to which two views show the same surface
POINTS = 700  # about so many of a frame are carried
ENOUGH_POINTS = 100  # so many must both views have measured
SCALES = (0.1, 1000 / 6553.5, 0.2, 0.25, 0.5, 2.0, 1000 / 256, 5.0, 10.0, 100.0, 1000.0, 0.01, 0.001)
AS_READ, NO_MOTION, ANY = "as read", "no motion", "poses of other frames"
MOVED = 0.01  # of the distance: less is no motion


@dataclass(frozen=True)
class Reading:
    """One way to read the files: the depth is `scale` times what was read, the poses are written as `poses`."""

    name: str
    scale: float = 1.0
    poses: str | None = None

    def relative(self, a: Pose, b: Pose, written: str) -> Pose:
        """T_b_a for depth as it was read: lengths divided by the scale."""
        if self.name == NO_MOTION:
            return Pose.identity()
        if self.poses is not None:
            a, b = (reread(pose, written, self.poses) for pose in (a, b))
        T = b.inverse() @ a
        return Pose(T.rotation, T.translation / self.scale)


def readings(written: str, scales: Iterable[float] = SCALES) -> list[Reading]:
    """As read (first), without motion, in other units, in other conventions."""
    others = [Reading(name, poses=name) for name in READ if name != written]
    return [Reading(AS_READ), Reading(NO_MOTION), Reading(ANY), *others,
            *(Reading(f"x{scale:.3g}", scale) for scale in scales)]


@dataclass(frozen=True)
class Evidence:
    """agree, compared (pairs, readings): shares of the points that each pair's first frame measured: of those that the
    second one confirms, and of those that it could (it measured something there). moved (pairs,): how far the points
    move by the poses as read, of their distance."""

    readings: list[Reading]
    agree: np.ndarray
    compared: np.ndarray
    moved: np.ndarray


def gather(frames: Sequence[RgbdFrame], pairs: Sequence[tuple[int, int]], readings: list[Reading],
           written: str) -> Evidence:
    """The evidence of pairs of frames, each read once."""
    points, seen = {}, {}
    for index in sorted({index for pair in pairs for index in pair}):
        frame = frames[index]
        points[index], seen[index] = sampled(frame), frame
    usable = [pair for pair in pairs if len(points[pair[0]]) >= ENOUGH_POINTS]
    agree, compared, moved = [], [], []
    for number, (a, b) in enumerate(usable):
        other = usable[(number + len(usable) // 2) % len(usable)]  # whose poses the reading ANY takes
        Ts = []
        for reading in readings:
            first, second = other if reading.name == ANY else (a, b)
            Ts.append(reading.relative(seen[first].T_world_camera, seen[second].T_world_camera, written))
        agrees, compares = confirmed(points[a], seen[b], Ts)
        agree.append(agrees), compared.append(compares)
        moved.append(float(np.median(np.linalg.norm(Ts[0].apply(points[a]) - points[a], axis=1) / points[a][:, 2])))
    shape = (len(usable), len(readings))
    return Evidence(readings, np.reshape(agree, shape), np.reshape(compared, shape), np.array(moved))


def sampled(frame: RgbdFrame) -> np.ndarray:
    """(N, 3) camera-frame points of a grid of a frame's pixels that have depth."""
    step = max(1, round(math.sqrt(frame.depth.size / POINTS)))
    sparse = np.ascontiguousarray(frame.depth[step // 2::step, step // 2::step], np.float64)
    K = frame.intrinsics
    x = (step // 2 + step * np.arange(sparse.shape[1]) - K.cx) / K.fx
    y = (step // 2 + step * np.arange(sparse.shape[0]) - K.cy) / K.fy
    points = np.stack([sparse * x, sparse * y[:, None], sparse], axis=-1).reshape(-1, 3)
    return points[points[:, 2] > 0]


def confirmed(points: np.ndarray, b: RgbdFrame, T_b_a: Sequence[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """For each relative pose, the shares of the points (N, 3) that b measures at their depth, and measures at all."""
    R = np.stack([T.rotation.as_matrix() for T in T_b_a])
    t = np.stack([T.translation for T in T_b_a])
    x, y, z = np.moveaxis(points @ R.transpose(0, 2, 1) + t[:, None], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = b.intrinsics.fx * x / z + b.intrinsics.cx, b.intrinsics.fy * y / z + b.intrinsics.cy
    inside = (z > 0) & (u > -0.5) & (v > -0.5) & (u < b.intrinsics.width - 0.5) & (v < b.intrinsics.height - 0.5)
    u, v = (np.rint(np.where(inside, value, 0)).astype(int) for value in (u, v))
    measured = np.where(inside, b.depth[v, u], 0)
    agree = (measured > 0) & (np.abs(measured - z) < AGREEMENT * np.abs(z))
    return agree.mean(axis=1), (measured > 0).mean(axis=1)
