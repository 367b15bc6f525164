"""A world without what lies in a box: to take a room out, or a mistake."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import NOT_LENT, Keyframe
from worldfm_ros.world.storage import World


def cut(world: World, box: np.ndarray) -> World:
    """The world outside of `box` (2, 3), lowest and highest corner, metres.

    Anchors and keyframes that lie in it are gone, and other keyframes do not show it any more: black, and nothing lent.
    Raises ValueError when the box is none, or nothing is left.
    """
    box = np.asarray(box, np.float64).reshape(2, 3)
    if not (box[0] < box[1]).all():
        raise ValueError(f"a box is its lowest and its highest corner, got {box.tolist()}")
    anchors = AnchorMap()
    for tile in world.anchors.tiles:
        anchors.insert_tile(tile)
    anchors.keep(lambda tile: ~inside(tile.world_points, box))
    if not len(anchors):
        raise ValueError(f"no anchor of {world.name} lies outside of {box.tolist()}")
    kept = [keyframe for keyframe in world.keyframes if not inside(keyframe.T_world_camera.translation, box)]
    return replace(world, anchors=anchors, keyframes=[_without(keyframe, box) for keyframe in kept])


def inside(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Which points (..., 3) lie in the box."""
    return ((points >= box[0]) & (points <= box[1])).all(-1)


def _without(keyframe: Keyframe, box: np.ndarray) -> Keyframe:
    points = keyframe.T_world_camera.apply(keyframe.intrinsics.unproject(keyframe.depth))
    gone = (keyframe.depth > 0) & inside(points, box)
    return replace(keyframe, rgb=np.where(gone[..., None], np.uint8(0), keyframe.rgb),
                   depth=np.where(gone, NOT_LENT, keyframe.depth)) if gone.any() else keyframe
