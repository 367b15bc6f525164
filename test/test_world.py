"""Anchors, fusion, keyframe choice and the world folder."""

import copy
from dataclasses import replace
import functools
import math
import os
import shutil
import signal
import subprocess
import sys
import time

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scenes import HIGH, LOW, announced_png, color_of, room_frames, room_world, see_room
from scipy.spatial.transform import Rotation
import yaml

from worldfm_ros.cli.world import describe
from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world import storage
from worldfm_ros.world.anchors import BLOCK, NEAR, TILE, AnchorMap, morton_codes
from worldfm_ros.world.builders.fusion import (
    FusionSettings,
    VoxelMeans,
    choose_keyframes,
    fuse,
    spread_keyframes,
    trustworthy_depth,
)
from worldfm_ros.world.builders.tsdf import TsdfSurface
from worldfm_ros.world.chunks import name_of
from worldfm_ros.world.storage import CHECKSUM, MANIFEST, World, WorldError, read_manifest, read_world, write_world

SETTINGS = FusionSettings(voxel=0.05)


@pytest.fixture(scope="module")
def room():
    return room_world()


def files(folder):
    """The bytes of a world's tiles and pictures by their names."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*/*") if p.is_file()}


# --- anchors


def test_inserting_in_parts_is_inserting_at_once():
    rng = np.random.default_rng(0)
    points, colors = rng.uniform(-6, 6, (5000, 3)), rng.integers(0, 256, (5000, 3), np.uint8)
    whole = AnchorMap.from_points(points, colors, radius=0.01)
    parts = AnchorMap()
    for part in np.array_split(np.arange(5000), 7):
        parts.insert(points[part], colors[part], radius=0.01)
    for a, b in zip(whole.tiles, parts.tiles, strict=True):
        for name in ("origin", "points", "colors", "labels", "radius", "blocks"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_blocks_are_tight_bounds_of_consecutive_anchors():
    rng = np.random.default_rng(1)
    n = 20 * BLOCK + 3
    tile = AnchorMap.from_points(
        rng.uniform(0, TILE, (n, 3)), np.zeros((n, 3), np.uint8), radius=rng.uniform(0, 0.1, n)
    ).tiles[0]
    assert len(tile.blocks) == 21
    for k, box in enumerate(tile.blocks):
        members = slice(k * BLOCK, (k + 1) * BLOCK)
        np.testing.assert_array_equal(np.abs(tile.points[members] - box[:3]).max(0), box[3:6])
        assert tile.radius[members].max() == box[6]
    assert np.prod(2 * tile.blocks[:, 3:6], axis=1).sum() < 4 * TILE**3, "blocks overlap little"


def test_a_stored_tile_keeps_its_order_until_anchors_are_added():
    rng = np.random.default_rng(2)
    points, colors = rng.uniform(0, TILE, (1000, 3)), rng.integers(0, 256, (1000, 3), np.uint8)
    tile = AnchorMap.from_points(points[:600], colors[:600]).tiles[0].select(rng.permutation(600))
    stored, both = AnchorMap(), AnchorMap()
    for anchors in (stored, both):
        anchors.insert_tile(tile)
    assert stored.tiles[0] is tile
    both.insert(points[600:], colors[600:])
    codes = morton_codes(both.tiles[0].points).astype(int)
    assert len(codes) == 1000 and np.all(np.diff(codes) >= 0)


@pytest.mark.parametrize("radius", [-0.01, np.nan, np.inf])
def test_a_radius_is_a_length(radius):
    with pytest.raises(ValueError, match="radius: expected metres >= 0, got 1 of 2"):
        AnchorMap.from_points(np.zeros((2, 3)), np.zeros((2, 3), np.uint8), radius=[0.1, radius])


def test_positions_stay_exact_far_from_the_origin():
    points = np.array([[500_000.123456, 5_400_000.654321, 301.5]])
    stored = AnchorMap.from_points(points, np.zeros((1, 3), np.uint8)).tiles[0].world_points
    np.testing.assert_allclose(stored, points, atol=1e-6)


@settings(max_examples=60)
@given(st.integers(0, 10_000))
def test_culling_never_loses_a_visible_anchor(seed):
    rng = np.random.default_rng(seed)
    anchors = AnchorMap.from_points(rng.uniform(-15, 15, (400, 3)), np.zeros((400, 3), np.uint8))
    pose = Pose(Rotation.random(random_state=seed), rng.uniform(-10, 10, 3))
    camera = Intrinsics(64, 48, rng.uniform(20, 200), rng.uniform(20, 200), rng.uniform(-20, 80), 24.0)
    kept = np.concatenate([np.empty((0, 3)), *(tile.world_points for tile in anchors.visible(pose, camera))])
    everything = np.concatenate([tile.world_points for tile in anchors.tiles])

    def in_image(points):
        local = pose.inverse().apply(points)
        local = local[local[:, 2] > NEAR]
        uv = camera.project(local)
        return np.sum(np.all((uv > -0.5) & (uv < [63.5, 47.5]), axis=1))

    assert in_image(kept) == in_image(everything)


def test_anchors_must_be_finite():
    with pytest.raises(ValueError, match="1 that are not"):
        AnchorMap.from_points([[0, 0, np.nan], [0, 0, 0]], np.zeros((2, 3), np.uint8))


# --- fusion


def test_fused_anchors_lie_on_the_surface_and_have_its_colour(room):
    points = np.concatenate([tile.world_points for tile in room.anchors.tiles])
    colors = np.concatenate([tile.colors for tile in room.anchors.tiles]).astype(int)
    labels = np.concatenate([tile.labels for tile in room.anchors.tiles])
    to_wall = np.minimum(np.abs(points - LOW), np.abs(points - HIGH))
    assert np.quantile(to_wall.min(axis=1), 0.99) < 0.02  # corners average over two walls
    assert np.abs(colors - color_of(points)).mean() < 6
    assert np.mean(np.argmin(to_wall, axis=1) + 1 == labels) > 0.97


def test_one_anchor_a_voxel(room):
    points = np.concatenate([tile.world_points for tile in room.anchors.tiles])
    assert len(np.unique(np.rint(points / SETTINGS.voxel).astype(int), axis=0)) > 0.9 * len(points)


def test_merging_early_or_late_gives_the_same_anchors():
    frames = room_frames(4)
    results = []
    for merge_at in (1, 10**9):
        voxels = VoxelMeans(0.05, merge_at)
        for frame in frames:
            voxels.add(frame, frame.depth)
        results.append(voxels.anchors())
    for a, b in zip(*(result.tiles for result in results), strict=True):
        np.testing.assert_allclose(a.points, b.points, atol=1e-6)
        np.testing.assert_array_equal(a.labels, b.labels)
        assert np.abs(a.colors.astype(int) - b.colors).max() <= 1


def test_flying_pixels_at_depth_edges_are_dropped():
    camera = Intrinsics(40, 40, 40, 40, 19.5, 19.5)
    depth = np.full((40, 40), 3.0, np.float32)
    depth[:, :20] = 1.0
    depth[:, 20] = 2.0  # between the surfaces, on neither
    frame = RgbdFrame(0, np.zeros((40, 40, 3), np.uint8), depth, camera, Pose.identity())
    assert set(np.unique(trustworthy_depth(frame, FusionSettings()))) == {0.0, 1.0, 3.0}
    slanted = np.tile(np.linspace(1.0, 1.5, 40, dtype=np.float32), (40, 1))
    kept = trustworthy_depth(RgbdFrame(0, frame.rgb, slanted, camera, Pose.identity()), FusionSettings())
    np.testing.assert_array_equal(kept, slanted, "a slanted wall is no edge")
    assert not trustworthy_depth(frame, FusionSettings(max_depth=0.5)).any()


def test_noise_of_measured_depth_is_averaged_away():
    """Depth with noise, and flying specks in front of the walls: the distance field has one thin, clean layer."""
    rng = np.random.default_rng(0)
    settings = FusionSettings(voxel=0.04, min_views=3)
    offset = np.array([400_000.0, 5_000_000.0, 100.0])  # map coordinates are large
    noisy = []
    for frame in room_frames(40):
        depth = frame.depth * (1 + 0.01 * rng.standard_normal(frame.depth.shape))
        depth[rng.random(depth.shape) < 0.002] *= 0.6
        pose = Pose(frame.T_world_camera.rotation, frame.T_world_camera.translation + offset)
        noisy.append(RgbdFrame(frame.index, frame.rgb, depth.astype(np.float32), frame.intrinsics, pose))
    distances = {}
    for surface in (TsdfSurface(settings), VoxelMeans(settings.voxel)):
        anchors = fuse(noisy, "noisy", surface, settings).anchors
        points = np.concatenate([tile.world_points for tile in anchors.tiles]) - offset
        colors = np.concatenate([tile.colors for tile in anchors.tiles]).astype(int)
        distances[type(surface)] = np.abs(np.minimum(np.abs(points - LOW), np.abs(points - HIGH)).min(axis=1))
        assert np.abs(colors - color_of(points)).mean() < 8
    clean, raw = distances[TsdfSurface], distances[VoxelMeans]
    assert np.quantile(clean, 0.99) < 0.7 * np.quantile(raw, 0.99) and np.median(clean) < 0.01
    assert 0.3 < len(clean) / (2 * (4 * 3 + 3 * 2.5 + 4 * 2.5) / 0.04**2) < 1.0, (
        "about one anchor a cell of the walls that were seen"
    )


def test_keyframes_cover_what_all_frames_cover():
    cells = [
        (np.array(keys), np.full(len(keys), distance))
        for keys, distance in [([1, 2, 3], 1.0), ([1, 2, 3, 4], 1.5), ([1, 2, 3, 4, 5], 9.0), ([5], 8.0)]
    ]
    assert choose_keyframes(cells, FusionSettings()) == [1, 2]
    assert choose_keyframes(cells, FusionSettings(max_keyframes=1)) == [1]


def test_keyframes_look_from_everywhere():
    """Of cameras that all see the same, those are kept that moved by a part of the distance, or turned."""
    rotations = [Rotation.from_rotvec([0, math.radians(k), 0]) for k in range(11)]
    poses = [Pose(Rotation.identity(), [0.01 * k, 0, 0]) for k in range(101)] + [Pose(r, [0, 0, 0]) for r in rotations]
    distances = np.full(len(poses), 2.0)
    settings = FusionSettings(parallax=0.02, turn=5.0)
    kept = spread_keyframes([0], poses, distances, settings)
    steps = np.diff([0.01 * k for k in kept if k <= 100])
    assert kept[0] == 0 and (steps >= 0.04 - 1e-9).all() and (steps < 0.08).all()
    assert [k - 101 for k in kept if k > 101] == [5, 10]
    few = spread_keyframes([0], poses, distances, replace(settings, max_keyframes=3))
    assert few == [0, 50, 100], "the farthest first"
    distances[100:] = np.inf
    assert max(spread_keyframes([0], poses, distances, settings)) < 100, "who sees nothing is not kept for its pose"


def test_depth_is_needed(tmp_path):
    frame = room_frames(1)[0]
    blind = RgbdFrame(0, frame.rgb, np.zeros_like(frame.depth), frame.intrinsics, frame.T_world_camera)
    with pytest.raises(ValueError, match="none of the 1 frames has usable depth"):
        fuse([blind], "dark", VoxelMeans(0.05), SETTINGS)


def test_depth_in_the_wrong_unit_is_explained():
    far = see_room(Pose.looking_at([0, 0, 1], [1, 0, 1]))
    wrong = RgbdFrame(0, far.rgb, far.depth * 1e7, far.intrinsics, far.T_world_camera)
    with pytest.raises(ValueError, match="depth's unit"):
        fuse([wrong], "wrong", VoxelMeans(0.01), FusionSettings(max_depth=1e9))


# --- the folder


def test_a_world_survives_the_disk(room, tmp_path):
    write_world(room, tmp_path / "w")
    back = read_world(tmp_path / "w")
    assert (back.name, back.frame_id, back.metric, back.spacing) == ("room", "map", True, 0.05)
    assert back.label_names == room.label_names
    for a, b in zip(room.anchors.tiles, back.anchors.tiles, strict=True):
        for name in ("origin", "points", "colors", "labels", "radius"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for a, b in zip(room.keyframes, back.keyframes, strict=True):
        assert a.id == b.id and a.intrinsics == b.intrinsics
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_allclose(a.depth, b.depth, atol=0.5e-3)
        np.testing.assert_allclose(a.T_world_camera.matrix, b.T_world_camera.matrix, atol=1e-12)


def test_writing_twice_is_the_same_and_leaves_nothing_behind(room, tmp_path):
    write_world(room, tmp_path / "w")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "w").rglob("keyframes/*")}
    write_world(room, tmp_path / "w")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "w").rglob("keyframes/*")}
    small = World("small", AnchorMap.from_points(np.zeros((1, 3)), np.zeros((1, 3), np.uint8)), [], 0.05)
    write_world(small, tmp_path / "w")
    assert len([p for p in (tmp_path / "w").rglob("*") if p.is_file()]) == 2
    assert len(read_world(tmp_path / "w").anchors) == 1


def test_photographs_are_encoded_once(room, tmp_path, monkeypatch):
    """A world that was read or written is written again, or elsewhere, from its files, as long as they are there."""
    write_world(room, tmp_path / "first")
    again = read_world(tmp_path / "first")
    encoded = []
    monkeypatch.setattr(storage, "_webp", lambda rgb, webp=storage._webp: encoded.append(1) or webp(rgb))
    for world, name in ((room, "second"), (again, "third"), (again, "third")):
        write_world(world, tmp_path / name)
        assert files(tmp_path / name) == files(tmp_path / "first")
    assert not encoded
    shutil.rmtree(tmp_path / "third")
    shutil.rmtree(tmp_path / "first")
    write_world(again, tmp_path / "fourth")
    assert len(encoded) == len(room.keyframes) and files(tmp_path / "fourth") == files(tmp_path / "second")


def test_an_empty_world_is_a_world(tmp_path):
    write_world(World("void", AnchorMap(), [], 0.01), tmp_path / "w")
    assert len(read_world(tmp_path / "w").anchors) == 0


def damage_missing(folder):
    (folder / MANIFEST).unlink()


def damage_newer(folder):
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace("format_version: 2", "format_version: 3"))


def damage_cut(folder):
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[: int(len(text) * 0.8)])


def damage_cut_early(folder):
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text[:120])


def damage_no_yaml(folder):
    (folder / MANIFEST).write_bytes(b"\xff\x00 {")


def damage_chunk(folder):
    chunk = next((folder / "anchors").iterdir())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)


def damage_chunk_gone(folder):
    next((folder / "anchors").iterdir()).unlink()


def damage_photograph_cut(folder):
    image = next((folder / "keyframes").iterdir())
    image.write_bytes(image.read_bytes()[:-10])


def damage_photograph(data):
    """Another file in place of a photograph, as somebody does it who knows the format."""
    def damage(folder):
        image = next((folder / "keyframes").glob("*.webp"))
        name = name_of(data) + ".webp"
        image.with_name(name).write_bytes(data)
        text = (folder / MANIFEST).read_text().replace(image.name, name)
        (folder / MANIFEST).write_text(text[:text.rindex(CHECKSUM)])

    return damage


@pytest.mark.parametrize(
    "damage, message",
    [
        (damage_missing, "world.yaml is missing; make one with `worldfm world build`"),
        (damage_newer, "format version 3, this worldfm_ros reads up to 2"),
        (damage_cut, "world.yaml is damaged"),
        (damage_cut_early, "world.yaml is damaged"),
        (damage_no_yaml, "world.yaml is damaged"),
        (damage_chunk, r"anchors/\w+.safetensors is damaged: .* checksum"),
        (damage_chunk_gone, r"anchors/\w+.safetensors is damaged: .*No such file"),
        (damage_photograph_cut, r"keyframes/\w+.webp is damaged: .* checksum"),
        (damage_photograph(announced_png(60_000, 60_000)), r"keyframes/\w+.webp is damaged: Image size"),
        (damage_photograph(announced_png(600, 400)), r"keyframes/\w+.webp is damaged: it is 600x400, world.yaml says"),
        (damage_photograph(b"no picture"), r"keyframes/\w+.webp is damaged: cannot identify"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_damaged_world_is_refused_with_the_file_named(room, tmp_path, damage, message):
    write_world(room, tmp_path / "w")
    damage(tmp_path / "w")
    with pytest.raises(WorldError, match=message):
        read_world(tmp_path / "w")


def test_every_cut_of_the_manifest_is_noticed(room, tmp_path):
    write_world(room, tmp_path / "w")
    text = (tmp_path / "w" / MANIFEST).read_text()
    for length in range(0, len(text) - 1, 97):
        (tmp_path / "w" / MANIFEST).write_text(text[:length])
        for reader in (read_world, describe):
            with pytest.raises(WorldError):
                reader(tmp_path / "w")


def entries(content, path=()):
    """The path of every entry of a manifest: keys and positions."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield *path, key
        if isinstance(value, (dict, list)):
            yield from entries(value, (*path, key))


