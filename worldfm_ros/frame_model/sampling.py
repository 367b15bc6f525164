"""From noise to a latent: samplers are functions over `denoise(x, t) -> prediction` (paper 2.5; the released recipe).

x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e, with a_t the running product of 1 - beta. `denoise` gets the noisy latent
(B, C, h, w) and the timestep as a Python number, which stays exact: a bfloat16 tensor would turn 999 into 1000. It
returns v = sqrt(a_t) e - sqrt(1 - a_t) x_0 (`v_prediction`) or e (`epsilon`). Mixing is done in float32, whatever dtype
`denoise` works in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from diffusers import DPMSolverMultistepScheduler
import numpy as np
import torch
from torch import Tensor

TRAIN_STEPS = 1000
LAST_TIMESTEP = TRAIN_STEPS - 1  # pure noise, but for sqrt(a_999) = 0.0064
BETAS = (1e-4, 0.02)
PREDICTION_TYPES = ("v_prediction", "epsilon")

Denoise = Callable[[Tensor, float], Tensor]


@lru_cache(maxsize=1)
def alphas_cumprod() -> np.ndarray:
    """(1000,) float64: a_t of the linear beta schedule."""
    alphas = np.cumprod(1.0 - np.linspace(*BETAS, TRAIN_STEPS, dtype=np.float64))
    alphas.setflags(write=False)
    return alphas


def signal_and_noise(t: int) -> tuple[float, float]:
    """sqrt(a_t), sqrt(1 - a_t) of an integer timestep in 0..999."""
    a = float(alphas_cumprod()[t])
    return a**0.5, (1.0 - a) ** 0.5


def add_noise(x0: Tensor, noise: Tensor, t: int) -> Tensor:
    """x_t (float32) of clean latents and unit Gaussian noise of the same shape."""
    signal, sigma = signal_and_noise(t)
    return signal * x0.float() + sigma * noise.float()


def to_x0(x: Tensor, prediction: Tensor, t: int, prediction_type: str = "v_prediction") -> Tensor:
    """The clean latent (float32) that a prediction at x_t means."""
    check_prediction_type(prediction_type)
    signal, sigma = signal_and_noise(t)
    if prediction_type == "v_prediction":
        return signal * x.float() - sigma * prediction.float()
    return (x.float() - sigma * prediction.float()) / signal


def sample(denoise: Denoise, noise: Tensor, noise_mid: Tensor, steps: int, t_mid: int = 200,
           prediction_type: str = "v_prediction") -> Tensor:
    """Latents (B, C, h, w) float32 in `steps` network calls, the way a model of that many steps is sampled."""
    if steps == 1:
        return sample_one_step(denoise, noise, prediction_type)
    if steps == 2:
        return sample_two_step(denoise, noise, noise_mid, t_mid, prediction_type)
    return sample_multistep(denoise, noise, steps, prediction_type)


def sample_one_step(denoise: Denoise, noise: Tensor, prediction_type: str = "v_prediction") -> Tensor:
    """Latents (B, C, h, w) float32 from unit Gaussian noise in one call at t = 999."""
    return to_x0(noise, denoise(noise, LAST_TIMESTEP), LAST_TIMESTEP, prediction_type)


def sample_two_step(denoise: Denoise, noise: Tensor, noise_mid: Tensor, t_mid: int = 200,
                    prediction_type: str = "v_prediction") -> Tensor:
    """Latents (B, C, h, w) float32: a first guess at t = 999, noised anew with `noise_mid` to t_mid, refined there."""
    guess = sample_one_step(denoise, noise, prediction_type)
    x = add_noise(guess, noise_mid, t_mid).to(noise.dtype)
    return to_x0(x, denoise(x, t_mid), t_mid, prediction_type)


def sample_multistep(denoise: Denoise, noise: Tensor, steps: int, prediction_type: str = "v_prediction") -> Tensor:
    """Latents (B, C, h, w) float32 by DPM-Solver++(2M) (arXiv 2211.01095): for the teacher and for many-step models."""
    scheduler = dpm_solver(steps, prediction_type)
    x = noise.float()
    for t in scheduler.timesteps.tolist():
        x = scheduler.step(denoise(x.to(noise.dtype), t).float(), t, x).prev_sample
    return x


def dpm_solver(steps: int, prediction_type: str = "v_prediction") -> DPMSolverMultistepScheduler:
    """diffusers' solver on the released recipe's times: uniform from 999 to 0, fractions too; last step first order.

    `set_timesteps` rounds its times to integers and interpolates sigma; the recipe does neither (log a_t is
    interpolated), so the scheduler is given its times and sigmas.
    """
    check_prediction_type(prediction_type)
    if steps < 1:
        raise ValueError(f"a sampler takes at least 1 step, got {steps}")
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=TRAIN_STEPS, beta_start=BETAS[0], beta_end=BETAS[1], beta_schedule="linear", solver_order=2,
        prediction_type=prediction_type, euler_at_final=True, final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(steps)
    times = np.linspace(LAST_TIMESTEP, 0, steps + 1)
    a = np.exp(np.interp(times, np.arange(TRAIN_STEPS), np.log(alphas_cumprod())))
    scheduler.timesteps = torch.from_numpy(times[:-1])
    scheduler.sigmas = torch.from_numpy(np.sqrt((1.0 - a) / a))
    scheduler.set_begin_index(0)
    return scheduler


def check_prediction_type(prediction_type: str) -> None:
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(f"prediction_type is one of {', '.join(PREDICTION_TYPES)}, got {prediction_type!r}")
