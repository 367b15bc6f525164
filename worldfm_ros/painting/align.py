"""References brought together before they are mixed: small moves, so that they show a thing at the same place.

Poses, depth and its registration to the colours are never exact, and what is warped by them is off by the more, the
farther the camera has moved from the reference. So where two references show a thing at different places, it is between
them, as far from each as the camera is: half way for a camera that is half way; as far as their errors are chance, it
is about in the middle wherever the camera is. Where it is, optical flow tells in a small picture (Kroeger et al., Fast
optical flow using dense inverse search, 2016), believed as far as the two become more alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from worldfm_ros.painting.warp import Target, warp_balanced
from worldfm_ros.world.keyframes import Keyframe

PIXELS = 64 * 48  # of the small pictures, at least: up to four times as many. Larger ones tell nothing more
FEWEST = 12  # pixels of a side: in less there is nothing to follow
LIMIT = 0.03  # of the picture's longer side: a longer move is a mistake
BETWEEN = (0.0, 1.0)  # the camera's place, 0 at the first reference and 1 at the second, is held in this
CHANCE = 0.5  # this part of the errors follows from no place: as far as they are of that kind, things are at MIDDLE
MIDDLE = 0.4  # nearer to the first reference, which is the better one
FARTHEST = 3.0  # the third reference's place is held in -3..3
WINDOW = 9  # pixels that likeness is judged in
NOISE = 2.0  # grey levels of difference that tell nothing
AROUND = 15  # pixels that trust is shared in, and goes on beyond what both show
TRUST = 3.0  # a difference that shrinks by a third of itself, or more, tells that the flow is right
SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class Moves:
    """flow (h, w, 2) float32, of the first two references, in units of the picture's width and height; each reference
    goes so many times as far (`places`)."""

    flow: np.ndarray
    places: tuple[float, ...]

    def at(self, height: int, width: int) -> np.ndarray:
        """(K, 2, H, W) float32 pixels for `warp_references`, to the right and down."""
        if not self.places:
            return np.zeros((0, 2, height, width), np.float32)
        scales = zip(cv2.split(self.flow), (width, height), strict=True)
        whole = np.stack([cv2.resize(part * np.float32(scale), (width, height)) for part, scale in scales])
        return np.stack([np.float32(place) * whole for place in self.places])


def find_moves(references: Sequence[Keyframe], target: Target, gains: np.ndarray) -> Moves:
    """Told from the first two references; others follow by their place on the way from the first to the second.

    gains (K, 3) float32: painting.warp.balance's."""
    small = target.reduced(PIXELS)
    if len(references) < 2 or min(small.depth.shape) < FEWEST:
        return Moves(np.zeros((1, 1, 2), np.float32), (0.0,) * len(references))
    places = places_of(references, small)
    height, width = small.depth.shape
    flow = trusted_flow(references[:2], small, gains[:2], places[0])
    return Moves(flow / np.array([width, height], np.float32), tuple(places))


def places_of(references: Sequence[Keyframe], target: Target) -> list[float]:
    """Of each reference on the line from the first to the second, whose distance is 1; the target is at 0.

    The distance of two cameras is how far they see the target's surface apart in their pictures.
    """
    moved = np.stack([motion(reference, target) for reference in references]).reshape(len(references), -1)
    line = moved[1] - moved[0]
    along = (moved - moved[0]) @ line / max(float(line @ line), SMALLEST)
    here = float(np.clip(-(moved[0] @ line) / max(float(line @ line), SMALLEST), *BETWEEN))
    here += CHANCE * (MIDDLE - here)
    return [-here, 1.0 - here, *(np.clip(along[2:], -FARTHEST, FARTHEST) - here).tolist()]


def motion(reference: Keyframe, target: Target) -> np.ndarray:
    """(h, w, 2) float32: how far the surface of a few of the target's pixels is from there in the reference, in units
    of the focal length; 0 where it is not in front of it."""
    step = max(1, target.depth.shape[0] // 12)
    depth = target.depth[step // 2::step, step // 2::step]
    row, column = (np.arange(step // 2, size, step, dtype=np.float32) for size in target.depth.shape)
    camera = target.intrinsics
    rays = np.dstack(np.broadcast_arrays((column - camera.cx) / camera.fx, (row[:, None] - camera.cy) / camera.fy, 1.0))
    T_reference_camera = reference.T_world_camera.inverse() @ target.T_world_camera
    there = T_reference_camera.apply((depth[..., None] * rays).reshape(-1, 3)).reshape(rays.shape)
    seen = (depth > 0) & (there[..., 2] > SMALLEST)
    return np.where(seen[..., None], there[..., :2] / np.where(seen, there[..., 2], 1)[..., None] - rays[..., :2], 0)


def trusted_flow(references: Sequence[Keyframe], target: Target, gains: np.ndarray, here: float) -> np.ndarray:
    """(h, w, 2) float32, pixels of the target: what the first shows at x, the second shows at x + flow; 0 where they do
    not become more alike when both go to where the camera is between them, or where one of them shows nothing.

    here: minus the camera's place, see `places_of`.
    """
    warped = warp_balanced(references, target, gains, described=False)
    first, second = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in warped.rgb)
    first, second = np.where(warped.shown[0], first, second), np.where(warped.shown[1], second, first)
    flow = _flow(first, second)
    flow *= (np.abs(flow) < LIMIT * max(first.shape)).all(-1, keepdims=True)
    before = difference(first, second)
    after = difference(moved(first, here * flow), moved(second, (1 + here) * flow))
    trust = np.clip(TRUST * (before - after) / (before + NOISE), 0, 1)
    both = (warped.shown & ~warped.beyond).all(0).astype(np.float32)
    return mean_around(flow, both, 3) * mean_around(trust, both, AROUND)[..., None]


def mean_around(image: np.ndarray, weight: np.ndarray, side: int) -> np.ndarray:
    """The mean of an image (h, w) or (h, w, C) by weight (h, w) in squares around each pixel; without weight, it is."""
    total = cv2.blur(weight, (side, side))
    known = total > SMALLEST
    share = weight if image.ndim == 2 else weight[..., None]
    mean = cv2.blur((image * share).astype(np.float32), (side, side))
    known, total = (x if image.ndim == 2 else x[..., None] for x in (known, np.where(known, total, 1)))
    return np.where(known, mean / total, image)


def _flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(h, w, 2) float32, pixels, between pictures (h, w) uint8."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow.setFinestScale(1)
    return flow.calc(first, second, None)


def moved(picture: np.ndarray, move: np.ndarray) -> np.ndarray:
    """(h, w) uint8: at each pixel what the picture shows so far from there."""
    row, column = np.ogrid[:picture.shape[0], :picture.shape[1]]
    place = move + np.dstack(np.broadcast_arrays(column, row)).astype(np.float32)
    return cv2.remap(picture, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(h, w) float32, grey levels: the mean around each pixel."""
    return cv2.blur(cv2.absdiff(first, second).astype(np.float32), (WINDOW, WINDOW))
