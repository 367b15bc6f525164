"""`worldfm bench generate`: how fast the frame model runs here, each trick beside its absence in the same process.

torch is imported inside: no other command should wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import importlib.util
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from worldfm_ros.bench.render import environment, write_json
from worldfm_ros.geometry import Intrinsics

if TYPE_CHECKING:
    from worldfm_ros.bench.arms import Trick
    from worldfm_ros.bench.models import BenchModel
    from worldfm_ros.bench.timing import Contender

HFOV = 1.2  # radians
NOTE = ("psnr to exact: dB, same poses and noise, 120 = no difference. naive draws random samples of the posterior "
        "(AutoencoderKL), which exact does not.")
RANDOM_NOTE = ("The weights are random: what bfloat16 costs is about right, but what cached attention and a tiny "
               "autoencoder cost can only be told of a trained model (--model).")


def bench_generate(
    *,
    size: str = "tiny",
    model: Path | None = None,
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    device: str | None = None,
    frames: int = 16,
    tricks: bool = True,
    json: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Time the frame model from pose to picture: as the released code runs it, with preset exact, cached, preset fast.

    All run the same weights on the same poses and noise, in turns. A row for each trick compares an arm without and
    with it.

    Args:
        size: a model of random weights: tiny (about what a CPU can run) or xl (the released one).
        model: a model folder or the name of an installed model, instead of random weights.
        width: pixels of the frame; by default 256 for tiny, 512 for xl, the first of a model's sizes.
        height: likewise.
        steps: network calls a frame; by default 2, or the model's.
        device: cpu, cuda or cuda:N; by default the GPU if there is one.
        frames: timed frames of each arm.
        tricks: measure the single tricks too.
        json: write the figures to this file.
        plot: draw them into this PNG file.
    """
    if frames < 1:
        raise ValueError(f"frames is a whole number from 1 up, got {frames}")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install matplotlib")
    from worldfm_ros.bench.models import Request, find_size, random_model, trained_model
    from worldfm_ros.frame_model.presets import find_device

    console, place, request = Console(), find_device(device), Request(width, height, steps)
    with console.status("preparing the model"):
        if model is None:
            subject = random_model(size, find_size(size), request, place)
        else:
            subject = trained_model(model, request, place)
    report = measure(subject, frames, tricks, console)
    show(report, console)
    if json is not None:
        write_json(json, report)
    if plot is not None:
        draw_plot(report, plot)


def measure(subject: BenchModel, frames: int, tricks: bool, console: Console) -> dict:
    """Run arms and tricks on a model; returns the JSON report."""
    from worldfm_ros.bench import timing
    from worldfm_ros.bench.arms import make_arms, make_tricks
    from worldfm_ros.frame_model.checkpoint import dtype_name

    camera = Intrinsics.from_hfov(subject.width, subject.height, HFOV)
    poses = timing.bench_path(frames)
    world = timing.bench_world(camera, poses)
    painters = make_arms(subject)
    listed = make_tricks(subject, painters) if tricks else []
    arms = {name: timing.Contender(painter, world) for name, painter in painters.items()}
    others = [timing.Contender(trick.painter, world) for trick in listed]

    def progress(items: Sequence, what: str) -> Iterable:
        return track(items, what, console=console, transient=True)

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
        "environment": environment() | timing.torch_environment(),
    }


def trick_figures(trick: Trick, arms: dict[str, Contender], other: Contender) -> dict:
    """The JSON row of a trick: the frame without and with it, the gain as the median over the pairs of frames.

    The spread is half the interquartile range: a gain within it is no gain that can be told. The best frames are those
    that nothing else on the machine disturbed.
    """
    from worldfm_ros.bench.timing import psnr

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
        "psnr": psnr(used.pictures, without.pictures),
    }


# ---- for people


def show(report: dict, console: Console) -> None:
    console.print(arms_table(report), stages_table(report))
    if report["tricks"]:
        console.print(tricks_table(report["tricks"]))
    console.print(NOTE + (" " + RANDOM_NOTE if report["random_weights"] else ""))


