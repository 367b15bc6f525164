"""`worldfm bench generate`: its arms paint what they should, its counts are right, its JSON is as documented."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import tiny_kl, tiny_taesd, tiny_transformer
import torch

from worldfm_ros.bench import models, timing
from worldfm_ros.bench.arms import NaiveModePainter, NaivePainter, make_arms, make_tricks, weights_bytes
from worldfm_ros.bench.generate import trick_figures
from worldfm_ros.bench.models import SIZES, ModelSize, Request, random_model
from worldfm_ros.bench.timing import (
    IDENTICAL,
    Contender,
    LiveTensors,
    bench_path,
    bench_world,
    flop_counter,
    psnr,
)
from worldfm_ros.cli.bench import bench_generate
from worldfm_ros.frame_model.checkpoint import save_model_folder
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.presets import FAST, fast_dtype, prepare
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.painting.learned import LearnedPainter

CPU = torch.device("cpu")
STAGES = {"draw", "prepare", "encode reference", "encode drawing", "noise", "step 1", "step 2", "decode", "to host"}
FIGURES = {"fps", "p50_ms", "p95_ms", "best_ms", "stages_ms", "peak_mb", "psnr_to_exact", "gflop", "gflops",
           "share_of_peak"}


def small_size(**changes):
    fields = {"hidden_size": 32, "depth": 2, "heads": 2, "attention": "full", "predicts_variance": True} | changes
    return ModelSize(32, FrameTransformerConfig(**fields), lambda: tiny_kl(force_upcast=False), tiny_taesd)


def bench_subject(width=48, height=32, steps=2, **changes):
    return random_model("test", small_size(**changes), Request(width, height, steps), CPU)


def frames_of(*painters, count=3):
    """What painters make of the same path: (painters, frames, H, W, 3)."""
    height, width = painters[0].model.settings.sizes[0]
    camera, poses = Intrinsics.from_hfov(width, height, 1.2), bench_path(count)
    world = bench_world(camera, poses, points=20_000)
    contenders = [Contender(painter, world) for painter in painters]
    for pose in poses:
        for contender in contenders:
            contender.frame(pose, camera)
    return [np.stack(contender.pictures) for contender in contenders]


# ---- the arms


@pytest.mark.parametrize("attention", ["full", "cached"])
@pytest.mark.parametrize("encoding", ["none", "prope"])
def test_exact_paints_what_the_naive_arm_paints_without_its_random_samples(encoding, attention):
    """Within the rounding of floats: hardly a byte differs, and none by more than 1."""
    subject = bench_subject(camera_encoding=encoding, attention=attention)
    naive, exact = frames_of(NaiveModePainter(subject.model), make_arms(subject)["exact"])
    assert exact.std() > 20
    difference = np.abs(naive.astype(int) - exact)
    assert difference.max() <= 1 and np.mean(difference > 0) < 1e-3


def test_the_naive_arm_is_random_and_the_others_are_not():
    arms = make_arms(bench_subject())
    assert type(arms["naive"]) is NaivePainter and [*arms] == ["naive", "exact", "cached", "fast"]
    for name, painter in arms.items():
        first, second = frames_of(painter, painter, count=1)
        assert np.array_equal(first, second) == (name != "naive"), name


def test_tricks_that_keep_the_picture_do_and_the_others_do_not():
    subject = bench_subject(width=32)
    arms = make_arms(subject)
    tricks = make_tricks(subject, arms)
    assert len({trick.name for trick in tricks}) == len(tricks) >= 9
    painted = frames_of(*arms.values(), *(trick.painter for trick in tricks), count=2)
    by_arm = dict(zip(arms, painted[:len(arms)], strict=True))
    for trick, picture in zip(tricks, painted[len(arms):], strict=True):
        difference = np.abs(picture.astype(int) - by_arm[trick.arm])
        assert (difference.max() > 1) == trick.changes, trick.name


def test_every_trick_saves_work():
    """Of those that change how much is computed, counted in floating point operations."""
    subject = bench_subject(width=32)
    arms = make_arms(subject)
    camera, poses = Intrinsics.from_hfov(32, 32, 1.2), bench_path(1)
    world = bench_world(camera, poses, points=20_000)

    def gflop(painter):
        counter = flop_counter()
        contender = Contender(painter, world)
        contender.frame(poses[0], camera)  # the keyframe is known from here on
        with counter:
            contender.frame(poses[0], camera)
        return counter.get_total_flops() / 1e9

    counted = {name: gflop(painter) for name, painter in arms.items()}
    assert counted["naive"] > counted["exact"] > counted["cached"] > counted["fast"] > 0
    saved = {trick.name: gflop(trick.painter) - counted[trick.arm] for trick in make_tricks(subject, arms)}
    for name in ("reference encoded once a keyframe", "modulation of the timesteps kept",
                 "conditions kept over the steps", "no variance channels", "last block for the target alone"):
        assert saved[name] > 0, name
    assert saved["cached attention"] < 0 and saved["tiny autoencoder"] < 0


def test_the_fast_arm_is_the_preset_fast():
    subject = bench_subject()
    fast = make_arms(subject)["fast"].model
    assert fast.transformer.settings == prepare(subject.model, FAST).transformer.settings
    assert fast.transformer.dtype == fast.codec.dtype == (fast_dtype(CPU) or torch.float32)
    assert type(fast.codec.autoencoder) is type(subject.tiny_codec.autoencoder)


# ---- what is counted


def test_flops_of_the_parts_are_the_formula():
    """2 a multiplication and addition: 24 D^2 N + 4 N M D a block (facts 3.4), attention on a CPU counted too."""
    network = tiny_transformer(hidden_size=32, depth=1, heads=2, camera_encoding="none", attention="full")
    network.requires_grad_(False)
    x = torch.randn(1, 12, 32)
    views = network.encode_views(None, (4, 2), 3)
    modulation = network.modulation(5.0)
    counter = flop_counter()
    with torch.inference_mode(), counter:
        network.run_blocks(x, modulation, views.transforms)
    assert counter.get_total_flops() == 24 * 32**2 * 12 + 4 * 12 * 12 * 32


def test_live_tensors_are_followed_until_they_are_gone():
    weight = torch.zeros(1000)
    with torch.inference_mode(), LiveTensors() as live:
        view = weight.view(10, 100).t()  # is no new memory
        assert live.peak == 0
        a = view + 1
        b = a[2:]  # keeps all of a
        del a
        c = weight * 2
        del b
        d = weight * 3
    assert live.peak == 2 * weight.nbytes and len(c) == len(d)


def test_psnr():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 16, np.uint8)
    assert psnr([black, grey], [black, grey]) == IDENTICAL
    assert psnr([grey], [black]) == pytest.approx(20 * np.log10(255 / 16))
    assert psnr([grey, black], [black, black]) == pytest.approx(20 * np.log10(255 / 16) + 10 * np.log10(2))


def test_a_trick_is_the_difference_of_pairs_of_frames():
    def timed(*ms):
        return SimpleNamespace(frames_ms=list(ms), pictures=[np.zeros((2, 2, 3), np.uint8)])

    arms = {"exact": timed(10.0, 30.0, 20.0)}
    kept = trick_figures(SimpleNamespace(name="t", arm="exact", changes=False), arms, timed(15.0, 36.0, 24.0))
    assert (kept["without_ms"], kept["with_ms"], kept["gain_ms"]) == (24.0, 20.0, 5.0)
    changing = trick_figures(SimpleNamespace(name="t", arm="exact", changes=True), arms, timed(5.0, 25.0, 10.0))
    assert (changing["without_ms"], changing["with_ms"], changing["gain_ms"]) == (20.0, 10.0, 5.0)


# ---- the command


def check_report(report, steps=2, frames=3):
    assert list(report["arms"]) == ["naive", "exact", "cached", "fast"]
    stages = {stage for stage in STAGES if not stage.startswith("step")} | {f"step {i + 1}" for i in range(steps)}
    for name, arm in report["arms"].items():
        assert arm.keys() == FIGURES | {"dtype"} and arm["stages_ms"].keys() == stages, name
        assert arm["p50_ms"] <= arm["p95_ms"] and arm["peak_mb"] > 0 and 0 < arm["share_of_peak"]
        assert sum(arm["stages_ms"].values()) == pytest.approx(1e3 / arm["fps"], rel=0.1), name
        assert np.isfinite(arm["psnr_to_exact"])
    assert report["arms"]["exact"]["psnr_to_exact"] == IDENTICAL
    assert report["frames"] == frames and report["environment"]["torch"] == torch.__version__
    assert {"cpu", "isa", "threads"} <= report["environment"].keys()
    assert report["environment"]["torch_isa"] == torch.backends.cpu.get_cpu_capability()
    assert set(report["matmul_peak_gflops"]) == {arm["dtype"] for arm in report["arms"].values()}


def test_the_report_has_the_documented_form(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "test", small_size())
    out = tmp_path / "figures.json"
    bench_generate(size="test", width=48, height=32, device="cpu", frames=3, json=out)
    report = json.loads(out.read_text())
    assert (report["size"], report["device"], report["width"], report["height"], report["steps"]) == \
        ("test", "cpu", 48, 32, 2)
    assert report["random_weights"]
    check_report(report)
    assert report["arms"]["fast"]["psnr_to_exact"] < IDENTICAL  # other attention, another autoencoder
    for name, painter in make_arms(bench_subject()).items():  # the weights, and at least a picture to work on
        assert report["arms"][name]["peak_mb"] * 1e6 > weights_bytes(painter.model) + 32 * 48 * 3 * 4
    assert {"bfloat16" if fast_dtype(CPU) else "cached attention", "tiny autoencoder", "noise schedule kept"} <= \
        {row["trick"] for row in report["tricks"]}
    for row in report["tricks"]:
        assert row["psnr"] > 60 or row["changes_the_picture"], row


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_trained_model_at_its_own_size(tmp_path, monkeypatch, bfloat16):
    """On processors without and with bfloat16: where it has none, `fast` has nothing to change in this model."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16})
    monkeypatch.setattr(timing, "matmul_gflops", lambda device, dtype: 100.0)  # minutes, in what a processor has not
    subject = bench_subject(width=48, height=32, steps=1, attention="cached")
    folder = tmp_path / "model"
    save_model_folder(folder, subject.model.settings, subject.model.transformer, subject.model.codec.autoencoder)
    out = tmp_path / "figures.json"
    bench_generate(model=folder, device="cpu", frames=2, tricks=False, json=out)
    report = json.loads(out.read_text())
    assert (report["width"], report["height"], report["steps"], report["random_weights"]) == (48, 32, 1, False)
    check_report(report, steps=1, frames=2)
    assert report["tricks"] == []
    assert report["arms"]["cached"]["psnr_to_exact"] == IDENTICAL  # it was trained so
    assert report["arms"]["fast"]["dtype"] == ("bfloat16" if bfloat16 else "float32")
    assert (report["arms"]["fast"]["psnr_to_exact"] == IDENTICAL) == (not bfloat16)


