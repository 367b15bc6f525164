"""`worldfm world map`: read back by the rules of Nav2's map_server, written here from its documentation alone."""

import itertools

import numpy as np
from PIL import Image
import pytest
from scipy.spatial.transform import Rotation
from test_drive import PLACES, anchor_map, keyframe, level, room_points
import yaml

from worldfm_ros.cli.world import occupancy_map
from worldfm_ros.drive.free_space import FreeSpace
from worldfm_ros.drive.robot import DifferentialDrive, Pilot, tour
from worldfm_ros.geometry import Pose
from worldfm_ros.world.gravity import check_gravity_aligned
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.storage import World, read_world, write_world

ROBOT = {"robot_radius": 0.25, "robot_height": 0.6, "resolution": 0.04}


def load_map(file):
    """(grid (R, C) of 0 free, 100 occupied, -1 unknown, row 0 lowest y; x and y of the cells' centres), as map_server.
    """
    told = yaml.safe_load(file.read_text())
    assert told["mode"] == "trinary"
    pixels = np.asarray(Image.open(file.parent / told["image"]).convert("L"), float)
    occupied = pixels / 255 if told["negate"] else (255 - pixels) / 255
    grid = np.full(pixels.shape, -1)
    grid[occupied > told["occupied_thresh"]] = 100
    grid[occupied < told["free_thresh"]] = 0
    x, y, yaw = told["origin"]
    assert yaw == 0.0
    rows, columns = grid.shape
    return (grid[::-1], x + (np.arange(columns)[None] + 0.5) * told["resolution"],
            y + (np.arange(rows)[:, None] + 0.5) * told["resolution"])


