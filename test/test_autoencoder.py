"""Autoencoders behind one interface, and pictures on their way to and from them."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_kl, tiny_taesd
import torch

from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.imaging import (
    crop_to_aspect,
    released_drawing,
    released_reference,
    resize,
    to_uint8,
    to_unit,
)
from worldfm_ros.geometry import Intrinsics

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "open" / "imageproc.safetensors"
RGB = torch.rand((2, 3, 32, 48), generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("make", [tiny_kl, tiny_taesd])
def test_codec_is_deterministic_and_any_multiple_of_8_goes(make):
    codec = LatentCodec(make())
    latents = codec.encode(RGB)
    assert latents.shape == (2, 4, 4, 6) and codec.decode(latents).shape == RGB.shape
    assert torch.equal(latents, codec.encode(RGB))
    with pytest.raises(ValueError, match="multiples of 8, got 30 x 48"):
        codec.encode(RGB[:, :, :30])


def test_kl_latents_are_the_scaled_and_shifted_mode():
    autoencoder = tiny_kl(scaling_factor=0.5, shift_factor=0.25)
    codec = LatentCodec(autoencoder)
    mean = autoencoder.encode(RGB).latent_dist.mean
    torch.testing.assert_close(codec.encode(RGB), (mean - 0.25) * 0.5)
    torch.testing.assert_close(codec.decode((mean - 0.25) * 0.5), autoencoder.decode(mean).sample, atol=1e-4, rtol=1e-4)


def test_an_autoencoder_that_overflows_in_float16_runs_in_float32():
    autoencoder = tiny_kl()
    with torch.no_grad():
        autoencoder.decoder.conv_in.weight.mul_(1e6)  # as the SDXL one: large inside, normalised at the end
    latents = LatentCodec(autoencoder).encode(RGB)
    careful = LatentCodec(autoencoder, dtype=torch.float16)
    assert careful.dtype == torch.float32 and torch.isfinite(careful.decode(latents)).all()
    trusting = tiny_kl(force_upcast=False)
    trusting.load_state_dict(autoencoder.state_dict())
    assert not torch.isfinite(LatentCodec(trusting, dtype=torch.float16).decode(latents)).all()
    brain = LatentCodec(tiny_kl(), dtype=torch.bfloat16)
    assert brain.dtype == torch.bfloat16 and torch.isfinite(brain.decode(latents)).all()


def test_normalisation_of_single_channels_is_refused():
    with pytest.raises(ValueError, match="latents_mean"):
        LatentCodec(tiny_kl(latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4))


# ---- pictures


def test_levels_survive_the_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    unit = to_unit(levels)
    assert unit.shape == (1, 3, 16, 16) and unit.min() == -1 and unit.max() == 1
    np.testing.assert_array_equal(to_uint8(unit), levels)
    assert to_uint8(torch.full((1, 3, 2, 2), 7.0)).max() == 255


@pytest.mark.parametrize("size, wanted", [
    ((160, 120), (64, 64)), ((120, 160), (96, 64)), ((100, 70), (100, 70)), ((64, 64), (128, 32)),
])
def test_camera_goes_with_crop_and_resize(size, wanted):
    """A picture whose red level is the x of its rays and green the y still is one afterwards."""
    camera = Intrinsics(*size, 90.0, 110.0, size[0] / 2 - 4.0, size[1] / 2 + 3.0)
    rays = camera.unproject(np.ones((camera.height, camera.width)))
    picture = np.rint(127.5 + 100 * rays).clip(0, 255).astype(np.uint8)
    part, part_camera = crop_to_aspect(picture, camera, *wanted)
    assert part.shape == (part_camera.height, part_camera.width, 3)
    assert part.shape[0] == size[1] or part.shape[1] == size[0]  # the largest part
    assert part.shape[1] / part.shape[0] == pytest.approx(wanted[0] / wanted[1], rel=0.02)
    small, small_camera = resize(part, *wanted), part_camera.resized(*wanted)
    rays = small_camera.unproject(np.ones(wanted[::-1]))
    inner = (slice(3, -3), slice(3, -3), slice(0, 2))
    assert np.abs(small[inner] - (127.5 + 100 * rays[inner])).max() < 2


@pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is not there")
def test_released_image_processing():
    import json

    from safetensors import safe_open
    with safe_open(GOLDEN, "pt") as golden:
        config = json.loads(golden.metadata()["config"])
        for i in range(len(config["sizes"])):
            picture = golden.get_tensor(f"img{i}.u8")
            drawing, reference = (golden.get_tensor(f"img{i}.{name}_tensor") for name in ("cond1", "cond2"))
            torch.testing.assert_close(released_drawing(picture, config["target"]), drawing, atol=1e-5, rtol=0)
            torch.testing.assert_close(released_reference(picture, config["target"]), reference, atol=2 / 255, rtol=0)
        decoded, levels = golden.get_tensor("decoded"), golden.get_tensor("decoded.u8")
    np.testing.assert_array_equal(to_uint8(decoded), levels.numpy())
