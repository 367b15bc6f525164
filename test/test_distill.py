"""Distillation: the gradient by hand, Gaussians whose scores are known, the order of updates, pairs that repeat."""

import copy
import math
from types import SimpleNamespace

import numpy as np
from overfit import overfitted_teacher, psnr
import pytest
from tiny_models import tiny_model, tiny_settings
import torch
from torch import nn

from training.batch import Batch
from training.data.loader import loader
from training.recipes import find_recipe
from training.stages.distill import DistillSettings, DmdSettings, DmdStage
from training.stages.dmd import matching_gradient, matching_loss, uniform_timesteps
from training.stages.dmd2 import Dmd2Settings, Dmd2Stage
from training.stages.finish import FinishSettings
from training.stages.latent_views import Given, encode_views, sample_latents
from training.stages.losses import signal_and_noise
from training.stages.pretrain import LatentViews
from training.stages.teacher_pairs import TeacherPairs
from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.checkpoint import load_model_folder
from worldfm_ros.frame_model.sampling import alphas_cumprod, sample_one_step, sample_two_step

MEAN, STD = 0.7, 0.5


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cameras(count, height, width):
    w2c = np.broadcast_to(np.eye(4), (count, 3, 4, 4)).copy()
    w2c[:, :2, 0, 3] = 0.1
    K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    return Cameras(w2c, np.broadcast_to(K, (count, 3, 3, 3)).copy(), (height, width))


def batch_of(count=2, height=32, width=32, first_seed=0):
    pictures = [gaussian(count, channels, height, width, seed=first_seed + k).clamp(-1, 1)
                for k, channels in enumerate((3, 3, 3, 8))]
    coverage = gaussian(count, 1, height, width, seed=first_seed + 9) > 0
    return Batch(pictures[0], pictures[1], coverage, pictures[2], pictures[3], cameras(count, height, width),
                 tuple(range(first_seed, first_seed + count)))


def follow(stage, batch, steps, rates):
    """Train as the loop does: every update's optimiser step is taken before the next one is asked for."""
    optimizers = {name: torch.optim.Adam(network.parameters(), rates[name], betas=(0.5, 0.99))
                  for name, network in stage.networks.items()}
    updated = []
    for step in range(steps):
        for update in stage.updates(batch, step):
            optimizer = optimizers[update.network]
            optimizer.param_groups[0]["lr"] = rates[update.network] * (1 - step / steps)
            optimizer.zero_grad()
            update.loss.backward()
            optimizer.step()
            updated.append(update.network)
    return updated


# ---- the arithmetic


class Affine(nn.Module):
    """v = gain x + bias, whatever the time."""

    def __init__(self, gain, bias):
        super().__init__()
        self.gain, self.bias = gain, bias

    def forward(self, x, t, anchor, reference, cameras):
        return self.gain * x + self.bias


def test_matching_gradient_is_that_of_the_paper_by_hand():
    """numpy, equations 7 and 8 of Yin et al. for velocity predictors, one sample at a time."""
    x, noise = gaussian(2, 3, 2, 2, seed=1).requires_grad_(True), gaussian(2, 3, 2, 2, seed=2)
    t, real, fake = torch.tensor([100, 700]), Affine(0.3, -0.1), Affine(-0.2, 0.4)
    loss, log = matching_loss(x, real, fake, LatentViews(None, x.detach(), None), t, noise)
    loss.backward()

    expected = np.zeros(x.shape)
    for i, time in enumerate(t.tolist()):
        a = alphas_cumprod()[time]
        clean, e = x[i].detach().double().numpy(), noise[i].double().numpy()
        noisy = np.sqrt(a) * clean + np.sqrt(1 - a) * e
        x_real = np.sqrt(a) * noisy - np.sqrt(1 - a) * (0.3 * noisy - 0.1)
        x_fake = np.sqrt(a) * noisy - np.sqrt(1 - a) * (-0.2 * noisy + 0.4)
        expected[i] = (x_fake - x_real) / np.abs(clean - x_real).mean()
    np.testing.assert_allclose(x.grad.numpy() * x.numel(), expected, rtol=1e-4, atol=1e-6)
    assert float(log["matching_gradient"]) == pytest.approx(np.abs(expected).mean(), rel=1e-5)
    assert loss.item() == pytest.approx(0.5 * (expected**2).mean(), rel=1e-4)


