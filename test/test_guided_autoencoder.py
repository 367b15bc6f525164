"""Our small autoencoder: sizes, what its decoder uses, and its place in a model folder."""

import pytest
import torch

from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import load_autoencoder
from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder
from worldfm_ros.painting.guide import GUIDE_CHANNELS


def small(**options):
    torch.manual_seed(0)
    model = GuidedAutoencoder(latent_channels=4, widths=(8, 12, 16), blocks=1, **options)
    for parameter in model.parameters():  # a new one starts as the identity of its guide
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.mark.parametrize("height, width", [(32, 32), (24, 40), (240, 320)])
def test_an_eighth_of_the_resolution_and_back(height, width):
    model, rgb = small(), torch.rand(2, 3, height, width) * 2 - 1
    with torch.no_grad():
        latents = model.encode(rgb).latents
        assert latents.shape == (2, 4, height // 8, width // 8)
        assert model.decode(latents, torch.rand(2, GUIDE_CHANNELS, height, width)).sample.shape == rgb.shape


def test_an_untrained_decoder_shows_the_mean_of_drawing_and_warped_reference():
    model = GuidedAutoencoder(latent_channels=4, widths=(8, 12, 16), blocks=1)
    guide = torch.rand(1, GUIDE_CHANNELS, 16, 16)
    with torch.no_grad():
        shown = model.decode(torch.randn(1, 4, 2, 2), guide).sample
    torch.testing.assert_close(shown, (guide[:, :3] + guide[:, 3:6]) / 2)


def test_every_channel_of_the_guide_and_of_the_latent_is_used():
    model = small()
    latents, guide = torch.randn(1, 4, 4, 4, requires_grad=True), torch.rand(1, 8, 32, 32, requires_grad=True)
    gradients = torch.autograd.grad(model.decode(latents, guide).sample.square().sum(), [latents, guide])
    assert all((gradient.abs().sum((0, 2, 3)) > 0).all() for gradient in gradients)


def test_no_guide_is_the_guide_that_knows_nothing():
    model, latents = small(), torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        assert torch.equal(model.decode(latents).sample, model.decode(latents, torch.full((2, 8, 32, 32), -1.0)).sample)


def test_the_codec_scales_and_guides_and_a_folder_keeps_it(tmp_path):
    model = small(scaling_factor=0.5, shift_factor=0.25)
    model.save_pretrained(tmp_path)
    codec = LatentCodec(load_autoencoder(tmp_path))
    rgb, guide = torch.rand(1, 3, 32, 32) * 2 - 1, torch.rand(1, 8, 32, 32)
    with torch.no_grad():
        latents = codec.encode(rgb)
        torch.testing.assert_close(latents, (model.encode(rgb).latents - 0.25) * 0.5)
        torch.testing.assert_close(codec.decode(latents, guide), model.decode(model.encode(rgb).latents, guide).sample)
    assert codec.guided and codec.downscale == 8 and codec.latent_channels == 4
