"""Procedural scenes: the ray caster against independent numpy geometry, the light, and the apartment."""

from __future__ import annotations

from dataclasses import replace
import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.scenes.apartment import Style, apartment, floor_plan
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.scene import Box, Cylinder, Light, Material, Scene, Solid, Sphere, Texture
from worldfm_ros.scenes.viewpoints import free_floor, observe, viewpoints

CAMERA = Intrinsics.from_hfov(48, 36, math.radians(80.0))
GREY = Material.hex("#909090")
NAMES = {k: f"thing {k}" for k in range(1, 100)}


def scene_of(*solids: Solid, lights=(), ambient=(0.3, 0.3, 0.3)) -> Scene:
    return Scene("test", solids, tuple(lights), ambient, NAMES)


def caster(*solids: Solid, **rest) -> RayCaster:
    return RayCaster(scene_of(*solids, **rest), texel=0.5)


def random_solids(rng: np.random.Generator, shapes, count: int) -> list[Solid]:
    return [shapes[k % len(shapes)](tuple(rng.uniform(-2.0, 2.0, 3)), tuple(rng.uniform(0.2, 1.6, 3)), GREY, k + 1,
                                    rng.uniform(-4.0, 4.0)) for k in range(count)]


def random_pose(rng: np.random.Generator) -> Pose:
    eye = rng.normal(size=3)
    return Pose.looking_at(6.0 * eye / np.linalg.norm(eye), rng.uniform(-1.0, 1.0, 3))


def to_local(solid: Solid, points: np.ndarray) -> np.ndarray:
    """World points in the solid's own axes, metres."""
    return Rotation.from_euler("z", -solid.yaw).apply((points - solid.centre).reshape(-1, 3)).reshape(points.shape)


