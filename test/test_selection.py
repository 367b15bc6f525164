"""The released choice of a reference: what is sampled, what counts as a hit, and how distance weighs."""

from __future__ import annotations

import numpy as np
import pytest

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.selection import SelectionSettings, sample_pixels, select_by_depth

CAMERA = Intrinsics.from_hfov(64, 48, 1.2)
WALL = 3.0  # metres in front of every camera of these tests


def looking_at_the_wall(x=0.0, z=0.0) -> Pose:
    """Optical axes along the world's; the wall is the plane z = WALL."""
    return Pose(Pose.identity().rotation, np.array([x, 0.0, z]))


def keyframe(number, x=0.0, z=0.0, depth=None) -> Keyframe:
    shown = np.full((48, 64), WALL - z if depth is None else depth, np.float32)
    return Keyframe(number, np.zeros((48, 64, 3), np.uint8), shown, CAMERA, looking_at_the_wall(x, z))


def select(keyframes, **settings):
    depth = np.full((48, 64), WALL, np.float32)
    return select_by_depth(keyframes, depth, looking_at_the_wall(), CAMERA, SelectionSettings(**settings))


def test_the_centre_is_sampled_more_densely():
    rows, columns = sample_pixels(480, 640, SelectionSettings())
    middle = (abs(rows - 239.5) <= 120) & (abs(columns - 319.5) <= 160)
    assert middle.sum() == 15 * 15 and (~middle).sum() == 10 * 10 - 4 * 4
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == len(rows)
    assert len(sample_pixels(480, 640, SelectionSettings(center_grid=0))[0]) == 100


def test_the_keyframe_that_shows_most_of_the_surface_wins():
    selection = select([keyframe(0, x=3.0), keyframe(1, x=0.4), keyframe(2, x=0.8), keyframe(3, depth=1.0)])
    assert selection.index == 1
    assert selection.hits[1] > selection.hits[2] > selection.hits[0] and selection.hits[3] == 0  # 3 is behind a curtain
    assert select([keyframe(0)]).hits[0] == select([keyframe(0)]).samples


def test_of_equals_the_first_wins_and_nothing_to_see_gives_zero():
    assert select([keyframe(0, x=1.0), keyframe(1), keyframe(2)]).index == 1
    nothing = select_by_depth([keyframe(0), keyframe(1)], np.zeros((48, 64), np.float32), looking_at_the_wall(), CAMERA)
    assert nothing.index == 0 and nothing.samples == 0 and not nothing.score.any()


def test_tolerances():
    off = [keyframe(0, depth=WALL * 1.03)]
    assert select(off).hits[0] == 0
    assert select(off, relative_tolerance=0.04).hits[0] > 0
    assert select(off, absolute_tolerance=0.1).hits[0] > 0


def test_distance_weighs_the_hits():
    near, far = keyframe(0, x=1.1), keyframe(1, z=-2.5)  # far back the whole surface is in view
    assert select([near, far], use_distance=False).index == 1
    selection = select([near, far], distance_near=1.0, distance_far=3.0)
    assert selection.index == 0
    np.testing.assert_allclose(selection.score, selection.hits * [1.0 - 0.1 / 2.0, 1.0 - 1.5 / 2.0])


def test_angle_between_the_views_can_be_limited():
    assert select([keyframe(0, x=1.5)]).hits[0] > 0
    assert select([keyframe(0, x=1.5)], max_angle=np.radians(20)).hits[0] == 0


def test_neighbouring_pixels_can_count():
    speckled = keyframe(0)
    speckled.depth[:, ::2] = 0.0
    assert 0 < select([speckled]).hits[0] < select([speckled], pixel_radius=1).hits[0] == select([keyframe(0)]).samples


def test_no_keyframe_is_refused():
    with pytest.raises(ValueError, match="there is no keyframe"):
        select([])
