"""The transforms of a whole bag: known in full before anyone asks, so a sorted list for each frame is enough."""

from __future__ import annotations

from bisect import bisect_left

from worldfm_ros.geometry import Pose

STATIC = None  # the stamp of a transform that always holds


class TfTree:
    """Frames by name; stamps are nanoseconds. Moving transforms are interpolated, and never continued beyond their
    first and last."""

    def __init__(self) -> None:
        self._static: dict[str, tuple[str, Pose]] = {}
        self._moving: dict[str, dict[int, tuple[str, Pose]]] = {}
        self._stamps: dict[str, list[int]] = {}

    def add(self, stamp: int | None, parent: str, child: str, T_parent_child: Pose) -> None:
        """A transform as published; a second one of the same stamp replaces the first."""
        if stamp is STATIC:
            self._static[child] = parent, T_parent_child
        else:
            self._moving.setdefault(child, {})[stamp] = parent, T_parent_child
            self._stamps.pop(child, None)

    def from_root(self, frame: str, stamp: int) -> tuple[str, Pose]:
        """The root of the frame's tree and T_root_frame. Raises LookupError when a transform is not known then."""
        T, seen = Pose.identity(), {frame}
        while frame in self._static or frame in self._moving:
            frame, T_parent_frame = self._static.get(frame) or self._at(frame, stamp)
            if frame in seen:
                raise LookupError(f"the transforms form a loop at {frame}")
            seen.add(frame)
            T = T_parent_frame @ T
        return frame, T

    def _at(self, child: str, stamp: int) -> tuple[str, Pose]:
        samples = self._moving[child]
        if stamp in samples:
            return samples[stamp]
        stamps = self._stamps.setdefault(child, sorted(samples))
        after = bisect_left(stamps, stamp)
        if after in (0, len(stamps)):
            raise LookupError(f"no transform of {child} at the picture's time")
        (parent, before_pose), (_, after_pose) = samples[stamps[after - 1]], samples[stamps[after]]
        fraction = (stamp - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        return parent, before_pose.interpolate(after_pose, fraction)
