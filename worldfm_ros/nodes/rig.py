"""A rig of cameras in one YAML file: which there are, where they are mounted, and what each does otherwise.

    all: {width: 320, height: 240}                     # for every camera that does not say otherwise
    cameras:
      front: {mount: 0.2 0 0.4 0 0 0}                  # x y z metres, roll pitch yaw radians, in base_link
      left: {mount: 0 0.15 0.4 0 0 1.57, hfov: 90, parent_frame: base_link}

Keys are those of the camera's parameters. A camera's name is the namespace of its topics and the start of its frames.
No ROS here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
import re

import yaml

from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.mounts import OPTICAL

NAME = r"[A-Za-z][A-Za-z0-9_]*"
PARENT = "base_link"
OF_ALL = ("lockstep", "autostart", "allowed_folders")  # which a single camera cannot have for itself


def read_rig(path: str | Path) -> dict[str, dict[str, object]]:
    """The parameters that the file gives to each camera, by its name, in the file's order. Raises ValueError."""
    path = Path(path).expanduser()
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"there is no rig file {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"the rig file {path} cannot be read: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("cameras"), dict) or not content["cameras"]:
        raise ValueError(f"{path}: a rig is cameras: {{NAME: {{mount: x y z roll pitch yaw, ...}}, ...}}")
    if unknown := sorted(map(str, content.keys() - {"all", "cameras"})):
        raise ValueError(f"{path}: there is no {', '.join(unknown)}; a rig has all and cameras")
    common = _parameters(f"{path}: all", content.get("all"))
    rig = {}
    for name, values in content["cameras"].items():
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise ValueError(f"{path}: a camera's name is letters, digits and _, such as front; got {name!r}")
        where = f"{path}: {name}"
        rig[name] = {"camera_frame": f"{name}{OPTICAL}", "parent_frame": PARENT} | common | _parameters(where, values)
        try:
            CameraParameters(**rig[name])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
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
