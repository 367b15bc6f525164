"""Depth completers: known depth stays, planes are found, a picture's edge may be one of depth; the network; others."""

import json
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from worldfm_ros.cli.depth import bench_depth
from worldfm_ros.clips import RgbdFrame
from worldfm_ros.depth import completion, estimators
from worldfm_ros.depth import network as networks
from worldfm_ros.depth.completion import confidence_of, pulled, reduced, spread
from worldfm_ros.depth.find import load_completer
from worldfm_ros.depth.learned import LearnedCompleter
from worldfm_ros.depth.network import DepthNetwork
from worldfm_ros.depth.smooth import Plane, Smooth
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.rgbd_folder import write_rgbd_folder

CAMERA = Intrinsics.from_hfov(96, 72, 1.2)
SMALL = {"widths": (8, 12, 16), "blocks": (1, 1, 1)}


def floor(a=0.1, b=0.4, c=0.3):
    """Depth of a plane, whose inverse is linear over the picture."""
    row, column = np.mgrid[:72, :96] / 96.0
    return (1 / (a * column + b * row + c)).astype(np.float32)


def gray():
    return np.full((72, 96, 3), 128, np.uint8)


def known_half(depth):
    return depth * (np.arange(96) < 48)


def network(seed=0):
    torch.manual_seed(seed)
    made = DepthNetwork(**SMALL)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("depth") / "net"
    network().save_pretrained(place)
    return place


@pytest.mark.parametrize(("completer", "most"), [(Plane(), 0.001), (Smooth(), 0.2)])  # which levels out far away
def test_a_plane_that_is_half_known_is_found_whole(completer, most):
    truth = floor()
    found = completer.complete(gray(), known_half(truth), CAMERA)
    off = np.abs(found.depth / truth - 1)
    assert off.max() < most and off[:, :56].max() < 0.03
    assert np.array_equal(found.depth[:, :48], truth[:, :48])


def test_a_surface_breaks_where_the_picture_does():
    rgb, truth = gray(), np.full((72, 96), 1.0, np.float32)
    rgb[:, 48:], truth[:, 48:] = 255, 4.0
    known = np.zeros_like(truth)
    known[::12, 4::8] = truth[::12, 4::8]
    wrong, blind = (np.mean(np.abs(Smooth().complete(picture, known, CAMERA).depth / truth - 1) > 0.1)
                    for picture in (rgb, gray()))
    assert wrong < 0.06 and wrong < 0.6 * blind


@pytest.mark.parametrize("name", ["plane", "smooth", "net", "depth-tiny"])
def test_known_depth_stays_and_confidence_is_highest_there(name, folder):
    completer = load_completer(str(folder) if name == "net" else name)
    known = known_half(floor())
    found = completer.complete(gray(), known, CAMERA)
    assert np.array_equal(found.depth[:, :48], known[:, :48]) and (found.depth > 0).all()
    assert found.depth.dtype == found.confidence.dtype == np.float32
    assert found.confidence.min() >= 0 and found.confidence.max() <= 1
    assert found.confidence[:, :48].mean() > found.confidence[:, 48:].mean()


def test_pulled_has_no_seam_and_keeps_a_shape():
    truth = floor()
    guess = (2.5 * truth).astype(np.float32)
    assert np.allclose(pulled(guess, known_half(truth)), truth, rtol=1e-3)


