"""A world from one picture: outward until the region is known; pictures and cameras that do not fit."""

from pathlib import Path
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
from scenes import HIGH, LOW, see_room
import yaml

from worldfm_ros.depth.completion import DenseDepth, checked
from worldfm_ros.depth.smooth import fitted
from worldfm_ros.geometry import T_BODY_OPTICAL, Intrinsics, Pose
from worldfm_ros.offline import ImageSettings, build, fitting_size, free, region
from worldfm_ros.painting.blend import Blend
from worldfm_ros.sources.image import read_picture
from worldfm_ros.world.anchors import MEASURED
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import render
from worldfm_ros.world.storage import read_world, write_world

ROOT = Path(__file__).parents[1]
CAMERA = Intrinsics.from_hfov(96, 72, 1.2)
STANDING = Pose.looking_at([-1.5, 0.0, 1.2], [1.0, 0.0, 1.2])
SETTINGS = ImageSettings(radius=0.0, width=96, voxel=0.02, turn=30.0)


class Ball:
    """Everything is 2 m away; known depth is fitted."""

    metric = needs_depth = False

    def complete(self, rgb, known, intrinsics):
        rays = intrinsics.unproject(np.ones((intrinsics.height, intrinsics.width)))
        guess = (2.0 / np.linalg.norm(rays, axis=-1)).astype(np.float32)
        depth = fitted(guess, checked(rgb, known, intrinsics), rgb)
        return DenseDepth(depth, np.full_like(depth, 0.7))


class InTheRoom(Ball):
    """The picture's depth is exact, the rest is completed."""

    def complete(self, rgb, known, intrinsics):
        if known is not None:
            return super().complete(rgb, known, intrinsics)
        depth = see_room(STANDING, intrinsics).depth
        return DenseDepth(depth, np.ones_like(depth))


