"""The renderer in torch equals the one for the CPU; on a GPU where there is one."""

import math

from hypothesis import given, settings
import numpy as np
import pytest
from scenes import room_world
from test_renderer import assert_equal, scenes
import torch

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.torch_renderer import TorchRenderer
from worldfm_ros.world.renderer import render

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
CAMERA = Intrinsics.from_hfov(160, 120, math.radians(70))
VIEWS = [Pose.looking_at([0.3, -0.2, 1.0], [2.0, 0.7, 0.9]), Pose.looking_at([-0.6, 0.1, 1.4], [0.2, -1.5, 0.8])]


@pytest.fixture(scope="module")
def world():
    return room_world(12, voxel=0.04)


@pytest.mark.parametrize("device", DEVICES)
def test_a_room_is_the_same(world, device):
    renderer = TorchRenderer(device)
    for view in VIEWS * 2:
        tiles = world.anchors.visible(view, CAMERA)
        ours, theirs = renderer.render(tiles, view, CAMERA), render(tiles, view, CAMERA)
        assert ours.coverage.mean() > 0.5
        assert_equal(ours, theirs)


@settings(max_examples=20, deadline=None)
@given(scenes())
def test_any_scene_is_the_same_on_the_cpu(scene):
    assert_equal(TorchRenderer("cpu").render(*scene), render(*scene))


def test_nothing_is_nothing():
    view = TorchRenderer("cpu").render([], VIEWS[0], CAMERA)
    assert view.rgb.shape == (120, 160, 3) and not view.coverage.any() and view.labels.dtype == np.uint16
