"""A world from posed RGB-D frames: a scan, a bag, or the pictures of a reconstruction with their depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.world.builders.fusion import FusionSettings, VoxelMeans, fuse
from worldfm_ros.world.builders.tsdf import TsdfSurface
from worldfm_ros.world.storage import World


def build(frames: PosedFrames, settings: FusionSettings = FusionSettings(),
          track: Callable[[Iterable], Iterable] = iter) -> World:
    """Fuse all frames. Raises ValueError without depth, and as the frames do for a file that is wrong."""
    frames.require_depth()
    surface = VoxelMeans(settings.voxel) if frames.sparse else TsdfSurface(settings)  # a field has no points
    world = fuse(frames, frames.name, surface, settings, track=track)
    world.metric = frames.metric
    return world
