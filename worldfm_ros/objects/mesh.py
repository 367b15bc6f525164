"""Triangle meshes and coloured point clouds in an object's own axes: x forward, y left, z up, z = 0 its floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from worldfm_ros.geometry import Pose

MOST = 2_000_000  # vertices of a file
FORMATS = (".ply", ".obj", ".stl", ".off", ".glb", ".gltf", ".pcd", ".xyz")


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices (V, 3) float64, metres; normals (V, 3) float64, of length 1; colors (V, 3) uint8; triangles (T, 3)
    int32.

    Without triangles it is a point cloud: each vertex is a disc of `radius` metres.
    """

    vertices: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    triangles: np.ndarray
    radius: float = 0.0

    @property
    def is_cloud(self) -> bool:
        return not len(self.triangles)

    def at(self, pose: Pose) -> Mesh:
        """The mesh after the motion `pose`."""
        return replace(self, vertices=pose.apply(self.vertices), normals=pose.rotation.apply(self.normals))

    def stretched(self, size: Sequence[float]) -> Mesh:
        """The mesh with the extents `size` (x, y, z), metres. Raises ValueError for a mesh that is flat there."""
        extent = np.ptp(self.vertices, axis=0)
        if not (extent > 0).all():
            raise ValueError(f"it has no extent along one of its axes ({extent.tolist()} m), so it has no size to set")
        scale = np.asarray(size, np.float64) / extent
        normals = self.normals / scale
        return replace(self, vertices=self.vertices * scale, radius=self.radius * float(scale.mean()),
                       normals=normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes as one."""
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    triangles = [mesh.triangles + n for mesh, n in zip(meshes, first, strict=True)]
    return Mesh(*(np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in ("vertices", "normals",
                                                                                        "colors")),
                np.concatenate(triangles).astype(np.int32))


def read_mesh(file: Path, color: Sequence[int] | None = None) -> Mesh:
    """A mesh or point cloud file, its lowest point brought to z = 0; `color` where it has none of its own.

    Raises ValueError naming the file: missing, of another format, empty, not finite, or too large.
    """
    if file.suffix.lower() not in FORMATS:
        raise ValueError(f"{file}: a mesh or point cloud is one of {', '.join(FORMATS)}")
    if not file.is_file():
        raise ValueError(f"{file} does not exist")
    import open3d as o3d  # slow to load

    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        mesh = o3d.io.read_triangle_mesh(str(file)) if file.suffix.lower() not in (".pcd", ".xyz") else None
        cloud = o3d.io.read_point_cloud(str(file)) if mesh is None or not len(mesh.triangles) else None
    source = mesh if cloud is None else cloud
    vertices = np.asarray(source.vertices if cloud is None else source.points)
    if not len(vertices):
        raise ValueError(f"{file} holds no triangles and no points that can be read")
    if len(vertices) > MOST:
        raise ValueError(f"{file} has {len(vertices)} vertices, an object has {MOST} at most; simplify it")
    if not np.isfinite(vertices).all():
        raise ValueError(f"{file} has coordinates that are not finite")
    colors = _colors(source, len(vertices), color)
    if cloud is not None:
        spacing = np.asarray(cloud.compute_nearest_neighbor_distance()) if len(vertices) > 1 else np.array([0.02])
        normals = np.tile([0.0, 0.0, 1.0], (len(vertices), 1))
        return grounded(Mesh(vertices, normals, colors, np.zeros((0, 3), np.int32), float(np.median(spacing))))
    mesh.compute_vertex_normals()
    return grounded(Mesh(vertices, np.asarray(mesh.vertex_normals), colors, np.asarray(mesh.triangles, np.int32)))


def _colors(source, count: int, color: Sequence[int] | None) -> np.ndarray:
    own = np.asarray(source.vertex_colors if hasattr(source, "vertex_colors") else source.colors)
    if len(own) == count:
        return np.rint(255 * own).astype(np.uint8)
    return np.tile(np.asarray(color or (170, 170, 170), np.uint8), (count, 1))


def grounded(mesh: Mesh) -> Mesh:
    """The mesh on the floor of its own axes: its lowest point at z = 0."""
    return replace(mesh, vertices=mesh.vertices - [0.0, 0.0, mesh.vertices[:, 2].min()])
