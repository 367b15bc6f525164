"""The composer stage: weights over the drawing and warped references, judged by the picture that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from training.batch import Batch
from training.stages.losses import Log, check_weight, sharpness_loss, similarity_loss
from training.stages.stage import Update
from worldfm_ros.frame_model.composer import Candidates, Composer, Decision, compose, composer_size

COMPOSER = "composer"
SMALLEST_ERROR = 0.01  # about one grey level
SMALLEST_SQUARE = 1e-5  # 50 dB: better is as good


@dataclass(frozen=True, kw_only=True)
class ComposeSettings:
    """Weights of the losses beside the error, in bel: of 1 - SSIM, of the local sharpness, of the doubt's error.

    Raises ValueError naming the field."""

    similarity_weight: float = 1.0
    sharpness_weight: float = 5.0
    doubt_weight: float = 0.05

    def __post_init__(self) -> None:
        for name in ("similarity_weight", "sharpness_weight", "doubt_weight"):
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
        decision = decide(self.networks["composer"], batch.candidates)
        yield Update("composer", *compose_loss(decision, batch, self.settings))

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        return compose_preview(decide(networks["composer"], batch.candidates), batch)

    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """folder/composer."""
        nn.Module.to(networks["composer"], memory_format=torch.contiguous_format).save_pretrained(folder / COMPOSER)
        networks["composer"].to(memory_format=torch.channels_last)


def compose_loss(decision: Decision, batch: Batch, settings: ComposeSettings) -> tuple[Tensor, Log]:
    """The error is the mean of the logarithms of the pictures' squared errors. An absolute error would choose one
    reference where several disagree; their mean is nearer to the truth. Sharpness is the detail's job."""
    wanted = batch.target
    picture, weights = compose(decision, batch.candidates)
    mixed = replace(decision, logits=decision.logits.detach(), painted=decision.painted.detach())
    parts = {"error": (picture - wanted).div(2).square().flatten(1).mean(1).add(SMALLEST_SQUARE).log10().mean(),
             "similarity": similarity_loss(picture, wanted),
             "sharpness": sharpness_loss(compose(mixed, batch.candidates)[0], wanted),
             "doubt": doubt_loss(decision.doubt, picture, wanted)}
    loss = (parts["error"] + settings.similarity_weight * parts["similarity"]
            + settings.sharpness_weight * parts["sharpness"] + settings.doubt_weight * parts["doubt"])
    with torch.no_grad():
        decibels = psnr(picture, wanted)
        log = {name: part.detach() for name, part in parts.items()}
        log |= {"painted": weights[:, -1].mean(), "psnr": decibels.mean(),
                "gained": (decibels - psnr(batch.candidates.blend(), wanted)).mean()}
    return loss, log


def compose_preview(decision: Decision, batch: Batch) -> dict[str, Tensor]:
    """Pictures to look at, and how much of each pixel is from references."""
    picture, weights = compose(decision, batch.candidates)
    known = 2 * weights[:, 1:-1].sum(1, keepdim=True) - 1
    return {"drawing": batch.drawing, "blend": batch.candidates.blend(), "composed": picture.clamp(-1.0, 1.0),
            "target": batch.target, "from references": known.expand(-1, 3, -1, -1)}


def decide(composer: nn.Module, candidates: Candidates) -> Decision:
    """The composer's decision, at its own size."""
    return composer(candidates.resized(composer_size(*candidates.size)))


def doubt_loss(doubt: Tensor, picture: Tensor, wanted: Tensor) -> Tensor:
    """How far the expected error (B, 1, h, w), a logarithm, is off the mean absolute error there."""
    error = (picture.detach() - wanted).abs().mean(1, keepdim=True)
    return (doubt.float() - F.interpolate(error, doubt.shape[-2:], mode="area").add(SMALLEST_ERROR).log()).abs().mean()


def psnr(picture: Tensor, wanted: Tensor) -> Tensor:  # (B, 3, H, W) -> (B,)
    """dB of each picture."""
    error = (picture.float().clamp(-1, 1) - wanted).div(2).square().flatten(1).mean(1)
    return -10.0 * torch.log10(error.clamp(min=1e-10))
