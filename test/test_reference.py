"""The choice of reference keyframes: they show what is seen, from nearby, and change little from frame to frame."""

from dataclasses import replace
from itertools import pairwise
import math

import numpy as np
import pytest
from scenes import CAMERA, room_poses, room_world, see_room
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.reference import CANDIDATES, ReferenceChooser
from worldfm_ros.world.renderer import render


@pytest.fixture(scope="module")
def world():
    return room_world(12, min_gain=0.0)


def angle(a, b):
    forward = [pose.rotation.apply([0, 0, 1.0]) for pose in (a, b)]
    return math.acos(np.clip(np.dot(*forward), -1, 1))


def seen(anchors, pose, camera=CAMERA):
    return render(anchors.visible(pose, camera), pose, camera).depth


def chosen(anchors, keyframes, pose, camera=CAMERA, **count):
    """The ids of the references for what a camera sees of the anchors."""
    chooser = ReferenceChooser(keyframes)
    return [keyframe.id for keyframe in chooser.choose(seen(anchors, pose, camera), pose, camera, **count)]


def test_the_reference_looks_where_the_camera_looks(world):
    by_id = {keyframe.id: keyframe for keyframe in world.keyframes}
    for pose in room_poses(17):
        best = by_id[chosen(world.anchors, world.keyframes, pose)[0]]
        assert angle(best.T_world_camera, pose) < math.radians(35)


def test_from_a_keyframes_own_place_it_is_the_first(world):
    for keyframe in world.keyframes:
        assert chosen(world.anchors, world.keyframes, keyframe.T_world_camera)[0] == keyframe.id


def test_references_change_one_at_a_time(world):
    """In a slow turn through the room a frame shares two of its three references with the frame before, nearly always;
    a trembling camera keeps the first."""
    poses = [Pose.looking_at([0.1, 0, 1.2], [0.1 + math.cos(a), math.sin(a), 1.1])
             for a in np.linspace(0, math.tau, 200)]
    several = [set(chosen(world.anchors, world.keyframes, pose)) for pose in poses]
    shared = [len(a & b) for a, b in pairwise(several)]
    assert min(shared) >= 1 and np.mean(shared) > 2.7
    rng = np.random.default_rng(0)
    pose = world.keyframes[0].T_world_camera
    trembling = [Pose(pose.rotation * Rotation.from_rotvec(rng.normal(0, 0.01, 3)),
                      pose.translation + rng.normal(0, 0.01, 3)) for _ in range(20)]
    assert {chosen(world.anchors, world.keyframes, near)[0] for near in trembling} == {world.keyframes[0].id}


def test_the_order_of_the_keyframes_does_not_matter(world):
    for pose in room_poses(9):
        assert (chosen(world.anchors, world.keyframes, pose)
                == chosen(world.anchors, world.keyframes[::-1], pose))


def test_nothing_seen_has_no_reference(world):
    assert chosen(world.anchors, [], room_poses(1)[0]) == []
    assert chosen(world.anchors, world.keyframes, Pose.looking_at([50, 0, 1], [60, 0, 1])) == []


def test_keyframes_may_be_added(world):
    keyframes, pose = [], room_poses(1)[0]
    chooser, depth = ReferenceChooser(keyframes), seen(world.anchors, pose)
    assert chooser.choose(depth, pose, CAMERA) == ()
    keyframes.extend(world.keyframes)
    assert len(chooser.choose(depth, pose, CAMERA)) == 3


def test_depth_is_read_of_a_few_near_keyframes_alone(world):
    class Counted(Keyframe):
        read = 0

        def __getattribute__(self, name):
            Counted.read += name == "depth"
            return super().__getattribute__(name)

    many = [Counted(100 * n + k.id, k.rgb, k.depth, k.intrinsics, k.T_world_camera)
            for n in range(10) for k in world.keyframes]
    Counted.read = 0
    assert len(chosen(world.anchors, many, room_poses(12)[3])) == 3
    assert 0 < Counted.read <= 2 * CANDIDATES < len(many)


@pytest.mark.parametrize("size", [(64, 8000), (1, 240), (1, 1), (1, 8192), (8192, 1)])
def test_a_picture_may_be_very_tall_or_wide(world, size):
    chosen(world.anchors, world.keyframes, room_poses(12)[0], Intrinsics.from_hfov(*size, 0.2))
    tall = Intrinsics(64, 512, 30.0, 240.0, 31.5, 255.5)  # a usual view in unusual pixels
    both = [chosen(world.anchors, world.keyframes, room_poses(12)[3], c) for c in (tall, tall.resized(64, 64))]
    assert both[0][0] == both[1][0]


# ---- several


def test_there_are_as_many_as_asked_for_and_none_twice(world):
    for pose in room_poses(9):
        one, three, many = (chosen(world.anchors, world.keyframes, pose, count=count) for count in (1, 3, 99))
        assert len(one) == 1 and len(three) == 3 == len(set(three)) and three[:1] == one and many[:3] == three
        assert len(many) == len(set(many)) <= len(world.keyframes)
    with pytest.raises(ValueError, match="1 or more, got 0"):
        chosen(world.anchors, world.keyframes, room_poses(1)[0], count=0)


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
    behind = view(2, [0.125, 0.45, 0.125], np.s_[55:])
    assert chosen(anchors, [twin, behind, first], eye) == [0, 2, 1]


def test_they_are_ranked_by_how_near_their_rays_are():
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
    assert chosen(anchors, keyframes, eye, count=4) == [2, 1, 3, 0]
    late = [replace(view(k, 0.001 * k), painted=True) for k in range(4, 34)]
    assert chosen(anchors, keyframes + late, eye, count=4) == [2, 1, 3, 0], "painted while driving"


def test_one_that_comes_as_another_goes_is_looked_at(world):
    """A full map drops its oldest keyframe for each that comes: there are as many as before."""
    keyframes, pose = list(world.keyframes[:6]), room_poses(12)[9]
    depth = see_room(pose).depth
    chooser = ReferenceChooser(keyframes)
    before = [keyframe.id for keyframe in chooser.choose(depth, pose, CAMERA)]
    keyframes.append(world.keyframes[9])
    del keyframes[0]
    after = [keyframe.id for keyframe in chooser.choose(depth, pose, CAMERA)]
    assert before != after and after[0] == world.keyframes[9].id
