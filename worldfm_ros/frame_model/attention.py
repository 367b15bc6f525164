"""Self-attention over the views' tokens, and the two patterns of who sees whom (paper 2.4.1, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from worldfm_ros.frame_model.camera_encoding import Transforms

if TYPE_CHECKING:
    from worldfm_ros.frame_model.transformer import FrameTransformer, Modulation, ViewEncoding


class SelfAttention(nn.Module):
    """Multi-head attention, softmax scale 1 / sqrt(head dim), with the camera encoding's transforms."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)  # rows: all heads' q, then k, then v
        self.proj = nn.Linear(hidden_size, hidden_size)

    def keys_values(self, x: Tensor, transforms: Transforms) -> Tensor:  # (B, N, D) -> (2, B, heads, N, d)
        hidden = x.shape[-1]
        kv = F.linear(x, self.qkv.weight[hidden:], self.qkv.bias[hidden:])
        return transforms.keys_values(kv.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4))

    def forward(self, x: Tensor, keys_values: Tensor, transforms: Transforms) -> Tensor:
        """Attend from tokens x (B, N, D) of the first views to keys_values (2, B, heads, M, d); returns (B, N, D)."""
        hidden = x.shape[-1]
        q = F.linear(x, self.qkv.weight[:hidden], self.qkv.bias[:hidden])
        q = transforms.queries(q.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        k, v = keys_values
        attended = transforms.outputs(attend(q, k, v))
        return self.proj(attended.transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of (B, heads, N, d) and (B, heads, M, d).

    In bfloat16 on a CPU as two products: the fused kernel takes twice as long there.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return (q * q.shape[-1]**-0.5 @ k.mT).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


@dataclass(frozen=True, eq=False)
class ConditionTokens:
    """`full`: the conditions' embedded tokens (B, N, D), ready to be joined by the target's."""

    tokens: Tensor


@dataclass(frozen=True, eq=False)
class ConditionKeysValues:
    """`cached`: what the target sees of the conditions."""

    keys_values: tuple[Tensor, ...]  # (2, B, heads, N, d) of every block
    modulation: Modulation  # that the conditions' tokens went through the blocks with


class FullAttention:
    """Every token sees every token, as released. Conditions can only be embedded ahead of the denoising steps."""

    def encode(self, network: FrameTransformer, tokens: Tensor, transforms: Transforms,
               earlier: ConditionTokens | None) -> ConditionTokens:
        return ConditionTokens(tokens if earlier is None else torch.cat([tokens, earlier.tokens], dim=1))

    def denoise(self, network: FrameTransformer, tokens: Tensor, modulation: Modulation,
                conditions: ConditionTokens, views: ViewEncoding) -> Tensor:
        everything = torch.cat([tokens, conditions.tokens], dim=1)
        return network.run_blocks(everything, modulation, views.transforms, leaving=tokens.shape[1])


class CachedAttention:
    """Conditions never see the target or its timestep.

    The reference's keys and values hold as long as the reference does, the anchor drawing's for a frame, exactly.
    """

    def encode(self, network: FrameTransformer, tokens: Tensor, transforms: Transforms,
               earlier: ConditionKeysValues | None) -> ConditionKeysValues:
        modulation = network.condition_modulation() if earlier is None else earlier.modulation
        seen = None if earlier is None else earlier.keys_values
        return ConditionKeysValues(network.collect_keys_values(tokens, modulation, transforms, seen), modulation)

    def denoise(self, network: FrameTransformer, tokens: Tensor, modulation: Modulation,
                conditions: ConditionKeysValues, views: ViewEncoding) -> Tensor:
        return network.run_blocks(tokens, modulation, views.transforms.views(0, 1), conditions.keys_values)


PATTERNS = {"full": FullAttention, "cached": CachedAttention}
