"""The further truth of a shot, all from its one geometry pass: what `--truth` names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldfm_ros.geometry import Pose
from worldfm_ros.replay.recipe import Shot
from worldfm_ros.truth.boxes import Seen, boxes_of
from worldfm_ros.truth.flow import flow_of
from worldfm_ros.truth.normals import normals_of
from worldfm_ros.truth.rays import points_of

TRUTHS = ("things", "boxes", "normals", "flow")
OF_PINHOLES = ("boxes", "normals")


def check_truths(names: Sequence[str]) -> tuple[str, ...]:
    """Raise ValueError for what is not among them."""
    if wrong := sorted(set(names) - set(TRUTHS)):
        raise ValueError(f"--truth is some of {', '.join(TRUTHS)}, got {', '.join(wrong)}")
    return tuple(name for name in TRUTHS if name in names)


def instances_of(shot: Shot) -> np.ndarray | None:
    """(H, W) uint16: the ids of what moves and, where they are asked for, of the world's things; None of neither."""
    frame = shot.taken.frame
    if shot.things is None:
        return frame.instances if shot.has_objects else None
    points = shot.job.pose.apply(points_of(frame.depth, shot.sensor.camera))
    return np.where(frame.instances > 0, frame.instances, shot.things.ids(points, frame.labels))


def boxes(shot: Shot, instances: np.ndarray | None) -> list[dict]:
    """Of every instance, JSON-ready."""
    _require_pinhole(shot, "boxes")
    if instances is None:
        return []
    seen = Seen(instances, shot.taken.frame.confidence, shot.job.pose, shot.sensor.camera.picture)
    return [box.to_dict() for box in boxes_of(seen, shot.objects, shot.things)]


def normals(shot: Shot) -> np.ndarray:
    """(H, W, 3) float32 in optical axes, NaN = none."""
    _require_pinhole(shot, "normals")
    return normals_of(shot.taken.frame.depth, shot.sensor.camera.picture)


def flow(shot: Shot) -> np.ndarray:
    """(H, W, 2) float32 to the next stamp, pixels; NaN = not known, and everywhere when there is no next stamp."""
    frame = shot.taken.frame
    if shot.later is None:
        return np.full((*frame.depth.shape, 2), np.nan, np.float32)
    now = {placed.id: placed.T_world_object for placed in shot.objects}
    motions: dict[int, Pose] = {placed.id: placed.T_world_object @ now[placed.id].inverse()
                                for placed in shot.later if placed.id in now}
    return flow_of(frame.depth, frame.instances, shot.sensor.camera, (shot.job.pose, shot.job.later.pose), motions)


def _require_pinhole(shot: Shot, what: str) -> None:
    if shot.sensor.camera.lens.bends:
        raise ValueError(f"--truth {what} is of pinhole pictures, and the camera {shot.camera.namespace} has a lens "
                         f"({shot.sensor.camera.lens.model}); leave it out, or take the lens out of the camera's file")
