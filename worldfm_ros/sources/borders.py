"""Borders of pictures that show nothing: an undistortion left them black, in every picture at the same place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

import cv2
import numpy as np

from worldfm_ros.clips import RgbdFrame

BLACK = 16  # of 255; a JPEG's black rings up to it
WIDEST = 0.04  # of a picture's shorter side: what is black further in is a dark place, and stays
LONG = 0.25  # of a side, along which a border runs
FEWEST = 3  # pictures of a size that must agree
MIXED = 2  # pixels beside a border, into which resampling and JPEG have carried it

Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True, eq=False)
class Borders:
    """By size of the pictures, the pixels (H, W) bool that are a border; sizes without one are not there."""

    masks: dict[Size, np.ndarray]

    def hidden(self, frame: RgbdFrame) -> RgbdFrame:
        """The frame, of which the border is no part of the scene and has no depth."""
        mask = self.masks.get(frame.depth.shape)
        if mask is None:
            return frame
        scene = ~mask if frame.scene is None else frame.scene & ~mask
        return replace(frame, depth=np.where(mask, np.float32(0), frame.depth), scene=scene)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user has to know of them."""
        return tuple(f"all pictures of {width}x{height} have a black border, {mask.mean():.1%} of the pixels; it is "
                     "taken as no part of the scene" for (height, width), mask in self.masks.items())


def find_borders(frames: Iterable[RgbdFrame]) -> Borders:
    """The borders of a source, by some frames from all over it."""
    alike = defaultdict(list)
    for frame in frames:
        alike[frame.depth.shape].append(frame)
    masks = {size: border(group) for size, group in alike.items() if len(group) >= FEWEST}
    return Borders({size: mask for size, mask in masks.items() if mask.any()})


def border(frames: list[RgbdFrame]) -> np.ndarray:
    """The pixels (H, W) bool that are black in all frames, touch what is not the scene (outside of the picture, or
    masked), run along it for a quarter of a side, and reach in nowhere more than WIDEST."""
    height, width = size = frames[0].depth.shape
    scenes = [np.ones(size, bool) if frame.scene is None else frame.scene for frame in frames]
    scene = reduce(np.logical_or, scenes)
    black = reduce(np.maximum, (frame.rgb.max(axis=-1) for frame in frames)) <= BLACK
    outside = cv2.distanceTransform(np.pad(scene, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    count, labels, boxes, _ = cv2.connectedComponentsWithStats((black & scene).astype(np.uint8), connectivity=4)
    found = np.zeros(size, bool)
    for label in range(1, count):
        part = labels == label
        reach, near = outside[part].max(), outside[part].min()
        long = boxes[label, cv2.CC_STAT_WIDTH] >= LONG * width or boxes[label, cv2.CC_STAT_HEIGHT] >= LONG * height
        if long and near <= 1.5 and reach <= WIDEST * min(size):
            found |= part
    grown = cv2.dilate(found.astype(np.uint8), np.ones((2 * MIXED + 1, 2 * MIXED + 1), np.uint8)) > 0
    return grown & scene
