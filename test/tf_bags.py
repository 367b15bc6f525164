"""Bags of a robot's TF alone, as a simulator without a camera leaves them."""

import numpy as np

from worldfm_ros.bags.writer import BagWriter
from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.replay.bag_output import qos
from worldfm_ros.replay.cdr import serialised
from worldfm_ros.replay.messages import TF, transform

START, TENTH = 10 * 10**9, 10**8  # ns


def write_tf_bag(path, poses, period=TENTH, camera=True, **options):
    """/tf and /tf_static of a robot whose camera (optical axes) has these poses, one each period; returns the stamps.

    camera: whether TF goes on from base_link, which is 1 m below the camera, to the camera.
    """
    stamps = [START + k * period for k in range(len(poses))]
    mount = Pose(Pose.identity().rotation, np.array([0.0, 0.0, 1.0]))
    T_optical_base = (mount @ T_BODY_OPTICAL).inverse()
    with BagWriter(path, **options) as bag:
        static = bag.add_topic("/tf_static", TF, [qos("latched")])
        moving = bag.add_topic("/tf", TF, [qos("reliable")])
        fixed = [(Pose.identity(), "map", "odom")]
        if camera:
            fixed += [(mount, "base_link", "camera_link"), (T_BODY_OPTICAL, "camera_link", "camera_optical_frame")]
        bag.write(static, stamps[0], serialised(TF, transforms=[transform(*each, stamps[0]) for each in fixed]))
        for stamp, pose in zip(stamps, poses, strict=True):
            moved = transform(pose @ T_optical_base, "odom", "base_link", stamp)
            bag.write(moving, stamp, serialised(TF, transforms=[moved]))
    return stamps
