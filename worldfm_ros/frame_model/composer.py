"""The composer: which of several pictures of a place each pixel is taken from. Seen pixels stay real pixels.

Candidates are the drawing without its holes, K warped reference photographs, and a picture that the network paints. At
a fixed number of pixels, whatever the camera's, it decides on their weights (softmax), a residual, and how much of the
detail is kept; `compose` applies that at full size (Deep Blending, Hedman et al. 2018; Free View Synthesis, Riegler
and Koltun 2020: weights over warped photographs generalise). The weights start at those of the blend, the rest at
nothing: an untrained composer is the blend. Plain 3x3 convolutions, no normalisation, thin at half resolution: made
for CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
import math

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
import torch
from torch import Tensor, nn
import torch.nn.functional as F

FACTS = 7  # of a reference: SHOWN, WEIGHT, and the qualities of painting.warp
SHOWN, WEIGHT = range(2)
DRAWN, NEARNESS = range(2)
PIXELS = 192 * 144  # of the composer's own pictures, about
MULTIPLE = 16  # of their sides
FLOOR = 2e-3  # of a weight before training: what is not part of the blend can still be learned
PAINTED = (0.01, 0.2)  # the painted picture's weight before training, where a reference shows and where none does
BOUND = 0.4  # of the logarithm of a change of the blend's weights: what is learned of these does not hold elsewhere
ENOUGH = 1 / 48  # of a picture that nothing shows: what a token of the transformer covers. From here on it is asked
EDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a picture is composed of, at the camera's size.

    drawing (B, 3, H, W) in [-1, 1], holes filled; references (B, K, 3, H, W) likewise, -1 where not shown.
    surface (B, 2, H, W): DRAWN 0 or 1, NEARNESS 1 / z over its mean in the picture (0 where no depth is known).
    facts (B, K, 7, H, W) in 0..1: SHOWN 0 or 1; WEIGHT in the blend, what is left of 1 is the drawing's; qualities.
    """

    drawing: Tensor
    references: Tensor
    surface: Tensor
    facts: Tensor

    @classmethod
    def of(cls, pictures: Tensor, surface: Tensor, facts: Tensor) -> Candidates:
        """From uint8: pictures (B, 1 + K, 3, H, W), the drawing first; surface (B, 2, H, W); facts (B, K, 7, H, W)."""
        rgb, facts = pictures.float() / 127.5 - 1.0, facts.float() / 255.0
        surface = surface.float() / torch.tensor([255.0, 64.0], device=surface.device)[:, None, None]
        return cls(rgb[:, 0], rgb[:, 1:], surface, facts)

    def map(self, function: Callable[[Tensor], Tensor]) -> Candidates:
        return Candidates(*(function(x) for x in (self.drawing, self.references, self.surface, self.facts)))

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.drawing.shape[-2:])

    def blend(self) -> Tensor:
        """(B, 3, H, W): the picture without a network."""
        weight = self.facts[:, :, WEIGHT, None]
        return (weight * self.references).sum(1) + (1 - weight.sum(1)) * self.drawing

    def unknown(self) -> Tensor:
        """(B,): the part of the picture that neither the drawing nor a reference shows."""
        return ((1 - self.surface[:, DRAWN]) * (1 - self.facts[:, :, SHOWN]).prod(1)).mean((1, 2))

    def resized(self, size: tuple[int, int]) -> Candidates:
        """Each pixel of the result is the mean of those that it covers. Colours of what is not shown do not count."""
        if size == self.size:
            return self
        rows, columns = (shares_of_area(*sides).to(self.drawing) for sides in zip(size, self.size, strict=True))

        def small(x: Tensor) -> Tensor:
            return rows @ x @ columns.T

        facts, shown = small(self.facts), self.facts[:, :, SHOWN, None]
        seen = facts[:, :, SHOWN, None]
        references = small((self.references + 1) * shown) / seen.clamp(min=EDGE) - 1
        return Candidates(small(self.drawing), references, small(self.surface), facts)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def shares_of_area(small: int, large: int) -> Tensor:
    """(small, large): of the pixels of a line of `large`, the parts that each of `small` covers; each sums up to 1."""
    edges = torch.arange(small + 1, dtype=torch.float64) * large / small
    first = torch.arange(large, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], first + 1) - torch.maximum(edges[:-1, None], first)
    return (covered.clamp(min=0) * small / large).float()


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network for R references reads of candidates, (H, W) the sides up to multiples of 16.

    references (B, R, 10, H, W): the colours less the blend's, 0 where not shown, and the facts. drawing (B, 8, H, W):
    the blend, the drawing less the blend, the surface. prior (B, R + 2, H, W): the logarithms of the blend's weights,
    floored, and of the painted picture's. painted (B, 3, H / 2, W / 2): the blend, small. count: the references that
    there are; size: (height, width) of the candidates.
    """

    references: Tensor
    drawing: Tensor
    prior: Tensor
    painted: Tensor
    count: int
    size: tuple[int, int]

    @classmethod
    def of(cls, candidates: Candidates, references: int) -> Inputs:
        """Places without a reference show nothing. Raises ValueError for more references than that."""
        count = candidates.references.shape[1]
        padded = filled(candidates, references)
        blend, facts = padded.blend(), padded.facts
        colours = (padded.references - blend[:, None]) * facts[:, :, SHOWN, None]
        drawing = torch.cat([blend, padded.drawing - blend, padded.surface], dim=1)
        weight = facts[:, :, WEIGHT]
        rest = (1 - weight.sum(1, keepdim=True)).clamp(min=0)
        prior = torch.cat([rest + FLOOR, weight + FLOOR, PAINTED[0] + PAINTED[1] * rest], dim=1).float().log()
        return cls(torch.cat([colours, facts], dim=2), drawing, prior, F.avg_pool2d(blend, 2), count, candidates.size)

    def map(self, function: Callable[[Tensor], Tensor]) -> Inputs:
        tensors = self.references, self.drawing, self.prior, self.painted
        return Inputs(*(function(x) for x in tensors), self.count, self.size)


def padded_size(height: int, width: int) -> tuple[int, int]:
    """The sides up to multiples of 16."""
    return height + -height % MULTIPLE, width + -width % MULTIPLE


def filled(candidates: Candidates, references: int) -> Candidates:
    """Of so many references, and of `padded_size`: the last row and column go on."""
    missing = references - candidates.references.shape[1]
    if missing < 0:
        raise ValueError(f"this composer takes up to {references} references, got {candidates.references.shape[1]}")
    height, width = candidates.size
    rows, columns = padded_size(height, width)
    room = (0, columns - width, 0, rows - height)

    def padded(x: Tensor, more: int = 0, value: float = 0.0) -> Tensor:
        if more:
            x = torch.cat([x, x.new_full((x.shape[0], more, *x.shape[2:]), value)], dim=1)
        if not any(room):
            return x
        return F.pad(x.flatten(0, -4), room, mode="replicate").unflatten(0, x.shape[:-3])

    return Candidates(padded(candidates.drawing), padded(candidates.references, missing, -1.0),
                      padded(candidates.surface), padded(candidates.facts, missing))


@dataclass(frozen=True, eq=False)
class Decision:
    """logits (B, K + 2, h, w): of the drawing, the references, the painted picture. painted, residual (B, 3, h', w')
    in [-1, 1] and added; detail (B, 1, h', w'): this part of the picture's finest detail is added to it. doubt
    (B, 1, h', w'): the natural logarithm of the absolute error that is expected, in units of 1."""

    logits: Tensor
    painted: Tensor
    residual: Tensor
    detail: Tensor
    doubt: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> Decision:
        return Decision(*(function(x) for x in (self.logits, self.painted, self.residual, self.detail, self.doubt)))


def composer_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) that the composer works at for a camera: its aspect, about PIXELS, and not larger than it is."""
    scale = min(1.0, math.sqrt(PIXELS / (height * width)))
    return tuple(max(1, round(side * scale)) for side in (height, width))


