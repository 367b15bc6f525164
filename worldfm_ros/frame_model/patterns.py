"""Who sees whom among the views' tokens: the attention patterns (paper 2.4.1, 4.1), and what the network hands them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from worldfm_ros.frame_model.camera_encoding import Transforms


@dataclass(frozen=True, eq=False)
class Modulation:
    """What a timestep does to the network; can be kept for a fixed timestep and used instead of it."""

    blocks: Tensor  # (depth, B, 6, D): shift, scale, gate of the attention, then of the MLP
    final: Tensor  # (B, 2, D): shift, scale


@dataclass(frozen=True, eq=False)
class ViewEncoding:
    """Where the tokens are and what the cameras do to them, for V views of rows x columns tokens."""

    features: Tensor  # (B or 1, V, rows * columns, D), added to the tokens
    transforms: Transforms
    grid: tuple[int, int]

    @property
    def views(self) -> int:
        return self.features.shape[1]


@dataclass(frozen=True, eq=False)
class ConditionTokens:
    """`full`: the conditions' embedded tokens (B, N, D), ready to be joined by the target's."""

    tokens: Tensor


@dataclass(frozen=True, eq=False)
class ConditionKeysValues:
    """`cached`: what the target sees of the conditions."""

    keys_values: tuple[Tensor, ...]  # (2, B, heads, N, d) of every block
    modulation: Modulation  # that the conditions' tokens went through the blocks with


Conditions = ConditionTokens | ConditionKeysValues


class Blocks(Protocol):
    """What a pattern asks of the network: tokens (B, N, D) through its blocks (see FrameTransformer)."""

    def condition_modulation(self) -> Modulation: ...

    def run_blocks(self, x: Tensor, modulation: Modulation, transforms: Transforms,
                   seen: tuple[Tensor, ...] | None = None, leaving: int | None = None) -> Tensor: ...

    def collect_keys_values(self, x: Tensor, modulation: Modulation, transforms: Transforms,
                            seen: tuple[Tensor, ...] | None = None) -> tuple[Tensor, ...]: ...


class FullAttention:
    """Every token sees every token, as released. Conditions can only be embedded ahead of the denoising steps."""

    def encode(self, network: Blocks, tokens: Tensor, transforms: Transforms,
               earlier: ConditionTokens | None) -> ConditionTokens:
        return ConditionTokens(tokens if earlier is None else torch.cat([tokens, earlier.tokens], dim=1))

    def denoise(self, network: Blocks, tokens: Tensor, modulation: Modulation,
                conditions: ConditionTokens, views: ViewEncoding) -> Tensor:
        everything = torch.cat([tokens, conditions.tokens], dim=1)
        return network.run_blocks(everything, modulation, views.transforms, leaving=tokens.shape[1])


class CachedAttention:
    """Conditions never see the target or its timestep.

    The reference's keys and values hold as long as the reference does, the anchor drawing's for a frame, exactly.
    """

    def encode(self, network: Blocks, tokens: Tensor, transforms: Transforms,
               earlier: ConditionKeysValues | None) -> ConditionKeysValues:
        modulation = network.condition_modulation() if earlier is None else earlier.modulation
        seen = None if earlier is None else earlier.keys_values
        return ConditionKeysValues(network.collect_keys_values(tokens, modulation, transforms, seen), modulation)

    def denoise(self, network: Blocks, tokens: Tensor, modulation: Modulation,
                conditions: ConditionKeysValues, views: ViewEncoding) -> Tensor:
        return network.run_blocks(tokens, modulation, views.transforms.views(0, 1), conditions.keys_values)


PATTERNS = {"full": FullAttention, "cached": CachedAttention}
