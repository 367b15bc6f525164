"""The figures of `worldfm bench generate` as a picture. matplotlib is imported inside: no table should wait for it."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path


def title_of(report: dict) -> str:
    return f"{report['size']}, {report['width']}x{report['height']}, {report['steps']} steps, {report['device']}"


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
