"""A picture composed of the drawing and of references warped into it: the frame model with a composer.

The composer decides at a fixed size, the same for all cameras; its decision is applied to the pictures at their own, by
a compiled kernel. Seen pixels are the photographs' own, and the cost hardly depends on the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
import math

import cv2
import numpy as np
import torch
from torch import Tensor

from worldfm_ros.frame_model.composer import FLOOR, PAINTED, Decision, Inputs, composer_size, padded_size
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting import _compose
from worldfm_ros.painting.align import find_moves
from worldfm_ros.painting.blend import DRAWING, balanced_levels, blend, fill, looked_through, weights_by_angle
from worldfm_ros.painting.gaps import opaque
from worldfm_ros.painting.guide import Surface, find_surface
from worldfm_ros.painting.painted import Painted
from worldfm_ros.painting.warp import (
    ANGLE,
    OCTAVE,
    RESOLUTION,
    RIM,
    Target,
    WarpedReferences,
    balance,
    warp_balanced,
    with_rims,
)
from worldfm_ros.threads import THREADS, work_off
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

BAND = 32  # rows that a thread takes at a time
EDGE, HALF = np.float32(1e-3), np.float32(0.5)
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
    """The references, best first, and the drawing. Without any anchor there is no depth, and no reference shows. Of
    objects it knows nothing: see `with_objects`."""
    if not drawing.coverage.any():
        return nothing_drawn(len(references), *drawing.coverage.shape)
    surface = find_surface(opaque(drawing, references, T_world_camera, intrinsics))
    target = Target(surface.depth, T_world_camera, intrinsics)
    gains = balance(references, target)
    moves = find_moves(references, target, gains).at(*drawing.coverage.shape)
    return described(drawing.rgb, surface.drawn, warp_balanced(references, target, gains, moves), target.depth)


def nothing_drawn(count: int, height: int, width: int) -> Memory:
    return Memory(np.zeros((1 + count, height, width, 3), np.uint8), np.zeros((height, width, 2), np.uint8),
                  np.zeros((count, height, width, 7), np.uint8))


def described(drawn_rgb: np.ndarray, drawn: np.ndarray, warped: WarpedReferences, depth: np.ndarray) -> Memory:
    """The memory of a target whose drawing (H, W, 3) uint8 shows its surface where it is `drawn` (H, W) bool; depth
    (H, W) float32, metres, 0 = not known."""
    warped = with_rims(warped)
    blended, known = blend(drawn_rgb, drawn, warped)
    levels = balanced_levels(drawn_rgb, drawn, warped)
    drawn_rgb = np.where(drawn[..., None], cv2.LUT(drawn_rgb, levels.T[None]), fill(blended, ~known))
    nearness = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
    scaled = np.minimum(64 * nearness / max(float(nearness.mean()), 1e-9), 255)
    surface = np.stack([255 * drawn.astype(np.uint8), scaled.astype(np.uint8)], axis=-1)
    shown = warped.shown & ~looked_through(drawn, warped)
    pictures = np.concatenate([drawn_rgb[None], warped.rgb * shown[..., None]])
    return Memory(pictures, surface, facts(warped, shown, drawn))


@dataclass(frozen=True, eq=False)
class View:
    """What a composer decides on, and what its decision is applied to.

    memory: at the composer's own size. pictures (1 + K, H, W, 3), shown (1 + K, H, W) uint8: drawing and references at
    the camera's size, and where they show it; the drawing's holes are filled.
    """

    memory: Memory
    pictures: np.ndarray
    shown: np.ndarray

    @classmethod
    def of(cls, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
           intrinsics: Intrinsics) -> View:
        """The references are sorted, the best first."""
        view = cls._of_anchors(drawing.static, references, T_world_camera, intrinsics)
        return view if drawing.objects is None else view.with_objects(drawing)

    @classmethod
    def _of_anchors(cls, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
                    intrinsics: Intrinsics) -> View:
        size = drawing.coverage.shape
        small = composer_size(*size)
        if small == size or not drawing.coverage.any():
            memory = remember(drawing, references, T_world_camera, intrinsics)
            return cls(memory if small == size else nothing_drawn(len(references), *small), memory.pictures,
                       np.concatenate([memory.surface[None, ..., 0], memory.facts[..., 0]]))
        surface = find_surface(opaque(drawing, references, T_world_camera, intrinsics))
        target = Target(surface.depth, T_world_camera, intrinsics)
        gains = balance(references, target)
        moves = find_moves(references, target, gains)
        few = warp_balanced(references, resized(target, *small), gains, moves.at(*small))
        memory = small_memory(drawing.rgb, surface, few)
        warped = warp_balanced(references, target, gains, moves.at(*size), described=False)
        shown = warped.shown & ~looked_through(surface.drawn, warped)
        levels = balanced_levels(drawing.rgb, surface.drawn, warped)
        drawn_rgb = cv2.LUT(drawing.rgb, levels.T[None])
        if not surface.drawn.all():
            filled = cv2.resize(memory.pictures[0], size[::-1], interpolation=cv2.INTER_LINEAR)
            drawn_rgb = cv2.copyTo(filled, (~surface.drawn).view(np.uint8), drawn_rgb)
        return cls(memory, np.concatenate([drawn_rgb[None], warped.rgb]),
                   np.concatenate([surface.drawn[None], shown]).view(np.uint8))


    def with_objects(self, drawing: AnchorView) -> View:
        """The same with the drawing's objects before it: they are drawn, and no reference shows them."""
        objects, pictures, shown = drawing.objects, self.pictures.copy(), self.shown.copy()
        pictures[0] = objects.over(pictures[0])
        shown[0][objects.touched], shown[1:][:, objects.touched] = 1, 0
        return View(remember_objects(self.memory, drawing), pictures, shown)


