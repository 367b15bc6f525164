"""References are brought together: to where the truth is when depth is wrong, and not at all when it is right."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.align import CHANCE, MIDDLE, find_moves, places_of
from worldfm_ros.painting.warp import Target, balance, warp_references
from worldfm_ros.world.keyframes import Keyframe

CAMERA = Intrinsics.from_hfov(192, 144, 1.2)
FAR = 2.0  # metres, a wall


def at(x, y=0.0):
    return Pose(Rotation.identity(), [x, y, 0.0])


def seen_from(x, y=0.0, id=0):
    """A painted wall from a place in front of it, ray by ray."""
    noise = np.random.default_rng(1).integers(20, 230, (60, 80, 3), np.uint8)
    wall = cv2.resize(noise, (800, 600), interpolation=cv2.INTER_CUBIC)  # 100 pixels a metre
    row, column = np.mgrid[:CAMERA.height, :CAMERA.width].astype(np.float32)
    u = 400 + 100 * (x + FAR * (column - CAMERA.cx) / CAMERA.fx)
    v = 300 + 100 * (y + FAR * (row - CAMERA.cy) / CAMERA.fy)
    rgb = cv2.remap(wall, np.float32(u), np.float32(v), cv2.INTER_CUBIC)
    return Keyframe(id, rgb, np.full((CAMERA.height, CAMERA.width), FAR, np.float32), CAMERA, at(x, y))


def target(error, x=0.0):
    return Target(np.full((CAMERA.height, CAMERA.width), FAR * (1 + error), np.float32), at(x), CAMERA)


def errors(references, view, moves=None):
    """Mean absolute error of each warped reference in the middle of the picture, grey levels."""
    truth = seen_from(view.T_world_camera.translation[0]).rgb.astype(int)
    middle = np.s_[:, 30:-30, 40:-40]
    return np.abs(warp_references(references, view, moves).rgb[middle].astype(int) - truth[middle[1:]]).mean((1, 2, 3))


@pytest.mark.parametrize("x", [-0.1, -0.05, 0.0, 0.08])
def test_where_depth_is_wrong_references_go_to_where_the_truth_is(x):
    references, view = [seen_from(-0.15), seen_from(0.15, id=1), seen_from(-0.3, id=2)], target(0.04, x)
    moves = find_moves(references, view, balance(references, view)).at(*view.depth.shape)
    before, after = errors(references, view), errors(references, view, moves)
    assert after.mean() < 0.6 * before.mean(), (before, after)


def test_where_all_is_right_nothing_moves():
    references, view = [seen_from(-0.15), seen_from(0.15, 0.05, 1)], target(0.0)
    moves = find_moves(references, view, balance(references, view)).at(*view.depth.shape)
    assert np.abs(moves).max() < 0.1


def test_places_are_those_of_the_cameras_and_half_of_the_way_to_the_middle():
    references = [seen_from(-0.1), seen_from(0.3, id=1), seen_from(0.5, id=2)]
    for x, place in ((0.0, 0.25), (-0.1, 0.0), (-0.5, 0.0), (0.5, 1.0)):  # not beyond one of the two
        here = place + CHANCE * (MIDDLE - place)
        assert places_of(references, target(0.0, x)) == pytest.approx([-here, 1 - here, 1.5 - here], abs=1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_do_not_move(count):
    references, view = [seen_from(0.1)][:count], target(0.1)
    moves = find_moves(references, view, balance(references, view)).at(30, 40)
    assert moves.shape == (count, 2, 30, 40) and not moves.any()


def test_two_at_one_place_and_unknown_depth_do_not_matter():
    references, view = [seen_from(0.1), seen_from(0.1, id=1)], target(0.1)
    assert np.isfinite(find_moves(references, view, balance(references, view)).at(30, 40)).all()
    view = Target(np.zeros_like(view.depth), view.T_world_camera, CAMERA)
    assert not find_moves(references, view, balance(references, view)).at(30, 40).any()


@pytest.mark.parametrize("size", [(1, 1), (9, 17), (1, 100), (100, 1), (11, 400), (12, 12)])
def test_any_size_has_moves(size):
    references, (height, width) = [seen_from(-0.15), seen_from(0.15, id=1)], size
    view = Target(np.full(size, FAR, np.float32), at(0.0), Intrinsics.from_hfov(width, height, 1.2))
    moves = find_moves(references, view, balance(references, view)).at(*size)
    assert moves.shape == (2, 2, *size) and np.isfinite(moves).all()
