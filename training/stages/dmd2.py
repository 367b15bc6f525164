"""Stage III, the better arm: DMD2's two time scales without pairs, and a first step that keeps to the teacher.

From DMD2 (Yin et al. 2024, arXiv 2405.14867): no regression set, the fake score is updated several times for each
update of the student, the second step trains on what the first really gives, a small adversarial loss against true
targets. From DP-DMD (arXiv 2602.03139): the first step keeps to the teacher's velocity targets and is left alone by
distribution matching, which is mode-seeking and would cost diversity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from training.batch import Batch
from training.stages.distill import Distillation, DistillSettings, student_update
from training.stages.dmd import uniform_timesteps
from training.stages.latent_views import Given, solve
from training.stages.losses import Log, add_noise, check_weight, hinge_discriminator_loss, hinge_generator_loss
from training.stages.pretrain import LatentViews
from training.stages.stage import Update, frozen
from worldfm_ros.frame_model.checkpoint import LoadedModel

JUDGED_TIMES = (0.02, 0.5)  # of the schedule: the discriminator sees latents through this much noise


@dataclass(frozen=True, kw_only=True)
class Dmd2Settings(DistillSettings):
    """fake_updates: of the fake score (and the discriminator) for each one of the student.

    first_step_calls: teacher calls (DPM-Solver++) that make the first step's target; 1 is the teacher's own guess at
        t = 999, more look further along its trajectory. DP-DMD aims at the chord to the teacher's state at t_mid, for
        samplers that keep their noise; ours draws it anew at t_mid, so the target is a clean latent.
    gan_weight: of the adversarial loss; 0 = no discriminator. discriminator_width: its channels.
    """

    fake_updates: int = 5
    first_step_calls: int = 4
    gan_weight: float = 3e-3
    discriminator_width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fake_updates", "first_step_calls", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is a whole number from 1 up, got {getattr(self, name)}")
        check_weight("gan_weight", self.gan_weight)


class Dmd2Stage(Distillation):
    """The fake score and the discriminator learn in every step, the student in every `fake_updates`-th.

    A student's update trains both steps: the first by its target, the second by distribution matching on what the first
    gave, through which no gradient goes. A student of one step gets distribution matching alone.
    """

    def __init__(self, teacher: LoadedModel, settings: Dmd2Settings) -> None:
        super().__init__(teacher, settings)
        # judges the student as it is, where the loop may wrap the one in `networks`: a wrapper that has seen a forward
        # with gradients waits for its backward
        self.discriminator = LatentDiscriminator(self.codec.latent_channels, settings.discriminator_width)
        if settings.gan_weight:
            self.networks["discriminator"] = self.discriminator

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        given = Given(batch, self.views(batch), f"of step {step}")
        with torch.no_grad():
            _, x = self._generate(given)
        yield self.fake_score_update(x, given)
        if self.settings.gan_weight:
            yield self._discriminator_update(x, given)
        if (step + 1) % self.settings.fake_updates == 0:
            yield self._student_update(given)

    def _generate(self, given: Given) -> tuple[Tensor, Tensor]:
        """The student's first guess and its last word (B, C, h, w); the same for a student of one step."""
        guess = self.first_guess(given.noise("noise"), given.views)
        if self.settings.steps == 1:
            return guess, guess
        return guess, self.refined(guess.detach(), given.noise("noise at t_mid"), given.views)

    def _student_update(self, given: Given) -> Update:
        guess, x = self._generate(given)
        terms = [self.matching(x, given)]
        if self.settings.steps == 2:
            terms.append(self._first_step(guess, given))
        if self.settings.gan_weight:
            terms.append(self._adversarial(x, given))
        return student_update(terms)

    def _first_step(self, guess: Tensor, given: Given) -> tuple[Tensor, Log]:
        """The first guess against where the teacher goes from the same noise.

        At t = 999, v = (sqrt(a) x - x_0) / sqrt(1 - a) with sqrt(1 - a) = 0.99998: the error of x_0 is that of v.
        """
        wanted = solve(self.real_score, given.noise("noise"), given.views, self.settings.first_step_calls)
        loss = F.mse_loss(guess, wanted)
        return loss, {"first_step": loss.detach()}

    def _discriminator_update(self, x: Tensor, given: Given) -> Update:
        with torch.no_grad():
            true = self.codec.encode(given.batch.target)
        noisy = torch.cat([through_noise(true, given), through_noise(x, given)])
        scores = self.networks["discriminator"](noisy, shown(given.views).repeat(2, 1, 1, 1))
        return Update("discriminator", *hinge_discriminator_loss(*scores.chunk(2)))

    def _adversarial(self, x: Tensor, given: Given) -> tuple[Tensor, Log]:
        with frozen(self.discriminator):
            loss, log = hinge_generator_loss(self.discriminator(through_noise(x, given), shown(given.views)))
        return self.settings.gan_weight * loss, log


def through_noise(x: Tensor, given: Given) -> Tensor:
    """Latents (B, C, h, w) as the discriminator sees them: true and generated ones through the same noise."""
    t = uniform_timesteps(given.uniform("judged time"), *JUDGED_TIMES)
    return add_noise(x, given.noise("judged noise"), t)


def shown(views: LatentViews) -> Tensor:  # (B, 2 C, h, w)
    """The conditions that a picture has to belong to."""
    return torch.cat([views.anchor, views.reference], dim=1)


class LatentDiscriminator(nn.Module):
    """Is this the latent of a true picture, given the drawing and the reference? (B, 1, h / 2, w / 2) scores."""

    def __init__(self, latent_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3 * latent_channels, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.GroupNorm(1, width), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.SiLU(),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, latents: Tensor, conditions: Tensor) -> Tensor:
        """latents (B, C, h, w), conditions (B, 2 C, h, w)."""
        return self.layers(torch.cat([latents, conditions], dim=1))
