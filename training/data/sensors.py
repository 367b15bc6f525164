"""What real cameras do to a memory beyond `corruption`: for pairs with several references, of which each differs.

A depth camera sees less than the colour camera beside it (a border that no frame knows), loses what is dark or shiny,
and its edges bleed; a pose estimate drifts from frame to frame; exposure follows what is seen; pictures are compressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import LENGTH
from worldfm_ros.geometry import Pose

Range = tuple[float, float]
GRID = 12  # nodes of the smooth noise that decides what a depth camera does not measure


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """Strengths; each clip's cameras draw theirs anew.

    clean: probability that nothing of all this happens to a sample, nor anything of its corruption.
    border: probability of a border that no frame's depth has, and `border_width`: up to this share of a side.
    lost, lost_share: probability that a depth camera loses regions, and up to which share of the pixels.
    bleeding, bleed: probability that near surfaces grow over their edges in depth, and by up to so many pixels of 640.
    shadow: probability that a depth edge's far side has no depth, as wide as `bleed` says.
    registered: probability that depth and colours are registered well; else depth is measured by a camera beside the
    colour camera that is taken for it: zoomed, shifted (shares of the width) and aside (metres), Gaussian.
    drift_position, drift_rotation: Gaussian steps, metres and radians, of the pose's error from frame to frame.
    exposure: Gaussian relative change of exposure from frame to frame.
    jpeg, quality: probability that pictures, the target too, are compressed, and the range of the quality.
    noise: up to this standard deviation, grey levels, of every picture's noise, the target's too.
    masked: probability, for each reference behind the first, that it is not there.
    near: probability that references are ordered by time; else at random, so that the best may be far.
    """

    clean: float = 0.2
    border: float = 0.5
    border_width: float = 0.08
    lost: float = 0.4
    lost_share: float = 0.15
    bleeding: float = 0.5
    bleed: float = 6.0
    shadow: float = 0.5
    registered: float = 0.6
    zoomed: float = 0.02
    shifted: float = 0.006
    aside: float = 0.02
    drift_position: float = 0.0025
    drift_rotation: float = 0.0015
    exposure: float = 0.015
    jpeg: float = 0.6
    quality: Range = (60.0, 96.0)
    noise: float = 3.0
    masked: float = 0.15
    near: float = 0.75


@dataclass(frozen=True)
class Camera:
    """The cameras of one sample. Widths are shares of the picture's width; 0 = none.

    registration: zoom, shift to the right and down, and metres aside, of where depth is measured."""

    registration: tuple[float, float, float, float]
    border: tuple[float, float, float, float]
    lost: float
    bleed: float
    shadow: float
    jpeg: int
    noise: float

    @classmethod
    def draw(cls, sensors: Sensors, rng: np.random.Generator) -> Camera:
        def maybe(probability: float, most: float) -> float:
            return float(rng.random() * most) if rng.random() < probability else 0.0

        wrong = rng.random() >= sensors.registered
        strengths = np.array([sensors.zoomed, sensors.shifted, sensors.shifted, sensors.aside])
        registration = tuple(float(x) for x in wrong * strengths * rng.standard_normal(4))
        border = maybe(sensors.border, sensors.border_width)
        sides = tuple(float(x) for x in border * rng.random(4))
        lost = maybe(sensors.lost, sensors.lost_share)
        bleed, shadow = maybe(sensors.bleeding, sensors.bleed / 640), maybe(sensors.shadow, sensors.bleed / 640)
        jpeg = int(rng.uniform(*sensors.quality)) if rng.random() < sensors.jpeg else 0
        return cls(registration, sides, lost, bleed, shadow, jpeg, float(rng.random() * sensors.noise))

    def measured(self, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Depth (H, W), metres, as this camera would measure it; a copy."""
        depth = displaced(depth, *self.registration) if any(self.registration) else np.array(depth)
        height, width = depth.shape
        if grown := round(self.bleed * width):
            depth = bled(depth, grown)
        if shade := round(self.shadow * width):
            depth[shaded(depth, shade)] = 0
        if self.lost:
            noise = cv2.resize(rng.random((GRID, GRID), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
            depth[noise < np.quantile(noise[::8, ::8], self.lost)] = 0
        top, bottom, left, right = (round(x * width) for x in self.border)
        depth[:top], depth[:, :left] = 0, 0
        depth[height - bottom:], depth[:, width - right:] = 0, 0
        return depth

    def picture(self, rgb: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
        """A picture (H, W, 3) uint8 as this camera would deliver it."""
        if gain != 1.0:
            table = np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8)
            rgb = cv2.LUT(np.ascontiguousarray(rgb), table)
        if self.noise >= 0.5:
            tile = rng.standard_normal(16381, np.float32) * np.float32(self.noise)
            rgb = cv2.add(rgb, np.resize(tile.astype(np.int16), rgb.shape), dtype=cv2.CV_8U)
        if self.jpeg:
            _, data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])
            rgb = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return rgb


def displaced(depth: np.ndarray, zoom: float, right: float, down: float, aside: float) -> np.ndarray:
    """What a camera of about a focal length of its width, `aside` metres beside this one, measures: (H, W) metres."""
    height, width = depth.shape
    row, column = np.ogrid[:np.float32(height), :np.float32(width)]
    parallax = np.divide(aside * width, depth, out=np.zeros_like(depth), where=depth > 0)
    x = (1 + zoom) * (column - width / 2) + width / 2 + right * width + parallax
    y = (1 + zoom) * (row - height / 2) + height / 2 + down * width + np.zeros_like(depth)
    return cv2.remap(depth, x.astype(np.float32), y.astype(np.float32), cv2.INTER_NEAREST, borderValue=0)


def bled(depth: np.ndarray, pixels: int) -> np.ndarray:
    """Near surfaces grown by so many pixels, ragged: over what is behind them, not over what has no depth."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2)
    far = np.where(depth > 0, depth, np.float32(np.inf))
    return np.where(depth > 0, cv2.erode(far, kernel), np.float32(0))


def shaded(depth: np.ndarray, pixels: int) -> np.ndarray:
    """(H, W) bool: within so many pixels to the right of a nearer surface, where a structured light casts a shadow."""
    far = np.where(depth > 0, depth, np.float32(np.inf))
    before = cv2.erode(far, np.ones((1, pixels + 1), np.uint8), anchor=(pixels, 0))
    return (depth > 0) & (before < 0.9 * depth)


@dataclass(frozen=True, eq=False)
class Drift:
    """How a camera's pose estimate and its exposure wander over a clip; by position.

    poses: T_camera_estimated, of the true camera; gains: of the pictures. Both are random walks, so what counts, the
    difference between two positions, grows with the time between them: the nearest reference is off least.
    """

    poses: tuple[Pose, ...]
    gains: tuple[float, ...]

    @classmethod
    def draw(cls, sensors: Sensors, rng: np.random.Generator) -> Drift:
        turn, shift = np.cumsum(rng.standard_normal((2, LENGTH, 3)) * rng.random(), axis=1)
        gains = np.exp(np.cumsum(rng.normal(0.0, sensors.exposure, LENGTH)))
        poses = tuple(Pose(Rotation.from_rotvec(a * sensors.drift_rotation), b * sensors.drift_position)
                      for a, b in zip(turn, shift, strict=True))
        return cls(poses, tuple((gains / gains.mean()).tolist()))
