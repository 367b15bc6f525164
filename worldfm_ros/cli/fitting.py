"""Sources that commands make something of: read as their user says, and checked first."""

from __future__ import annotations

import sys

from worldfm_ros.sources.checks import check_fit
from worldfm_ros.sources.conventions import Conventions, with_conventions
from worldfm_ros.sources.frames import PosedFrames


def fitting(frames: PosedFrames, conventions: Conventions = Conventions()) -> PosedFrames:
    """The frames, read by the conventions. Says on stderr how many were left out, and when nothing tells that poses and
    depth fit; raises ValueError when they do not."""
    frames = with_conventions(frames, conventions)
    total = len(frames) + sum(frames.skipped.values())
    for reason, count in frames.skipped.items():
        print(f"left out: {count} of {total} frames: {reason}", file=sys.stderr)
    for reason, count in frames.ignored.items():
        print(f"ignored: {count} {reason}", file=sys.stderr)
    for note in (*frames.notes, *frames.borders.notes):
        print(f"note: {note}", file=sys.stderr)
    warning = check_fit(frames)
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
    return frames
