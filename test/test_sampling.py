"""Samplers against closed forms and recorded numbers; noise that repeats itself, white and of unit variance."""

import hashlib
from pathlib import Path
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from worldfm_ros.frame_model.noise import DrawnSurface, SeededNoise, WorldNoise
from worldfm_ros.frame_model.sampling import (
    add_noise,
    alphas_cumprod,
    dpm_solver,
    sample,
    sample_multistep,
    sample_one_step,
    sample_two_step,
    signal_and_noise,
    to_x0,
)
from worldfm_ros.geometry import Intrinsics, Pose

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "open" / "sampler.safetensors"


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- schedule and predictions


def test_schedule_has_the_published_values():
    assert alphas_cumprod()[999] == pytest.approx(4.035830e-5, rel=1e-6)
    assert signal_and_noise(200) == pytest.approx((0.8101525, 0.5862192), abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(t=st.integers(0, 999), seed=st.integers(0, 99))
def test_a_true_prediction_gives_back_the_clean_latent(t, seed):
    x0, noise = gaussian(1, 4, 4, 6, seed=seed), gaussian(1, 4, 4, 6, seed=seed + 100)
    x, (signal, sigma) = add_noise(x0, noise, t), signal_and_noise(t)
    torch.testing.assert_close(to_x0(x, signal * noise - sigma * x0, t), x0, atol=1e-5, rtol=0)
    amplified = 1e-6 / signal  # dividing by sqrt(a_t) magnifies float32's rounding
    torch.testing.assert_close(to_x0(x, noise, t, "epsilon"), x0, atol=1e-5 + amplified, rtol=0)


def test_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="v_prediction, epsilon, got 'x0'"):
        to_x0(gaussian(1), gaussian(1), 5, "x0")


# ---- samplers


def oracle(x0, prediction_type, calls):
    """A perfect network for a data set of one latent."""
    def denoise(x, t):
        calls.append(t)
        a = float(np.exp(np.interp(t, np.arange(1000), np.log(alphas_cumprod()))))
        noise = (x.float() - a**0.5 * x0) / (1 - a) ** 0.5
        return noise if prediction_type == "epsilon" else a**0.5 * noise - (1 - a) ** 0.5 * x0
    return denoise


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("steps, times", [(1, [999]), (2, [999, 200]), (6, [999, 832.5, 666, 499.5, 333, 166.5])])
def test_samplers_find_the_only_answer_at_their_timesteps(steps, times, prediction_type):
    x0, calls = gaussian(1, 4, 4, 6, seed=1), []
    noise, noise_mid = gaussian(1, 4, 4, 6, seed=2), gaussian(1, 4, 4, 6, seed=3)
    found = sample(oracle(x0, prediction_type, calls), noise, noise_mid, steps, prediction_type=prediction_type)
    assert calls == times
    # an epsilon-network's own rounding is divided by sqrt(a_999) = 0.006; DPM-Solver ends at t = 0, where a is 0.9999
    assert (found - x0).abs().max() < (1e-3 if steps < 3 else 0.05)


def test_bfloat16_networks_see_exact_timesteps_and_rounded_latents():
    seen = []

    def denoise(x, t):
        seen.append((x.dtype, t))
        return torch.zeros_like(x)

    noise = gaussian(1, 4, 4, 4).bfloat16()
    assert sample_two_step(denoise, noise, noise).dtype == torch.float32
    assert sample_multistep(denoise, noise, 3).dtype == torch.float32
    assert seen == [(torch.bfloat16, t) for t in (999, 200, 999, 666, 333)]


