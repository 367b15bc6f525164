"""A toy clip, the plainest training loop, and an autoencoder and a teacher that know the clip by heart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.spatial.transform import Rotation
import torch
from torch import Tensor
import torch.nn.functional as F

from training.batch import Batch, Pair
from training.stages.autoencoder import AutoencoderSettings, AutoencoderStage
from training.stages.latent_views import encode_views
from training.stages.midtrain import JOINT, MidtrainSettings, MidtrainStage
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import AUTOENCODER, LoadedModel, load_autoencoder
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder
from worldfm_ros.frame_model.transformer import FrameTransformer
from worldfm_ros.geometry import Intrinsics, Pose

SIZE = (32, 32)  # (height, width)


def smooth_picture(random: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8, a few soft blobs of colour."""
    coarse = torch.from_numpy(random.uniform(20, 235, (1, 3, 4, 4))).float()
    smooth = F.interpolate(coarse, size, mode="bicubic", align_corners=True).clamp(0, 255)
    return smooth[0].permute(1, 2, 0).to(torch.uint8).numpy()


def toy_pair(seed: int, size: tuple[int, int] = SIZE) -> Pair:
    """A picture, its drawing with a hole, and as its reference the picture from a little to the left."""
    random = np.random.default_rng(seed)
    height, width = size
    target = smooth_picture(random, size)
    coverage = np.ones(size, bool)
    top, left = random.integers(0, height // 2), random.integers(0, width // 2)
    coverage[top:top + height // 3, left:left + width // 3] = False
    drawing = np.where(coverage[..., None], target, 0).astype(np.uint8)
    reference = np.roll(target, width // 8, axis=1)
    masks = np.repeat(np.where(coverage, 255, 0).astype(np.uint8)[..., None], 2, axis=2)
    turn = Rotation.from_rotvec(random.normal(0, 0.1, 3))
    camera = Intrinsics(width, height, 0.8 * width, 0.8 * width, width / 2 - 0.5, height / 2 - 0.5)
    return Pair(target, drawing, coverage, reference, np.concatenate([drawing, reference, masks], axis=2),
                Pose(turn, random.normal(0, 0.3, 3)), Pose.identity(), camera, camera, seed)


def toy_batch(count: int = 4, size: tuple[int, int] = SIZE, first_seed: int = 0) -> Batch:
    return Batch.collate([toy_pair(first_seed + k, size) for k in range(count)])


def reseeded(batch: Batch, step: int) -> Batch:
    """The same pictures with other random numbers, as if the loader had come across them again."""
    return replace(batch, seeds=tuple(seed + 1000 * (step + 1) for seed in batch.seeds))


def minimise(stage, batch: Batch, steps: int, rate: float = 1e-3, fresh: bool = True) -> list[dict[str, float]]:
    """Adam, its rate rises for a tenth of the steps and falls to zero; each step's losses by network.

    fresh: other random numbers in each step.
    """
    optimizers = {name: torch.optim.Adam(network.parameters(), rate) for name, network in stage.networks.items()}
    losses = []
    for step in range(steps):
        losses.append({})
        for update in stage.updates(reseeded(batch, step) if fresh else batch, step):
            optimizer = optimizers[update.network]
            optimizer.param_groups[0]["lr"] = rate * min(1.0, 10 * (step + 1) / steps, (steps - step) / steps)
            optimizer.zero_grad()
            update.loss.backward()
            torch.nn.utils.clip_grad_norm_(stage.networks[update.network].parameters(), 1.0)
            optimizer.step()
            losses[-1][update.network] = update.loss.item()
    return losses


def psnr(picture: Tensor, truth: Tensor) -> float:
    """dB, of pictures in [-1, 1]."""
    return -10.0 * torch.log10((picture.clamp(-1, 1) - truth).div(2).square().mean()).item()


@dataclass(frozen=True, eq=False)
class Overfitted:
    """A stage whose teacher paints the targets of `batch`; `model` is the same in a form to distil or to paint with."""

    batch: Batch
    stage: MidtrainStage
    model: LoadedModel


@lru_cache(maxsize=1)
def overfitted_autoencoder() -> tuple[GuidedAutoencoder, Batch]:
    """Trained on a clip of four targets. Guides are masked: nothing but the latents tells of the pictures."""
    torch.manual_seed(0)
    batch = toy_batch()
    batch = replace(batch, guide=torch.full_like(batch.guide, -1.0))
    settings = AutoencoderSettings(drawings=0.0, references=0.0, latent_noise=0.05, gradient_weight=3.0)
    stage = AutoencoderStage(settings, GuidedAutoencoder(latent_channels=4, widths=(16, 24, 32), blocks=1), [batch])
    minimise(stage, batch, 450, rate=3e-3)
    with TemporaryDirectory() as folder:
        stage.export(stage.networks, Path(folder))
        return load_autoencoder(Path(folder) / AUTOENCODER), batch


@lru_cache(maxsize=1)
def overfitted_teacher() -> Overfitted:
    """Stage II on that clip, with drawings and references from the first step on."""
    autoencoder, batch = overfitted_autoencoder()
    torch.manual_seed(0)
    config = FrameTransformerConfig(hidden_size=64, depth=2, heads=4, latent_channels=4, patch_size=1, base_size=4)
    settings = MidtrainSettings(name="overfitted", sizes=(SIZE,), steps=300, timestep_bias=1.0, injection=JOINT,
                                sampling_steps=8)
    stage = MidtrainStage(settings, FrameTransformer.build(config), LatentCodec(autoencoder))
    minimise(stage, batch, settings.steps, rate=4e-3)
    transformer = stage.networks["transformer"].eval()
    return Overfitted(batch, stage, LoadedModel(settings.model_settings(), transformer, stage.codec))


if __name__ == "__main__":
    known = overfitted_teacher()
    shown = encode_views(known.batch, known.model.codec, uses_cameras=True)
    for steps in (3, 8, 20):
        painted = known.stage.paint(known.model.transformer, known.batch, shown, steps)
        print(f"{steps:3d} steps: {psnr(painted, known.batch.target):.2f} dB")
