"""The planes that a place is built of, and what they tell of where nobody looked."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import CAMERA, HIGH, LOW, color_of, room_world, see_room

from worldfm_ros.geometry import Pose
from worldfm_ros.growth import holes
from worldfm_ros.layout.planes import about_z, direction, find_layout, named
from worldfm_ros.layout.rooms import House, bordered, find_rooms, widened
from worldfm_ros.layout.texture import Texture
from worldfm_ros.layout.walls import BEYOND, EXTENSION, STEP, carried_on, seen_empty
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.cut import cut
from worldfm_ros.world.renderer import render
from worldfm_ros.world.storage import World

VOXEL = 0.04
CORNER = np.array([[0.6, -1.6, -0.1], [1.9, 1.6, 2.6]])  # the room's east but for its east wall
EYES = np.array([[0.0, 0.0, 1.2]])
INTO = Pose.looking_at([-0.9, -0.3, 1.2], [1.5, 0.6, 0.9])


@pytest.fixture(scope="module")
def world():
    return cut(room_world(24, voxel=VOXEL), CORNER)


def surface(rng, count=20_000, ceiling=True):
    """Points of a box room's six sides, (N, 3), and the side's number, 1 to 6."""
    points = rng.uniform(LOW, HIGH, (count, 3))
    side = rng.integers(6 if ceiling else 5, size=count)
    axis, end = np.array([2, 0, 0, 1, 1, 2])[side], np.array([0, 0, 1, 0, 1, 1])[side]
    points[np.arange(count), axis] = np.where(end, HIGH[axis], LOW[axis])
    return points, (side + 1).astype(np.uint16)


def view(world, pose, camera=CAMERA):
    drawing = render(world.anchors.visible(pose, camera), pose, camera)
    return holes(drawing.coverage), drawing.depth


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_room_is_found_whatever_way_it_is_turned(angle, noise):
    rng = np.random.default_rng(1)
    points, labels = surface(rng)
    turn = about_z(angle)
    layout = find_layout((points + rng.normal(0, noise, points.shape)) @ turn, labels, EYES)
    assert abs(layout.floor.offset) < 0.005 and abs(layout.ceiling.offset - HIGH[2]) < 0.005
    assert (layout.floor.label, layout.ceiling.label) == (1, 6)
    assert sorted(wall.label for wall in layout.walls) == [2, 3, 4, 5]
    truth = {2: (LOW[0], 0), 3: (HIGH[0], 0), 4: (LOW[1], 1), 5: (HIGH[1], 1)}
    for wall in layout.walls:  # a corner of the room, in the world, lies on the wall that was found
        offset, axis = truth[wall.label]
        corner = np.where(np.arange(3) == axis, offset, LOW) @ turn
        assert abs((layout.turn @ corner)[wall.axis] - wall.offset) < 0.01


def test_a_place_without_planes_has_no_layout():
    rng = np.random.default_rng(0)
    for points in (rng.uniform(-3, 3, (50_000, 3)), rng.normal(0, 1, (30_000, 3)), np.zeros((0, 3)),
                   np.concatenate([c + rng.normal(0, 0.3, (4000, 3)) for c in rng.uniform(-3, 3, (20, 3))])):
        assert find_layout(points, np.zeros(len(points), np.uint16), EYES) is None


def test_a_table_is_no_floor_and_a_cupboard_no_wall():
    rng = np.random.default_rng(2)
    points, labels = surface(rng)
    table = np.column_stack([rng.uniform(-0.5, 0.5, (4000, 2)), np.full(4000, 0.7)])
    front = np.column_stack([np.full(6000, 1.4), rng.uniform(-0.8, 0.8, 6000), rng.uniform(0, 1.4, 6000)])
    layout = find_layout(np.concatenate([points, table, front]), np.append(labels, np.full(10_000, 9, np.uint16)), EYES)
    assert abs(layout.floor.offset) < 0.005 and {wall.label for wall in layout.walls} == {2, 3, 4, 5}


def test_directions_and_names():
    rng = np.random.default_rng(3)
    lines = np.concatenate([np.column_stack([rng.uniform(-2, 2, 900), np.full(900, 1.0)]),
                            np.column_stack([np.full(900, -1.0), rng.uniform(-2, 2, 900)])])
    assert direction(lines @ about_z(0.4)[:2, :2]) == pytest.approx(0.4, abs=0.02)  # walls refine it
    assert named(np.array([3, 3, 5])) == 3 and named(np.array([3, 5])) == 0 and named(np.zeros(0, np.uint16)) == 0


def test_what_was_cut_away_is_continued_to_a_voxel(world):
    rooms = find_rooms(world, np.zeros(3))
    hole, depth = view(world, INTO)
    more, truth = rooms.continued(hole, depth, INTO, CAMERA), see_room(INTO)
    new = more.depth > 0
    low = truth.depth * 0 + (INTO.apply(CAMERA.unproject(truth.depth))[..., 2] < 1.8)  # higher up nobody looked
    assert hole.mean() > 0.15 and new.sum() > 0.9 * (hole * low).sum() and not new[~hole].any()
    assert np.quantile(np.abs(more.depth - truth.depth)[new], 0.95) < VOXEL
    assert (more.labels == truth.labels)[new].mean() > 0.97
    assert ((more.confidence > 0) == new).all() and more.confidence.max() < 1
    off = np.abs(more.rgb.astype(float) - truth.rgb)[new].mean()
    assert off < 0.8 * np.abs(truth.rgb[new].astype(float) - truth.rgb[new].mean(0)).mean()


def test_the_same_again_from_any_order(world):
    poses = [INTO, Pose.looking_at([-0.5, 0.3, 1.2], [1.5, -0.6, 0.9])]
    seen = []
    for order in (poses, poses[::-1]):
        house = House(world)
        seen.append({id(pose): house.around(pose.translation).continued(*view(world, pose), pose, CAMERA)
                     for pose in order})
    for pose in poses:
        for name in ("depth", "rgb", "labels", "confidence"):
            np.testing.assert_array_equal(getattr(seen[0][id(pose)], name), getattr(seen[1][id(pose)], name))


def test_where_keyframes_look_through_nothing_is_continued(world):
    """The wall that a picture looks through, and the one at which it saw sky."""
    rooms = find_rooms(world, np.zeros(3))
    hole, depth = view(world, INTO)
    for seen in (np.full(depth.shape, 999.0, np.float32), np.zeros(depth.shape, np.float32)):
        through = replace(world.keyframes[0], id=99, depth=seen, T_world_camera=INTO)
        other = replace(world, keyframes=[*world.keyframes, through])
        more = find_rooms(other, np.zeros(3)).continued(hole, depth, INTO, CAMERA)
        assert (rooms.continued(hole, depth, INTO, CAMERA).depth > 0).sum() > 500 and not more.depth.any()


def test_where_a_scan_ends_a_wall_is_assumed(world):
    """Without its east wall the room goes on for BEYOND metres past what was seen; its other walls reach there."""
    bare = cut(world, np.array([[1.0, -2.0, -1.0], [3.0, 2.0, 3.0]]))
    standing = find_rooms(bare, np.zeros(3)).standing
    layout = find_rooms(bare, np.zeros(3)).layout
    east = next(wall for wall in standing if wall.plane.assumed and wall.plane.axis == 0 and wall.plane.offset > 0)
    assert east.plane.offset == pytest.approx(layout.ends[1, 0] + BEYOND) and (east.sure > 0).any()
    south = next(wall for wall in standing if not wall.plane.assumed and wall.plane.axis == 1 and wall.plane.offset < 0)
    seen, on = south.at(np.array([0.0])), south.at(np.array([south.plane.high + 1.0, 9.9 + EXTENSION]))
    assert seen > on[0] > 0 == on[1]


def test_a_wall_ends_where_it_was_seen_to_end():
    """A wall of 1 m with a passage behind it that a keyframe looks through: nothing stands there, nor farther on."""
    world = room_world(8, voxel=VOXEL)
    rooms = find_rooms(world, np.zeros(3))
    wall = next(s for s in rooms.standing if s.plane.axis == 0 and s.plane.offset < 0)
    assert wall.at(np.array([0.0, HIGH[1] + 1.0])).all()
    along = wall.plane.high + STEP * (np.arange(40) + 0.5)
    free = np.ones(40, bool)
    free[10:14] = False
    assert carried_on(wall.plane, along, free).tolist() == [k < 10 for k in range(40)]
    free[11:] = True  # one step alone is a gap between samples
    assert carried_on(wall.plane, along, free).tolist() == free.tolist()


def test_a_hole_without_planes_around_is_left():
    hole = np.zeros((60, 80), bool)
    hole[5:15, 5:15] = hole[30:50, 40:60] = True
    planes = np.zeros_like(hole)
    planes[30:53, 36:70] = True
    assert (bordered(hole, ~hole, planes) == (hole & planes)).all()
    assert not bordered(hole, ~hole, np.zeros_like(hole)).any()


def test_what_something_near_hides_is_continued_where_the_view_shows_a_room(world):
    """A hole that no plane borders, behind a thing: the room's, unless all that one sees is such things."""
    rooms = find_rooms(world, np.zeros(3))
    hole, depth = view(world, INTO)
    row, column = (int(np.median(axis)) for axis in np.nonzero(hole))
    shadow, around = np.zeros_like(hole), np.s_[row - 6:row + 7, column - 6:column + 7]
    shadow[row - 2:row + 3, column - 2:column + 3] = True
    depth[around] = 0.4
    assert (rooms.continued(shadow, depth, INTO, CAMERA).depth[shadow] > 0.5).mean() > 0.9
    assert not rooms.continued(shadow, np.full_like(depth, 0.4), INTO, CAMERA).depth.any()


