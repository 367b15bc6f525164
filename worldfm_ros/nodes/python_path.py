"""PYTHONPATH that would hide this environment's own packages from the nodes: a sourced ROS 2 of another Python."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path
import sysconfig

VARIABLE = "PYTHONPATH"
PACKAGES = ("rclpy", "rosidl_runtime_py", "sensor_msgs", "tf2_msgs", "numpy", "cv2", "torch")


def hiding(environment: Mapping[str, str], own: Path | None = None) -> dict[str, list[str]]:
    """The folders of PYTHONPATH with packages that this environment (its site-packages, `own`) has as well, and which.

    Where this environment has none, as in a ROS 2 that is installed, PYTHONPATH is where they come from.
    """
    own = Path(sysconfig.get_path("purelib")) if own is None else own
    ours = [name for name in PACKAGES if (own / name).is_dir()]
    folders = filter(None, environment.get(VARIABLE, "").split(os.pathsep))
    found = {folder: [name for name in ours if (Path(folder) / name).is_dir()] for folder in folders
             if Path(folder).resolve() != own.resolve()}
    return {folder: names for folder, names in found.items() if names}


def without(environment: Mapping[str, str], folders: Mapping[str, list[str]]) -> dict[str, str]:
    """The environment with these folders taken out of PYTHONPATH."""
    left = [folder for folder in environment.get(VARIABLE, "").split(os.pathsep) if folder not in folders]
    return {**environment, VARIABLE: os.pathsep.join(left)} if folders else dict(environment)
