"""Stage III: distribution matching distillation of a multi-step teacher into a few-step student (paper 2.5).

What both arms share, and the paper's arm, DMD (Yin et al. 2024, arXiv 2311.18828). dmd2 is the better arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from training.batch import Batch
from training.stages.dmd import MATCHED_TIMES, fake_score_loss, matching_loss, uniform_timesteps
from training.stages.latent_views import Given, encode_views, predict_x0, sample_latents
from training.stages.losses import Log, add_noise, check_weight
from training.stages.pretrain import MODEL, LatentViews, trained_further
from training.stages.stage import Update
from training.stages.teacher_pairs import TeacherPairs
from worldfm_ros.frame_model.checkpoint import LoadedModel, save_model_folder
from worldfm_ros.frame_model.sampling import LAST_TIMESTEP

FEWEST_TEACHER_STEPS = 3  # fewer are a student's


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """What both arms need. steps: 1 (t = 999), or 2 (t = 999, then t_mid with fresh noise).

    teacher_steps: DPM-Solver++ steps of the teacher's own samples (pairs, previews).
    Raises ValueError that names the field.
    """

    steps: int = 2
    t_mid: int = 200
    teacher_steps: int = 20

    def __post_init__(self) -> None:
        if self.steps not in (1, 2):
            raise ValueError(f"steps of a student is 1 or 2, got {self.steps}")
        if not 0 < self.t_mid < LAST_TIMESTEP:
            raise ValueError(f"t_mid is between 0 and {LAST_TIMESTEP}, got {self.t_mid}")
        if self.teacher_steps < FEWEST_TEACHER_STEPS:
            raise ValueError(f"teacher_steps is {FEWEST_TEACHER_STEPS} or more, got {self.teacher_steps}")


@dataclass(frozen=True, kw_only=True)
class DmdSettings(DistillSettings):
    """The paper's arm. regression_weight: of the error against the teacher's pairs; 0.25 in DMD's released recipe."""

    regression_weight: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("regression_weight", self.regression_weight)


class Distillation:
    """The networks of a distillation: the student and the fake score start as copies of the teacher, whose own weights,
    the real score, stay as they are. Raises ValueError for a teacher that is a few-step student itself, which knows
    the times of its steps alone, or that does not predict velocities: at t = 999 a predicted noise says next to nothing
    of the picture.
    """

    averaged = ("student",)

    def __init__(self, teacher: LoadedModel, settings: DistillSettings) -> None:
        if teacher.settings.prediction_type != "v_prediction":
            raise ValueError("students start at t = 999, where only v_prediction tells the picture; the teacher "
                             f"{teacher.settings.name} predicts {teacher.settings.prediction_type}: middle-train it "
                             "with v_prediction first")
        if teacher.settings.steps < FEWEST_TEACHER_STEPS:
            raise ValueError(f"the teacher {teacher.settings.name} has {teacher.settings.steps} steps: it is itself a "
                             "few-step student; start from its teacher")
        self.teacher, self.settings = teacher, settings
        self.real_score, self.codec = teacher.transformer.eval().requires_grad_(False), teacher.codec
        self.networks: dict[str, nn.Module] = {name: trainable(self.real_score) for name in ("student", "fake_score")}

    def to(self, device: torch.device | str) -> None:
        for module in (self.real_score, self.codec.autoencoder):
            nn.Module.to(module, device)

    def views(self, batch: Batch) -> LatentViews:
        return encode_views(batch, self.codec, self.real_score.settings.camera_encoding != "none")

    def first_guess(self, noise: Tensor, views: LatentViews) -> Tensor:
        """The student's clean latents (B, C, h, w) seen in pure noise at t = 999."""
        return predict_x0(self.networks["student"], noise, same_timestep(LAST_TIMESTEP, noise), views)

    def refined(self, guess: Tensor, noise_mid: Tensor, views: LatentViews) -> Tensor:
        """The second step's clean latents (B, C, h, w): seen in the first guess, noised anew to t_mid."""
        t = same_timestep(self.settings.t_mid, guess)
        return predict_x0(self.networks["student"], add_noise(guess, noise_mid, t), t, views)

    def matching(self, x: Tensor, given: Given) -> tuple[Tensor, Log]:
        """The distribution matching loss on the student's latents, at timesteps U(0.02, 0.98) * 1000."""
        t = uniform_timesteps(given.uniform("matching time"), *MATCHED_TIMES)
        return matching_loss(x, self.real_score, self.networks["fake_score"], given.views, t,
                             given.noise("matching noise"))

    def fake_score_update(self, x: Tensor, given: Given) -> Update:
        """The fake score learns from the student's latents, which get no gradient."""
        t = uniform_timesteps(given.uniform("fake time"))
        return Update("fake_score", *fake_score_loss(self.networks["fake_score"], x.detach(), given.views, t,
                                                     given.noise("fake noise")))

    def decode(self, latents: Tensor, batch: Batch) -> Tensor:  # (B, C, h, w) -> (B, 3, H, W)
        return self.codec.decode(latents, batch.guide if self.codec.guided else None)

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        views = self.views(batch)
        given = Given(batch, views, "of the preview")
        samples = {
            f"teacher, {self.settings.teacher_steps} steps": (self.real_score, self.settings.teacher_steps),
            f"student, {self.settings.steps} steps": (networks["student"], self.settings.steps),
        }
        latents = {title: sample_latents(network, given.noise("noise"), given.noise("noise at t_mid"), views, steps,
                                         self.settings.t_mid)
                   for title, (network, steps) in samples.items()}
        pictures = {title: self.decode(x, batch).clamp(-1, 1) for title, x in latents.items()}
        return {"drawing": batch.drawing, "reference": batch.reference, **pictures, "target": batch.target}

    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """folder/model, a model folder that is sampled as the student was trained."""
        settings = trained_further(self.teacher.settings, steps=self.settings.steps, t_mid=self.settings.t_mid)
        save_model_folder(folder / MODEL, settings, networks["student"], self.codec.autoencoder)


