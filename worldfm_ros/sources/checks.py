"""Whether poses and depth tell of one scene: of a whole source before anything is made of it, and of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from worldfm_ros.clips import REFERENCE_GROUP, Clip, RgbdFrame
from worldfm_ros.geometry import Pose
from worldfm_ros.sources.conventions import READ, reread
from worldfm_ros.sources.evidence import (
    ANY,
    AS_READ,
    ENOUGH_POINTS,
    MOVED,
    NO_MOTION,
    Evidence,
    Reading,
    confirmed,
    gather,
    readings,
    sampled,
)
from worldfm_ros.sources.frames import PosedFrames

LEAST_DEPTH = 0.05  # of a reference frame's pixels
LEAST_AGREEMENT = 0.4  # of the points that both views see; noise and occlusion leave more, a wrong convention less
ABOVE_CHANCE = 0.15  # agreement that poses of other frames do not have
LEAST_OVERLAP = 0.1  # of a frame's points in the other view; less says nothing
CLEARLY = 3.0  # standard errors
BETTER = 0.03  # of a frame's points
GAPS = (0, 1, 2, 5, 10, 20, 40)  # frames from the first of a bout: slow scans show in the wide ones, fast in the narrow
BOUTS = 5  # pieces of a sequence that are looked at
APART = 8  # frames of an unordered set that are looked at, each with its neighbours in space
SAME_DIRECTION = 0.75  # cosine between the axes of views that may show the same place
FAMOUS = {5000.0: "TUM's", 6553.5: "Replica's", 256.0: "KITTI's", 1000.0: "millimetres", 1.0: "metres"}


@dataclass(frozen=True)
class Fit:
    """What the evidence says.

    better: the reading that explains it better. told: whether a wrong one would show. share: of the points that two
    frames see, how many agree; chance: how many do by poses of other frames. no_motion: the poses hardly move.
    """

    better: Reading | None
    told: bool
    share: float
    chance: float
    no_motion: bool

    @property
    def wrong(self) -> bool:
        return self.better is not None or self.share < min(LEAST_AGREEMENT, self.chance + ABOVE_CHANCE)


def check_fit(frames: PosedFrames) -> str | None:
    """Compare the poses and the depth of a source: None when they fit, a warning when nothing can be said.

    Raises ValueError when they do not fit, with the likeliest cause and the option that mends it.
    """
    if not frames.has_depth or len(frames) < 2:
        return None
    fit = None
    for choose in (in_time, in_space):  # pairs in space are for pictures in no order
        found = judge(gather(frames, choose(frames.poses, frames.written), readings(frames.written), frames.written))
        fit = found or fit
        if found is not None and (found.told or found.wrong):
            break
    where = f"{frames.path}: poses and depth"
    if fit is None:
        return (f"{where} could not be compared: no two of the frames that were tried show the same place; nothing "
                "says that the depth's unit and the poses' convention are right")
    if fit.wrong:
        raise ValueError(f"{where} do not fit: {cause(fit, frames)}")
    if not fit.told:
        return (f"{where} agree, but no wrong unit or convention would show: the camera hardly moves, or all it sees "
                "is alike")
    return None


def judge(evidence: Evidence) -> Fit | None:
    """The verdict on frames as they were read; None when no two of them show the same place in any reading."""
    names = [reading.name for reading in evidence.readings]
    comparable = evidence.compared[:, 0] >= LEAST_OVERLAP
    moves = evidence.moved > MOVED
    others = [k for k, name in enumerate(names) if name not in (AS_READ, NO_MOTION, ANY)]
    best = max(others, key=lambda k: evidence.agree[:, k].sum(), default=0) if len(evidence.agree) else 0
    better = best and _gain(evidence, 0, best) > CLEARLY and _share(evidence, best) > LEAST_AGREEMENT
    if not better and not comparable.any():
        return None
    worse = [_gain(evidence, k, 0) > CLEARLY for k in others]
    share, no_motion = _share(evidence, 0), not moves.any()
    told = share >= LEAST_AGREEMENT and np.mean(worse) > 0.5 and not no_motion
    chance = 1.0 if no_motion else _share(evidence, names.index(ANY))
    return Fit(evidence.readings[best] if better else None, bool(told), share, chance, no_motion)


def _share(evidence: Evidence, k: int) -> float:
    compared = evidence.compared[:, k].sum()
    return float(evidence.agree[:, k].sum() / compared) if compared > 0 else 0.0


def _gain(evidence: Evidence, worse: int, better: int) -> float:
    """How clearly one reading explains the pairs better than another one, in standard errors; 0 for too little."""
    difference = evidence.agree[:, better] - evidence.agree[:, worse]
    if len(difference) < 3 or difference.mean() < BETTER:
        return 0.0
    return float(difference.mean() / (difference.std() / np.sqrt(len(difference)) + 1e-9))


def cause(fit: Fit, frames: PosedFrames | None = None) -> str:
    """The likeliest cause of what does not fit; for a source, with the option that mends it."""
    reading = fit.better
    if reading is None:
        if fit.no_motion:
            return "the poses never change, and the pictures do: poses of a camera that moves are needed"
        return (f"{fit.share:.0%} of the points that two frames see agree, as with the poses of other frames; no unit "
                "and no convention that is known mends it: are the poses of these pictures, in their order and at "
                "their time?")
    if reading.poses is not None:
        told = {"opengl": "camera-to-world with OpenGL's axes", "body": "for a body with x forward (camera_link)"}
        text = f"the poses look as if they were written {told.get(reading.poses, reading.poses)}"
        return text + ("" if frames is None else f" (read as {frames.written}): use --poses {reading.poses}")
    times = 1 / reading.scale if reading.scale < 1 else reading.scale
    text = f"the depth looks {times:.3g} times too {'large' if reading.scale < 1 else 'small'} (another unit)"
    if frames is None:
        return text
    units = float(f"{frames.units / reading.scale:.5g}")
    famous = f" ({FAMOUS[units]})" if units in FAMOUS else ""
    beside = f", or depth_scale: {units:g} in camera.yaml" if (frames.path / "camera.yaml").exists() else ""
    return f"{text}: use --depth-scale {units:g}{famous}{beside}"


def in_time(poses: Sequence[Pose], written: str) -> list[tuple[int, int]]:
    """Pairs of positions that are near and far from each other in a sequence."""
    pairs, count = set(), len(poses)
    for start in np.linspace(0, max(0, count - 1 - GAPS[-1]), BOUTS).astype(int):
        bout = [int(start) + gap for gap in GAPS if start + gap < count]
        pairs.update(combinations(bout, 2))
    return sorted(pairs)


def in_space(poses: Sequence[Pose], written: str) -> list[tuple[int, int]]:
    """Pairs of positions that look the same way from near, in one of the ways to read their poses."""
    pairs = set()
    for asked in READ:
        ways = [reread(pose, written, asked) for pose in poses]
        eyes = np.stack([pose.translation for pose in ways])
        axes = np.stack([pose.rotation.as_matrix()[:, 2] for pose in ways])
        for k in np.linspace(0, len(ways) - 1, APART).astype(int):
            far = np.linalg.norm(eyes - eyes[k], axis=1)
            far[(axes @ axes[k] < SAME_DIRECTION) | (far < 1e-6)] = np.inf
            pairs.update((int(k), int(j)) for j in np.argsort(far)[:2] if np.isfinite(far[j]))
    return sorted(pairs)


def problem(clip: Clip) -> str | None:
    """Why a clip is no good, in a few words that are the same for all clips with this fault; None for a good one."""
    if (fault := whole(clip)) is not None:
        return fault
    written = "camera-to-world"
    fit = judge(gather(clip.frames, list(permutations(REFERENCE_GROUP, 2)), readings(written), written))
    if fit is None:
        return "no two reference frames show the same place"
    if fit.better is None and fit.share < LEAST_AGREEMENT:
        return "poses do not match the depth (is the camera convention or the unit another one?)"
    return f"poses do not match the depth: {cause(fit)}" if fit.wrong else None


def whole(clip: Clip) -> str | None:
    """The same, of what can be wrong with its reference frames one by one."""
    for frame in (clip.frames[k] for k in REFERENCE_GROUP):
        size = (frame.intrinsics.height, frame.intrinsics.width)
        if frame.rgb.shape != (*size, 3) or frame.depth.shape != size:
            return "colour, depth and camera differ in size"
        if np.mean(frame.depth > 0) < LEAST_DEPTH:
            return f"less than {LEAST_DEPTH:.0%} of a reference frame has depth"
    return None


def agreement(a: RgbdFrame, b: RgbdFrame) -> float | None:
    """The share of a's points, among those in b's view, that b measures at the same depth; None for too few points."""
    points = sampled(a)
    agree, compared = confirmed(points, b, [b.T_world_camera.inverse() @ a.T_world_camera]) if len(points) else (0, 0)
    return float(agree[0] / compared[0]) if len(points) and compared[0] * len(points) >= ENOUGH_POINTS else None
