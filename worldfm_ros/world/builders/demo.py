"""The demo world: the furnished apartment, built once and kept in the user's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import math
import os
from pathlib import Path

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.world.builders.fusion import FusionSettings, VoxelMeans, fuse
from worldfm_ros.world.builders.synthetic import apartment, observe
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
        write_world(build_apartment(track=track), folder)
    return folder


def build_apartment(seed: int = 0, track: Callable[[Sequence], Iterable] = iter) -> World:
    """The apartment of that seed, observed from camera poses in all its rooms and fused like a real scan.

    `track` wraps the loop over the views (a progress bar).
    """
    scene = apartment(seed)
    frames = observe(scene, seed, VIEWS, CAMERA)
    views = [next(frames) for _ in track(range(VIEWS))]
    return fuse(views, "apartment", VoxelMeans(FUSION.voxel), FUSION, scene.label_names)
