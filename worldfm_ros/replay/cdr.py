"""Messages of ROS 2 without ROS: made and serialised by rosbags, CDR little-endian.

vision_msgs has the definitions of its version 4, which travel with a bag: any tool that knows them opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

SECOND = 10**9
VISION = {  # field by field
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
                   "vision_msgs/BoundingBox2D bbox\nstring id",
    "Detection3D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
                   "vision_msgs/BoundingBox3D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections"}



@cache
def store() -> Typestore:
    """ROS 2's types, and those of VISION."""
    known = get_typestore(Stores.ROS2_JAZZY)
    for name, text in VISION.items():
        known.register(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    return known


def made(kind: str, **fields):
    """A message of rosbags."""
    return store().types[kind](**fields)


def serialised(kind: str, **fields) -> bytes:
    """Its bytes."""
    return bytes(store().serialize_cdr(made(kind, **fields), kind))


def make_header(stamp: int, frame: str):
    time = made("builtin_interfaces/msg/Time", sec=stamp // SECOND, nanosec=stamp % SECOND)
    return made("std_msgs/msg/Header", stamp=time, frame_id=frame)


def numbered(kind: str, values: Sequence[float], fields: str):
    """A message of geometry_msgs whose fields are numbers, named by one letter each."""
    return made(f"geometry_msgs/msg/{kind}", **dict(zip(fields, map(float, values), strict=True)))
