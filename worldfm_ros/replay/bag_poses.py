"""Where a bag's cameras were: its TF, replayed in order through the live camera's buffer, by its rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from worldfm_ros.bags.reader import BadMessage, Bag, nanoseconds
from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.camera_modes import NewPoses
from worldfm_ros.nodes.camera_motion import poses_about
from worldfm_ros.nodes.objects import state_of
from worldfm_ros.nodes.ticks import tick_period
from worldfm_ros.objects.route import State
from worldfm_ros.replay.cameras import ReplayCamera
from worldfm_ros.replay.recipe import Job
from worldfm_ros.sources.bag_topics import transform_topics
from worldfm_ros.tf.buffer import TransformBuffer
from worldfm_ros.tf.history import CACHE, ExtrapolationPast, TransformError

ANY = 1000.0  # Hz; how often a pose may be new where no rate is asked


@dataclass(eq=False)
class Asked:
    """The pictures that a bag's TF gives poses for.

    jobs: in the order in which their poses became known; recorded: when that was, ns, by job
    lost: stamps without a pose, by reason; undrawn: objects that were not known then, by frame and reason
    """

    jobs: list[Job] = field(default_factory=list)
    recorded: list[int] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    undrawn: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Wanted:
    """What is asked of a bag. map_frame: the world's coordinates; rate: pictures a second, None = what a camera's file
    says, else every new pose; tf: the topic of one robot of several; objects: TF frames that objects move with."""

    cameras: Sequence[ReplayCamera]
    map_frame: str
    rate: float | None = None
    tf: str | None = None
    objects: Sequence[str] = ()


class Ticks:
    """The whole multiples of a period that TF has passed since it was first known, each once. Stamps in ns."""

    def __init__(self, rate: float, lost: Counter[str]) -> None:
        self._period, self._lost = tick_period(rate), lost
        self._last: int | None = None

    def due(self, newest: int | None) -> Iterable[int]:
        """Given the newest stamp at which the pose is known. Those of a long hole are lost without being asked for."""
        if newest is None:
            return []
        tick = newest - newest % self._period
        if self._last is None or tick < self._last - CACHE:  # it begins, or the clock was set back
            self._last = tick - max(1, CACHE // self._period) * self._period
        if tick - self._last > CACHE + self._period:
            self._lost["gap"] += (tick - self._last) // self._period - 1
            self._last = tick - self._period
        begin, self._last = self._last, max(tick, self._last)
        return range(begin + self._period, tick + 1, self._period)


class Poses:
    """Every new pose that TF gives. Stamps in ns."""

    def __init__(self) -> None:
        self._new = NewPoses(ANY)

    def due(self, newest: int | None) -> Iterable[int]:
        return [newest] if self._new.is_due(newest) else []


class CameraPoses:
    """One camera's way through a bag."""

    def __init__(self, place: int, wanted: Wanted, asked: Asked) -> None:
        camera = wanted.cameras[place]
        self._place, self._camera, self._asked = place, camera, asked
        self._frames, self._objects = (wanted.map_frame, camera.frame), wanted.objects
        self._offsets = camera.sensor().offsets
        rate = wanted.rate or camera.rate
        self._due = Ticks(rate, asked.lost) if rate else Poses()
        self._begun = False

    def look(self, buffer: TransformBuffer, recorded: int) -> TransformError | None:
        """After new transforms: ask for what is due. Returns why TF gives no pose at all yet."""
        try:
            newest = buffer.latest_common_stamp(*self._frames)
        except TransformError as error:
            return error
        for stamp in self._due.due(newest):
            outcome = self._poses(buffer, stamp)
            if not isinstance(outcome, TransformError):
                self._begun = True
                name = f"{self._camera.namespace}/{stamp}"
                states = self._states(buffer, stamp)
                self._asked.jobs.append(Job(name, self._place, stamp, tuple(outcome), stamp, states))
                self._asked.recorded.append(recorded)
            elif self._begun or not isinstance(outcome, ExtrapolationPast):  # else it is from before the drive
                self._asked.lost[outcome.reason] += 1
        return None

    def _poses(self, buffer: TransformBuffer, stamp: int) -> list[Pose] | TransformError:
        try:
            pose = buffer.lookup(*self._frames, stamp)
        except TransformError as error:
            return error
        return poses_about(partial(buffer.lookup, *self._frames), stamp, pose, self._offsets)

    def _states(self, buffer: TransformBuffer, stamp: int) -> dict[str, State]:
        """Of the objects on TF frames; as by the live camera, one that is not known then is not drawn."""
        states = {}
        for frame in self._objects:
            lookup = partial(buffer.lookup, self._frames[0], frame)
            try:
                states[frame] = state_of(lookup, stamp, lookup(stamp))
            except TransformError as error:
                self._asked.undrawn[f"{frame}: {error.reason}"] += 1
        return states


