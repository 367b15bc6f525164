"""The parameters of a camera that say how it is built: lens, sensor, calibration. No ROS here."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
import math
import os
from pathlib import Path

import numpy as np

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.nodes.mounts import OPTICAL
from worldfm_ros.nodes.parameter_fields import describe
from worldfm_ros.sensor.camera import Camera, Roi
from worldfm_ros.sensor.camera_file import camera_url, read_randomization, read_sensor_file
from worldfm_ros.sensor.lens import make_lens
from worldfm_ros.sensor.sensor import Sensor
from worldfm_ros.sensor.settings import SensorSettings

SETTINGS = {f.name: f for f in fields(SensorSettings)}
OF_THE_FILE = ("distortion_model", "distortion")  # what a camera file says


def _setting(name: str):
    """A parameter that is a setting of the sensor; one that is not at its default beats the camera file's."""
    field = SETTINGS[name]
    return describe(field.default, field.metadata["text"], field.metadata["minimum"], field.metadata["maximum"],
                    changes=True)


@dataclass(frozen=True)
class SensorParameters:
    """What makes a Sensor, beside width, height and hfov. By default a pinhole that shows what is painted."""

    camera: str = describe("", "camera file: a ROS camera_info YAML, or a camera.yaml; beats width, height and hfov",
                           changes=True)
    camera_info_url: str = describe("", "the same as a URL: file:///PATH or package://PACKAGE/PATH, with ${NAME} and "
                                        "${ROS_HOME}", changes=True)
    distortion_model: str = describe("", "plumb_bob, rational_polynomial or equidistant; empty = a pinhole",
                                     changes=True)
    distortion: str = describe("", "its coefficients D, as numbers with spaces between them", changes=True)
    rectification: str = describe("", "R of the CameraInfo, 9 numbers; empty = none, or the file's", changes=True)
    projection: str = describe("", "P of the CameraInfo, 12 numbers; empty = [K | 0], or the file's", changes=True)
    binning_x: int = describe(1, "columns of the sensor that make one of the image", 1, 64, changes=True)
    binning_y: int = describe(1, "rows of the sensor that make one of the image", 1, 64, changes=True)
    roi: str = describe("", "window of the sensor that is read: x y width height; empty = all", changes=True)
    exposure: float = _setting("exposure")
    gain: float = _setting("gain")
    full_well: float = _setting("full_well")
    read_noise: float = _setting("read_noise")
    vignette: float = _setting("vignette")
    exposure_time: float = _setting("exposure_time")
    readout_time: float = _setting("readout_time")
    sensor_seed: int = _setting("sensor_seed")
    randomize: str = describe("", "YAML file whose block `randomize` says what varies from frame to frame; empty = the "
                                  "camera file's, if it has one", changes=True)

    @property
    def camera_path(self) -> Path | None:
        """The camera's file; None when there is none. Raises ValueError."""
        if self.camera and self.camera_info_url:
            raise ValueError("camera and camera_info_url are two ways to name a camera file; give one of them")
        if self.camera:
            return Path(self.camera).expanduser()
        if not self.camera_info_url:
            return None
        home = Path(os.environ.get("ROS_HOME", "~/.ros")).expanduser()
        return camera_url(self.camera_info_url, self.camera_name, _package, home)

    @property
    def camera_name(self) -> str:
        """${NAME} of a camera_info_url: the optical frame without what says that it is one."""
        return self.camera_frame.removesuffix(OPTICAL)

    @property
    def sensor(self) -> Sensor:
        """The sensor; the same one as long as nothing of it changes. Raises ValueError or OSError."""
        names = [*(f.name for f in fields(SensorParameters)), "width", "height", "hfov", "camera_frame"]
        values = {name: getattr(self, name) for name in names}
        path = self.camera_path
        return _made(path, path and path.stat().st_mtime_ns, **values)


@lru_cache(maxsize=8)
def _made(path: Path | None, changed: int | None, **values) -> Sensor:
    camera, settings = _of_file(path, values) if path else (_pinhole(values), SensorSettings())
    R, P = _numbers("rectification", values, 9), _numbers("projection", values, 12)
    binning, roi = (values["binning_x"], values["binning_y"]), _numbers("roi", values, 4)
    camera = replace(
        camera, name=values["camera_frame"],
        R=camera.R if R is None else R.reshape(3, 3), P=camera.P if P is None else P.reshape(3, 4),
        binning=camera.binning if binning == (1, 1) else binning,
        roi=camera.roi if roi is None else Roi(*(int(n) for n in roi)))
    given = {name: values[name] for name, field in SETTINGS.items() if values[name] != field.default}
    varies = values["randomize"] or path
    return Sensor(camera, replace(settings, **given), read_randomization(varies) if varies else None)


def _of_file(path: Path, values) -> tuple[Camera, SensorSettings]:
    for name in OF_THE_FILE:
        if values[name]:
            raise ValueError(f"the camera file {path} says what {name} would say; give one of the two")
    return read_sensor_file(path)


def _pinhole(values) -> Camera:
    """Of width, height, hfov and distortion."""
    D = _numbers("distortion", values, None)
    lens = make_lens(values["distortion_model"], [] if D is None else D.tolist())
    return Camera(Intrinsics.from_hfov(values["width"], values["height"], math.radians(values["hfov"])), lens)


def _numbers(name: str, values, count: int | None) -> np.ndarray | None:
    """The numbers of a parameter; None when it is empty."""
    words = values[name].replace(",", " ").split()
    if not words:
        return None
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all() or count not in (None, len(numbers)):
        raise ValueError(f"parameter {name} is {count or 'some'} numbers with spaces between them, "
                         f"got {values[name]!r}")
    return numbers


def _package(name: str) -> str:
    """A package's share directory."""
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        folder = Path(prefix, "share", name)
        if folder.is_dir():
            return str(folder)
    raise ValueError(f"camera_info_url: there is no package {name!r} on AMENT_PREFIX_PATH")
