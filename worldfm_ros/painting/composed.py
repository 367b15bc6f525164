"""A picture composed of the drawing and of references warped into it: the frame model with a composer.

The composer decides at a fixed size, the same for all cameras; its decision is applied to the pictures at their own, by
a compiled kernel. Seen pixels are the photographs' own, and the cost hardly depends on the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from worldfm_ros.frame_model.composer import Candidates, Decision, composer_size
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting import _compose
from worldfm_ros.painting.align import find_moves
from worldfm_ros.painting.blend import DRAWING, balanced_levels, blend, fill, looked_through, weights_by_angle
from worldfm_ros.painting.guide import find_surface
from worldfm_ros.painting.painted import Painted
from worldfm_ros.painting.warp import ANGLE, RIM, Target, WarpedReferences, warp_references
from worldfm_ros.threads import THREADS, work_off
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

BAND = 32  # rows that a thread takes at a time
CERTAIN, DOUBTFUL = 0.02, 0.3  # expected absolute errors, of 1, that confidence falls between


@dataclass(frozen=True, eq=False)
class Memory:
    """What geometry knows of a target view, as the composer is given it; uint8, 255 = 1.

    pictures (1 + K, H, W, 3): the drawing, its holes filled as the blend's are, and the references, best first.
    surface (H, W, 2): drawn 0 or 255; nearness, 64 / z over its mean in the picture, 0 where no depth is known.
    facts (K, H, W, 7): shown 0 or 255; share in the blend, what is left of 255 is the drawing's; the five qualities.
    """

    pictures: np.ndarray
    surface: np.ndarray
    facts: np.ndarray


def remember(drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
             intrinsics: Intrinsics) -> Memory:
    """The references, best first, and the drawing. Without any anchor there is no depth, and no reference shows."""
    size = (intrinsics.height, intrinsics.width)
    if not drawing.coverage.any():
        warped = warp_references(references, Target(drawing.depth, T_world_camera, intrinsics))
        return Memory(np.concatenate([drawing.rgb[None], warped.rgb]), np.zeros((*size, 2), np.uint8),
                      facts(warped, warped.shown, np.zeros(size, bool)))
    surface = find_surface(drawing)
    target = Target(surface.depth, T_world_camera, intrinsics)
    warped = warp_references(references, target, find_moves(references, target))
    blended, known = blend(drawing.rgb, surface.drawn, warped)
    levels = balanced_levels(drawing.rgb, surface.drawn, warped)
    drawn_rgb = np.where(surface.drawn[..., None], cv2.LUT(drawing.rgb, levels.T[None]), fill(blended, ~known))
    nearness = np.divide(1, surface.depth, out=np.zeros_like(surface.depth), where=surface.depth > 0)
    scaled = np.minimum(64 * nearness / max(float(nearness.mean()), 1e-9), 255)
    described = np.stack([255 * surface.drawn.astype(np.uint8), scaled.astype(np.uint8)], axis=-1)
    shown = warped.shown & ~looked_through(surface.drawn, warped)
    pictures = np.concatenate([drawn_rgb[None], warped.rgb * shown[..., None]])
    return Memory(pictures, described, facts(warped, shown, surface.drawn))


def facts(warped: WarpedReferences, shown: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(K, H, W, 7) uint8, of what the references show (K, H, W) bool and the drawing (H, W) bool draws."""
    share = np.rint(255 * blend_shares(warped, shown, drawn)).astype(np.uint8)
    return np.concatenate([255 * shown[..., None].astype(np.uint8), share[..., None], warped.quality], axis=-1)


def blend_shares(warped: WarpedReferences, shown: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(K, H, W) float32: how much of each reference is in painting.blend's picture; the rest is the drawing."""
    table = weights_by_angle(len(shown)).astype(np.float32)
    weight = np.stack([row[angle] for row, angle in zip(table, warped.quality[..., ANGLE], strict=True)]) \
        if len(shown) else np.zeros(shown.shape, np.float32)
    weight *= shown * warped.quality[..., RIM].astype(np.float32)
    return weight / np.maximum(weight.sum(0) + np.float32(DRAWING) * drawn, np.float32(1))


def reduced(memory: Memory) -> Candidates:
    """The memory as the composer looks at it, a batch of one at the composer's own size."""
    height, width = memory.surface.shape[:2]
    small_height, small_width = composer_size(height, width)
    if (small_height, small_width) == (height, width):
        return Candidates.of(*(_batch(x) for x in (memory.pictures, memory.surface, memory.facts)))

    def small(image: np.ndarray) -> np.ndarray:  # (H, W, C <= 4) -> (h, w, C), means of areas
        return cv2.resize(image, (small_width, small_height), interpolation=cv2.INTER_AREA)

    pictures = np.stack([small(picture) for picture in memory.pictures]).astype(np.float32)
    facts = np.stack([np.dstack([small(fact[..., :4]), small(fact[..., 4:])]) for fact in memory.facts]) \
        if len(memory.facts) else np.zeros((0, small_height, small_width, 7), np.uint8)
    seen = facts[..., :1].astype(np.float32) / 255
    pictures[1:] = np.divide(pictures[1:], seen, out=np.zeros_like(pictures[1:]), where=seen > 0).clip(max=255)
    return Candidates.of(_batch(pictures), _batch(small(memory.surface)), _batch(facts))


def _batch(image: np.ndarray) -> Tensor:  # (..., H, W, C) -> (1, ..., C, H, W)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, -3)))[None]


def applied(decision: Decision, memory: Memory, threads: int = THREADS) -> Painted:
    """A decision, a batch of one, applied to the pictures that it is about."""
    height, width = memory.surface.shape[:2]

    def array(x: Tensor, scale: float, shift: float = 0.0) -> np.ndarray:  # (1, C, h, w) -> (h, w, C)
        return np.ascontiguousarray((x[0].float() * scale + shift).permute(1, 2, 0).numpy(), np.float32)

    weights, painted = array(decision.logits.float().softmax(1), 1.0), array(decision.painted, 127.5, 127.5)
    extra = np.concatenate([array(decision.residual, 127.5), array(decision.detail, 1.0)], axis=-1)
    shown = np.concatenate([memory.surface[None, ..., 0], memory.facts[..., 0]])
    mixed, known = np.empty((height, width, 3), np.float32), np.empty((height, width), np.float32)
    rgb = np.empty((height, width, 3), np.uint8)
    bands = [(top, min(top + BAND, height)) for top in range(0, height, BAND)]
    work_off(lambda band: _compose.mix_rows(memory.pictures, shown, weights, painted, mixed, known, *band), bands,
             threads)
    work_off(lambda band: _compose.finish_rows(mixed, extra, rgb, *band), bands, threads)
    return Painted(rgb, confidence_of(known, array(decision.doubt, 1.0)[..., 0]))


def confidence_of(known: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of the known share (H, W) and the logarithm (h, w) of the error that is expected."""
    low, high = np.log(CERTAIN), np.log(DOUBTFUL)
    trusted = np.clip((high - doubt) / (high - low), 0, 1).astype(np.float32)
    trusted = cv2.resize(trusted, known.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.rint(255 * known * trusted).astype(np.uint8)
