"""What goes over ROS's transports, decoded by the formulas of those who read it."""

import struct

import cv2
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.nodes.encodings import (
    DEPTH_MAX,
    NEAREST,
    OrganisedPoints,
    compress_depth,
    encode_picture,
    metres,
    millimetres,
)


def decode_compressed_depth(data):
    """As image_transport_plugins' codec.cpp does: depth = a / (value - b)."""
    kind, a, b = struct.unpack_from("<iff", data)
    values = cv2.imdecode(np.frombuffer(data, np.uint8, offset=12), cv2.IMREAD_UNCHANGED)
    assert kind == 1 and values.dtype == np.uint16
    with np.errstate(divide="ignore", invalid="ignore"):
        return values, np.where(values > 0, a / (values.astype(np.float64) - b), np.nan)


@given(st.lists(st.floats(0.0, 150.0, width=32), min_size=4, max_size=60))
def test_compressed_depth_comes_back_to_a_hundredth_of_what_it_is_at_one_metre(depths):
    depth = np.array(depths, np.float32)[None]
    _, decoded = decode_compressed_depth(compress_depth(depth))
    known = (depth >= NEAREST) & (depth < DEPTH_MAX * 0.999)
    assert np.isnan(decoded[~known & ((depth < NEAREST) | (depth >= DEPTH_MAX))]).all()
    error = np.abs(decoded[known] - depth[known])
    assert (error <= 1.01 * depth[known] ** 2 / 10100 + 1e-4).all(), "a step of the inverse depth"


def test_compressed_millimetres_are_exact():
    depth = np.array([[0, 1, 500, 65535]], np.uint16)
    assert (decode_compressed_depth(compress_depth(depth))[0] == depth).all()


def test_depth_says_none_as_rep_118_does():
    depth = np.array([[0.0, 0.0004, 1.2345, 65.535, 70.0]], np.float32)
    assert millimetres(depth).tolist() == [[0, 0, 1234, 65535, 0]] and millimetres(depth).dtype == np.uint16
    assert np.isnan(metres(depth)[0, 0]) and (metres(depth)[0, 1:] == depth[0, 1:]).all()
    assert metres(depth).dtype == np.float32


@pytest.mark.parametrize("kind, tolerance", [("png", 0), ("jpeg", 12)])
def test_pictures_come_back_with_red_where_red_was(kind, tolerance):
    y, x = np.indices((48, 64))
    rgb = np.stack([4 * x, 5 * y, np.full_like(x, 30)], axis=-1).astype(np.uint8)
    back = cv2.cvtColor(cv2.imdecode(np.frombuffer(encode_picture(rgb, kind, 95), np.uint8), 1), cv2.COLOR_BGR2RGB)
    assert np.abs(back.astype(int) - rgb).max() <= tolerance


def test_points_project_to_the_pixels_that_they_are_of():
    intrinsics = Intrinsics(8, 6, 7.0, 9.0, 3.3, 2.1)
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 5.0, (6, 8)).astype(np.float32)
    depth[2, 3] = 0.0
    rgb = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    points = OrganisedPoints(intrinsics).fill(depth, rgb)
    assert points.dtype.itemsize == 16 and np.isnan(points["x"][2, 3]) and np.isnan(points["z"][2, 3])
    v, u = np.nonzero(depth)
    known = points[v, u]
    np.testing.assert_allclose(intrinsics.fx * known["x"] / known["z"] + intrinsics.cx, u, atol=1e-4)
    np.testing.assert_allclose(intrinsics.fy * known["y"] / known["z"] + intrinsics.cy, v, atol=1e-4)
    packed = np.ascontiguousarray(known["rgb"]).view(np.uint8).reshape(-1, 4)  # little endian: b g r 0, as PCL has it
    assert (packed[:, 2::-1] == rgb[v, u]).all()
