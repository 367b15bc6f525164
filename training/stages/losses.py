"""What is minimised: denoising, reconstruction of pictures, and the patch discriminator's game.

Every loss returns (loss, log): a scalar to differentiate, and others, detached, to record. Pictures are (B, 3, H, W),
latents (B, C, h, w), timesteps t (B,) whole numbers in 0..999. Sums are over float32, whatever the networks work in.
"""

from __future__ import annotations

from functools import lru_cache
import math

import torch
from torch import Tensor
import torch.nn.functional as F

from worldfm_ros.frame_model.sampling import LAST_TIMESTEP, TRAIN_STEPS, alphas_cumprod, check_prediction_type

Log = dict[str, Tensor]
GOLDEN_RATIO = 0.6180339887498949


def chosen(step: int, fraction: float) -> bool:
    """Whether a step is one of the given fraction of all steps: spread evenly, the same ones on every process."""
    return step * GOLDEN_RATIO % 1.0 < fraction


def check_weight(name: str, value: float) -> None:
    """Raise ValueError unless a loss can be weighted so."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} is a finite number from 0 up, got {value}")


# ---- diffusion: worldfm_ros.frame_model.sampling's formulas, with a timestep of its own for each sample


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _alphas(device: torch.device) -> Tensor:
    return torch.tensor(alphas_cumprod(), dtype=torch.float64).to(device, torch.float32)


def signal_and_noise(t: Tensor) -> tuple[Tensor, Tensor]:  # (B,) -> twice (B, 1, 1, 1) float32
    """sqrt(a_t), sqrt(1 - a_t)."""
    a = _alphas(t.device)[t][:, None, None, None]
    return a.sqrt(), (1.0 - a).sqrt()


def add_noise(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e, float32 (paper eq. 1's forward process)."""
    signal, sigma = signal_and_noise(t)
    return signal * x0.float() + sigma * noise.float()


def velocity(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """v = sqrt(a_t) e - sqrt(1 - a_t) x_0, float32 (Salimans and Ho 2022, section 4)."""
    signal, sigma = signal_and_noise(t)
    return signal * noise.float() - sigma * x0.float()


def to_x0(x: Tensor, prediction: Tensor, t: Tensor, prediction_type: str = "v_prediction") -> Tensor:
    """The clean latents (float32) that predictions at x_t mean."""
    check_prediction_type(prediction_type)
    signal, sigma = signal_and_noise(t)
    if prediction_type == "v_prediction":
        return signal * x.float() - sigma * prediction.float()
    return (x.float() - sigma * prediction.float()) / signal


def sample_timesteps(u: Tensor, bias: float) -> Tensor:  # (B,) uniform in [0, 1) -> (B,) int64 in 0..999
    """t = floor(1000 u^(1 / bias)): P(t < k) = (k / 1000)^bias. 1 is uniform; more favours high noise (paper 2.4.1)."""
    if not 0.0 < bias < float("inf"):
        raise ValueError(f"the timesteps' bias is a positive number (1 = uniform, 2 = high noise twice), got {bias}")
    return (u.double() ** (1.0 / bias) * TRAIN_STEPS).long().clamp(max=LAST_TIMESTEP)


def denoising_loss(prediction: Tensor, x0: Tensor, noise: Tensor, t: Tensor,
                   prediction_type: str = "v_prediction") -> tuple[Tensor, Log]:
    """Mean squared error of predictions (B, C, h, w) at add_noise(x0, noise, t): E |e - e^|^2 (paper eq. 1), or of v.

    The log also tells x_0's squared error, which compares across types.
    """
    check_prediction_type(prediction_type)
    wanted = velocity(x0, noise, t) if prediction_type == "v_prediction" else noise.float()
    loss = F.mse_loss(prediction.float(), wanted)
    with torch.no_grad():
        guess = to_x0(add_noise(x0, noise, t), prediction, t, prediction_type)
        log = {"x0_error": F.mse_loss(guess, x0.float())}
    return loss, log


# ---- pictures


def gradient_loss(picture: Tensor, wanted: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute error of the differences between neighbouring pixels, over sizes 1, 1/2, 1/4 ... .

    Blurred edges cost more than with L1 alone (Mathieu et al. 2016, eq. 6, on a pyramid as in Li and Snavely 2018).
    """
    error = (picture - wanted).float()  # all that follows is linear, so it can be done to the difference
    total = error.new_zeros(())
    for scale in range(scales):
        error = F.avg_pool2d(error, 2) if scale else error
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total / scales


def reconstruction_loss(picture: Tensor, wanted: Tensor, gradient_weight: float = 1.0,
                        scales: int = 3) -> tuple[Tensor, Log]:
    """L1 + gradient_weight * gradient_loss, of pictures in [-1, 1]. The log tells the PSNR in dB too."""
    absolute = (picture.float() - wanted.float()).abs().mean()
    gradient = gradient_loss(picture, wanted, scales)
    loss = absolute + gradient_weight * gradient
    with torch.no_grad():
        psnr = -10.0 * torch.log10((picture.float().clamp(-1, 1) - wanted).div(2).square().mean().clamp(min=1e-10))
    return loss, {"l1": absolute.detach(), "gradient": gradient.detach(), "psnr": psnr}


def similarity_loss(picture: Tensor, wanted: Tensor, window: int = 7, stride: int = 3) -> Tensor:
    """1 - SSIM (Wang et al. 2004) of pictures in [-1, 1], with a flat window that moves by `stride`."""
    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride)

    x, y = picture.float(), wanted.float()
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.02**2, 0.06**2  # (0.01 and 0.03 of the range, which is 2)^2
    return 1 - ((2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()


def sharpness_loss(picture: Tensor, wanted: Tensor, window: int = 16) -> Tensor:
    """How far the standard deviation of the grey Laplacian is off, window by window: detail of the same strength, not
    the same detail. What L1 would average away, this asks for (a feature statistic in the sense of Wasserstein
    distortion, Qiu et al. 2023)."""
    def strength(x: Tensor) -> Tensor:
        grey = x.float().mean(1, keepdim=True)
        kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
        return (F.avg_pool2d(F.conv2d(grey, kernel).square(), window) + 1e-5).sqrt()

    return (strength(picture) - strength(wanted)).abs().mean()


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> tuple[Tensor, Log]:
    """E max(0, 1 - D(real)) + E max(0, 1 + D(fake)) over a patch discriminator's scores (Lim and Ye 2017)."""
    loss = F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean()
    return loss, {"real": real.detach().float().mean(), "fake": fake.detach().float().mean()}


def hinge_generator_loss(fake: Tensor) -> tuple[Tensor, Log]:
    """-E D(fake) (Lim and Ye 2017)."""
    loss = -fake.float().mean()
    return loss, {"adversarial": loss.detach()}
