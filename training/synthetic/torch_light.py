"""The light on a scene's surfaces in torch: what worldfm_ros.scenes.lightmap bakes, on any device.

Direct light of every lamp with shadow rays, and one bounce, at the vertices of grids on the solids' faces. Vertices are
cut into compact blocks, so that the rays of a block to a lamp, or in one direction, are a bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import math

import numpy as np
import torch
from torch import Tensor

from training.synthetic.torch_solids import Rays, Solids, face_of, normal_of, occluded, point_of, trace
from training.synthetic.torch_textures import Patch, albedo
from worldfm_ros.scenes.lightmap import (
    BOUNCE_BLUR,
    BOUNCE_LIMIT,
    FACE_AXES,
    FAINT,
    OFFSET,
    mix_paint,
    sample_lights,
)
from worldfm_ros.scenes.scene import Scene
from worldfm_ros.scenes.solids import BOX, CYLINDER, SPHERE

BLOCK = 64  # vertices whose rays make a bundle
DIRECTIONS = 192  # over the sphere: half of them leave a surface
BOUNCE_PIXEL = 0.1  # metres; the footprint at which colours are looked up that light bounces off


@dataclass(frozen=True, eq=False)
class Paints:
    """The materials of P solids: texture, scale, emission, seed (P,); colors (P, 3, 3) linear."""

    texture: Tensor
    colors: Tensor
    scale: Tensor
    emission: Tensor
    seed: Tensor

    @classmethod
    def of(cls, scene: Scene, device: torch.device) -> Paints:
        texture, colors, scale, emission, seed = (torch.from_numpy(array).to(device) for array in mix_paint(scene))
        return cls(texture, colors.float(), scale.float(), emission.float(), seed)


@dataclass(frozen=True, eq=False)
class Surface:
    """Places on solids: face and (u, v) on it (M,), linear albedo (M, 3), outward unit normals (M, 3) in the world."""

    face: Tensor
    u: Tensor
    v: Tensor
    albedo: Tensor
    normals: Tensor

    @classmethod
    def at(cls, solids: Solids, paints: Paints, index: Tensor, points: Tensor,
           blur: Callable[[Tensor], Tensor]) -> Surface:
        """The surface of solids index (M,) at world points (M, 3) on it; blur gives a pixel's footprint (M,), metres,
        where the normals are (M, 3)."""
        own = solids[index]
        x, y, z = own.local(points - own.centre)
        face, u, v = face_of(own.shape, x, y, z)
        normals = normal_of(own, face, x, y, z)
        (c, s), axis = own.turn.unbind(1), face // 2
        across, along = c * points[:, 0] + s * points[:, 1], c * points[:, 1] - s * points[:, 0]
        wrapped = (own.shape == SPHERE) | ((own.shape == CYLINDER) & (axis != 2))
        place_s = torch.where(wrapped, torch.atan2(y, x) * own.half[:, 0], torch.where(axis == 0, along, across))
        place_t = torch.where(wrapped | (axis != 2), points[:, 2], along)
        width = 2.0 * torch.where((axis == 0) & ~wrapped, own.half[:, 1], own.half[:, 0])
        height = 2.0 * torch.where(wrapped | (axis != 2), own.half[:, 2], own.half[:, 1])
        patch = Patch(paints.colors[index], paints.scale[index], paints.seed[index], place_s, place_t, u, v, width,
                      height, blur(normals))
        return cls(face, u, v, albedo(paints.texture[index], patch), normals)


@dataclass(frozen=True, eq=False)
class Grids:
    """The vertices' places: faces (P, 6, 3) first vertex and counts along u and v, and for each of the V vertices its
    solid, face, row and column (V,)."""

    faces: Tensor
    solid: Tensor
    face: Tensor
    row: Tensor
    column: Tensor

    @classmethod
    def of(cls, solids: Solids, texel: float) -> Grids:
        """A vertex every `texel` metres, as in lightmap._layout."""
        sizes = (2.0 * solids.half / texel).ceil().long().add(1).clamp(2, 1024)[:, FACE_AXES[[0, 0, 1, 1, 2, 2]]]
        counts = sizes.prod(dim=2).flatten()
        first = counts.cumsum(0) - counts
        faces = torch.cat([first.reshape(-1, 6, 1), sizes], dim=2)
        owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        place = torch.arange(len(owner), device=counts.device) - first[owner]
        columns = sizes.reshape(-1, 2)[owner, 1]
        return cls(faces, owner // 6, owner % 6, place // columns, place % columns)

    def neighbour(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """The vertex (V,) so many rows and columns on, and whether the face has it (V,) bool."""
        first, nu, nv = self.faces[self.solid, self.face].unbind(1)
        row, column = self.row + rows, self.column + columns
        exists = (row >= 0) & (row < nu) & (column >= 0) & (column < nv)
        return torch.where(exists, first + row * nv + column, 0), exists

    def points(self, solids: Solids) -> tuple[Tensor, Tensor]:
        """World points (V, 3), just off the surface, and the outward normals (V, 3) there."""
        own = solids[self.solid]
        sizes, axes = self.faces[self.solid, self.face, 1:], torch.as_tensor(FACE_AXES).to(self.face.device)
        half = own.half.gather(1, axes[self.face // 2])
        uv = 2.0 * torch.stack([self.row, self.column], dim=1) / (sizes - 1) - 1.0
        u, v = (uv * (1.0 - (OFFSET / half).clamp(max=0.5))).unbind(1)
        x, y, z = point_of(own.shape, self.face, u, v)
        normals = normal_of(own, self.face, x, y, z)
        x, y, z = (torch.stack([x, y, z], dim=1) * own.half).unbind(1)
        c, s = own.turn.unbind(1)
        return own.centre + torch.stack([c * x - s * y, s * x + c * y, z], dim=1) + OFFSET * normals, normals


@dataclass(frozen=True, eq=False)
class Light:
    """The baked light: irradiance (V, 3) linear at the vertices of `grids`."""

    grids: Grids
    irradiance: Tensor

    def at(self, index: Tensor, face: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Irradiance (M, 3) of solids index (M,) at (face, u, v), bilinear."""
        first, nu, nv = self.grids.faces[index, face].unbind(1)
        x, y = (u.clamp(-1.0, 1.0) + 1.0) * 0.5 * (nu - 1), (v.clamp(-1.0, 1.0) + 1.0) * 0.5 * (nv - 1)
        j, k = torch.minimum(x.long(), nu - 2), torch.minimum(y.long(), nv - 2)
        x, y, at, e = (x - j)[:, None], (y - k)[:, None], first + j * nv + k, self.irradiance
        return e[at].lerp(e[at + 1], y).lerp(e[at + nv].lerp(e[at + nv + 1], y), x)


