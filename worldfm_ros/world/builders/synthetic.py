"""A world from a procedural scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import math

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.scenes.families import make_scene
from worldfm_ros.scenes.viewpoints import observe
from worldfm_ros.world.builders.fusion import FusionSettings, VoxelMeans, fuse
from worldfm_ros.world.storage import World

VIEWS = 90
CAMERA = Intrinsics.from_hfov(400, 300, math.radians(80.0))
FUSION = FusionSettings(voxel=0.012)


def build(family: str, seed: int = 0, track: Callable[[Sequence], Iterable] = iter) -> World:
    """A procedural scene, observed from camera poses all over its floor and fused like a scan whose depth is exact.

    `track` wraps the loop over the views (a progress bar). Raises ValueError for an unknown family.
    """
    scene = make_scene(family, seed)
    frames = observe(scene, seed, VIEWS, CAMERA)
    views = [next(frames) for _ in track(range(VIEWS))]
    return fuse(views, family, VoxelMeans(FUSION.voxel), FUSION, scene.label_names)
