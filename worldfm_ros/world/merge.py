"""Several worlds of one place as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from worldfm_ros.world.anchors import MEASURED, SCAN, AnchorMap
from worldfm_ros.world.insertion import occupied
from worldfm_ros.world.storage import World


def merge(worlds: Sequence[World]) -> World:
    """The worlds in one map: of anchors in the same voxel the first world's stays, but what was measured takes the
    place of what was generated. Keyframes and inserted frames of the others get new numbers; labels go by their names.

    Raises ValueError for worlds in different frames or of different scale, which nothing brings together.
    """
    first, *others = worlds
    for other in others:
        if other.frame_id != first.frame_id:
            raise ValueError(f"world {first.name!r} is in frame {first.frame_id!r} and {other.name!r} in "
                             f"{other.frame_id!r}; worlds are merged in one frame: build them in the same")
        if other.metric != first.metric or not other.metric:
            raise ValueError(f"the scale of {first.name!r} and {other.name!r} is not known to be the same; "
                             "only metric worlds are merged")
    merged = replace(first, anchors=AnchorMap(), keyframes=list(first.keyframes), label_names=dict(first.label_names))
    for tile in first.anchors.tiles:
        merged.anchors.insert_tile(tile)
    for other in others:
        _add(merged, other)
    return merged


def merge_into(world: World, other: World, change: Callable[[Callable[[], Any]], Any]) -> None:
    """Merge another world into one that is in use. `change(function)` calls the function where the world may change and
    nobody reads it meanwhile; what takes long is done outside of it.

    Raises ValueError as `merge`, and for a map that stays on the disk; the world is as it was then.
    """
    if not isinstance(world.anchors, AnchorMap):
        raise ValueError(f"world {world.name!r} stays on the disk (map_memory) and does not change; set map_memory to "
                         "0, or merge the two with `worldfm world merge`")
    state, before = change(lambda: (_state(world), merge([world])))
    merged = merge([before, other])

    def put() -> None:
        whole = merged if _state(world) == state else merge([world, other])  # it has grown meanwhile
        world.anchors.become(whole.anchors)
        world.keyframes[:] = whole.keyframes
        world.label_names.update(whole.label_names)

    change(put)


def _state(world: World) -> tuple[int, int]:
    return world.anchors.revision, len(world.keyframes)


def _add(merged: World, other: World) -> None:
    labels = _labels(merged, other)
    shift = 1 + max((keyframe.id for keyframe in merged.keyframes), default=-1)
    for tile in list(other.anchors.tiles):
        points = tile.world_points
        voxels = np.rint(points / merged.spacing).astype(np.int64)
        _give_way(merged.anchors, voxels[tile.confidence == MEASURED], merged.spacing)
        new = ~occupied(merged.anchors, voxels, merged.spacing)
        frames = np.where(tile.frames == SCAN, SCAN, tile.frames + shift)
        merged.anchors.insert(points[new], tile.colors[new], labels[tile.labels[new]], tile.radius[new], frames[new],
                              tile.confidence[new])
    merged.keyframes.extend(replace(keyframe, id=keyframe.id + shift) for keyframe in other.keyframes)


def _give_way(anchors: AnchorMap, voxels: np.ndarray, spacing: float) -> None:
    """Generated anchors leave voxels (N, 3) that were measured."""
    measured = AnchorMap.from_points(voxels * spacing, np.zeros(voxels.shape, np.uint8))

    def stay(tile) -> np.ndarray | None:
        generated = np.flatnonzero(tile.confidence < MEASURED)
        if not len(generated):
            return None
        mask = np.ones(len(tile), bool)
        index = np.rint(tile.world_points[generated] / spacing).astype(np.int64)
        mask[generated] = ~occupied(measured, index, spacing)
        return mask

    anchors.keep(stay)


def _labels(merged: World, other: World) -> np.ndarray:
    """(65536,) uint16: the number that each of the other world's labels gets; names that are new get new numbers."""
    numbers = {name: label for label, name in merged.label_names.items()}
    table = np.arange(65536, dtype=np.uint16)
    for label, name in other.label_names.items():
        if name not in numbers:
            taken = set(merged.label_names)
            numbers[name] = label if label not in taken else 1 + max(taken)
            merged.label_names[numbers[name]] = name
        table[label] = numbers[name]
    return table
