"""The report's plots. matplotlib is imported inside: no other command should wait for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

INK, LINES, DIM = "#c8ced4", "#39424b", "#161a1f"
COLOURS = ("#6ea8fe", "#5fca8b", "#f0b35a", "#e57373", "#b48ef0", "#4dd0c4", "#f48fb1", "#a1887f")
MOST = 20  # bars of a histogram of names


@dataclass(frozen=True, eq=False)
class Plan:
    """A world from above. picture (R, C, 4) uint8 RGBA, row 0 is the lowest y; extent: west, east, south, north, m;
    label_names: the world's.
    """

    picture: np.ndarray
    extent: tuple[float, float, float, float]
    label_names: Mapping[int, str]


def new_figure(width: float, height: float, columns: int = 1):
    """A figure with dark axes: (figure, [axes])."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "worldfm"  # the same report is the same file
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for each in axes:
        each.set_facecolor(DIM)
        each.tick_params(colors=INK, labelsize=8)
        each.grid(color=LINES, linewidth=0.5)
        each.set_axisbelow(True)
        for spine in each.spines.values():
            spine.set_color(LINES)
        for part in (each.xaxis.label, each.yaxis.label, each.title):
            part.set_color(INK)
            part.set_fontsize(9)
    return figure, list(axes)


def over_time(series: Mapping[str, tuple[np.ndarray, np.ndarray]], ylabel: str, title: str):
    """Lines (seconds, values), one a name."""
    figure, (axes,) = new_figure(11.0, 2.6)
    for k, (name, (x, y)) in enumerate(series.items()):
        axes.plot(x, y, ".-", color=COLOURS[k % len(COLOURS)], label=name, linewidth=0.8, markersize=2.5)
    axes.ticklabel_format(useOffset=False)
    axes.set(xlabel="seconds", ylabel=ylabel, title=title, ylim=(0, 1.15 * max(y.max() for _, y in series.values())))
    _legend(axes)
    return figure


def histograms(series: Mapping[str, np.ndarray], xlabel: str, title: str):
    figure, (axes,) = new_figure(11.0, 2.6)
    values = np.concatenate(list(series.values()))
    low, high = np.quantile(values, [0.0, 0.995])
    margin = 0.05 * max(abs(high), 1.0)  # what hardly varies is one bar in the middle, and no comb of rounding errors
    bins = np.linspace(max(low - margin, min(low, 0.0)), high + margin, 80)
    for k, (name, each) in enumerate(series.items()):
        axes.hist(np.clip(each, bins[0], bins[-1]), bins, color=COLOURS[k % len(COLOURS)], label=name,
                  histtype="step", linewidth=1.4)
    axes.ticklabel_format(useOffset=False)
    axes.set(xlabel=xlabel, ylabel="count", title=title)
    _legend(axes)
    return figure


def shares(counts: Mapping[str, float], title: str):
    """Bars of what share of all each name has; the largest first."""
    total = sum(counts.values()) or 1
    rows = sorted(counts.items(), key=lambda row: -row[1])[:MOST]
    figure, (axes,) = new_figure(11.0, 1.0 + 0.22 * len(rows))
    axes.barh([name for name, _ in rows], [100.0 * value / total for _, value in rows], color=COLOURS[0], height=0.7)
    axes.invert_yaxis()
    axes.set(xlabel="per cent", title=title)
    return figure


def floor_plan(draw: Callable, title: str, plan: Plan | None = None):
    """A map from above: `draw(axes)` over the plan of a world, where there is one."""
    figure, (axes,) = new_figure(8.5, 6.0)
    axes.grid(False)
    if plan is not None:
        axes.imshow(plan.picture, extent=plan.extent, origin="lower", interpolation="nearest")
    draw(axes)
    axes.set(xlabel="x (m)", ylabel="y (m)", title=title, aspect="equal")
    return figure


def _legend(axes) -> None:
    axes.legend(fontsize=8, facecolor=DIM, edgecolor=LINES, labelcolor=INK, loc="upper right")
