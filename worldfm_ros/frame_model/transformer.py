"""The frame transformer: a PixArt-style diffusion transformer over three views (paper 2.3, 2.4.1).

The noisy target, the drawing of the anchors and the reference share one patch embedding and meet in self-attention
alone; the target's tokens are read out. One frame runs as

    views      = network.encode_views(cameras, latent_hw)                      once a frame; composed on the host
    reference  = network.encode_reference(reference_latent, views)             once a keyframe
    conditions = network.encode_anchor(anchor_latent, reference, views)        once a frame
    prediction = network.denoise(noisy_latent, timestep, conditions, views)    once a step

and `forward` is these four in a row; the last three are tensors only and never wait for the device.
Tokens are view-major: index = (view * rows + row) * columns + column.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from worldfm_ros.frame_model.attention import SelfAttention
from worldfm_ros.frame_model.camera_encoding import ENCODINGS, Cameras, Transforms
from worldfm_ros.frame_model.config import LATENT_SCALE, FrameTransformerConfig
from worldfm_ros.frame_model.patterns import PATTERNS, Conditions, Modulation, ViewEncoding

TIMESTEP_CHANNELS = 256


class DiTBlock(nn.Module):
    """Attention and MLP, modulated by the timestep (adaLN-single: a table of its own plus what all blocks share)."""

    def __init__(self, config: FrameTransformerConfig) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(6, config.hidden_size))
        self.attention = SelfAttention(config.hidden_size, config.heads)
        self.mlp = nn.Sequential(nn.Linear(config.hidden_size, config.mlp_size), nn.GELU(approximate="tanh"),
                                 nn.Linear(config.mlp_size, config.hidden_size))

    def forward(self, x: Tensor, modulation: Tensor, transforms: Transforms, seen: Tensor | None,
                leaving: int | None) -> tuple[Tensor, Tensor]:
        """Tokens x (B, N, D) also see the keys and values `seen`; only the first `leaving` go on (None: all).

        Returns them and all the keys and values (2, B, heads, N + M, d) that they saw.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unsqueeze(2).unbind(1)  # each (B, 1, D)
        attending = modulate(x, shift1, scale1)                                           # (B, N, D)
        keys_values = self.attention.keys_values(attending, transforms)                   # (2, B, heads, N, d)
        if seen is not None:
            keys_values = torch.cat([keys_values, seen], dim=3)                           # (2, B, heads, N + M, d)
        x = x[:, :leaving]
        if x.shape[1]:
            x = x + gate1 * self.attention(attending[:, :leaving], keys_values, transforms)
            x = x + gate2 * self.mlp(modulate(x, shift2, scale2))
        return x, keys_values


class FinalLayer(nn.Module):
    """Tokens (B, n, D) to patches (B, n, patch * patch * channels), channels last."""

    def __init__(self, config: FrameTransformerConfig) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(2, config.hidden_size))
        self.linear = nn.Linear(config.hidden_size, config.patch_size**2 * config.out_channels)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation.unsqueeze(2).unbind(1)
        return self.linear(modulate(x, shift, scale))