def remember_objects(memory: Memory, drawing: AnchorView) -> Memory:
    """A memory of the anchors, at its own size, with the drawing's objects in it."""
    objects, size = drawing.objects, memory.surface.shape[1::-1]
    share = cv2.resize(objects.share, size, interpolation=cv2.INTER_AREA)
    light = cv2.resize(objects.rgb * objects.share[..., None], size, interpolation=cv2.INTER_AREA)
    rgb = np.rint(light / np.maximum(share, EDGE)[..., None]).clip(0, 255).astype(np.uint8)
    small = replace(objects, rgb=rgb, share=share)
    pictures, surface, facts_of = memory.pictures.copy(), memory.surface.copy(), memory.facts.copy()
    pictures[0] = small.over(pictures[0])
    pictures[1:][:, small.touched], facts_of[:, small.touched] = 0, 0
    surface[small.touched, 0] = 255
    whole, anchors = (cv2.resize(image.depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
                      for image in (drawing, drawing.static))
    known = (anchors > 0) & (surface[..., 1] > 0) & (surface[..., 1] < 255)
    scale = float(surface[known, 1].sum() / max((1 / anchors[known]).sum(), 1e-9))  # of nearness, the anchors'
    near = small.touched & (whole > 0)
    surface[near, 1] = np.minimum(scale / whole[near], 255)
    return Memory(pictures, surface, facts_of)


def resized(target: Target, height: int, width: int) -> Target:
    """The same view in fewer pixels."""
    depth = cv2.resize(target.depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return Target(depth, target.T_world_camera, target.intrinsics.resized(width, height))


def small_memory(drawn_rgb: np.ndarray, surface: Surface, warped: WarpedReferences) -> Memory:
    """The memory at the size of the warped references. The drawing's colours are means over each pixel's area."""
    height, width = warped.shown.shape[1:]

    def small(image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    share = small(surface.drawn.astype(np.float32))
    sums = small(drawn_rgb * surface.drawn[..., None]).astype(np.float32)
    rgb = np.clip(sums / np.maximum(share, EDGE)[..., None] + HALF, 0, 255).astype(np.uint8)
    depth = cv2.resize(surface.depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    memory = described(rgb, share > HALF, warped, depth)
    coarser = round(OCTAVE * math.log2(surface.drawn.shape[1] / width))
    resolution = memory.facts[..., 2 + RESOLUTION]  # of the camera's pixels, not of these
    resolution[resolution > 0] = np.maximum(resolution[resolution > 0].astype(int) - coarser, 1)
    return memory


def facts(warped: WarpedReferences, shown: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(K, H, W, 7) uint8, of what the references show (K, H, W) bool and the drawing (H, W) bool draws."""
    share = np.rint(255 * blend_shares(warped, shown, drawn)).astype(np.uint8)
    return np.concatenate([255 * shown[..., None].astype(np.uint8), share[..., None], warped.quality], axis=-1)


def blend_shares(warped: WarpedReferences, shown: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(K, H, W) float32: how much of each reference is in painting.blend's picture; the rest is the drawing."""
    tables = zip(weights_by_angle(len(shown)), warped.quality[..., ANGLE], strict=True)
    weight = np.stack([table[angle] for table, angle in tables]) if len(shown) else np.zeros(shown.shape, np.float32)
    weight *= shown * warped.quality[..., RIM].astype(np.float32)
    return weight / np.maximum(weight.sum(0) + np.float32(DRAWING) * drawn, np.float32(1))


def inputs_of(memory: Memory, references: int, threads: int = THREADS) -> Inputs:
    """A batch of one for a composer of so many references: Inputs.of(candidates), compiled. Raises ValueError for more
    references than that."""
    count, size = len(memory.facts), memory.surface.shape[:2]
    if count > references:
        raise ValueError(f"this composer takes up to {references} references, got {count}")
    height, width = padded_size(*size)
    given, drawing, prior, painted = (np.empty(shape, np.float32) for shape in (
        (references, height, width, 10), (height, width, 8), (height, width, references + 2),
        (height // 2, width // 2, 3)))
    bands = [(top, min(top + BAND, height)) for top in range(0, height, BAND)]
    work_off(lambda band: _compose.read_rows(memory.pictures, memory.surface, memory.facts, _logarithms(), given,
                                             drawing, prior, painted, *band), bands, threads)
    return Inputs(*(torch.from_numpy(np.moveaxis(x, -1, -3))[None] for x in (given, drawing, prior, painted)),
                  count, size)


@cache
def _logarithms() -> np.ndarray:
    """(2, 256) float32 of a weight of 0..255 in the blend, and of the painted picture's where it is the drawing's."""
    share = np.arange(256) / 255
    return np.log([share + FLOOR, PAINTED[0] + PAINTED[1] * share]).astype(np.float32)


def unknown(memory: Memory) -> float:
    """The part of the picture that neither the drawing nor a reference shows."""
    return float(1 - np.concatenate([memory.surface[None, ..., 0], memory.facts[..., 0]]).max(0).mean() / 255)


def applied(decision: Decision, pictures: np.ndarray, shown: np.ndarray, threads: int = THREADS) -> Painted:
    """A decision, a batch of one, applied to the pictures that it is about; see `View`."""
    height, width = shown.shape[1:]

    def array(x: Tensor, scale: float, shift: float = 0.0) -> np.ndarray:  # (1, C, h, w) -> (C, h, w)
        return np.ascontiguousarray((x[0].float() * scale + shift).numpy(), np.float32)

    weights, painted = array(decision.logits.float().softmax(1), 1.0), array(decision.painted, 127.5, 127.5)
    extra = np.concatenate([array(decision.residual, 127.5), array(decision.detail, 1.0)])
    mixed, known = np.empty((3, height, width), np.float32), np.empty((height, width), np.float32)
    rgb = np.empty((height, width, 3), np.uint8)
    bands = [(top, min(top + BAND, height)) for top in range(0, height, BAND)]
    work_off(lambda band: _compose.mix_rows(pictures, shown, weights, painted, mixed, known, *band), bands, threads)
    work_off(lambda band: _compose.finish_rows(mixed, extra, rgb, *band), bands, threads)
    return Painted(rgb, confidence_of(known, array(decision.doubt, 1.0)[0]))


def confidence_of(known: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of the known share (H, W) and the logarithm (h, w) of the error that is expected."""
    low, high = np.log(CERTAIN), np.log(DOUBTFUL)
    trusted = np.clip((high - doubt) / (high - low), 0, 1).astype(np.float32)
    trusted = cv2.resize(trusted, known.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.rint(255 * known * trusted).astype(np.uint8)