def poses_of(bag: Bag, wanted: Wanted) -> Asked:
    """The pictures to paint. Raises ValueError for a bag whose TF never says where a camera is."""
    asked, buffer = Asked(), TransformBuffer()
    cameras = [CameraPoses(place, wanted, asked) for place in range(len(wanted.cameras))]
    for camera in wanted.cameras:
        for pose, parent, child in camera.mounts:
            buffer.insert(parent, child, 0, pose.translation, pose.quaternion, static=True)
    why: TransformError | None = None
    for recorded, transforms, static in _messages(bag, _topics(bag, wanted)):
        for transform in transforms:
            _insert(buffer, transform, static, asked.lost)
        if not static:
            failed = [error for camera in cameras if (error := camera.look(buffer, recorded))]
            why = failed[0] if failed else why
    if not asked.jobs:
        frames = ", ".join(f"{camera.frame!r}" for camera in wanted.cameras)
        raise ValueError(f"{bag.path}: its TF never says where {frames} is in the world's frame {wanted.map_frame!r}: "
                         f"{why or 'no transform in it moves'}. Name the camera's frame (--camera-frame), mount the "
                         "camera on a frame that the bag has (a rig with parent_frame and mount), or name the bag's "
                         "fixed frame (--map-frame)")
    return asked


def _topics(bag: Bag, wanted: Wanted) -> set[str]:
    types = {connection.topic: connection.msgtype for connection in bag.connections}
    topics = transform_topics(types, f"/{wanted.cameras[0].namespace}/image_raw", wanted.tf, bag.path)
    if not topics:
        beside = f" beside {wanted.tf}" if wanted.tf else ""
        raise ValueError(f"{bag.path} has no TF{beside}: a camera's pose comes from "
                         f"/tf and /tf_static; record them as well. It has {', '.join(sorted(types)) or 'no topic'}")
    return topics


def _messages(bag: Bag, topics: set[str]) -> Iterator[tuple[int, Sequence, bool]]:
    """(when it was recorded, transforms, whether they are static): the static ones once before all others, too, as a
    latched topic is known to who comes late."""
    static = [c for c in bag.connections if c.topic in topics and c.topic.endswith("static")]
    moving = [c for c in bag.connections if c.topic in topics]
    for connections in (static, moving):
        for connection, recorded, data in bag.messages(connections) if connections else ():
            try:
                yield recorded, bag.deserialize(data, connection.msgtype).transforms, connection in static
            except BadMessage:
                continue


def _insert(buffer: TransformBuffer, stamped, static: bool, lost: Counter[str]) -> None:
    header, t, q = stamped.header, stamped.transform.translation, stamped.transform.rotation
    try:
        buffer.insert(header.frame_id, stamped.child_frame_id, nanoseconds(header.stamp), (t.x, t.y, t.z),
                      (q.x, q.y, q.z, q.w), static)
    except TransformError as error:
        lost[f"transforms: {error.reason}"] += 1
