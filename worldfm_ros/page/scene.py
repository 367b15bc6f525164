"""A world as the page shows it in 3D, and what its camera would see without a model: bare anchors, the reference."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.storage import World

if TYPE_CHECKING:
    from worldfm_ros.world.renderer import AnchorView

POINTS = 120_000  # of the anchors at most: 1.8 MB for a browser
BARE = (24, 26, 30)  # rgb of pixels that no anchor covers


class Scene:
    """What of a world does not change while it is looked at."""

    def __init__(self, world: World) -> None:
        from worldfm_ros.world.reference import ReferenceChooser  # compiled code takes seconds to load

        self._world = world
        self._references = ReferenceChooser(world.keyframes)
        self.packed = pack(world)

    def drawn(self, T_world_camera: Pose, intrinsics: Intrinsics) -> np.ndarray:
        """(H, W, 3) the anchors alone."""
        view = self._view(T_world_camera, intrinsics)
        view.rgb[~view.coverage] = BARE
        return view.rgb

    def reference(self, T_world_camera: Pose, intrinsics: Intrinsics) -> np.ndarray | None:
        """The keyframe that lends this view most of its appearance; None when none sees it."""
        seen = self._view(T_world_camera, intrinsics).depth
        chosen = self._references.choose(seen, T_world_camera, intrinsics, 1)
        return chosen[0].rgb if chosen else None

    def _view(self, T_world_camera: Pose, intrinsics: Intrinsics) -> AnchorView:
        from worldfm_ros.world.renderer import render  # compiled code

        return render(self._world.anchors.visible(T_world_camera, intrinsics), T_world_camera, intrinsics)


def pack(world: World) -> bytes:
    """What a browser draws: the length of a JSON head (uint32), the head, xyz (N, 3) float32 metres, rgb (N, 3) uint8.

    The head is filled with blanks to a multiple of 4 bytes. N anchors are chosen at random, at most POINTS.
    """
    tiles = world.anchors.tiles
    points = np.concatenate([np.empty((0, 3)), *(tile.world_points for tile in tiles)])
    colours = np.concatenate([np.empty((0, 3), np.uint8), *(tile.colors for tile in tiles)])
    if len(points) > POINTS:
        chosen = np.random.default_rng(0).choice(len(points), POINTS, replace=False)
        points, colours = points[chosen], colours[chosen]
    spacing = world.spacing * math.sqrt(len(world.anchors) / max(1, len(points)))  # on surfaces, metres
    keyframes = [camera_facts(keyframe.T_world_camera, keyframe.intrinsics) for keyframe in world.keyframes]
    head = json.dumps({"points": len(points), "anchors": len(world.anchors), "spacing": spacing,
                       "keyframes": keyframes}).encode()
    head += b" " * (-len(head) % 4)
    return np.uint32(len(head)).tobytes() + head + points.astype("<f4").tobytes() + colours.tobytes()


def camera_facts(T_world_camera: Pose, intrinsics: Intrinsics | None = None) -> dict:
    """A camera for the browser: its place (m), the axes right, down and forward as rows, the heading of its optical
    axis about the world's z (degrees, 0 = along x), and half its view as tangents."""
    wide = [0.7, 0.525] if intrinsics is None else [
        intrinsics.width / 2 / intrinsics.fx, intrinsics.height / 2 / intrinsics.fy]
    axes = T_world_camera.rotation.as_matrix().T
    return {"at": T_world_camera.translation.round(4).tolist(), "axes": axes.round(5).tolist(),
            "yaw": round(math.degrees(math.atan2(axes[2, 1], axes[2, 0])), 3), "half": [round(t, 4) for t in wide]}
