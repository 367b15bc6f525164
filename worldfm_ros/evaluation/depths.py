"""Depth completers judged by measured depth of which they are told nothing, points, or half."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from scipy.stats import spearmanr

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.depth.completion import DepthCompleter
from worldfm_ros.evaluation.held_out import spread
from worldfm_ros.sources.frames import PosedFrames

KINDS = ("none", "points", "half")
SHARE = 0.01  # of the pixels, in points
GOOD = 1.25  # ratio; delta1 is the share of pixels within
RANKED = 5000  # pixels of a frame
LEAST = 100  # pixels with depth that is not told; a frame with fewer says nothing


def told(depth: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray | None:
    """What of measured depth (H, W) a completer is given: nothing, 1 % of the pixels, or the left half."""
    if kind == "none":
        return None
    if kind == "points":
        return np.where(rng.random(depth.shape) < SHARE, depth, np.float32(0))
    return np.where(np.arange(depth.shape[1]) < depth.shape[1] // 2, depth, np.float32(0))


def judge(frames: PosedFrames, completers: Mapping[str, DepthCompleter], count: int, seed: int = 0,
          track: Callable[[Iterable], Iterable] = iter) -> list[dict]:
    """A row for each kind and completer: means over the frames of AbsRel and delta1 of the depth that was not told, and
    of the rank correlation of confidence and error (1: the less sure, the worse; None where it is the same everywhere).

    Where nothing is told, depth is aligned with the truth by the median of their ratio (scale alone); else it is taken
    as it is. What a completer refuses has no row. Raises ValueError for frames without depth.
    """
    frames.require_depth()
    rng, scores = np.random.default_rng(seed), {}
    for position in track(spread(len(frames), count)):
        frame = frames[position]
        for kind in KINDS:
            given = told(frame.depth, kind, rng)
            for name, completer in completers.items():
                if (score := figures(frame, given, completer)) is not None:
                    scores.setdefault((kind, name), []).append(score)
    return [{"known": kind, "completer": name, "frames": len(rows),
             "abs_rel": float(np.mean([row[0] for row in rows])), "delta1": float(np.mean([row[1] for row in rows])),
             "confidence_rank": mean_of([row[2] for row in rows])}
            for (kind, name), rows in scores.items()]


def mean_of(ranks: list[float]) -> float | None:
    known = [rank for rank in ranks if np.isfinite(rank)]
    return float(np.mean(known)) if known else None


def figures(frame: RgbdFrame, given: np.ndarray | None, completer: DepthCompleter) -> tuple[float, float, float] | None:
    """AbsRel, delta1 and the confidence's rank of a frame; None when there is nothing to say."""
    asked = (frame.depth > 0) & (True if given is None else given == 0)
    if np.count_nonzero(asked) < LEAST or (given is not None and not given.any()):
        return None
    if given is None and completer.needs_depth:
        return None
    found = completer.complete(frame.rgb, given, frame.intrinsics)
    ratio = found.depth[asked] / frame.depth[asked]
    if given is None:
        ratio = ratio / np.median(ratio)
    return (float(np.mean(np.abs(ratio - 1))), float(np.mean(np.maximum(ratio, 1 / ratio) < GOOD)),
            rank(found.confidence[asked], np.abs(np.log(ratio))))


def rank(confidence: np.ndarray, error: np.ndarray) -> float:
    """How well confidence (N,) tells where the error (N,) is: Spearman's correlation of doubt and error; NaN where the
    confidence is the same everywhere."""
    if np.ptp(confidence) == 0:
        return float("nan")
    some = np.linspace(0, len(error) - 1, min(len(error), RANKED)).astype(int)
    return float(spearmanr(-confidence[some], error[some]).statistic)