def bake(scene: Scene, solids: Solids, paints: Paints, texel: float) -> Light:
    """The light of a scene with a vertex every `texel` metres."""
    grids = Grids.of(solids, texel)
    points, normals = grids.points(solids)
    buried = _buried(solids, grids.solid, points)
    exposed = (~buried).nonzero()[:, 0]
    exposed = exposed[_morton(points[exposed])]
    blocks = exposed[torch.arange(-(-len(exposed) // BLOCK) * BLOCK, device=points.device).clamp(max=len(exposed) - 1)]
    blocks = blocks.reshape(-1, BLOCK)  # (N, 64) vertices; the last one is repeated
    direct, indirect = torch.zeros_like(points), torch.zeros_like(points)
    direct[blocks] = _direct(scene, solids, points[blocks], normals[blocks])
    direct = _fill(grids, buried, direct)
    reflected = direct.clamp(max=4.0 * BOUNCE_LIMIT)
    for _ in range(2):
        reflected = _blur(grids, reflected, max(round(0.5 * BOUNCE_BLUR / texel), 1))
    reflected = Light(grids, reflected.clamp(max=BOUNCE_LIMIT))
    indirect[blocks] = _bounce(scene, solids, paints, reflected, points[blocks], normals[blocks])
    return Light(grids, direct + _blur(grids, _fill(grids, buried, indirect), 2))


def _buried(solids: Solids, owner: Tensor, points: Tensor) -> Tensor:
    """(V,) bool: which points are inside another solid than their own."""
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for k in range(len(solids.shape)):
        solid = solids[torch.tensor(k, device=points.device)]
        x, y, z = (coordinate.abs() for coordinate in solid.local(points - solid.centre))
        across = x * x + y * y
        within = (x < 1.0) & (y < 1.0) & (z < 1.0) & (
            (solid.shape == BOX) | ((across < 1.0) & ((solid.shape == CYLINDER) | (across + z * z < 1.0))))
        inside |= within & (owner != k)
    return inside


def _morton(points: Tensor) -> Tensor:
    """The order of points (M, 3) along a curve that keeps near ones together."""
    cells = ((points - points.amin(0)) / (points.amax(0) - points.amin(0)).max() * 1023.0).long()
    code = torch.zeros_like(cells[:, 0])
    for bit in range(10):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return code.argsort()


def _direct(scene: Scene, solids: Solids, points: Tensor, normals: Tensor) -> Tensor:
    """Irradiance (N, 64, 3) straight from the lamps at blocks of points (N, 64, 3)."""
    casters = solids[solids.opaque.nonzero()[:, 0]]
    total = torch.zeros_like(points)
    for row in torch.from_numpy(sample_lights(scene.lights)).float().to(points.device):
        position, intensity, direction = row.split(3)
        ways = position - points
        distance = ways.norm(dim=2)
        weight = (normals * ways).sum(2).clamp(min=0.0) / distance**3
        if direction.any():
            weight = weight * (-(ways @ direction)).clamp(min=0.0) / distance
        lit = (weight * intensity.max() >= FAINT).any(dim=1).nonzero()[:, 0]
        if len(lit):
            from_lamp = Rays(position.expand(len(lit), 1, 3), -ways[lit], limit=1.0 - 1e-6)  # a thin beam at first
            hidden = occluded(casters, from_lamp)
            total[lit] += torch.where(hidden, 0.0, weight[lit])[..., None] * intensity
    return total


def _bounce(scene: Scene, solids: Solids, paints: Paints, reflected: Light, points: Tensor, normals: Tensor) -> Tensor:
    """Irradiance (N, 64, 3) from the surfaces around: `reflected` and ambient light off their albedo."""
    ambient = points.new_tensor(scene.ambient)
    total, weights = torch.zeros_like(points), torch.zeros_like(points[..., 0])
    for direction in _sphere(DIRECTIONS).to(points.device):
        cosine = (normals @ direction).clamp(min=0.0)
        facing = (cosine > 0.0).any(dim=1).nonzero()[:, 0]
        if not len(facing):
            continue
        t, index = trace(solids, Rays(points[facing], direction.expand(len(facing), 1, 3)))
        light = ambient.expand(*t.shape, 3).clone()
        hit = (index >= 0) & (cosine[facing] > 0.0)
        index, places = index[hit], points[facing][hit] + t[hit][:, None] * direction
        surface = Surface.at(solids, paints, index, places, lambda n: torch.full_like(n[:, 0], BOUNCE_PIXEL))
        light[hit] = surface.albedo * (reflected.at(index, surface.face, surface.u, surface.v) + ambient)
        total[facing] += cosine[facing][..., None] * light
        weights += cosine
    return total / weights[..., None]


def _sphere(count: int) -> Tensor:
    """(count, 3) even directions, on a Fibonacci spiral."""
    k = np.arange(count)
    z, angle = 1.0 - (2.0 * k + 1.0) / count, k * math.pi * (3.0 - math.sqrt(5.0))
    r = np.sqrt(1.0 - z * z)
    return torch.from_numpy(np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)).float()


def _fill(grids: Grids, unknown: Tensor, values: Tensor) -> Tensor:
    """Give unknown vertices (V,) the mean of their known neighbours, ring by ring, three times."""
    for _ in range(3):
        total, count = torch.zeros_like(values), torch.zeros_like(values[:, :1])
        for rows in (-1, 0, 1):
            for columns in (-1, 0, 1):
                at, exists = grids.neighbour(rows, columns)
                known = (exists & ~unknown[at])[:, None]
                total, count = total + torch.where(known, values[at], 0.0), count + known
        filled = unknown & (count[:, 0] > 0)
        values = torch.where(filled[:, None], total / count.clamp(min=1.0), values)
        unknown = unknown & ~filled
    return values


def _blur(grids: Grids, values: Tensor, radius: int) -> Tensor:
    """The mean over squares of 2 radius + 1 vertices of a face."""
    for rows, columns in ((1, 0), (0, 1)):
        total, count = torch.zeros_like(values), torch.zeros_like(values[:, :1])
        for step in range(-radius, radius + 1):
            at, exists = grids.neighbour(rows * step, columns * step)
            total, count = total + torch.where(exists[:, None], values[at], 0.0), count + exists[:, None]
        values = total / count
    return values
