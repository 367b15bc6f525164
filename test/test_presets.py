"""Presets: `exact` keeps the picture, `fast` loses a measured little; what a GPU records is one graph."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from test_learned_painter import POSES, keyframe, paint
from tiny_models import tiny_kl, tiny_model, tiny_settings, tiny_taesd, tiny_transformer
import torch

from worldfm_ros.frame_model import presets
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.checkpoint import LoadedModel, ModelError, load_autoencoder, save_model_folder
from worldfm_ros.frame_model.config import ATTENTION_PATTERNS, CAMERA_ENCODINGS
from worldfm_ros.frame_model.cuda_graphs import CudaGraphs, Eager, leaves, one_graph, signature
from worldfm_ros.frame_model.presets import EXACT, FAST, Preset, fast_dtype, find_device, find_preset, prepare
from worldfm_ros.painting.learned import LearnedPainter, PaintError, load_painter

CPU = torch.device("cpu")
LATENT_HW = (4, 6)


def folder_with(path, transformer, autoencoder=None, tiny=None):
    """A model folder, with a vae_tiny/ when one is given."""
    save_model_folder(path, tiny_settings(), transformer, autoencoder or tiny_taesd())
    if tiny is not None:
        tiny.save_pretrained(path / presets.TINY_AUTOENCODER)
    return path


def pictures(painter):
    return np.stack([paint(painter, i, reference) for i, reference in ((0, keyframe(0)), (1, keyframe(0)), (2, None))])


def decibels(a, b):
    return 10 * np.log10(255.0**2 / max(np.square(a.astype(float) - b).mean(), 1e-9))


# ---- exact


@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
@pytest.mark.parametrize("encoding", CAMERA_ENCODINGS)
def test_exact_is_the_model_within_float_rounding(attention, encoding):
    plain = tiny_model(attention=attention, camera_encoding=encoding, predicts_variance=True)
    model = prepare(copy.deepcopy(plain), EXACT)
    assert model.transformer.settings == replace(plain.transformer.settings, predicts_variance=False)
    generator = torch.Generator().manual_seed(0)
    target, anchor, reference = torch.randn(3, 1, 4, *LATENT_HW, generator=generator).unbind(0)
    cameras = None if encoding == "none" else some_cameras()
    with torch.inference_mode():
        ours = model.transformer(target, 200.0, anchor, reference, cameras)
        theirs = plain.transformer(target, 200.0, anchor, reference, cameras)[:, :4]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        torch.testing.assert_close(model.codec.decode(target), plain.codec.decode(target), rtol=0, atol=1e-5)
    assert decibels(pictures(LearnedPainter(model)), pictures(LearnedPainter(plain))) > 60


def some_cameras():
    camera = keyframe(0).intrinsics
    return Cameras.from_poses(POSES[:3], [camera] * 3)


def test_weights_are_shared_and_not_copied():
    model = tiny_model(attention="full")
    other = prepare(model, FAST)
    assert other.transformer.settings.attention == "cached" and model.transformer.settings.attention == "full"
    ours, theirs = dict(other.transformer.named_parameters()), dict(model.transformer.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in ours)


def test_exact_is_the_default_and_the_same_every_time(tmp_path):
    folder = folder_with(tmp_path / "m", tiny_transformer(predicts_variance=True), tiny_kl())
    first = pictures(load_painter(folder, device="cpu"))
    assert np.array_equal(pictures(load_painter(folder, device="cpu", preset="exact")), first)


# ---- fast


def test_fast_loses_little_of_a_model_that_was_trained_cached(tmp_path):
    folder = folder_with(tmp_path / "m", tiny_transformer(attention="cached"), tiny_kl())
    exact, fast = (load_painter(folder, device="cpu", preset=preset) for preset in ("exact", "fast"))
    dtype = fast_dtype(CPU) or torch.float32
    assert fast.model.transformer.dtype == fast.model.codec.dtype == dtype
    loss = decibels(pictures(fast), pictures(exact))
    assert loss > 30 and np.isfinite(loss)
    assert np.array_equal(pictures(fast), pictures(load_painter(folder, device="cpu", preset="fast")))


def test_fast_says_that_it_changes_the_attention(tmp_path, caplog):
    full = folder_with(tmp_path / "full", tiny_transformer(attention="full"))
    assert load_painter(full, device="cpu", preset="fast").model.transformer.settings.attention == "cached"
    assert "trained with full attention" in caplog.text and "bench generate --model" in caplog.text
    caplog.clear()
    folder_with(tmp_path / "cached", tiny_transformer())
    load_painter(tmp_path / "cached", device="cpu", preset="fast")
    load_painter(full, device="cpu", preset="exact")
    assert not caplog.text


def test_each_part_of_a_preset_does_something(tmp_path):
    folder = folder_with(tmp_path / "m", tiny_transformer(attention="full"), tiny_kl(), tiny_taesd())
    exact = pictures(load_painter(folder, device="cpu"))
    parts = ["cached_attention", "tiny_autoencoder"] + ["low_precision"] * (fast_dtype(CPU) is not None)
    for part in parts:
        assert (pictures(load_painter(folder, device="cpu", preset=Preset("one", **{part: True}))) != exact).any(), part
    assert np.array_equal(pictures(load_painter(folder, device="cpu", preset=Preset("none"))), exact)


def test_the_tiny_autoencoder_is_the_folders(tmp_path):
    folder = folder_with(tmp_path / "m", tiny_transformer(), tiny_kl(), tiny_taesd())
    painter = load_painter(folder, device="cpu", dtype=torch.float32, preset="fast")
    expected = LatentCodec(load_autoencoder(folder / presets.TINY_AUTOENCODER))
    latents = torch.randn(1, 4, 4, 4)
    with torch.inference_mode():
        torch.testing.assert_close(painter.model.codec.decode(latents), expected.decode(latents))
    assert painter.model.transformer.dtype == torch.float32  # asked for, so it beats the preset's


# ---- bad input


def test_unknown_names_are_refused(tmp_path):
    folder = folder_with(tmp_path / "m", tiny_transformer())
    with pytest.raises(ValueError, match="preset is one of exact, fast, got 'quick'"):
        load_painter(folder, device="cpu", preset="quick")
    with pytest.raises(ValueError, match="device is one of cpu, cuda, .* got 'tpu'"):
        load_painter(folder, device="tpu")
    with pytest.raises(ValueError, match="device is one of .* got 'meta'"):
        find_device("meta")
    assert find_preset(FAST) is FAST and find_preset("exact") is EXACT
    assert find_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path):
    folder = folder_with(tmp_path / "m", tiny_transformer())
    with pytest.raises(ModelError, match="cuda cannot run float32: .*; choose another dtype or device"):
        load_painter(folder, device="cuda", dtype=torch.float32, preset="fast")


def test_a_tiny_autoencoder_of_another_model_is_refused(tmp_path):
    other = tiny_kl(latent_channels=8)
    folder = folder_with(tmp_path / "m", tiny_transformer(), tiny_kl(), other)
    with pytest.raises(ModelError, match="vae_tiny has latents of 8 channels.* the model's have 4.* different models"):
        load_painter(folder, device="cpu", preset="fast")
    load_painter(folder, device="cpu", preset="exact")  # does not use it


def test_memory_that_runs_out_frees_what_a_runner_keeps(monkeypatch):
    forgotten = []

    class Keeping(Eager):
        def forget(self):
            forgotten.append(1)

    painter = LearnedPainter(tiny_model(), run=Keeping())

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(painter.model.codec, "decode", fail)
        with pytest.raises(PaintError, match="the preset `fast`"):
            paint(painter)
    assert forgotten
    paint(painter)


# ---- what a GPU records


def test_leaves_and_signature():
    painter = LearnedPainter(tiny_model())
    views = painter.model.transformer.encode_views(some_cameras(), LATENT_HW)
    parts = list(leaves((views, [1.0, None])))
    assert sum(isinstance(part, torch.Tensor) for part in parts) == 4  # positions, matrices, cosine, sine
    assert parts[-4:] == [2, 3, 1.0, None]
    assert signature(torch.zeros(2, 3)) != signature(torch.zeros(3, 2)) != signature(torch.zeros(3, 2).half())
    assert signature(torch.zeros(2)) == signature(torch.ones(2))


def calls_of_a_frame(model):
    """(function, arguments) of every call that goes through the painter's runner."""
    calls = []

    class Listening(Eager):
        def __call__(self, function, *arguments):
            calls.append((function, copy.deepcopy(arguments)))
            return function(*arguments)

    paint(LearnedPainter(model, run=Listening()), 0, keyframe(0))
    return calls


