"""What a picture can be composed of: the drawing without its holes, and references warped into it. No network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.guide import find_surface
from worldfm_ros.painting.warp import RIM, WarpedReferences, warp_references
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

FIRST = 4.0  # a reference counts so many times as much as the next one
FACTS = 7  # of a reference's pixel: shown, weight, and the five qualities of painting.warp


@dataclass(frozen=True, eq=False)
class Memory:
    """What geometry knows of a target view, as the composer is given it; uint8, 255 = 1.

    pictures (1 + K, H, W, 3): the drawing, its holes filled with the nearest colour, and the references, best first.
    surface (H, W, 2): drawn 0 or 255; nearness, 64 / z over its mean in the picture, 0 where no depth is known.
    facts (K, H, W, 7): shown 0 or 255; weight in the blend, the sum over K is about 255 where any is shown; qualities.
    """

    pictures: np.ndarray
    surface: np.ndarray
    facts: np.ndarray


def remember(drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
             intrinsics: Intrinsics) -> Memory:
    """The references, best first, and the drawing. Without any anchor there is no depth, and no reference shows."""
    size = (intrinsics.height, intrinsics.width)
    if not drawing.coverage.any():
        warped = warp_references(references, drawing.depth, T_world_camera, intrinsics)
        return Memory(np.concatenate([drawing.rgb[None], warped.rgb]), np.zeros((*size, 2), np.uint8), facts(warped))
    surface = find_surface(drawing)
    warped = warp_references(references, surface.depth, T_world_camera, intrinsics)
    nearness = np.divide(1, surface.depth, out=np.zeros_like(surface.depth), where=surface.depth > 0)
    scaled = np.minimum(64 * nearness / max(float(nearness.mean()), 1e-9), 255)
    described = np.stack([255 * surface.drawn.astype(np.uint8), scaled.astype(np.uint8)], axis=-1)
    return Memory(np.concatenate([drawing.rgb[surface.nearest][None], warped.rgb]), described, facts(warped))


def facts(warped: WarpedReferences) -> np.ndarray:
    """(K, H, W, 7) uint8"""
    shown = 255 * warped.shown.astype(np.uint8)
    weight = np.rint(255 * blend_weights(warped)).astype(np.uint8)
    return np.concatenate([shown[..., None], weight[..., None], warped.quality], axis=-1)


def blend_weights(warped: WarpedReferences) -> np.ndarray:
    """(K, H, W) float32: how much of each reference is in the blend; their sum is 1 where any is shown, else 0."""
    rank = np.float32(FIRST) ** -np.arange(len(warped.shown), dtype=np.float32)
    weight = rank[:, None, None] * warped.shown * (0.05 + warped.quality[..., RIM] / np.float32(255))
    return weight / np.maximum(weight.sum(0), np.float32(1e-6))
