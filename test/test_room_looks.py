"""What an unseen room looks like: as the one that leads to it, and not as the one behind a wall."""

import math

import numpy as np
import pytest

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.layout.looks import Looks
from worldfm_ros.layout.plan import draw_plan
from worldfm_ros.layout.planes import Layout, Plane
from worldfm_ros.layout.rooms import find_rooms
from worldfm_ros.layout.texture import Paint
from worldfm_ros.layout.walls import BEYOND, ROOM, STEP, Standing, doorways, standing
from worldfm_ros.scenes.building import Opening, Plan, Room, shell
from worldfm_ros.scenes.furniture import LABEL_NAMES, hexed
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.scene import Light, Scene
from worldfm_ros.world.builders.fusion import FusionSettings, VoxelMeans, fuse
from worldfm_ros.world.cut import cut

HALL, UNSEEN, OTHER = (0.0, 0.0, 3.0, 3.0), (3.0, 0.0, 6.0, 3.0), (3.0, 3.0, 6.0, 6.0)
RED, GREEN, BLUE = (200, 60, 50), (50, 160, 60), (50, 70, 190)
BOX = np.array([[3.07, -0.3, -0.1], [6.3, 2.93, 2.7]])  # the unseen room
VOXEL = 0.03


def paint(color):
    return hexed("#" + bytes(color).hex())


@pytest.fixture(scope="module")
def rooms():
    """A red hall with a doorway to a blue room, which is taken away; behind that a green one, to which the hall leads
    only in a round about way."""
    plan = Plan({"hall": Room(*HALL, paint(RED), hexed("#a08050")),
                 "unseen": Room(*UNSEEN, paint(BLUE), hexed("#404040")),
                 "other": Room(*OTHER, paint(GREEN), hexed("#e0e0e0")),
                 "way": Room(0.0, 3.0, 3.0, 6.0, paint(GREEN), hexed("#e0e0e0"))},
                (Opening(0, 3.0, 1.0, 2.0), Opening(1, 3.0, 1.0, 2.0), Opening(0, 3.0, 4.0, 5.0)), ())
    scene = Scene("flat", tuple(shell(plan)), (Light((1.5, 1.5, 2.4), (1.0, 1.0, 1.0)),), (0.6, 0.6, 0.6), LABEL_NAMES)
    caster, camera, frames = RayCaster(scene), Intrinsics.from_hfov(120, 90, math.radians(85)), []
    for x, y in ((1.5, 1.5), (4.5, 1.5), (4.5, 4.5), (1.5, 4.5)):
        for k in range(16):
            angle, tilt = k * math.tau / 8, 0.35 if k < 8 else -0.35
            pose = Pose.looking_at([x, y, 1.3], [x + math.cos(angle), y + math.sin(angle), 1.3 - tilt])
            image = caster.render(pose, camera)
            frames.append(RgbdFrame(len(frames), image.rgb, image.depth, camera, pose, image.labels))
    world = fuse(frames, "flat", VoxelMeans(VOXEL), FusionSettings(voxel=VOXEL), scene.label_names)
    return find_rooms(cut(world, BOX), np.array([3.0, 3.0, 1.0]))


def test_both_faces_of_a_thin_wall_are_found(rooms):
    offsets = sorted(wall.offset for wall in rooms.layout.walls if wall.axis == 1)
    assert any(abs(a - 2.94) < 0.02 for a in offsets) and any(abs(a - 3.06) < 0.02 for a in offsets)


def test_an_unseen_room_is_painted_like_the_one_that_leads_to_it(rooms):
    """Its far wall nobody saw; a green room is as near to it as the red hall, and has no door to it."""
    looks, turn = rooms.looks, rooms.layout.turn
    places = np.array([[5.94, y, z] for y in (0.5, 1.5, 2.5) for z in (0.5, 1.0, 2.0)]) @ turn.T
    wall = next(s.plane for s in rooms.standing if s.plane.axis == 0 and abs(s.plane.offset - 5.94) < 0.1)
    from_inside = looks.of_wall(wall, places, turn @ [4.0, 1.5, 1.2])
    red, green = (np.abs(from_inside / from_inside.max(1, keepdims=True) - np.array(c) / max(c)).mean()
                  for c in (RED, GREEN))
    assert red < 0.15 < green
    assert (from_inside == looks.of_wall(wall, places, turn @ [5.0, 0.4, 0.7])).all(), "from wherever one looks"
    own = looks.of_wall(wall, places + [0, 3.0, 0], turn @ [4.0, 4.5, 1.2]).astype(int)
    assert (own[:, 1] > own[:, 0]).all(), "the green room stays green"
    floor = looks.of_level(0, np.array([[4.5, 1.5, 0.0]]) @ turn.T).astype(int)[0]
    assert floor[0] > floor[2] + 20, "the hall's wood"