@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
@pytest.mark.parametrize("autoencoder", [tiny_kl, tiny_taesd])
def test_what_runs_in_every_frame_is_one_graph_without_waiting(attention, autoencoder):
    """torch.compile(fullgraph=True) refuses a graph break, and so what reads a value of a tensor."""
    model = LoadedModel(tiny_settings(), tiny_transformer(attention=attention), LatentCodec(autoencoder()))
    calls = calls_of_a_frame(prepare(model, EXACT))
    assert [function.__name__ for function, _ in calls] == ["encode", "encode_anchor", "denoise", "denoise", "decode"]
    compiled = {}
    for function, arguments in calls:
        with torch.inference_mode():
            graph = compiled.setdefault(function, one_graph(function, backend="eager"))
            for ours, theirs in zip(leaves(graph(*arguments)), leaves(function(*arguments)), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
def test_recorded_graphs_give_the_same_bytes(attention):
    device = torch.device("cuda")
    model = tiny_model(attention=attention)
    model = LoadedModel(model.settings, model.transformer.to(device), LatentCodec(model.codec.autoencoder, device))
    plain, recorded = LearnedPainter(model), LearnedPainter(model, run=CudaGraphs(device))
    expected = pictures(plain)
    assert np.array_equal(pictures(recorded), expected)
    recorded.run.forget()
    assert np.array_equal(pictures(recorded), expected)
