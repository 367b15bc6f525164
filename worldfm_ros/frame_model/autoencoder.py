"""Pictures <-> latents by diffusers' autoencoders or ours: deterministic, scaled, in a dtype that they survive."""

from __future__ import annotations

from diffusers import AutoencoderKL, AutoencoderTiny
import torch
from torch import Tensor, nn

from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder

AUTOENCODERS = {cls.__name__: cls for cls in (AutoencoderKL, AutoencoderTiny, GuidedAutoencoder)}
Autoencoder = AutoencoderKL | AutoencoderTiny | GuidedAutoencoder


class LatentCodec:
    """An autoencoder on a device: RGB in [-1, 1] <-> latents of about unit variance, as the transformer sees them.

    Encoding takes the mode of the posterior, never a sample: the same picture has the same latents. The work is done in
    `dtype`, except that an autoencoder that its config says overflows in float16 (`force_upcast`) runs in float32.
    """

    def __init__(self, autoencoder: Autoencoder, device: torch.device | str = "cpu",
                 dtype: torch.dtype = torch.float32) -> None:
        config = autoencoder.config
        if getattr(config, "latents_mean", None) is not None:
            raise ValueError("this autoencoder normalises each latent channel by itself (latents_mean); only a common "
                             "scaling_factor and shift_factor are supported")
        self.scale = float(config.scaling_factor)
        self.shift = float(config.shift_factor or 0.0)
        self.latent_channels = int(config.latent_channels)
        self.guided = isinstance(autoencoder, GuidedAutoencoder)
        self.downscale = autoencoder.downscale if self.guided else 2 ** (len(config.block_out_channels) - 1)
        self.dtype = survivable_dtype(bool(config.force_upcast), dtype)
        self.autoencoder = ready(autoencoder, device, self.dtype)

    @property
    def device(self) -> torch.device:
        return self.autoencoder.device

    def encode(self, rgb: Tensor) -> Tensor:  # (B, 3, H, W) in [-1, 1] -> (B, C, H / 8, W / 8) float32
        """The scaled mode of the latents. Raises ValueError when the size is not a multiple of `downscale`."""
        height, width = rgb.shape[-2:]
        if height % self.downscale or width % self.downscale:
            raise ValueError(f"the autoencoder takes heights and widths that are multiples of {self.downscale}, "
                             f"got {height} x {width}")
        encoded = self.autoencoder.encode(rgb.to(self.device, self.dtype))
        latents = encoded.latent_dist.mode() if isinstance(self.autoencoder, AutoencoderKL) else encoded.latents
        return (latents.float() - self.shift) * self.scale

    def decode(self, latents: Tensor, guide: Tensor | None = None) -> Tensor:
        """(B, C, h, w) -> (B, 3, 8 h, 8 w) float32, about [-1, 1], not clamped. A `guided` autoencoder also takes what
        geometry knows of the picture, guide (B, 8, 8 h, 8 w) in [-1, 1]; others are given none."""
        latents = (latents.to(self.device, torch.float32) / self.scale + self.shift).to(self.dtype)
        if not self.guided:
            assert guide is None, "only a GuidedAutoencoder takes a guide"
            return self.autoencoder.decode(latents).sample.float()
        guide = guide if guide is None else guide.to(self.device, self.dtype)
        return self.autoencoder.decode(latents, guide).sample.float()


def survivable_dtype(overflows_in_float16: bool, dtype: torch.dtype) -> torch.dtype:
    """The dtype to run an autoencoder in when `dtype` is asked for (the SDXL autoencoder's activations pass 65504)."""
    return torch.float32 if overflows_in_float16 and dtype == torch.float16 else dtype


def ready(module: nn.Module, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """The module itself, on a device, in a dtype, for inference. (diffusers' own `to` warns about any dtype.)"""
    return nn.Module.to(module, device, dtype).eval().requires_grad_(False)
