"""Where a camera is mounted: "x y z roll pitch yaw", and the frames between its parent and its pixels. No ROS here."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import T_BODY_OPTICAL, Pose

OPTICAL = "_optical_frame"


def parse_mount(text: str) -> Pose:
    """T_parent_body of metres and radians; roll, pitch and yaw turn about the fixed axes, as in URDF.

    Raises ValueError for another text.
    """
    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"a mount is six numbers, x y z in metres and roll pitch yaw in radians, got {text!r}")
    return Pose(Rotation.from_euler("xyz", numbers[3:]), np.array(numbers[:3]))


def link_frame(camera_frame: str) -> str:
    """The frame with body axes (x forward) that goes with an optical frame: camera_optical_frame -> camera_link."""
    return camera_frame.removesuffix(OPTICAL) + "_link"


def mount_transforms(parent: str, mount: str, camera_frame: str) -> list[tuple[Pose, str, str]]:
    """What to publish as static TF: (T_parent_child, parent, child), from the parent to the optical frame."""
    link = link_frame(camera_frame)
    return [(parse_mount(mount), parent, link), (T_BODY_OPTICAL, link, camera_frame)]
