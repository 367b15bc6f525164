"""The scene families whose whole layout is drawn from a seed: rooms, office, warehouse, street."""

from __future__ import annotations

from functools import cache
import math

import numpy as np
import pytest

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.scenes import props
from worldfm_ros.scenes import viewpoints as views
from worldfm_ros.scenes.building import HALF_WALL
from worldfm_ros.scenes.families import SCENES
from worldfm_ros.scenes.furniture import Label
from worldfm_ros.scenes.placement import Area, clutter, extent, overlap
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.rooms import floor_plan, rooms
from worldfm_ros.scenes.scene import Scene, moved, solid_bounds
from worldfm_ros.scenes.viewpoints import free_floor, viewpoints

FAMILIES = ("rooms", "office", "warehouse", "street")
LEAST_FLOOR = {"rooms": 3.0, "office": 30.0, "warehouse": 20.0, "street": 60.0}  # m^2 that a robot can drive on
SEEDS = range(10)
CAMERA = Intrinsics.from_hfov(64, 48, math.radians(78.0))

scene_of = cache(lambda family, seed: SCENES[family](seed))
families = pytest.mark.parametrize("family", FAMILIES)


@families
def test_a_seed_makes_one_scene_and_another_seed_another(family):
    first, again, other = (SCENES[family](seed) for seed in (3, 3, 4))
    assert first == again and first.name == family
    assert len(first.primitives) != len(other.primitives)
    assert not np.allclose(first.bounds, other.bounds, atol=0.05)  # another plan, not only other colours


@families
def test_scenes_are_rich_and_lit_from_several_places(family):
    for seed in SEEDS:
        scene = scene_of(family, seed)
        assert 50 <= len(scene.primitives) <= 900, seed
        assert len({solid.material for solid in scene.primitives}) > 25, seed
        assert len({solid.label for solid in scene.primitives}) >= 8, seed
        assert len({light.position for light in scene.lights}) >= 2, seed


@families
def test_a_robot_finds_connected_floor_and_no_camera_is_inside_anything(family):
    for seed in SEEDS:
        scene = scene_of(family, seed)
        assert len(free_floor(scene)) * views.GRID**2 > LEAST_FLOOR[family], seed
        if seed < 2:
            eyes = np.array([pose.translation for pose in viewpoints(scene, seed, 12)])
            assert scene.clearance(eyes).min() > 0.2, seed


@families
@pytest.mark.parametrize("seed", [0, 1])
def test_pictures_are_neither_dark_nor_burnt_nor_plain(family, seed):
    scene = scene_of(family, seed)
    caster = RayCaster(scene, texel=0.8)
    images = [caster.render(pose, CAMERA) for pose in viewpoints(scene, seed, 18)]
    means = [image.rgb.mean() for image in images]
    assert 60.0 < np.mean(means) < 190.0
    assert np.mean([50.0 < mean < 205.0 for mean in means]) > 0.7
    assert np.median([image.rgb.std() for image in images]) > 25.0
    seen = np.concatenate([image.labels.ravel() for image in images])
    assert set(np.unique(seen)) - {0} <= set(scene.label_names)
    assert family == "street" or (seen > 0).all()  # indoors no ray leaves the building


def test_every_room_can_be_driven_to():
    for seed in SEEDS:
        plan, floor = floor_plan(np.random.default_rng([seed, 1])), free_floor(scene_of("rooms", seed))
        for name, room in plan.rooms.items():
            inside = (floor > [room.west, room.south]).all(1) & (floor < [room.east, room.north]).all(1)
            assert inside.sum() * views.GRID**2 > 1.0, (seed, name)