class FrameTransformer(ModelMixin, ConfigMixin):
    """Predicts the noise or velocity of a target view from its noisy latent, the anchor drawing and the reference.

    Built from FrameTransformerConfig's fields, or with `build` from the dataclass itself, which is kept as `settings`.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["DiTBlock"]

    @register_to_config
    def __init__(self, hidden_size: int, depth: int, heads: int, patch_size: int = 2, latent_channels: int = 4,
                 mlp_ratio: float = 4.0, camera_encoding: str = "prope", attention: str = "cached", base_size: int = 16,
                 interpolation: float = 1.0, predicts_variance: bool = False, condition_timestep: int = 0) -> None:
        super().__init__()
        settings = FrameTransformerConfig(hidden_size, depth, heads, patch_size, latent_channels, mlp_ratio,
                                          camera_encoding, attention, base_size, interpolation, predicts_variance,
                                          condition_timestep)
        self.settings = settings
        self.gradient_checkpointing = False
        self.pattern = PATTERNS[settings.attention]()
        self.patch_embed = nn.Conv2d(latent_channels, hidden_size, patch_size, stride=patch_size)
        self.time_embed = nn.Sequential(nn.Linear(TIMESTEP_CHANNELS, hidden_size), nn.SiLU(),
                                        nn.Linear(hidden_size, hidden_size))
        self.time_modulation = nn.Linear(hidden_size, 6 * hidden_size)
        self.camera_encoder = ENCODINGS[settings.camera_encoding](settings)
        self.blocks = nn.ModuleList(DiTBlock(settings) for _ in range(depth))
        self.final = FinalLayer(settings)
        initialize(self)

    @classmethod
    def build(cls, config: FrameTransformerConfig) -> FrameTransformer:
        return cls(**asdict(config))

    def forward(
        self,
        target: Tensor,                         # (B, C, h, w) noisy latents
        timestep: Tensor | float | Modulation,  # (B,), or one for all
        anchor: Tensor | None,                  # (B, C, h, w); None: the target sees the reference alone
        reference: Tensor,                      # (B, C, h, w)
        cameras: Cameras | None = None,         # of the views given, in this order
    ) -> Tensor:                                # (B, out_channels, h, w)
        """The target's prediction; with predicts_variance its second half of the channels is the variance's.

        Raises ValueError for sizes that do not fit, and for cameras that are missing, too many or not wanted.
        """
        check_batches(target, anchor, reference, cameras)
        views = self.encode_views(cameras, target.shape[-2:], 2 if anchor is None else 3)
        reference = self.encode_reference(reference, views)
        conditions = self.encode_anchor(anchor, reference, views)
        return self.denoise(target, timestep, conditions, views)

    def encode_views(self, cameras: Cameras | None, latent_hw: tuple[int, int], views: int = 3) -> ViewEncoding:
        """Positions and cameras for latents of latent_hw = (h, w). Matrices are composed in float64 on the host."""
        patch, (height, width) = self.settings.patch_size, latent_hw
        if height < 1 or width < 1 or height % patch or width % patch:
            raise ValueError(f"image height and width are multiples of {LATENT_SCALE * patch}, "
                             f"got {LATENT_SCALE * height} x {LATENT_SCALE * width} (latents {height} x {width})")
        self.camera_encoder.check(cameras, views)
        grid, weight = (height // patch, width // patch), self.patch_embed.weight
        positions = canvas_positions(self.settings, *grid, views, weight.device, weight.dtype)
        features = self.camera_encoder.features(cameras, grid)
        transforms = self.camera_encoder.transforms(cameras, grid, weight.device, weight.dtype)
        return ViewEncoding(positions if features is None else positions + features, transforms, grid)

    def encode_reference(self, reference: Tensor, views: ViewEncoding) -> Conditions:
        """From reference latents (B, C, h, w). Holds for every frame that uses the same reference."""
        last = views.views - 1
        tokens = self.embed(reference, last, views)
        return self.pattern.encode(self, tokens, views.transforms.views(last, last + 1), None)

    def encode_anchor(self, anchor: Tensor | None, reference: Conditions, views: ViewEncoding) -> Conditions:
        """All conditions of a frame, from the drawing's latents (B, C, h, w) and encode_reference's result."""
        if (anchor is None) != (views.views == 2):
            raise ValueError(f"views were encoded for {views.views} and the anchor drawing "
                             f"{'is missing' if anchor is None else 'makes it 3'}")
        if anchor is None:
            return reference
        return self.pattern.encode(self, self.embed(anchor, 1, views), views.transforms.views(1, 2), reference)

    def denoise(self, target: Tensor, timestep: Tensor | float | Modulation, conditions: Conditions,
                views: ViewEncoding) -> Tensor:
        """One step: the prediction (B, out_channels, h, w) for noisy latents (B, C, h, w)."""
        modulation = timestep if isinstance(timestep, Modulation) else self.modulation(timestep)
        x = self.pattern.denoise(self, self.embed(target, 0, views), modulation, conditions, views)
        return self.unpatchify(self.final(x, modulation.final), views.grid)

    def modulation(self, timestep: Tensor | float) -> Modulation:
        """For timesteps (B,) or one number, fractions too. Sines are float32: bfloat16 would turn 999 into 1000."""
        if not isinstance(timestep, Tensor):
            timestep = torch.full((1,), timestep, dtype=torch.float32, device=self.time_modulation.weight.device)
        sines = get_timestep_embedding(timestep, TIMESTEP_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        embedding = self.time_embed(sines.to(self.time_modulation.weight.dtype))                # (B, D)
        common = self.time_modulation(F.silu(embedding)).unflatten(-1, (6, -1))                 # (B, 6, D)
        tables = torch.stack([block.scale_shift_table for block in self.blocks])                # (depth, 6, D)
        return Modulation(tables[:, None] + common, self.final.scale_shift_table + embedding[:, None])

    def embed(self, latents: Tensor, view: int, views: ViewEncoding) -> Tensor:  # (B, C, h, w) -> (B, n, D)
        """Patches of one view as tokens, with their positions in the canvas of all views and their camera features."""
        expected = (self.settings.latent_channels, *(side * self.settings.patch_size for side in views.grid))
        if latents.ndim != 4 or latents.shape[1:] != expected:
            raise ValueError(f"latents are (B, {', '.join(map(str, expected))}), "
                             f"got {tuple(latents.shape)} for view {view}")
        return self.patch_embed(latents.to(self.patch_embed.weight.dtype)).flatten(2).mT + views.features[:, view]

    def unpatchify(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:  # (B, n, patch patch C) -> (B, C, h, w)
        patch = self.settings.patch_size
        x = patches.unflatten(2, (patch, patch, -1)).unflatten(1, grid)   # (B, rows, columns, patch, patch, C)
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def condition_modulation(self) -> Modulation:
        return self.modulation(self.settings.condition_timestep)

    def run_blocks(self, x: Tensor, modulation: Modulation, transforms: Transforms,
                   seen: tuple[Tensor, ...] | None = None, leaving: int | None = None) -> Tensor:
        """Tokens (B, N, D) through all blocks; only the first `leaving` need the last block's output, and get it."""
        for i in range(len(self.blocks)):
            x, _ = self._run_block(i, x, modulation, transforms, seen, leaving)
        return x

    def collect_keys_values(self, x: Tensor, modulation: Modulation, transforms: Transforms,
                            seen: tuple[Tensor, ...] | None = None) -> tuple[Tensor, ...]:
        """What later tokens see of tokens x and of those that x saw: (2, B, heads, N, d) of every block."""
        collected = []
        for i in range(len(self.blocks)):
            x, keys_values = self._run_block(i, x, modulation, transforms, seen, leaving=0)
            collected.append(keys_values)
        return tuple(collected)

    def _run_block(self, i: int, x: Tensor, modulation: Modulation, transforms: Transforms,
                   seen: tuple[Tensor, ...] | None, leaving: int | None) -> tuple[Tensor, Tensor]:
        last = i == len(self.blocks) - 1
        arguments = (x, modulation.blocks[i], transforms, None if seen is None else seen[i], leaving if last else None)
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(self.blocks[i], *arguments)
        return self.blocks[i](*arguments)