def picture():
    row, column = np.mgrid[:72, :96]
    return np.stack([row * 3, column * 2, np.full_like(row, 90)], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def world():
    return build(picture(), CAMERA, "ball", Ball(), Blend(), SETTINGS)


def test_the_picture_is_in_it_as_it_is(world):
    view = render(world.anchors.visible(T_BODY_OPTICAL, CAMERA), T_BODY_OPTICAL, CAMERA)
    assert np.array_equal(world.keyframes[0].rgb, picture()) and view.coverage.mean() > 0.95
    assert np.abs(view.rgb[view.coverage].astype(int) - picture()[view.coverage]).mean() < 12
    assert not world.metric


def test_all_of_the_region_is_known_at_the_end_and_lies_where_it_should(world):
    known = [render(world.anchors.visible(pose, CAMERA), pose, CAMERA).coverage.mean() for pose in region(SETTINGS)]
    assert len(known) == 12 and min(known) > 0.93 and len(world.keyframes) <= 13
    points = np.concatenate([tile.world_points for tile in world.anchors.tiles])
    assert np.percentile(np.abs(np.linalg.norm(points, axis=1) - 2.0), 90) < 0.4


def test_every_anchor_tells_from_which_view_it_is_and_that_nobody_measured_it(world, tmp_path):
    write_world(world, tmp_path / "world")
    stored = read_world(tmp_path / "world")
    frames, sure = (np.concatenate([getattr(tile, name) for tile in stored.anchors.tiles])
                    for name in ("frames", "confidence"))
    assert set(frames) <= {keyframe.id for keyframe in stored.keyframes} and len(set(frames)) > 3
    points = np.concatenate([tile.world_points for tile in stored.anchors.tiles])
    *_, inside = stored.keyframes[0].lookup(points)
    assert (frames[inside] == 0).mean() > 0.9 and not inside[frames > 0].all(), "what the picture shows is from it"
    assert 0 < sure.min() and sure.max() < MEASURED


def test_a_room_goes_on_where_its_picture_ends():
    """With a scale the walls beside the picture stand where they do; without, what is invented is fog."""
    settings = ImageSettings(radius=0.0, sweep=60.0, turn=30.0, width=96, voxel=0.03)
    camera = Intrinsics.from_hfov(96, 72, 1.5)
    right = []
    for scale in (1.0, None):
        world = build(see_room(STANDING, camera).rgb, camera, "room", InTheRoom(), Blend(), settings, scale)
        new = [tile.world_points[tile.frames > 0] + STANDING.translation for tile in world.anchors.tiles]
        points = np.concatenate(new)
        points = points[points[:, 2] < HIGH[2] - 0.1]  # it shows no ceiling
        right.append(np.mean(np.min(np.abs(np.stack([points - LOW, points - HIGH])), axis=(0, 2)) < 0.05))
    assert right[0] > 0.8 and right[0] > right[1] + 0.2


def test_scale_makes_it_metric(tmp_path):
    small = ImageSettings(radius=0.0, sweep=0.0, width=96, voxel=0.05)
    world = build(picture(), CAMERA, "ball", Ball(), Blend(), small, scale=3.0)
    points = np.concatenate([tile.world_points for tile in world.anchors.tiles])
    assert world.metric and np.allclose(np.linalg.norm(points, axis=1), 6.0, atol=0.2)
    write_world(world, tmp_path / "world")
    assert read_world(tmp_path / "world").metric


def test_the_region_is_what_was_asked_for():
    assert len(region(ImageSettings(radius=0.5, step=0.5, sweep=60, turn=30))) == 5 * 5
    ahead = region(ImageSettings(radius=0.0, sweep=0.0))
    assert len(ahead) == 1 and np.allclose(ahead[0].rotation.as_matrix()[:, 2], [1, 0, 0])
    depth = np.full((72, 96), 0.4, np.float32)
    poses = region(ImageSettings(radius=0.5, step=0.5, sweep=0))
    kept = free(poses, Keyframe(0, picture(), depth, CAMERA, T_BODY_OPTICAL), depth)
    assert len(poses) - len(kept) == 1  # half a metre ahead there is a wall


@pytest.mark.parametrize("settings", [{"radius": -1}, {"step": 0}, {"sweep": 200}, {"turn": 1}, {"covered": 0},
                                      {"voxel": 0}, {"width": 4}, {"views": -1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="got"):
        ImageSettings(**settings)


def test_a_picture_without_pixels_is_refused_and_a_large_one_made_smaller(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(ValueError, match="dot.png is 1x1; .* 16 pixels wide"):
        read_picture(tmp_path / "dot.png", 60.0, None)
    rgb, camera = fitting_size(picture(), CAMERA, 48)
    assert rgb.shape == (36, 48, 3) and camera.hfov == pytest.approx(CAMERA.hfov)


def test_the_camera_is_told_once_and_fits_the_picture(tmp_path):
    file, camera = tmp_path / "a.png", tmp_path / "camera.yaml"
    Image.fromarray(picture()).save(file)
    told = {"width": 96, "height": 72, "K": CAMERA.matrix.ravel().tolist(), "distortion_model": "plumb_bob",
            "D": [0.1, 0, 0, 0, 0]}
    camera.write_text(yaml.safe_dump(told))
    rgb, intrinsics = read_picture(file, None, camera)
    assert np.allclose(intrinsics.matrix, CAMERA.matrix) and not np.array_equal(rgb, picture())
    assert np.array_equal(read_picture(file, 60.0, None)[0], picture())
    for hfov, given, words in ((None, None, "got none"), (60.0, camera, "got both"), (180.0, None, "--hfov")):
        with pytest.raises(ValueError, match=words):
            read_picture(file, hfov, given)
    camera.write_text(yaml.safe_dump(told | {"width": 90}))
    with pytest.raises(ValueError, match=r"camera.yaml.*90x72.*a.png is 96x72"):
        read_picture(file, None, camera)
    camera.write_text(yaml.safe_dump(told | {"distortion_model": "mystery"}))
    with pytest.raises(ValueError, match="mystery"):
        read_picture(file, None, camera)


def test_the_command_leaves_a_world(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    out = tmp_path / "world"
    command = [sys.executable, "-m", "worldfm_ros.cli.main", "world", "build", "image", str(tmp_path / "a.png"),
               "--out", str(out), "--model", "anchors", "--width", "96", "--views", "2", "--radius", "0"]
    done = subprocess.run([*command, "--hfov", "60", "--depth", "plane"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "scale is arbitrary" in done.stdout, done.stderr
    assert (out / "preview.png").exists() and len(read_world(out).keyframes) == 3
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 2 and "one of --hfov DEGREES and --camera FILE" in refused.stderr
