"""Poses and cameras: group axioms, round trips, and parity with plain matrices and OpenCV."""

import math

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from worldfm_ros.geometry import T_BODY_OPTICAL, Intrinsics, Pose

finite = st.floats(-1e3, 1e3)
vectors = st.tuples(finite, finite, finite)


@st.composite
def poses(draw):
    rotation = Rotation.from_rotvec(np.array(draw(st.tuples(*[st.floats(-3, 3)] * 3))))
    return Pose(rotation, np.array(draw(vectors)))


@st.composite
def cameras(draw):
    width, height = draw(st.integers(1, 700)), draw(st.integers(1, 700))
    f = st.floats(10, 2000)
    return Intrinsics(width, height, draw(f), draw(f), draw(st.floats(-10, 800)), draw(st.floats(-10, 800)))


def close(a, b, tolerance=1e-9):
    np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, np.abs(b).max()))


@given(poses(), poses(), poses(), vectors)
def test_poses_are_a_group_that_matches_matrices(a, b, c, point):
    close((a @ b).matrix, a.matrix @ b.matrix)
    close(((a @ b) @ c).matrix, (a @ (b @ c)).matrix)
    close((a @ a.inverse()).matrix, np.eye(4))
    close(a.apply([point, point])[1], (a.matrix @ [*point, 1])[:3])
    close(Pose.from_matrix(a.matrix).matrix, a.matrix)
    close(Pose.from_quaternion(a.translation, -a.quaternion).matrix, a.matrix)


@given(poses(), poses(), st.floats(0, 1))
def test_interpolation_is_scipys_slerp(a, b, fraction):
    slerp = Slerp([0, 1], Rotation.concatenate([a.rotation, b.rotation]))
    between = a.interpolate(b, fraction)
    turn = (between.rotation.inv() * slerp(fraction)).magnitude()
    if (a.rotation.inv() * b.rotation).magnitude() < math.pi - 1e-3:  # beyond, the short way is a matter of rounding
        assert turn < 1e-9
    close(between.translation, a.translation + fraction * (b.translation - a.translation))


def test_looking_at_points_the_optical_axis_and_keeps_up_up():
    pose = Pose.looking_at([1, 2, 1], [4, 2, 1])
    close(pose.rotation.as_matrix(), (Pose.planar(0, 0, 0) @ T_BODY_OPTICAL).rotation.as_matrix())
    close(pose.inverse().apply([4, 2, 1]), [0, 0, 3])
    assert pose.inverse().apply([4, 2, 2])[1] < 0, "up in the world is up (negative y) in the image"
    with pytest.raises(ValueError, match="in line"):
        Pose.looking_at([0, 0, 0], [0, 0, 1])


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (0, 0, 0, 1.01), (math.nan, 0, 0, 1), (0, 0, 1)])
def test_bad_quaternions_are_refused(quaternion):
    with pytest.raises(ValueError, match="squared length of 1"):
        Pose.from_quaternion([0, 0, 0], quaternion)


def test_nearly_unit_quaternions_are_normalised():
    assert np.linalg.norm(Pose.from_quaternion([0, 0, 0], [0, 0, 0, 1.0009]).quaternion) == pytest.approx(
        1.0, abs=1e-15
    )


@pytest.mark.parametrize("matrix", [2 * np.eye(4), np.diag([1, 1, -1, 1.0]), np.eye(3), np.full((4, 4), np.nan)])
def test_matrices_that_are_not_rigid_are_refused(matrix):
    with pytest.raises(ValueError, match="pose matrix"):
        Pose.from_matrix(matrix)


@given(cameras(), st.lists(st.tuples(finite, finite, st.floats(0.1, 100)), min_size=1, max_size=5))
def test_projection_matches_opencv(camera, points):
    points = np.array(points)
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, None)
    close(camera.project(points), expected[:, 0])


@settings(max_examples=30)
@given(cameras(), st.floats(0.1, 50))
def test_unprojection_inverts_projection(camera, z):
    points = camera.unproject(np.full((camera.height, camera.width), z))
    v, u = np.indices((camera.height, camera.width))
    close(camera.project(points), np.stack([u, v], -1))


@given(cameras(), st.integers(1, 500), st.integers(1, 500))
def test_resizing_keeps_the_image_edges(camera, width, height):
    small = camera.resized(width, height)
    corner = np.array([(-0.5 - camera.cx) / camera.fx, (camera.height - 0.5 - camera.cy) / camera.fy, 1])
    close(small.project(corner), [-0.5, height - 0.5])
    assert small.hfov == pytest.approx(camera.hfov, abs=1e-9)


def test_resizing_agrees_with_area_averaging():
    """A centroid found in the shrunk image lies where the shrunk camera projects it."""
    camera = Intrinsics.from_hfov(640, 480, math.radians(70))
    point = np.array([0.31, -0.2, 2.0])
    u, v = camera.project(point)
    rows, columns = np.indices((480, 640))
    blob = np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 8.0**2))
    small = cv2.resize(blob, (160, 120), interpolation=cv2.INTER_AREA)
    rows, columns = np.indices(small.shape)
    found = [(small * columns).sum() / small.sum(), (small * rows).sum() / small.sum()]
    np.testing.assert_allclose(camera.resized(160, 120).project(point), found, atol=0.01)


def test_cropping_moves_the_principal_point():
    camera = Intrinsics(640, 480, 500, 510, 320, 240)
    np.testing.assert_allclose(camera.cropped(100, 50, 200, 100).project([0, 0, 1.0]), [220, 190])


@given(st.integers(2, 2000), st.integers(2, 2000), st.floats(1, 179))
def test_field_of_view_is_what_was_asked_for(width, height, degrees):
    camera = Intrinsics.from_hfov(width, height, math.radians(degrees))
    assert math.degrees(camera.hfov) == pytest.approx(degrees, abs=1e-6)


@pytest.mark.parametrize("width, height", [(0, 10), (-3, 10), (10, 8193), (10.0, 10), (True, 10)])
def test_impossible_image_sizes_are_refused(width, height):
    with pytest.raises(ValueError, match="image (width|height) is"):
        Intrinsics.from_hfov(width, height, 1.0)


@pytest.mark.parametrize(
    "K",
    [
        [[0, 0, 1], [0, 1, 1], [0, 0, 1]],
        [[1, 0.5, 1], [0, 1, 1], [0, 0, 1]],
        [[math.nan, 0, 1], [0, 1, 1], [0, 0, 1]],
        [1, 2, 3],
    ],
)
def test_impossible_camera_matrices_are_refused(K):
    with pytest.raises(ValueError):
        Intrinsics.from_matrix(10, 10, K)
