"""Clips: the reference group, its cloud, and which frame a target is shown with."""

import numpy as np
import pytest

from worldfm_ros.clips import REFERENCE_GROUP, TARGETS, Clip, RgbdFrame, cut
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import AnchorMap

CAMERA = Intrinsics.from_hfov(8, 6, 1.0)


def frame(index, depth=2.0):
    pose = Pose.from_quaternion([0.1 * index, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    return RgbdFrame(index, np.full((6, 8, 3), index, np.uint8), np.full((6, 8), depth, np.float32), CAMERA, pose)


def test_a_sequence_is_cut_into_whole_clips():
    clips = list(cut([frame(k) for k in range(39)], "hall"))
    assert [clip.name for clip in clips] == ["hall-000", "hall-001"]
    assert [f.index for f in clips[1].frames] == list(range(16, 32))
    assert list(cut([frame(k) for k in range(15)], "hall")) == []


def test_another_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="16 frames, got 3"):
        Clip("short", tuple(frame(k) for k in range(3)))


def test_frames_1_6_10_and_14_are_the_group_and_the_closest_is_the_reference():
    clip = Clip("c", tuple(frame(k) for k in range(16)))
    assert [k + 1 for k in REFERENCE_GROUP] == [1, 6, 10, 14] and len(TARGETS) == 12
    assert [clip.closest(k) for k in range(16)] == [0, 0, 0, 5, 5, 5, 5, 5, 9, 9, 9, 9, 13, 13, 13, 13]
    assert len(clip.anchors()) == len(REFERENCE_GROUP) * 8 * 6 and set(clip.anchors().colors[:, 0]) == {0, 5, 9, 13}


def test_the_cloud_is_the_groups_depth_alone():
    clip = Clip("c", tuple(frame(k, depth=0.0 if k == 9 else 2.0) for k in range(16)))
    tiles = AnchorMap.from_cloud(clip.anchors()).tiles
    colors = np.concatenate([tile.colors for tile in tiles])
    assert sorted(np.unique(colors)) == [0, 5, 13] and len(colors) == 3 * 48
    points = np.concatenate([tile.world_points for tile in tiles])
    np.testing.assert_allclose(points[:, 2], 2.0)
    first, expected = points[colors[:, 0] == 13][:, 0], CAMERA.unproject(clip.frames[13].depth)[..., 0] + 1.3
    np.testing.assert_allclose(np.sort(first), np.sort(expected.ravel()), atol=1e-6)