def compose(decision: Decision, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """The picture (B, 3, H, W), about [-1, 1], and the weights (B, K + 2, H, W) of drawing, references, painted."""
    size = candidates.size
    weights = _enlarged(decision.logits.float().softmax(1), size)
    shown = candidates.facts[:, :, SHOWN]
    always = torch.ones_like(candidates.surface[:, :1])
    usable = torch.cat([always, shown, always], dim=1)
    weights = weights * usable
    weights = weights / weights.sum(1, keepdim=True).clamp(min=EDGE)
    painted = _enlarged(decision.painted.float(), size)
    pictures = torch.cat([candidates.drawing[:, None], candidates.references, painted[:, None]], dim=1)
    mixed = (weights[:, :, None] * pictures).sum(1)
    fine = mixed - F.avg_pool2d(F.pad(mixed, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return mixed + _enlarged(decision.detail.float(), size) * fine + _enlarged(decision.residual.float(), size), weights


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


class Block(nn.Module):
    """x + conv(relu(conv(relu(x)))), nothing at first"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = conv(channels, channels), conv(channels, channels)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class Composer(ModelMixin, ConfigMixin):
    """Candidates to a Decision. Any size; fewer references than `references` are filled up with ones that show nothing.

    widths: channels at 1/2, 1/4, 1/8 and 1/16 of the resolution; blocks: residual blocks there, on the way down and
    (all but the last) one each on the way up. encoded: channels that a reference is encoded in. latent_channels: of
    the frame transformer's latents (B, C, h / 8, w / 8), which enter at 1/8 through a convolution that starts at zero;
    0: it takes none.
    """

    @register_to_config
    def __init__(self, references: int = 3, widths: tuple[int, ...] = (16, 40, 80, 112),
                 blocks: tuple[int, ...] = (1, 1, 2, 2), encoded: int = 8, latent_channels: int = 0) -> None:
        super().__init__()
        half = widths[0]
        self.encode_reference = conv(4 * (3 + FACTS), encoded)
        self.encode_drawing = conv(4 * 8, half)
        self.merge = conv(half + references * encoded, half)
        self.down = nn.ModuleList(conv(a, b, 2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(conv(b, a) for a, b in pairwise(widths))
        self.before = nn.ModuleList(nn.Sequential(*(Block(w) for _ in range(n)))
                                     for w, n in zip(widths, blocks, strict=True))
        self.after = nn.ModuleList(Block(w) for w in widths[:-1])
        self.decide = conv(half, 4 * (references + 2) + 3 + 3 + 1 + 1)
        self.enter = conv(latent_channels, widths[2]) if latent_channels else None
        for layer in filter(None, (self.decide, self.enter)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, candidates: Candidates, latents: Tensor | None = None) -> Decision:
        """`candidates` at the composer's own size; no latents are as good as zeros. Raises ValueError for more
        references than it was made for, and for latents that it does not take."""
        return self.decide_on(Inputs.of(candidates, self.config.references), latents)

    def decide_on(self, inputs: Inputs, latents: Tensor | None = None) -> Decision:
        """As `forward`, on what a network of `config.references` references reads of the candidates."""
        if latents is not None and self.enter is None:
            raise ValueError(f"this composer takes no latents; got {tuple(latents.shape)}")
        x = self._trunk(inputs, latents)
        count, (height, width) = inputs.count, inputs.size
        decided = self.decide(F.relu(x)).float()
        logits, painted, *others = decided.split((4 * inputs.prior.shape[1], 3, 3, 1, 1), dim=1)
        logits = inputs.prior + BOUND * torch.tanh(F.pixel_shuffle(logits, 2) / BOUND)
        logits = torch.cat([logits[:, :1 + count], logits[:, -1:]], dim=1)
        halves = (math.ceil(height / 2), math.ceil(width / 2))
        return Decision(logits[..., :height, :width], *(y[..., :halves[0], :halves[1]]
                                                        for y in (inputs.painted + painted, *others)))

    def _trunk(self, inputs: Inputs, latents: Tensor | None) -> Tensor:
        """Features (B, widths[0], h / 2, w / 2)."""
        encoded = at_half(self.encode_reference, inputs.references.flatten(0, 1).to(self.dtype))
        encoded = encoded.unflatten(0, inputs.references.shape[:2]).flatten(1, 2)
        x = torch.cat([at_half(self.encode_drawing, inputs.drawing.to(self.dtype)), encoded], dim=1)
        x, skips = self.before[0](self.merge(F.relu(x))), []
        for level, down in enumerate(self.down, start=1):
            skips.append(x)
            x = down(F.relu(x))
            if level == 2 and self.enter is not None:
                given = x.new_zeros(1, self.config.latent_channels, 1, 1) if latents is None else latents.to(x.dtype)
                x = x + _enlarged(self.enter(given), x.shape[-2:])
            x = self.before[level](x)
        for level in reversed(range(len(skips))):
            x = self.after[level](skips[level] + F.interpolate(self.up[level](F.relu(x)), scale_factor=2.0))
        return x


def at_half(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """layer(pixel_unshuffle(x, 2)) without its copies: as one 6x6 convolution with stride 2."""
    weight = layer.weight.unflatten(1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3)  # (O, C, row, its half, column, its half)
    return F.conv2d(x, weight.flatten(4, 5).flatten(2, 3), layer.bias, stride=2, padding=2)


def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1)
