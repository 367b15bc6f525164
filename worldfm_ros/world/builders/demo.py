"""Worlds from procedural scenes; among them the demo world, built once and kept in the user's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import math
import os
from pathlib import Path

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.world.builders.fusion import FusionSettings, VoxelMeans, fuse
from worldfm_ros.world.builders.synthetic import SCENES, observe
from worldfm_ros.world.storage import MANIFEST, World, write_world

VERSION = 1  # raise it when the apartment or its fusion changes
VIEWS = 90
CAMERA = Intrinsics.from_hfov(400, 300, math.radians(80.0))
FUSION = FusionSettings(voxel=0.012)


def demo_world(track: Callable[[Sequence], Iterable] = iter) -> Path:
    """The folder of the demo world; built when it is not there yet, in about a minute."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "worldfm_ros" / f"apartment-{VERSION}"
    if not (folder / MANIFEST).exists():
        print(f"building the demo world in {folder} (once)", flush=True)
        write_world(build_scene("apartment", track=track), folder)
    return folder


def build_scene(family: str, seed: int = 0, track: Callable[[Sequence], Iterable] = iter) -> World:
    """A procedural scene, observed from camera poses all over its floor and fused like a scan whose depth is exact.

    `track` wraps the loop over the views (a progress bar). Raises ValueError for an unknown family.
    """
    if family not in SCENES:
        raise ValueError(f"there is no family of scenes {family!r}; the families: {', '.join(SCENES)}")
    scene = SCENES[family](seed)
    frames = observe(scene, seed, VIEWS, CAMERA)
    views = [next(frames) for _ in track(range(VIEWS))]
    return fuse(views, family, VoxelMeans(FUSION.voxel), FUSION, scene.label_names)
