"""Between ROS messages and our own types. Stamps are integer nanoseconds everywhere else."""

from __future__ import annotations

from array import array
import sys

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion, Transform, TransformStamped, Vector3
from geometry_msgs.msg import Pose as PoseMessage
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header

from worldfm_ros.geometry import Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.camera_info import info_fields, rectified_camera

SECOND = 10**9  # nanoseconds
_PIXELS = {"rgb8": (np.uint8, 3), "mono8": (np.uint8, 1), "mono16": (np.uint16, 1), "16UC1": (np.uint16, 1),
           "32FC1": (np.float32, 1)}


def stamp_to_ns(stamp: Time) -> int:
    return stamp.sec * SECOND + stamp.nanosec


def ns_to_stamp(ns: int) -> Time:
    return Time(sec=ns // SECOND, nanosec=ns % SECOND)


def make_header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def pose_from_transform(transform: Transform) -> Pose:
    """Raises ValueError for NaN and for a quaternion that is not of unit length."""
    t, q = transform.translation, transform.rotation
    return Pose.from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def to_transform(pose: Pose) -> Transform:
    x, y, z = map(float, pose.translation)
    qx, qy, qz, qw = map(float, pose.quaternion)
    return Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def to_pose(pose: Pose) -> PoseMessage:
    transform = to_transform(pose)
    t = transform.translation
    return PoseMessage(position=Point(x=t.x, y=t.y, z=t.z), orientation=transform.rotation)


def to_transform_stamped(pose: Pose, parent: str, child: str, stamp_ns: int) -> TransformStamped:
    """`pose` is T_parent_child."""
    return TransformStamped(header=make_header(stamp_ns, parent), child_frame_id=child, transform=to_transform(pose))


def camera_info(camera: Camera, header: Header) -> CameraInfo:
    """The CameraInfo of pictures as they are taken."""
    values = info_fields(camera)
    return CameraInfo(header=header, **values | {"roi": RegionOfInterest(**values["roi"])})


def rectified_info(camera: Camera, header: Header) -> CameraInfo:
    """That of the depth, which is rectified."""
    return camera_info(rectified_camera(camera), header)


class ImageMessage:
    """One sensor_msgs/Image whose bytes are written in place, frame after frame.

    Assigning a numpy array to `Image.data` converts it byte by byte (0.4 s at 1080p); copying into the buffer
    that the message already holds takes 0.15 ms. `publish` serialises at once, so one message serves all frames.
    """

    def __init__(self, width: int, height: int, encoding: str) -> None:
        dtype, channels = _PIXELS[encoding]
        step = width * channels * np.dtype(dtype).itemsize
        self._image = Image(width=width, height=height, encoding=encoding, step=step,
                            is_bigendian=int(sys.byteorder == "big"), data=array("B", bytes(step * height)))
        # a view of the message's own array, which is a copy of the one given
        self._pixels = np.frombuffer(self._image.data, dtype).reshape((height, width, channels)[: 2 + (channels > 1)])

    def filled(self, pixels: np.ndarray, header: Header) -> Image:
        """The message with this header and these pixels, (height, width[, 3]); ValueError for another shape."""
        if pixels.shape != self._pixels.shape:
            raise ValueError(f"the {self._image.encoding} image is {self._pixels.shape}, got pixels {pixels.shape}")
        np.copyto(self._pixels, pixels, casting="same_kind")
        self._image.header = header
        return self._image
