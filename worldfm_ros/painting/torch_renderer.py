"""The anchor renderer in torch, for maps and pictures that are on a GPU: the rule of world/renderer.py once more.

Each operation is one of float32 in the order of the rule, and the smallest key of a pixel wins whatever the order in
which keys come, so that the images are those of the renderer for the CPU. Points with a box of pixels of about the same
size are drawn together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
import math

import numpy as np
import torch
from torch import Tensor

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import NEAR, Anchors
from worldfm_ros.world.renderer import EMPTY, MAX_SPLAT, MIN_SQUARED, AnchorView

KEPT_BYTES = 4 << 30  # of tiles that stay on the device
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 131)  # pixels, the sides of boxes that are drawn together
AT_ONCE = 1 << 22  # keys


class TorchRenderer:
    """Draws tiles on a device. The least recently drawn ones leave it beyond KEPT_BYTES."""

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        self._kept: OrderedDict[int, tuple[Anchors, dict[str, Tensor]]] = OrderedDict()

    @torch.inference_mode()
    def render(self, tiles: Sequence[Anchors], T_world_camera: Pose, intrinsics: Intrinsics) -> AnchorView:
        """As world.renderer.render."""
        tiles = [tile for tile in tiles if len(tile)]
        size = intrinsics.height, intrinsics.width
        keys = torch.full((size[0] * size[1],), EMPTY, dtype=torch.int64, device=self.device)
        first, drawn = 0, []
        for tile in tiles:
            arrays = self._on_device(tile)
            z = _draw(keys, arrays, _projection(tile, T_world_camera, intrinsics), _focal(intrinsics), size, first)
            drawn.append((first, z, arrays))
            first += len(tile)
        view = AnchorView.empty(intrinsics)
        images = {name: torch.from_numpy(getattr(view, name)).reshape(len(keys), -1) for name in ("rgb", "depth")}
        labels = torch.zeros(len(keys), dtype=torch.int32)
        number = torch.where(keys < EMPTY, keys & 0xFFFFFFFF, -1)
        for start, z, arrays in drawn:
            pixels = torch.nonzero((number >= start) & (number < start + len(z)))[:, 0]
            won, here = number[pixels] - start, pixels.cpu()
            images["rgb"][here] = arrays["colors"][won].cpu()
            images["depth"][here] = z[won][:, None].cpu()
            labels[here] = arrays["labels"][won].cpu()
        view.labels.reshape(-1)[:] = labels.numpy()
        view.coverage.reshape(-1)[:] = (keys < EMPTY).cpu().numpy()
        return view

    def _on_device(self, tile: Anchors) -> dict[str, Tensor]:
        """Kept by the tile itself: a map that changes has others."""
        if id(tile) not in self._kept:
            arrays = {name: torch.from_numpy(np.array(getattr(tile, name))).to(self.device)
                      for name in ("points", "colors", "radius")}
            arrays["labels"] = torch.from_numpy(tile.labels.astype(np.int32)).to(self.device)
            self._kept[id(tile)] = tile, arrays
        self._kept.move_to_end(id(tile))
        while len(self._kept) > 1 and sum(_bytes(arrays) for _, arrays in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[id(tile)][1]


def _draw(keys: Tensor, arrays: dict[str, Tensor], P: np.ndarray, focal: float, size: tuple[int, int],
          first: int) -> Tensor:
    """The smaller of each pixel's key (H W,) and the tile's there. Returns the points' depth (N,)."""
    X, Y, Z = arrays["points"].unbind(1)
    uz, vz, z = (float(row[0]) * X + float(row[1]) * Y + float(row[2]) * Z + float(row[3]) for row in P)
    inverse = 1.0 / z
    u, v, radius = uz * inverse, vz * inverse, arrays["radius"]
    r = torch.clamp(focal * radius * inverse, max=float(MAX_SPLAT))
    r2 = torch.clamp(r * r, min=float(MIN_SQUARED))
    reach = torch.clamp(r, min=0.5) + 0.01  # float32 rounds u and v by less
    left, top = torch.ceil(u - reach), torch.ceil(v - reach)
    side = torch.maximum(torch.floor(u + reach) - left, torch.floor(v + reach) - top) + 1
    height, width = size
    seen = (z > NEAR) & (u + reach > -1) & (u - reach < width) & (v + reach > -1) & (v - reach < height)
    for low, box in pairwise((0, *SIZES)):
        members = torch.nonzero(seen & (side > low) & (side <= box))[:, 0]
        for part in members.split(max(1, AT_ONCE // box**2)):
            point = u[part], v[part], z[part], r2[part], radius[part], part + first
            key, pixel = _keys(point, (left[part], top[part]), box, size)
            keys.scatter_reduce_(0, pixel, key, "amin")
    return z


def _keys(point: tuple[Tensor, ...], corner: tuple[Tensor, Tensor], box: int,
          size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The keys of the points (n,) at the places of their boxes that they cover, and the pixels there."""
    u, v, z, r2, radius, number = (part[:, None] for part in point)
    step = torch.arange(box * box, device=u.device)
    x, y = corner[0][:, None] + step % box, corner[1][:, None] + torch.div(step, box, rounding_mode="floor")
    du, dv = x - u, y - v
    d2 = du * du + dv * dv
    covers = (d2 <= r2) | ((x == torch.round(u)) & (y == torch.round(v)))
    covers &= (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    depth = z + torch.minimum(d2 * (radius / r2), radius)
    key = (depth.view(torch.int32).to(torch.int64) << 32) | number
    return key[covers], (y * size[1] + x)[covers].to(torch.int64)


def _projection(tile: Anchors, T_world_camera: Pose, intrinsics: Intrinsics) -> np.ndarray:
    """(3, 4) float32, composed in float64: tile coordinates to u z, v z, z."""
    KR = intrinsics.matrix @ T_world_camera.rotation.as_matrix().T
    return np.column_stack([KR, KR @ (tile.origin - T_world_camera.translation)]).astype(np.float32)


def _focal(intrinsics: Intrinsics) -> float:
    return float(np.float32(math.sqrt(intrinsics.fx * intrinsics.fy)))


def _bytes(arrays: dict[str, Tensor]) -> int:
    return sum(array.nbytes for array in arrays.values())
