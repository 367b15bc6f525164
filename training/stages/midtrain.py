"""Stage II, middle training: the image model becomes a frame model (paper 2.4.1), then is finetuned (2.4.2).

Three things steer it: timesteps are biased to high noise (geometry before texture); the reference is shown alone
before drawings come in (else the network leans on the drawing and never learns to look at the reference); late in
training drawings are masked at random (so that it does not forget). The finetune on synthetic data is the same stage
with drawings from the first step on, `SETTLED`, started from the weights that real data gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from training.batch import Batch
from training.stages.latent_views import encode_views
from training.stages.losses import chosen
from training.stages.pretrain import DenoisingSettings, DenoisingStage, LatentViews

NOTHING_DRAWN = -1.0  # a black picture: what a painter is handed where there are no anchors


@dataclass(frozen=True)
class Injection:
    """When conditions come in, as fractions of the run. Raises ValueError unless they are in order.

    Before `reference_only` the network sees the reference alone; then the fraction of steps with drawings rises, until
    `joint_from` all have them. From `masking_from` the fraction of samples whose drawing is masked rises, until at
    `masking_full` it is `masked`.
    """

    reference_only: float = 0.2
    joint_from: float = 0.4
    masking_from: float = 0.7
    masking_full: float = 0.9
    masked: float = 0.15

    def __post_init__(self) -> None:
        for first, second in (("reference_only", "joint_from"), ("masking_from", "masking_full")):
            start, end = getattr(self, first), getattr(self, second)
            if not 0.0 <= start <= end <= 1.0:
                raise ValueError(f"0 <= {first} <= {second} <= 1 are fractions of the run, got {start} and {end}")
        if not 0.0 <= self.masked <= 1.0:
            raise ValueError(f"masked is a fraction in 0..1, got {self.masked}")

    def with_drawings(self, progress: float) -> float:
        """The fraction of steps in which drawings are shown; progress: the fraction of the run that is done."""
        return ramp(progress, self.reference_only, self.joint_from)

    def masked_drawings(self, progress: float) -> float:
        """The fraction of samples whose drawing is masked, where drawings are shown."""
        return self.masked * ramp(progress, self.masking_from, self.masking_full)


PROGRESSIVE = Injection()
JOINT = Injection(reference_only=0.0, joint_from=0.0)  # ablation: both conditions from the beginning
SETTLED = Injection(reference_only=0.0, joint_from=0.0, masking_from=0.0, masking_full=0.0)  # for finetuning
NO_DRAWINGS = Injection(reference_only=0.0, joint_from=0.0, masking_from=0.0, masking_full=0.0, masked=1.0)  # ablation


def ramp(x: float, start: float, end: float) -> float:
    """0 before start, 1 from end on, linear between."""
    if start < x < end:
        return (x - start) / (end - start)
    return 1.0 if x >= end else 0.0


@dataclass(frozen=True, kw_only=True)
class MidtrainSettings(DenoisingSettings):
    """steps: the length of the run, which `injection` counts in."""

    steps: int
    timestep_bias: float = 2.0
    injection: Injection = PROGRESSIVE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"steps is a whole number from 1 up, got {self.steps}")


class MidtrainStage(DenoisingStage):
    """Stage II."""

    settings: MidtrainSettings

    def views(self, batch: Batch, step: int) -> LatentViews:
        injection, progress = self.settings.injection, step / self.settings.steps
        if not chosen(step, injection.with_drawings(progress)):
            cameras = batch.cameras_without_drawing() if self.uses_cameras else None
            return LatentViews(None, self.codec.encode(batch.reference), cameras)
        masked = batch.rand("drawing masked")[:, None, None, None] < injection.masked_drawings(progress)
        shown = replace(batch, drawing=batch.drawing.masked_fill(masked, NOTHING_DRAWN))
        return encode_views(shown, self.codec, self.uses_cameras)

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        views = encode_views(batch, self.codec, self.uses_cameras)
        painted = self.paint(networks["transformer"], batch, views, self.settings.preview_steps)
        return {"drawing": batch.drawing, "reference": batch.reference, "painted": painted, "target": batch.target}
