"""Samples of known and unknown depth, the losses, and the stage that learns from them."""

import shutil

import numpy as np
from safetensors.torch import load_file
import torch

from training.__main__ import follow
from training.data.depths import DepthBatch, Unknown, depth_sample
from training.recipes import find_recipe
from training.stages.depth import DepthLosses, DepthStage, depth_loss
from training.synthetic.clips import ClipSettings, synthetic_clip
from worldfm_ros.depth.network import DepthNetwork, Prediction

CLIP = synthetic_clip("rooms", 3, ClipSettings(width=96, height=72, samples=1, texel=0.6))
SIZE = (48, 64)
PERFECT = -4.6  # the doubt of what is right within 1 %


def batch(unknown=None, seeds=range(6)):
    return DepthBatch.collate([depth_sample(CLIP, seed % 16, SIZE, unknown or Unknown(), seed) for seed in seeds])


def test_a_sample_is_a_function_of_its_arguments():
    first, again, other = (depth_sample(CLIP, 3, SIZE, Unknown(), seed) for seed in (5, 5, 6))
    assert np.array_equal(first.rgb, again.rgb) and np.array_equal(first.known, again.known)
    assert not np.array_equal(first.rgb, other.rgb)


def test_all_kinds_of_known_depth_occur_and_none_is_far_from_the_truth():
    samples = [depth_sample(CLIP, seed % 16, SIZE, Unknown(), seed) for seed in range(60)]
    shares = np.array([np.mean(sample.known > 0) for sample in samples])
    assert (shares == 0).sum() > 10 and ((shares > 0) & (shares < 0.2)).sum() > 5 and (shares > 0.3).sum() > 5
    for sample in samples:
        both = (sample.known > 0) & (sample.truth > 0)
        if both.any():
            assert np.median(np.abs(np.log(sample.known[both] / sample.truth[both]))) < 0.1


def test_rays_belong_to_the_pixels():
    sample = depth_sample(CLIP, 3, SIZE, Unknown(zoom=(0.5, 0.5)), 8)
    full = CLIP.frames[3].intrinsics
    assert sample.intrinsics.hfov < full.hfov and sample.intrinsics.width == 64
    rays = batch(seeds=[8]).rays
    assert torch.all(rays[0, 0].diff(dim=1) > 0) and torch.all(rays[0, 1].diff(dim=0) > 0)


def test_the_truth_costs_nothing_and_scale_costs_little_where_nothing_is_known():
    seen = batch(Unknown(nothing=1.0))
    true = seen.truth.clamp(min=1e-6).log()
    doubt = torch.full_like(true, PERFECT)
    settings = DepthLosses()
    exact, _ = depth_loss(Prediction(true, doubt), seen, settings)
    larger, log = depth_loss(Prediction(true + 0.3, doubt), seen, settings)
    known = batch(Unknown(nothing=0.0))
    truth = known.truth.clamp(min=1e-6).log()
    wrong, _ = depth_loss(Prediction(truth + 0.3, doubt), known, settings)
    assert exact < 0.01 and log["delta1_guessed"] == 1
    assert 0.02 < larger < 0.2 * wrong


def test_a_new_network_completes_smoothly_and_learns():
    torch.manual_seed(0)
    seen = batch()
    stage = DepthStage(DepthNetwork(widths=(8, 12, 16), blocks=(1, 1, 1)), DepthLosses())
    optimizer = torch.optim.Adam(stage.networks["depth"].parameters(), 5e-3)
    losses = []
    for step in range(60):
        (update,) = stage.updates(seen, step)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        losses.append(float(update.loss.detach()))
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    columns = stage.preview(stage.networks, seen)
    assert all(column.shape == (6, 3, *SIZE) for column in columns.values())


def test_a_run_resumes_where_it_was(tmp_path):
    recipe, out = find_recipe("smoke-depth"), tmp_path / "run"
    follow(recipe, "smoke-depth", out, False, None, None)
    whole = load_file(out / "depth" / "diffusion_pytorch_model.safetensors")
    shutil.rmtree(out / "checkpoints" / "step-00000006")
    follow(recipe, "smoke-depth", out, True, None, None)
    again = load_file(out / "depth" / "diffusion_pytorch_model.safetensors")
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)