def implicit(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Zero on the surface, about the distance in metres near it."""
    p, half = to_local(solid, points), np.array(solid.size) / 2.0
    if isinstance(solid, Box):
        return (np.abs(p) - half).max(axis=-1)
    if isinstance(solid, Sphere):
        return (np.linalg.norm(p / half, axis=-1) - 1.0) * half.min()
    side = (np.linalg.norm(p[..., :2] / half[:2], axis=-1) - 1.0) * half[:2].min()
    return np.maximum(side, np.abs(p[..., 2]) - half[2])


def oracle(solid: Solid, T_world_camera: Pose, intrinsics: Intrinsics) -> np.ndarray:
    """Depth (H, W), inf = missed: the nearest of the crossings with each face's plane and each quadric that are on the
    solid. Another way than the ray caster's, which clips intervals in unit coordinates."""
    rays = intrinsics.unproject(np.ones((intrinsics.height, intrinsics.width)))
    origin = to_local(solid, T_world_camera.translation[None])[0]
    d = to_local(solid, T_world_camera.apply(rays)) - origin
    half = np.array(solid.size) / 2.0
    axes = {Box: (0, 1, 2), Cylinder: (2,), Sphere: ()}[type(solid)]
    crossings = [(sign * half[axis] - origin[axis]) / d[..., axis] for axis in axes for sign in (-1, 1)]
    if not isinstance(solid, Box):
        weight = np.array([1.0, 1.0, isinstance(solid, Sphere)]) / half**2
        a, b, c = (weight * d * d).sum(-1), 2.0 * (weight * d * origin).sum(-1), (weight * origin**2).sum() - 1.0
        root = np.sqrt(np.where(b * b >= 4.0 * a * c, b * b - 4.0 * a * c, np.nan))
        crossings += [(-b - root) / (2.0 * a), (-b + root) / (2.0 * a)]
    nearest = np.full(d.shape[:2], np.inf)
    for t in crossings:
        p = np.abs(origin + t[..., None] * d)
        on = (p <= half + 1e-9).all(axis=-1) & (t > 0.0)
        if isinstance(solid, Cylinder):
            on &= np.linalg.norm(p[..., :2] / half[:2], axis=-1) <= 1.0 + 1e-9
        nearest = np.where(on & (t < nearest), t, nearest)
    return nearest


@pytest.mark.parametrize("shapes", [(Box,), (Cylinder,), (Sphere,), (Box, Cylinder, Sphere)])
def test_depth_and_labels_equal_independent_intersections(shapes):
    rng = np.random.default_rng(3)
    for count in (1, 40):
        solids = random_solids(rng, shapes, count)
        ray_caster = caster(*solids)
        for _ in range(4):
            pose = random_pose(rng)
            depths = np.stack([oracle(solid, pose, CAMERA) for solid in solids])
            image = ray_caster.render(pose, CAMERA)
            expected = depths.min(axis=0)
            hit = np.isfinite(expected)
            assert hit.any()
            np.testing.assert_array_equal(image.depth > 0, hit)
            np.testing.assert_allclose(image.depth[hit], expected[hit], rtol=1e-6)
            np.testing.assert_array_equal(image.labels, np.where(hit, depths.argmin(axis=0) + 1, 0))


@pytest.mark.parametrize("shape", [Box, Cylinder, Sphere])
def test_hits_lie_on_the_surface_and_normals_stand_on_it(shape):
    rng = np.random.default_rng(5)
    for solid in random_solids(rng, (shape,), 6):
        pose = Pose.looking_at(np.add(solid.centre, rng.uniform(1.5, 3.0, 3) * rng.choice([-1, 1], 3)), solid.centre)
        image = caster(solid).render(pose, CAMERA)
        hit = image.depth > 0
        points, normals = pose.apply(CAMERA.unproject(image.depth))[hit], image.normals[hit].astype(np.float64)
        assert np.abs(implicit(solid, points)).max() < 1e-4
        assert np.abs(np.linalg.norm(normals, axis=1) - 1.0).max() < 1e-6
        assert (np.sum(normals * (points - pose.translation), axis=1) < 0.0).all()
        step = 1e-5
        gradient = np.stack([implicit(solid, points + step * e) - implicit(solid, points - step * e)
                             for e in np.eye(3)], axis=-1) / (2.0 * step)
        gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
        aligned = np.sum(gradient * normals, axis=1)
        assert np.median(aligned) > 1.0 - 1e-6
        assert np.mean(aligned > 0.999) > 0.97  # all but pixels on an edge, where the numerical gradient mixes faces


def test_a_camera_inside_a_box_sees_its_walls():
    room = Box((1.0, 2.0, 1.5), (4.0, 6.0, 3.0), GREY, 7)
    image = caster(room).render(Pose.looking_at((1.0, 2.0, 1.5), (3.0, 2.0, 1.5)), CAMERA)
    middle = image.depth[:, 20:28]
    assert (image.depth > 0).all() and (image.labels == 7).all()
    np.testing.assert_allclose(middle[18], 2.0, rtol=1e-6)  # the wall x = 3
    np.testing.assert_allclose(image.normals[18, 24], [-1.0, 0.0, 0.0], atol=1e-7)


def test_a_plane_has_the_depth_of_the_formula():
    floor = Box((0.0, 0.0, -0.5), (100.0, 100.0, 1.0), GREY, 1)
    pose = Pose.looking_at((0.0, 0.0, 1.2), (1.0, 0.3, 0.2))
    image = caster(floor).render(pose, CAMERA)
    rays = pose.rotation.apply(CAMERA.unproject(np.ones(image.depth.shape)).reshape(-1, 3)).reshape(36, 48, 3)
    expected = -1.2 / rays[..., 2]
    seen = (rays[..., 2] < 0) & (expected < 40.0)
    assert seen.sum() > 500
    np.testing.assert_allclose(image.depth[seen], expected[seen], rtol=1e-6)


def test_depth_does_not_change_when_scene_and_camera_move_together():
    rng = np.random.default_rng(11)
    solids, pose = random_solids(rng, (Box, Cylinder, Sphere), 20), random_pose(rng)
    still = caster(*solids).render(pose, CAMERA)
    x, y, z, yaw = 300.0, -40.0, 2.0, 0.7
    turn = Pose(Rotation.from_euler("z", yaw), np.array([x, y, z]))
    moved = caster(*(solid.moved(x, y, z, yaw) for solid in solids)).render(turn @ pose, CAMERA)
    np.testing.assert_allclose(moved.depth, still.depth, atol=2e-6)
    np.testing.assert_array_equal(moved.labels, still.labels)
    np.testing.assert_allclose(moved.normals, turn.rotation.apply(still.normals.reshape(-1, 3)).reshape(36, 48, 3),
                               atol=1e-5)


def test_shadow_is_darker_and_what_shines_casts_none():
    floor, lamp = Box((0.0, 0.0, -0.05), (6.0, 6.0, 0.1), GREY, 1), Light((0.0, 0.0, 3.0), (6.0, 6.0, 6.0))
    down = Pose.looking_at((0.0, 0.0, 0.8), (0.0, 0.0, 0.0), up=(0.0, 1.0, 0.0))

    def brightness(*above: Solid) -> float:
        return RayCaster(scene_of(floor, *above, lights=[lamp]), 0.1).render(down, CAMERA).rgb.mean()

    lit = brightness()
    assert brightness(Box((0.0, 0.0, 1.5), (2.0, 2.0, 0.1), GREY, 2)) < 0.6 * lit
    glass = Box((0.0, 0.0, 1.5), (2.0, 2.0, 0.1), Material.hex("#ffffff", emission=0.5), 2)
    assert brightness(glass) > 0.9 * lit
    assert RayCaster(scene_of(floor), 0.1).render(down, CAMERA).rgb.mean() < 0.6 * lit


def test_corners_are_darker_than_open_surfaces():
    floor, wall = Box((0.0, 0.0, -0.05), (8.0, 8.0, 0.1), GREY, 1), Box((0.0, 2.0, 1.0), (8.0, 0.1, 2.0), GREY, 2)
    image = RayCaster(scene_of(floor, wall), 0.1).render(
        Pose.looking_at((0.0, 1.2, 2.5), (0.0, 1.2, 0.0), up=(0.0, 1.0, 0.0)), CAMERA)
    column = image.rgb[:, 24, 0].astype(int)[image.labels[:, 24] == 1]
    assert column[0] < column[-1] - 5  # the top of the picture is next to the wall


def test_a_surface_has_one_colour_from_everywhere():
    ball = Sphere((0.0, 0.0, 0.5), (1.0, 1.0, 1.0), Material.hex("#c04030"), 2)
    floor = Box((0.0, 0.0, -0.05), (6.0, 6.0, 0.1), Material.hex("#40a060"), 1)
    ray_caster = caster(floor, ball, lights=[Light((2.0, 1.0, 3.0), (8.0, 8.0, 8.0))])
    poses = [Pose.looking_at(eye, (0.0, 0.0, 0.3)) for eye in ((2.5, 0.0, 1.5), (2.0, 1.5, 2.0))]
    a, b = (ray_caster.render(pose, CAMERA) for pose in poses)
    points = poses[1].inverse().apply(poses[0].apply(CAMERA.unproject(a.depth)))
    pixels = np.round(CAMERA.project(np.where(a.depth[..., None] > 0, points, [0.0, 0.0, 1.0]))).astype(int)
    inside = (pixels >= 0).all(-1) & (pixels < [48, 36]).all(-1) & (a.depth > 0)
    u, v = pixels[inside].T
    same = np.abs(b.depth[v, u] - points[inside][:, 2]) < 0.03  # seen by both
    difference = np.abs(a.rgb[inside][same].astype(int) - b.rgb[v, u][same])
    assert same.sum() > 500
    assert np.median(difference) <= 1 and np.percentile(difference, 95) < 20


def test_pictures_depend_on_nothing_but_the_scene():
    scene = scene_of(*random_solids(np.random.default_rng(2), (Box, Cylinder, Sphere), 15), lights=[
        Light((3.0, 3.0, 3.0), (9.0, 9.0, 9.0), (0.5, 0.5, 0.0))])
    pose = Pose.looking_at((5.0, 2.0, 1.0), (0.0, 0.0, 0.0))
    one, three = (RayCaster(scene, 0.3, workers).render(pose, CAMERA, samples=2) for workers in (1, 3))
    for name in ("rgb", "depth", "labels", "normals"):
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))


