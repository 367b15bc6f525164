"""Self-attention over the views' tokens (paper 2.4.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from worldfm_ros.frame_model.camera_encoding import Transforms


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
