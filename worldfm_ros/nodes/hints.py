"""What is probably meant where a number, a frame or a topic is possible but unusual: words, never refusals."""

from __future__ import annotations

import math

import numpy as np

from worldfm_ros.geometry import Pose

UP = math.cos(math.radians(45))  # z of the optical axis: a camera that looks so steeply up shows the ceiling alone
TRANSFORMS = "tf2_msgs/msg/TFMessage"


def axes_hint(T_map_camera: Pose, frame: str) -> str:
    """A word about the axes of a camera that looks straight up, as a frame with x forward seems to do; else empty."""
    optical_axis = T_map_camera.rotation.apply(np.array([0.0, 0.0, 1.0]))
    if optical_axis[2] < UP:
        return ""
    return (f"the camera looks straight up: is {frame!r} a frame with x forward and z up, such as camera_link? "
            "camera_frame is an optical frame (x right, y down, z forward; REP-103), usually ..._optical_frame")


def transforms_hint(node) -> str:
    """A word about transforms that are published elsewhere than on /tf and /tf_static; empty where these are."""
    if any(node.count_publishers(node.resolve_topic_name(name)) for name in ("/tf", "/tf_static")):
        return ""
    others = sorted(topic for topic, kinds in node.get_topic_names_and_types()
                    if TRANSFORMS in kinds and node.count_publishers(topic))
    if not others:
        return "nobody publishes /tf or /tf_static"
    namespace = others[0].rsplit("/", 1)[0]
    return (f"nobody publishes /tf, but somebody {', '.join(others)}: start the camera with "
            f"--ros-args -r /tf:={namespace}/tf -r /tf_static:={namespace}/tf_static")
