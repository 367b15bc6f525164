"""The robot without ROS: free space, routes and driving, checked against the anchors themselves."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.spatial import cKDTree

from worldfm_ros.drive.free_space import FreeSpace
from worldfm_ros.drive.robot import (
    ACCELERATION,
    BRAKING,
    MAX_SPEED,
    MAX_TURN,
    TURN_ACCELERATION,
    TURN_BRAKING,
    DifferentialDrive,
    Pilot,
    plan,
    tour,
)
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe

WIDTH, DEPTH = 6.0, 4.0  # the room: 0..6 x 0..4 m
BOX = np.array([[2.5, 1.0], [3.5, 2.0]])  # a box in it, 0.8 m high
DT = 0.02


def upright(corners, height, spacing=0.04):
    """Points (N, 3) of the walls that stand on a closed line of corners (x, y)."""
    lines = [np.linspace(a, b, 1 + int(np.linalg.norm(np.subtract(b, a)) / spacing))
             for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)]
    outline = np.concatenate(lines)
    return np.concatenate([np.c_[outline, np.full(len(outline), z)] for z in np.arange(0.02, height, spacing)])


def rectangle(low, high):
    return [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]


def level(low, high, z, spacing=0.04):
    x, y = np.meshgrid(np.arange(low[0], high[0], spacing), np.arange(low[1], high[1], spacing))
    return np.c_[x.ravel(), y.ravel(), np.full(x.size, z)]


def room_points(floor=0.0):
    """A room with a floor, walls, a ceiling and a box: (N, 3)."""
    points = [level((0, 0), (WIDTH, DEPTH), 0.0), level((0, 0), (WIDTH, DEPTH), 2.5),
              upright(rectangle((0, 0), (WIDTH, DEPTH)), 2.5), upright(rectangle(*BOX), 0.8), level(*BOX, 0.8)]
    return np.concatenate(points) + [0, 0, floor]


def anchor_map(points):
    return AnchorMap.from_points(points, np.zeros((len(points), 3), np.uint8))


def keyframe(index, x, y, z=1.2, yaw=0.0):
    pose = Pose.looking_at((x, y, z), (x + math.cos(yaw), y + math.sin(yaw), z - 0.2))
    return Keyframe(index, np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4), np.float32),
                    Intrinsics.from_hfov(4, 3, 1.0), pose)


PLACES = [(0.8, 0.8), (5.2, 0.8), (5.2, 3.3), (0.8, 3.3), (3.0, 3.0), (3.0, 1.5)]  # the last one is inside the box


@pytest.fixture(scope="module")
def room():
    return FreeSpace.from_world(anchor_map(room_points()), [keyframe(i, *p) for i, p in enumerate(PLACES)])


def obstacle_tree(points, low, high):
    return cKDTree(points[(points[:, 2] > low) & (points[:, 2] < high), :2])


def record(drive, pilot, seconds):
    """(N, 5) x, y, yaw, v, w of every step."""
    states = []
    for _ in range(round(seconds / DT)):
        drive.step(*pilot.command(), DT)
        states.append((drive.x, drive.y, drive.yaw, drive.v, drive.w))
    return np.array(states)


def start_tour(space, places, seed, yaw=0.0):
    drive = DifferentialDrive.at_keyframe(space, keyframe(0, *places[0], yaw=yaw))
    return drive, Pilot(drive, tour(space, places, seed))


def test_free_occupied_and_inflated_cells(room):
    assert room.is_free([1.0, 5.0, 3.0], [2.0, 2.0, 3.0]).all()
    assert not room.is_free([3.0, 2.5, 0.0], [1.5, 1.5, 2.0]).any(), "inside the box, on its edge, on the wall"
    assert not room.is_free([2.5 - 0.18, 0.18], [1.5, 2.0]).any(), "nearer than the radius"
    assert room.is_free([2.5 - 0.31, 0.31], [1.5, 2.0]).all(), "the radius and two cells away"
    assert not room.is_free([-1.0, 99.0], [2.0, 2.0]).any() and room.clearance(99.0, 2.0) == -np.inf


def test_clearance_is_a_tight_lower_bound(room):
    x, y = np.random.default_rng(0).uniform((0, 0), (WIDTH, DEPTH), (2000, 2)).T
    true = obstacle_tree(room_points(), 0.1, 1.3).query(np.c_[x, y])[0]
    assert (room.clearance(x, y) <= true + 1e-9).all()
    # half a diagonal too little at either end of the distance, and cells instead of anchors
    assert (room.clearance(x, y) >= true - 3 * math.sqrt(2) * room.resolution).all()


def test_only_what_the_robot_can_hit_is_an_obstacle():
    keyframes = [keyframe(0, 0.8, 0.8)]
    table = anchor_map(np.concatenate([room_points(), level((4, 1), (5, 2), 0.7)]))
    assert FreeSpace.from_world(table, keyframes, robot_height=0.5).is_free(4.5, 1.5)
    assert not FreeSpace.from_world(table, keyframes).is_free(4.5, 1.5), "the camera would be drawn through the table"
    sill = anchor_map(np.concatenate([room_points(), level((4, 1), (5, 2), 0.06)]))
    assert FreeSpace.from_world(sill, keyframes).is_free(4.5, 1.5)


@pytest.mark.parametrize("floor", [-1.4, 0.0, 2.0])
def test_the_floor_is_found_at_any_height(floor):
    """A map frame may lie in a hand-held camera."""
    space = FreeSpace.from_world(anchor_map(room_points(floor)), [keyframe(0, 1.0, 1.0, floor + 1.4)])
    assert space.floor == pytest.approx(floor, abs=0.02)
    assert space.is_free(1.0, 2.0) and not space.is_free(3.0, 1.5)


def test_a_floor_that_was_hardly_seen_beats_tables_and_noise():
    points = room_points()
    floor = points[points[:, 2] == 0.0]
    random = np.random.default_rng(1)
    hardly = floor[(floor[:, 0] < 1.5) & (floor[:, 1] < 2.0)] + random.normal(0, 0.015, (1, 3)) * [0, 0, 1]
    tables = level((3.0, 0.2), (5.8, 3.8), 0.7)
    below = np.c_[random.uniform((0, 0), (WIDTH, DEPTH), (60, 2)), random.uniform(-0.6, -0.1, 60)]  # reflections
    scan = np.concatenate([points[points[:, 2] > 0.0], hardly, tables, below])
    assert FreeSpace.from_world(anchor_map(scan), [keyframe(0, 1.0, 1.0, 1.4)]).floor == pytest.approx(0.0, abs=0.05)


def test_worlds_that_cannot_be_driven_in_say_why():
    with pytest.raises(ValueError, match="needs anchors and keyframes"):
        FreeSpace.from_world(anchor_map(room_points()), [])
    with pytest.raises(ValueError, match="needs anchors and keyframes"):
        FreeSpace.from_world(AnchorMap(), [keyframe(0, 1, 1)])
    with pytest.raises(ValueError, match="fits nowhere"):
        full = np.concatenate([level((-3, -3), (6, 6), z) for z in (0.0, 0.5)])
        FreeSpace.from_world(anchor_map(full), [keyframe(0, 1, 1)])
    with pytest.raises(ValueError, match="no floor"):
        FreeSpace.from_world(anchor_map(level((0, 0), (3, 3), 2.0)), [keyframe(0, 1, 1)])


def test_a_stray_anchor_does_not_size_the_map():
    far = np.concatenate([room_points(), [[4000.0, 3000.0, 1.0]]])
    space = FreeSpace.from_world(anchor_map(far), [keyframe(0, 1, 1)])
    assert space.free.size < 100_000 and space.is_free(1.0, 2.0)


def test_the_region_with_most_keyframes_is_chosen():
    wall = upright([(3.9, 0.0), (4.0, 0.0), (4.0, DEPTH), (3.9, DEPTH)], 2.0)
    divided = anchor_map(np.concatenate([room_points(), wall]))
    right = FreeSpace.from_world(divided, [keyframe(i, *p) for i, p in enumerate([(5, 1), (5, 2), (1, 1)])])
    assert right.is_free(5.0, 3.0) and not right.is_free(1.0, 3.0)
    np.testing.assert_allclose(right.nearest_free(1.0, 3.0), (4.3, 3.0), atol=0.1)


def test_routes_go_round_obstacles_and_keep_away_from_them(room):
    route = plan(room, (1.2, 1.5), (4.8, 1.5))
    np.testing.assert_allclose(route[[0, -1]], [(1.2, 1.5), (4.8, 1.5)], atol=0.05)
    assert room.is_roomy(*route.T).all()
    assert np.linalg.norm(np.diff(route, axis=0), axis=1).max() < 2 * room.resolution
    distance = obstacle_tree(room_points(), 0.1, 1.3).query(route)[0]
    assert distance.min() > 0.4, "there are 2 m between box and wall"


def test_routes_prefer_floor_that_was_seen():
    points = room_points()
    unseen = (points[:, 2] == 0.0) & (points[:, 1] > 2.1)
    space = FreeSpace.from_world(anchor_map(points[~unseen]), [keyframe(0, 1.2, 1.8)], robot_radius=0.15)
    route = plan(space, (1.2, 1.8), (4.8, 1.8))
    assert route[:, 1].min() < 1.0, "round the front of the box, though the way behind it is shorter"
    behind = FreeSpace.from_world(anchor_map(points), [keyframe(0, 1.2, 1.8)], robot_radius=0.15)
    assert plan(behind, (1.2, 1.8), (4.8, 1.8))[:, 1].min() > 1.5
    assert space.is_free(3.0, 3.0), "unseen floor is dear, not forbidden"


def test_a_tour_visits_every_place_in_every_round(room):
    goals = list(itertools.islice(tour(room, PLACES, seed=3), 18))
    rounds = [sorted(map(tuple, goals[i:i + 6])) for i in (0, 6, 12)]
    assert rounds[0] == rounds[1] == rounds[2] and len(set(rounds[0])) == 6
    assert room.is_free(*np.transpose(goals)).all()
    again, other = (list(itertools.islice(tour(room, PLACES, seed), 18)) for seed in (3, 4))
    np.testing.assert_array_equal(goals, again)
    assert not np.array_equal(goals, other)


def test_a_world_seen_from_one_place_is_toured_too(room):
    goals = np.array(list(itertools.islice(tour(room, [(1.0, 1.0)] * 5, seed=0), 3)))
    assert len(np.unique(goals, axis=0)) == 3 and room.is_free(*goals.T).all()


@pytest.mark.parametrize("v, w", [(0.4, 0.7), (-0.3, 0.5), (0.5, 0.0), (0.0, -1.0)])
def test_steps_are_exact_arcs(v, w):
    space = FreeSpace.from_world(anchor_map(level((-4, -4), (4, 4), 0.0)), [keyframe(0, 0, 0)])
    drive = DifferentialDrive(space, 0.3, -0.2, 0.5, v, w)
    for _ in range(10):
        drive.step(v, w, 0.1)
    truth = solve_ivp(lambda _, s: (v * math.cos(s[2]), v * math.sin(s[2]), w), (0, 1), (0.3, -0.2, 0.5),
                      rtol=1e-11, atol=1e-12).y[:, -1]
    np.testing.assert_allclose((drive.x, drive.y, drive.yaw), truth, atol=1e-9)


def assert_within(velocities, acceleration, braking):
    """No step speeds up or brakes by more than it may."""
    growth = np.diff(np.abs(velocities))
    assert growth.max() <= acceleration * DT + 1e-12 and growth.min() >= -braking * DT - 1e-12


def test_a_robot_that_is_let_go_stands_soon(room):
    drive = DifferentialDrive(room, 1.5, 1.6, 0.0, MAX_SPEED, MAX_TURN)
    for _ in range(round(0.2 / DT)):
        drive.step(0.0, 0.0, DT)
    assert (drive.v, drive.w) == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("heading", np.linspace(-0.6, 0.6, 5))
@pytest.mark.parametrize("v", [9.0, -9.0])
def test_commands_into_a_wall_stop_before_it(room, heading, v):
    drive = DifferentialDrive(room, 1.5, 1.6, heading if v > 0 else heading + math.pi)  # the box is 1 m ahead
    states = []
    for _ in range(500):
        drive.step(v, 0.0, DT)
        states.append((drive.x, drive.y, drive.v))
    x, y, speed = np.array(states).T
    nearest = obstacle_tree(room_points(), 0.1, 1.3).query(np.c_[x, y])[0]
    assert nearest.min() >= room.robot_radius
    assert speed[-1] == 0.0 and nearest[-1] < room.robot_radius + 0.2, "it stops, and not far away"
    assert_within(speed, ACCELERATION, BRAKING)
    before = drive.yaw
    for _ in range(100):
        drive.step(v, 1.0, DT)
    assert drive.yaw > before + 1.0, "it can turn away"


def test_a_tour_is_safe_smooth_and_goes_places(room):
    states = record(*start_tour(room, PLACES, seed=0), seconds=120)
    xy, v, w = states[:, :2], states[:, 3], states[:, 4]
    assert obstacle_tree(room_points(), 0.1, 1.3).query(xy)[0].min() >= room.robot_radius
    visited = [place for place in PLACES if np.linalg.norm(xy - room.nearest_free(*place), axis=1).min() < 0.25]
    assert len(visited) == len(PLACES)
    assert np.abs(v).max() <= MAX_SPEED and np.abs(w).max() <= MAX_TURN
    assert_within(v, ACCELERATION, BRAKING)
    assert_within(w, TURN_ACCELERATION, TURN_BRAKING)
    assert np.abs(v).mean() > 0.2, "it does not dawdle"
    assert (v > -1e-12).all(), "and does not reverse: the camera looks forward"


def test_tours_depend_on_world_and_seed_alone(room):
    first, again, other = (record(*start_tour(room, PLACES, seed), seconds=20) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[:, :2] - other[:, :2]).max() > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_tours_through_clutter_never_get_stuck(seed):
    random = np.random.default_rng(seed)
    corners = random.uniform((0, 0), (WIDTH, DEPTH), (8, 2))
    boxes = [upright(rectangle(low, low + random.uniform(0.2, 0.8, 2)), 1.0) for low in corners]
    points = np.concatenate([room_points(), *boxes])
    places = random.uniform((0.3, 0.3), (WIDTH - 0.3, DEPTH - 0.3), (6, 2))
    space = FreeSpace.from_world(anchor_map(points), [keyframe(i, *place) for i, place in enumerate(places)])
    drive, pilot = start_tour(space, places, seed, yaw=random.uniform(-3, 3))
    before = record(drive, pilot, 20)
    for v, w in random.uniform((-0.5, -1), (0.5, 1), (5, 2)):  # somebody else takes the wheel and leaves it anywhere
        for _ in range(100):
            drive.step(v, w, DT)
        assert space.is_free(drive.x, drive.y)
    after = record(drive, pilot, 40)
    xy = np.concatenate([before, after])[:, :2]
    assert obstacle_tree(points, 0.1, 1.3).query(xy)[0].min() >= space.robot_radius
    for part in np.array_split(after[:, :2], 4):
        assert np.ptp(part, axis=0).max() > 0.2, "10 s without getting anywhere"
