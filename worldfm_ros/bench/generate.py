"""The figures of `worldfm bench generate`: each trick beside its absence in the same process."""

from __future__ import annotations

import numpy as np
import torch

from worldfm_ros.bench import timing
from worldfm_ros.bench.arms import Trick, make_arms, make_tricks
from worldfm_ros.bench.environment import environment
from worldfm_ros.bench.models import BenchModel
from worldfm_ros.frame_model.checkpoint import dtype_name
from worldfm_ros.geometry import Intrinsics

HFOV = 1.2  # radians


def measure(subject: BenchModel, frames: int, tricks: bool, progress: timing.Progress = timing.in_silence) -> dict:
    """Run arms and tricks on a model; returns the JSON report."""
    camera = Intrinsics.from_hfov(subject.width, subject.height, HFOV)
    poses = timing.bench_path(frames)
    world = timing.bench_world(camera, poses)
    painters = make_arms(subject)
    listed = make_tricks(subject, painters) if tricks else []
    arms = {name: timing.Contender(painter, world) for name, painter in painters.items()}
    others = [timing.Contender(trick.painter, world) for trick in listed]

    device, dtypes = subject.model.device, {name: painter.model.transformer.dtype for name, painter in painters.items()}
    peaks = {dtype: timing.matmul_gflops(device, dtype) for dtype in dict.fromkeys(dtypes.values())}
    timing.take_turns([*arms.values(), *others], poses, camera, progress)
    peaks = {dtype: max(peak, timing.matmul_gflops(device, dtype)) for dtype, peak in peaks.items()}
    return {
        "size": subject.name,
        "random_weights": subject.random,
        "device": timing.device_name(device),
        "width": subject.width,
        "height": subject.height,
        "steps": subject.model.settings.steps,
        "frames": frames,
        "arms": {name: {"dtype": dtype_name(dtypes[name]), **arm.figures(arms["exact"], peaks[dtypes[name]])}
                 for name, arm in arms.items()},
        "tricks": [trick_figures(trick, arms, other) for trick, other in zip(listed, others, strict=True)],
        "matmul_peak_gflops": {dtype_name(dtype): peak for dtype, peak in peaks.items()},
        "environment": environment(torch.get_num_threads()) | timing.torch_environment(),
    }


def trick_figures(trick: Trick, arms: dict[str, timing.Contender], other: timing.Contender) -> dict:
    """The JSON row of a trick: the frame without and with it, the gain as the median over the pairs of frames.

    The spread is half the interquartile range: a gain within it is no gain that can be told. The best frames are those
    that nothing else on the machine disturbed.
    """
    arm = arms[trick.arm]
    without, used = (arm, other) if trick.changes else (other, arm)
    without_ms, used_ms = np.array(without.frames_ms), np.array(used.frames_ms)
    return {
        "trick": trick.name,
        "arm": trick.arm,
        "changes_the_picture": trick.changes,
        "without_ms": float(np.median(without_ms)),
        "with_ms": float(np.median(used_ms)),
        "without_best_ms": float(without_ms.min()),
        "with_best_ms": float(used_ms.min()),
        "gain_ms": float(np.median(without_ms - used_ms)),
        "gain_spread_ms": float(np.subtract(*np.percentile(without_ms - used_ms, [75, 25])) / 2.0),
        "speedup": float(np.median(without_ms / used_ms)),
        "psnr": timing.psnr(used.pictures, without.pictures),
    }
