"""Running `worldfm sim` in a subprocess, and reading its bag with tools and mathematics that are not ours."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
import subprocess
import sys

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from worldfm_ros.geometry import Pose

WORLDFM = [sys.executable, "-m", "worldfm_ros.cli.main", "sim"]


def start(folder, *arguments):
    return subprocess.Popen(
        [*WORLDFM, "viewer:=false", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def simulate(folder, *arguments, code=0):
    """Run to the end; returns what was printed."""
    process = start(folder, *arguments)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == code, output
    return output


def stamp_of(header):
    return header.stamp.sec * 10**9 + header.stamp.nanosec


@dataclass
class Bag:
    """A bag's messages by topic, in recorded order, and its TF as samples (stamp, Pose) by (parent, child)."""

    messages: dict[str, list]
    transforms: dict[tuple[str, str], list[tuple[int, Pose]]]

    def stamps(self, topic):
        return [stamp_of(message.header) for message in self.messages[topic]]

    def images(self, topic="/camera/image_raw"):
        return {stamp_of(m.header): np.reshape(m.data, (m.height, m.width, 3)) for m in self.messages[topic]}

    def known(self, stamps):
        """The stamps for which the bag has TF: an image may come before the first recorded transform."""
        moving = [s for s, _ in self.transforms["odom", "base_link"]]
        return [stamp for stamp in stamps if moving[0] <= stamp <= moving[-1]]

    def camera_pose(self, stamp):
        """T_map_camera at a stamp, by SciPy, from the recorded /tf and /tf_static."""
        pose = np.eye(4)
        for edge in (
            ("map", "odom"),
            ("odom", "base_link"),
            ("base_link", "camera_link"),
            ("camera_link", "camera_optical_frame"),
        ):
            pose = pose @ interpolate(self.transforms[edge], stamp)
        return pose


def interpolate(samples, stamp):
    if len(samples) == 1:
        return samples[0][1].matrix
    stamps = np.array([s for s, _ in samples], dtype=np.int64)
    i = int(np.clip(np.searchsorted(stamps, stamp), 1, len(stamps) - 1))
    fraction = float(stamp - stamps[i - 1]) / float(stamps[i] - stamps[i - 1])
    pair = [samples[i - 1][1], samples[i][1]]
    matrix = np.eye(4)
    matrix[:3, :3] = Slerp([0, 1], Rotation.concatenate([p.rotation for p in pair]))(fraction).as_matrix()
    matrix[:3, 3] = (1 - fraction) * pair[0].translation + fraction * pair[1].translation
    return matrix


def read_bag(path):
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    bag = Bag(defaultdict(list), defaultdict(list))
    with AnyReader([Path(path)], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            bag.messages[connection.topic].append(message)
            if connection.topic in ("/tf", "/tf_static"):
                for stamped in message.transforms:
                    t, q = stamped.transform.translation, stamped.transform.rotation
                    edge = stamped.header.frame_id, stamped.child_frame_id
                    pose = Pose.from_quaternion([t.x, t.y, t.z], [q.x, q.y, q.z, q.w])
                    bag.transforms[edge].append((stamp_of(stamped.header), pose))
    return bag