def test_spread_of_nothing_is_nothing_and_both_kinds_are_one():
    rng = np.random.default_rng(0)
    for size in ((37, 52), (1, 9), (64, 64)):
        mask = rng.random(size) < 0.05
        values = rng.standard_normal(size).astype(np.float32) * mask
        ours = spread(values, mask)
        theirs = networks.spread(torch.from_numpy(values)[None, None], torch.from_numpy(mask)[None, None].float())
        assert np.array_equal(ours[mask], values[mask])
        if mask.any():
            assert values[mask].min() - 1e-5 <= ours.min() and ours.max() <= values[mask].max() + 1e-5
        inside = np.s_[: size[0] // 2 * 2 - 8, : size[1] // 2 * 2 - 8]  # borders of odd sizes are padded differently
        if min(size) > 8 and size[0] % 2 == 0:
            assert np.allclose(ours[inside], theirs[0, 0].numpy()[inside], atol=1e-4)
    assert not spread(np.zeros((5, 7), np.float32), np.zeros((5, 7), bool)).any()


def test_reduced_depth_is_of_what_is_known():
    known = np.zeros((8, 8), np.float32)
    known[0, 0], known[4:, 4:] = 2.0, 3.0
    small = reduced(known, 4, 4)
    assert small[0, 0] == pytest.approx(2.0) and np.allclose(small[2:, 2:], 3.0) and np.count_nonzero(small) == 5


def test_confidence_is_the_chance_of_ten_per_cent():
    error = np.random.default_rng(0).laplace(0, 0.2, 100_000)
    assert confidence_of(np.float32(0.2)) == pytest.approx(np.mean(np.abs(error) < np.log(1.1)), abs=0.01)


def test_an_untrained_network_is_the_smooth_completion(tmp_path):
    DepthNetwork(**SMALL).save_pretrained(tmp_path)
    rgb = np.random.default_rng(0).integers(0, 255, (72, 96, 3), np.uint8)
    for known in (known_half(floor()), floor() * (np.random.default_rng(1).random((72, 96)) < 0.02)):
        found, smooth = (completer.complete(rgb, known, CAMERA).depth for completer in
                         (LearnedCompleter(tmp_path), Smooth()))
        assert np.allclose(found, smooth, rtol=1e-4)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_what_the_network_finds_scales_with_what_is_known(folder, factor):
    completer, known = LearnedCompleter(folder), known_half(floor())
    once, scaled = (completer.complete(gray(), k, CAMERA).depth for k in (known, (factor * known).astype(np.float32)))
    assert np.allclose(scaled, factor * once, rtol=1e-4)


def test_any_size_and_every_pixel_alone(folder):
    completer = LearnedCompleter(folder)
    for width, height in ((1, 1), (33, 7), (640, 480)):
        camera = Intrinsics.from_hfov(width, height, 1.0)
        found = completer.complete(np.zeros((height, width, 3), np.uint8), None, camera)
        assert found.depth.shape == (height, width) and (found.depth > 0).all()


@pytest.mark.parametrize(("known", "words"), [
    (np.zeros((3, 3), np.float32), "as large as the picture"),
    (np.full((72, 96), np.nan, np.float32), "not finite"), (np.full((72, 96), -1, np.float32), "negative")])
def test_what_is_no_depth_is_refused(known, words):
    with pytest.raises(ValueError, match=words):
        Smooth().complete(gray(), known, CAMERA)


def test_a_smooth_completion_of_nothing_is_refused():
    with pytest.raises(ValueError, match="needs some known depth"):
        Smooth().complete(gray(), None, CAMERA)
    with pytest.raises(ValueError, match="there is no depth completer 'none'.*smooth"):
        load_completer("none")


# ---- other people's


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_inverse_depth_up_to_scale_and_offset_is_aligned(scale):
    truth = floor()
    estimator = estimators.Estimator(lambda rgb, camera: scale / truth + 2.0, inverse=True, metric=False)
    assert np.allclose(estimator.complete(gray(), known_half(truth), CAMERA).depth, truth, rtol=1e-2)


def test_depth_without_a_scale_is_scaled_and_metric_depth_is_not():
    truth = floor()
    for metric, factor in ((True, 1.0), (False, completion.np.nan)):
        found = estimators.Estimator(lambda rgb, camera: truth, inverse=False, metric=metric).complete(
            gray(), None, CAMERA).depth
        expected = factor if metric else estimators.USUAL / np.median(truth)
        assert np.allclose(found, expected * truth, rtol=1e-4)


def test_an_estimate_that_is_not_finite_is_refused():
    broken = estimators.Estimator(lambda rgb, camera: np.full((4, 4), np.nan), inverse=True, metric=False)
    with pytest.raises(ValueError, match="finite numbers"):
        broken.complete(gray(), None, CAMERA)


@pytest.mark.parametrize(("kind", "metric"), [("zoedepth", True), ("dpt", False)])
def test_a_transformers_pipeline_is_taken(monkeypatch, capsys, kind, metric):
    truth = floor()
    config = types.SimpleNamespace(model_type=kind, license="apache-2.0")

    class Made:
        model = types.SimpleNamespace(config=config)

        def __call__(self, picture):
            assert picture.size == (96, 72)
            return {"predicted_depth": torch.from_numpy(truth if metric else 1 / truth)}

    def pipeline(task, model):
        assert (task, model) == ("depth-estimation", "some/model")
        return Made()

    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(pipeline=pipeline))
    found = load_completer("transformers:some/model").complete(gray(), None, CAMERA).depth
    assert np.allclose(found * (1 if metric else np.median(truth) / estimators.USUAL), truth, rtol=1e-3)
    assert "licence: apache-2.0" in capsys.readouterr().err


def test_depth_anything_3_is_taken(monkeypatch, capsys):
    class DepthAnything3:
        @classmethod
        def from_pretrained(cls, name):
            return cls()

        def inference(self, pictures, intrinsics):
            assert intrinsics.shape == (1, 3, 3)
            return types.SimpleNamespace(depth=floor()[None])

    for name in ("depth_anything_3", "depth_anything_3.api"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(DepthAnything3=DepthAnything3))
    found = load_completer("depth-anything-3:da3metric").complete(gray(), None, CAMERA)
    assert np.allclose(found.depth, floor()) and "licence" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["transformers:x", "depth-anything-3:x"])
def test_what_is_not_installed_is_told(monkeypatch, name):
    for module in ("transformers", "depth_anything_3", "depth_anything_3.api"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match="pip install"):
        load_completer(name)


def test_nothing_heavy_is_imported_for_a_smooth_completion():
    code = "import sys, worldfm_ros.depth.find as f; f.load_completer('smooth'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- judged


def test_completers_are_judged_by_what_they_are_not_told(tmp_path, capsys):
    frames = [RgbdFrame(k, gray(), floor(a), CAMERA, Pose.planar(0.1 * k, 0, 0)) for k, a in enumerate((0.1, 0.3))]
    write_rgbd_folder(frames, tmp_path / "scan")
    bench_depth(tmp_path / "scan", tmp_path / "depth.json", completers="plane,smooth")
    cases = json.loads((tmp_path / "depth.json").read_text())["cases"]
    by = {(case["known"], case["completer"]): case for case in cases}
    assert set(by) == {("none", "plane"), ("points", "plane"), ("points", "smooth"), ("half", "plane"),
                       ("half", "smooth")}
    assert by["half", "plane"]["abs_rel"] < 0.01 < by["none", "plane"]["abs_rel"]
    assert by["points", "smooth"]["delta1"] == 1 and all(case["frames"] == 2 for case in cases)
    assert "AbsRel" in capsys.readouterr().out
