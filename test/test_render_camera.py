"""`worldfm render` with a camera file: pictures through a lens, which a reader takes the lens out of again."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import room_poses, room_world
import yaml

from worldfm_ros.cli.render import render
from worldfm_ros.sources.rgbd_folder import RgbdFolder, write_poses
from worldfm_ros.world.storage import write_world

K = [100.0, 0.0, 79.5, 0.0, 100.0, 59.5, 0.0, 0.0, 1.0]
LENSES = {"plumb_bob": [-0.28, 0.09, 8e-4, -5e-4, 0.0], "equidistant": [0.01, -0.01, 0.0, 0.0]}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A room, and a poses file."""
    folder = tmp_path_factory.mktemp("stage")
    write_world(room_world(), folder / "world")
    write_poses(dict(enumerate(room_poses(3))), folder / "poses.txt")
    return folder


def rendered(stage, out, **camera) -> RgbdFolder:
    data = {"width": 160, "height": 120, "K": K} | camera
    (stage / "camera.yaml").write_text(yaml.safe_dump(data))
    render(stage / "world", trajectory=(stage / "poses.txt",), camera=stage / "camera.yaml", model="anchors", out=out)
    return RgbdFolder(out)


@pytest.mark.parametrize("model", LENSES)
def test_a_folder_of_bent_pictures_is_rectified_by_its_reader(stage, tmp_path, model):
    plain = rendered(stage, tmp_path / "plain")
    bent = rendered(stage, tmp_path / "bent", distortion_model=model, D=LENSES[model])
    assert (bent.distortion.model, list(bent.distortion.D)) == (model, LENSES[model])
    for a, b in zip(plain, bent, strict=True):
        both = (b.depth > 0) & (a.depth > 0) & (b.scene if b.scene is not None else True)
        assert both.mean() > 0.6
        assert np.abs(a.rgb[both].astype(int) - b.rgb[both]).mean() < 3
        assert np.median(np.abs(a.depth[both] - b.depth[both])) < 0.01
        assert not np.array_equal(a.rgb, b.rgb)


def test_the_file_says_how_a_picture_is_taken(stage, tmp_path):
    plain = rendered(stage, tmp_path / "plain")
    noisy = [rendered(stage, tmp_path / name, sensor={"full_well": 2000.0}) for name in ("a", "b")]
    frames = [folder[1].rgb for folder in (plain, *noisy)]
    assert np.array_equal(frames[1], frames[2])
    assert 1 < np.abs(frames[0].astype(int) - frames[1]).mean() < 10
    with pytest.raises(ValueError, match=r"camera.yaml: there is no sensor setting 'noise'"):
        rendered(stage, tmp_path / "c", sensor={"noise": 1})
    with pytest.raises(ValueError, match=r"camera.yaml: vignette"):
        rendered(stage, tmp_path / "c", sensor={"vignette": 3})