class DmdStage(Distillation):
    """DMD as the paper adapts it: distribution matching, regression on the teacher's pairs, and two steps.

    The generator that DMD speaks of is the whole sampler: gradients go through the second step into the first. (To
    train one step at a time, drawn at random, would show the fake score a mixture of first guesses and final pictures,
    and it would be the mixture that comes to match.) Noise is fresh in every update, but for the pairs'.
    """

    def __init__(self, teacher: LoadedModel, settings: DmdSettings, pairs: str | Path) -> None:
        """pairs: the folder of the teacher's pairs, made or continued."""
        super().__init__(teacher, settings)
        self.pairs = TeacherPairs(pairs, teacher, settings.teacher_steps)

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        given = Given(batch, self.views(batch), f"of step {step}")
        x = self._generate(given.noise("noise"), given)
        terms = [self.matching(x, given), self._regression(given)]
        yield student_update(terms)
        yield self.fake_score_update(x, given)

    def _regression(self, given: Given) -> tuple[Tensor, Log]:
        """The mean squared error against the teacher's latents, from the same noise."""
        if not self.settings.regression_weight:
            return torch.zeros(()), {}
        x = self._generate(self.pairs.noise(given.batch, given.views), given)
        loss = F.mse_loss(x, self.pairs.latents(given.batch, given.views))
        return self.settings.regression_weight * loss, {"regression": loss.detach()}

    def _generate(self, noise: Tensor, given: Given) -> Tensor:
        """The student's latents (B, C, h, w)."""
        guess = self.first_guess(noise, given.views)
        if self.settings.steps == 1:
            return guess
        return self.refined(guess, given.noise("noise at t_mid"), given.views)


def student_update(terms: list[tuple[Tensor, Log]]) -> Update:
    """One update of the student by the sum of its losses."""
    loss = sum(term for term, _ in terms)
    return Update("student", loss, {"loss": loss.detach()} | {k: v for _, log in terms for k, v in log.items()})


def trainable(network: nn.Module) -> nn.Module:
    """A float32 copy with weights of its own that are to be trained."""
    return nn.Module.to(copy.deepcopy(network), dtype=torch.float32).train().requires_grad_(True)


def same_timestep(t: int, x: Tensor) -> Tensor:  # (B,)
    return torch.full((len(x),), t, device=x.device)
