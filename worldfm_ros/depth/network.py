"""Our depth network: what the smoothest completion of the known depth lacks.

A small U-Net of plain 3x3 convolutions, made for CPUs, sees the picture, the direction of each pixel's ray, where depth
is known, and the smooth completion of it (where nothing is known: a wall). It tells the logarithm of the factor from
that to the depth, up to a smooth error; that error is known where depth is, and is spread over the gaps and taken off.
So known depth stays without a seam, one network serves any amount of it, and an untrained one is the smooth completion.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
import torch
from torch import Tensor, nn
import torch.nn.functional as F

INPUTS = 3 + 2 + 1 + 1  # picture, ray, whether depth is known, and the smooth completion


@dataclass(frozen=True, eq=False)
class Prediction:
    """(B, 1, H, W) each: the logarithms of depth in metres, and of the absolute error of it that is expected."""

    log_depth: Tensor
    doubt: Tensor


class Block(nn.Module):
    """x + conv(relu(conv(relu(x)))), nothing at first"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class DepthNetwork(ModelMixin, ConfigMixin):
    """Picture, rays, known depth and its smooth completion to a Prediction. Any size.

    widths: channels at 1/2, 1/4, ... of the resolution; blocks: residual blocks there on the way down; all but the last
    have one on the way up. The last adds what it finds in the whole picture.
    """

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (24, 48, 80, 112, 144),
                 blocks: tuple[int, ...] = (1, 1, 1, 2, 2)) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * INPUTS, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, padding=1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.before = nn.ModuleList(nn.Sequential(*(Block(w) for _ in range(n)))
                                     for w, n in zip(widths, blocks, strict=True))
        self.after = nn.ModuleList(Block(w) for w in widths[:-1])
        self.whole = zeroed(nn.Linear(widths[-1], widths[-1]))
        self.tell = zeroed(nn.Conv2d(widths[0], 4 * 2, 3, padding=1))

    def forward(self, picture: Tensor, known: Tensor, smooth: Tensor, rays: Tensor) -> Prediction:
        """picture (B, 3, H, W) in [-1, 1]; known (B, 1, H, W) metres, 0 = none; smooth (B, 1, H, W) metres, above 0;
        rays (B, 2, H, W): x / z and y / z."""
        height, width = picture.shape[-2:]
        mask, base = (known > 0).float(), smooth.log()
        seen = torch.cat([picture, rays, mask, base - base.mean((1, 2, 3), keepdim=True)], dim=1)
        lacking, doubt = self._trunk(seen)[..., :height, :width].float().split(1, dim=1)
        return Prediction(base + lacking - spread(lacking * mask, mask), doubt)

    def _trunk(self, seen: Tensor) -> Tensor:
        """(B, 2, H', W'), H' and W' not smaller than before."""
        multiple = 2 ** len(self.before)
        height, width = seen.shape[-2:]
        seen = F.pad(seen.to(self.dtype), (0, -width % multiple, 0, -height % multiple), mode="replicate")
        x = self.enter(F.pixel_unshuffle(seen, 2).contiguous(memory_format=torch.channels_last))
        x, skips = self.before[0](x), []
        for level, down in enumerate(self.down, start=1):
            skips.append(x)
            x = self.before[level](down(F.relu(x)))
        x = x + self.whole(x.mean((2, 3)))[:, :, None, None]
        for level in reversed(range(len(skips))):
            x = self.after[level](skips[level] + F.interpolate(self.up[level](F.relu(x)), scale_factor=2.0))
        return F.pixel_shuffle(self.tell(F.relu(x)), 2)


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """`values` (B, 1, H, W), 0 outside of `mask`, over the whole picture: exact where known, elsewhere the mean of what
    is near, however far that is (pull-push: Gortler et al. 1996, section 3.3); 0 where nothing is known."""
    if max(mask.shape[-2:]) == 1:
        return values
    pooled = F.avg_pool2d(torch.cat([values * mask, mask], 1), 2, ceil_mode=True, count_include_pad=False)
    sums, weight = pooled.split(1, dim=1)
    known = (weight > 0).to(values.dtype)
    coarse = spread(sums / torch.where(weight > 0, weight, 1.0), known)
    smooth = F.interpolate(coarse, mask.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(mask > 0, values, smooth)


def zeroed(layer: nn.Module) -> nn.Module:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
