"""The generator with the model of geometry alone."""

from pathlib import Path
import re
import subprocess
import sys

import numpy as np
import pytest
from scenes import CAMERA, color_of, room_world, see_room

from worldfm_ros.generator import FrameGenerator, load_generator, load_model
from worldfm_ros.geometry import Pose
from worldfm_ros.painting.blend import Blend, inpaint
from worldfm_ros.painting.guide import find_surface
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView
from worldfm_ros.world.storage import World, write_world

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world():
    return room_world(24, voxel=0.04)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


VIEWS = [Pose.looking_at([0.3, -0.2, 1.0], [2.0, 0.7, 0.9]), Pose.looking_at([-0.6, 0.1, 1.4], [0.2, -1.5, 0.8])]


@pytest.mark.parametrize("view", VIEWS, ids=["wall", "corner"])
def test_a_new_view_looks_like_the_room(world, view):
    frame = load_generator(world).generate(view, CAMERA)
    truth = see_room(view)
    assert frame.coverage.mean() > 0.7
    assert psnr(frame.rgb, truth.rgb) > 28
    seen = frame.coverage
    assert np.quantile(np.abs(frame.depth - truth.depth)[seen], 0.95) < 0.05
    assert np.mean(frame.labels[seen] == truth.labels[seen]) > 0.95
    assert frame.reference_id in {keyframe.id for keyframe in world.keyframes}
    assert not frame.depth[~seen].any() and not frame.labels[~seen].any()


def test_what_no_anchor_covers_comes_from_the_reference(world):
    """With a hole cut into the map, the reference's photograph fills it better than inpainting does."""
    view, truth = VIEWS[0], see_room(VIEWS[0])
    anchors = AnchorMap()
    for tile in world.anchors.tiles:
        points = tile.world_points
        kept = np.linalg.norm(points - [2.0, 0.7, 0.9], axis=1) > 0.6
        anchors.insert(points[kept], tile.colors[kept], radius=tile.radius[kept])
    holed = World("holed", anchors, world.keyframes, world.spacing)
    with_reference = load_generator(holed).generate(view, CAMERA)
    without = load_generator(World("blind", anchors, [], world.spacing)).generate(view, CAMERA)
    hole = ~with_reference.coverage
    assert hole.mean() > 0.05 and without.reference_id is None
    assert psnr(with_reference.rgb[hole], truth.rgb[hole]) > psnr(without.rgb[hole], truth.rgb[hole]) + 3
    assert psnr(with_reference.rgb[~hole], truth.rgb[~hole]) > psnr(without.rgb[~hole], truth.rgb[~hole])
    assert with_reference.reference_ids[0] == with_reference.reference_id and len(with_reference.reference_ids) == 3


def test_the_reference_does_not_paint_what_it_sees_in_front():
    """A keyframe with an occluder between it and the hole must not lend the occluder's colour."""
    frame = see_room(Pose.looking_at([0, 0, 1.2], [2, 0, 1.2]))
    rgb, depth = frame.rgb.copy(), frame.depth.copy()
    rgb[20:40, 30:50], depth[20:40, 30:50] = (255, 0, 255), 0.5
    keyframe = Keyframe(0, rgb, depth, frame.intrinsics, frame.T_world_camera)
    coverage = np.ones((60, 80), bool)
    coverage[15:45, 25:55] = False
    drawing = AnchorView(
        np.where(coverage[..., None], frame.rgb, 0).astype(np.uint8),
        np.where(coverage, frame.depth, 0),
        np.zeros((60, 80), np.uint16),
        coverage,
    )
    painted = Blend().paint(drawing, [keyframe], frame.T_world_camera, frame.intrinsics)
    assert not np.any(np.all(painted == (255, 0, 255), axis=2))
    ring = ~coverage & (depth == frame.depth)
    assert np.abs(painted[ring].astype(int) - frame.rgb[ring]).max() <= 3


def test_a_view_of_nothing_is_black_and_says_so(world):
    frame = load_generator(world).generate(Pose.looking_at([50, 0, 1], [60, 0, 1]), CAMERA)
    assert not frame.rgb.any() and not frame.coverage.any() and frame.reference_id is None


def test_holes_take_the_depth_of_their_rim():
    coverage = np.zeros((9, 20), bool)
    coverage[:, :3], coverage[:, -3:] = True, True
    depth = np.where(coverage, np.where(np.arange(20) < 10, 1.0, 4.0), 0).astype(np.float32)
    drawing = AnchorView(np.zeros((9, 20, 3), np.uint8), depth, np.zeros((9, 20), np.uint16), coverage)
    filled = find_surface(drawing).depth
    np.testing.assert_allclose(filled[:, :9], 1.0, rtol=1e-5)
    np.testing.assert_allclose(filled[:, 12:], 4.0, rtol=1e-5)


def test_inpainting_keeps_what_is_there():
    rgb = color_of(np.random.default_rng(0).uniform(-1, 1, (20, 30, 3)))
    holes = np.zeros((20, 30), bool)
    holes[5:9, 5:9] = True
    filled = inpaint(rgb, holes)
    np.testing.assert_array_equal(filled[~holes], rgb[~holes])
    assert np.any(filled[holes] != rgb[holes])


def test_the_same_pose_gives_the_same_bytes_in_a_fresh_process(world, tmp_path):
    write_world(world, tmp_path / "w")
    code = """
import hashlib, sys; sys.path.insert(0, sys.argv[2])
from scenes import CAMERA
from test_generator import VIEWS
from worldfm_ros.generator import load_generator
from worldfm_ros.world.storage import read_world
generator = load_generator(read_world(sys.argv[1]))
frames = [generator.generate(view, CAMERA) for view in [VIEWS[1], *VIEWS]]
print(*(hashlib.sha256(f.rgb.tobytes() + f.depth.tobytes()).hexdigest() for f in frames))
"""
    runs = {
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "w", Path(__file__).parent],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1
    first, _, again = runs.pop().split()
    assert first == again


def test_an_unknown_model_is_refused(world):
    with pytest.raises(ValueError, match="there is no model 'dalle'.*anchors"):
        load_generator(world, "dalle")


def test_any_frame_model_plugs_in(world):
    class Grey:
        def paint(self, drawing, references, T_world_camera, intrinsics):
            return np.full((intrinsics.height, intrinsics.width, 3), 128, np.uint8)

    frame = FrameGenerator(world, Grey()).generate(VIEWS[0], CAMERA)
    assert np.all(frame.rgb == 128) and frame.coverage.any()


@pytest.mark.parametrize("page", ["README.md", "docs/frame_model.md", "docs/evaluation.md"])
def test_the_examples_of_the_documentation_run(page, world, tmp_path, monkeypatch):
    """In a folder with the world that they speak of."""
    write_world(world, tmp_path / "my_world")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), {})


def test_a_preset_is_checked_also_where_it_has_no_effect():
    assert isinstance(load_model("anchors", preset="fast"), Blend)
    with pytest.raises(ValueError, match="preset is one of exact, fast, got 'turbo'"):
        load_model("anchors", preset="turbo")
