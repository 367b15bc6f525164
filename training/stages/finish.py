"""Finishing: a student and its decoder learn together, in pictures, from what the student really paints.

Ours, not the paper's. Distillation matches latents, and the decoder was trained on latents of true pictures: neither
has seen the other's mistakes. A novel view has a truth to compare with, so the whole sampler, from noise to pixels, is
differentiated against it: a short run with a small learning rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.batch import Batch
from training.stages.distill import same_timestep, trainable
from training.stages.latent_views import encode_views, predict_x0
from training.stages.losses import add_noise, check_weight, reconstruction_loss
from training.stages.pretrain import MODEL, LatentViews, trained_further
from training.stages.stage import Update
from worldfm_ros.frame_model.checkpoint import LoadedModel, save_model_folder
from worldfm_ros.frame_model.sampling import LAST_TIMESTEP


@dataclass(frozen=True, kw_only=True)
class FinishSettings:
    """gradient_weight: of the gradient loss beside L1. decoder_only: the student stays as it is; a step then costs
    half. Raises ValueError naming the field."""

    decoder_only: bool = False
    gradient_weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight("gradient_weight", self.gradient_weight)


class Sampler(nn.Module):
    """A few-step student and its decoder as one network: noise to pictures."""

    def __init__(self, model: LoadedModel, decoder_only: bool) -> None:
        super().__init__()
        self.transformer = trainable(model.transformer).requires_grad_(not decoder_only)
        self.autoencoder = trainable(model.codec.autoencoder).to(memory_format=torch.channels_last)
        self.autoencoder.encoder.requires_grad_(False)  # the latents stay what all other stages know
        self.steps, self.t_mid = model.settings.steps, model.settings.t_mid
        self.scale, self.shift = model.codec.scale, model.codec.shift

    def forward(self, noise: Tensor, noise_mid: Tensor, views: LatentViews, guide: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), about [-1, 1], from noise (B, C, h, w) and guide (B, 8, H, W)."""
        latents = predict_x0(self.transformer, noise, same_timestep(LAST_TIMESTEP, noise), views)
        if self.steps == 2:
            t = same_timestep(self.t_mid, noise)
            latents = predict_x0(self.transformer, add_noise(latents, noise_mid, t), t, views)
        return self.autoencoder.decode(latents / self.scale + self.shift, guide).sample


class FinishStage:
    """Network "sampler", averaged.

    Raises ValueError for a student that is not sampled in 1 or 2 steps, or whose autoencoder takes no guide.
    """

    averaged = ("sampler",)

    def __init__(self, student: LoadedModel, settings: FinishSettings) -> None:
        if student.settings.steps not in (1, 2) or not student.codec.guided:
            raise ValueError("finishing takes a student of 1 or 2 steps with a guided autoencoder, got "
                             f"{student.settings.name} with {student.settings.steps} steps: distill it first")
        self.student, self.settings, self.codec = student, settings, student.codec
        self.networks: dict[str, nn.Module] = {"sampler": Sampler(student, settings.decoder_only)}

    def to(self, device: torch.device | str) -> None:
        nn.Module.to(self.codec.autoencoder, device)

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        picture = self._paint(self.networks["sampler"], batch, f"of step {step}")
        yield Update("sampler", *reconstruction_loss(picture, batch.target, self.settings.gradient_weight))

    def _paint(self, sampler: nn.Module, batch: Batch, name: str) -> Tensor:
        views = encode_views(batch, self.codec, self.student.transformer.settings.camera_encoding != "none")
        shape = views.reference.shape[1:]
        guide = batch.guide.contiguous(memory_format=torch.channels_last)
        noise, noise_mid = (batch.randn(f"{purpose} {name}", *shape) for purpose in ("noise", "noise at t_mid"))
        return sampler(noise, noise_mid, views, guide)

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        painted = self._paint(networks["sampler"], batch, "of the preview").clamp(-1.0, 1.0)
        return {"drawing": batch.drawing, "best guess": batch.guide[:, :3], "painted": painted, "target": batch.target}

    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """folder/model, a model folder like the student's, in bfloat16: half as large, and what it runs in at best."""
        sampler = nn.Module.to(copy.deepcopy(networks["sampler"]), dtype=torch.bfloat16)
        autoencoder = nn.Module.to(sampler.autoencoder, memory_format=torch.contiguous_format)
        settings = trained_further(self.student.settings)
        save_model_folder(Path(folder) / MODEL, settings, sampler.transformer, autoencoder)
