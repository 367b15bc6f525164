"""Worlds that stay on the disk, of all versions, put together: the same anchors, within the budget."""

from dataclasses import replace
from itertools import pairwise
import math
import os
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scenes import CAMERA, room_world
from test_renderer import assert_equal

from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import MEASURED, SCAN, AnchorMap
from worldfm_ros.world.chunks import WorldError
from worldfm_ros.world.levels import level_for, levels
from worldfm_ros.world.merge import merge
from worldfm_ros.world.renderer import render
from worldfm_ros.world.storage import World, load_world, open_world, read_manifest, read_world, write_world

VERSION_1 = Path(__file__).parent / "data" / "world_v1"
VIEWS = [Pose.looking_at([0.3, -0.2, 1.0], [2.0, 0.7, 0.9]), Pose.looking_at([-0.6, 0.1, 1.4], [0.2, -1.5, 0.8])]
SQUARE = Intrinsics.from_hfov(96, 96, math.radians(60))


@pytest.fixture(scope="module")
def room():
    return room_world(12, voxel=0.04)


@pytest.fixture(scope="module")
def long_map():
    """A corridor of 100 m with 60,000 anchors, half a million bytes a tile."""
    rng = np.random.default_rng(0)
    points = rng.uniform([0, -1, 0], [100, 1, 2], (60_000, 3))
    points[:, 1] = np.where(rng.random(60_000) < 0.5, -1, 1)
    return AnchorMap.from_points(points, rng.integers(0, 256, (60_000, 3), dtype=np.uint8), radius=0.03)


def total(anchors):
    return sum(tile.points.nbytes for tile in anchors.tiles)


# --- version 1


def test_a_world_of_version_1_is_read_for_ever():
    world = read_world(VERSION_1)
    assert read_manifest(VERSION_1)["format_version"] == 1
    assert (world.name, len(world.anchors), len(world.keyframes)) == ("version one", 40, 2)
    assert all((tile.frames == SCAN).all() and (tile.confidence == MEASURED).all() for tile in world.anchors.tiles)
    assert world.label_names == {1: "x wall", 2: "y wall", 3: "floor"}
    assert world.keyframes[0].rgb.shape == (12, 16, 3) and 0.5 < world.keyframes[0].depth.mean() < 3


def test_writing_it_again_is_the_migration(tmp_path):
    command = [sys.executable, "-m", "worldfm_ros.cli.main", "world", "merge", VERSION_1, "--out", tmp_path / "w"]
    subprocess.run(command, check=True)
    assert read_manifest(tmp_path / "w")["format_version"] == 2
    old, new = read_world(VERSION_1), read_world(tmp_path / "w")
    for a, b in zip(old.anchors.tiles, new.anchors.tiles, strict=True):
        np.testing.assert_array_equal(a.world_points, b.world_points)
    np.testing.assert_array_equal(old.keyframes[1].depth, new.keyframes[1].depth)
    with pytest.raises(WorldError, match="version 1, whose tiles cannot stay on the disk.*world merge"):
        open_world(VERSION_1, 1 << 20)


# --- on the disk