def test_matching_gradient_leads_from_fake_to_real_and_ends_where_they_agree():
    x, x_real = gaussian(2, 4, 2, 2), gaussian(2, 4, 2, 2, seed=1)
    assert matching_gradient(x, x_real, x_real).abs().max() == 0
    step = -matching_gradient(x, x_real, x)
    assert ((x + 1e-3 * step - x_real).abs() < (x - x_real).abs()).all()
    assert matching_gradient(x, x, x).isfinite().all()


def test_timesteps_are_whole_and_stay_in_the_schedule():
    u = torch.tensor([0.0, 0.5, 1.0 - 1e-7])
    assert uniform_timesteps(u).tolist() == [0, 500, 999]
    assert uniform_timesteps(u, 0.02, 0.98).tolist() == [20, 500, 979]


# ---- Gaussians: every score is known, the student's right answer too


class GaussianScore(nn.Module):
    """The velocity predictor of independent Gaussian pixels: affine in x, with a trainable table over time."""

    KNOTS = 41

    def __init__(self, mean, std):
        super().__init__()
        self.settings = SimpleNamespace(camera_encoding="none")
        signal, sigma = (x.flatten() for x in signal_and_noise(torch.linspace(0, 999, self.KNOTS).long()))
        variance = signal**2 * std**2 + sigma**2
        self.table = nn.Parameter(torch.stack([signal * sigma * (1 - std**2) / variance, -mean * sigma / variance], -1))

    def forward(self, x, t, anchor, reference, cameras):
        t = torch.as_tensor(t, dtype=torch.float32).expand(len(x))
        place = t / 999 * (self.KNOTS - 1)
        low = place.floor().clamp(max=self.KNOTS - 2).long()
        gain, bias = torch.lerp(self.table[low], self.table[low + 1], (place - low)[:, None]).unbind(-1)
        return gain[:, None, None, None] * x + bias[:, None, None, None]


class PixelCodec:
    """Latents that are the pictures."""

    guided, latent_channels = False, 3
    autoencoder = nn.Identity()

    def encode(self, rgb):
        return rgb

    def decode(self, latents, guide=None):
        return latents


def gaussian_teacher():
    return SimpleNamespace(settings=tiny_settings(steps=20), transformer=GaussianScore(MEAN, STD), codec=PixelCodec())


def gaussian_batch(count=8, side=10):
    batch = batch_of(count, side, side)
    true = MEAN + STD * gaussian(count, 3, side, side, seed=5)
    return Batch(true, batch.drawing, batch.coverage, batch.reference, batch.guide, batch.cameras, batch.seeds)


def student_statistics(stage):
    noise, noise_mid = gaussian(4000, 3, 1, 1, seed=7), gaussian(4000, 3, 1, 1, seed=8)
    x = sample_latents(stage.networks["student"], noise, noise_mid, LatentViews(None, noise, None),
                       stage.settings.steps, stage.settings.t_mid)
    return x.mean().item(), x.std().item()


@pytest.mark.parametrize("arm, steps, rate, length", [
    ("dmd", 1, 6e-3, 240), ("dmd", 2, 6e-3, 320), ("dmd2", 1, 1e-2, 300), ("dmd2", 2, 2e-2, 330)])
def test_student_of_a_gaussian_gets_its_mean_and_spread(arm, steps, rate, length, tmp_path):
    """The copy of the teacher that it starts as has a spread of 0.003 in one step and 0.24 in two."""
    if arm == "dmd":
        stage = DmdStage(gaussian_teacher(), DmdSettings(steps=steps), tmp_path)
    else:
        stage = Dmd2Stage(gaussian_teacher(), Dmd2Settings(steps=steps, fake_updates=3, discriminator_width=8))
    before = student_statistics(stage)[1]
    follow(stage, gaussian_batch(), length, {"student": rate, "fake_score": 2e-2, "discriminator": 1e-3})
    mean, std = student_statistics(stage)
    assert before < 0.5 * STD
    assert mean == pytest.approx(MEAN, abs=0.05)
    assert std == pytest.approx(STD, rel=0.15)


# ---- students of a frame transformer


def tiny_teacher(**settings):
    return tiny_model(tiny_settings(**{"steps": 20} | settings))


def stages(folder, **changes):
    fields = {"teacher_steps": 3} | changes
    return {"dmd": DmdStage(tiny_teacher(), DmdSettings(**fields), folder / "pairs"),
            "dmd2": Dmd2Stage(tiny_teacher(), Dmd2Settings(**fields, fake_updates=3, discriminator_width=8))}


SLOW = {"student": 1e-5, "fake_score": 1e-5, "discriminator": 1e-5}


