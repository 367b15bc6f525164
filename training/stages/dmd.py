"""The losses of distribution matching distillation (DMD, Yin et al. 2024, arXiv 2311.18828; paper 2.5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from training.stages.latent_views import predict_x0
from training.stages.losses import Log, add_noise, denoising_loss
from training.stages.pretrain import LatentViews
from worldfm_ros.frame_model.sampling import TRAIN_STEPS

MATCHED_TIMES = (0.02, 0.98)  # of the schedule: scores are compared where they are neither noise nor nothing
SMALLEST_WEIGHT = 1e-6


def uniform_timesteps(uniform: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Whole timesteps (B,) from uniform numbers in [0, 1): floor of U(low, high) * 1000."""
    return ((low + (high - low) * uniform) * TRAIN_STEPS).long().clamp(0, TRAIN_STEPS - 1)


def matching_gradient(x: Tensor, x_real: Tensor, x_fake: Tensor) -> Tensor:
    """Where x should not go: (x_fake - x_real) / mean |x - x_real|, a mean a sample; all (B, C, h, w) (equations 7, 8).

    x_real and x_fake are what the real and the fake score take for clean in the same noisy version of x. Their
    difference is that of the scores but for a factor, which the weighting makes comparable between timesteps.
    """
    weight = (x - x_real).abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(SMALLEST_WEIGHT)
    return (x_fake - x_real) / weight


def matching_loss(x: Tensor, real_score: nn.Module, fake_score: nn.Module, views: LatentViews, t: Tensor,
                  noise: Tensor) -> tuple[Tensor, Log]:
    """A loss, 0.5 |x - sg(x - g)|^2 in the mean, whose gradient is matching_gradient's g over the number of elements.

    x: the student's latents (B, C, h, w); t (B,): the timesteps to which noise is added. The log tells the mean |g|.
    """
    with torch.no_grad():
        noisy = add_noise(x, noise, t)
        gradient = matching_gradient(x, predict_x0(real_score, noisy, t, views),
                                     predict_x0(fake_score, noisy, t, views))
    loss = 0.5 * F.mse_loss(x, x.detach() - gradient)
    return loss, {"matching": loss.detach(), "matching_gradient": gradient.abs().mean()}


def fake_score_loss(fake_score: nn.Module, x: Tensor, views: LatentViews, t: Tensor,
                    noise: Tensor) -> tuple[Tensor, Log]:
    """The denoising loss at timesteps t (B,) on the student's latents x: the fake score follows them (equation 6)."""
    return denoising_loss(views.predict(fake_score, add_noise(x, noise, t), t), x, noise, t)
