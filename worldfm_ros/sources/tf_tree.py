"""The transforms of a whole recording, with the rules of the live buffer: known in full before anyone asks."""

from __future__ import annotations

import math

from worldfm_ros.geometry import Pose
from worldfm_ros.tf.history import MovingEdge, StaticEdge, TransformError, TransformLoop

STATIC = None  # the stamp of a transform that always holds


class TfTree:
    """Frames by name; stamps are nanoseconds. Moving transforms are interpolated as the live buffer does it: never
    beyond their first and last, and not across a gap."""

    def __init__(self) -> None:
        self._static: dict[str, StaticEdge] = {}
        self._samples: dict[str, dict[int, tuple[str, Pose]]] = {}
        self._moving: dict[str, MovingEdge] = {}

    def add(self, stamp: int | None, parent: str, child: str, T_parent_child: Pose) -> None:
        """A transform as published; a second one of the same stamp replaces the first."""
        if stamp is STATIC:
            self._static.setdefault(child, StaticEdge()).insert(0, parent, T_parent_child)
        else:
            self._samples.setdefault(child, {})[stamp] = parent, T_parent_child
            self._moving.pop(child, None)

    def from_root(self, frame: str, stamp: int) -> tuple[str, Pose]:
        """The root of the frame's tree and T_root_frame. Raises TransformError when a transform is not known then."""
        T, seen = Pose.identity(), {frame}
        while (edge := self._edge(frame)) is not None:
            try:
                parent, T_parent_frame = edge.at(stamp)
            except TransformError as error:
                raise type(error)(f"no transform of {frame} at the picture's time ({error.reason})") from None
            frame, T = parent, T_parent_frame @ T
            if frame in seen:
                raise TransformLoop(f"the transforms form a loop at {frame}")
            seen.add(frame)
        return frame, T

    def moves(self, frame: str) -> bool:
        """Whether any transform above the frame is one that moves."""
        seen = set()
        while frame not in seen and (edge := self._edge(frame)) is not None:
            if not edge.static:
                return True
            seen.add(frame)
            frame = edge.parent_at(None)
        return False

    def _edge(self, child: str) -> StaticEdge | MovingEdge | None:
        if child in self._static or child not in self._samples:
            return self._static.get(child)
        if child not in self._moving:
            edge = self._moving[child] = MovingEdge(child, cache=math.inf)
            for stamp, (parent, pose) in sorted(self._samples[child].items()):
                edge.insert(stamp, parent, pose)
        return self._moving[child]
