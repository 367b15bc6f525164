"""Gaps of a surface that nobody measured, and real openings: what shows through them."""

import numpy as np
import pytest

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.blend import Blend
from worldfm_ros.painting.gaps import opaque
from worldfm_ros.painting.guide import find_surface
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

CAMERA = Intrinsics.from_hfov(160, 120, 1.2)
HERE = Pose.identity()
SPOT = np.s_[50:58, 70:79]
BOARD, WALL = (200, 120, 40), (20, 30, 90)


def drawing(spots=(SPOT,), board=np.s_[:, :]):
    """A board at 1 m before a wall at 2 m, which shows through spots of the board and beside it."""
    depth = np.full((120, 160), 2.0, np.float32)
    depth[board] = 1.0
    for spot in spots:
        depth[spot] = 2.0
    rgb = np.where((depth == 1.0)[..., None], BOARD, WALL).astype(np.uint8)
    return AnchorView(rgb, depth, np.zeros(depth.shape, np.uint16), np.ones(depth.shape, bool))


def reference(measured, aside=0.05):
    """A photograph of the whole board, of which this depth was measured at the spot (0 = none)."""
    depth = np.full((120, 160), 1.0, np.float32)
    depth[44:64, 60:90] = measured
    return Keyframe(0, np.full((120, 160, 3), BOARD, np.uint8), depth, CAMERA, Pose(HERE.rotation, [aside, 0, 0]))


def test_what_shows_through_an_unmeasured_gap_is_left_out():
    seen = drawing()
    solid = opaque(seen, [reference(0.0)], HERE, CAMERA)
    surface = find_surface(solid)
    assert not surface.drawn[SPOT].any()
    np.testing.assert_allclose(surface.depth, 1.0)
    solid.coverage[SPOT] = True
    assert solid.coverage.all()
    painted = Blend().paint(seen, [reference(0.0)], HERE, CAMERA)
    np.testing.assert_allclose(painted[SPOT].astype(int), np.broadcast_to(BOARD, painted[SPOT].shape), atol=8)
    assert seen.coverage.all() and (seen.depth[SPOT] == 2.0).all(), "the drawing itself stays what was measured"


def test_through_an_opening_a_reference_looks_past():
    window = drawing()
    assert opaque(window, [reference(0.0), reference(2.0)], HERE, CAMERA) is window


@pytest.mark.parametrize("seen", [
    pytest.param(drawing(spots=(np.s_[50:58, 0:9],)), id="at the border"),
    pytest.param(drawing(spots=(np.s_[30:90, 40:120],)), id="large"),
    pytest.param(drawing(board=np.s_[:, :75], spots=()), id="beside the board"),
    pytest.param(drawing(spots=()), id="whole"),
])
def test_what_is_not_enclosed_and_small_stays(seen):
    assert opaque(seen, [reference(0.0)], HERE, CAMERA) is seen


@pytest.mark.parametrize("size", [(1, 1), (240, 1), (1, 240), (17, 9)])
def test_any_size(size):
    camera = Intrinsics.from_hfov(*size, 0.9)
    depth = np.random.default_rng(0).uniform(1, 3, size[::-1]).astype(np.float32)
    seen = AnchorView(np.zeros((*depth.shape, 3), np.uint8), depth, np.zeros(depth.shape, np.uint16), depth > 1.5)
    assert opaque(seen, [], HERE, camera).depth.shape == depth.shape