@families
def test_nothing_stands_in_the_air(family):
    """Every solid touches the ground, directly or through others; all but leaves."""
    for seed in (0, 5):
        scene = scene_of(family, seed)
        boxes = np.array([solid_bounds(solid) for solid in scene.primitives])
        boxes += np.array([[-0.02], [0.02]])
        held = boxes[:, 0, 2] < 0.03
        touching = (boxes[:, None, 0] <= boxes[None, :, 1]).all(2) & (boxes[None, :, 0] <= boxes[:, None, 1]).all(2)
        while (more := (touching & held).any(1) & ~held).any():
            held |= more
        loose = {scene.label_names[solid.label] for solid, ok in zip(scene.primitives, held, strict=True) if not ok}
        assert loose <= {"plant"}, (seed, loose)


def people(scene: Scene) -> int:
    return sum(solid.label == props.Prop.PERSON for solid in scene.primitives)


def test_people_stand_on_the_floor_in_most_large_scenes():
    for family in ("office", "warehouse", "street"):
        scenes = [scene_of(family, seed) for seed in SEEDS]
        assert sum(people(scene) > 0 for scene in scenes) >= 5, family
        for scene in scenes:
            low = [solid_bounds(s)[0, 2] for s in scene.primitives if s.label == props.Prop.PERSON]
            assert not low or abs(min(low)) < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_an_area_do_not_overlap(seed):
    rng = np.random.default_rng(seed)
    area = Area.room((0.0, 5.0), (0.0, 4.0), 2.5)
    area.keep_free((0.0, 1.0), (0.0, 1.0))
    pieces = []
    for k in range(30):
        crate = props.carton(rng, *rng.uniform(0.2, 0.9, 2), rng.uniform(0.2, 1.5))
        placed = area.amid(rng, crate, 0.4) if k % 3 == 0 else area.against(rng, crate)
        pieces += [placed] if placed else []
    assert 5 <= len(pieces) < 30  # some find no room
    spans = [extent(piece) for piece in pieces]
    for k, (x, y, z) in enumerate(spans):
        assert 0.0 <= x[0] and x[1] <= 5.0 and 0.0 <= y[0] and y[1] <= 4.0 and z[0] >= 0.0
        assert not overlap((x, y), ((0.0, 1.0), (0.0, 1.0)))
        assert not any(overlap((x, y), other[:2]) for other in spans[:k])


def test_what_hangs_on_a_wall_faces_the_room_and_keeps_apart():
    rng, area = np.random.default_rng(1), Area.room((-2.0, 2.0), (-1.5, 1.5), 2.6)
    plates = [area.hang(rng, [props.Box((0.02, 0.0, 0.0), (0.04, 0.6, 0.5), props.PAPER, Label.PICTURE)], (1.3, 1.7))
              for _ in range(40)]
    plates = [plate[0] for plate in plates if plate]
    assert len(plates) > 6
    for plate in plates:
        gap = min(2.0 - abs(plate.centre[0]), 1.5 - abs(plate.centre[1]))
        assert 0.02 < gap < 0.03  # half its thickness from the wall
    for wall in area.walls:
        assert not any(overlap(a, b) for k, a in enumerate(wall.taken) for b in wall.taken[:k])


def test_extent_is_the_union_of_bounds_and_clutter_stays_on_its_top():
    rng = np.random.default_rng(2)
    piece = moved(props.person(rng), 1.0, -2.0, 0.5, 0.7)
    corners = np.array([solid_bounds(solid) for solid in piece])
    np.testing.assert_allclose(np.transpose(extent(piece)), [corners[:, 0].min(0), corners[:, 1].max(0)], atol=1e-12)
    x, y, z = extent(clutter(rng, 1.5, 0.6, [props.mug, props.bottle], 1.0))
    assert -0.75 <= x[0] and x[1] <= 0.75 and -0.3 <= y[0] and y[1] <= 0.3 and z[0] == 0.0


def test_free_floor_is_where_the_whole_scenes_clearance_says_so():
    scene = rooms(3)
    places = free_floor(scene)
    for height in views.ROBOT_HEIGHTS:
        points = np.insert(places, 2, height, axis=1)
        assert scene.clearance(points).min() >= min(views.CLEARANCE, height - 0.03)
    (west, south, _), (east, north, _) = scene.bounds
    assert (places > [west + HALF_WALL, south]).all() and (places < [east, north]).all()
