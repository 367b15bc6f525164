"""How camera poses reach the network: not at all, PRoPE, Pluecker rays or pose parameters (paper 2.4.1).

An encoding may add features to a view's tokens and may transform the queries, keys, values and outputs of attention.
Views are ordered [target, anchor drawing, reference]; tokens are view-major, row-major in a view.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.geometry import Intrinsics, Pose

RIGID_TOLERANCE = 1e-4
ROPE_BASE = 100.0


@dataclass(frozen=True, eq=False)
class Cameras:
    """The cameras of the views, on the host, in the order [target, anchor drawing, reference]. float64.

    w2c (B, V, 4, 4): camera <- world, optical axes. K (B, V, 3, 3): pixels of an image of image_hw = (H, W), whose
    edges are 0 and W (a centred principal point is W / 2). Arrays and tensors are accepted.
    Raises ValueError for other shapes, numbers that are not finite, poses that are not rigid, skew, focal lengths <= 0.
    """

    w2c: Tensor
    K: Tensor
    image_hw: tuple[int, int]

    def __post_init__(self) -> None:
        w2c, K = (torch.as_tensor(x, device="cpu").to(torch.float64) for x in (self.w2c, self.K))
        height, width = (int(side) for side in self.image_hw)
        if w2c.ndim != 4 or w2c.shape[2:] != (4, 4) or K.shape != (*w2c.shape[:2], 3, 3):
            raise ValueError("cameras are w2c (B, V, 4, 4) and K (B, V, 3, 3), "
                             f"got {tuple(w2c.shape)} and {tuple(K.shape)}")
        if height < 1 or width < 1:
            raise ValueError(f"image_hw is a positive height and width in pixels, got {tuple(self.image_hw)}")
        _refuse("w2c holds numbers that are not finite", ~w2c.isfinite().all(-1).all(-1), w2c)
        _refuse("K holds numbers that are not finite", ~K.isfinite().all(-1).all(-1), K)
        R, bottom = w2c[..., :3, :3], w2c.new_tensor([0.0, 0.0, 0.0, 1.0])
        turned = (R @ R.mT - torch.eye(3, dtype=R.dtype)).abs().amax((-1, -2)) <= RIGID_TOLERANCE
        rigid = turned & (torch.linalg.det(R) > 0) & (w2c[..., 3, :] == bottom).all(-1)
        _refuse("w2c is a rotation and a translation over [0 0 0 1]", ~rigid, w2c)
        _refuse("focal lengths K[0, 0] and K[1, 1] are positive", (K[..., 0, 0] <= 0) | (K[..., 1, 1] <= 0), K)
        pinhole = torch.stack([K[..., 0, 1], K[..., 1, 0], K[..., 2, 0], K[..., 2, 1], K[..., 2, 2] - 1.0], -1)
        _refuse("K is [fx 0 cx; 0 fy cy; 0 0 1]", pinhole.abs().amax(-1) > 1e-6, K)
        for name, value in (("w2c", w2c), ("K", K), ("image_hw", (height, width))):
            object.__setattr__(self, name, value)

    @classmethod
    def from_poses(cls, T_world_camera: list[Pose], intrinsics: list[Intrinsics]) -> Cameras:
        """A batch of one from a pose and intrinsics a view, whose images may differ in size.

        Pixel centres lie at integers in Intrinsics, at halves here. Every K is brought to the first view's image size.
        """
        height, width = intrinsics[0].height, intrinsics[0].width
        K = np.stack([camera.resized(width, height).matrix for camera in intrinsics])
        K[:, :2, 2] += 0.5
        w2c = np.stack([pose.inverse().matrix for pose in T_world_camera])
        return cls(w2c[None], K[None], (height, width))

    @property
    def views(self) -> int:
        return self.w2c.shape[1]

    @property
    def normalized_K(self) -> Tensor:  # (B, V, 3, 3)
        return normalize_intrinsics(self.K, self.image_hw)

    def recentred(self) -> Cameras:
        """The same views, with the reference's camera frame as the world."""
        return Cameras(relative_to_last(self.w2c), self.K, self.image_hw)


