"""A world that grows: what was seen stays, what was invented comes again, and the disk has it all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scenes import CAMERA, room_frames, room_world, see_room

from worldfm_ros.depth.smooth import Smooth
from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import Pose
from worldfm_ros.growth import GrowingGenerator, GrowthSettings, completed, unseen
from worldfm_ros.world.anchors import MEASURED, SCAN, AnchorMap
from worldfm_ros.world.cut import cut
from worldfm_ros.world.insertion import MARGIN, InsertionSettings, View, contradicted, insert, occupied
from worldfm_ros.world.keyframes import NOT_LENT
from worldfm_ros.world.storage import read_world, write_world

CORNER = np.array([[0.6, -1.6, -0.1], [2.1, 1.6, 2.6]])  # a part of the room
INTO = [Pose.looking_at([-0.9 + 0.1 * k, -0.3, 1.2], [1.0, 1.4 - 0.2 * k, 1.0]) for k in range(5)]


@pytest.fixture(scope="module")
def whole():
    return room_world(24, voxel=0.04)


@pytest.fixture
def world(whole):
    return cut(whole, CORNER)


def arrays(world):
    return {name: np.concatenate([getattr(tile, name) for tile in world.anchors.tiles])
            for name in ("world_points", "colors", "labels", "radius", "frames", "confidence")}


def measured_view(pose=None, **changes):
    """The exact view of the room as a sensor's."""
    frame = see_room(pose or INTO[0])
    whole = np.ones(frame.depth.shape)
    view = View(frame.rgb, frame.depth, whole.astype(np.float32), whole > 0, frame.intrinsics, frame.T_world_camera,
                frame.labels, measured=True)
    return replace(view, **changes)


def test_a_cut_world_does_not_show_what_was_cut(whole, world):
    points = arrays(world)["world_points"]
    assert len(points) < len(whole.anchors)
    assert not ((points >= CORNER[0]) & (points <= CORNER[1])).all(1).any()
    assert any((keyframe.depth == NOT_LENT).any() for keyframe in world.keyframes)
    with pytest.raises(ValueError, match="lowest and its highest corner"):
        cut(whole, CORNER[::-1])


def test_it_grows_and_shows_the_same_again(world):
    before = len(world.anchors)
    generator = GrowingGenerator(load_generator(world), Smooth())
    holes = [unseen(generator.generator.generate(pose, CAMERA)).mean() for pose in INTO]
    first = [generator.generate(pose, CAMERA) for pose in INTO]
    again = [generator.generate(pose, CAMERA) for pose in INTO]
    third = [generator.generate(pose, CAMERA) for pose in INTO]
    assert np.mean(holes) > 0.1 and np.mean([unseen(frame).mean() for frame in again]) < 0.4 * np.mean(holes)
    assert generator.history and len(world.anchors) > before
    for a, b in zip(again, third, strict=True):
        assert np.mean((a.rgb.astype(float) - b.rgb) ** 2) < 0.5  # it has settled
    error = [np.mean((a.rgb.astype(float) - b.rgb) ** 2) for a, b in zip(first, again, strict=True)]
    assert 10 * np.log10(255**2 / np.median(error)) > 30


def test_what_was_there_stays_and_provenance_is_told(world):
    old = arrays(world)
    generator = GrowingGenerator(load_generator(world), Smooth())
    for pose in INTO:
        generator.generate(pose, CAMERA)
    new = arrays(world)
    scanned = new["frames"] == SCAN
    for name in old:
        np.testing.assert_array_equal(np.sort(new[name][scanned], axis=0), np.sort(old[name], axis=0))
    ids = {entry.frame for entry in generator.history}
    assert set(np.unique(new["frames"][~scanned])) <= ids and ids == {k.id for k in world.keyframes if k.inserted}
    assert (new["confidence"][scanned] == MEASURED).all() and (new["confidence"][~scanned] < MEASURED).all()
    voxels = np.unique(np.rint(new["world_points"][~scanned] / world.spacing), axis=0)
    assert len(voxels) > 0.97 * (~scanned).sum(), "one anchor a voxel"  # a wall lies on the border of two


