"""What shows through gaps of a nearer surface, where nobody measured its depth: spots of the wall behind on a face.

A spot is such a gap when it is small, something nearer and of about one depth is all around it, and no reference looks
past the places that the nearer surface would have there, most of them. Through a real opening one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.guide import DEPTH_TOLERANCE, in_front
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

WIDEST = 1 / 12  # of a gap, in the picture's longer side
ONE_DEPTH = 1.5  # the nearest and the farthest around a gap are apart by this factor at most
AROUND = np.ones((3, 3), np.uint8)


def opaque(drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
           intrinsics: Intrinsics) -> AnchorView:
    """The drawing without what shows through gaps; itself where there are none."""
    nearness, _, drawn = in_front(drawing)
    nearness = np.where(drawn, nearness, 0)
    side = 2 * int(WIDEST / 2 * max(nearness.shape)) + 1
    front = cv2.morphologyEx(nearness, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    behind = drawn & (nearness < (1 - DEPTH_TOLERANCE) * front)
    if not behind.any():
        return drawing
    spots = enclosed(behind, nearness)
    inside = spots > 0
    past = looked_past(1 / front[inside], np.argwhere(inside), references, T_world_camera, intrinsics)
    votes = np.bincount(spots[inside], 2.0 * past - 1, minlength=spots.max() + 1)
    gaps = inside & (votes <= 0)[spots]
    if not gaps.any():
        return drawing
    return replace(drawing, depth=np.where(gaps, np.float32(0), drawing.depth), coverage=drawing.coverage & ~gaps)


def enclosed(behind: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """(H, W) int32: the connected parts of `behind` (H, W) bool, numbered from 1, that touch nothing but what is nearer
    and of one depth, and no border; 0 elsewhere. nearness (H, W): 1 / z, 0 where nothing is drawn."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(behind.view(np.uint8))
    x, y, width, height, _ = stats.T
    rim = cv2.dilate(labels.astype(np.float32), AROUND).astype(int) * (~behind & (nearness > 0))  # next to which part
    at = np.nonzero(rim)
    least, most, own = np.full(count, np.inf), np.zeros(count), np.zeros(count)
    np.minimum.at(least, rim[at], nearness[at])
    np.maximum.at(most, rim[at], nearness[at])
    np.maximum.at(own, labels[behind], nearness[behind])
    inside = (x > 0) & (y > 0) & (x + width < behind.shape[1]) & (y + height < behind.shape[0])
    nearer = np.isfinite(least) & (own < (1 - DEPTH_TOLERANCE) * least) & (most < ONE_DEPTH * least)
    return np.where((inside & nearer)[labels], labels, 0)


def looked_past(depth: np.ndarray, pixels: np.ndarray, references: Sequence[Keyframe], T_world_camera: Pose,
                intrinsics: Intrinsics) -> np.ndarray:
    """(N,) bool: whether a reference measured something beyond the places at depth (N,) metres of pixels (N, 2), row
    and column."""
    row, column = pixels.T
    rays = np.column_stack([(column - intrinsics.cx) / intrinsics.fx, (row - intrinsics.cy) / intrinsics.fy,
                            np.ones(len(pixels))])
    points, past = T_world_camera.apply(depth[:, None] * rays), np.zeros(len(pixels), bool)
    for reference in references:
        place, z, inside = reference.lookup(points)
        column, row = np.rint(place[inside]).astype(int).clip(0).T
        height, width = reference.depth.shape
        measured = reference.depth[row.clip(max=height - 1), column.clip(max=width - 1)]
        past[inside] |= measured > (1 + DEPTH_TOLERANCE) * z[inside]
    return past