def relative_to_last(w2c: Tensor) -> Tensor:  # (B, V, 4, 4) float64 -> the same
    """Camera <- last view's camera: only relative poses are left, however far away the world's origin is.

    The last view's (the reference's) becomes the identity in every frame, so what was computed from it stays valid.
    """
    relative = w2c @ torch.linalg.inv(w2c[:, -1:])
    relative[:, -1] = torch.eye(4, dtype=w2c.dtype)
    relative[..., 3, :] = w2c.new_tensor([0.0, 0.0, 0.0, 1.0])
    return relative


def _refuse(message: str, bad: Tensor, values: Tensor) -> None:  # bad (B, V) bool, values (B, V, ., .)
    if bad.any():
        batch, view = bad.nonzero()[0].tolist()
        raise ValueError(f"{message}, got for item {batch}, view {view}: {values[batch, view].tolist()}")


def normalize_intrinsics(K: Tensor, image_hw: tuple[int, int]) -> Tensor:  # (..., 3, 3) -> (..., 3, 3)
    """Focal lengths in image widths and heights, principal point from the image centre: fx / W, cx / W - 1/2, ..."""
    height, width = image_hw
    normalized = torch.zeros_like(K)
    normalized[..., 0, 0] = K[..., 0, 0] / width
    normalized[..., 1, 1] = K[..., 1, 1] / height
    normalized[..., 0, 2] = K[..., 0, 2] / width - 0.5
    normalized[..., 1, 2] = K[..., 1, 2] / height - 0.5
    normalized[..., 2, 2] = 1.0
    return normalized


def projection_matrices(w2c: Tensor, normalized_K: Tensor | None = None) -> Tensor:  # (..., 4, 4) image <- world
    """P = K w2c, with K lifted to 4x4; without K, P = w2c (known as GTA)."""
    if normalized_K is None:
        return w2c
    lifted = torch.zeros_like(w2c)
    lifted[..., :3, :3] = normalized_K
    lifted[..., 3, 3] = 1.0
    return lifted @ w2c


# ---- attention transforms of queries and outputs (B, heads, N, d) and of stacked keys and values (2, B, heads, N, d),
# where the N tokens are those of one or more of the first views


@dataclass(frozen=True, eq=False)
class NoTransforms:
    """Attention without cameras."""

    def views(self, first: int, last: int) -> NoTransforms:
        return self

    def queries(self, q: Tensor) -> Tensor:
        return q

    def keys_values(self, kv: Tensor) -> Tensor:
        return kv

    def outputs(self, o: Tensor) -> Tensor:
        return o