def test_invented_anchors_of_a_plane_have_its_label_and_others_none(world):
    """Without a scale there is no layout: then all that is invented is completed, as it was before there were any."""
    bare = replace(cut(world, CORNER), metric=False)
    for place, labels in ((world, {0, 1, 2, 3}), (bare, {0})):
        generator = GrowingGenerator(load_generator(place), Smooth())
        for pose in INTO:
            generator.generate(pose, CAMERA)
        new = {name: values[arrays(place)["frames"] != SCAN] for name, values in arrays(place).items()}
        assert len(new["labels"]) > 500 and set(np.unique(new["labels"])) <= labels
        assert (new["confidence"] < MEASURED).all()
        floor = np.abs(new["world_points"][:, 2]) < 0.02
        assert labels == {0} or (new["labels"][floor] == 3).mean() > 0.9


def test_a_depth_image_is_looked_through_as_its_keyframe_says(world):
    rng = np.random.default_rng(0)
    points = rng.uniform([-3, -3, -1], [3, 3, 4], (5000, 3))
    expected = np.zeros(len(points), bool)
    for keyframe in world.keyframes:
        pixels, z, inside = keyframe.lookup(points)
        column, row = np.rint(pixels[inside]).astype(int).T
        height, width = keyframe.depth.shape
        seen = keyframe.depth[row.clip(0, height - 1), column.clip(0, width - 1)]
        expected[inside] |= seen > (1 + MARGIN) * z[inside]
    assert 0.02 < expected.mean() < 0.98 and (contradicted(points, world.keyframes) == expected).all()


