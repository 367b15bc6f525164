"""Ray intersection with many boxes, elliptic cylinders and ellipsoids at once, in torch on any device.

Rays come in bundles whose rays lie close together, such as a tile of a picture. A cheap test of bundle against solid
leaves few solids for each bundle, and all its rays meet all of those: no tree, no branches. Shapes, faces and their
coordinates are those of worldfm_ros.scenes.solids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
import math

import torch
from torch import Tensor

from worldfm_ros.scenes.scene import Scene
from worldfm_ros.scenes.solids import BOX, CYLINDER, SHAPES, SPHERE

TINY = 1e-20  # stands in for a direction component of zero, whose inverse would be infinite
CHUNK = {"cpu": 1 << 18, "cuda": 1 << 25}  # ray-solid pairs at a time: what fits a CPU's cache, and keeps a GPU busy


@dataclass(frozen=True, eq=False)
class Solids:
    """P solids: shape (P,), centre (P, 3), turn (P, 2) cosine and sine of the yaw, half (P, 3) metres, opaque (P,)."""

    shape: Tensor
    centre: Tensor
    turn: Tensor
    half: Tensor
    opaque: Tensor

    @classmethod
    def of(cls, scene: Scene, device: torch.device) -> Solids:
        solids = scene.primitives
        floats = [[solid.centre for solid in solids], [(math.cos(solid.yaw), math.sin(solid.yaw)) for solid in solids],
                  [[size / 2.0 for size in solid.size] for solid in solids]]
        return cls(torch.tensor([SHAPES[type(solid)] for solid in solids], device=device),
                   *(torch.tensor(rows, dtype=torch.float32, device=device) for rows in floats),
                   torch.tensor([solid.material.emission == 0.0 for solid in solids], device=device))

    def __getitem__(self, index: Tensor) -> Solids:
        """The solids at an index of any shape."""
        return Solids(*(getattr(self, field.name)[index] for field in fields(self)))

    def local(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """World directions (or offsets from the centres) (..., 3) in unit coordinates; broadcasts with the solids."""
        (x, y, z), (c, s), (hx, hy, hz) = vectors.unbind(-1), self.turn.unbind(-1), self.half.unbind(-1)
        return c / hx * x + s / hx * y, c / hy * y - s / hy * x, z / hz


@dataclass(frozen=True, eq=False)
class Rays:
    """N bundles of R rays o + t d with 0 < t < limit; origins and directions (N, R, 3), or (N, 1, 3) where shared."""

    origins: Tensor
    directions: Tensor
    limit: float = math.inf

    def __getitem__(self, bundles: Tensor) -> Rays:
        return Rays(self.origins[bundles], self.directions[bundles], self.limit)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.origins), max(self.origins.shape[1], self.directions.shape[1])


def trace(solids: Solids, rays: Rays) -> tuple[Tensor, Tensor]:
    """t (N, R) of the first surface on each ray, inf when there is none, and the solid (N, R) that it is of, then -1.
    Inside a solid that is its inner side."""
    t = torch.full(rays.shape, math.inf, device=rays.origins.device)
    found = torch.full(rays.shape, -1, device=t.device)
    for members in ((solids.shape == BOX).nonzero()[:, 0], (solids.shape != BOX).nonzero()[:, 0]):
        for bundles, candidates in _candidates(solids[members], rays):
            candidates = members[candidates]
            nearest, which = _first_crossing(solids[candidates[..., None]], rays[bundles]).min(dim=1)
            nearer = nearest < t[bundles]
            t[bundles] = torch.where(nearer, nearest, t[bundles])
            found[bundles] = torch.where(nearer, candidates.gather(1, which), found[bundles])
    return t, found


def occluded(solids: Solids, rays: Rays) -> Tensor:
    """(N, R) bool: whether any of the solids is in a ray's way."""
    return trace(solids, rays)[0] < math.inf


