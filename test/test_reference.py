"""The choice of a reference keyframe: it shows what is seen, and does not flip."""

from itertools import pairwise
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from scenes import CAMERA, room_poses, room_world
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.reference import DIRECTION, PLACE, ReferenceChooser, cell_of, middle_of


@pytest.fixture(scope="module")
def world():
    return room_world(12, min_gain=0.0)


def angle(a, b):
    forward = [pose.rotation.apply([0, 0, 1.0]) for pose in (a, b)]
    return math.acos(np.clip(np.dot(*forward), -1, 1))


def ids(chooser, pose, **count):
    return [keyframe.id for keyframe in chooser.choose(pose, CAMERA, **count)]


@given(st.integers(0, 10**6))
def test_every_pose_lies_in_its_cell(seed):
    rng = np.random.default_rng(seed)
    pose = Pose(Rotation.random(random_state=seed), rng.uniform(-1e4, 1e4, 3))
    middle = middle_of(cell_of(pose))
    assert np.abs(middle.translation - pose.translation).max() <= PLACE / 2 + 1e-9
    assert angle(middle, pose) <= DIRECTION
    assert cell_of(middle) == cell_of(pose)
    right = middle.rotation.apply([1.0, 0, 0])
    assert abs(right[2]) < 1e-9, "upright"


def test_the_reference_looks_where_the_camera_looks(world):
    chooser = ReferenceChooser(world.anchors, world.keyframes)
    for pose in room_poses(17):
        assert angle(chooser.choose(pose, CAMERA)[0].T_world_camera, pose) < math.radians(35)


def test_neighbouring_frames_share_their_reference(world):
    """In a slow turn the reference changes about as often as there are keyframes; a trembling camera keeps it."""
    chooser = ReferenceChooser(world.anchors, world.keyframes)
    poses = [
        Pose.looking_at([0.1, 0, 1.2], [0.1 + math.cos(a), math.sin(a), 1.1]) for a in np.linspace(0, math.tau, 400)
    ]
    chosen = [ids(chooser, pose)[0] for pose in poses]
    flips = sum(a != b for a, b in pairwise(chosen))
    assert len(set(chosen)) <= flips + 1 <= len(world.keyframes) + 4
    rng = np.random.default_rng(0)
    middle = middle_of(cell_of(poses[0]))
    trembling = [
        Pose(
            middle.rotation * Rotation.from_rotvec(rng.normal(0, 0.01, 3)), middle.translation + rng.normal(0, 0.02, 3)
        )
        for _ in range(50)
    ]
    assert len({ids(chooser, pose)[0] for pose in trembling}) == 1


def test_the_choice_does_not_depend_on_the_frames_before(world):
    poses = room_poses(9)
    there, back = (ReferenceChooser(world.anchors, world.keyframes) for _ in range(2))
    forward = [ids(there, pose) for pose in poses]
    backward = [ids(back, pose) for pose in reversed(poses)]
    assert forward == backward[::-1]


def test_nothing_seen_has_no_reference(world):
    assert ReferenceChooser(world.anchors, []).choose(room_poses(1)[0], CAMERA) == ()
    chooser = ReferenceChooser(world.anchors, world.keyframes)
    assert chooser.choose(Pose.looking_at([50, 0, 1], [60, 0, 1]), CAMERA) == ()


def test_a_map_that_grows_is_looked_at_again(world):
    anchors = AnchorMap()
    chooser = ReferenceChooser(anchors, world.keyframes)
    pose = room_poses(1)[0]
    assert chooser.choose(pose, CAMERA) == ()
    for tile in world.anchors.tiles:
        anchors.insert(tile.world_points, tile.colors, tile.labels, tile.radius)
    assert len(chooser.choose(pose, CAMERA)) == 3


@pytest.mark.parametrize("size", [(64, 8000), (1, 240), (1, 8192), (8192, 1)])
def test_a_picture_may_be_very_tall_or_wide(world, size):
    camera = Intrinsics.from_hfov(*size, 0.2)
    ReferenceChooser(world.anchors, world.keyframes).choose(room_poses(12)[0], camera)
    tall = Intrinsics(64, 512, 30.0, 240.0, 31.5, 255.5)  # a usual view in unusual pixels
    usual = tall.resized(64, 64)
    chosen = [ReferenceChooser(world.anchors, world.keyframes).choose(room_poses(12)[3], c) for c in (tall, usual)]
    assert [k.id for k in chosen[0]] == [k.id for k in chosen[1]] != []
