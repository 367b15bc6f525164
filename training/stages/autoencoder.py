"""The autoencoder stage: pictures to latents an eighth as large, and back, with the guide's help or without it.

What comes of it is frozen in all later stages. So it is trained for them: latents stay complete pictures, because the
guide is often masked; the decoder forgives latents that are not quite right, because noise is added to them (a level
for each sample, as in the sigma-VAE of Sun et al. 2024); at the end their scale is measured and stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from diffusers import AutoencoderTiny
import torch
from torch import Tensor, nn

from training.batch import Batch
from training.stages.losses import hinge_discriminator_loss, hinge_generator_loss, reconstruction_loss
from training.stages.stage import Update, frozen
from worldfm_ros.frame_model.checkpoint import AUTOENCODER
from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder

DOWNSCALE = 8
CALIBRATION_BATCHES = 4  # a run's first ones; their latents' scale is stored


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings:
    """Raises ValueError naming the field.

    crop: side in pixels of the random squares to train on; None for whole pictures.
    drawings, references: fractions of samples that learn from these pictures instead of the target, without a guide.
    guide_dropout: fraction of targets whose guide is masked as a whole.
    latent_noise: the highest level, in standard deviations of a sample's latents; levels are uniform below it.
    latent_weight: of the latents' mean square, which keeps their scale from drifting.
    adversarial_weight, adversarial_from: of the patch discriminator's loss, and the step from which it plays.
    """

    crop: int | None = None
    drawings: float = 0.1
    references: float = 0.1
    guide_dropout: float = 0.3
    latent_noise: float = 0.2
    latent_weight: float = 1e-4
    gradient_weight: float = 1.0
    adversarial_weight: float = 0.0
    adversarial_from: int = 0

    def __post_init__(self) -> None:
        if self.crop is not None and (self.crop < DOWNSCALE or self.crop % DOWNSCALE):
            raise ValueError(f"crop is a multiple of {DOWNSCALE} pixels, got {self.crop}")
        for name in ("drawings", "references", "guide_dropout"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a fraction in 0..1, got {getattr(self, name)}")
        if self.drawings + self.references > 1.0:
            raise ValueError(f"drawings + references is at most 1, got {self.drawings} + {self.references}")
        for name in ("latent_noise", "latent_weight", "gradient_weight", "adversarial_weight"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a number from 0 up, got {getattr(self, name)}")


class Reconstruction(nn.Module):
    """An autoencoder as it is trained: pictures to latents, disturbed, and back."""

    def __init__(self, autoencoder: GuidedAutoencoder | AutoencoderTiny) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, rgb: Tensor, guide: Tensor | None = None,
                noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The decoded picture and the undisturbed latents (B, C, H / 8, W / 8).

        noise is added in units of each sample's standard deviation.
        """
        latents = encode(self.autoencoder, rgb)
        sent = latents
        if noise is not None:
            sent = latents + noise * latents.detach().std(dim=(1, 2, 3), keepdim=True)
        return decode(self.autoencoder, sent, guide), latents


def encode(autoencoder: GuidedAutoencoder | AutoencoderTiny, rgb: Tensor) -> Tensor:
    """Latents (B, C, H / 8, W / 8), not scaled, of pictures in [-1, 1]."""
    return autoencoder.encode(rgb).latents


def decode(autoencoder: GuidedAutoencoder | AutoencoderTiny, latents: Tensor, guide: Tensor | None) -> Tensor:
    """Pictures (B, 3, H, W), about [-1, 1]. An autoencoder that takes no guide does without."""
    if isinstance(autoencoder, GuidedAutoencoder):
        return autoencoder.decode(latents, guide).sample
    return autoencoder.decode(latents).sample


