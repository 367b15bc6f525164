"""Finishing: the sampler as one network paints what a painter paints, and gets better at its pictures."""

import copy
from dataclasses import replace

import numpy as np
from overfit import minimise, psnr, toy_batch
import pytest
from tiny_models import randomized, tiny_settings
import torch

from training.stages.finish import FinishSettings, FinishStage
from training.stages.latent_views import encode_views, sample_latents
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import LoadedModel, load_autoencoder, load_model_folder
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder
from worldfm_ros.frame_model.transformer import FrameTransformer


def student(**changes):
    torch.manual_seed(0)
    config = FrameTransformerConfig(hidden_size=32, depth=2, heads=2, latent_channels=4, base_size=2)
    autoencoder = randomized(GuidedAutoencoder(4, (8, 12, 16), 1, scaling_factor=2.0, shift_factor=0.1))
    settings = tiny_settings(sizes=((32, 32),), **changes)
    transformer = randomized(FrameTransformer.build(config))
    return LoadedModel(settings, transformer, LatentCodec(autoencoder))


@pytest.mark.parametrize("steps", [1, 2])
def test_the_sampler_paints_what_the_student_paints(steps):
    model, batch = student(steps=steps), toy_batch(2)
    sampler = FinishStage(model, FinishSettings()).networks["sampler"]
    views = encode_views(batch, model.codec, True)
    noise, noise_mid = torch.randn(2, 2, 4, 4, 4)
    with torch.no_grad():
        latents = sample_latents(model.transformer, noise, noise_mid, views, steps, 200)
        torch.testing.assert_close(sampler(noise, noise_mid, views, batch.guide),
                                   model.codec.decode(latents, batch.guide), atol=1e-4, rtol=1e-4)


def test_pictures_get_better_and_the_encoder_stays(tmp_path):
    model, batch = student(), toy_batch(4)
    stage = FinishStage(model, FinishSettings())
    encoder = copy.deepcopy(model.codec.autoencoder.encoder.state_dict())
    before = psnr(stage.preview(stage.networks, batch)["painted"], batch.target)
    minimise(stage, batch, 60, rate=3e-3)
    assert psnr(stage.preview(stage.networks, batch)["painted"], batch.target) > before + 2.0

    stage.export(stage.networks, tmp_path)
    finished = load_model_folder(tmp_path / "model", dtype=torch.float32)
    assert finished.settings == replace(model.settings, source=f"trained further from {model.settings.name}")
    for name, tensor in load_autoencoder(tmp_path / "model" / "vae").encoder.state_dict().items():
        assert torch.equal(tensor, encoder[name].bfloat16())
    views = encode_views(batch, finished.codec, True)
    noise = torch.randn(2, 4, 4, 4, 4)
    sampler = stage.networks["sampler"].eval()
    with torch.no_grad():
        latents = sample_latents(finished.transformer, *noise, views, 2, 200)
        shown = finished.codec.decode(latents, batch.guide)
        assert (shown - sampler(*noise, views, batch.guide)).abs().mean() < 0.02, "but for bfloat16 weights"


def test_gradients_reach_the_transformer_and_the_decoder_alone():
    stage, batch = FinishStage(student(), FinishSettings()), toy_batch(2)
    (update,) = stage.updates(batch, 0)
    update.loss.backward()
    sampler = stage.networks["sampler"]
    assert all(p.grad is None for p in sampler.autoencoder.encoder.parameters())
    reached = [name for name, p in sampler.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert any(name.startswith("transformer.patch_embed") for name in reached)
    assert any(name.startswith("autoencoder.guide_pyramid") for name in reached) and np.isfinite(update.loss.item())


def test_with_the_decoder_alone_the_student_stays_and_pictures_still_get_better(tmp_path):
    model, batch = student(), toy_batch(4)
    stage = FinishStage(model, FinishSettings(decoder_only=True))
    before = psnr(stage.preview(stage.networks, batch)["painted"], batch.target)
    minimise(stage, batch, 60, rate=3e-3)
    assert psnr(stage.preview(stage.networks, batch)["painted"], batch.target) > before + 1.0
    stage.export(stage.networks, tmp_path)
    finished = load_model_folder(tmp_path / "model", dtype=torch.float32).transformer.state_dict()
    for name, tensor in model.transformer.state_dict().items():
        assert torch.equal(finished[name], tensor.bfloat16().float())


def test_only_students_with_a_guided_autoencoder_are_finished():
    with pytest.raises(ValueError, match="20 steps: distill it first"):
        FinishStage(student(steps=20), FinishSettings())
    with pytest.raises(ValueError, match="gradient_weight is a finite number from 0 up, got -1"):
        FinishSettings(gradient_weight=-1.0)
