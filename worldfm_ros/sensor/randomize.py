"""Domain randomisation: what varies from frame to frame, drawn from distributions by one seed. Labels stay as they are.

    randomize:
      seed: 7
      exposure: {uniform: [-1, 1]}          # stops
      temperature: {normal: [6500, 800]}    # kelvin, of the light that the white balance takes to be 6500 K
      tone: {uniform: [0.8, 1.25]}          # exponent of the light, 1 = as it is
      noise: {log_uniform: [500, 20000]}    # electrons of a white pixel; fewer are noisier
      blur: {uniform: [0, 1.2]}             # pixels, the deviation of a Gaussian
      fog: {uniform: [0, 0.1]}              # of the light, lost in each metre
      hour: {uniform: [6, 20]}              # time of day, which tints and dims
      distractors: {integers: [0, 4]}       # things before the picture that are in no label
      jitter_position: {normal: [0, 0.005]} # metres, along each axis of the camera
      jitter_rotation: {normal: [0, 0.003]} # radians, about each axis
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
import difflib
import math
import zlib

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Pose
from worldfm_ros.sensor.distribution import Distribution, distribution_of
from worldfm_ros.sensor.exposure import linear_of_bytes, to_bytes

DAYLIGHT = 6500.0  # kelvin
HAZE = np.array([0.62, 0.66, 0.72], np.float32)  # light of fog, white = 1
NOON = 13.0  # hours
LIMITS = {  # of each parameter's values
    "exposure": (-8.0, 8.0), "temperature": (2000.0, 20000.0), "tone": (0.2, 5.0), "noise": (10.0, 1e6),
    "blur": (0.0, 20.0), "fog": (0.0, 1.0), "hour": (0.0, 24.0), "distractors": (0.0, 50.0),
    "jitter_position": (-1.0, 1.0), "jitter_rotation": (-0.5, 0.5)}
AXES = "xyz"


@dataclass(frozen=True)
class Randomization:
    """Distributions by parameter, and the seed that values follow from, beside the camera's name and the stamp."""

    of: Mapping[str, Distribution] = field(default_factory=dict)
    seed: int = 0

    def values(self, camera: str, stamp: int) -> dict[str, float]:
        """What this frame has. A parameter's values do not depend on the others that there are."""
        found = {}
        for name, distribution in self.of.items():
            low, high = LIMITS[name]
            for part in [f"{name}_{axis}" for axis in AXES] if name.startswith("jitter") else [name]:
                drawn = distribution.draw(self.source(camera, stamp, part))
                found[part] = float(np.clip(drawn, low, high))
        return found

    def source(self, camera: str, stamp: int, what: str) -> np.random.Generator:
        words = [self.seed, zlib.crc32(camera.encode()), zlib.crc32(what.encode()), abs(stamp), int(stamp < 0)]
        return np.random.default_rng(np.random.SeedSequence(words))

    def to_dict(self) -> dict:
        """As a file has it."""
        return {"seed": self.seed} | {name: each.to_dict() for name, each in self.of.items()}


def randomization_of(data: object) -> Randomization:
    """Of a file's block. Raises ValueError naming the entry that is wrong."""
    if not isinstance(data, Mapping):
        raise ValueError(f"randomize is a mapping of distributions, got {data!r}; the parameters: {', '.join(LIMITS)}")
    rest = dict(data)
    seed = rest.pop("seed", 0)
    if type(seed) is not int or seed < 0:
        raise ValueError(f"randomize.seed is a whole number from 0 up, got {seed!r}")
    known = {}
    for name, text in rest.items():
        if name not in LIMITS:
            near = difflib.get_close_matches(str(name), LIMITS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"randomize has no {name!r}; {hint}It has {', '.join(LIMITS)}")
        try:
            known[name] = distribution_of(text)
            known[name].check(*LIMITS[name])
        except ValueError as error:
            raise ValueError(f"randomize.{name}: {error}") from None
    return Randomization(known, seed)


