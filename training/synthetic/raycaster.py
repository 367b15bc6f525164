"""The pictures of worldfm_ros.scenes.raycaster for many cameras at once, in torch on a CPU or a GPU.

Same scene, same rules: depth, labels and normals are equal to that module's but for rays that graze an edge (float32
here, float64 there), textures and direct light too; bounced light is gathered from other directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import torch
from torch import Tensor

from training.synthetic.torch_light import Paints, Surface, bake
from training.synthetic.torch_solids import Rays, Solids, trace
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.scenes.scene import Scene

TILE = 16  # pixels; the rays of a square tile are a bundle


@dataclass(frozen=True, eq=False)
class RayImages:
    """What B cameras see: rgb (B, H, W, 3) uint8; depth (B, H, W) float32, metres along the optical z axis; labels
    (B, H, W) int32; normals (B, H, W, 3) float32, world axes, facing the camera. All 0 where a ray leaves the scene,
    but for rgb, which is the ambient light. Depth, labels and normals are those of the ray through a pixel's centre."""

    rgb: Tensor
    depth: Tensor
    labels: Tensor
    normals: Tensor


class TorchRayCaster:
    """Draws one scene from any poses on a device, cpu or cuda. The light is worked out here, once, with a lightmap
    vertex every `texel` metres; that is work for a GPU. Raises ValueError for a texel that is not a positive length."""

    def __init__(self, scene: Scene, texel: float = 0.15, device: torch.device | str = "cpu") -> None:
        if not 0.0 < texel < math.inf:
            raise ValueError(f"the lightmap's texel is a positive length in metres, got {texel}")
        self.scene = scene
        self.device = torch.device(device)
        self._solids = Solids.of(scene, self.device)
        self._paints = Paints.of(scene, self.device)
        self._labels = torch.tensor([solid.label for solid in scene.primitives], dtype=torch.int32, device=self.device)
        self._light = bake(scene, self._solids, self._paints, texel)

    def render(self, poses: Sequence[Pose], intrinsics: Intrinsics, samples: int = 1) -> RayImages:
        """The pictures of cameras at T_world_camera `poses`, optical axes; colour averages samples x samples rays a
        pixel. Raises ValueError for less than one pose or sample."""
        if samples < 1 or not poses:
            raise ValueError(f"give one sample and one pose or more, got {samples} and {len(poses)}")
        size = (len(poses), intrinsics.height, intrinsics.width)
        rays = _rays(poses, intrinsics, self.device)
        hits = self._see(rays, intrinsics.fx)
        depth, labels, normals = (_untile(x, size) for x in (hits.depth, hits.labels, hits.normals))
        if samples > 1:
            fine = intrinsics.resized(intrinsics.width * samples, intrinsics.height * samples)
            hits, size = self._see(_rays(poses, fine, self.device), fine.fx), (len(poses), fine.height, fine.width)
        color = _untile(hits.color, size).permute(0, 3, 1, 2)
        color = torch.nn.functional.avg_pool2d(color, samples).permute(0, 2, 3, 1)
        rgb = (255.0 * color ** (1.0 / 2.2) + 0.5).to(torch.uint8)
        return RayImages(rgb, depth[..., 0], labels[..., 0], normals)

    def _see(self, rays: Rays, focal: float) -> _Hits:
        """What bundles of rays of length 1 along the optical axis meet, for cameras of a focal length in pixels."""
        t, index = trace(self._solids, rays)
        directions, hit = rays.directions, index >= 0
        shape, index, t = t.shape, index[hit], t[hit]
        d = directions[hit]
        origins = rays.origins.expand_as(directions)[hit]
        length = d.norm(dim=1)

        def blur(normals: Tensor) -> Tensor:  # between the two widths of a pixel's footprint
            slant = ((normals * d).sum(1).abs() / length).clamp(min=0.05)
            return t / focal * length / slant.sqrt()

        surface = Surface.at(self._solids, self._paints, index, origins + t[:, None] * d, blur)
        light = self._light.at(index, surface.face, surface.u, surface.v) + self._paints.emission[index][:, None]
        facing = torch.where((surface.normals * d).sum(1, keepdim=True) > 0.0, -surface.normals, surface.normals)
        linear = torch.tensor(self.scene.ambient, device=self.device).expand(*shape, 3).clone()
        linear[hit] = surface.albedo * light
        depth, labels = torch.zeros(*shape, 1, device=self.device), self._labels.new_zeros(*shape, 1)
        depth[hit], labels[hit] = t[:, None], self._labels[index][:, None]
        normals = torch.zeros_like(directions)
        normals[hit] = facing
        return _Hits(_tone(self.scene.exposure * linear), depth, labels, normals)


@dataclass(frozen=True, eq=False)
class _Hits:
    """In tiles (N, 256, channels); color 0..1, linear for display."""

    color: Tensor
    depth: Tensor
    labels: Tensor
    normals: Tensor


def _rays(poses: Sequence[Pose], camera: Intrinsics, device: torch.device) -> Rays:
    """A bundle for each tile of each picture, row by row; tiles at the right and lower edge reach beyond it."""
    rows, columns = -(-camera.height // TILE), -(-camera.width // TILE)
    v, u = torch.meshgrid(torch.arange(rows * TILE), torch.arange(columns * TILE), indexing="ij")
    local = torch.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, torch.ones(u.shape)], dim=-1)
    local = local.reshape(rows, TILE, columns, TILE, 3).transpose(1, 2).reshape(1, -1, TILE * TILE, 3).double()
    T = torch.stack([torch.from_numpy(pose.matrix) for pose in poses])
    directions = local @ T[:, None, :3, :3].mT
    origins = T[:, None, None, :3, 3].expand(-1, rows * columns, 1, 3)
    return Rays(*(x.flatten(0, 1).float().to(device) for x in (origins, directions)))


def _untile(tiles: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Tiles (N, 256, C) to pictures (B, H, W, C)."""
    batch, height, width = size
    rows, columns = -(-height // TILE), -(-width // TILE)
    grid = tiles.reshape(batch, rows, columns, TILE, TILE, -1).transpose(2, 3)
    return grid.reshape(batch, rows * TILE, columns * TILE, -1)[:, :height, :width]


def _tone(x: Tensor) -> Tensor:
    """A filmic curve from linear light to linear display, 0..1 (Narkowicz's fit of ACES)."""
    return (x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)).clamp(0.0, 1.0)
