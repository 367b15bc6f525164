"""The transforms of one frame to its parents over time, and the ways in which a transform can be wrong.

Frames are strings, stamps integer nanoseconds, transforms `Pose`; no ROS here.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from worldfm_ros.geometry import Pose

SECOND = 10**9  # nanoseconds
CACHE = 10 * SECOND
MAX_GAP = SECOND  # between the samples that a pose is interpolated from: slow TF has 2 Hz; in an outage robots turn off
JUMP_AFTER = 10  # transforms of one frame in a row from before its newest, none newer between: its clock went back


class TransformError(Exception):
    """A transform cannot be used or computed. `reason` is its short name for counters."""

    reason = "transform_error"
    final = False  # True when no transform that may still arrive can help


class UnknownFrame(TransformError):
    """No transform has named this frame (tf2: LookupException)."""

    reason = "unknown_frame"


class NotConnected(TransformError):
    """The two frames have no common ancestor (tf2: ConnectivityException)."""

    reason = "not_connected"


class ExtrapolationFuture(TransformError):
    """The stamp is newer than the newest sample (tf2: ExtrapolationException)."""

    reason = "extrapolation_future"


class ExtrapolationPast(TransformError):
    """The stamp is older than the oldest sample (tf2: ExtrapolationException)."""

    reason = "extrapolation_past"
    final = True


class TransformGap(TransformError):
    """The samples around the stamp are too far apart to interpolate between them (no error in tf2)."""

    reason = "gap"


class InvalidTransform(TransformError):
    """NaN, a quaternion that is not of unit length, an empty frame name, or a frame that is its own parent."""

    reason = "invalid_transform"


class OutdatedTransform(TransformError):
    """Older than the newest sample of its frame by more than the cache (tf2: TF_OLD_DATA)."""

    reason = "outdated_transform"


class TransformLoop(TransformError):
    """Going from parent to parent comes back to the same frame."""

    reason = "transform_loop"


class TimeJump(TransformError):
    """Time went backwards while a request was waiting."""

    reason = "time_jump"


def seconds(ns: int) -> str:
    """Nanoseconds as exact decimal seconds."""
    return f"{ns // SECOND}.{ns % SECOND:09d}"


def checked(parent: str, child: str, translation, xyzw) -> Pose:
    """T_parent_child of a transform as it was published. Raises InvalidTransform."""
    if not parent or not child:
        raise InvalidTransform(f"a transform names its two frames, got {parent!r} -> {child!r}")
    if parent == child:
        raise InvalidTransform(f"the frame {child!r} is given as its own parent")
    try:
        return Pose.from_quaternion(translation, xyzw)
    except ValueError as error:
        raise InvalidTransform(f"the transform {parent} -> {child} was refused: {error}") from None


def frames_of(message: Any) -> tuple[str, str]:
    """Parent and child of a TransformStamped, ROS 1's or 2's, without the slash that ROS 1 wrote before a name."""
    return message.header.frame_id.lstrip("/"), message.child_frame_id.lstrip("/")


def pose_of(message: Any) -> Pose:
    """T_parent_child of a TransformStamped. Raises InvalidTransform."""
    t, q = message.transform.translation, message.transform.rotation
    return checked(*frames_of(message), [t.x, t.y, t.z], [q.x, q.y, q.z, q.w])


class StaticEdge:
    """The parent of one frame, for all time. A newer transform replaces it."""

    static, newest = True, None

    def insert(self, stamp: int, parent: str, pose: Pose) -> None:
        self._sample = parent, pose

    def goes_back(self, stamp: int) -> bool:
        return False

    def parent_at(self, stamp: int | None) -> str:
        return self._sample[0]

    def at(self, stamp: int | None) -> tuple[str, Pose]:
        return self._sample


class MovingEdge:
    """The recent parents and poses of one frame, sorted by stamp.

    A stamp is known at a sample, and between two samples that are at most MAX_GAP apart.
    """

    static = False

    def __init__(self, child: str, cache: float = CACHE) -> None:
        """`cache`: nanoseconds; what is older than the newest sample by more is forgotten."""
        self._child, self._cache = child, cache
        self._stamps: list[int] = []
        self._samples: list[tuple[str, Pose]] = []
        self._outdated = 0  # refused in a row
        self._behind = 0  # from before the newest in a row, each newer than the one before it
        self._latest_arrival = 0  # stamp

    @property
    def newest(self) -> int:
        return self._stamps[-1]

    def insert(self, stamp: int, parent: str, pose: Pose) -> None:
        """Sort a sample in; a second one of the same stamp replaces the first. OutdatedTransform beyond the cache."""
        if self._is_outdated(stamp):
            self._outdated += 1
            raise OutdatedTransform(f"the transform {parent} -> {self._child} at time {seconds(stamp)} is more than "
                                    f"{self._cache / SECOND:g} s older than the latest, at {seconds(self.newest)}")
        self._outdated = 0
        i = bisect_left(self._stamps, stamp)
        known = i < len(self._stamps) and self._stamps[i] == stamp
        self._stamps[i:i + known], self._samples[i:i + known] = [stamp], [(parent, pose)]
        if self._newer_are_left_over(stamp):
            del self._stamps[i + 1:], self._samples[i + 1:]
        expired = bisect_left(self._stamps, self.newest - self._cache)
        del self._stamps[:expired], self._samples[:expired]

    def goes_back(self, stamp: int) -> bool:
        """Whether this stamp is one outdated too many: not a stray message, but a clock that was set back."""
        return self._is_outdated(stamp) and self._outdated >= JUMP_AFTER - 1

    def _is_outdated(self, stamp: int) -> bool:
        return bool(self._stamps) and stamp < self.newest - self._cache

    def _newer_are_left_over(self, stamp: int) -> bool:
        """Whether what is newer than this new sample is from before a clock was set back: samples go on without it.

        Such a leftover must go before time comes near it, or poses would be interpolated towards it.
        """
        goes_on = self._latest_arrival < stamp < self.newest
        self._behind, self._latest_arrival = self._behind + 1 if goes_on else 0, stamp
        return self._behind >= JUMP_AFTER

    def parent_at(self, stamp: int | None) -> str:
        """The parent at the stamp (None = newest). Raises as `at` does."""
        return self._samples[self._index(stamp)][0]

    def at(self, stamp: int | None) -> tuple[str, Pose]:
        """Parent and T_parent_child at the stamp (None = newest), interpolated between the two samples around it.

        Raises ExtrapolationPast, ExtrapolationFuture or TransformGap.
        """
        i = self._index(stamp)
        parent, pose = self._samples[i]
        if stamp is None or self._stamps[i] == stamp or self._samples[i + 1][0] != parent:
            return parent, pose  # where the frame changes parents, the old one holds until the new one's stamp
        before, after = self._stamps[i:i + 2]
        return parent, pose.interpolate(self._samples[i + 1][1], (stamp - before) / (after - before))

    def _index(self, stamp: int | None) -> int:
        """Of the sample at the stamp, else of the one before it."""
        if stamp is None:
            return len(self._stamps) - 1
        i = bisect_left(self._stamps, stamp)
        if i < len(self._stamps) and self._stamps[i] == stamp:
            return i
        if i == 0 or i == len(self._stamps):
            raise self._outside(stamp)
        before, after = self._stamps[i - 1:i + 1]
        if after - before > MAX_GAP:
            raise TransformGap(f"{self._requested(stamp)} but the data around it are at times {seconds(before)} and "
                               f"{seconds(after)}, farther apart than {MAX_GAP / SECOND:g} s")
        return i - 1

    def _outside(self, stamp: int) -> TransformError:
        kind, side, end = ((ExtrapolationPast, "earliest", self._stamps[0]) if stamp < self._stamps[0]
                           else (ExtrapolationFuture, "latest", self.newest))
        return kind(f"{self._requested(stamp)} but the {side} data is at time {seconds(end)} (available: "
                    f"{seconds(self._stamps[0])} to {seconds(self.newest)}, {len(self._stamps)} samples)")

    def _requested(self, stamp: int) -> str:
        return f"the transform {self._samples[-1][0]} -> {self._child} was requested at time {seconds(stamp)}"