def test_two_step_uses_its_second_noise():
    x, a, b = (gaussian(1, 4, 4, 4, seed=seed) for seed in range(3))
    assert not torch.equal(sample_two_step(lambda x, t: x, x, a), sample_two_step(lambda x, t: x, x, b))
    assert not torch.equal(sample_two_step(lambda x, t: x, x, a), sample_two_step(lambda x, t: x, x, a, t_mid=300))


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_dpm_solver_against_its_formulas(steps):
    """Data of deviation 1/2: the best answer is linear in x, so the sampler multiplies the noise by one number.

    That number by the formulas of arXiv 2211.01095, algorithm 2, in double precision; and, for many steps, by the exact
    flow, which ends at sqrt(v_0 / v_T), v_t = a_t / 4 + 1 - a_t.
    """
    def level(t):
        a = float(np.exp(np.interp(t, np.arange(1000), np.log(alphas_cumprod()))))
        return a, a**0.5, (1 - a) ** 0.5, np.log(a / (1 - a)) / 2

    times = np.linspace(999, 0, steps + 1)
    x, previous = 1.0, None
    for i, (t, t_next) in enumerate(zip(times[:-1], times[1:], strict=True)):
        (a, alpha, sigma, lambda_), (_, alpha_next, sigma_next, lambda_next) = level(t), level(t_next)
        clean = alpha / 4 / (a / 4 + 1 - a) * x
        h = lambda_next - lambda_
        mixed = clean
        if previous is not None and i < steps - 1:
            ratio = previous[1] / h
            mixed = (1 + 1 / (2 * ratio)) * clean - 1 / (2 * ratio) * previous[0]
        x = sigma_next / sigma * x - alpha_next * np.expm1(-h) * mixed
        previous = clean, h

    def denoise(x, t):  # the mean of the noise given x
        a, _, sigma, _ = level(t)
        return sigma / (a / 4 + 1 - a) * x

    noise = gaussian(1, 4, 8, 8)
    torch.testing.assert_close(sample_multistep(denoise, noise, steps, "epsilon"), noise * x, atol=2e-4, rtol=2e-4)
    if steps == 20:
        assert x == pytest.approx(0.5, rel=0.05)


def test_dpm_solver_refuses_no_steps():
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        dpm_solver(0)


@pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is not there")
@pytest.mark.parametrize("mode", ["nopose", "prope"])
@pytest.mark.parametrize("steps", [1, 2])
def test_recorded_calls_of_the_released_samplers(mode, steps):
    from safetensors.torch import load_file
    golden = load_file(GOLDEN)
    np.testing.assert_array_equal(alphas_cumprod(), golden["alphas_cumprod"].numpy())
    calls = []

    def denoise(x, t):
        call = f"{mode}.steps{steps}.call{len(calls)}"
        torch.testing.assert_close(x, golden[call + ".x"], atol=5e-5, rtol=0)
        calls.append(t)
        assert t == int(golden[call + ".t"])
        return golden[call + ".pred"]

    found = sample_one_step(denoise, golden["in.z_T"]) if steps == 1 else sample_two_step(
        denoise, golden["in.z_T"], golden["in.noise_mid"])
    torch.testing.assert_close(found, golden[f"{mode}.steps{steps}.x0"], atol=5e-5, rtol=0)
    np.testing.assert_allclose(dpm_solver(6).timesteps, golden["nopose.steps6.t_sequence"], atol=1e-3)


# ---- noise

LATENT = (24, 32)  # rows, columns
CAMERA = Intrinsics.from_hfov(256, 192, 1.2)


def see_room(x=0.0, y=0.0, yaw=0.0, hole=False):
    """A floor at z = 0 and a slanted wall 3 m ahead, seen from 1.2 m above; `hole`: a part without surface."""
    eye = np.array([y, x, 1.2])
    pose = Pose.looking_at(eye, eye + [np.cos(yaw), np.sin(yaw), -0.15])
    rays = pose.rotation.apply(CAMERA.unproject(np.ones((CAMERA.height, CAMERA.width))).reshape(-1, 3))
    with np.errstate(divide="ignore"):
        floor = np.where(rays[:, 2] < 0, -eye[2] / rays[:, 2], np.inf)
    slant = np.array([1.0, -0.3, 0.0])
    wall = (3.0 - slant @ eye) / (rays @ slant)
    depth = np.minimum(floor, wall).astype(np.float32).reshape(CAMERA.height, CAMERA.width)
    if hole:
        depth[:96, :128] = 0
    return DrawnSurface(depth, CAMERA, pose)


