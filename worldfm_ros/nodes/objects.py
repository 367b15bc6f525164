"""Objects on TF frames: where they are at a stamp, and the generator that draws them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.tf_buffer import TransformError, TransformListener
from worldfm_ros.nodes.tf_history import SECOND, seconds
from worldfm_ros.objects.objects import NOTHING, Objects
from worldfm_ros.objects.route import State
from worldfm_ros.sensor.sensor import Prepare

BEFORE = SECOND // 5  # ns; how far an object has come since then tells its speed
GAIT = 1.3  # m/s: the gait of a person on a TF frame goes on as at this speed, since its way is not known

States = Mapping[str, State]  # by TF frame


def objects_of(generator) -> Objects:
    """A generator's objects; one of somebody else's has none."""
    return getattr(generator, "objects", NOTHING)


def prepare_at(generator, stamp: int, states: States, call: Callable[[Callable], object]) -> Prepare:
    """The generator's `prepare` with its objects where they are at the stamp (ns). One that has none, since its frames
    depend on those before or it is somebody else's, does all its work by `call`."""
    objects = objects_of(generator)
    placed = {"objects": objects.at(stamp, states.get)} if objects.items else {}
    if hasattr(generator, "prepare"):
        return partial(generator.prepare, **placed)

    def prepare(T_map_camera: Pose, intrinsics: Intrinsics) -> Callable[[], object]:
        frame = call(partial(generator.generate, T_map_camera, intrinsics, **placed))
        return lambda: frame

    return prepare


class Whereabouts:
    """Asks TF for the frames of objects."""

    def __init__(self, listener: TransformListener, map_frame: str, logger) -> None:
        self._listener, self._map_frame, self._logger = listener, map_frame, logger

    def request(self, objects: Objects, stamp: int, timeout: float | None, done: Callable[[States], None]) -> None:
        """Call `done` with the states of all frames that are known at the stamp; what is not within `timeout` seconds
        (None = at once) is left out, with a warning. In the node's executor."""
        self._next(list(objects.frames), stamp, timeout, {}, done)

    def _next(self, frames: list[str], stamp: int, timeout: float | None, states: dict[str, State], done) -> None:
        if not frames:
            done(states)
            return

        def on_outcome(outcome: Pose | TransformError) -> None:
            if isinstance(outcome, TransformError):
                self._logger.warning(f"object at TF frame {frames[0]!r} is not drawn at time {seconds(stamp)}: "
                                     f"{outcome}", throttle_duration_sec=5.0)
            else:
                lookup = partial(self._listener.lookup, self._map_frame, frames[0])
                states[frames[0]] = state_of(lookup, stamp, outcome)
            self._next(frames[1:], stamp, timeout, states, done)

        if timeout is not None:
            self._listener.request(self._map_frame, frames[0], stamp, timeout, on_outcome)
            return
        try:
            outcome = self._listener.lookup(self._map_frame, frames[0], stamp)
        except TransformError as error:
            outcome = error
        on_outcome(outcome)


def state_of(lookup: Callable[[int], Pose], stamp: int, pose: Pose) -> State:
    """Of a frame whose pose at the stamp (ns) is known; `lookup(stamp)` gives others or raises TransformError."""
    try:
        before = lookup(stamp - BEFORE)
    except TransformError:
        before = pose
    speed = float(np.linalg.norm(pose.translation - before.translation)) * SECOND / BEFORE
    return State(pose, GAIT * (stamp % (3600 * SECOND)) / SECOND, speed)
