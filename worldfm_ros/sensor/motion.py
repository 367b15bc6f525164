"""A picture takes time: rows are read one after the other and each is exposed for a while, from a camera that moves.

The stamp is the middle of the exposure of the middle of the picture. Row v of H is exposed about
stamp + ((v + 1/2) / H - 1/2) readout_time. One painted frame, of the stamp, is resampled by each row's own pose: exact
for turns, and for shifts as good as the depth; what only another row's pose uncovers is not painted anew.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import cv2
import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from worldfm_ros.geometry import Pose
from worldfm_ros.sensor.settings import SensorSettings
from worldfm_ros.sensor.views import Lookup, View, look_up

SPACING, MOST_POSES = 0.005, 33  # seconds between the poses that are asked for, and their number
ROUNDS = 2  # of finding a row's pixel in the frame of the stamp by its depth
BLUR_SAMPLES = 32  # instants of an exposure at the most
SHORT = 0.25  # pixels; a picture that moves less during an exposure is sharp
STILL = 1e-6  # metres; less is no shift
MAX_TURN = 1.0  # rad/s for which views have a margin; faster, the margin's edge goes on


def pose_offsets(settings: SensorSettings) -> np.ndarray:
    """Seconds from the stamp at which `MotionSampler` wants poses: an odd number, the stamp in the middle."""
    count = min(MOST_POSES, 1 + 2 * math.ceil(settings.duration / 2 / SPACING))
    return np.linspace(-settings.duration / 2, settings.duration / 2, count)


def view_margin(settings: SensorSettings, focal: float) -> int:
    """Pixels that a view is to be larger on each side."""
    return math.ceil(focal * MAX_TURN * settings.duration / 2) + 2 if settings.moves else 0


class Path:
    """The camera's poses about a stamp, relative to the one at the stamp; between them as TF interpolates."""

    def __init__(self, offsets: np.ndarray, poses: Sequence[Pose]) -> None:
        """Raises ValueError for another number of poses than offsets, which are rising seconds about 0."""
        if len(poses) != len(offsets):
            raise ValueError(f"this camera's motion needs {len(offsets)} poses, got {len(poses)}")
        center = poses[len(poses) // 2]
        relative = [center.inverse() @ pose for pose in poses]
        self._offsets = offsets
        self._shifts = np.stack([pose.translation for pose in relative])
        self._turns = Slerp(offsets, Rotation.concatenate([pose.rotation for pose in relative]))
        self.shifts = bool(np.abs(self._shifts).max() > STILL)

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """R (N, 3, 3) and t (N, 3) of T_center_camera at `times` (N,) seconds from the stamp."""
        times = np.clip(times, self._offsets[0], self._offsets[-1])  # rounding
        t = np.stack([np.interp(times, self._offsets, self._shifts[:, axis]) for axis in range(3)], axis=-1)
        return self._turns(times).as_matrix(), t


def along(poses: Sequence[Pose], time: float) -> Pose:
    """Where a camera is that passes one pose after the other at the times 0, 1, 2 ...; at rest before and after."""
    place = min(max(time, 0.0), len(poses) - 1.0)
    before = min(int(place), max(0, len(poses) - 2))
    return poses[before].interpolate(poses[before + 1], place - before) if place > before else poses[before]


def continued(past: Sequence[Pose]) -> list[Pose]:
    """The poses at all offsets from those up to the stamp, the last: after it, each motion from before it goes on.

    So a picture needs nothing of the future, which in lockstep does not exist yet. At a constant velocity it is exact;
    an acceleration a makes an error of a (duration / 2)^2: 1 rad/s^2 in 30 ms, 0.2 mrad at the last row.
    """
    now = past[-1]
    return [*past, *(now @ (earlier.inverse() @ now) for earlier in reversed(past[:-1]))]


class MotionSampler:
    """Finds the pixels of a moving camera's picture in the views of its stamp."""

    def __init__(self, settings: SensorSettings, views: Sequence[View], rays: np.ndarray) -> None:
        """rays (H, W, 3): the unit ray of each pixel of the picture, NaN = none."""
        self._settings, self._views, self._rays = settings, views, rays.astype(np.float32)  # 1e-4 pixels, half the time
        height = rays.shape[0]
        self._rows = ((np.arange(height) + 0.5) / height - 0.5) * settings.readout_time
        self._stretch = [_range_by_depth(view) for view in views]

    def lookups(self, path: Path, depths: Sequence[np.ndarray]) -> tuple[Lookup, Lookup, Lookup]:
        """Where the pixels are at the beginning, the middle and the end of their exposure."""
        ranges = self._ranges(depths) if path.shifts else None
        if not self._settings.exposure_time:
            middle = self._lookup(path, 0.0, ranges)
            return middle, middle, middle
        half = self._settings.exposure_time / 2
        first, middle, last = (self._lookup(path, shift, ranges) for shift in (-half, 0.0, half))
        return first, middle, last

    def _lookup(self, path: Path, shift: float, ranges: Sequence[np.ndarray] | None) -> Lookup:
        R, t = (values.astype(np.float32) for values in path.at(self._rows + shift))
        directions = np.matmul(self._rays, np.swapaxes(R, 1, 2))
        if ranges is None:
            return look_up(self._views, directions)
        points = directions
        for _ in range(ROUNDS):
            # the surface that the stamp's frame shows at that pixel, and how far along this row's ray it is
            where = look_up(self._views, points)
            distance = where.sample(ranges, cv2.INTER_NEAREST)[..., None]
            scale = distance / np.sqrt(np.einsum("hwi,hwi->hw", points, points))[..., None]
            surface = points * scale - t[:, None]
            along = np.maximum(np.einsum("hwi,hwi->hw", surface, directions), np.float32(1e-3))[..., None]
            points = directions * along + t[:, None]
        return look_up(self._views, points)

    def _ranges(self, depths: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Metres from the camera; where no depth is known, the median of what is."""
        ranges = [depth * stretch for depth, stretch in zip(depths, self._stretch, strict=True)]
        known = np.concatenate([r[r > 0] for r in ranges])
        usual = np.float32(np.median(known)) if known.size else np.float32(1e3)
        return [np.where(r > 0, r, usual) for r in ranges]


def blurred(lookups: tuple[Lookup, Lookup, Lookup], light: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the views' light (H, W, 3) float32 over the exposure, whose instants lie on a parabola through its
    beginning, middle and end."""
    first, middle, last = lookups
    travel = max(float(np.hypot(*np.moveaxis(b - a, -1, 0)).max(initial=0.0)) if middle.choice is None
                 else float(np.hypot(*np.moveaxis(b - a, -1, 0))[middle.choice == number].max(initial=0.0))
                 for number, (a, b) in enumerate(zip(first.maps, last.maps, strict=True)))
    count = 1 if travel < SHORT else min(BLUR_SAMPLES, math.ceil(travel) + 1)
    if count == 1:
        return middle.sample(light, cv2.INTER_LINEAR)
    total = 0
    for instant in (np.arange(count) + 0.5) / count * 2 - 1:  # from -1 to 1
        a, b, c = instant * (instant - 1) / 2, 1 - instant * instant, instant * (instant + 1) / 2
        maps = tuple(np.float32(a) * p + np.float32(b) * q + np.float32(c) * r
                     for p, q, r in zip(first.maps, middle.maps, last.maps, strict=True))
        total = total + Lookup(maps, middle.choice, middle.scales, middle.valid).sample(light, cv2.INTER_LINEAR)
    return total / np.float32(count)


def _range_by_depth(view: View) -> np.ndarray:
    """(H, W) float32: metres from the camera for a metre along the view's axis."""
    K = view.intrinsics
    x, y = (np.arange(K.width) - K.cx) / K.fx, (np.arange(K.height) - K.cy) / K.fy
    return np.sqrt(1 + x * x + (y * y)[:, None]).astype(np.float32)