@dataclass(frozen=True, eq=False)
class PropeTransforms:
    """Projective positional encoding (PRoPE): everything that depends on cameras and grid, computed once a frame.

    With d numbers a head: the first d / 2 are groups of 4, multiplied by a 4x4 of the view; then d / 4 rotate with the
    token's column and d / 4 with its row, counted anew in every view.
        q <- P_i^T q    k, v <- P_j^-1 k, v    output <- P_i output    so q k sees P_i P_j^-1, which also carries v
    Both at once are x * cosine + (x @ matrix) * sine, where matrix holds the 4x4s and swaps the partners of a rotation.
    """

    matrices: Tensor  # (3, B, V, d, d) for queries, for keys and values, for outputs; of row vectors
    cosine: Tensor  # (n, d) for the n tokens of a view; 0 in the projective half
    sine: Tensor  # (n, d); 1 in the projective half

    @classmethod
    def prepare(cls, P: Tensor, grid: tuple[int, int], head_dim: int, device, dtype) -> PropeTransforms:
        """From image <- world matrices P (B, V, 4, 4) float64 on the host. Raises ValueError unless head_dim is 8 m."""
        if head_dim % 8:
            raise ValueError(f"prope takes head dims that are multiples of 8, got {head_dim}")
        half = head_dim // 2
        blocks = torch.stack([P, torch.linalg.inv(P).mT, P.mT])
        matrices = torch.zeros(*blocks.shape[:3], head_dim, head_dim, dtype=P.dtype)
        for start in range(0, half, 4):
            matrices[..., start:start + 4, start:start + 4] = blocks
        partner = torch.arange(half).view(2, 2, -1).flip(1).flatten()  # the halves of each quarter change places
        turn = torch.tensor([1.0, 1.0, -1.0]).to(P)[:, None, None, None]  # outputs turn back
        matrices[..., half + partner, half + torch.arange(half)] = turn
        return cls(matrices.to(device, dtype), *rope_rotation(*grid, head_dim, device, dtype))

    def views(self, first: int, last: int) -> PropeTransforms:
        """Of the views first..last-1."""
        return PropeTransforms(self.matrices[:, :, first:last], self.cosine, self.sine)

    def queries(self, q: Tensor) -> Tensor:
        return self._apply(q, 0)

    def keys_values(self, kv: Tensor) -> Tensor:
        return self._apply(kv, 1)

    def outputs(self, o: Tensor) -> Tensor:
        return self._apply(o, 2)

    def _apply(self, x: Tensor, which: int) -> Tensor:  # (..., B, heads, N, d) -> the same
        x = x.unflatten(-2, (-1, self.cosine.shape[-2]))  # (..., B, heads, views, n, d)
        mixed = x @ self.matrices[which, :, None, :x.shape[-3]]
        return torch.addcmul(x * self.cosine, mixed, self.sine).flatten(-3, -2)


