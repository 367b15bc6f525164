"""A frame network asked about a batch: what it is shown, the clean latents it sees, and what it samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.batch import Batch
from training.stages.losses import to_x0
from training.stages.pretrain import LatentViews
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.sampling import sample, sample_multistep


@dataclass(frozen=True, eq=False)
class Given:
    """What an update is made from: a batch, what networks are shown of it, and random numbers of its own."""

    batch: Batch
    views: LatentViews
    name: str

    def noise(self, purpose: str) -> Tensor:
        """Unit Gaussian (B, C, h, w), another one for each purpose and name."""
        return self.batch.randn(f"{purpose} {self.name}", *self.views.reference.shape[1:])

    def uniform(self, purpose: str) -> Tensor:
        """(B,) in [0, 1), likewise."""
        return self.batch.rand(f"{purpose} {self.name}")


@torch.no_grad()
def encode_views(batch: Batch, codec: LatentCodec, uses_cameras: bool) -> LatentViews:
    """All that a frame network is shown beside the noisy target: drawing, reference, and cameras if it uses them."""
    anchor, reference = codec.encode(torch.cat([batch.drawing, batch.reference])).chunk(2)
    return LatentViews(anchor, reference, batch.cameras if uses_cameras else None)


def predict_x0(network: nn.Module, x: Tensor, t: Tensor, views: LatentViews) -> Tensor:
    """The clean latents (B, C, h, w) float32 that a velocity predictor sees in x, noisy to timesteps t (B,)."""
    return to_x0(x, views.predict(network, x, t), t)


@torch.no_grad()
def sample_latents(network: nn.Module, noise: Tensor, noise_mid: Tensor, views: LatentViews, steps: int,
                   t_mid: int) -> Tensor:
    """Latents (B, C, h, w) float32, the way a model folder of that many steps is sampled."""
    return sample(lambda x, t: views.predict(network, x, t), noise, noise_mid, steps, t_mid)


@torch.no_grad()
def solve(network: nn.Module, noise: Tensor, views: LatentViews, steps: int) -> Tensor:
    """Latents (B, C, h, w) float32 by the deterministic sampler, DPM-Solver++, whatever the number of steps."""
    return sample_multistep(lambda x, t: views.predict(network, x, t), noise, steps)
