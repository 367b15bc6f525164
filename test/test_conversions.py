"""Messages to our types and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy")

from geometry_msgs.msg import Transform
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.conversions import (
    SECOND,
    ImageMessage,
    camera_info,
    make_header,
    ns_to_stamp,
    pose_from_transform,
    stamp_to_ns,
    to_transform,
    to_transform_stamped,
)
from worldfm_ros.nodes.ticks import tick_period
from worldfm_ros.sensor.camera import Camera

HEADER = make_header(1_500_000_001, "camera_optical_frame")


@given(st.integers(0, 2**31 * SECOND - 1))
def test_stamps_are_exact(ns):
    stamp = ns_to_stamp(ns)
    assert 0 <= stamp.nanosec < SECOND and stamp_to_ns(stamp) == ns


@given(st.integers(0, 2**32 - 1))
def test_poses_survive_the_message(seed):
    rng = np.random.default_rng(seed)
    pose = Pose(Rotation.random(random_state=rng.integers(2**31)), rng.normal(size=3) * 100)
    message = deserialize_message(serialize_message(to_transform(pose)), Transform)
    np.testing.assert_allclose(pose_from_transform(message).matrix, pose.matrix, atol=1e-15, rtol=1e-15)


def test_transform_stamped_names_both_frames():
    message = to_transform_stamped(Pose.planar(1, 2, 0), "map", "odom", 1_500_000_001)
    assert (message.header.frame_id, message.child_frame_id) == ("map", "odom")
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1, 500_000_001)
    assert (message.transform.translation.x, message.transform.translation.y) == (1.0, 2.0)


def test_a_message_without_rotation_is_refused():
    transform = Transform()
    transform.rotation.w = 0.0
    with pytest.raises(ValueError, match="of length 0"):
        pose_from_transform(transform)


@pytest.mark.parametrize("rate, period", [(10.0, 100_000_000), (30.0, 33_333_333), (0.5, 2 * SECOND)])
def test_tick_period(rate, period):
    assert tick_period(rate) == period


def test_camera_info_describes_a_rectified_pinhole():
    intrinsics = Intrinsics(64, 48, 50.0, 51.0, 31.5, 20.25)
    info = deserialize_message(serialize_message(camera_info(Camera(intrinsics), HEADER)), CameraInfo)
    assert (info.header, info.width, info.height) == (HEADER, 64, 48)
    assert (info.distortion_model, list(info.d)) == ("plumb_bob", [0.0] * 5)
    K, R, P = (np.reshape(values, shape) for values, shape in ((info.k, (3, 3)), (info.r, (3, 3)), (info.p, (3, 4))))
    np.testing.assert_array_equal(K, intrinsics.matrix)
    np.testing.assert_array_equal(R, np.eye(3))
    point = np.array([0.3, -0.2, 1.5])
    u, v, w = P @ [*point, 1.0]
    np.testing.assert_allclose([u / w, v / w], intrinsics.project(point), rtol=1e-12)


@pytest.mark.parametrize("encoding, dtype, channels", [("rgb8", np.uint8, 3), ("mono16", np.uint16, 1),
                                                       ("32FC1", np.float32, 1)])
def test_images_survive_the_message(encoding, dtype, channels):
    writer, rng = ImageMessage(7, 5, encoding), np.random.default_rng(1)
    for _ in range(2):  # the buffer is used again
        pixels = rng.integers(0, 256, (5, 7, channels)[: 2 + (channels > 1)]).astype(dtype)
        image = deserialize_message(serialize_message(writer.filled(pixels, HEADER)), Image)
        assert (image.header, image.encoding, image.width, image.height) == (HEADER, encoding, 7, 5)
        assert image.step == 7 * channels * np.dtype(dtype).itemsize and image.is_bigendian == 0
        np.testing.assert_array_equal(np.frombuffer(image.data, dtype).reshape(pixels.shape), pixels)


def test_an_image_of_another_size_or_type_is_refused():
    writer = ImageMessage(7, 5, "rgb8")
    with pytest.raises(ValueError, match=r"the rgb8 image is \(5, 7, 3\), got pixels \(7, 5, 3\)"):
        writer.filled(np.zeros((7, 5, 3), np.uint8), HEADER)
    with pytest.raises(TypeError):
        writer.filled(np.zeros((5, 7, 3), np.float32), HEADER)