def check_batches(target: Tensor, anchor: Tensor | None, reference: Tensor, cameras: Cameras | None) -> None:
    """Raise ValueError unless the views' latents are equally many; cameras may be one set for all of them."""
    batches = [len(latents) for latents in (target, anchor, reference) if latents is not None]
    if len(set(batches)) > 1:
        raise ValueError(f"all views have the same batch size, got {batches}")
    if cameras is not None and len(cameras.w2c) not in (1, batches[0]):
        raise ValueError(f"cameras are for a batch of {len(cameras.w2c)}, latents for {batches[0]}")


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:  # (B, N, D), (B, 1, D), (B, 1, D)
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1.0 + scale) + shift


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def canvas_positions(config: FrameTransformerConfig, rows: int, columns: int, views: int, device, dtype) -> Tensor:
    """(1, V, rows * columns, D): sines and cosines of each token's place in the canvas of all views side by side.

    Canvas column j of n and row i of m stand at x = j base / (n interpolation), y = i base / (m interpolation); the
    vector is [sin x w | cos x w | sin y w | cos y w], w_k = 10000^(-k / (D / 4)). Computed in float64.
    """
    quarter = config.hidden_size // 4
    frequencies = 10000.0 ** (-torch.arange(quarter).double() / quarter)
    scale = config.base_size / config.interpolation
    x = torch.arange(views * columns).double() * scale / (views * columns)
    y = torch.arange(rows).double() * scale / rows
    x = (x.view(views, 1, columns, 1) * frequencies).expand(views, rows, columns, quarter)
    y = (y.view(1, rows, 1, 1) * frequencies).expand(views, rows, columns, quarter)
    table = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=-1)
    return table.reshape(1, views, rows * columns, config.hidden_size).to(device, dtype)


def initialize(network: FrameTransformer) -> None:
    """Weights to train from; with them every block is the identity and the output is zero (adaLN-zero, as in DiT).

    | tensors                                                         | values                           |
    |-----------------------------------------------------------------|----------------------------------|
    | linear layers, and the patch embedding as one                   | Xavier uniform; biases 0         |
    | time_embed                                                      | normal, std 0.02                 |
    | time_modulation, scale_shift_table of blocks and final layer    | 0: no shift, no scale, gates shut |
    | final layer; last layer of a camera encoding's projector        | 0: predicts 0, no camera features |
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
            nn.init.zeros_(module.bias)
    nn.init.normal_(network.time_embed[0].weight, std=0.02)
    nn.init.normal_(network.time_embed[2].weight, std=0.02)
    silent = [network.time_modulation, network.final.linear]
    silent += [module[-1] for module in network.camera_encoder.children()]
    for module in silent:
        nn.init.zeros_(module.weight)
    for table in [network.final.scale_shift_table, *(block.scale_shift_table for block in network.blocks)]:
        nn.init.zeros_(table)
