"""Training's losses and schedules against plain numpy and the sampler's own formulas."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from overfit import psnr, smooth_picture
import pytest
import torch

from training.stages.losses import (
    add_noise,
    chosen,
    denoising_loss,
    gradient_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    reconstruction_loss,
    sample_timesteps,
    to_x0,
    velocity,
)
from worldfm_ros.frame_model import sampling


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- diffusion losses


@given(st.lists(st.integers(0, 999), min_size=1, max_size=6), st.sampled_from(sampling.PREDICTION_TYPES))
def test_a_batch_of_timesteps_is_the_samplers_formula_for_each(times, prediction_type):
    x0, noise, prediction = (gaussian(len(times), 2, 3, 3, seed=k) for k in range(3))
    t = torch.tensor(times)
    noisy, v, guess = add_noise(x0, noise, t), velocity(x0, noise, t), to_x0(noise, prediction, t, prediction_type)
    torch.testing.assert_close(to_x0(noisy, v, t), x0, atol=1e-5, rtol=0)
    for k, time in enumerate(times):
        torch.testing.assert_close(noisy[k], sampling.add_noise(x0[k], noise[k], time))
        torch.testing.assert_close(guess[k], sampling.to_x0(noise[k], prediction[k], time, prediction_type),
                                   rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction_type", sampling.PREDICTION_TYPES)
def test_denoising_loss_is_a_weighted_error_of_the_clean_latents(prediction_type):
    """Squared errors of v and e are those of x_0 times SNR + 1 and SNR."""
    t = torch.tensor([20, 300, 700, 900])
    x0, noise, prediction = (gaussian(4, 2, 3, 3, seed=k) for k in range(3))
    loss, log = denoising_loss(prediction, x0, noise, t, prediction_type)

    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t.numpy()].reshape(4, 1, 1, 1)
    x, p, clean = (z.double().numpy() for z in (add_noise(x0, noise, t), prediction, x0))
    snr = a / (1 - a)
    if prediction_type == "v_prediction":
        guess, weight = np.sqrt(a) * x - np.sqrt(1 - a) * p, snr + 1
    else:
        guess, weight = (x - np.sqrt(1 - a) * p) / np.sqrt(a), snr
    assert loss.item() == pytest.approx((weight * (guess - clean) ** 2).mean(), rel=1e-4)
    assert log["x0_error"].item() == pytest.approx(((guess - clean) ** 2).mean(), rel=1e-3)


def test_the_right_prediction_costs_nothing():
    t, x0, noise = torch.tensor([0, 500, 999]), gaussian(3, 2, 4, 4), gaussian(3, 2, 4, 4, seed=1)
    assert denoising_loss(velocity(x0, noise, t), x0, noise, t)[0] == 0
    assert denoising_loss(noise, x0, noise, t, "epsilon")[0] == 0


@given(st.floats(0.25, 8.0), st.integers(1, 999))
def test_biased_timesteps_have_the_stated_distribution(bias, k):
    """P(t < k) = (k / 1000)^bias, read off evenly spaced u."""
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    t = sample_timesteps(u, bias)
    assert t.dtype == torch.int64 and (t.diff() >= 0).all()
    assert (t < k).double().mean().item() == pytest.approx((k / 1000) ** bias, abs=2e-4)


def test_timesteps_stay_in_range():
    largest = torch.tensor([1 - 2**-24])  # of float32's uniform numbers
    for bias in (0.1, 1.0, 3.0, 1e6):
        assert sample_timesteps(largest, bias) == 999
        assert sample_timesteps(torch.zeros(1), bias) == 0
    for bias in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive number"):
            sample_timesteps(largest, bias)


@given(st.floats(0, 1), st.integers(0, 10**6))
def test_chosen_steps_are_spread_evenly(fraction, start):
    window = [chosen(step, fraction) for step in range(start, start + 200)]
    assert abs(sum(window) - 200 * fraction) <= 4
    assert not chosen(start, 0.0) and chosen(start, 1.0)


# ---- losses of pictures


def test_gradient_loss_by_hand():
    a, b = gaussian(2, 3, 8, 16), gaussian(2, 3, 8, 16, seed=1)
    error, total = (a - b).double().numpy(), 0.0
    for _ in range(3):
        total += np.abs(error[..., :, 1:] - error[..., :, :-1]).mean()
        total += np.abs(error[..., 1:, :] - error[..., :-1, :]).mean()
        error = error.reshape(2, 3, error.shape[2] // 2, 2, error.shape[3] // 2, 2).mean(axis=(3, 5))
    assert gradient_loss(a, b).item() == pytest.approx(total / 3, rel=1e-5)
    assert gradient_loss(a, a + 0.3).item() == pytest.approx(0, abs=1e-6)  # only edges count


def test_reconstruction_loss_and_its_psnr():
    picture, truth = (torch.from_numpy(smooth_picture(np.random.default_rng(k)) / 127.5 - 1).permute(2, 0, 1)[None]
                      for k in range(2))
    loss, log = reconstruction_loss(picture, truth, gradient_weight=2.0)
    absolute = (picture - truth).abs().mean().item()
    assert log["l1"].item() == pytest.approx(absolute)
    assert loss.item() == pytest.approx(absolute + 2 * gradient_loss(picture, truth).item())
    assert log["psnr"].item() == pytest.approx(psnr(picture, truth))


def test_hinge_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 0.5])
    assert hinge_discriminator_loss(real, fake)[0].item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 1.5) / 3)
    assert hinge_generator_loss(fake)[0].item() == pytest.approx(2.5 / 3)