def test_a_saved_world_gives_the_same_frames(world, tmp_path):
    generator = GrowingGenerator(load_generator(world), Smooth())
    for pose in INTO:
        generator.generate(pose, CAMERA)
    write_world(world, tmp_path / "grown")
    live, replayed = generator.generator, load_generator(read_world(tmp_path / "grown"))
    for pose in INTO:
        a, b = live.generate(pose, CAMERA), replayed.generate(pose, CAMERA)
        for name in ("rgb", "depth", "labels"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name, values in arrays(world).items():
        np.testing.assert_array_equal(values, arrays(read_world(tmp_path / "grown"))[name])
    origins = [[(k.inserted, k.painted) for k in w.keyframes] for w in (world, read_world(tmp_path / "grown"))]
    assert origins[0] == origins[1] and (True, True) in origins[0] and (False, False) in origins[0]


def test_the_same_drive_grows_the_same_map(whole):
    maps = []
    for _ in range(2):
        world = cut(whole, CORNER)
        generator = GrowingGenerator(load_generator(world), Smooth())
        for pose in INTO:
            generator.generate(pose, CAMERA)
        maps.append(arrays(world))
    for name in maps[0]:
        np.testing.assert_array_equal(maps[0][name], maps[1][name])


def test_what_a_keyframe_contradicts_is_not_inserted(whole):
    """A picture that claims a wall half way to the real one, where photographs look through."""
    view = measured_view(measured=False, known=np.zeros((60, 80), bool))
    near = replace(view, depth=(0.5 * view.depth).astype(np.float32))
    before, world = len(whole.anchors), cut(whole, CORNER)
    insert(world, measured_view())
    told = insert(world, near)
    assert told.contradicted > 0.9 * (near.depth > 0).sum() and told.anchors < 50 and len(whole.anchors) == before


def test_unsure_depth_is_not_inserted(world):
    view = measured_view(measured=False, known=np.zeros((60, 80), bool), confidence=np.full((60, 80), 0.1, np.float32))
    assert insert(world, view).anchors == 0
    assert insert(world, view, InsertionSettings(least_confidence=0.05)).anchors > 0


def test_a_measurement_takes_the_place_of_what_was_generated(world):
    view = measured_view(measured=False, known=np.zeros((60, 80), bool))
    near = replace(view, depth=(0.7 * view.depth).astype(np.float32))
    world.keyframes.clear()  # nobody contradicts
    assert insert(world, near).anchors > 100
    told = insert(world, measured_view())
    frames, confidence = arrays(world)["frames"], arrays(world)["confidence"]
    assert told.carved > 100 and (confidence[frames == told.frame] == MEASURED).all()
    assert not (confidence < MEASURED).any(), "all of it was in space that is free"


def test_a_cap_lets_the_least_sure_go_and_never_a_measurement(world):
    scan, told = len(world.anchors), []
    generator = GrowingGenerator(load_generator(world), Smooth(), GrowthSettings(
        least_new=0.01, insertion=InsertionSettings(max_anchors=scan + 50, max_keyframes=1)), told.append)
    for pose in INTO:
        generator.generate(pose, CAMERA)
    assert len(world.anchors) <= scan + 50 and (arrays(world)["frames"] == SCAN).sum() == scan
    assert sum(keyframe.inserted for keyframe in world.keyframes) == 1
    assert sum(e.evicted > 0 for e in generator.history) > 1 and len(told) == 1 and f"{scan + 50} anchors" in told[0]
    assert insert(world, measured_view(), InsertionSettings(max_anchors=1)).evicted >= 0
    assert (arrays(world)["frames"] == SCAN).sum() == scan


def test_voxels_are_found_whatever_the_tile():
    rng = np.random.default_rng(0)
    points = rng.uniform(-9, 9, (500, 3))
    anchors = AnchorMap.from_points(points, np.zeros((500, 3), np.uint8))
    voxels = np.rint(rng.uniform(-9, 9, (500, 3)) / 0.5).astype(np.int64)
    there = {tuple(v) for v in np.rint(points / 0.5).astype(int)}
    assert occupied(anchors, voxels, 0.5).tolist() == [tuple(v) in there for v in voxels]
    assert occupied(AnchorMap(), voxels, 0.5).sum() == 0 and len(occupied(anchors, voxels[:0], 0.5)) == 0


def test_objects_are_not_inserted(world):
    from worldfm_ros.objects import shapes
    from worldfm_ros.objects.objects import Placed

    place = Pose.planar(0.6, 0.0, 0.0)
    box = Placed(shapes.box((0.3, 0.5, 1.0), (255, 0, 255)).at(place), 1, 77, place)
    frame = load_generator(world).generate(INTO[0], CAMERA, [box])
    view = completed(frame, INTO[0], CAMERA, Smooth())
    assert (frame.instances == 1).sum() > 50 and view.known[frame.instances == 1].all()
    insert(world, view)
    assert not (arrays(world)["colors"] == [255, 0, 255]).all(1).any()


def test_a_full_disk_leaves_the_world_that_was_saved(world, tmp_path, monkeypatch):
    write_world(world, tmp_path / "w")
    before = {p.name: p.read_bytes() for p in (tmp_path / "w").rglob("*") if p.is_file()}
    insert(world, measured_view())

    written = []

    def full(file: Path, content: bytes) -> None:
        if written:
            raise OSError(28, "No space left on device", str(file))
        written.append(file)
        file.write_bytes(content)

    monkeypatch.setattr("worldfm_ros.world.storage.write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        write_world(world, tmp_path / "w")
    assert written and {p.name: p.read_bytes() for p in (tmp_path / "w").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("settings", [{"least_new": 0.0}, {"least_hole": 1.5}])
def test_shares_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="shares above 0"):
        GrowthSettings(**settings)


@pytest.mark.parametrize("settings", [{"least_confidence": 2.0}, {"max_anchors": 0}, {"max_depth": -1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="above 0|from 0 to 1"):
        InsertionSettings(**settings)


def test_a_frame_without_scale_is_no_keyframe(world):
    generator = GrowingGenerator(load_generator(world), Smooth())
    generator.generate(Pose.looking_at([50, 0, 1], [60, 0, 1]), CAMERA)
    assert not generator.history and len(room_frames(2)) == 2