def jittered(pose: Pose, values: Mapping[str, float]) -> Pose:
    """The camera's pose (optical axes), shaken."""
    shift, turn = ([values.get(f"jitter_{kind}_{axis}", 0.0) for axis in AXES] for kind in ("position", "rotation"))
    return pose @ Pose(Rotation.from_rotvec(turn), np.array(shift)) if any(shift) or any(turn) else pose


def varied(frame, values: Mapping[str, float], source: np.random.Generator):
    """A frame with its picture varied; what a distractor hides has a confidence of 0, all else is as it was."""
    rgb, hidden = distracted(frame.rgb, int(values.get("distractors", 0)), source)
    light = linear_of_bytes()[rgb]
    if "fog" in values:
        far = np.where(frame.depth > 0, frame.depth, frame.depth.max(initial=0.0))
        clear = np.exp(-values["fog"] * np.where(hidden, 0, far))[..., None].astype(np.float32)  # distractors are near
        light = light * clear + HAZE * (1 - clear)
    light = light * (gains(values) * 2.0 ** values.get("exposure", 0.0)).astype(np.float32)
    if values.get("tone", 1.0) != 1.0:
        light = np.maximum(light, 0) ** np.float32(values["tone"])
    if values.get("blur", 0.0) > 0:
        light = cv2.GaussianBlur(light, (0, 0), values["blur"])
    if "noise" in values:
        light = np.minimum(light, 1)
        deviation = np.sqrt(light * np.float32(1 / values["noise"]))
        light = light + deviation * source.standard_normal(light.shape, np.float32)
    changed = {"rgb": to_bytes(np.ascontiguousarray(light, np.float32))}
    if hidden.any() and frame.confidence is not None:
        changed["confidence"] = np.where(hidden, 0, frame.confidence).astype(np.uint8)
    return replace(frame, **changed)


def gains(values: Mapping[str, float]) -> np.ndarray:
    """(3,) of red, green and blue: the colour of the light, by Planck's law beside DAYLIGHT and by the time of day."""
    total = np.ones(3)
    if "temperature" in values:
        total = total * _planck(values["temperature"]) / _planck(DAYLIGHT)
    if "hour" in values:
        height = math.cos((values["hour"] - NOON) / 12 * math.pi)  # of the sun, 1 at noon, below 0 at night
        day = min(1.0, max(0.0, height + 0.3))
        sun = _planck(2500 + 4000 * day) / _planck(DAYLIGHT)
        total = total * sun * (0.15 + 0.85 * day)
    return total


def _planck(kelvin: float) -> np.ndarray:
    """(3,) of red, green and blue (600, 540 and 450 nm), green = 1."""
    metres = np.array([600e-9, 540e-9, 450e-9])
    radiance = metres**-5 / np.expm1(0.014388 / (metres * kelvin))
    return radiance / radiance[1]


def distracted(rgb: np.ndarray, count: int, source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The picture with so many shapes before it, and the pixels (H, W) bool that they hide."""
    hidden = np.zeros(rgb.shape[:2], np.uint8)
    picture, size = rgb.copy() if count else rgb, np.array(rgb.shape[1::-1])
    for _ in range(count):
        middle, extent = source.uniform(0, size), source.uniform(0.04, 0.18, 2) * size.max()
        corners = int(source.integers(3, 9))
        angles = np.sort(source.uniform(0, 2 * np.pi, corners))
        outline = np.rint(middle + extent * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.int32)
        mask = cv2.fillPoly(np.zeros_like(hidden), [outline], 1).astype(bool)
        ends = source.uniform(0, 255, (2, 3))
        shade = np.linspace(0, 1, rgb.shape[1])[None, :, None]
        picture[mask] = np.broadcast_to(ends[0] * (1 - shade) + ends[1] * shade, rgb.shape)[mask].astype(np.uint8)
        hidden[mask] = 1
    return picture, hidden.astype(bool)