class PatchDiscriminator(nn.Module):
    """Pictures (B, 3, H, W) to a score for every overlapping patch of 26 pixels, (B, 1, H / 4, W / 4)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )

    def forward(self, rgb: Tensor) -> Tensor:
        return self.layers(rgb)


class AutoencoderStage:
    """Networks "autoencoder" (a Reconstruction; averaged) and, with an adversarial weight, "discriminator"."""

    averaged = ("autoencoder",)

    def __init__(self, settings: AutoencoderSettings, autoencoder: GuidedAutoencoder | AutoencoderTiny,
                 calibration: Iterable[Batch]) -> None:
        """calibration: batches whose latents' scale is stored, read when it is first exported."""
        self.settings = settings
        self.networks: dict[str, nn.Module] = {"autoencoder": _channels_last(Reconstruction(autoencoder))}
        self.latent_channels = autoencoder.config.latent_channels
        self.guided = isinstance(autoencoder, GuidedAutoencoder)
        self._discriminator = _channels_last(PatchDiscriminator()) if settings.adversarial_weight else None
        if self._discriminator is not None:
            self.networks["discriminator"] = self._discriminator
        self._calibration = calibration
        self._pictures: list[Tensor] = []

    def to(self, device) -> None:
        """Nothing here is frozen."""

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        settings = self.settings
        wanted, guide = training_pictures(batch, settings)
        picture, latents = self.networks["autoencoder"](wanted, guide, self._noise(batch, wanted))

        loss, log = reconstruction_loss(picture, wanted, settings.gradient_weight)
        loss = loss + settings.latent_weight * latents.float().square().mean()
        log["latent_std"] = latents.detach().float().std()
        plays = self._discriminator is not None and step >= settings.adversarial_from
        if plays:
            with frozen(self._discriminator):
                fooling, game = hinge_generator_loss(self._discriminator(picture))
            loss, log = loss + settings.adversarial_weight * fooling, log | game
        yield Update("autoencoder", loss, log)
        if plays:
            score = self.networks["discriminator"](torch.cat([wanted, picture.detach().to(wanted)]))
            yield Update("discriminator", *hinge_discriminator_loss(*score.chunk(2)))

    def _noise(self, batch: Batch, wanted: Tensor) -> Tensor:  # (B, C, h, w)
        height, width = (side // DOWNSCALE for side in wanted.shape[-2:])
        level = batch.rand("latent noise level") * self.settings.latent_noise
        return level[:, None, None, None] * batch.randn("latent noise", self.latent_channels, height, width)

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        network = networks["autoencoder"]
        columns = {"target": batch.target, "without guide": network(batch.target)[0]}
        if self.guided:
            columns |= {"with guide": network(batch.target, batch.guide)[0], "guide": batch.guide[:, :3]}
        return {title: column.clamp(-1.0, 1.0) for title, column in columns.items()}

    @torch.no_grad()
    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """folder/vae, with the scale of the calibration's latents."""
        self._pictures = self._pictures or [batch.target for batch in self._calibration]  # read once
        autoencoder = networks["autoencoder"].autoencoder
        latents = torch.cat([encode(autoencoder, pictures.to(autoencoder.device)).float().flatten()
                             for pictures in self._pictures])
        autoencoder.register_to_config(scaling_factor=1.0 / latents.std().item(), shift_factor=latents.mean().item())
        nn.Module.to(autoencoder, memory_format=torch.contiguous_format).save_pretrained(folder / AUTOENCODER)


def training_pictures(batch: Batch, settings: AutoencoderSettings) -> tuple[Tensor, Tensor]:
    """What to reconstruct (B, 3, h, w) and with which guide (B, 8, h, w): each sample chosen, masked and cropped."""
    u = batch.rand("autoencoder picture")[:, None, None, None]
    others = settings.drawings + settings.references
    wanted = torch.where(u < settings.drawings, batch.drawing, torch.where(u < others, batch.reference, batch.target))
    guided = (u >= others) & (batch.rand("autoencoder guide")[:, None, None, None] >= settings.guide_dropout)
    guide = torch.where(guided, batch.guide, torch.full_like(batch.guide, -1.0))
    if settings.crop is not None:
        wanted, guide = random_crop(torch.cat([wanted, guide], dim=1), batch, settings.crop).split((3, 8), dim=1)
    return _channels_last(wanted), _channels_last(guide)


def random_crop(pictures: Tensor, batch: Batch, side: int) -> Tensor:  # (B, c, H, W) -> (B, c, side, side)
    """A square at a place of its own in each sample. Raises ValueError when it does not fit."""
    height, width = pictures.shape[-2:]
    if side > min(height, width):
        raise ValueError(f"a crop of {side} pixels does not fit into pictures of {width}x{height}; make it smaller")
    rows = (batch.rand("crop row") * (height - side + 1)).long().tolist()
    columns = (batch.rand("crop column") * (width - side + 1)).long().tolist()
    return torch.stack([picture[:, row:row + side, column:column + side]
                        for picture, row, column in zip(pictures, rows, columns, strict=True)])


def _channels_last(x: nn.Module | Tensor) -> nn.Module | Tensor:
    """Convolutions on CPUs and in bfloat16 are about twice as fast in this layout."""
    return x.to(memory_format=torch.channels_last)
