"""TF without tf2: a tree of frames with tf2's rules, and lookups that call back instead of waiting.

Frames are strings, stamps integer nanoseconds, transforms `Pose`; nodes/tf_buffer.py feeds it from topics. A lookup
either gives T_target_source at exactly that stamp or raises a TransformError that says why; it never falls back to the
latest transform or to the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
import threading

from worldfm_ros.geometry import Pose
from worldfm_ros.tf.history import (
    MovingEdge,
    NotConnected,
    StaticEdge,
    TimeJump,
    TransformError,
    TransformLoop,
    UnknownFrame,
    checked,
    seconds,
)


@dataclass(frozen=True, eq=False)
class _Request:
    target: str
    source: str
    stamp: int
    deadline: int
    callback: Callable[[Pose | TransformError], None]
    seen: dict[str, str | type[TransformError]] = field(default_factory=dict)  # what its last attempt met, by frame


class TransformBuffer:
    """A tree of frames over the last 10 s, with the rules of tf2's BufferCore.

    Each frame has one parent at a time and may change it; static transforms hold at any time; a single sample holds at
    its own stamp only. Late transforms are sorted in while they are within the cache. Unlike tf2, it does not
    interpolate between samples more than MAX_GAP apart: what the robot did meanwhile is not known. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._edges: dict[str, StaticEdge | MovingEdge] = {}  # by child
        self._frames: set[str] = set()
        self._refused: dict[str, TransformError] = {}  # the last refusal of each child since its last good transform
        self._pending: list[_Request] = []

    def insert(self, parent: str, child: str, stamp_ns: int, translation, xyzw, static: bool = False) -> None:
        """Add T_parent_child (metres; quaternion x, y, z, w) and answer the requests that it completes.

        Raises InvalidTransform or OutdatedTransform for a transform that it refuses. When a frame's transforms keep
        coming from before the cache, time has gone back: the buffer starts again from there.
        """
        parent, child = parent.removeprefix("/"), child.removeprefix("/")
        with self._lock:
            try:
                pose = checked(parent, child, translation, xyzw)
                edge = self._edges.get(child)
                answers = self._forget() if edge is not None and edge.goes_back(stamp_ns) else []
                named = {parent, child} - self._frames
                self._insert(parent, child, stamp_ns, pose, static)
            except TransformError as error:
                self._refused[child] = type(error)(str(error))
                raise
            answers += self._settle(lambda r: self._answer(r) if self._is_news(r, child, named) else None)
        _call_back(answers)

    def lookup(self, target: str, source: str, stamp_ns: int | None) -> Pose:
        """T_target_source at the stamp; None = the newest time at which it is known.

        Raises UnknownFrame, NotConnected, TransformLoop, ExtrapolationPast, ExtrapolationFuture or TransformGap; and
        InvalidTransform or OutdatedTransform where the transform that is missing did come but was refused.
        """
        with self._lock:
            if stamp_ns is None:
                stamp_ns = self.latest_common_stamp(target, source)
            up_source, up_target, common = self._paths(target, source, stamp_ns)
            T_common_source = self._along(_before(up_source, common), stamp_ns)
            return self._along(_before(up_target, common), stamp_ns).inverse() @ T_common_source

    def latest_common_stamp(self, target: str, source: str) -> int | None:
        """The newest stamp at which `lookup` can answer, nanoseconds; None when everything between is static."""
        with self._lock:
            up_source, up_target, common = self._paths(target, source, None)
            between = [frame for path in (up_source, up_target) for frame in _before(path, common)]
            stamps = [self._edges[frame].newest for frame in between if not self._edges[frame].static]
            return min(stamps, default=None)

    def request(self, target: str, source: str, stamp_ns: int | None, deadline_ns: int, callback) -> None:
        """Call `callback(outcome)` once: with the Pose T_target_source as soon as it is known (at once if it already
        is), with the TransformError as soon as it can no longer be known, or when `expire` passes the deadline.

        The callback runs in the thread whose call decided it: this one, `insert`, `expire` or `clear`.
        """
        request = _Request(target, source, stamp_ns, deadline_ns, callback)
        with self._lock:
            outcome = self._answer(request)
            if outcome is None:
                self._pending.append(request)
        if outcome is not None:
            callback(outcome)

    def next_deadline(self) -> int | None:
        """The earliest deadline of the waiting requests."""
        with self._lock:
            return min((request.deadline for request in self._pending), default=None)

    def waiting(self) -> list[tuple[int, TransformError]]:
        """The stamps (ns) of the requests that wait, and why each does."""
        with self._lock:
            outcomes = [(request.stamp, self._outcome(request)) for request in self._pending]
        return [(stamp, outcome) for stamp, outcome in outcomes if isinstance(outcome, TransformError)]

    def expire(self, now_ns: int) -> None:
        """Answer the requests whose deadline has passed, with the reason why each could not be answered before."""
        with self._lock:
            answers = self._settle(lambda request: self._outcome(request) if request.deadline <= now_ns else None)
        _call_back(answers)

    def clear(self) -> None:
        """Forget all but the static transforms (as tf2); waiting requests get TimeJump."""
        with self._lock:
            answers = self._forget()
        _call_back(answers)

    def _forget(self) -> list[tuple[_Request, Pose | TransformError]]:
        self._edges = {child: edge for child, edge in self._edges.items() if edge.static}
        self._refused.clear()
        return self._settle(lambda request: TimeJump(
            f"time went back while the transform from {request.source!r} to {request.target!r} at time "
            f"{seconds(request.stamp)} was awaited"))

    def _insert(self, parent: str, child: str, stamp: int, pose: Pose, static: bool) -> None:
        edge = self._edges.get(child)
        if edge is None or edge.static != static:
            edge = StaticEdge() if static else MovingEdge(child)
        edge.insert(stamp, parent, pose)
        self._edges[child] = edge
        self._frames |= {parent, child}
        self._refused.pop(child, None)

    def _along(self, frames: list[str], stamp: int) -> Pose:
        """T_end_start of a way up through these frames. Composed when both ways are known to meet: requests look often
        while they wait, and to compose takes most of the time."""
        T_frame_start = Pose.identity()
        for frame in frames:
            T_frame_start = self._edges[frame].at(stamp)[1] @ T_frame_start
        return T_frame_start

    def _paths(self, target: str, source: str, stamp: int | None) -> tuple[list[str], list[str], str]:
        """The ways up from source and from target, frame by frame, and where they meet."""
        for frame in (target, source):
            if frame not in self._frames:
                cause = self._refused.get(frame) or UnknownFrame("frames that transforms have named: "
                                                                 + (", ".join(sorted(self._frames)) or "none"))
                raise type(cause)(f"the frame {frame!r} is not known: {cause}")
        up_source, source_gap = self._climb(source, stamp, {target})
        up_target, target_gap = self._climb(target, stamp, up_source)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            cause = self._cause((up_source, source_gap), (up_target, target_gap))
            raise type(cause)(f"no transform from {source!r} to {target!r}: {cause}")
        return up_source, up_target, common

    def _climb(self, frame: str, stamp: int | None, until: Container[str]):
        """The way up to a frame in `until`, to the root or to a gap: (its frames, gap or None)."""
        way = [frame]
        while frame not in until and frame in self._edges:
            try:
                parent = self._edges[frame].parent_at(stamp)
            except TransformError as gap:
                return way, gap
            if parent in way:
                return way, TransformLoop(f"going up from parent to parent runs in a loop: {', '.join([*way, parent])}")
            way.append(parent)
            frame = parent
        return way, None

    def _cause(self, *ways) -> TransformError:
        """Why two ways up do not meet: a final gap, else a transform refused where a way ends, else a gap."""
        gaps = [gap for _, gap in ways if gap is not None]
        final = [gap for gap in gaps if gap.final]
        ends = [way[-1] for way, gap in ways if gap is not None or not gaps]
        refused = [self._refused[end] for end in ends if end in self._refused]
        roots = " and ".join(repr(end) for end in ends)
        return [*final, *refused, *gaps, NotConnected(f"they are in different trees, with the roots {roots}")][0]

    def _outcome(self, request: _Request) -> Pose | TransformError:
        try:
            return self.lookup(request.target, request.source, request.stamp)
        except TransformError as error:
            return error

    def _answer(self, request: _Request) -> Pose | TransformError | None:
        """The outcome; None while it can still change, and then the request remembers what it has seen."""
        outcome = self._outcome(request)
        if isinstance(outcome, Pose) or outcome.final:
            return outcome
        request.seen.clear()
        for frame in (request.target, request.source):
            while isinstance(frame, str) and frame not in request.seen:
                parent = request.seen[frame] = self._parent_at(frame, request.stamp)
                frame = parent
        return None

    def _is_news(self, request: _Request, child: str, named: set[str]) -> bool:
        """Whether a new transform of `child`, which named some frames for the first time, can change the outcome."""
        if request.stamp is None or request.target in named or request.source in named:
            return True
        return child in request.seen and self._parent_at(child, request.stamp) != request.seen[child]

    def _parent_at(self, frame: str, stamp: int) -> str | type[TransformError]:
        """The parent of a frame at the stamp, or the kind of error that says why there is none."""
        if frame not in self._edges:
            return NotConnected
        try:
            return self._edges[frame].parent_at(stamp)
        except TransformError as error:
            return type(error)

    def _settle(self, decide) -> list[tuple[_Request, Pose | TransformError]]:
        """Take the requests that `decide` has an outcome for out of the waiting list, in order."""
        decided = [(request, decide(request)) for request in self._pending]
        self._pending = [request for request, outcome in decided if outcome is None]
        return [(request, outcome) for request, outcome in decided if outcome is not None]


def _before(way: list[str], end: str) -> list[str]:
    return way[:way.index(end)]


def _call_back(answers) -> None:
    """Outside the lock, so that a callback may use the buffer and never holds up another thread."""
    for request, outcome in answers:
        request.callback(outcome)
