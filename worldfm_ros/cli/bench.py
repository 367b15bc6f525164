"""`worldfm bench`: how fast the parts run on this machine, as tables and as JSON.

What needs torch is imported inside: no other command should wait for it.
"""

from __future__ import annotations

from functools import partial
import importlib.util
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from worldfm_ros.bench.environment import environment, in_words
from worldfm_ros.bench.plot import draw_plot, title_of
from worldfm_ros.bench.render import measure_case, measure_large, render_cases
from worldfm_ros.files import write_json
from worldfm_ros.world.renderer import THREADS

NOTE = ("psnr to exact: dB, same poses and noise, 120 = no difference. naive draws random samples of the posterior "
        "(AutoencoderKL), which exact does not.")
RANDOM_NOTE = ("The weights are random: what bfloat16 costs is about right, but what cached attention and a tiny "
               "autoencoder cost can only be told of a trained model (--model).")


def bench_render(*, json: Path | None = None, repeats: int = 15, points: int = 1_000_000,
                 in_map: tuple[int, ...] = (1_000_000, 10_000_000, 50_000_000), budget: int = 256) -> None:
    """Time the anchor renderer beside Open3D's project_to_rgbd_image (CPU): same points, same camera.

    Ours draws splats into depth, colours, labels and coverage, from a map that sorted the points once when they were
    inserted; Open3D draws one pixel a point into depth and colours, and gets the points twice: in the order in which
    they came ("Open3D", what "speedup" compares with) and in the order of our map ("sorted"). The three take turns, and
    the times are medians in milliseconds. "agree" is the share of covered pixels with the same depth when ours draws
    one pixel a point too.

    Args:
        json: write the figures to this file.
        repeats: timed runs of each.
        points: points of the scenes (one scene has four times as many).
        in_map: points of maps of which a room with `points` is seen: in memory, and on the disk (minutes for 50 M).
        budget: MiB of a map on the disk that may be in memory.
    """
    cases, machine = [], environment(THREADS)
    title = f"anchor renderer, {THREADS} threads; medians of {repeats} runs"
    table = Table(title=title, caption=in_words(machine), box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("case", "points", "visible", "size", "ms", "Open3D", "sorted", "speedup", "agree"):
        table.add_column(column, justify="left" if column == "case" else "right", no_wrap=True)
    console = Console()
    with console.status("drawing") as status:
        for case in render_cases(points):
            status.update(case.name)
            row = measure_case(case, repeats)
            cases.append(row)
            table.add_row(row["name"], *(f"{row[key] / 1e3:,.4g}k" for key in ("points", "visible")),
                          f"{row['width']}x{row['height']}",
                          *(f"{row[key]:.1f}" for key in ("ms", "open3d_ms", "open3d_sorted_ms", "speedup")),
                          f"{row['agree']:.1%}")
    console.print(table)
    with console.status("large maps"):
        large = [measure_large(points, count, repeats, budget) for count in in_map]
    if large:
        console.print(large_table(large, budget))
    if json is not None:
        write_json(json, {"cases": cases, "large": large, "environment": machine})


def large_table(rows: list[dict], budget: int) -> Table:
    table = columns(f"a room in a larger map, 512x512; on the disk with {budget} MiB",
                    "points in the map", "room alone ms", "in the map ms", "ratio", "on the disk ms", "ratio",
                    "resident MiB")
    for row in rows:
        table.add_row(f"{row['points'] / 1e6:.3g} M", *(f"{row[key]:.1f}" for key in ("alone_ms", "ms")),
                      f"{row['ratio']:.2f}", f"{row['stored_ms']:.1f}", f"{row['stored_ratio']:.2f}",
                      f"{row['resident_mb']:.0f}")
    return table


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
        width: pixels; by default 512 for xl, else 256, or the first of the sizes of a model that has no composer.
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
    from worldfm_ros.bench.generate import measure
    from worldfm_ros.bench.models import Request, find_size, random_model, trained_model
    from worldfm_ros.frame_model.presets import find_device

    console, place, request = Console(), find_device(device), Request(width, height, steps)
    with console.status("preparing the model"):
        if model is None:
            subject = random_model(size, find_size(size), request, place)
        else:
            subject = trained_model(model, request, place)
    report = measure(subject, frames, tricks, partial(track, console=console, transient=True))
    show(report, console)
    if json is not None:
        write_json(json, report)
    if plot is not None:
        draw_plot(report, plot)


def bench_publish(*, json: Path | None = None, frames: int = 300, rate: float = 30.0) -> None:
    """Time the camera's way from a finished frame to another process, and count what arrives.

    Pictures without a model, at each size: RELIABLE and best effort, with this package's shared-memory profile and with
    Fast DDS as it comes, which loses nearly all best-effort images above 512 KB. "publish" is the call that copies the
    pixels into the message, serialises it and hands it to DDS, median and 95th percentile in milliseconds; it has a
    thread of its own. "painter" is what it takes of the thread that paints, which goes on with the next picture.

    Args:
        json: write the figures to this file.
        frames: pictures of each case.
        rate: pictures per second.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise RuntimeError("ROS 2 is not there (rclpy cannot be imported); run `make setup`, or source a ROS 2")
    from worldfm_ros.bench.publish import measure_publish, publish_cases
    from worldfm_ros.nodes.graph import fast_dds_profiles

    profiles, rows, machine = fast_dds_profiles({}), [], environment(1)
    if not profiles:
        raise RuntimeError("/dev/shm is too small for the shared-memory profile; in Docker, give --shm-size 1g")
    console = Console()
    table = Table(title=f"publish: {frames} pictures at {rate:g} Hz", caption=in_words(machine), box=SIMPLE)
    for column in ("size", "qos", "profile", "publish ms", "p95 ms", "painter ms", "sent", "received"):
        table.add_column(column, justify="right")
    for case in track(publish_cases(), console=console, transient=True):
        row = measure_publish(case, frames, rate, profiles)
        rows.append(row)
        table.add_row(f"{row['width']}x{row['height']}", row["qos"], "ours" if row["profile"] else "none",
                      f"{row['publish_ms']:.2f}", f"{row['p95_ms']:.2f}", f"{row['generating_ms']:.3f}",
                      str(row["sent"]), str(row["received"]))
    console.print(table)
    if json is not None:
        write_json(json, {"cases": rows, "environment": machine})


# ---- tables of bench generate


def show(report: dict, console: Console) -> None:
    console.print(arms_table(report), stages_table(report))
    if report["tricks"]:
        console.print(tricks_table(report["tricks"]))
    console.print(NOTE + (" " + RANDOM_NOTE if report["random_weights"] else ""))


def arms_table(report: dict) -> Table:
    table = columns(f"{title_of(report)}; {report['frames']} frames of each in turns", "arm", "dtype", "frames/s",
                    "p50 ms", "p95 ms", "best ms", "x naive", "MB", "GFLOP", "of matmul peak", "psnr to exact")
    table.caption = in_words(report["environment"])
    naive = report["arms"]["naive"]["p50_ms"]
    for name, arm in report["arms"].items():
        table.add_row(name, arm["dtype"], f"{arm['fps']:.2f}", f"{arm['p50_ms']:.1f}", f"{arm['p95_ms']:.1f}",
                      f"{arm['best_ms']:.1f}", f"{naive / arm['p50_ms']:.2f}", f"{arm['peak_mb']:.0f}",
                      f"{arm['gflop']:.1f}", f"{arm['share_of_peak']:.0%}", f"{arm['psnr_to_exact']:.1f}")
    return table


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