Transforms = NoTransforms | PropeTransforms


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def rope_rotation(rows: int, columns: int, head_dim: int, device, dtype) -> tuple[Tensor, Tensor]:
    """PropeTransforms' cosine and sine: of column * 100^(-k / m), then of row * 100^(-k / m), k = 0..m-1, m = d / 8.

    A pair (a, b) turns to (a cos + b sin, b cos - a sin).
    """
    m = head_dim // 8
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    position = torch.stack([column.flatten(), row.flatten()], dim=-1).double()
    angle = position[..., None] * ROPE_BASE ** (-torch.arange(m).double() / m)  # (n, 2, m)
    cosine = torch.stack([angle.cos(), angle.cos()], dim=2).flatten(1)
    sine = torch.stack([angle.sin(), -angle.sin()], dim=2).flatten(1)
    projective = torch.zeros(rows * columns, head_dim // 2).double()
    return (torch.cat([projective, cosine], dim=1).to(device, dtype),
            torch.cat([projective + 1.0, sine], dim=1).to(device, dtype))


def prope_attention(q: Tensor, k: Tensor, v: Tensor, transforms: PropeTransforms) -> Tensor:
    """softmax attention between all views with PRoPE. q, k, v and the result (B, heads, V n, d)."""
    k, v = transforms.keys_values(torch.stack([k, v]))
    return transforms.outputs(nn.functional.scaled_dot_product_attention(transforms.queries(q), k, v))


# ---- token features


def plucker_rays(w2c: Tensor, K: Tensor, image_hw: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """(B, V, rows, columns, 6): (o x d, d) in world axes, d from the camera centre o through each token's centre.

    w2c (B, V, 4, 4), K (B, V, 3, 3) for an image whose edges are 0 and W. Depends on the world's origin.
    """
    (height, width), (rows, columns) = image_hw, grid
    v, u = torch.meshgrid((torch.arange(rows).to(K) + 0.5) * height / rows,
                          (torch.arange(columns).to(K) + 0.5) * width / columns, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1)  # (rows, columns, 3)
    R, t = w2c[..., :3, :3], w2c[..., :3, 3:]
    camera_to_world = R.mT @ torch.linalg.inv(K)
    d = nn.functional.normalize(torch.einsum("bvij,rcj->bvrci", camera_to_world, pixels), dim=-1)
    o = -(R.mT @ t)[:, :, None, None, :, 0].expand_as(d)
    return torch.cat([torch.linalg.cross(o, d), d], dim=-1)


def pose_parameters(cameras: Cameras) -> Tensor:  # (B, V, 16) float64
    """Rotation (9) and position (3) of each camera in the reference's frame, and fx, fy, cx, cy in image sizes."""
    T_reference_camera = torch.linalg.inv(relative_to_last(cameras.w2c))[..., :3, :]
    K = cameras.normalized_K
    intrinsics = torch.stack([K[..., 0, 0], K[..., 1, 1], K[..., 0, 2], K[..., 1, 2]], dim=-1)
    return torch.cat([T_reference_camera[..., :3].flatten(-2), T_reference_camera[..., 3], intrinsics], dim=-1)


# ---- the four encodings. features: added to the tokens, (B, V, n or 1, D) or None; transforms: for every attention


class NoCameras(nn.Module):
    """Cameras are not used: the anchor drawing alone carries the change of view, as in the released inference."""

    def __init__(self, config: FrameTransformerConfig) -> None:
        super().__init__()

    def check(self, cameras: Cameras | None, views: int) -> None:
        if cameras is not None:
            raise ValueError("cameras were given to a network with camera_encoding none, which would not use them")

    def features(self, cameras: Cameras | None, grid: tuple[int, int]) -> Tensor | None:
        return None

    def transforms(self, cameras: Cameras | None, grid: tuple[int, int], device, dtype) -> Transforms:
        return NoTransforms()


class CameraEncoding(NoCameras):
    """What the encodings that use cameras have in common."""

    def check(self, cameras: Cameras | None, views: int) -> None:
        if cameras is None:
            raise ValueError(f"camera_encoding {type(self).__name__.lower()} needs cameras, got none")
        if cameras.views != views:
            raise ValueError(f"{views} views are given and cameras for {cameras.views}")


class Prope(CameraEncoding):
    """PRoPE in every attention, on relative poses; no parameters. The paper's choice."""

    def __init__(self, config: FrameTransformerConfig) -> None:
        super().__init__(config)
        self.head_dim = config.head_dim

    def transforms(self, cameras: Cameras, grid: tuple[int, int], device, dtype) -> PropeTransforms:
        P = projection_matrices(relative_to_last(cameras.w2c), cameras.normalized_K)
        return PropeTransforms.prepare(P, grid, self.head_dim, device, dtype)


class Plucker(CameraEncoding):
    """Rays through an MLP, added to the tokens.

    They are taken in the frame of w2c (the released definition): give recentred() cameras unless the weights were
    trained with others.
    """

    def __init__(self, config: FrameTransformerConfig) -> None:
        super().__init__(config)
        self.projector = projector(6, config.hidden_size)

    def features(self, cameras: Cameras, grid: tuple[int, int]) -> Tensor:
        rays = plucker_rays(cameras.w2c, cameras.K, cameras.image_hw, grid)
        return self.projector(rays.flatten(2, 3).to(self.projector[0].weight))


class Parametric(CameraEncoding):
    """Relative pose and normalised intrinsics through an MLP, the same vector added to all tokens of a view."""

    def __init__(self, config: FrameTransformerConfig) -> None:
        super().__init__(config)
        self.projector = projector(16, config.hidden_size)

    def features(self, cameras: Cameras, grid: tuple[int, int]) -> Tensor:
        return self.projector(pose_parameters(cameras).to(self.projector[0].weight))[:, :, None]


def projector(inputs: int, hidden_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))


ENCODINGS = {"none": NoCameras, "prope": Prope, "plucker": Plucker, "parametric": Parametric}
