"""Anchors from measured, noisy depth: a truncated signed distance field (Curless and Levoy 1996), by Open3D.

Averaging along the view rays gives one thin layer where a cloud of the measurements would be a thick, noisy shell whose
front the z-buffer shows; what later views look through disappears.
"""

from __future__ import annotations

import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.builders.fusion import RADIUS, FusionSettings

TRUNCATION = 4.0  # voxels on either side of the surface
BLOCK = 8  # voxels a side of the blocks that are allocated where there is surface


class TsdfSurface:
    """A Surface that averages the signed distance to measured depth. Has no labels: a scan has none."""

    def __init__(self, settings: FusionSettings) -> None:
        import open3d  # takes seconds to import, and only building a scan needs it

        self._core, self._t = open3d.core, open3d.t
        self._settings = settings
        self._frames = 0
        self._origin: np.ndarray | None = None  # near the first camera: the field is float32
        kinds = (self._core.float32,) * 3
        self._field = self._t.geometry.VoxelBlockGrid(
            ("tsdf", "weight", "color"),
            kinds,
            ((1), (1), (3)),
            settings.voxel,
            BLOCK,
            20_000,
            self._core.Device("CPU:0"),
        )

    def add(self, frame: RgbdFrame, depth: np.ndarray) -> None:
        if self._origin is None:
            self._origin = np.round(frame.T_world_camera.translation)
        self._frames += 1
        if not depth.any():
            return
        T_camera_world = frame.T_world_camera.inverse().matrix
        T_camera_world[:3, 3] += T_camera_world[:3, :3] @ self._origin
        K, T = (self._core.Tensor(np.ascontiguousarray(matrix)) for matrix in (frame.intrinsics.matrix, T_camera_world))
        depth_image = self._t.geometry.Image(self._core.Tensor(np.ascontiguousarray(depth)))
        color_image = self._t.geometry.Image(self._core.Tensor(frame.rgb.astype(np.float32)))
        limits = (1.0, self._settings.max_depth, TRUNCATION)  # depth units a metre, metres, voxels
        blocks = self._field.compute_unique_block_coordinates(depth_image, K, T, *limits)
        self._field.integrate(blocks, depth_image, color_image, K, K, T, *limits)

    def anchors(self) -> AnchorMap:
        if self._field.hashmap().size() == 0:
            return AnchorMap()
        views = min(self._settings.min_views, max(1, self._frames // 8))
        cloud = self._field.extract_point_cloud(weight_threshold=views - 0.5)  # more than
        if cloud.is_empty():
            return AnchorMap()
        cloud = cloud.voxel_down_sample(self._settings.voxel)
        points = cloud.point.positions.numpy().astype(np.float64) + self._origin
        colors = np.clip(np.rint(cloud.point.colors.numpy()), 0, 255).astype(np.uint8)
        return AnchorMap.from_points(points, colors, radius=RADIUS * self._settings.voxel)
