"""Objects drawn among the anchors: nearer ones hide farther ones, pixel by pixel, on both sides.

Label, instance and depth of a pixel are of what its centre sees, by the rule of _raster.py, so they are exact. Its
colour is the mean of SIDE x SIDE samples, and what they leave is the share of the background: edges are smooth.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from worldfm_ros.geometry import MAX_IMAGE_SIDE, Intrinsics, Pose
from worldfm_ros.objects import _raster
from worldfm_ros.objects.mesh import Mesh
from worldfm_ros.objects.objects import Placed
from worldfm_ros.world.anchors import NEAR, AnchorMap
from worldfm_ros.world.renderer import AnchorView, ObjectLayer, PopulatedView, render

SIDE = 3  # samples a pixel across and down; odd, so that one is at its centre
RELIEF = 0.02  # metres; anchors must be nearer by this much to hide an object: they are samples of a surface
SUN = np.array([0.35, 0.25, 0.9]) / np.linalg.norm([0.35, 0.25, 0.9])  # where the light comes from, in the world
AMBIENT, DIRECT = 0.62, 0.42  # of the light
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def populate(drawing: AnchorView, objects: Sequence[Placed], T_world_camera: Pose,
             intrinsics: Intrinsics) -> AnchorView:
    """The drawing with the objects in it; itself when none of them is seen."""
    window = _window(objects, T_world_camera, intrinsics)
    if window is None:
        return drawing
    left, top, width, height = window
    side = SIDE if SIDE * max(width, height) <= MAX_IMAGE_SIDE else 1
    camera = intrinsics.cropped(left, top, width, height).resized(side * width, side * height)
    depth = np.full((camera.height, camera.width), np.inf, np.float32)
    rgb, owners = np.zeros((*depth.shape, 3), np.uint8), np.full(depth.shape, -1, np.int32)
    for number, placed in enumerate(objects):
        draw_one(placed.mesh, T_world_camera, camera, number, (depth, rgb, owners))
    part = np.s_[top:top + height, left:left + width]
    before = np.repeat(np.repeat(_in_front(drawing)[part], side, 0), side, 1)
    seen = (owners >= 0) & (depth < before)
    if not seen.any():
        return drawing
    layer = ObjectLayer.empty(intrinsics)
    count = _sums(seen[..., None].astype(np.float32), side)
    layer.share[part] = count[..., 0] / side**2
    layer.rgb[part] = np.rint(_sums(rgb * seen[..., None], side) / np.maximum(count, 1))
    centre = np.s_[side // 2::side, side // 2::side]
    visible = seen[centre]
    layer.depth[part] = np.where(visible, depth[centre], 0)
    ids, labels = (np.array([getattr(placed, name) for placed in objects], np.uint16) for name in ("id", "label"))
    layer.instances[part] = np.where(visible, ids[owners[centre]], 0)
    layer.labels[part] = np.where(visible, labels[owners[centre]], 0)
    return PopulatedView.of(drawing, layer)


def draw_one(mesh: Mesh, T_world_camera: Pose, camera: Intrinsics, number: int,
             images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Draw a mesh that is in the world's axes into depth (H, W), rgb (H, W, 3) and owners (H, W); see `_raster`."""
    depth, rgb, owners = images
    if not mesh.is_cloud:
        light = AMBIENT + DIRECT * np.maximum(mesh.normals @ SUN, 0.0)
        colors = np.minimum(mesh.colors * light[:, None], 255.0)
        _raster.draw_triangles(T_world_camera.inverse().apply(mesh.vertices), colors, mesh.triangles,
                               np.array([camera.fx, camera.fy, camera.cx, camera.cy]), NEAR, number, depth, rgb, owners)
        return
    cloud = AnchorMap.from_points(mesh.vertices, mesh.colors, radius=mesh.radius)
    drawn = render(cloud.visible(T_world_camera, camera), T_world_camera, camera)
    nearer = drawn.coverage & (drawn.depth < depth)
    depth[nearer], rgb[nearer], owners[nearer] = drawn.depth[nearer], drawn.rgb[nearer], number


def _window(objects: Sequence[Placed], T_world_camera: Pose, intrinsics: Intrinsics) -> tuple[int, ...] | None:
    """Left, top, width and height of the part of the image that may show objects; None when no part does."""
    size = np.array([intrinsics.width, intrinsics.height])
    low, high = size.astype(np.float64), np.zeros(2)
    for placed in objects:
        points = T_world_camera.inverse().apply(placed.mesh.vertices)
        front = points[:, 2] > NEAR
        if not front.any():
            continue
        if front.all():
            pixels = intrinsics.project(points)
            reach = 1 + placed.mesh.radius * max(intrinsics.fx, intrinsics.fy) / points[:, 2].min()
            low, high = np.minimum(low, pixels.min(0) - reach), np.maximum(high, pixels.max(0) + reach)
        else:  # it reaches behind the camera: it may be anywhere
            low, high = np.zeros(2), size.astype(np.float64)
    low, high = np.clip(np.floor(low), 0, size).astype(int), np.clip(np.ceil(high) + 1, 0, size).astype(int)
    return (*low.tolist(), *(high - low).tolist()) if (high > low).all() else None


def _in_front(drawing: AnchorView) -> np.ndarray:
    """(H, W) float32: the depth from which on the anchors hide what is there. Gaps of a pixel between them do too."""
    nearness = np.divide(1, drawing.depth, out=np.zeros_like(drawing.depth), where=drawing.coverage)
    closed = cv2.morphologyEx(nearness, cv2.MORPH_CLOSE, CROSS)
    return np.divide(1, closed, out=np.full_like(closed, np.inf), where=closed > 0) + np.float32(RELIEF)


def _sums(samples: np.ndarray, side: int) -> np.ndarray:
    """(H side, W side, C) to (H, W, C) float32: the sums of each pixel's samples."""
    height, width = samples.shape[0] // side, samples.shape[1] // side
    return samples.reshape(height, side, width, side, -1).sum((1, 3), dtype=np.float32)
