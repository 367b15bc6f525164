"""Camera encodings: PRoPE against per-token matrices and by its invariances, rays and pose parameters by geometry."""

from __future__ import annotations

import frame_oracle
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
import torch

from worldfm_ros.frame_model.camera_encoding import (
    Cameras,
    PropeTransforms,
    plucker_rays,
    pose_parameters,
    projection_matrices,
    prope_attention,
)
from worldfm_ros.geometry import Intrinsics, Pose

SHAPES = [  # views, rows, columns, head dim
    (2, 3, 5, 24),
    (3, 2, 2, 72),
    (4, 1, 3, 40),
]


def random_cameras(batch, views, image_hw=(96, 160), seed=0, spread=1.0) -> Cameras:
    rng = np.random.default_rng(seed)
    w2c = np.zeros((batch, views, 4, 4))
    w2c[..., :3, :3] = Rotation.random(batch * views, random_state=seed).as_matrix().reshape(batch, views, 3, 3)
    w2c[..., :3, 3] = rng.normal(size=(batch, views, 3)) * spread
    w2c[..., 3, 3] = 1.0
    K = np.zeros((batch, views, 3, 3))
    K[..., 0, 0], K[..., 1, 1] = rng.uniform(60, 200, (2, batch, views))
    K[..., 0, 2], K[..., 1, 2] = rng.uniform(40, 90, (2, batch, views))
    K[..., 2, 2] = 1.0
    return Cameras(w2c, K, image_hw)