def test_worlds_without_a_layout():
    rng = np.random.default_rng(0)
    frames = room_world(4)
    cloud = AnchorMap.from_points(rng.uniform(-3, 3, (50_000, 3)), np.zeros((50_000, 3), np.uint8))
    for world in (World("cloud", cloud, frames.keyframes, 0.05), replace(frames, metric=False),
                  World("empty", AnchorMap(), frames.keyframes, 0.05), replace(frames, keyframes=[])):
        assert House(world).around(np.zeros(3)) is None


def test_a_texture_goes_on_as_it_was_seen():
    """Boards stay boards, and the colour at the seam is that of what is near."""
    x, y = (part.ravel() for part in np.meshgrid(np.arange(0, 3.2, 0.02), np.arange(0, 1.6, 0.02)))
    boards = np.stack([120 + 40 * (np.floor(y / 0.2) % 2), 90 + 0 * x, 60 + 20 * x], -1)
    places, colors = np.column_stack([x, y]), np.rint(boards).astype(np.uint8)
    texture = Texture(places, colors, 0.02, upright=False)
    assert np.abs(texture.look(places).astype(float) - colors).mean() < 6
    beyond = np.column_stack([np.full(80, 3.6), np.arange(80) * 0.02])
    look = texture.look(beyond).astype(float)
    assert np.corrcoef(look[:, 0], 120 + 40 * (np.floor(beyond[:, 1] / 0.2) % 2))[0, 1] > 0.7
    assert np.abs(look[:, 2] - 124).max() < 12
    plain = Texture(places[:5], colors[:5], 0.02, upright=True)
    assert np.abs(plain.look(beyond).astype(float) - colors[:5].mean(0)).max() < 3


def test_empty_space_is_what_is_looked_through():
    world = room_world(4)
    points = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.9], [5.0, 0.0, 1.0]])
    assert seen_empty(points, world.keyframes).tolist()[1:] == [True, False] and color_of(points).shape == (3, 3)


def test_a_wider_picture_holds_the_view():
    wide = widened(CAMERA, 0.25)
    hole = Pose.looking_at([0, 0, 1], [1, 0, 1])
    depth, inner = see_room(hole, wide).depth, see_room(hole).depth
    np.testing.assert_array_equal(depth[15:75, 20:100], inner)
