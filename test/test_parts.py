"""What each part of a model with a composer adds: the arms have what their names say, and are judged as by eval."""

from itertools import islice
import json
import sys

import numpy as np
import pytest
from scenes import room_poses, see_room, write_rgbd_folder
from tiny_models import tiny_model
import torch

from training.ablations import parts
from worldfm_ros.clips import LENGTH
from worldfm_ros.evaluation.degradation import Degradation
from worldfm_ros.evaluation.evaluate import likeness, paint
from worldfm_ros.evaluation.held_out import ClipViews, Photographs
from worldfm_ros.generator import load_model
from worldfm_ros.painting.learned import LearnedPainter
from worldfm_ros.sources.rgbd_folder import RgbdFolder


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    frames = [see_room(pose, index=i) for i, pose in enumerate(room_poses(72)[:LENGTH])]
    return write_rgbd_folder(tmp_path_factory.mktemp("scan") / "room", frames)


@pytest.fixture(scope="module")
def painter():
    return load_model("worldfm-tiny")


def test_arms_are_what_their_names_say(scan, painter):
    view = next(iter(ClipViews(Photographs(RgbdFolder(scan), 48, 44), Degradation())))
    truth = view.photograph
    given = view.drawing, view.references, truth.T_world_camera, truth.intrinsics
    pictures = {name: arm.paint(*given) for name, arm in parts.arms_of(painter).items()}
    judged = paint(view, painter).pictures
    assert len(view.references) > 3
    np.testing.assert_array_equal(pictures["blend of 4"], judged["baseline"])
    np.testing.assert_array_equal(pictures["the student only for what is unknown"], judged["model"])
    assert len({picture.tobytes() for picture in pictures.values()}) >= len(pictures) - 3  # the student changes little


def test_a_teacher_is_asked_in_the_same_views(scan, painter):
    """A teacher that is the student: each pair of arms differs by its steps alone."""
    view = next(iter(ClipViews(Photographs(RgbdFolder(scan), 48, 44), Degradation())))
    truth = view.photograph
    given = view.drawing, view.references, truth.T_world_camera, truth.intrinsics
    arms = parts.arms_with(painter.model, painter)
    assert [arm.model.settings.steps for arm in arms.values()] == [20, 1, 2, 20]
    assert [arm.model.composer is None for arm in arms.values()] == [False, True, True, True]
    pictures = {arm.paint(*given).tobytes() for arm in arms.values()}
    assert len(pictures) == len(arms)


def test_without_latents_the_student_tells_nothing(painter):
    blind, channels = parts.without_latents(painter.model.composer), painter.model.composer.config.latent_channels
    latents = torch.randn(1, channels, 8, 8, dtype=blind.dtype)
    assert not blind.enter(latents).any() and painter.model.composer.enter(latents).any()


def test_a_model_without_a_composer_has_no_such_parts():
    with pytest.raises(ValueError, match="tiny has none"):
        parts.arms_of(LearnedPainter(tiny_model()))


def test_the_command_writes_what_eval_would(scan, painter, tmp_path, monkeypatch, capsys):
    views = list(islice(ClipViews(Photographs(RgbdFolder(scan), 48, 44), Degradation()), 1))
    monkeypatch.setattr(parts, "arms_of", lambda _: {"the model": painter})
    monkeypatch.setattr(parts.Protocol, "find", lambda *_: views)
    monkeypatch.setattr(sys, "argv", ["parts", str(scan), "--clips", "16", "--json", str(tmp_path / "parts.json")])
    assert parts.main() == 0
    written = json.loads((tmp_path / "parts.json").read_text())
    row = written["arms"]["the model"]
    assert written["views"] == 1 and row.pop("ms") > 0
    assert row == likeness(views[0], paint(views[0], painter).pictures["model"])
    assert "the model" in capsys.readouterr().out
