"""A world from points that are somebody's already: a point cloud, or Gaussian splats as coloured discs. It has no
photographs, so no references: what is seen of it are its anchors, and what a frame model makes of these alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from worldfm_ros.sources.ply import Discs
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.builders.fusion import RADIUS
from worldfm_ros.world.storage import World

SAMPLE = 20_000  # points whose neighbours tell the spacing
UP = {"z": "identity", "-z": "x2", "y": "x1", "-y": "x-1", "x": "y-1", "-x": "y1"}  # quarter turns to z


@dataclass(frozen=True)
class CloudSettings:
    """How points become a world.

    scale: metres a unit of the file; None = not known, and lengths stay as they are.
    up: the axis of the file that points upwards: z, -z, y, -y (COLMAP's, usual for Gaussian splats), x or -x.
    largest: splats with a larger radius than this, metres, are left out: haze, not surface.
    """

    scale: float | None = None
    up: str = "z"
    largest: float = 0.5

    def __post_init__(self) -> None:
        if (self.scale is not None and not 0 < self.scale < np.inf) or not self.largest > 0:
            raise ValueError(f"scale is metres a unit, above 0, and largest metres, got {self.scale}, {self.largest}")
        if self.up not in UP:
            raise ValueError(f"up is one of {', '.join(UP)}, got {self.up!r}")


def build(discs: Discs, name: str, settings: CloudSettings = CloudSettings()) -> World:
    """Anchors as they are, turned and scaled. Points without a size get one that closes a surface."""
    kind = UP[settings.up]
    turn = Rotation.identity() if kind == "identity" else Rotation.from_euler(kind[0], 90 * int(kind[1:]), degrees=True)
    scale = settings.scale or 1.0
    points = turn.apply(discs.points) * scale
    spacing = usual_spacing(points)
    if discs.radius is None:
        radius = np.full(len(points), RADIUS * spacing, np.float32)
        keep = np.ones(len(points), bool)
    else:
        radius = (discs.radius * scale).astype(np.float32)
        keep = radius <= settings.largest
    if not keep.any():
        raise ValueError(f"{name}: all {len(points)} points are larger than {settings.largest:g} m; raise --largest, "
                         "or say --scale")
    labels = None if discs.labels is None else discs.labels[keep]
    anchors = AnchorMap.from_points(points[keep], discs.colors[keep], labels, radius[keep])
    discs.skipped.update({f"splats larger than {settings.largest:g} m": int((~keep).sum())} if not keep.all() else {})
    return World(name, anchors, [], spacing, metric=settings.scale is not None)


def usual_spacing(points: np.ndarray) -> float:
    """The median distance to the nearest other point, metres; 0 of a single one."""
    if len(points) < 2:
        return 0.0
    sample = points[np.random.default_rng(0).choice(len(points), min(len(points), SAMPLE), replace=False)]
    distance, _ = cKDTree(points).query(sample, k=2)
    return float(np.median(distance[:, 1]))
