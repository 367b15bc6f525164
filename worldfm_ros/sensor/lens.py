"""Lens distortion as ROS and OpenCV have it: from rays to points of the plane z = 1 as the lens bends it, and back.

A bent point times K is a pixel. Rays (..., 3) are in optical axes and need no unit length; points are (..., 2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
import math
from typing import ClassVar

import numpy as np

SHARP = 1e-6  # of the plane z = 1: how near a point that was bent back must come to itself
NEWTON = 20  # steps; 4 to 6 do
MAX_ANGLE = np.pi  # radians from the axis: no ray is further
BLOCK = 4096  # points at a time, so that all of their numbers stay in the cache
FLAT = 20.0  # x / z, 87 degrees from the axis: further out no polynomial in it means anything


@dataclass(frozen=True)
class Lens(ABC):
    """Coefficients D in ROS's order; none of them, or all 0, is a lens that bends nothing.

    Raises ValueError for another number of coefficients than the model has, and for such as are not finite.
    """

    D: tuple[float, ...] = ()
    model: ClassVar[str]
    counts: ClassVar[tuple[int, ...]]

    def __post_init__(self) -> None:
        if len(self.D) not in (0, *self.counts):
            counts = " or ".join(map(str, self.counts))
            raise ValueError(f"the distortion model {self.model} has {counts} coefficients, got {len(self.D)}: "
                             f"{list(self.D)}")
        try:
            D = tuple(float(value) for value in self.D)
        except (TypeError, ValueError):
            raise ValueError(f"distortion coefficients are numbers, got {self.D!r}") from None
        if not np.isfinite(D).all():
            raise ValueError(f"distortion coefficients are finite, got {list(D)}")
        object.__setattr__(self, "D", D)

    @property
    def bends(self) -> bool:
        """Whether it is more than a pinhole."""
        return any(self.D)

    @abstractmethod
    def project(self, rays) -> np.ndarray:
        """Rays (..., 3) to bent points (..., 2); NaN for what the lens cannot see."""

    @abstractmethod
    def unproject(self, points) -> np.ndarray:
        """Bent points (..., 2) to unit rays (..., 3); NaN where no ray, or more than one, ends."""


class Brown(Lens):
    """Brown and Conrady's polynomial in x / z and y / z: sees less than 180 degrees.

    Written out here, because OpenCV's projectPoints also returns derivatives, 240 bytes a point: 385 s for 1920x1080.
    """

    def project(self, rays) -> np.ndarray:
        rays = np.asarray(rays, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            flat = np.where(rays[..., 2:] > 0, rays[..., :2] / rays[..., 2:], np.nan)
            inside = np.hypot(flat[..., 0], flat[..., 1]) <= self.widest()
        return np.where(inside[..., None], self._bend(flat)[0], np.nan)

    def unproject(self, points) -> np.ndarray:
        points = np.asarray(points, np.float64)
        flat = np.array(points)
        if self.bends:
            for block in np.array_split(flat.reshape(-1, 2), max(1, flat.size // (2 * BLOCK))):
                block[:] = self._straighten(block)
        rays = np.concatenate([flat, np.ones((*flat.shape[:-1], 1))], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def widest(self) -> float:
        """x / z up to which a ray further out lands further out, but for the tangential terms; inf if all do."""
        if not self.bends:
            return math.inf
        r = np.linspace(0.0, FLAT, 10001)
        radial, slope = self._radial(r * r)
        folds = np.flatnonzero(~(radial + 2 * r * r * slope > 0))
        return float(r[max(0, folds[0] - 1)]) if len(folds) else math.inf

    def _terms(self) -> np.ndarray:
        return np.array([*self.D, *[0.0] * (12 - len(self.D))])

    def _radial(self, r2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The radial factor of the squared distance from the axis, and its derivative."""
        k1, k2, _, _, k3, k4, k5, k6, *_ = self._terms()
        above, below = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        d_above, d_below = k1 + r2 * (2 * k2 + r2 * 3 * k3), k4 + r2 * (2 * k5 + r2 * 3 * k6)
        return above / below, (d_above * below - above * d_below) / (below * below)

    def _bend(self, flat: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Points (..., 2) of the plane z = 1, bent; d x'/d x, d x'/d y, d y'/d x, d y'/d y."""
        _, _, p1, p2, _, _, _, _, s1, s2, s3, s4 = self._terms()
        x, y = flat[..., 0], flat[..., 1]
        r2, xy = x * x + y * y, x * y
        radial, slope = self._radial(r2)
        bent = np.stack([x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2),
                         y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * xy + r2 * (s3 + r2 * s4)], axis=-1)
        mixed, prism_x, prism_y = 2 * (xy * slope + p1 * x + p2 * y), 2 * (s1 + 2 * s2 * r2), 2 * (s3 + 2 * s4 * r2)
        return bent, (radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x + prism_x * x, mixed + prism_x * y,
                      mixed + prism_y * x, radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x + prism_y * y)

    def _straighten(self, points: np.ndarray) -> np.ndarray:
        """Newton's method; OpenCV's iteration does not end at wide angles."""
        flat, widest = points.copy(), min(self.widest(), FLAT)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            for _ in range(NEWTON):
                bent, (a, b, c, d) = self._bend(flat)
                u, v = np.moveaxis(points - bent, -1, 0)
                if np.nanmax(np.abs(points - bent), initial=0.0) < SHARP / 1000:
                    break
                flat += np.stack([d * u - b * v, a * v - c * u], axis=-1) / (a * d - b * c)[..., None]
                flat /= np.maximum(1.0, np.hypot(flat[..., 0], flat[..., 1]) / widest)[..., None]
            good = (np.abs(points - bent) < SHARP).all(axis=-1) & (a * d - b * c > 0) & (a + d > 0)
        return np.where(good[..., None], flat, np.nan)


class PlumbBob(Brown):
    """k1 k2 p1 p2 k3 (or the first four)."""

    model = "plumb_bob"
    counts = (4, 5)


class RationalPolynomial(Brown):
    """k1 k2 p1 p2 k3 k4 k5 k6; with 12 a thin prism's s1 to s4 too; 14 when OpenCV's tilt, the last two, is none."""

    model = "rational_polynomial"
    counts = (8, 12, 14)

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(self.D[12:]):
            raise ValueError(f"a tilted sensor is not supported: the last two coefficients are 0, got {self.D[12:]}")

    def _terms(self) -> np.ndarray:
        return super()._terms() if len(self.D) < 12 else np.array(self.D[:12])


class Equidistant(Lens):
    """Kannala and Brandt's, OpenCV's fisheye: r = t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8), t = angle from the axis.

    Written out here, because OpenCV's functions take x / z and end at 90 degrees from the axis; fisheyes do not.
    Without coefficients it still is no pinhole: r = t.
    """

    model = "equidistant"
    counts = (4,)

    @property
    def bends(self) -> bool:
        return True

    def _radius(self, t: np.ndarray) -> np.ndarray:
        k1, k2, k3, k4 = self.D or (0.0,) * 4
        t2 = t * t
        return t * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))

    def _slope(self, t: np.ndarray) -> np.ndarray:
        k1, k2, k3, k4 = self.D or (0.0,) * 4
        t2 = t * t
        return 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))

    def widest(self) -> float:
        """Radians from the axis up to which a larger angle lands further out."""
        angles = np.linspace(0.0, MAX_ANGLE, 10001)
        folds = np.flatnonzero(self._slope(angles) <= 0)
        return float(angles[max(0, folds[0] - 1)]) if len(folds) else MAX_ANGLE

    def project(self, rays) -> np.ndarray:
        rays = np.asarray(rays, np.float64)
        across = np.hypot(rays[..., 0], rays[..., 1])
        t = np.arctan2(across, rays[..., 2])
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(across > 0, self._radius(t) / across, 1.0)
        return np.where((t <= self.widest())[..., None], rays[..., :2] * scale[..., None], np.nan)

    def unproject(self, points) -> np.ndarray:
        points = np.asarray(points, np.float64)
        r = np.hypot(points[..., 0], points[..., 1])
        widest = self.widest()
        t = np.minimum(r, widest)
        for _ in range(NEWTON):
            t = np.clip(t - (self._radius(t) - r) / np.maximum(self._slope(t), 1e-5), 0.0, widest)
        good = np.abs(self._radius(t) - r) < SHARP
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(r > 0, np.sin(t) / r, 1.0)
        rays = np.concatenate([points * scale[..., None], np.cos(t)[..., None]], axis=-1)
        return np.where(good[..., None], rays, np.nan)


MODELS: dict[str, type[Lens]] = {kind.model: kind for kind in (PlumbBob, RationalPolynomial, Equidistant)}
PINHOLE = PlumbBob()


def make_lens(model, D) -> Lens:
    """The lens of a file's or a message's distortion_model and D. Raises ValueError."""
    if model in ("", None) and not any(D):
        return PINHOLE
    if not isinstance(model, str) or model not in MODELS:
        hint = "; OpenCV's fisheye is called equidistant" if model in ("fisheye", "kannala_brandt") else ""
        raise ValueError(f"distortion_model {model!r} with {len(D)} coefficients is not supported; "
                         f"use one of {', '.join(MODELS)} or undistort the images first{hint}")
    return MODELS[model](tuple(D))
