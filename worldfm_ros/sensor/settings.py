"""What makes a picture look taken: exposure, noise, vignette, blur, rolling shutter. Everything is off by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
import difflib
from numbers import Integral, Real


def _setting(default, text: str, minimum, maximum):
    return field(default=default, metadata={"text": text, "minimum": minimum, "maximum": maximum})


@dataclass(frozen=True)
class SensorSettings:
    """Raises ValueError naming the setting that is out of its range. With the defaults a picture stays as it is."""

    exposure: float = _setting(0.0, "stops by which more light (or less, below 0) falls on the sensor", -16.0, 16.0)
    gain: float = _setting(0.0, "amplification of what the sensor gives, in dB", 0.0, 60.0)
    full_well: float = _setting(0.0, "electrons of a white pixel, which give shot noise; 0 = no noise", 0.0, 1e6)
    read_noise: float = _setting(0.0, "electrons of noise that reading a pixel adds; needs full_well", 0.0, 1e4)
    vignette: float = _setting(0.0, "part of the light that the sensor's far corners miss", 0.0, 0.95)
    exposure_time: float = _setting(0.0, "seconds that a row is exposed; motion blurs it", 0.0, 1.0)
    readout_time: float = _setting(0.0, "seconds that a rolling shutter takes for all rows", 0.0, 1.0)
    sensor_seed: int = _setting(0, "seed of the noise, beside the camera's name and the stamp", 0, 2**31 - 1)

    def __post_init__(self) -> None:
        for f in fields(self):
            kind = type(f.default)
            value, low, high = getattr(self, f.name), f.metadata["minimum"], f.metadata["maximum"]
            fits = isinstance(value, Real if kind is float else Integral) and not isinstance(value, bool)
            if not (fits and low <= value <= high):  # nan is not
                raise ValueError(f"{f.name} ({f.metadata['text']}) is from {low:g} to {high:g}, got {value!r}")
            object.__setattr__(self, f.name, kind(value))
        if self.read_noise and not self.full_well:
            raise ValueError("read_noise is in electrons; give full_well, the electrons of a white pixel, too")

    @property
    def develops(self) -> bool:
        """Whether brightness changes: exposure, gain, noise or vignette."""
        return bool(self.exposure or self.gain or self.full_well or self.vignette)

    @property
    def moves(self) -> bool:
        """Whether a picture takes time: blur or rolling shutter."""
        return bool(self.exposure_time or self.readout_time)

    @property
    def duration(self) -> float:
        """Seconds from when the first row's exposure begins to when the last row's ends; the stamp is the middle."""
        return self.exposure_time + self.readout_time


def settings_of(data: Mapping) -> SensorSettings:
    """The settings of a file's mapping. Raises ValueError for an unknown name or a value out of range."""
    known = [f.name for f in fields(SensorSettings)]
    if not isinstance(data, Mapping):
        raise ValueError(f"sensor is a mapping of settings, got {data!r}; the settings: {', '.join(known)}")
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"there is no sensor setting {name!r}; {hint}The settings: {', '.join(known)}")
    return SensorSettings(**data)
