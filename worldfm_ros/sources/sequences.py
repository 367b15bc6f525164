"""Where the clock of a recording goes back: a simulator that was started again begins another sequence."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from worldfm_ros.tf.history import JUMP_AFTER


@dataclass
class _Stream:
    newest: int
    latest: int
    behind: int = 0
    since: int = 0  # the place of the first of those behind


def sequence_starts(stamps: Iterable[tuple[Hashable, int]]) -> list[int]:
    """The places where another sequence begins, of (stream, stamp) in the order in which they came.

    As in the live buffer, a stream's clock was set back when JUMP_AFTER stamps in a row go on from before its newest.
    """
    starts, streams = [0], {}
    for place, (stream, stamp) in enumerate(stamps):
        if (known := streams.get(stream)) is None:
            streams[stream] = _Stream(stamp, stamp)
            continue
        if stamp >= known.newest:
            known.newest, known.behind = stamp, 0
        elif known.behind == 0 or stamp >= known.latest:
            known.since = place if known.behind == 0 else known.since
            known.behind += 1
        else:
            known.behind, known.since = 1, place
        known.latest = stamp
        if known.behind >= JUMP_AFTER:
            starts.append(known.since)
            streams.clear()
    return starts