def moved_world(cameras: Cameras, seed=5, shift=(0.0, 0.0, 0.0)) -> Cameras:
    """The same views described in another world frame."""
    G = np.eye(4)
    G[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    G[:3, 3] = shift
    return Cameras(cameras.w2c @ torch.from_numpy(G), cameras.K, cameras.image_hw)


def prope(cameras: Cameras, grid, head_dim, recentre=True) -> PropeTransforms:
    cameras_used = cameras.recentred() if recentre else cameras
    P = projection_matrices(cameras_used.w2c, cameras.normalized_K)
    return PropeTransforms.prepare(P, grid, head_dim, "cpu", torch.float64)


def random_qkv(views, rows, columns, head_dim, batch=2, heads=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, batch, heads, views * rows * columns, head_dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("recentre", [False, True], ids=["world", "recentred"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prope_is_the_product_of_per_token_matrices(shape, recentre):
    views, rows, columns, head_dim = shape
    cameras = random_cameras(2, views)
    q, k, v = random_qkv(*shape)
    ours = prope_attention(q, k, v, prope(cameras, (rows, columns), head_dim, recentre)).numpy()
    for b in range(2):
        P = [frame_oracle.normalized_projection(w2c.numpy(), K.numpy(), cameras.image_hw)
             for w2c, K in zip(cameras.w2c[b], cameras.K[b], strict=True)]
        matrices = [frame_oracle.token_matrices(P[view], row, column, head_dim)
                    for view in range(views) for row in range(rows) for column in range(columns)]
        everything = np.ones((len(matrices), len(matrices)), bool)
        for h in range(2):
            slow = frame_oracle.attend(q[b, h].numpy(), k[b, h].numpy(), v[b, h].numpy(), matrices, everything)
            np.testing.assert_allclose(ours[b, h], slow, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prope_does_not_depend_on_the_world_frame(shape):
    views, rows, columns, head_dim = shape
    cameras = random_cameras(2, views)
    q, k, v = random_qkv(*shape)
    here = prope_attention(q, k, v, prope(cameras, (rows, columns), head_dim))
    for shift, tolerance in (((1.0, -2.0, 3.0), 1e-12), ((1e4, 0.0, 5.0), 1e-9)):
        there = prope_attention(q, k, v, prope(moved_world(cameras, shift=shift), (rows, columns), head_dim))
        torch.testing.assert_close(there, here, rtol=0, atol=tolerance)


def test_prope_of_equal_cameras_is_rope_alone():
    views, rows, columns, head_dim = 2, 2, 3, 24
    one = random_cameras(1, 1)
    same = Cameras(one.w2c.expand(2, views, 4, 4), one.K.expand(2, views, 3, 3), one.image_hw)
    q, k, v = random_qkv(views, rows, columns, head_dim)
    identity = torch.eye(4).double().expand(2, views, 4, 4)
    rope = PropeTransforms.prepare(identity, (rows, columns), head_dim, "cpu", torch.float64)
    torch.testing.assert_close(prope_attention(q, k, v, prope(same, (rows, columns), head_dim)),
                               prope_attention(q, k, v, rope), rtol=0, atol=1e-12)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert (prope_attention(q, k, v, rope) - plain).abs().max() > 1e-2


def test_keys_and_values_of_a_view_know_its_own_camera_alone():
    cameras, grid, head_dim = random_cameras(1, 3), (2, 3), 24
    kv = random_qkv(1, *grid, head_dim)[:2]
    moved = cameras.w2c.clone()
    moved[:, 0] = random_cameras(1, 1, seed=9).w2c[:, 0]  # another target
    first = prope(cameras, grid, head_dim).views(2, 3).keys_values(kv)
    second = prope(Cameras(moved, cameras.K, cameras.image_hw), grid, head_dim).views(2, 3).keys_values(kv)
    assert torch.equal(first, second)


def test_recentring_keeps_relative_poses():
    cameras = random_cameras(2, 3, spread=100.0)
    recentred = cameras.recentred()
    assert torch.equal(recentred.w2c[:, -1], torch.eye(4).double().expand(2, 4, 4))
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(recentred.w2c[:, i] @ torch.linalg.inv(recentred.w2c[:, j]),
                                       cameras.w2c[:, i] @ torch.linalg.inv(cameras.w2c[:, j]), rtol=0, atol=1e-10)


def test_rays_meet_the_camera_and_the_token_centres():
    cameras, (rows, columns) = random_cameras(2, 4), (3, 5)
    rays = plucker_rays(cameras.w2c, cameras.K, cameras.image_hw, (rows, columns)).numpy()
    w2c, K = cameras.w2c.numpy(), cameras.K.numpy()
    for b, view, row, column in np.ndindex(2, 4, rows, columns):
        moment, d = rays[b, view, row, column, :3], rays[b, view, row, column, 3:]
        eye = np.linalg.inv(w2c[b, view])[:3, 3]
        np.testing.assert_allclose(np.cross(eye, d), moment, atol=1e-12)  # the ray passes through the camera centre
        point = K[b, view] @ (w2c[b, view, :3, :3] @ (eye + 3.0 * d) + w2c[b, view, :3, 3])
        assert point[2] > 0
        np.testing.assert_allclose(point[:2] / point[2], [(column + 0.5) * 160 / columns, (row + 0.5) * 96 / rows])


def test_pose_parameters_are_relative_to_the_reference():
    cameras = random_cameras(1, 3)
    parameters = pose_parameters(cameras)
    assert parameters.shape == (1, 3, 16)
    torch.testing.assert_close(parameters[0, 2, :12], torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]).double())
    moved = pose_parameters(moved_world(cameras, shift=(1e4, 2.0, 3.0)))
    torch.testing.assert_close(moved, parameters, rtol=0, atol=1e-9)


def test_cameras_from_poses_see_what_geometry_sees():
    rng = np.random.default_rng(3)
    poses = [Pose(Rotation.random(random_state=i), rng.normal(size=3)) for i in range(3)]
    intrinsics = [Intrinsics(64, 48, 50.0, 55.0, 30.0, 20.0)] * 2 + [Intrinsics(320, 200, 250.0, 240.0, 150.0, 90.0)]
    cameras = Cameras.from_poses(poses, intrinsics)
    assert cameras.image_hw == (48, 64)
    for view in range(3):
        in_camera = rng.uniform([-1, -1, 2], [1, 1, 4])
        world = np.append(poses[view].apply(in_camera), 1.0)
        seen = (cameras.normalized_K[0, view] @ (cameras.w2c[0, view] @ torch.from_numpy(world))[:3]).numpy()
        pixel = intrinsics[view].project(in_camera)
        size = np.array([intrinsics[view].width, intrinsics[view].height])
        np.testing.assert_allclose(seen[:2] / seen[2], (pixel + 0.5) / size - 0.5, atol=1e-12)


def broken(**changes):
    cameras = random_cameras(1, 3)
    values = {"w2c": cameras.w2c.clone(), "K": cameras.K.clone(), "image_hw": cameras.image_hw}
    for name, change in changes.items():
        values[name] = change(values[name])
    return values


def put(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor
    return change


@pytest.mark.parametrize("changes, message", [
    ({"w2c": put((0, 1, 0, 3), float("nan"))}, "w2c holds numbers that are not finite, got for item 0, view 1"),
    ({"K": put((0, 2, 0, 0), float("inf"))}, "K holds numbers that are not finite, got for item 0, view 2"),
    ({"w2c": lambda w2c: w2c * 1.1}, "w2c is a rotation"),
    ({"w2c": put((0, 0, 0), torch.tensor([-1.0, 0, 0, 0]).double())}, "w2c is a rotation"),
    ({"w2c": put((0, 0, 3, 0), 0.5)}, "w2c is a rotation"),
    ({"K": put((0, 0, 0, 0), 0.0)}, "focal lengths .* are positive, got for item 0, view 0"),
    ({"K": put((0, 0, 1, 1), -80.0)}, "focal lengths .* are positive"),
    ({"K": put((0, 0, 0, 1), 2.0)}, "K is .fx 0 cx"),
    ({"K": lambda K: K[:, :2]}, "cameras are w2c"),
    ({"image_hw": lambda hw: (0, 64)}, "image_hw is a positive"),
])
def test_bad_cameras_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Cameras(**broken(**changes))


def test_mirrored_poses_are_refused():
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1])).double().expand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="w2c is a rotation"):
        Cameras(mirror, random_cameras(1, 3).K, (96, 160))


def test_head_dims_that_do_not_split_are_refused():
    with pytest.raises(ValueError, match="multiples of 8, got 20"):
        prope(random_cameras(1, 2), (2, 2), 20)
