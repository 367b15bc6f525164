"""The torch ray caster against the numba one: geometry and colours equal, light within a stated tolerance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training.synthetic.raycaster import RayImages, TorchRayCaster
from training.synthetic.torch_light import Grids, Paints, Surface
from training.synthetic.torch_solids import Rays, Solids, face_of, occluded, point_of, trace
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.scenes import lightmap
from worldfm_ros.scenes import solids as numba_solids
from worldfm_ros.scenes.apartment import apartment
from worldfm_ros.scenes.raycaster import RayCaster, RayImage
from worldfm_ros.scenes.scene import Box, Cylinder, Light, Material, Scene, Sphere, Texture
from worldfm_ros.scenes.viewpoints import viewpoints

CAMERA = Intrinsics.from_hfov(72, 50, math.radians(80.0))  # no multiple of a tile
CPU = torch.device("cpu")
NAMES = {k: f"thing {k}" for k in range(1, 200)}
COLORS = "#c39a6b #3a7049 #4e3683"


def random_scene(seed: int, count: int = 40, textures=(Texture.PLAIN,), lights=(), ambient=(1.0, 1.0, 1.0)) -> Scene:
    """Solids of all shapes above a floor, with textures in turn."""
    rng = np.random.default_rng(seed)
    shapes = (Box, Cylinder, Sphere)
    solids = [Box((0.0, 0.0, -0.5), (12.0, 12.0, 1.0), Material.hex(COLORS, textures[0], 0.5), 1)]
    solids += [shapes[k % 3]((*rng.uniform(-2.0, 2.0, 2), rng.uniform(0.2, 2.0)), tuple(rng.uniform(0.1, 1.2, 3)),
                             Material.hex(COLORS, textures[k % len(textures)], rng.uniform(0.2, 0.6), seed=k), k + 2,
                             rng.uniform(-4.0, 4.0)) for k in range(count)]
    return Scene("random", solids, tuple(lights), ambient, NAMES)


def cameras(seed: int, count: int) -> list[Pose]:
    rng = np.random.default_rng(seed)
    return [Pose.looking_at((5.0 * math.cos(a), 5.0 * math.sin(a), rng.uniform(0.5, 4.0)), rng.uniform(-1.0, 1.0, 3))
            for a in rng.uniform(0.0, math.tau, count)]


def both(scene: Scene, poses, texel: float, samples: int = 1) -> tuple[list[RayImage], RayImages]:
    numba = RayCaster(scene, texel, workers=1)
    return ([numba.render(pose, CAMERA, samples) for pose in poses],
            TorchRayCaster(scene, texel).render(poses, CAMERA, samples))


def assert_same_geometry(expected: list[RayImage], got: RayImages) -> None:
    """Depth, labels and normals of more than 99.5 % of the pixels; the rest grazes edges."""
    depth, labels, normals = (np.stack([getattr(e, name) for e in expected]) for name in ("depth", "labels", "normals"))
    assert (labels > 0).mean() > 0.3
    assert np.mean(np.abs(got.depth.numpy() - depth) <= 1e-4 * depth) > 0.995
    assert np.mean(got.labels.numpy() == labels) > 0.995
    assert np.mean(np.abs(got.normals.numpy() - normals).max(axis=-1) < 1e-3) > 0.995


def psnr(expected: list[RayImage], got: RayImages) -> float:
    error = np.stack([e.rgb for e in expected]).astype(float) - got.rgb.numpy()
    return -10.0 * math.log10(np.mean(error**2) / 255.0**2)


@pytest.mark.parametrize("seed", [0, 1])
def test_geometry_equals_the_numba_caster(seed):
    expected, got = both(random_scene(seed), cameras(seed, 3), texel=6.0)
    assert_same_geometry(expected, got)


def test_the_apartment_is_the_same_place():
    """Geometry alone: its many lamps take a CPU long, and light is compared in a smaller scene below."""
    scene = apartment(1)
    solids, geometry = Solids.of(scene, CPU), numba_solids.pack(scene.primitives)
    for pose in viewpoints(scene, 0, 2):
        directions = pose.rotation.apply(CAMERA.unproject(np.ones((50, 72))).reshape(-1, 3))
        rays = Rays(torch.tensor(pose.translation).float().expand(50, 1, 3),
                    torch.tensor(directions).float().reshape(50, 72, 3))  # a bundle for each row
        t, index = (x.numpy().ravel() for x in trace(solids, rays))
        expected = [numba_solids.trace(geometry, *pose.translation, *d, math.inf, False) for d in directions]
        depth, solid = np.array(expected).T
        assert np.mean(np.abs(t - depth) <= 1e-4 * depth) > 0.995
        assert np.mean(index == solid) > 0.995


def test_bundles_lose_no_hit():
    """Whatever rays are put together, near ones or not, each meets what it meets alone."""
    solids = Solids.of(random_scene(3), CPU)
    generator = torch.Generator().manual_seed(0)
    for width in (0.02, 0.5, 3.0):
        origins, directions = (torch.randn(20, 1, 3, generator=generator) * scale
                               + width * torch.randn(20, 16, 3, generator=generator) for scale in (3.0, 1.0))
        for limit in (1.0, math.inf):
            t, index = trace(solids, Rays(origins, directions, limit))
            alone = trace(solids, Rays(origins.reshape(-1, 1, 3), directions.reshape(-1, 1, 3), limit))
            assert (index >= 0).float().mean() > 0.1 and (t[index >= 0] < limit).all()
            torch.testing.assert_close(t, alone[0].reshape(t.shape))
            assert (index == alone[1].reshape(t.shape)).all()


def test_what_lies_in_the_way_of_a_lamp():
    ball = Scene("ball", [Sphere((0.0, 0.0, 1.0), (1.0, 1.0, 1.0), Material.hex(COLORS), 1)], (), (0, 0, 0), NAMES)
    lamp, radius = torch.tensor([0.0, 0.0, 3.0]), torch.linspace(0.0, 2.0, 201)
    points = torch.stack([radius, 0.0 * radius, 0.0 * radius], dim=1)[None]
    hidden = occluded(Solids.of(ball, CPU), Rays(points, lamp - points, limit=1.0))
    edge = 3.0 * math.tan(math.asin(0.5 / 2.0))  # the tangent cone from the lamp, on the floor
    assert (hidden[0] == (radius < edge)).all()


def test_faces_are_those_of_the_numba_kernels():
    rng = np.random.default_rng(0)
    for shape in numba_solids.SHAPES.values():
        uv = rng.uniform(-0.99, 0.99, (200, 2))
        faces = rng.integers(0, 6, 200)
        kind = torch.full((200,), shape)
        points = point_of(kind, torch.tensor(faces), *torch.tensor(uv).T)
        expected = [numba_solids.point_of(shape, face, u, v) for face, (u, v) in zip(faces, uv, strict=True)]
        np.testing.assert_allclose(torch.stack(points, dim=1), expected, atol=1e-12)
        expected = np.array([numba_solids.face_of(shape, *point) for point in torch.stack(points, dim=1).numpy()])
        np.testing.assert_allclose(torch.stack(face_of(kind, *points), dim=1), expected, atol=1e-12)


@pytest.mark.parametrize("texture", list(Texture), ids=lambda texture: texture.name.lower())
def test_colours_of_surfaces_are_equal(texture):
    scene = random_scene(5, count=12, textures=(texture,))
    solids, geometry = Solids.of(scene, CPU), numba_solids.pack(scene.primitives)
    points, _ = (grids := Grids.of(solids, 0.15)).points(solids)
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))[:1500]
    index, points = grids.solid[chosen], points[chosen] + 0.013  # off the grid, where patterns have no edges
    blur = torch.linspace(0.001, 0.2, len(chosen))
    surface = Surface.at(solids, Paints.of(scene, CPU), index, points, lambda normals: blur)
    paint = lightmap.mix_paint(scene)
    expected = np.array([lightmap.surface(geometry, paint, i, *p, b) for i, p, b in
                         zip(index.numpy(), points.double().numpy(), blur.double().numpy(), strict=True)])
    np.testing.assert_array_equal(surface.face, expected[:, 0])
    close = np.abs(surface.albedo.numpy() - expected[:, 3:]).max(axis=1) < 2e-3
    assert close.mean() > 0.99  # the rest lies on an edge of the pattern


def test_light_equals_the_numba_lightmap():
    """Two lamps, one of them a panel, and the light that bounces once: within 50 dB."""
    panel = Light((-1.0, 1.0, 3.5), (6.0, 7.0, 9.0), size=(1.0, 1.0, 0.0), direction=(0.0, 0.0, -1.0))
    lamps = [Light((1.0, -2.0, 3.0), (9.0, 8.0, 6.0)), panel]
    scene = random_scene(7, 16, (Texture.TILES, Texture.PLAIN, Texture.WOOD), lamps, (0.2, 0.2, 0.25))
    expected, got = both(scene, cameras(1, 2), texel=0.5, samples=2)
    assert_same_geometry(expected, got)
    assert psnr(expected, got) > 50.0


def test_a_camera_sees_the_same_alone_and_among_others():
    caster = TorchRayCaster(random_scene(2, 10), 6.0)
    poses = cameras(4, 3)
    together = caster.render(poses, CAMERA)
    alone = caster.render(poses[2:], CAMERA)
    for name in ("rgb", "depth", "labels", "normals"):
        torch.testing.assert_close(getattr(together, name)[2:], getattr(alone, name), atol=0, rtol=0)


def test_a_ray_that_leaves_the_scene_is_ambient_light():
    ball = Sphere((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), Material.hex(COLORS), 1)
    scene = Scene("ball", [ball], (), (0.1, 0.2, 0.3), NAMES)
    expected, got = both(scene, [Pose.looking_at((3.0, 0.0, 0.0), (0.0, 0.0, 0.0))], texel=1.0)
    assert got.labels[0, 25, 36] == 1 and got.labels[0, 0, 0] == got.depth[0, 0, 0] == 0
    np.testing.assert_array_equal(got.rgb[0, 0, 0], expected[0].rgb[0, 0])


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="texel"):
        TorchRayCaster(random_scene(0, 2), texel=0.0)
    caster = TorchRayCaster(random_scene(0, 2), texel=4.0)
    with pytest.raises(ValueError, match="one pose"):
        caster.render([], CAMERA)
    with pytest.raises(ValueError, match="one sample"):
        caster.render(cameras(0, 1), CAMERA, samples=0)