def test_more_samples_smooth_colour_only():
    checker = Box((0.0, 0.0, -0.05), (20.0, 20.0, 0.1), Material.hex("#ffffff #000000", Texture.CHECKER, 0.5), 1)
    ray_caster, pose = caster(checker), Pose.looking_at((0.0, 0.0, 1.0), (2.0, 0.3, 0.0))
    coarse, fine = ray_caster.render(pose, CAMERA, 1), ray_caster.render(pose, CAMERA, 4)
    np.testing.assert_array_equal(coarse.depth, fine.depth)
    np.testing.assert_array_equal(coarse.labels, fine.labels)
    assert (coarse.rgb != fine.rgb).any()


@pytest.mark.parametrize("texture", list(Texture))
def test_every_texture_stays_between_black_and_white_and_fades_to_its_mean_far_away(texture):
    material = Material.hex("#ffffff #404040 #808080", texture, 0.2, seed=2)
    ray_caster = caster(Box((0.0, 0.0, 0.0), (60.0, 60.0, 0.1), material, 1), ambient=(0.5, 0.5, 0.5))
    near, far = (ray_caster.render(Pose.looking_at((0.0, 0.0, h), (0.0, 0.0, 0.0), up=(0.0, 1.0, 0.0)),
                                   CAMERA).rgb.astype(float) for h in (0.8, 30.0))
    if texture in (Texture.PLANKS, Texture.TILES, Texture.BRICK, Texture.CHECKER, Texture.STRIPES):
        assert near.std() > 5.0
        if texture in (Texture.CHECKER, Texture.STRIPES):
            assert far.std() < 0.1 * near.std()
    assert near.max() <= 255.0


