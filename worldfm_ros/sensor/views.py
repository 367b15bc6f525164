"""The pinhole views that a frame model paints, so that a bent picture can be filled from them, and that resampling.

One view that is wide enough does for most lenses. A wider lens than a flat picture can hold gets the faces of a cube.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import MAX_IMAGE_SIDE, Intrinsics, Pose

WIDEST = math.tan(math.radians(65.0))  # x / z; beyond, a flat picture is mostly its own corners
MULTIPLE = 8  # pixels: frame models halve a picture a few times
SEAM = 2  # pixels that the faces of a cube overlap
FACES = {"ahead": (0, 0, 0), "right": (0, 90, 0), "left": (0, -90, 0), "up": (90, 0, 0), "down": (-90, 0, 0),
         "behind": (0, 180, 0)}  # degrees about x, y, z


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole view at the camera's place, turned by R_camera_view (3, 3)."""

    R_camera_view: np.ndarray
    intrinsics: Intrinsics

    @property
    def T_camera_view(self) -> Pose:
        return Pose(Rotation.from_matrix(self.R_camera_view), np.zeros(3))


def plan_views(rays: Sequence[np.ndarray], picture: Intrinsics, margin: int = 0) -> tuple[View, ...]:
    """The views that hold all of the rays, each (..., 3) in optical axes, NaN = none, and `margin` pixels more.

    They have the picture's focal lengths, so they are as fine as it is in its middle, and a pinhole's pixels fall on
    pixels. Raises ValueError when that would be larger than pictures may be.
    """
    rays = np.concatenate([r[np.isfinite(r).all(axis=-1)] for r in rays])
    assert len(rays), "a lens sees something"
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = rays[:, :2] / rays[:, 2:]
    if (rays[:, 2] > 0).all() and np.abs(flat).max() <= WIDEST:
        return (View(np.eye(3), _around(flat, picture, margin)),)
    focal = max(picture.fx, picture.fy)
    side = _rounded(2 * focal + 2 * (SEAM + margin))
    if side > MAX_IMAGE_SIDE:
        raise ValueError(f"a picture with a focal length of {focal:.0f} pixels that is wider than 130 degrees needs "
                         f"views of {side} pixels a side, more than {MAX_IMAGE_SIDE}; use a smaller picture")
    face = Intrinsics(side, side, focal, focal, (side - 1) / 2, (side - 1) / 2)
    turns = [Rotation.from_euler("xyz", angles, degrees=True).as_matrix() for angles in FACES.values()]
    used = np.unique(np.argmax([rays @ R[:, 2] for R in turns], axis=0))
    return tuple(View(turns[number], face) for number in used)


def _around(flat: np.ndarray, picture: Intrinsics, margin: int) -> Intrinsics:
    """The picture's pinhole camera, cut or extended to hold the points (N, 2) of the plane z = 1."""
    pixels = flat * [picture.fx, picture.fy] + [picture.cx, picture.cy]
    left, top = np.floor(pixels.min(axis=0) + 1e-6).astype(int) - margin
    right, bottom = np.ceil(pixels.max(axis=0) - 1e-6).astype(int) + margin
    width, height = (_rounded(n) if margin or n not in (picture.width, picture.height) else int(n)
                     for n in (right - left + 1, bottom - top + 1))
    if max(width, height) > MAX_IMAGE_SIDE:
        raise ValueError(f"this lens needs a painted view of {width}x{height} pixels, more than {MAX_IMAGE_SIDE} a "
                         "side; use a smaller picture (binning)")
    return Intrinsics(width, height, picture.fx, picture.fy, float(picture.cx - left), float(picture.cy - top))


def _rounded(pixels: float) -> int:
    return MULTIPLE * math.ceil(pixels / MULTIPLE)


@dataclass(frozen=True, eq=False)
class Lookup:
    """Where pixels of a picture are found in the views.

    maps: for each view (H, W, 2) float32, its pixel; choice: (H, W) the view that is used, None when there is one
    scales: for each view (H, W) float32, depth in the picture by depth in the view, None = 1
    valid: (H, W) bool, None = all: the pixels that see anything
    """

    maps: tuple[np.ndarray, ...]
    choice: np.ndarray | None
    scales: tuple[np.ndarray | None, ...]
    valid: np.ndarray | None

    def sample(self, images: Sequence[np.ndarray], interpolation: int) -> np.ndarray:
        """One image a view, resampled; 0 where nothing is seen. Just outside a view, its edge goes on."""
        parts = [cv2.remap(image, pixels, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
                 for image, pixels in zip(images, self.maps, strict=True)]
        return self._joined(parts)

    def nearest(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The same without mixing: for labels (any dtype that OpenCV has, or bool)."""
        whole = [image.view(np.uint8) if image.dtype == bool else image for image in images]
        return self.sample(whole, cv2.INTER_NEAREST).view(images[0].dtype)

    def depth(self, depths: Sequence[np.ndarray]) -> np.ndarray:
        """Depths along the views' axes as depth along the picture's; 0 = none, also where that is behind it."""
        found = [cv2.remap(depth, pixels, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
                 for depth, pixels in zip(depths, self.maps, strict=True)]
        return self._joined([depth if scale is None else np.maximum(depth * scale, 0)
                             for depth, scale in zip(found, self.scales, strict=True)])

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        picture = parts[0]
        for number, part in enumerate(parts[1:], start=1):
            picture[self.choice == number] = part[self.choice == number]
        if self.valid is not None:
            picture[~self.valid] = 0
        return picture


def look_up(views: Sequence[View], points: np.ndarray, axis: np.ndarray | None = None) -> Lookup:
    """Points or rays (H, W, 3) of the camera's frame in the views; NaN sees nothing. `axis` (3,): the direction that
    the picture's depth is along, None = the camera's own."""
    valid = np.isfinite(points).all(axis=-1)
    seen = points if valid.all() else np.where(valid[..., None], points, np.array([0, 0, 1], points.dtype))
    local = [seen if np.array_equal(view.R_camera_view, np.eye(3)) else
             seen @ view.R_camera_view.astype(seen.dtype) for view in views]
    choice = np.argmax([part[..., 2] for part in local], axis=0) if len(views) > 1 else None
    maps, scales = [], []
    for view, part in zip(views, local, strict=True):
        z = np.maximum(part[..., 2], 1e-6)
        pixels = np.empty((*z.shape, 2), np.float32)
        pixels[..., 0] = part[..., 0] / z * view.intrinsics.fx + view.intrinsics.cx
        pixels[..., 1] = part[..., 1] / z * view.intrinsics.fy + view.intrinsics.cy
        maps.append(np.clip(pixels, -1e4, 3e4, out=pixels))
        along = np.array([0.0, 0.0, 1.0]) if axis is None else axis
        same = np.allclose(view.R_camera_view[:, 2], along, atol=1e-12)
        scales.append(None if same else ((seen @ along) / z).astype(np.float32))
    return Lookup(tuple(maps), choice, tuple(scales), None if valid.all() else valid)