def test_a_doorway_is_where_the_floor_goes_on_under_a_wall():
    wall = Plane(0, 1.0, -1.0, 3.0, 0)
    floor = np.array([[x, y] for x in np.arange(-1, 1.0, 0.02) for y in np.arange(-1, 3, 0.02)]
                     + [[x, y] for x in np.arange(1.0, 1.3, 0.02) for y in np.arange(0.5, 1.5, 0.02)])
    open_there = doorways(wall, -1.0, 40, floor)
    assert not open_there[:14].any() and open_there[16:24].all() and not open_there[26:].any()


def test_a_doorway_at_the_end_of_a_scan_leads_to_a_room():
    """Of the wall's other face, which goes on from where it was seen, nobody saw the doorway."""
    walls = [Plane(0, 0.0, 0.0, 5.0, 0), Plane(0, 4.0, 0.0, 5.0, 0), Plane(0, 4.12, 2.3, 5.0, 0),
             Plane(1, 0.0, 0.0, 4.0, 0), Plane(1, 5.0, 0.0, 4.0, 0)]
    layout = Layout(np.eye(3), Plane(2, 0.0, 0.0, 4.0, 0), None, tuple(walls), np.array([[0.0, 0.0], [4.12, 5.0]]))
    grid = np.stack(np.meshgrid(np.arange(0.01, 4.12, 0.02), np.arange(0.01, 5.0, 0.02)), -1).reshape(-1, 2)
    floor = grid[(grid[:, 0] < 4) | ((grid[:, 1] > 0.5) & (grid[:, 1] < 1.5))]
    walls = standing(layout, [], floor)
    way = np.arange(0.55, 1.5, 0.1)
    for wall in walls[1:3]:
        assert not wall.at(way).any() and wall.at(np.array([2.5, 3.0, 7.0])).all()
    assumed = {(wall.plane.axis, round(wall.plane.offset, 2)) for wall in walls if wall.plane.assumed}
    assert assumed == {(0, -BEYOND), (0, 4.0 + ROOM), (1, -BEYOND), (1, 5.0 + BEYOND)}


def test_nobody_knows_the_rooms_where_no_wall_stands():
    layout = Layout(np.eye(3), Plane(2, 0.0, 0.0, 1.0, 0), None, (), np.array([[0.0, 0.0], [1.0, 1.0]]))
    plan = draw_plan(layout, [])
    assert len(np.unique(plan.rooms)) == 1 and not plan.doors and plan.like({}) == {}
    floor = np.array([[0.1 * k % 1, 0.1 * k // 1 * 0.1, 0.0] for k in range(100)])
    looks = Looks(layout, [(floor, np.full((100, 3), 90, np.uint8))], 0.1, [], [])
    assert (looks.of_level(0, np.array([[9.0, 9.0, 0.0]])) == 90).all()


def test_rooms_are_parted_by_walls_and_doorways_lead_on():
    """Three rooms in a row; a doorway between the second and the third."""
    walls = [Plane(0, x, 0.0, 3.0, 0) for x in (0.0, 2.0, 4.0, 6.0)] + [Plane(1, y, 0.0, 6.0, 0) for y in (0.0, 3.0)]
    layout = Layout(np.eye(3), Plane(2, 0.0, 0.0, 6.0, 0), None, tuple(walls), np.array([[0.0, 0.0], [6.0, 3.0]]))
    sure = [np.ones(round((wall.high - wall.low) / STEP)) for wall in walls]
    sure[2][10:20] = 0
    plan = draw_plan(layout, [Standing(wall, 0.0, s) for wall, s in zip(walls, sure, strict=True)])
    one, two, three = plan.at(np.array([[1.0, 1.5], [3.0, 1.5], [5.0, 1.5]])).tolist()
    assert len({one, two, three}) == 3 and {tuple(sorted((two, three)))} == set(plan.doors)
    like = plan.like({three: 4.0, one: 9.0})
    assert like[two] == three and like[one] == one, "through the door, not through the wall"


def test_paint_has_the_skirting_board_and_not_the_lamp():
    along, above = (part.ravel() for part in np.meshgrid(np.arange(0, 3, 0.02), np.arange(0, 2.5, 0.02)))
    color = np.where(above[:, None] < 0.1, 240, np.array([90, 120, 160]))
    lamp = 60 * np.exp(-((along - 1.5) ** 2 + (above - 1.2) ** 2) / 0.3)
    found = Paint(np.column_stack([along, above]), np.clip(color + lamp[:, None], 0, 255).astype(np.uint8), 0.02)
    elsewhere = np.column_stack([np.linspace(8, 12, 60), np.tile([0.04, 0.3, 1.2, 2.2], 15)])
    look = found.look(elsewhere).reshape(15, 4, 3).astype(int)
    assert look[:, 0, 0].min() > look[:, 1, 0].max() + 60
    assert np.abs(look[:, 1:] - np.median(look[:, 1:], (0, 1))).max() < 25 and found.unevenness > 3
