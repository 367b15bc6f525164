"""The choice of a reference keyframe: it shows what is seen, and does not flip."""

from dataclasses import replace
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
from worldfm_ros.world.keyframes import Keyframe
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


# ---- several


def far_apart(world, count):
    """The chosen keyframes of a few poses, which are as many as asked for and no one twice."""
    chooser = ReferenceChooser(world.anchors, world.keyframes)
    return [ids(chooser, pose, count=count) for pose in room_poses(9)]


def test_there_are_as_many_as_asked_for_and_none_twice(world):
    for one, three, many in zip(far_apart(world, 1), far_apart(world, 3), far_apart(world, 99), strict=True):
        assert len(one) == 1 and len(three) == 3 == len(set(three)) and three[:1] == one and many[:3] == three
        assert len(many) == len(set(many)) <= len(world.keyframes)
    with pytest.raises(ValueError, match="1 or more, got 0"):
        ReferenceChooser(world.anchors, world.keyframes).choose(room_poses(1)[0], CAMERA, 0)


def test_the_second_shows_what_a_wall_hides_from_the_first():
    """A camera sees a far wall, left of it partly hidden from the first keyframe by a board close to that keyframe.

    A twin of the first stands even nearer to the camera than the one that sees behind the board, and adds nothing.
    """
    eye = Pose.looking_at([0.125, 0.125, 0.125], [5.0, 0.125, 0.125])
    v, u = np.mgrid[-2.5:2.5:120j, -1.5:1.5:80j].reshape(2, -1)
    anchors = AnchorMap.from_points(np.column_stack([np.full(v.size, 4.0), v, u]),
                                    np.full((v.size, 3), 90, np.uint8), radius=0.05)

    def view(id, place, hidden):
        pose = Pose.looking_at(place, [5.0, *place[1:]])
        depth = np.full((CAMERA.height, CAMERA.width), 4.0 - place[0], np.float32)
        depth[:, hidden] = 0.4
        return Keyframe(id, np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8), depth, CAMERA, pose)

    first = view(0, [0.125, 0.125, 0.125], np.s_[:30])
    twin = view(1, [0.125, 0.135, 0.125], np.s_[:34])
    behind = view(2, [0.125, 0.9, 0.125], np.s_[55:])
    chooser = ReferenceChooser(anchors, [twin, behind, first])
    assert ids(chooser, eye) == [0, 2, 1]
    assert ids(ReferenceChooser(anchors, [behind, first, twin]), eye) == [0, 2, 1], "whatever their order"


def test_who_adds_nothing_new_is_ranked_by_how_near_its_rays_are():
    v, u = np.mgrid[-3:3:120j, -2:2:80j].reshape(2, -1)
    anchors = AnchorMap.from_points(np.column_stack([np.full(v.size, 4.0), v, u]),
                                    np.full((v.size, 3), 90, np.uint8), radius=0.05)
    eye = Pose.looking_at([0.125, 0.125, 0.125], [5.0, 0.125, 0.125])

    def view(id, aside):
        wide = Intrinsics.from_hfov(80, 60, 2.4)  # sees all that the camera sees
        place = [0.125, 0.125 + aside, 0.125]
        depth = np.full((60, 80), 3.875, np.float32)
        return Keyframe(id, np.zeros((60, 80, 3), np.uint8), depth, wide, Pose.looking_at(place, [5.0, *place[1:]]))

    keyframes = [view(0, 0.8), view(1, -0.1), view(2, 0.0), view(3, 0.3)]
    chosen = ids(ReferenceChooser(anchors, keyframes), eye, count=4)
    assert chosen[1:] == [k for k in (2, 1, 3, 0) if k != chosen[0]]
    late = [replace(view(k, 0.001 * k), painted=True) for k in range(4, 9)]
    assert ids(ReferenceChooser(anchors, keyframes + late), eye, count=4) == chosen, "painted while driving"