@pytest.mark.parametrize("t_mid", [100, 400])
def test_a_student_in_training_paints_what_the_samplers_paint(t_mid, tmp_path):
    stage, batch = stages(tmp_path, t_mid=t_mid)["dmd2"], batch_of()
    views = stage.views(batch)
    given = Given(batch, views, "here")
    noise, noise_mid, student = given.noise("first"), given.noise("second"), stage.networks["student"]
    guess = stage.first_guess(noise, views)
    torch.testing.assert_close(guess, sample_one_step(lambda x, t: views.predict(student, x, t), noise))
    torch.testing.assert_close(stage.refined(guess, noise_mid, views),
                               sample_two_step(lambda x, t: views.predict(student, x, t), noise, noise_mid, t_mid))


def test_updates_come_in_order_on_two_time_scales(tmp_path):
    arms = stages(tmp_path)
    assert follow(arms["dmd"], batch_of(), 2, SLOW) == ["student", "fake_score"] * 2
    critics = ["fake_score", "discriminator"]
    assert follow(arms["dmd2"], batch_of(), 6, SLOW) == [*critics, *critics, *critics, "student"] * 2


@pytest.mark.parametrize("arm", ["dmd", "dmd2"])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_loss_reaches_its_own_network_and_all_of_it(arm, steps, tmp_path):
    stage = stages(tmp_path, steps=steps)[arm]
    seen = set()
    for step in range(3):
        for update in stage.updates(batch_of(), step):
            for network in stage.networks.values():
                network.zero_grad()
            update.loss.backward()
            reached = {name for name, network in stage.networks.items()
                       if any(p.grad is not None for p in network.parameters())}
            assert reached == {update.network}
            assert all(p.grad is not None for p in stage.networks[update.network].parameters())
            seen.add(update.network)
    assert seen == set(stage.networks)
    assert all(p.grad is None and not p.requires_grad for p in stage.real_score.parameters())


def test_only_the_papers_arm_sends_gradients_through_the_second_step(tmp_path):
    for arm, flows in (("dmd", True), ("dmd2", False)):
        stage = stages(tmp_path / arm)[arm]
        given = Given(batch_of(), stage.views(batch_of()), "here")
        guesses = []
        first_guess = stage.first_guess

        def remember(noise, views, first_guess=first_guess, guesses=guesses):
            guesses.append(first_guess(noise, views).requires_grad_())
            return guesses[-1]

        stage.first_guess = remember
        x = stage._generate(given.noise("noise"), given) if arm == "dmd" else stage._generate(given)[1]
        gradient, = torch.autograd.grad(x.sum(), guesses[0], allow_unused=True)
        assert (gradient is not None) == flows


def test_the_teacher_must_predict_velocities(tmp_path):
    with pytest.raises(ValueError, match="only v_prediction .* predicts epsilon"):
        Dmd2Stage(tiny_teacher(prediction_type="epsilon"), Dmd2Settings())


@pytest.mark.parametrize("steps", [1, 2])
def test_a_student_is_no_teacher(steps, tmp_path):
    message = f"the teacher tiny has {steps} steps: it is itself a few-step student; start from its teacher"
    for stage in (lambda teacher: Dmd2Stage(teacher, Dmd2Settings()),
                  lambda teacher: DmdStage(teacher, DmdSettings(), tmp_path)):
        with pytest.raises(ValueError, match=message):
            stage(tiny_teacher(steps=steps))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize(("settings", "name"), [(DmdSettings, "regression_weight"), (Dmd2Settings, "gan_weight"),
                                                (FinishSettings, "gradient_weight")])
def test_weights_that_make_no_loss_are_refused(settings, name, weight):
    with pytest.raises(ValueError, match=f"{name} is a finite number from 0 up, got {weight}"):
        settings(**{name: weight})


@pytest.mark.parametrize("wrong, message", [
    ({"steps": 3}, "steps .* 1 or 2, got 3"), ({"t_mid": 999}, "t_mid .* got 999"),
    ({"teacher_steps": 2}, "teacher_steps .* got 2")])
def test_settings_that_make_no_student_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DistillSettings(**wrong)


@pytest.mark.parametrize("arm", ["dmd", "dmd2"])
def test_export_is_sampled_as_it_was_trained_and_preview_shows_both(arm, tmp_path):
    stage, batch = stages(tmp_path, t_mid=400)[arm], batch_of()
    columns = stage.preview(stage.networks, batch)
    assert list(columns) == ["drawing", "reference", "teacher, 3 steps", "student, 2 steps", "target"]
    assert all(column.shape == batch.target.shape and column.abs().max() <= 1 for column in columns.values())
    stage.export(stage.networks, tmp_path / "out")
    model = load_model_folder(tmp_path / "out" / "model")
    assert (model.settings.steps, model.settings.t_mid) == (2, 400)
    student = stage.networks["student"].state_dict()
    assert all(torch.equal(student[name], tensor) for name, tensor in model.transformer.state_dict().items())


