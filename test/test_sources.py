"""One recording in every form that is read: the same frames, world, figures and clips, by the same commands."""

from __future__ import annotations

import json
from pathlib import Path
import re
import sys

import numpy as np
import pytest
from scenes import CAMERA, write_rgbd_folder
from scipy.spatial import KDTree
from test_clip_sources import FRAMES, assert_frames, bag_messages, transforms, write_bag, write_colmap_text

from worldfm_ros.cli.main import main
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.open import open_frames
from worldfm_ros.sources.sources import open_source
from worldfm_ros.world.storage import read_world

VOXEL = 0.05


def as_transforms(path: Path) -> Path:
    return transforms(write_rgbd_folder(path, FRAMES))


def as_colmap(path: Path) -> Path:
    write_colmap_text(write_rgbd_folder(path, FRAMES) / "sparse" / "0")
    (path / "rgb").rename(path / "images")
    return path


FORMS = {
    "rgbd": lambda path: write_rgbd_folder(path, FRAMES),
    "transforms": as_transforms,
    "colmap": as_colmap,
    "bag": lambda path: write_bag(path, bag_messages()),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recordings")
    return {form: write(folder / form) for form, write in FORMS.items()}


def worldfm(monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["worldfm", *map(str, words)])
    assert main() == 0


@pytest.mark.parametrize("form", FORMS)
def test_it_is_found_and_tells_what_every_source_tells(recordings, form):
    frames = open_frames(recordings[form])
    assert isinstance(frames, PosedFrames) and frames.has_depth and not frames.skipped and frames.name
    assert np.allclose(frames.camera.matrix, CAMERA.matrix) and frames.camera == frames[0].intrinsics
    assert all(path.exists() for path in frames.files())
    assert frames.fingerprint == open_frames(recordings[form]).fingerprint
    assert_frames(frames)
    with pytest.raises(IndexError):
        frames[len(FRAMES)]


@pytest.mark.parametrize("form", FORMS)
def test_a_world_is_built_of_it(recordings, form, tmp_path, monkeypatch, capsys):
    for name in ("rgbd", form):
        worldfm(monkeypatch, "world", "build", name, recordings[name], "--out", tmp_path / name, "--voxel", VOXEL)
    expected, world = (read_world(tmp_path / name) for name in ("rgbd", form))
    a, b = (np.concatenate([tile.world_points for tile in w.anchors.tiles]) for w in (expected, world))
    assert len(b) == pytest.approx(len(a), rel=0.01)
    assert np.quantile(KDTree(a).query(b)[0], 0.99) < VOXEL / 10
    assert world.metric == (form != "colmap")  # a reconstruction of pictures has a scale of its own
    assert len(world.keyframes) == len(expected.keyframes) and f"{len(b)} anchors" in capsys.readouterr().out


@pytest.mark.parametrize("form", FORMS)
def test_a_model_is_scored_on_it(recordings, form, tmp_path, monkeypatch):
    figures = {}
    for name in ("rgbd", form):
        worldfm(monkeypatch, "eval", recordings[name], "--clips", 16, "--model", "anchors", "--width", 48,
                "--height", 36, "--json", tmp_path / f"{name}.json")
        figures[name] = json.loads((tmp_path / f"{name}.json").read_text())["model"]["all"]
    assert figures[form] == pytest.approx(figures["rgbd"], rel=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_clips_are_cut_of_it(recordings, form):
    clips = open_source(recordings[form])
    assert len(clips) == 1 and clips.skipped == {"fewer than a clip at the end of a sequence": 1}
    assert_frames(clips[0].frames, FRAMES[:16])
    assert clips.fingerprint == open_frames(recordings[form]).fingerprint


def left_out(said: str) -> dict[str, int]:
    """Of 17 frames, by reason."""
    return {reason: int(count) for count, reason in re.findall(r"^left out: (\d+) of 17 frames: .*\((\w+)\)$", said,
                                                               re.MULTILINE)}


def test_what_the_bag_lacks_is_said(tmp_path, monkeypatch, capsys):
    write_bag(tmp_path / "bag", bag_messages(poses_of=range(3, 15)))
    worldfm(monkeypatch, "world", "build", "bag", tmp_path / "bag", "--out", tmp_path / "world", "--voxel", VOXEL)
    assert left_out(capsys.readouterr().err) == {"extrapolation_past": 3, "extrapolation_future": 2}
    worldfm(monkeypatch, "eval", tmp_path / "bag", "--hold-out", 4, "--voxel", VOXEL, "--model", "anchors",
            "--width", 48, "--height", 36, "--json", tmp_path / "figures.json")
    assert left_out(capsys.readouterr().err) == {"extrapolation_past": 3, "extrapolation_future": 2}