def make_world(points, keyframes):
    return World("room", anchor_map(points), keyframes, 0.04)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A room of which one corner was not seen, as a world folder."""
    points = room_points(floor=0.3)
    points = points[~((points[:, 0] > 5.0) & (points[:, 1] < 1.2))]
    folder = tmp_path_factory.mktemp("room") / "world"
    write_world(make_world(points, [keyframe(i, *place, z=1.5) for i, place in enumerate(PLACES)]), folder)
    return folder


def space_of(folder, **robot):
    world = read_world(folder)
    return FreeSpace.from_world(world.anchors, world.keyframes, **robot)


@pytest.mark.parametrize("robot", [{}, ROBOT], ids=["demo robot", "another"])
def test_free_is_exactly_where_the_robot_may_be(room, tmp_path, robot):
    occupancy_map(room, tmp_path / "map.yaml", **robot)
    grid, x, y = load_map(tmp_path / "map.yaml")
    space = space_of(room, **robot)
    np.testing.assert_array_equal(grid == 0, space.is_free(x, y))
    assert (grid == 0).sum() == space.free.sum() > 1000
    outside = np.array([[x[0, 0] - 0.1, y[0, 0]], [x[0, -1] + 0.1, y[-1, 0]], [x[0, 0], y[-1, 0] + 0.1]])
    assert not space.is_free(*outside.T).any() and np.isneginf(space.clearance(*outside.T)).all()


def test_the_demo_robot_drives_on_free_cells_alone(room, tmp_path):
    occupancy_map(room, tmp_path / "map.yaml")
    grid, x, y = load_map(tmp_path / "map.yaml")
    space = space_of(room)
    drive = DifferentialDrive.at_keyframe(space, keyframe(0, *PLACES[0]))
    pilot = Pilot(drive, tour(space, PLACES, seed=1))
    driven = []
    for _ in itertools.repeat(None, 1000):
        drive.step(*pilot.command(), 0.05)
        driven.append((drive.x, drive.y))
    columns = np.abs(np.array(driven)[:, 0, None] - x).argmin(1)
    rows = np.abs(np.array(driven)[:, 1, None] - y[:, 0]).argmin(1)
    assert (grid[rows, columns] == 0).all() and len(set(zip(rows, columns, strict=True))) > 100


def test_obstacles_are_occupied_and_where_no_robot_gets_is_unknown(room, tmp_path):
    occupancy_map(room, tmp_path / "map.yaml", **ROBOT)
    grid, x, y = load_map(tmp_path / "map.yaml")
    points = np.concatenate([tile.world_points for tile in read_world(room).anchors.tiles])
    height = points[:, 2] - 0.3
    inside = (np.abs(points[:, 0] - 3.0) < 2.9) & (np.abs(points[:, 1] - 2.0) < 1.9)
    step = ROBOT["resolution"]

    def cells(chosen):
        columns, rows = np.floor((points[chosen, :2] - [x[0, 0] - step / 2, y[0, 0] - step / 2]) / step).astype(int).T
        return grid[rows, columns]

    assert (cells(inside & (height > 0.15) & (height < 0.55)) == 100).all()
    occupied = np.argwhere(grid == 100)
    places = np.c_[x[0, occupied[:, 1]], y[occupied[:, 0], 0]]
    obstacles = points[(height > 0.1) & (height < 0.6), :2]
    assert (np.abs(places[:, None] - obstacles[None]).max(2).min(1) <= step / 2 + 1e-6).all()
    assert (grid[(np.abs(x - 3.0) < 0.3) & (np.abs(y - 1.5) < 0.3)] == -1).all(), "inside the box, where nobody gets"
    known = np.abs(y - 2.0) + np.abs(x - 3.0) > 1.5
    strip = ROBOT["robot_radius"] + 3 * step
    assert (space_of(room, **ROBOT).clearance(x, y)[(grid == -1) & known] < strip).all(), "else along obstacles alone"


def test_both_kinds_of_negate_say_the_same(room, tmp_path):
    occupancy_map(room, tmp_path / "map.yaml")
    grid, *_ = load_map(tmp_path / "map.yaml")
    assert {*np.unique(grid)} == {-1, 0, 100}
    Image.fromarray(255 - np.asarray(Image.open(tmp_path / "map.pgm"))).save(tmp_path / "negative.pgm")
    told = yaml.safe_load((tmp_path / "map.yaml").read_text()) | {"image": "negative.pgm", "negate": 1}
    (tmp_path / "negative.yaml").write_text(yaml.safe_dump(told))
    np.testing.assert_array_equal(load_map(tmp_path / "negative.yaml")[0], grid)


def test_a_folder_is_made_and_nothing_is_written_over(room, tmp_path, capsys):
    occupancy_map(room, tmp_path / "map")
    assert sorted(file.name for file in (tmp_path / "map").iterdir()) == ["map.pgm", "map.yaml"]
    assert f"{space_of(room).free.sum()} free" in capsys.readouterr().out
    (tmp_path / "kept.pgm").write_text("mine")
    for out, named in (("map", "map exists"), ("kept.yaml", "kept.pgm exists")):
        with pytest.raises(FileExistsError, match=named):
            occupancy_map(room, tmp_path / out)
    assert (tmp_path / "kept.pgm").read_text() == "mine" and not (tmp_path / "kept.yaml").exists()
    with pytest.raises(FileNotFoundError, match="no folder"):
        occupancy_map(room, tmp_path / "none" / "map.yaml")


@pytest.mark.parametrize("robot, message", [
    ({"resolution": 0.0}, "resolution above 0"), ({"resolution": float("nan")}, "resolution above 0"),
    ({"resolution": 1e-6}, "too fine"), ({"robot_radius": -1.0}, "radius"), ({"robot_height": 0.0}, "height above"),
    ({"robot_radius": 4.0}, "fits nowhere"),
])
def test_numbers_that_make_no_map_leave_none(room, tmp_path, robot, message):
    with pytest.raises(ValueError, match=message):
        occupancy_map(room, tmp_path / "map", **robot)
    assert not (tmp_path / "map").exists()


def test_a_world_without_floor_or_keyframes_is_refused(tmp_path):
    for name, world, message in (
        ("ceiling", make_world(level((0, 0), (3, 3), 2.0), [keyframe(0, 1, 1)]), "no floor"),
        ("unseen", make_world(room_points(), []), "keyframes"),
    ):
        write_world(world, tmp_path / name)
        with pytest.raises(ValueError, match=message):
            occupancy_map(tmp_path / name, tmp_path / "map")
    assert not (tmp_path / "map").exists()


def turned(rotation, roll=0.0):
    """The room and its cameras in a frame that is turned; cameras rolled about their axis first."""
    about, held = Rotation.from_euler("xyz", rotation, degrees=True), Rotation.from_euler("z", roll, degrees=True)
    keyframes = [keyframe(i, *place) for i, place in enumerate(PLACES)]
    poses = [Pose(about * k.T_world_camera.rotation * held, about.apply(k.T_world_camera.translation))
             for k in keyframes]
    return anchor_map(about.apply(room_points())), [Keyframe(k.id, k.rgb, k.depth, k.intrinsics, pose)
                                                    for k, pose in zip(keyframes, poses, strict=True)]


@pytest.mark.parametrize("rotation, message", [
    ((10, 0, 0), "slopes by 10 degrees"), ((0, -25, 40), "slopes by 25 degrees"), ((180, 0, 30), "upside down"),
])
def test_a_frame_that_is_not_gravity_aligned_is_refused(rotation, message):
    with pytest.raises(ValueError, match=message):
        check_gravity_aligned(*turned(rotation))


@pytest.mark.parametrize("roll", [0, 90, -90], ids=["upright", "portrait", "other portrait"])
def test_cameras_may_be_held_on_their_side(roll):
    check_gravity_aligned(*turned((1, 0, 70), roll))