def _candidates(solids: Solids, rays: Rays) -> Iterator[tuple[Tensor, Tensor]]:
    """Bundles (n,) and the solids (n, K) that their rays may meet, in portions that fit the memory."""
    bundles, width = rays.shape
    chunk = CHUNK[rays.origins.device.type]
    if not len(solids.shape):
        return
    for block in torch.arange(bundles, device=rays.origins.device).split(max(1, chunk // len(solids.shape))):
        touched = _touched(solids, rays[block])
        counts, order = touched.sum(dim=1).sort(descending=True)  # bundles with like counts together
        counts, start = counts.tolist(), 0
        while start < len(block) and counts[start]:
            stop = start + max(1, chunk // (counts[start] * width))
            part = order[start:stop]
            yield block[part], touched[part].float().topk(counts[start]).indices  # the surplus only costs time
            start = stop


def _touched(solids: Solids, rays: Rays) -> Tensor:
    """(N, P) bool: whether a bundle, seen as its middle ray of a thickness that grows with t, meets a solid's box."""
    origin, direction = rays.origins.mean(1, keepdim=True), rays.directions.mean(1, keepdim=True)
    thickness = (rays.origins - origin).norm(dim=2).amax(1)[:, None]  # (N, 1)
    spread = (rays.directions - direction).norm(dim=2).amax(1)[:, None]
    slowest = rays.directions.norm(dim=2).amin(1)[:, None]
    offset = origin - solids.centre  # (N, P, 3)
    farthest = (offset.norm(dim=2) + solids.half.norm(dim=1) + thickness) / slowest  # a ray passes it before this t
    radius = 1e-4 + thickness + spread * farthest.clamp(max=rays.limit)
    swollen = Solids(solids.shape, solids.centre, solids.turn, solids.half + radius[..., None], solids.opaque)
    enter, leave = _slabs(swollen.local(offset), swollen.local(direction))
    return (enter <= leave) & (leave > 0.0) & (enter < rays.limit)


def _slabs(origin, direction) -> tuple[Tensor, Tensor]:
    """Where lines in unit coordinates enter and leave the slabs |coordinate| <= 1."""
    enter, leave = -math.inf, math.inf
    for o, d in zip(origin, direction, strict=True):
        inverse = 1.0 / torch.where(d.abs() > TINY, d, TINY)
        middle, half = -o * inverse, inverse.abs()
        enter, leave = (middle - half).clamp(min=enter), (middle + half).clamp(max=leave)
    return enter, leave


def _first_crossing(solids: Solids, rays: Rays) -> Tensor:
    """t (n, K, R) at which the rays of bundle n first cross the solids (n, K, 1), all boxes or none, inf where not."""
    origin, direction = solids.local(rays.origins[:, None] - solids.centre), solids.local(rays.directions[:, None])
    enter, leave = _slabs(origin, direction)  # of a round shape's cube: for an upright cylinder also its two ends
    if (solids.shape != BOX).all():
        ball = (solids.shape == SPHERE).float()
        ox, oy, oz, dx, dy, dz = *origin[:2], ball * origin[2], *direction[:2], ball * direction[2]
        a = (dx * dx + dy * dy + dz * dz).clamp(min=TINY)
        middle = -(ox * dx + oy * dy + oz * dz) / a  # the line's point nearest the axis or centre
        rest = 1.0 - ((ox + middle * dx) ** 2 + (oy + middle * dy) ** 2 + (oz + middle * dz) ** 2)
        half = (rest.clamp(min=0.0) / a).sqrt()
        enter, leave = torch.maximum(enter, middle - half), torch.minimum(leave, middle + half)
        leave = torch.where(rest < 0.0, -math.inf, leave)
    t = torch.where(enter > 0.0, enter, leave)
    return torch.where((enter <= leave) & (t > 0.0) & (t < rays.limit), t, math.inf)


def face_of(shape: Tensor, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(face, u, v), each (M,), of points on unit shapes: solids.face_of for many points."""
    ax, ay, az = x.abs(), y.abs(), z.abs()
    side = (shape == CYLINDER) & (az * az < x * x + y * y)
    axis = torch.where((ax >= ay) & (side | (ax >= az)), 0, torch.where(side | (ay >= az), 1, 2))
    xyz = torch.stack([x, y, z])
    along = xyz.gather(0, axis[None])[0]
    u = torch.where(axis == 0, y, x) / along.abs()
    v = torch.where(axis == 2, y, z)
    return 2 * axis + (along <= 0.0), u, torch.where(side, v, v / along.abs())


def point_of(shape: Tensor, face: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The points (x, y, z) of unit shapes at (face, u, v): the inverse of `face_of`."""
    side, axis = 1.0 - 2.0 * (face % 2), face // 2
    x, y, z = torch.where(axis == 0, side, u), _pick(axis, u, side, v), torch.where(axis == 2, side, v)
    across = x * x + y * y
    ball = (across + z * z).rsqrt()
    scale = torch.where(shape == SPHERE, ball, torch.where((shape == CYLINDER) & (axis != 2), across.rsqrt(), 1.0))
    return x * scale, y * scale, torch.where(shape == SPHERE, z * ball, z)


def normal_of(solids: Solids, face: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """(M, 3) outward unit normals in the world at points of the unit shapes of M solids, which are on `face`."""
    side, axis = 1.0 - 2.0 * (face % 2), face // 2
    flat = (solids.shape == BOX) | ((solids.shape == CYLINDER) & (axis == 2))
    x, y = torch.where(flat, side * (axis == 0), x), torch.where(flat, side * (axis == 1), y)
    z = torch.where(flat, side * (axis == 2), torch.where(solids.shape == CYLINDER, 0.0, z))
    x, y, z = x / solids.half[:, 0], y / solids.half[:, 1], z / solids.half[:, 2]
    c, s = solids.turn.unbind(1)
    return torch.nn.functional.normalize(torch.stack([c * x - s * y, s * x + c * y, z], dim=1), dim=1)


def _pick(axis: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.where(axis == 0, a, torch.where(axis == 1, b, c))
