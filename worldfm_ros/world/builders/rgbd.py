"""A world from an RGB-D folder: a scan with known poses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from worldfm_ros.sources.rgbd_folder import RgbdFolder
from worldfm_ros.world.builders.fusion import FusionSettings, fuse
from worldfm_ros.world.builders.tsdf import TsdfSurface
from worldfm_ros.world.storage import World


def build(
    folder: str | Path, settings: FusionSettings = FusionSettings(), track: Callable[[Iterable], Iterable] = iter
) -> World:
    """Fuse all frames of an RGB-D folder. Raises ValueError or FileNotFoundError naming the file that is wrong."""
    frames = RgbdFolder(folder)
    if not frames.has_depth:
        raise FileNotFoundError(
            f"{frames.path} has no depth/ folder; anchors are measured by depth images (uint16 millimetres)"
        )
    return fuse(frames, Path(folder).resolve().name, TsdfSurface(settings), settings, track=track)
