"""A rig of cameras in one YAML file: which there are, where they are mounted, and what each does otherwise.

    all: {width: 320, height: 240}                     # for every camera that does not say otherwise
    cameras:
      front: {mount: 0.2 0 0.4 0 0 0}                  # x y z metres, roll pitch yaw radians, in base_link
      left: {mount: 0 0.15 0.4 0 0 1.57, hfov: 90, parent_frame: base_link}

    stereo: [{left: front_left, right: front_right}]   # they get R and P of a rectified pair, the right one P[3]
    surround: {name: ring, count: 6, radius: 0.15, height: 1.1, pitch: 0.0}   # ring_0, ring_1, ... look outwards

    randomize: {exposure: {uniform: [-1, 1]}}          # what varies from frame to frame (docs/datasets.md)

Keys are those of the camera's parameters; a camera file is relative to this one. A camera's name is the namespace of
its topics and the start of its frames.
No ROS here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
import re

import yaml

from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.mounts import OPTICAL, parse_mount
from worldfm_ros.nodes.sensor_parameters import SensorParameters
from worldfm_ros.sensor.rig import Mounted, surround, with_stereo

NAME = r"[A-Za-z][A-Za-z0-9_]*"
PARENT = "base_link"
KEYS = "all", "cameras", "stereo", "surround", "randomize"
BUILT = [f.name for f in fields(SensorParameters)]
OF_ALL = ("lockstep", "autostart", "allowed_folders")  # which a single camera cannot have for itself


def read_rig(path: str | Path, otherwise: Mapping[str, object] | None = None) -> dict[str, dict[str, object]]:
    """The parameters that the file gives to each camera, by its name, in the file's order. Raises ValueError.

    `otherwise`: those that hold where the file says nothing, which a stereo pair's projection needs.
    """
    path = Path(path).expanduser()
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"there is no rig file {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"the rig file {path} cannot be read: {error}") from None
    if isinstance(content, dict) and "surround" in content:
        content["cameras"] = (content.get("cameras") or {}) | _surround(path, content["surround"])
    if not isinstance(content, dict) or not isinstance(content.get("cameras"), dict) or not content["cameras"]:
        raise ValueError(f"{path}: a rig is cameras: {{NAME: {{mount: x y z roll pitch yaw, ...}}, ...}}")
    if unknown := sorted(map(str, content.keys() - {*KEYS})):
        raise ValueError(f"{path}: there is no {', '.join(unknown)}; a rig has {', '.join(KEYS)}")
    common = _parameters(f"{path}: all", content.get("all"))
    rig = {}
    for name, values in content["cameras"].items():
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise ValueError(f"{path}: a camera's name is letters, digits and _, such as front; got {name!r}")
        where = f"{path}: {name}"
        rig[name] = {"camera_frame": f"{name}{OPTICAL}", "parent_frame": PARENT} | common | _parameters(where, values)
        if "randomize" in content:
            rig[name].setdefault("randomize", str(path.absolute()))
        if rig[name].get("camera"):
            rig[name]["camera"] = str(path.absolute().parent / Path(rig[name]["camera"]).expanduser())
        try:
            _check(rig[name])
        except (ValueError, OSError) as error:
            raise ValueError(f"{where}: {error}") from None
    try:
        return _with_stereo(rig, content.get("stereo") or [], otherwise or {})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check(values: dict[str, object]) -> None:
    """Raise ValueError or OSError when no camera can be made of the values."""
    parameters = CameraParameters(**values)
    if any(name in values for name in BUILT):
        assert parameters.sensor


def _surround(path: Path, data: object) -> dict[str, dict]:
    """Cameras on a circle, each with its mount and what else is said of all."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{path}: surround is {{count, radius, height, pitch, name}} and parameters, got {data!r}")
    data = dict(data)
    name, given = str(data.pop("name", "surround")), [data.pop("count", 6)]
    given += [data.pop(key, default) for key, default in (("radius", 0.1), ("height", 0.0), ("pitch", 0.0))]
    try:
        mounts = surround(given[0], *(float(number) for number in given[1:]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: surround: {error}") from None
    poses = [[*mount.translation, *mount.rotation.as_euler("xyz")] for mount in mounts]
    return {f"{name}_{k}": data | {"mount": [round(float(number), 12) for number in pose]}
            for k, pose in enumerate(poses)}


def _with_stereo(rig: dict[str, dict[str, object]], pairs: object, otherwise: Mapping[str, object]):
    """The rig, its pairs with the rectification and projection that makes them one."""
    named = [pair for pair in pairs if isinstance(pair, Mapping) and pair.keys() == {"left", "right"}]
    if not isinstance(pairs, list) or len(named) < len(pairs):
        raise ValueError(f"stereo is [{{left: NAME, right: NAME}}, ...], got {pairs!r}")
    if not pairs:
        return rig
    settings = {name: CameraParameters(**{**otherwise, **values}) for name, values in rig.items()}
    if len({settings[name].parent_frame for pair in named for name in pair.values() if name in rig}) > 1:
        raise ValueError("stereo: both cameras of a pair have the same parent_frame")
    mounted = {name: Mounted(each.sensor.camera, parse_mount(each.mount)) for name, each in settings.items()}
    names = [(pair["left"], pair["right"]) for pair in named]
    cameras = with_stereo(mounted, names)
    for name in (name for pair in names for name in pair):
        rig[name] |= {"rectification": " ".join(map(repr, cameras[name].R.ravel().tolist())),
                      "projection": " ".join(map(repr, cameras[name].P.ravel().tolist()))}
    return rig


def _parameters(where: str, values: object) -> dict[str, object]:
    """Checked by name and type; a mount may be a list of numbers."""
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is a map of parameters, got {values!r}")
    known = {f.name: f for f in fields(CameraParameters) if f.name not in OF_ALL}
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{where}: there is no parameter {name!r} of one camera; there are {', '.join(known)}")
        if name == "mount" and isinstance(value, list):
            value = " ".join(map(str, value))
        kind = type(known[name].default) if known[name].default is not MISSING else list
        value = float(value) if kind is float and type(value) is int else value
        if type(value) is not kind:
            raise ValueError(f"{where}: {name} is of the kind {kind.__name__}, got {value!r}")
        checked[name] = value
    return checked
