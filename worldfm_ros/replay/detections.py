"""Boxes as vision_msgs. What it has no field for (occlusion, truncation, ignore) is on the topic `boxes`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldfm_ros.replay.cdr import made, make_header, numbered, serialised

DETECTIONS_2D, DETECTIONS_3D = "vision_msgs/msg/Detection2DArray", "vision_msgs/msg/Detection3DArray"


def detections_2d(boxes: Sequence[dict], stamp: int, frame: str) -> bytes:
    """Serialised, of Box.to_dict: pixels; a box's middle is that of its pixels' outer edges."""
    found = [made("vision_msgs/msg/Detection2D", header=make_header(stamp, frame), results=[_hypothesis(box)],
                   bbox=_rectangle(box), id=str(box["id"])) for box in boxes]
    return serialised(DETECTIONS_2D, header=make_header(stamp, frame), detections=found)


def detections_3d(boxes: Sequence[dict], stamp: int, frame: str) -> bytes:
    """Serialised, of Box.to_dict, in the world's frame."""
    found = [made("vision_msgs/msg/Detection3D", header=make_header(stamp, frame), results=[_hypothesis(box)],
                   bbox=made("vision_msgs/msg/BoundingBox3D", center=_pose(box["center"], box["quaternion"]),
                              size=numbered("Vector3", box["size"], "xyz")), id=str(box["id"])) for box in boxes]
    return serialised(DETECTIONS_3D, header=make_header(stamp, frame), detections=found)


def _rectangle(box: dict):
    middle = made("vision_msgs/msg/Point2D", x=box["left"] + (box["width"] - 1) / 2,
                   y=box["top"] + (box["height"] - 1) / 2)
    return made("vision_msgs/msg/BoundingBox2D", size_x=float(box["width"]), size_y=float(box["height"]),
                 center=made("vision_msgs/msg/Pose2D", position=middle, theta=0.0))


def _hypothesis(box: dict):
    """The label; its score is the part of the pixels that is not invented."""
    pose = made("geometry_msgs/msg/PoseWithCovariance", pose=_pose(box["center"], box["quaternion"]),
                 covariance=np.zeros(36))
    told = made("vision_msgs/msg/ObjectHypothesis", class_id=str(box["label"]), score=1.0 - box["invented"])
    return made("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=told, pose=pose)


def _pose(center: Sequence[float], quaternion: Sequence[float]):
    return made("geometry_msgs/msg/Pose", position=numbered("Point", center, "xyz"),
                 orientation=numbered("Quaternion", quaternion, "xyzw"))