# ---- pairs


def pairs_of(batch, folder, model=None, steps=3):
    pairs = TeacherPairs(folder, model or tiny_model(), steps)
    return pairs, pairs.latents(batch, encode_views(batch, pairs.teacher.codec, True))


def test_pairs_repeat_and_are_found_by_seed(tmp_path):
    batch = batch_of(3)
    pairs, latents = pairs_of(batch, tmp_path / "a")
    assert torch.equal(latents, pairs_of(batch, tmp_path / "b")[1])
    again = TeacherPairs(tmp_path / "a", tiny_model(), 3)
    again.teacher.transformer.forward = None  # a stored pair is not painted again
    assert len(again) == 3
    part = Batch(*(x[1:] for x in (batch.target, batch.drawing, batch.coverage, batch.reference, batch.guide)),
                 cameras(2, 32, 32), batch.seeds[1:])
    assert torch.equal(again.latents(part, encode_views(part, again.teacher.codec, True)), latents[1:])


def test_pairs_are_what_the_teacher_paints_from_their_noise(tmp_path):
    batch = batch_of()
    pairs, latents = pairs_of(batch, tmp_path)
    views = encode_views(batch, pairs.teacher.codec, True)
    noise = pairs.noise(batch, views)
    torch.testing.assert_close(latents, sample_latents(pairs.teacher.transformer, noise, noise, views, 3, 200))


def test_pairs_of_another_teacher_or_a_damaged_file_are_refused(tmp_path):
    pairs_of(batch_of(), tmp_path)
    with pytest.raises(ValueError, match="another teacher or sampler"):
        TeacherPairs(tmp_path, tiny_model(depth=1), 3)
    with pytest.raises(ValueError, match="another teacher or sampler"):
        TeacherPairs(tmp_path, tiny_model(), 4)
    file, = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match="is damaged .* remove it"):
        TeacherPairs(tmp_path, tiny_model(), 3)


@pytest.mark.parametrize("name", ["smoke-distill-dmd", "tiny-distill-dmd", "xl-distill"])
def test_recipes_with_pairs_use_each_of_them_several_times(name):
    recipe = find_recipe(name)
    assert recipe.data.distinct * 2 <= recipe.run.steps * recipe.run.accumulate


def test_a_run_samples_its_teacher_in_the_first_round_alone(tmp_path):
    recipe = find_recipe("smoke-distill-dmd")
    stage, painted = stages(tmp_path)["dmd"], []
    sample = stage.pairs._sample
    stage.pairs._sample = lambda *given: painted.append(sample(*given)) or painted[-1]
    for step, batch in enumerate(loader(recipe.clips(None), recipe.data, 0, 2 * recipe.data.distinct)):
        list(stage.updates(batch, step))
    assert len(painted) == recipe.data.distinct
    assert len(stage.pairs) == recipe.data.distinct * recipe.data.batch


# ---- quality


def worsened(network, amount=0.3):
    """A copy whose matrices are off by `amount` of their own spread."""
    network, random = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (weight for weight in network.parameters() if weight.ndim > 1):
            weight += amount * weight.std() * torch.randn(weight.shape, generator=random)
    return network


@pytest.mark.parametrize("arm", ["dmd", "dmd2"])
def test_a_spoiled_student_comes_within_half_a_decibel_of_its_overfitted_teacher(arm, tmp_path):
    """In 2 steps against 8, from more than 1 dB below: 1.4 to 4.3, as processors round the teacher's training."""
    teacher = overfitted_teacher()
    stage = (DmdStage(teacher.model, DmdSettings(teacher_steps=8), tmp_path) if arm == "dmd" else
             Dmd2Stage(teacher.model, Dmd2Settings(teacher_steps=8, fake_updates=2, gan_weight=0.0)))
    stage.networks["student"] = worsened(stage.networks["student"])

    def quality():
        columns = stage.preview(stage.networks, teacher.batch)
        return [psnr(columns[title], teacher.batch.target) for title in ("teacher, 8 steps", "student, 2 steps")]

    of_teacher, before = quality()
    follow(stage, teacher.batch, 30, {"student": 3e-4, "fake_score": 1e-3})
    _, after = quality()
    assert before < of_teacher - 1.0
    assert after > of_teacher - 0.5
