"""Camera files: ROS's camera_info YAML (camera_info_manager, camera_calibration), a CameraInfo message as `ros2 topic
echo` prints it, and the camera.yaml of an RGB-D folder (width height distortion_model D K)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
import re

import numpy as np
import yaml

from worldfm_ros.files import write_whole
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.sensor.camera import Camera, Roi
from worldfm_ros.sensor.lens import make_lens
from worldfm_ros.sensor.randomize import Randomization, randomization_of
from worldfm_ros.sensor.settings import SensorSettings, settings_of

MATRICES = {"camera_matrix": (3, 3), "distortion_coefficients": None, "rectification_matrix": (3, 3),
            "projection_matrix": (3, 4)}
NAMES = {"image_width": "width", "image_height": "height", "camera_matrix": "K", "distortion_coefficients": "D",
         "rectification_matrix": "R", "projection_matrix": "P", "k": "K", "d": "D", "r": "R", "p": "P"}


def read_mapping(path: str | Path) -> dict:
    """A YAML file's mapping, of its first document. Raises ValueError naming the file."""
    try:
        content = next(iter(yaml.safe_load_all(Path(path).read_text())), None)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys and values, got {content!r}")
    return content


def read_camera_file(path: str | Path) -> Camera:
    """The camera of a file in any of the three forms. Raises ValueError naming file and field; OSError."""
    try:
        return camera_of(read_mapping(path))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def read_sensor_file(path: str | Path) -> tuple[Camera, SensorSettings]:
    """The camera, and what the file's key `sensor` says of exposure, noise and so on. Raises as read_camera_file."""
    try:
        return read_camera_file(path), settings_of(read_mapping(path).get("sensor") or {})
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def read_randomization(path: str | Path) -> Randomization | None:
    """What the key `randomize` of a camera's or a rig's file says; None when it is not there. Raises ValueError naming
    the file; OSError."""
    data = read_mapping(path)
    try:
        return randomization_of(data["randomize"]) if "randomize" in data else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def camera_of(data: Mapping) -> Camera:
    """The camera that a file's content describes. Raises ValueError naming the field."""
    fields = {NAMES.get(key, key): _matrix(key, value) for key, value in data.items()}
    missing = [key for key in ("width", "height", "K") if key not in fields]
    if missing:
        raise ValueError("expected the keys width, height and K (9 numbers, row-major), or those of a ROS camera_info "
                         f"file; {', '.join(missing)} missing in {list(data)}")
    K = _numbers("K", fields["K"], 9)
    if not K.any():
        raise ValueError("K is all 0: this camera was never calibrated")
    D = _numbers("D", [] if fields.get("D") is None else fields["D"])
    model = fields.get("distortion_model", "plumb_bob")
    R, P = (fields.get(key) for key in "RP")
    R = None if R is None else _numbers("R", R, 9)
    P = None if P is None else _numbers("P", P, 12)
    roi = fields.get("roi") or {}
    if not isinstance(roi, Mapping):
        raise ValueError(f"roi is {{x_offset, y_offset, width, height}}, got {roi!r}")
    return Camera(
        Intrinsics.from_matrix(fields["width"], fields["height"], K),
        make_lens(model, D.tolist()),
        np.eye(3) if R is None or not R.any() else R.reshape(3, 3),
        None if P is None or not P.any() else P.reshape(3, 4),
        (fields.get("binning_x", 1), fields.get("binning_y", 1)),
        Roi(*(_whole(f"roi.{key}", roi.get(key, 0)) for key in ("x_offset", "y_offset", "width", "height"))),
        str(fields.get("camera_name", "")),
    )