def test_a_manifest_that_is_other_than_written_is_refused(tmp_path):
    """Whatever byte is another one, where the text still is a manifest; who edits it takes the checksum out."""
    write_world(room_world(1, 0.5, name="room"), tmp_path / "w")
    file = tmp_path / "w" / MANIFEST
    whole = file.read_text()
    file.write_text(whole.replace("name: room", "name: rook"))
    with pytest.raises(WorldError, match="not its checksum .*take the line"):
        read_world(tmp_path / "w")
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("checksum: ")))
    assert read_world(tmp_path / "w").name == "rook"


UNCHECKED = {"units", "axes"}  # told to people


def test_every_entry_of_the_manifest_is_checked(tmp_path):
    """Whatever entry is missing or of another kind: reading the world and `worldfm world info` name the file."""
    write_world(room_world(1, 0.5), tmp_path / "w")
    file = tmp_path / "w" / MANIFEST
    whole = yaml.safe_load(file.read_text())
    del whole["checksum"]  # which an editor takes out, and which would be wrong for each of these
    for path in [path for path in entries(whole) if path[0] not in UNCHECKED]:
        for value in ("missing", None, {}, math.nan, -1):
            content = copy.deepcopy(whole)
            place = functools.reduce(lambda part, key: part[key], path[:-1], content)
            if value == "missing":
                del place[path[-1]]
            else:
                place[path[-1]] = value
            file.write_text(yaml.safe_dump(content))
            if harmless(path, value):
                describe(tmp_path / "w")
                continue
            for reader in (read_world, describe):
                with pytest.raises(WorldError, match="world.yaml is damaged: .*; build the world again"):
                    reader(tmp_path / "w")


