"""Ways through a world: nothing is in the way, they go where they say, and a seed makes them again."""

import cv2
import numpy as np
import pytest
from scenes import room_poses, room_world
from tf_bags import write_tf_bag

from worldfm_ros import trajectories
from worldfm_ros.cli import trajectory
from worldfm_ros.sources.rgbd_folder import read_poses
from worldfm_ros.trajectories import Ground, top_view
from worldfm_ros.world.storage import write_world

WORLD = room_world(12, voxel=0.05)


@pytest.fixture(scope="module")
def ground():
    return Ground.of(WORLD, rate=5.0)


WAYS = {
    "orbit": lambda ground, seed: trajectories.orbit(ground),
    "spline": lambda ground, seed: trajectories.spline(ground, 4, seed),
    "coverage": lambda ground, seed: trajectories.coverage(ground, seed),
    "random-walk": lambda ground, seed: trajectories.random_walk(ground, WORLD, 20.0, seed),
}


def places(poses):
    return np.array([pose.translation for pose in poses])


@pytest.mark.parametrize("name", WAYS)
def test_nothing_is_in_the_way(ground, name):
    poses = WAYS[name](ground, 1)
    at = places(poses)
    assert ground.space.is_free(*at[:, :2].T).all()
    assert np.allclose(at[:, 2], ground.space.floor + ground.height)
    down = np.array([pose.rotation.apply([0.0, 1.0, 0.0]) for pose in poses])
    assert np.allclose(down, [0, 0, -1]), "level"
    assert np.linalg.norm(np.diff(at, axis=0), axis=1).max() < 0.5
    again = WAYS[name](ground, 1)
    assert np.array_equal(at, places(again))
    if name != "orbit":
        assert not np.array_equal(at[-1], places(WAYS[name](ground, 2))[-1])


def test_an_orbit_looks_at_its_centre(ground):
    poses = trajectories.orbit(ground, (0.1, -0.1), 0.4)
    for pose in poses:
        forward = pose.rotation.apply([0.0, 0.0, 1.0])
        assert np.allclose((pose.translation + 0.4 * forward)[:2], [0.1, -0.1])
    with pytest.raises(ValueError, match="leads through something: .* the first at x"):
        trajectories.orbit(ground, (0.0, 0.0), 1.9)


def test_a_coverage_passes_every_free_place(ground):
    at = places(trajectories.coverage(ground, 0))[:, :2]
    free = ground.space.centre(np.argwhere(ground.space.roomy))
    nearest = np.linalg.norm(free[:, None] - at[None], axis=2).min(axis=1)
    assert nearest.max() < trajectories.REACH + 0.1


def test_the_view_from_above_shows_the_way(ground):
    poses = trajectories.orbit(ground, (0.0, 0.0), 0.5)
    picture, empty = top_view(ground.space, poses), top_view(ground.space, poses[:1])
    drawn = np.argwhere((picture != empty).any(axis=2))
    rows, columns = drawn.T
    cell = ground.space.resolution / trajectories.PIXELS
    y = ground.space.origin[1] + (picture.shape[0] - 1 - rows) * cell
    x = ground.space.origin[0] + columns * cell
    assert abs(np.hypot(x, y) - 0.5).max() < 0.3


def test_commands_write_poses_and_a_picture(tmp_path, capsys):
    write_world(WORLD, tmp_path / "world")
    poses = room_poses(12)
    write_tf_bag(tmp_path / "drive", poses)
    trajectory.from_bag(tmp_path / "world", tmp_path / "bag.txt", bag=tmp_path / "drive")
    read = read_poses(tmp_path / "bag.txt")
    assert np.allclose(places(read.values()), places(poses)) and len(read) == 12
    trajectory.orbit(tmp_path / "world", tmp_path / "orbit.txt")
    trajectory.spline(tmp_path / "world", tmp_path / "spline.txt")
    assert capsys.readouterr().out.count("100% where the robot may be") == 3
    assert cv2.imread(str(tmp_path / "orbit.png")).ndim == 3
    with pytest.raises(FileExistsError):
        trajectory.random_walk(tmp_path / "world", tmp_path / "orbit.txt")
    with pytest.raises(ValueError, match="--goals"):
        trajectory.spline(tmp_path / "world", tmp_path / "none.txt", goals=0)
