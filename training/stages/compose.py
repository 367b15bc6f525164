"""The composer stage: weights over the drawing and warped references, judged by the picture that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.batch import Batch
from training.stages.losses import Log, check_weight, gradient_loss, sharpness_loss, similarity_loss
from training.stages.stage import Update
from worldfm_ros.frame_model.composer import Candidates, Composer, compose, composer_size

COMPOSER = "composer"


@dataclass(frozen=True, kw_only=True)
class ComposeSettings:
    """Weights of the losses beside L1: of gradients, of 1 - SSIM, of the local sharpness. Raises ValueError."""

    gradient_weight: float = 0.5
    similarity_weight: float = 0.15
    sharpness_weight: float = 0.25

    def __post_init__(self) -> None:
        for name in ("gradient_weight", "similarity_weight", "sharpness_weight"):
            check_weight(name, getattr(self, name))


class ComposeStage:
    """Network "composer", averaged. Its batches have candidates."""

    averaged = ("composer",)

    def __init__(self, composer: Composer, settings: ComposeSettings) -> None:
        self.settings = settings
        self.networks: dict[str, nn.Module] = {"composer": composer.to(memory_format=torch.channels_last)}

    def to(self, device: torch.device | str) -> None:
        """Nothing here is frozen."""

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        picture, weights = composed(self.networks["composer"], batch.candidates)
        loss, log = self._loss(picture, batch)
        log["painted"] = weights[:, -1].detach().mean()
        yield Update("composer", loss, log)

    def _loss(self, picture: Tensor, batch: Batch) -> tuple[Tensor, Log]:
        settings, wanted = self.settings, batch.target
        parts = {"l1": (picture - wanted).abs().mean(), "gradient": gradient_loss(picture, wanted),
                 "similarity": similarity_loss(picture, wanted), "sharpness": sharpness_loss(picture, wanted)}
        loss = (parts["l1"] + settings.gradient_weight * parts["gradient"]
                + settings.similarity_weight * parts["similarity"] + settings.sharpness_weight * parts["sharpness"])
        with torch.no_grad():
            gained = psnr(picture, wanted) - psnr(batch.candidates.blend(), wanted)
            log = {name: part.detach() for name, part in parts.items()}
        return loss, log | {"psnr": psnr(picture, wanted).mean().detach(), "gained": gained.mean()}

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        picture, weights = composed(networks["composer"], batch.candidates)
        known = 2 * weights[:, 1:-1].sum(1, keepdim=True) - 1
        return {"drawing": batch.drawing, "blend": batch.candidates.blend(), "composed": picture.clamp(-1.0, 1.0),
                "target": batch.target, "from references": known.expand(-1, 3, -1, -1)}

    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """folder/composer."""
        nn.Module.to(networks["composer"], memory_format=torch.contiguous_format).save_pretrained(folder / COMPOSER)
        networks["composer"].to(memory_format=torch.channels_last)


def composed(composer: nn.Module, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """The picture (B, 3, H, W) float32, about [-1, 1], and the weights (B, K + 2, H, W)."""
    return compose(composer(candidates.resized(composer_size(*candidates.size))), candidates)


def psnr(picture: Tensor, wanted: Tensor) -> Tensor:  # (B, 3, H, W) -> (B,)
    """dB of each picture."""
    error = (picture.float().clamp(-1, 1) - wanted).div(2).square().flatten(1).mean(1)
    return -10.0 * torch.log10(error.clamp(min=1e-10))