def harmless(path, value):
    """A number in a matrix or box may be negative, an empty map has no bounds, labels need not be there."""
    negative = value == -1 and (path[-2:-1] in (("K",), ("T_world_camera",)) or "bounds" in path and len(path) == 4
                                or path[0] == "boxes" and len(path) == 3)
    unlabelled = path[0] == "labels" and (value == "missing" and len(path) == 2 or value == {} and len(path) == 1)
    return negative or unlabelled or path == ("anchors", "bounds") and value is None


def test_a_foreign_folder_is_not_overwritten(room, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(WorldError, match="is no world folder"):
        write_world(room, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_crash_at_any_instant_leaves_a_whole_world(tmp_path):
    """A writer that alternates between two worlds is killed again and again; what is there must read as one."""
    code = """
import sys; sys.path.insert(0, sys.argv[2])
import numpy as np
from scenes import room_world
from worldfm_ros.world.storage import write_world
worlds = [room_world(3, 0.1, "odd"), room_world(4, 0.12, "even")]
write_world(worlds[0], sys.argv[1]); print("ready", flush=True)
while True:
    for world in reversed(worlds):
        write_world(world, sys.argv[1])
"""
    counts = set()
    for round_ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "w"), os.path.dirname(__file__)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.05 + 0.037 * round_)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        world = read_world(tmp_path / "w")
        counts.add((world.name, len(world.anchors), read_manifest(tmp_path / "w")["anchors"]["count"]))
    assert all(found == announced for _, found, announced in counts)