@pytest.mark.parametrize("make, words", [
    (lambda: Box((0, 0, 0), (1, 0, 1), GREY, 1), "positive extents"),
    (lambda: Sphere((0, math.nan, 0), (1, 1, 1), GREY, 1), "finite"),
    (lambda: Material(()), "one to three colours"),
    (lambda: Material(((0.0, 2.0, 0.0),)), "0..1"),
    (lambda: Scene("empty", (), (), (0, 0, 0), {}), "no solids"),
    (lambda: Scene("x", (Box((0, 0, 0), (1, 1, 1), GREY, 5),), (), (0, 0, 0), {1: "a"}), r"unnamed: \[5\]"),
    (lambda: caster(Box((0, 0, 0), (1, 1, 1), GREY, 1)).render(Pose.identity(), CAMERA, 0), "samples"),
    (lambda: RayCaster(scene_of(Box((0, 0, 0), (1, 1, 1), GREY, 1)), texel=0.0), "texel"),
    (lambda: viewpoints(scene_of(Sphere((0, 0, 0), (1, 1, 1), GREY, 1))), "no place"),
])
def test_errors_say_what_is_wrong(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_clearance_is_the_distance_to_the_surface():
    rng = np.random.default_rng(8)
    solid = Box((0.3, -0.2, 0.4), (1.0, 2.0, 0.6), GREY, 1, yaw=0.6)
    face = np.linspace(-0.5, 0.5, 81)
    grid = np.stack(np.meshgrid(face, face), -1).reshape(-1, 2)
    surface = np.concatenate([np.insert(grid, axis, side, axis=1) for axis in range(3) for side in (-0.5, 0.5)])
    surface = Rotation.from_euler("z", solid.yaw).apply(surface * solid.size) + solid.centre
    points = rng.uniform(-3.0, 3.0, (200, 3))
    distance = np.linalg.norm(points[:, None] - surface, axis=2).min(axis=1)
    distance *= np.where(implicit(solid, points) < 0, -1.0, 1.0)
    np.testing.assert_allclose(scene_of(solid).clearance(points), distance, atol=0.02)
    ball = scene_of(Sphere((1.0, 0.0, 0.0), (2.0, 2.0, 2.0), GREY, 1))
    np.testing.assert_allclose(ball.clearance(points), np.linalg.norm(points - [1.0, 0.0, 0.0], axis=1) - 1.0)


@pytest.fixture(scope="module")
def home() -> Scene:
    return apartment()


@pytest.fixture(scope="module")
def frames(home):
    return list(observe(home, intrinsics=CAMERA, samples=1, texel=0.6))


def test_the_apartment_is_closed_and_every_label_has_a_name(home, frames):
    assert len(frames) == 72 and [frame.index for frame in frames] == list(range(72))
    for frame in frames:
        assert (frame.depth > 0).all() and frame.depth.max() < 12.0
        assert set(np.unique(frame.labels)) <= set(home.label_names)
    seen = {home.label_names[k] for frame in frames for k in np.unique(frame.labels)}
    assert {"floor", "wall", "ceiling", "door", "window", "sofa", "chair", "table", "bed", "cabinet", "shelf", "book",
            "plant", "lamp", "picture", "counter", "appliance", "rug", "sink", "bathtub", "toilet"} <= seen


@pytest.mark.parametrize("seed", [0, 1])
def test_every_room_is_visited_with_room_to_spare(seed):
    scene = apartment(seed)
    poses = viewpoints(scene, seed)
    eyes = np.array([pose.translation for pose in poses])
    assert scene.clearance(eyes).min() > 0.2
    for name, room in floor_plan(Style(seed)).rooms.items():
        inside = (eyes[:, 0] > room.west) & (eyes[:, 0] < room.east) & (eyes[:, 1] > room.south) & \
                 (eyes[:, 1] < room.north)
        assert inside.any(), name
        forward = np.array([pose.rotation.apply([0.0, 0.0, 1.0]) for pose in poses])[inside]
        assert np.ptp(np.arctan2(forward[:, 1], forward[:, 0])) > math.radians(240.0), name


def test_rooms_are_joined_by_passages_of_80_cm(home):
    places = free_floor(home, clearance=0.4)
    for name, room in floor_plan(Style(0)).rooms.items():
        inside = (places > [room.west, room.south]).all(1) & (places < [room.east, room.north]).all(1)
        assert inside.sum() > 25, name  # of 0.1 m cells


def test_seeds_change_the_look_and_not_the_plan(home):
    other = apartment(1)
    pose = Pose.looking_at((0.3, 0.0, 1.1), (-3.0, -1.5, 0.9))
    a, b = (RayCaster(scene, 0.6).render(pose, CAMERA) for scene in (home, other))
    assert np.mean(a.labels == b.labels) > 0.8
    assert np.abs(a.rgb.astype(int) - b.rgb).mean() > 5.0
    assert apartment(1) == other and replace(other, name="x") != other
