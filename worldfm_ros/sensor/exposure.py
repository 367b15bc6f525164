"""From light to bytes: vignette, exposure, shot and read noise, gain, the sRGB curve."""

from __future__ import annotations

from functools import cache
import zlib

import numpy as np

from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.settings import SensorSettings

LEVELS = 2**14  # of the converter; every one of the 256 bytes comes back from them as it was


@cache
def linear_of_bytes() -> np.ndarray:
    """(256,) float32: the light of each byte of an sRGB picture, white = 1 (IEC 61966-2-1)."""
    s = np.arange(256) / 255.0
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4).astype(np.float32)


@cache
def bytes_of_levels() -> np.ndarray:
    """(LEVELS,) uint8: the inverse, for light in steps of 1 / (LEVELS - 1)."""
    light = np.arange(LEVELS) / (LEVELS - 1)
    s = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * s).astype(np.uint8)


def to_bytes(light: np.ndarray) -> np.ndarray:
    """Light, white = 1, as an sRGB picture; brighter than white is white. Overwrites its argument."""
    np.multiply(light, LEVELS - 1, out=light)
    np.rint(light, out=light)
    np.clip(light, 0, LEVELS - 1, out=light)
    return bytes_of_levels()[light.astype(np.uint16)]


def vignette(camera: Camera, strength: float) -> np.ndarray:
    """(H, W, 1) float32: the part of the light that reaches each pixel of the picture: a cos^4 law about the optical
    centre, which is 1 - strength in the corner of the whole sensor that is farthest from it."""
    sensor, picture = camera.sensor, camera.picture
    across = np.maximum(sensor.cx, sensor.width - 1 - sensor.cx)
    down = np.maximum(sensor.cy, sensor.height - 1 - sensor.cy)
    x = (np.arange(picture.width) - picture.cx) * camera.binning[0]
    y = (np.arange(picture.height) - picture.cy) * camera.binning[1]
    share = (x * x + (y * y)[:, None]) / max(1e-9, across * across + down * down)
    tangent_squared = (1 - strength) ** -0.5 - 1  # of the corner: cos^4 = (1 + tan^2)^-2
    return ((1 + tangent_squared * share) ** -2).astype(np.float32)[..., None]


def noise_source(settings: SensorSettings, name: str, stamp: int) -> np.random.Generator:
    """The same numbers for the same seed, camera and stamp (nanoseconds, or a frame's number)."""
    words = [settings.sensor_seed, zlib.crc32(name.encode()), abs(stamp), int(stamp < 0)]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))


class Developer:
    """Makes bytes of the light that falls on a camera's sensor."""

    def __init__(self, camera: Camera, settings: SensorSettings) -> None:
        self._settings, self._name = settings, camera.name
        self._vignette = vignette(camera, settings.vignette) if settings.vignette else None
        self._full_well = settings.full_well * camera.binning[0] * camera.binning[1]

    def develop(self, light: np.ndarray, stamp: int) -> np.ndarray:
        """light (H, W, 3) float32, white = 1, is overwritten; (H, W, 3) uint8.

        Electrons are Poisson's, in the normal approximation, and end at the full well; reading adds the same noise to
        each pixel; the gain amplifies both.
        """
        settings = self._settings
        if self._vignette is not None:
            light *= self._vignette
        if settings.exposure:
            light *= np.float32(2.0**settings.exposure)
        if self._full_well:
            np.minimum(light, 1, out=light)
            # in units of the full well: variance light / N + (read / N)^2
            variance = light * np.float32(1 / self._full_well)
            variance += np.float32((settings.read_noise / self._full_well) ** 2)
            noise = noise_source(settings, self._name, stamp).standard_normal(light.shape, np.float32)
            noise *= np.sqrt(variance, out=variance)
            light += noise
        if settings.gain:
            light *= np.float32(10.0 ** (settings.gain / 20.0))
        return to_bytes(light)