def test_a_plot_is_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(SIZES, "test", small_size())
    monkeypatch.setattr(timing, "matmul_gflops", lambda device, dtype: 100.0)
    bench_generate(size="test", device="cpu", frames=1, plot=tmp_path / "figures.png")
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("asked, error", [
    ({"size": "huge"}, "size is one of tiny, xl, got 'huge'"),
    ({"device": "tpu"}, "device is one of cpu, cuda"),
    ({"frames": 0}, "frames is a whole number from 1 up, got 0"),
    ({"width": 100}, "width and height are multiples of 16, got 100 x 256"),
    ({"steps": 0}, "steps is a whole number from 1 up, got 0"),
    ({"model": "nowhere"}, "there is no model 'nowhere'"),
], ids=str)
def test_bad_requests(asked, error):
    with pytest.raises(ValueError, match=error):
        bench_generate(**{"device": "cpu"} | asked)


def test_the_released_size_is_the_released_network():
    """Without making it: 456 M parameters besides the variance's rows."""
    with torch.device("meta"):
        network = models.FrameTransformer.build(SIZES["xl"].transformer)
        autoencoder = models.sdxl_autoencoder()
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(456.0e6, rel=1e-3)
    assert sum(parameter.numel() for parameter in autoencoder.parameters()) == pytest.approx(83.65e6, rel=1e-3)
    assert isinstance(make_arms(bench_subject())["exact"], LearnedPainter)
