"""A few-step student and its composer learn together, in the pictures that both make.

The student decides on latents of a small view, in one step: what is there. The composer decides where each pixel of the
full-size picture comes from, and paints what nothing shows from the student's latents. Where hardly anything is
unknown, it is given none, as the painter then does not run the student.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from training.batch import Batch
from training.stages.compose import ComposeSettings, compose_loss, compose_preview
from training.stages.distill import same_timestep, trainable
from training.stages.latent_views import encode_views, predict_x0
from training.stages.pretrain import MODEL, LatentViews, trained_further
from training.stages.stage import Update
from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.checkpoint import LoadedModel, save_model_folder
from worldfm_ros.frame_model.composer import ENOUGH, Candidates, Composer, Decision, composer_size
from worldfm_ros.frame_model.sampling import LAST_TIMESTEP
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.painting.learned import nearest_size

Size = tuple[int, int]


class StudentAndComposer(nn.Module):
    """Noise (B, C, h, w), what is shown, and candidates at the composer's size, to a decision."""

    def __init__(self, student: LoadedModel, composer: Composer) -> None:
        super().__init__()
        self.transformer = trainable(student.transformer)
        self.composer = trainable(composer).to(memory_format=torch.channels_last)

    def forward(self, noise: Tensor, views: LatentViews, candidates: Candidates) -> Decision:
        latents = predict_x0(self.transformer, noise, same_timestep(LAST_TIMESTEP, noise), views)
        asked = candidates.unknown() >= ENOUGH  # else no one runs it
        return self.composer(candidates, latents * asked[:, None, None, None])


class ComposeFinishStage:
    """Network "painter", averaged. sizes: (height, width) pixels of the student's small views.

    Raises ValueError for a composer that does not take the student's latents.
    """

    averaged = ("painter",)

    def __init__(self, student: LoadedModel, composer: Composer, sizes: tuple[Size, ...],
                 settings: ComposeSettings) -> None:
        if composer.config.latent_channels != student.codec.latent_channels:
            raise ValueError(f"{student.settings.name} has latents of {student.codec.latent_channels} channels, the "
                             f"composer takes {composer.config.latent_channels}")
        self.student, self.sizes, self.settings, self.codec = student, sizes, settings, student.codec
        self.networks: dict[str, nn.Module] = {"painter": StudentAndComposer(student, composer)}

    def to(self, device: torch.device | str) -> None:
        nn.Module.to(self.codec.autoencoder, device)

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        decision = self._decide(self.networks["painter"], batch, f"of step {step}")
        loss, log = compose_loss(decision, batch, self.settings)
        yield Update("painter", loss, log | {"asked": (batch.candidates.unknown() >= ENOUGH).float().mean()})

    def _decide(self, painter: nn.Module, batch: Batch, name: str) -> Decision:
        small = reduced(batch, self.sizes)
        views = encode_views(small, self.codec, self.student.transformer.settings.camera_encoding != "none")
        noise = batch.randn(f"noise {name}", *views.reference.shape[1:])
        return painter(noise, views, batch.candidates.resized(composer_size(*batch.candidates.size)))

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        return compose_preview(self._decide(networks["painter"], batch, "of the preview"), batch)

    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """folder/model, a model folder with a composer, in bfloat16, that takes one step."""
        painter = nn.Module.to(copy.deepcopy(networks["painter"]), dtype=torch.bfloat16)
        composer = nn.Module.to(painter.composer, memory_format=torch.contiguous_format)
        autoencoder = nn.Module.to(copy.deepcopy(self.codec.autoencoder), dtype=torch.bfloat16)
        autoencoder = nn.Module.to(autoencoder, memory_format=torch.contiguous_format)
        settings = replace(trained_further(self.student.settings), sizes=self.sizes, steps=1)
        save_model_folder(Path(folder) / MODEL, settings, painter.transformer, autoencoder, composer)


def reduced(batch: Batch, sizes: tuple[Size, ...]) -> Batch:
    """The batch as the student sees it: drawing and reference at the size nearest in aspect, K with them."""
    cameras = batch.cameras
    height, width = cameras.image_hw
    small = nearest_size(sizes, Intrinsics.from_hfov(width, height, 1.0))
    scale = cameras.K.new_tensor([small[1] / width, small[0] / height, 1.0])[:, None]
    drawing, reference = (F.interpolate(x, small, mode="bicubic", antialias=True).clamp(-1, 1)
                          for x in (batch.drawing, batch.reference))
    return replace(batch, drawing=drawing, reference=reference, cameras=Cameras(cameras.w2c, scale * cameras.K, small))