def correlation_on_surface(noise, before, after):
    """Between the noise that `after` sees at its latent pixels and what `before` saw at the same surface points."""
    rows, columns = LATENT
    points = after.intrinsics.unproject(after.depth)[4::8, 4::8].reshape(-1, 3)
    pixels = before.intrinsics.project(before.T_world_camera.inverse().apply(after.T_world_camera.apply(points)))
    grid = torch.from_numpy((pixels + 0.5) / [CAMERA.width, CAMERA.height] * 2 - 1).float().reshape(1, rows, columns, 2)
    inside = (grid.abs() < 1).all(-1)[0]
    first, second = (noise.draw(2, 4, rows, columns, surface) for surface in (before, after))
    warped = F.grid_sample(first, grid.expand(2, -1, -1, -1), mode="nearest", align_corners=False)
    return float(torch.corrcoef(torch.stack([warped[..., inside].flatten(), second[..., inside].flatten()]))[0, 1])


@pytest.mark.parametrize("make", [SeededNoise, WorldNoise])
@pytest.mark.parametrize("hole", [False, True])
def test_noise_is_white_with_unit_variance(make, hole):
    noise = torch.stack([make(seed).draw(2, 4, *LATENT, see_room(hole=hole)) for seed in range(40)])  # (40, 2, 4, h, w)
    deviation = noise.numel() ** -0.5
    assert noise.dtype == torch.float32 and noise.shape == (40, 2, 4, *LATENT)
    assert abs(noise.mean()) < 4 * deviation
    assert abs(noise.var() - 1) < 4 * deviation * 2**0.5
    for axis in range(noise.ndim):  # seeds, the two draws, channels, rows, columns: neighbours have nothing in common
        products = noise.narrow(axis, 1, noise.shape[axis] - 1) * noise.narrow(axis, 0, noise.shape[axis] - 1)
        assert abs(products.mean()) < 4.5 * products.numel() ** -0.5
    assert noise.var(dim=(0, 1, 2)).sub(1).abs().max() < 0.45  # every pixel by itself, 320 draws each


@pytest.mark.parametrize("make", [SeededNoise, WorldNoise])
def test_a_static_camera_has_the_same_noise(make):
    first, second = (make(7).draw(2, 4, *LATENT, see_room()) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, make(8).draw(2, 4, *LATENT, see_room()))


# small motions: less than a latent pixel, where any noise agrees with itself, then more, where only the world's does
@pytest.mark.parametrize("motion, at_least", [
    ({"yaw": 0.01}, 0.6), ({"x": 0.02}, 0.6), ({"y": 0.1}, 0.4), ({"yaw": 0.1}, 0.4), ({"x": 0.15}, 0.3),
])
def test_world_noise_moves_with_the_surface(motion, at_least):
    assert correlation_on_surface(WorldNoise(3), see_room(), see_room(**motion)) > at_least


def test_seeded_noise_does_not():
    assert abs(correlation_on_surface(SeededNoise(3), see_room(), see_room(yaw=0.1))) < 0.1


def test_world_noise_far_from_the_origin_and_where_nothing_is_seen():
    surface = see_room()
    pose = surface.T_world_camera
    far = DrawnSurface(surface.depth, CAMERA, Pose(pose.rotation, pose.translation + 1e6))
    noise = WorldNoise(1).draw(1, 4, *LATENT, far)
    assert torch.isfinite(noise).all() and abs(noise.std() - 1) < 0.05
    nothing = DrawnSurface(np.zeros_like(surface.depth), CAMERA, pose)
    assert torch.equal(WorldNoise(1).draw(1, 4, *LATENT, nothing), SeededNoise(1).draw(1, 4, *LATENT, nothing))


def test_noise_has_the_same_bytes_in_a_fresh_process():
    code = ("import hashlib, test_sampling as t; from worldfm_ros.frame_model.noise import SeededNoise, WorldNoise; "
            "print(*(t.digest(make(5)) for make in (SeededNoise, WorldNoise)))")
    there = subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, capture_output=True,
                           text=True)
    assert there.stdout.split() == [digest(SeededNoise(5)), digest(WorldNoise(5))]


def digest(noise):
    return hashlib.sha256(noise.draw(2, 4, *LATENT, see_room(hole=True)).numpy().tobytes()).hexdigest()