def _matrix(key: str, value):
    """The data of {rows, cols, data}, whose size must be what it says; other values as they are."""
    if key not in MATRICES:
        return value
    if not isinstance(value, Mapping) or not {"rows", "cols", "data"} <= value.keys():
        raise ValueError(f"{key} is {{rows, cols, data}}, got {value!r}")
    rows, columns, data = value["rows"], value["cols"], value["data"]
    if not isinstance(data, list) or [rows, columns] != [_whole(f"{key}.rows", rows), _whole(f"{key}.cols", columns)]:
        raise ValueError(f"{key} is {{rows, cols, data: a list}}, got {value!r}")
    expected = MATRICES[key] or (1, len(data))
    if (rows, columns) != expected or len(data) != rows * columns:
        raise ValueError(f"{key} is {expected[0]}x{expected[1]}, got rows {rows}, cols {columns} and {len(data)} "
                         "numbers")
    return data


def _whole(name: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is a whole number, got {value!r}")
    return value


def _numbers(name: str, value, count: int | None = None) -> np.ndarray:
    try:
        numbers = np.array(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.array([np.nan])
    if not isinstance(value, list) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} is a list of finite numbers, got {value!r}")
    if count is not None and numbers.size != count:
        raise ValueError(f"{name} is {count} numbers, row-major, got {numbers.size}")
    return numbers


def camera_yaml(camera: Camera) -> dict:
    """The content of an RGB-D folder's camera.yaml; R, P, binning and roi only where they say something."""
    sensor = camera.sensor
    data = {"width": sensor.width, "height": sensor.height, "distortion_model": camera.lens.model,
            "D": list(camera.lens.D) or [0.0] * camera.lens.counts[-1], "K": sensor.matrix.ravel().tolist()}
    if not np.array_equal(camera.R, np.eye(3)):
        data["R"] = camera.R.ravel().tolist()
    if not np.array_equal(camera.P, np.hstack([sensor.matrix, np.zeros((3, 1))])):
        data["P"] = camera.P.ravel().tolist()
    if camera.binning != (1, 1):
        data |= {"binning_x": camera.binning[0], "binning_y": camera.binning[1]}
    if camera.roi:
        roi = camera.roi
        data["roi"] = {"x_offset": roi.x, "y_offset": roi.y, "width": roi.width, "height": roi.height}
    return data | ({"camera_name": camera.name} if camera.name else {})


def camera_info_yaml(camera: Camera) -> dict:
    """The content of a ROS camera_info file, as camera_calibration writes it. It knows no binning and no roi."""
    def matrix(values, rows: int, columns: int) -> dict:
        return {"rows": rows, "cols": columns, "data": np.ravel(values).tolist()}

    D = list(camera.lens.D) or [0.0] * camera.lens.counts[-1]
    return {"image_width": camera.sensor.width, "image_height": camera.sensor.height,
            "camera_name": camera.name or "camera", "camera_matrix": matrix(camera.sensor.matrix, 3, 3),
            "distortion_model": camera.lens.model, "distortion_coefficients": matrix(D, 1, len(D)),
            "rectification_matrix": matrix(camera.R, 3, 3), "projection_matrix": matrix(camera.P, 3, 4)}


def write_yaml(data: Mapping, path: str | Path) -> None:
    write_whole(Path(path), yaml.safe_dump(dict(data), sort_keys=False, default_flow_style=None).encode())


def camera_url(url: str, name: str, packages, home: Path) -> Path:
    """The file of a camera_info_url: file:///PATH, package://PACKAGE/PATH or a path, with ${NAME} and ${ROS_HOME}.

    `packages(name)` gives a package's share directory. Raises ValueError for another URL.
    """
    text = url.replace("${NAME}", name).replace("${ROS_HOME}", str(home))
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text).expanduser()
    if scheme == "file" and rest.startswith("/"):
        return Path(rest)
    package = re.fullmatch(r"([A-Za-z]\w*)/(.+)", rest)
    if scheme == "package" and package:
        return Path(packages(package[1])) / package[2]
    raise ValueError(f"camera_info_url is file:///PATH or package://PACKAGE/PATH, got {url!r}")
