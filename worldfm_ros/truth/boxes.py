"""Boxes of what a frame shows: tight in the picture, upright in the world, with how much of each is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.objects.draw import draw_one
from worldfm_ros.objects.objects import Placed
from worldfm_ros.truth.things import CELL, Thing, Things
from worldfm_ros.world.anchors import NEAR, AnchorMap
from worldfm_ros.world.renderer import render

SEEN = 128  # of a confidence, 0 to 255; below, a pixel is invented


@dataclass(frozen=True, eq=False)
class Box3d:
    """An upright box in the world: T_world_box of its middle, and its extents (x, y, z) in metres."""

    T_world_box: Pose
    size: np.ndarray

    @classmethod
    def around(cls, points: np.ndarray, T_world_axes: Pose) -> Box3d:
        """World points (N, 3) in the given axes."""
        inside = T_world_axes.inverse().apply(points)
        low, high = inside.min(0), inside.max(0)
        return cls(Pose(T_world_axes.rotation, T_world_axes.apply((low + high) / 2)), high - low)

    @property
    def corners(self) -> np.ndarray:
        """(8, 3) world."""
        signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
        return self.T_world_box.apply(signs * self.size / 2)


@dataclass(frozen=True, eq=False)
class Box:
    """What one instance is in a picture.

    left, top, width, height: pixels, tight around its visible pixels; pixels: their number
    occlusion: part of what the picture would show of it alone that something hides, 0 to 1
    truncation: part of its extent beyond the picture's border, 0 to 1
    invented: part of its visible pixels that a model made up; ignore: whether that is more than half
    """

    id: int
    label: int
    left: int
    top: int
    width: int
    height: int
    pixels: int
    occlusion: float
    truncation: float
    invented: float
    box: Box3d

    @property
    def ignore(self) -> bool:
        return self.invented > 0.5

    def to_dict(self) -> dict:
        """JSON-ready; the box's middle and axes (quaternion x, y, z, w) in the world."""
        names = ("id", "label", "left", "top", "width", "height", "pixels", "ignore")
        rates = {name: round(float(getattr(self, name)), 4) for name in ("occlusion", "truncation", "invented")}
        middle = self.box.T_world_box
        return {name: getattr(self, name) for name in names} | rates | {
            "center": middle.translation.tolist(), "size": self.box.size.tolist(),
            "quaternion": middle.quaternion.tolist()}


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame's instances (H, W), its confidence (H, W) or None, and where it was seen from, as a pinhole picture."""

    instances: np.ndarray
    confidence: np.ndarray | None
    T_world_camera: Pose
    intrinsics: Intrinsics


def boxes_of(seen: Seen, objects: Sequence[Placed], things: Things | None = None) -> list[Box]:
    """Of every instance that a frame shows, in order of their ids."""
    found = []
    for placed in objects:
        if (mask := seen.instances == placed.id).any():
            box = Box3d.around(placed.mesh.vertices, placed.T_world_object)
            found.append(_box(seen, mask, placed.id, placed.label, _alone(seen, placed), box))
    for thing in things.items if things else ():
        if (mask := seen.instances == thing.id).any():
            alone = _drawn(seen, things.anchors(thing))
            found.append(_box(seen, mask, thing.id, thing.label, alone, _upright(thing)))
    return sorted(found, key=lambda box: box.id)


def _box(seen: Seen, mask: np.ndarray, ident: int, label: int, alone: np.ndarray, box: Box3d) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    count = int(mask.sum())
    whole = max(count, int((alone | mask).sum()))
    invented = 0.0 if seen.confidence is None else float((seen.confidence[mask] < SEEN).mean())
    return Box(ident, label, int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1),
               int(rows[-1] - rows[0] + 1), count, 1 - count / whole, _truncation(seen, box), invented, box)


def _alone(seen: Seen, placed: Placed) -> np.ndarray:
    """(H, W) bool: the pixels that would show an object if nothing hid it."""
    size = seen.intrinsics.height, seen.intrinsics.width
    depth, owners = np.full(size, np.inf, np.float32), np.full(size, -1, np.int32)
    draw_one(placed.mesh, seen.T_world_camera, seen.intrinsics, 0, (depth, np.zeros((*size, 3), np.uint8), owners))
    return owners == 0


def _drawn(seen: Seen, anchors: AnchorMap) -> np.ndarray:
    tiles = anchors.visible(seen.T_world_camera, seen.intrinsics)
    return render(tiles, seen.T_world_camera, seen.intrinsics).coverage


def _truncation(seen: Seen, box: Box3d) -> float:
    """By the rectangle around the box's corners."""
    corners = seen.T_world_camera.inverse().apply(box.corners)
    corners[:, 2] = np.maximum(corners[:, 2], NEAR)
    pixels = seen.intrinsics.project(corners)
    low, high = pixels.min(0), pixels.max(0)
    size = np.array([seen.intrinsics.width, seen.intrinsics.height])
    inside = np.maximum(np.minimum(high, size - 0.5) - np.maximum(low, -0.5), 0)
    return float(1 - np.prod(inside) / max(np.prod(high - low), 1e-9))


def _upright(thing: Thing) -> Box3d:
    """The upright box of least floor area around a thing's cells."""
    middle = thing.cells.mean(0)
    _, _, angle = cv2.minAreaRect((thing.cells - middle)[:, :2].astype(np.float32))
    box = Box3d.around(thing.cells, Pose.planar(0.0, 0.0, math.radians(angle)))
    return replace(box, size=np.maximum(box.size, CELL))
