"""A world's anchors as a point cloud for other programs: PLY (binary, with radius and label) and PCD (binary, v0.7)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement

from worldfm_ros.files import write_whole
from worldfm_ros.world.anchors import AnchorMap

SUFFIXES = (".ply", ".pcd")


def export_anchors(anchors: AnchorMap, path: str | Path) -> None:
    """Write all anchors; the suffix tells the format. The file is whole or not there. Raises ValueError for others.

    Positions are float32 metres; of a world that is far from zero, they are as exact as that allows."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: anchors are exported to {' or '.join(SUFFIXES)}; give the file one of these endings")
    tiles = anchors.tiles
    points = np.concatenate([tile.world_points for tile in tiles] or [np.empty((0, 3))]).astype(np.float32)
    colors, radius, labels = (np.concatenate([getattr(tile, name) for tile in tiles] or [empty]) for name, empty in
                              (("colors", np.empty((0, 3), np.uint8)), ("radius", np.empty(0, np.float32)),
                               ("labels", np.empty(0, np.uint16))))
    write_whole(path, ply_bytes(points, colors, radius, labels) if path.suffix == ".ply" else
                pcd_bytes(points, colors, labels))


def ply_bytes(points: np.ndarray, colors: np.ndarray, radius: np.ndarray, labels: np.ndarray) -> bytes:
    """x y z, red green blue, radius, label."""
    kinds = [*((name, "<f4") for name in "xyz"), *((name, "u1") for name in ("red", "green", "blue")),
             ("radius", "<f4"), ("label", "<u2")]
    rows = np.empty(len(points), kinds)
    for column, values in zip(rows.dtype.names, [*points.T, *colors.T, radius, labels], strict=True):
        rows[column] = values
    stream = io.BytesIO()
    PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(stream)
    return stream.getvalue()


def pcd_bytes(points: np.ndarray, colors: np.ndarray, labels: np.ndarray) -> bytes:
    """x y z rgb label, as the Point Cloud Library packs colours: 0x00RRGGBB."""
    rows = np.empty(len(points), [*((name, "<f4") for name in "xyz"), ("rgb", "<u4"), ("label", "<u2")])
    for column, values in zip("xyz", points.T, strict=True):
        rows[column] = values
    red, green, blue = colors.astype(np.uint32).T
    rows["rgb"], rows["label"] = red << 16 | green << 8 | blue, labels
    header = ("# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z rgb label\nSIZE 4 4 4 4 2\n"
              f"TYPE F F F U U\nCOUNT 1 1 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
              f"POINTS {len(points)}\nDATA binary\n")
    return header.encode() + rows.tobytes()