def arms_table(report: dict) -> Table:
    table = columns(f"{title_of(report)}; {report['frames']} frames of each in turns", "arm", "dtype", "frames/s",
                    "p50 ms", "p95 ms", "best ms", "x naive", "MB", "GFLOP", "of matmul peak", "psnr to exact")
    naive = report["arms"]["naive"]["p50_ms"]
    for name, arm in report["arms"].items():
        table.add_row(name, arm["dtype"], f"{arm['fps']:.2f}", f"{arm['p50_ms']:.1f}", f"{arm['p95_ms']:.1f}",
                      f"{arm['best_ms']:.1f}", f"{naive / arm['p50_ms']:.2f}", f"{arm['peak_mb']:.0f}",
                      f"{arm['gflop']:.1f}", f"{arm['share_of_peak']:.0%}", f"{arm['psnr_to_exact']:.1f}")
    return table


def title_of(report: dict) -> str:
    return f"{report['size']}, {report['width']}x{report['height']}, {report['steps']} steps, {report['device']}"


def stages_table(report: dict) -> Table:
    arms = report["arms"]
    table = columns("mean ms of the stages", "stage", *arms)
    for stage in dict.fromkeys(stage for arm in arms.values() for stage in arm["stages_ms"]):
        table.add_row(stage, *(f"{arm['stages_ms'].get(stage, 0.0):.2f}" for arm in arms.values()))
    return table


def tricks_table(tricks: list[dict]) -> Table:
    table = columns("single tricks, medians in ms (* changes the picture)",
                    "trick", "in", "without", "with", "gain", "speedup", "psnr")
    table.columns[0].no_wrap = True
    for row in tricks:
        table.add_row(row["trick"] + " *" * row["changes_the_picture"], row["arm"],
                      f"{row['without_ms']:.0f}", f"{row['with_ms']:.0f}",
                      f"{row['gain_ms']:+.0f} ± {row['gain_spread_ms']:.0f}", f"{row['speedup']:.2f}",
                      f"{row['psnr']:.0f}")
    return table


def columns(title: str, first: str, *rest: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for name in rest:
        table.add_column(name, justify="right")
    return table


def draw_plot(report: dict, path: Path) -> None:
    """A PNG: the frame time of every arm, cut into stages, and what each trick gains."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tricks = sorted(report["tricks"], key=lambda row: row["speedup"])
    figure = Figure(figsize=(10.0, 3.0 + 0.32 * len(tricks)), layout="constrained")
    parts = figure.subplots(2 if tricks else 1, height_ratios=[5, 1 + len(tricks)] if tricks else None, squeeze=False)
    arms, left = report["arms"], dict.fromkeys(report["arms"], 0.0)
    names = list(dict.fromkeys(stage for arm in arms.values() for stage in arm["stages_ms"]))
    above = parts[0, 0]
    for stage, color in zip(names, islice(cycle(colormaps["tab20"].colors), len(names)), strict=True):
        widths = {name: arm["stages_ms"].get(stage, 0.0) for name, arm in arms.items()}
        above.barh(list(arms), list(widths.values()), left=list(left.values()), color=color, label=stage)
        left = {name: left[name] + width for name, width in widths.items()}
    for name, arm in arms.items():
        above.text(left[name], name, f" {arm['fps']:.1f} frames/s, {arm['psnr_to_exact']:.0f} dB", va="center")
    above.set(xlabel="mean ms of a frame", xlim=(0, 1.4 * max(left.values())), title=title_of(report))
    above.invert_yaxis()
    above.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if tricks:
        below = parts[1, 0]
        labels = [f"{row['trick']} ({row['arm']})" for row in tricks]
        below.barh(labels, [row["speedup"] - 1.0 for row in tricks], left=1.0,
                   xerr=[row["gain_spread_ms"] / row["with_ms"] for row in tricks], ecolor="gray",
                   color=["tab:orange" if row["changes_the_picture"] else "tab:blue" for row in tricks])
        below.axvline(1.0, color="black", linewidth=0.8)
        below.set(xlabel="speedup of the frame by each trick alone (orange: changes the picture; gray: spread)")
    FigureCanvasAgg(figure).print_png(path)
