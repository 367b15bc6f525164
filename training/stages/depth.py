"""The depth stage: the logarithm of depth, and how far it is off.

Where depth is known somewhere, the absolute error counts. Where nothing is known, the size of things is a guess: a
picture's common error counts little (Eigen et al. 2014, eq. 4: scale-invariant), its shape as much as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import math
from pathlib import Path

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from training.data.depths import DepthBatch
from training.stages.losses import Log, check_weight
from training.stages.stage import Update
from worldfm_ros.depth.network import DepthNetwork, Prediction

DEPTH = "depth"
SMALLEST_ERROR = 0.01  # of the logarithm, 1 %
GOOD = math.log(1.25)  # the usual threshold: delta1 is the share below it


@dataclass(frozen=True, kw_only=True)
class DepthLosses:
    """Weights of the losses beside the error of the logarithm: of the common error of pictures where nothing is known,
    of the differences between neighbours, and of the doubt's error. Raises ValueError naming the field."""

    scale_weight: float = 0.15
    gradient_weight: float = 1.0
    doubt_weight: float = 0.02

    def __post_init__(self) -> None:
        for name in ("scale_weight", "gradient_weight", "doubt_weight"):
            check_weight(name, getattr(self, name))


class DepthStage:
    """Network "depth", averaged. Its batches are DepthBatch."""

    averaged = ("depth",)

    def __init__(self, network: DepthNetwork, settings: DepthLosses) -> None:
        self.settings = settings
        self.networks: dict[str, nn.Module] = {"depth": network.to(memory_format=torch.channels_last)}

    def to(self, device: torch.device | str) -> None:
        """Nothing here is frozen."""

    def updates(self, batch: DepthBatch, step: int) -> Iterator[Update]:
        prediction = self.networks["depth"](batch.picture, batch.known, batch.smooth, batch.rays)
        yield Update("depth", *depth_loss(prediction, batch, self.settings))

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: DepthBatch) -> dict[str, Tensor]:
        """Nearness: 0.5 m is white, none black."""
        prediction = networks["depth"](batch.picture, batch.known, batch.smooth, batch.rays)
        doubt = (prediction.doubt / 3 + 1).clamp(-1, 1).expand_as(batch.picture)
        return {"picture": batch.picture, "known": _shown(batch.known), "smooth": _shown(batch.smooth),
                "found": _shown(prediction.log_depth.exp()), "truth": _shown(batch.truth), "doubt": doubt}

    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """folder/depth."""
        nn.Module.to(networks["depth"], memory_format=torch.contiguous_format).save_pretrained(folder / DEPTH)
        networks["depth"].to(memory_format=torch.channels_last)


def depth_loss(prediction: Prediction, batch: DepthBatch, settings: DepthLosses) -> tuple[Tensor, Log]:
    """Means over the pixels whose depth is to be found."""
    there = (batch.truth > 0).float()
    count = there.sum((1, 2, 3), keepdim=True).clamp(min=1)
    raw = (prediction.log_depth - batch.truth.clamp(min=1e-6).log()) * there
    common = raw.sum((1, 2, 3), keepdim=True) / count
    guessed = (batch.known > 0).sum((1, 2, 3), keepdim=True) == 0
    error = torch.where(guessed, raw - common * there, raw)
    parts = {"error": mean(error.abs(), there), "scale": (common.abs() * guessed).mean(),
             "gradient": edges_loss(raw, there),
             "doubt": mean((prediction.doubt - error.detach().abs().add(SMALLEST_ERROR).log()).abs(), there)}
    loss = (parts["error"] + settings.scale_weight * parts["scale"] + settings.gradient_weight * parts["gradient"]
            + settings.doubt_weight * parts["doubt"])
    with torch.no_grad():
        log = {name: part.detach() for name, part in parts.items()}
        for name, which in (("guessed", guessed), ("completed", ~guessed)):
            log[f"delta1_{name}"] = mean((error.abs() < GOOD).float(), there * which)
    return loss, log


def edges_loss(error: Tensor, there: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute difference between the errors of neighbours that are both there, over sizes 1, 1/2, 1/4."""
    total = error.new_zeros(())
    for scale in range(scales):
        if scale:
            error, there = F.avg_pool2d(error, 2), (F.avg_pool2d(there, 2) == 1).float()
        for axis in (-1, -2):
            size = error.shape[axis] - 1
            both = there.narrow(axis, 0, size) * there.narrow(axis, 1, size)
            total = total + mean(error.diff(dim=axis).abs(), both)
    return total / scales


def mean(values: Tensor, there: Tensor) -> Tensor:
    return (values * there).sum() / there.sum().clamp(min=1)


def _shown(depth: Tensor) -> Tensor:
    return (torch.where(depth > 0, 0.5 / depth.clamp(min=0.5), 0.0) * 2 - 1).expand(-1, 3, -1, -1)
