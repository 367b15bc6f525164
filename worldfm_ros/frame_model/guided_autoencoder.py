"""A small autoencoder whose decoder also sees what geometry knows of the target: our own, for cameras without a GPU.

Latents of an eighth of the resolution cannot carry the texture of a photograph, and here they need not: most of it is
on the drawing and on the reference already, pixel by pixel. The decoder chooses between the two, adds what the latent
says, and is asked for detail only where neither knows any. Without a guide (all -1) it decodes the latent alone.

No normalisation layers, plain convolutions with ReLU (as in TAESD), nothing at full resolution: made for CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
import torch.nn.functional as F

GUIDE_CHANNELS = 8  # best guess RGB, warped reference RGB, where anchors cover, where the reference shows


@dataclass
class Encoded:
    latents: Tensor  # (B, C, H / 8, W / 8), not scaled


@dataclass
class Decoded:
    sample: Tensor  # (B, 3, H, W)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x))))"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class GuidedAutoencoder(ModelMixin, ConfigMixin):
    """RGB (B, 3, H, W) in [-1, 1] <-> latents (B, C, H / 8, W / 8); height and width are multiples of 8.

    widths: channels at a half, a quarter and an eighth of the resolution; blocks: residual blocks at each of them.
    Latents as the transformer sees them are (latents - shift_factor) * scaling_factor.
    """

    downscale = 8

    @register_to_config
    def __init__(self, latent_channels: int = 8, widths: tuple[int, int, int] = (48, 64, 96), blocks: int = 2,
                 scaling_factor: float = 1.0, shift_factor: float = 0.0, force_upcast: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Pyramid(3, widths, blocks), nn.ReLU(), conv(widths[2], latent_channels))
        self.guide_pyramid = Pyramid(GUIDE_CHANNELS, widths, 0)
        self.decoder = Decoder(latent_channels, widths, blocks)

    def encode(self, rgb: Tensor) -> Encoded:
        return Encoded(self.encoder(rgb))

    def decode(self, latents: Tensor, guide: Tensor | None = None) -> Decoded:
        """guide (B, 8, H, W) in [-1, 1], worldfm_ros.painting.guide's; None is the same as one that knows nothing."""
        if guide is None:
            height, width = (self.downscale * side for side in latents.shape[-2:])
            guide = latents.new_full((len(latents), GUIDE_CHANNELS, height, width), -1.0)
        delta, choice = self.decoder(latents, self.guide_pyramid.levels(guide)).split((3, 1), dim=1)
        guess, warped = guide[:, :3], guide[:, 3:6]
        return Decoded(guess + choice.sigmoid() * (warped - guess) + delta)


class Pyramid(nn.Module):
    """Pictures (B, c, H, W) to features at 1/2, 1/4 and 1/8; as a module it gives the last."""

    def __init__(self, channels: int, widths: tuple[int, int, int], blocks: int) -> None:
        super().__init__()
        inputs = (4 * channels, *widths[:2])
        self.stages = nn.ModuleList(
            nn.Sequential(conv(before, after, stride), *(ResidualBlock(after) for _ in range(blocks if k else 0)))
            for k, (before, after, stride) in enumerate(zip(inputs, widths, (1, 2, 2), strict=True))
        )

    def levels(self, pictures: Tensor) -> list[Tensor]:
        x, levels = F.pixel_unshuffle(pictures, 2), []
        for stage in self.stages:
            x = stage(F.relu(x) if levels else x)
            levels.append(x)
        return levels

    def forward(self, pictures: Tensor) -> Tensor:
        return self.levels(pictures)[-1]


class Decoder(nn.Module):
    """Latents and the guide's features to RGB and one more channel (B, 4, H, W)."""

    def __init__(self, latent_channels: int, widths: tuple[int, int, int], blocks: int) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.enter = conv(latent_channels, eighth)
        self.at_eighth = nn.Sequential(*(ResidualBlock(eighth) for _ in range(blocks)))
        self.to_quarter = conv(eighth, quarter)
        self.at_quarter = nn.Sequential(*(ResidualBlock(quarter) for _ in range(blocks)))
        self.to_half = conv(quarter, half)
        self.at_half = nn.Sequential(*(ResidualBlock(half) for _ in range(blocks)))
        self.leave = conv(half, 16)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, latents: Tensor, guide: list[Tensor]) -> Tensor:
        half, quarter, eighth = guide
        x = self.at_eighth(self.enter(latents) + eighth)
        x = self.at_quarter(self.to_quarter(doubled(F.relu(x))) + quarter)
        x = self.at_half(self.to_half(doubled(F.relu(x))) + half)
        return F.pixel_shuffle(self.leave(F.relu(x)), 2)


def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1)


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
