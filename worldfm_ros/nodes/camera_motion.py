"""Where a camera was while it took a picture: TF before the stamp, and what goes on from there."""

from __future__ import annotations

from collections.abc import Sequence

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.tf_history import SECOND
from worldfm_ros.sensor.motion import continued
from worldfm_ros.tf.history import TransformError


def poses_about(lookup, stamp: int, pose: Pose, offsets: Sequence[float]) -> list[Pose] | TransformError:
    """T_map_camera at the stamp (ns) + each of the offsets (s), given the stamp's; `lookup(stamp)` gives others or
    raises TransformError. TF after the stamp is not asked for: a simulator in lockstep has none, and nothing waits."""
    past = []
    try:
        for offset in offsets[:len(offsets) // 2]:
            past.append(lookup(stamp + round(offset * SECOND)))
    except TransformError as error:
        return error
    return continued([*past, pose])
