"""A small segmenter, trained for minutes: what a generated picture is worth to who trains on it.

A U-Net of 0.2 million parameters learns the labels of pictures of one family of scenes; its mean intersection over
union on exact pictures of another family, which it has not seen, says how good its lessons were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
import torch.nn.functional as F

IGNORED = 255  # of a pixel's class: not learned, not judged
WIDTHS = (16, 24, 40, 64)
MULTIPLE = 16  # sides of a picture are multiples of it
JITTER = 0.2  # contrast of each channel and brightness, up to so much


@dataclass(frozen=True)
class Lesson:
    """steps: the optimiser's; batch: pictures a step; rate: AdamW's at its peak; seed: of weights, order and jitter."""

    steps: int = 800
    batch: int = 8
    rate: float = 3e-3
    seed: int = 0


class Segmenter(nn.Module):
    """(B, 3, H, W) in 0..1 to logits (B, classes, H, W); H and W multiples of MULTIPLE. It works at half the size."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.halved = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 4, stride=2, padding=1, bias=False),
                                    nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(inplace=True))
        self.down = nn.ModuleList(_block(before, after) for before, after in pairwise((WIDTHS[0], *WIDTHS)))
        self.up = nn.ModuleList(_block(below + side, side) for below, side in
                                zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.out = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, kept = self.halved(x), []
        for k, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if k else x)
            kept.append(x)
        for block, side in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), side], 1))
        return F.interpolate(self.out(x), scale_factor=2, mode="bilinear")


def _block(before: int, after: int) -> nn.Sequential:
    layers = (nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
                         nn.ReLU(inplace=True))


def train(pictures: np.ndarray, classes: np.ndarray, count: int, lesson: Lesson = Lesson(),
          track: Callable[[Iterable], Iterable] = iter) -> Segmenter:
    """A segmenter of pictures (N, H, W, 3) uint8 and their classes (N, H, W) uint8, below `count` or IGNORED.

    Raises ValueError when there is nothing to learn.
    """
    if not (classes != IGNORED).any():
        raise ValueError("no pixel has a class: there is nothing to learn")
    generator = torch.Generator().manual_seed(lesson.seed)
    torch.manual_seed(lesson.seed)
    network = Segmenter(count).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lesson.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lesson.rate, total_steps=lesson.steps)
    weights = balance(classes, count)
    for _ in track(range(lesson.steps)):
        chosen = torch.randint(len(pictures), (lesson.batch,), generator=generator).numpy()
        x, y = _jittered(_tensor(pictures[chosen]), torch.from_numpy(classes[chosen]).long(), generator)
        loss = F.cross_entropy(network(x), y, weights, ignore_index=IGNORED)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def balance(classes: np.ndarray, count: int) -> Tensor:
    """(count,) a weight for each class, the inverse root of its share of the pixels, so that rare ones are learned;
    0 for one that does not occur. A pixel's mean weight is 1."""
    counts = np.bincount(classes.ravel(), minlength=256)[:count]
    weights = np.where(counts > 0, 1.0 / np.sqrt(np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weights * counts.sum() / (weights @ counts)).float()


def _jittered(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each picture mirrored or not, brighter or darker, its channels with more contrast or less."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    y = torch.where(mirrored[:, None, None], y.flip(-1), y)
    gain = 1.0 + JITTER * (2.0 * torch.rand(len(x), 3, 1, 1, generator=generator) - 1.0)
    shift = JITTER * (2.0 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1.0)
    return (x * gain + shift).clamp(0.0, 1.0), y


def mean_iou(network: Callable[[Tensor], Tensor], pictures: np.ndarray, classes: np.ndarray,
             judged: Iterable[int]) -> dict:
    """`agreement` of what a network tells of pictures (N, H, W, 3) with their classes (N, H, W)."""
    with torch.no_grad():
        told = [network(_tensor(pictures[k:k + 16])).argmax(1).numpy() for k in range(0, len(pictures), 16)]
    return agreement(np.concatenate(told), classes, judged)


def agreement(told: np.ndarray, classes: np.ndarray, judged: Iterable[int]) -> dict:
    """miou over the `judged` classes that occur, and iou by class: what is both over what is either.

    told, classes: (N, H, W); `told` may be a single picture (H, W) for all.
    """
    known = classes != IGNORED
    iou = {}
    for each in judged:
        ours, truth = (told == each) & known, (classes == each) & known
        if truth.any():
            iou[int(each)] = float(np.count_nonzero(ours & truth) / np.count_nonzero(ours | truth))
    return {"miou": float(np.mean(list(iou.values()))), "iou": iou}


def usual(classes: np.ndarray) -> np.ndarray:
    """(H, W) the most frequent class of each place in pictures' classes (N, H, W): what to say without looking."""
    counts = np.stack([(classes == each).sum(0) for each in range(int(classes[classes != IGNORED].max()) + 1)])
    return counts.argmax(0)


def _tensor(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) / 255.0
