"""`worldfm world merge` and `worldfm world cut`: worlds made of worlds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

from worldfm_ros.world.cut import cut
from worldfm_ros.world.merge import merge
from worldfm_ros.world.storage import World, read_world, write_world


def merge_worlds(worlds: tyro.conf.Positional[tuple[Path, ...]], *, out: Path) -> None:
    """Put worlds of one place, in the same frame, into one; a single one is written again in the newest format.

    Args:
        worlds: world folders; where two have an anchor in the same voxel, the first one's stays.
        out: the world folder to write; a world that is there is replaced, also one of those that are merged.
    """
    if not worlds:
        raise ValueError("there is nothing to merge: give one world folder or more")
    read = [read_world(world) for world in worlds]
    try:
        merged = merge(read)
    except ValueError as error:
        raise ValueError(f"{' + '.join(map(str, worlds))}: {error}") from None
    _finish(merged, out)


def cut_world(world: tyro.conf.Positional[Path], *, box: tuple[float, float, float, float, float, float],
              out: Path) -> None:
    """Take out of a world what lies in a box: its anchors, and what keyframes show of it.

    Args:
        world: the world folder.
        box: lowest and highest corner: x y z x y z, metres in the world's frame.
        out: the world folder to write; a world that is there is replaced.
    """
    _finish(cut(read_world(world), np.array(box)), out)


def _finish(world: World, out: Path) -> None:
    write_world(world, out)
    print(f"{out}: {len(world.anchors)} anchors, {len(world.keyframes)} keyframes")
