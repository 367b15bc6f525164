"""A world from a panorama: a room whose walls are known, bad files, and a panorama without distances."""

from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
from PIL import Image
import pytest

from worldfm_ros.depth.completion import DenseDepth
from worldfm_ros.sources.panorama import Panorama, filled, read_distances, read_panorama
from worldfm_ros.world.builders.panorama import (
    PanoramaSettings,
    at_edges,
    build,
    camera,
    crop,
    directions,
    estimated,
    pixels,
    reference_poses,
)
from worldfm_ros.world.renderer import render
from worldfm_ros.world.storage import read_world

LOW, HIGH = np.array([-2.0, -1.5, -1.2]), np.array([3.0, 2.5, 1.4])  # of the room, around the panorama's place
ROOT = Path(__file__).parents[1]


def room(height=128) -> Panorama:
    """A box from inside; colours are those of the place on the walls."""
    rays = directions(height, 2 * height)
    with np.errstate(divide="ignore"):
        distance = np.where(rays > 0, HIGH / rays, np.where(rays < 0, LOW / rays, np.inf)).min(-1)
    share = (rays * distance[..., None] - LOW) / (HIGH - LOW)
    return Panorama(np.rint(255 * share.clip(0, 1)).astype(np.uint8), distance.astype(np.float32))


def off_the_walls(points: np.ndarray) -> np.ndarray:
    """Metres from each point to the nearest wall."""
    return np.minimum(np.abs(points - LOW), np.abs(points - HIGH)).min(-1)


def test_pixels_are_the_inverse_of_directions():
    rays = 3.0 * directions(32, 64)[1:]  # at the pole all columns are one
    column, row = pixels(rays, 32, 64)
    assert np.allclose(column % 64, np.arange(64)) and np.allclose(row, np.arange(1, 32)[:, None])
    ahead = directions(32, 64)[16, 32]
    assert np.allclose(ahead, [1, 0, 0]) and directions(32, 64)[16, 16][1] > 0.99  # the left half is to the left


def test_there_are_42_references_that_show_all():
    poses = reference_poses()
    assert len(poses) == 42 and camera(504).fx == 320 and camera(504).cx == 252
    rays, seen = directions(64, 128), np.zeros((64, 128), bool)
    for pose in poses:
        local = rays @ pose.rotation.as_matrix()
        seen |= (local[..., 2] > 0) & (np.abs(local[..., :2]).max(-1) < local[..., 2] * 252 / 320)
    assert seen.all()
    assert np.allclose(poses[2].rotation.as_matrix()[:, 2], [0, -1, 0], atol=1e-9)  # 90 degrees to the right


def test_a_known_room_is_built_where_it_is():
    world = build(room(256), "room", PanoramaSettings(voxel=0.02, crop=96))
    points = np.concatenate([tile.world_points for tile in world.anchors.tiles])
    assert np.percentile(off_the_walls(points), 99) < 0.01 and off_the_walls(points).max() < 0.05
    assert np.allclose(world.anchors.bounds, [LOW, HIGH], atol=0.06) and world.metric
    keyframe = world.keyframes[1]
    view = render(world.anchors.visible(keyframe.T_world_camera, keyframe.intrinsics), keyframe.T_world_camera,
                  keyframe.intrinsics)
    assert view.coverage.mean() > 0.99
    assert np.median(np.abs(view.depth / keyframe.depth - 1)) < 0.01
    assert np.abs(view.rgb.astype(int) - keyframe.rgb).mean() < 3


def test_what_floats_between_two_surfaces_is_no_anchor():
    distance = np.full((32, 64), 4.0, np.float32)
    distance[:, 20:40], distance[:, 40] = 2.0, 3.0
    assert at_edges(distance, 0.1)[:, 40].all() and np.count_nonzero(at_edges(distance, 0.1)) == 32


def test_nothing_measured_is_as_far_as_the_farthest():
    assert np.array_equal(filled(np.float32([[0, 1], [np.inf, 3]])), np.float32([[3, 1], [3, 3]]))


@pytest.mark.parametrize(("name", "make", "words"), [
    ("square.png", lambda p: Image.new("RGB", (64, 64)).save(p), "twice as wide as high"),
    ("tiny.png", lambda p: Image.new("RGB", (2, 1)).save(p), "twice as wide as high"),
    ("text.png", lambda p: p.write_text("no"), "not a readable image")])
def test_what_is_no_panorama_is_refused_by_name(tmp_path, name, make, words):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=words) as raised:
        read_panorama(tmp_path / name)
    assert name in str(raised.value)


@pytest.mark.parametrize(("array", "words"), [
    (np.ones((32, 32), np.float32), "twice as wide"), (np.zeros((32, 64), np.float32), "no distance above 0"),
    (np.ones((32, 64), int), "floating point"), (np.ones((2, 32, 64), np.float32), "floating point")])
def test_what_is_no_map_of_distances_is_refused_by_name(tmp_path, array, words):
    np.save(tmp_path / "far.npy", array)
    with pytest.raises(ValueError, match=words) as raised:
        read_distances(tmp_path / "far.npy", 32)
    assert "far.npy" in str(raised.value)


def test_maps_of_both_kinds_and_of_another_size_are_read(tmp_path):
    distance = room(32).distance
    np.save(tmp_path / "far.npy", distance)
    cv2.imwrite(str(tmp_path / "far.png"), np.rint(distance * 500).astype(np.uint16))
    assert np.array_equal(read_distances(tmp_path / "far.npy", 32), distance)
    assert np.abs(read_distances(tmp_path / "far.png", 32, units=500.0) - distance).max() < 0.0011
    large = read_distances(tmp_path / "far.npy", 64)
    assert large.shape == (64, 128) and np.median(np.abs(large / room(64).distance - 1)) < 0.03


class Knowing:
    """Completes to the room's own depth."""

    metric = True

    def complete(self, rgb, known, intrinsics):
        pose = next(self.poses)
        truth = crop(room(256), pose, intrinsics, 0).depth
        return DenseDepth(truth, np.ones_like(truth))


def test_distances_are_put_together_from_crops():
    completer = Knowing()
    completer.poses = iter(reference_poses())
    panorama = room(64)
    far = estimated(panorama.rgb, completer)
    assert far.shape == (64, 128) and (far > 0).all()
    assert np.percentile(np.abs(far / panorama.distance - 1), 95) < 0.03


def worldfm(*arguments):
    return subprocess.run([sys.executable, "-m", "worldfm_ros.cli.main", *map(str, arguments)], capture_output=True,
                          text=True, cwd=ROOT)


def test_the_command_leaves_a_world_and_its_preview(tmp_path):
    panorama, out = room(64), tmp_path / "world"
    Image.fromarray(panorama.rgb).save(tmp_path / "room.png")
    np.save(tmp_path / "far.npy", panorama.distance)
    command = ("world", "build", "panorama", tmp_path / "room.png", "--out", out)
    done = worldfm(*command, "--distance", tmp_path / "far.npy", "--voxel", 0.05, "--crop", 64)
    assert done.returncode == 0 and "42 keyframes" in done.stdout, done.stderr
    assert "arbitrary" not in done.stdout and read_world(out).metric
    assert Image.open(out / "preview.png").size[0] > 400
    unknown = worldfm(*command)
    assert unknown.returncode == 2 and "room.png has no depth; name who estimates it with --depth" in unknown.stderr
    bad = worldfm(*command, "--scale", 0)
    assert bad.returncode == 2 and "--scale is metres a unit" in bad.stderr