def test_near_views_are_the_same_bytes(room, tmp_path):
    write_world(room, tmp_path / "w")
    whole, stored = (load_generator(load_world(tmp_path / "w", memory)) for memory in (0, 64))
    for view in VIEWS:
        a, b = whole.generate(view, CAMERA), stored.generate(view, CAMERA)
        for name in ("rgb", "depth", "labels", "coverage"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert a.reference_ids == b.reference_ids


def test_memory_stays_within_the_budget(long_map, tmp_path):
    write_world(World("corridor", long_map, [], 0.06), tmp_path / "w")
    budget = 700_000
    world = open_world(tmp_path / "w", round(budget / 0.75))
    assert world.anchors.budget == pytest.approx(budget, abs=1) and total(long_map) > budget
    for x in range(0, 100, 5):
        pose = Pose.looking_at([x, 0, 1], [x + 1, 0, 1])
        tiles = world.anchors.visible(pose, SQUARE)
        assert world.anchors.resident <= budget and sum(map(len, tiles)) > 0
        assert render(tiles, pose, SQUARE).coverage.any()


def test_far_tiles_are_coarser_and_look_alike(long_map, tmp_path):
    write_world(World("corridor", long_map, [], 0.06), tmp_path / "w")
    stored = open_world(tmp_path / "w", 1 << 30).anchors
    pose, small = Pose.looking_at([0, 0, 1], [1, 0, 1]), Intrinsics.from_hfov(24, 24, math.radians(60))
    whole, coarse = long_map.visible(pose, small), stored.visible(pose, small)
    assert sum(map(len, coarse)) < 0.8 * sum(map(len, whole))
    a, b = render(whole, pose, small), render(coarse, pose, small)
    both = a.coverage & b.coverage
    assert both.sum() > 0.95 * a.coverage.sum()
    assert np.median(np.abs(a.depth[both] / b.depth[both] - 1)) < 0.05
    again = open_world(tmp_path / "w", 1 << 30).anchors
    assert_equal(render(again.visible(pose, small), pose, small), b)


def test_levels_halve_the_density_and_hold_the_surface(long_map):
    tile = long_map.tiles[3]
    dense = AnchorMap.from_points(np.random.default_rng(1).uniform(0, 3.9, (20_000, 3)) * [1, 1, 0],
                                  np.full((20_000, 3), 77, np.uint8), radius=0.02).tiles[0]
    coarse = list(levels(dense, 0.03))
    counts = [len(dense), *map(len, coarse)]
    assert len(counts) > 2 and all(b < 0.6 * a for a, b in pairwise(counts))
    assert (coarse[-1].colors == 77).all() and (np.diff([level.radius.max() for level in coarse]) > 0).all()
    assert list(levels(tile.select(slice(0, 100)), 0.03)) == []


def test_the_level_follows_from_pixels():
    assert [level_for(distance, 500.0, 0.01, 4) for distance in (0.1, 5.0, 10.0, 20.0, 40.0, 1e6)] == [0, 0, 0, 1, 2, 3]
    assert level_for(1e6, 500.0, 0.01, 1) == 0 and level_for(0.0, 500.0, 0.0, 3) == 0


def test_a_hand_edited_tile_is_named_when_it_is_seen(room, tmp_path):
    write_world(room, tmp_path / "w")
    for file in (tmp_path / "w" / "anchors").iterdir():
        data = bytearray(file.read_bytes())
        data[-5] ^= 1
        file.write_bytes(data)
    world = load_world(tmp_path / "w", 16)
    with pytest.raises(WorldError, match=r"anchors/\w+.safetensors is damaged: .*checksum in its name"):
        world.anchors.visible(VIEWS[0], CAMERA)


def test_keyframes_are_decoded_when_they_are_looked_at(room, tmp_path):
    write_world(room, tmp_path / "w")
    one = room.keyframes[0].rgb.nbytes + room.keyframes[0].depth.nbytes
    stored = open_world(tmp_path / "w", 8 * one)  # two of them
    for a, b in zip(room.keyframes, stored.keyframes, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        assert a.id == b.id and a.intrinsics == b.intrinsics
        assert stored.keyframes[0].pictures._bytes <= 2 * one
    shutil.rmtree(tmp_path / "w" / "keyframes")
    with pytest.raises(WorldError, match="is damaged"):
        stored.keyframes[0].rgb  # noqa: B018


# --- together


def test_merging_keeps_the_first_and_adds_what_is_new(room):
    shifted = AnchorMap()
    for tile in room.anchors.tiles:
        shifted.insert(tile.world_points + [1.0, 0, 0], tile.colors, tile.labels, tile.radius)
    other = replace(room, name="other", anchors=shifted, label_names={3: "floor", 4: "x wall", 1: "sofa"})
    merged = merge([room, other])
    assert len(room.anchors) < len(merged.anchors) < 2 * len(room.anchors)
    points = np.concatenate([tile.world_points for tile in merged.anchors.tiles])
    voxels = np.rint(points / room.spacing)
    first = np.unique(np.rint(np.concatenate([t.world_points for t in room.anchors.tiles]) / room.spacing), axis=0)
    assert len(np.unique(voxels, axis=0)) >= len(first)
    assert merged.label_names == {1: "x wall", 2: "y wall", 3: "floor", 4: "sofa"}
    assert len({keyframe.id for keyframe in merged.keyframes}) == 2 * len(room.keyframes)
    assert len(merge([room, room]).anchors) == len(room.anchors) and len(merge([room]).anchors) == len(room.anchors)


def test_a_measurement_replaces_what_another_world_generated(room):
    dreamt = AnchorMap()
    for tile in room.anchors.tiles:
        dreamt.insert(tile.world_points, tile.colors, tile.labels, tile.radius, 5, 100)
    merged = merge([replace(room, anchors=dreamt, keyframes=[]), room])
    assert all((tile.confidence == MEASURED).all() for tile in merged.anchors.tiles)
    assert len(merged.anchors) == len(room.anchors)


@pytest.mark.parametrize("change, message", [({"frame_id": "odom"}, "is in frame 'map' and 'room' in 'odom'"),
                                             ({"metric": False}, "scale of 'room' and 'room' is not known")])
def test_worlds_that_do_not_belong_together_are_refused(room, change, message):
    with pytest.raises(ValueError, match=message):
        merge([room, replace(room, **change)])


def test_kills_in_saves_inserts_and_merges_leave_a_whole_world():
    """The trial by hand does 200."""
    command = [sys.executable, str(Path(__file__).parent / "kill_trial.py"), "--kills", "12"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}).stdout
    assert told.count("3 of 3 kills") == 4
