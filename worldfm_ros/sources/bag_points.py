"""A LiDAR's PointCloud2, as rosbags reads it, to sparse depth of a camera beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose

FLOATS = {7: "f4", 8: "f8"}  # PointField.FLOAT32, FLOAT64
NEAREST = 0.05  # metres; nearer than this nothing is measured


def points_of(message: Any) -> np.ndarray:
    """(N, 3) float64 metres, in the message's frame, without what is not finite. Raises ValueError for a message that
    is no cloud."""
    fields = {field.name: field for field in message.fields}
    if missing := {"x", "y", "z"} - fields.keys():
        raise ValueError(f"a PointCloud2 has fields x, y and z, got none called {', '.join(sorted(missing))}")
    order = ">" if message.is_bigendian else "<"
    kinds = {name: FLOATS.get(fields[name].datatype) for name in "xyz"}
    if None in kinds.values():
        raise ValueError("a PointCloud2's x, y and z are FLOAT32 or FLOAT64 (datatype 7 or 8), got "
                         f"{[fields[name].datatype for name in 'xyz']}")
    data, count = np.asarray(message.data, np.uint8), message.width * message.height
    ends = [fields[name].offset + int(kinds[name][1]) for name in "xyz"]
    if max(ends) > message.point_step or len(data) < message.height * message.row_step or (
            message.row_step < message.width * message.point_step):
        raise ValueError(f"a PointCloud2 of {message.width}x{message.height} points of {message.point_step} bytes has "
                         f"{len(data)} bytes")
    rows = data[:message.height * message.row_step].reshape(message.height, message.row_step)
    packed = np.ascontiguousarray(rows[:, :message.width * message.point_step])
    layout = np.dtype({"names": list("xyz"), "formats": [order + kinds[name] for name in "xyz"],
                       "offsets": [fields[name].offset for name in "xyz"], "itemsize": message.point_step})
    read = packed.reshape(count, -1).view(layout)[:, 0] if count else np.empty(0, layout)
    points = np.stack([read[name].astype(np.float64) for name in "xyz"], axis=1)
    return points[np.isfinite(points).all(1)]


def sparse_depth(points: np.ndarray, T_camera_points: Pose, intrinsics: Intrinsics) -> np.ndarray:
    """(H, W) float32 metres along z, 0 = none: the nearest of the points (N, 3) in each pixel."""
    local = T_camera_points.apply(points)
    local = local[local[:, 2] > NEAREST]
    pixels = np.rint(intrinsics.project(local))
    inside = np.all((pixels >= 0) & (pixels < [intrinsics.width, intrinsics.height]), axis=1)
    column, row = pixels[inside].astype(int).T
    depth = np.full((intrinsics.height, intrinsics.width), np.inf, np.float32)
    np.minimum.at(depth, (row, column), local[inside, 2].astype(np.float32))
    return np.where(np.isfinite(depth), depth, np.float32(0))
