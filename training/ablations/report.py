"""A table and a plot of what ablations found."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
import numpy as np

from training.ablations.bench import Arm
from worldfm_ros.files import write_whole

COLUMNS = {"psnr": "PSNR, dB", "disoccluded": "disoccluded, dB", "without_drawing": "without drawing, dB",
           "sharpness": "sharpness ratio", "diversity": "diversity"}
NAME = "ablations"


def write_report(out: Path, arms: Sequence[Arm], results: Sequence[dict]) -> None:
    """out/ablations.md, .png and .json: mean and standard deviation over seeds. Arms without a result are left out."""
    measured = [arm for arm in arms if any(found["arm"] == arm.name for found in results)]
    write_whole(out / f"{NAME}.json", json.dumps({"results": list(results)}, indent=2).encode())
    write_whole(out / f"{NAME}.md", table(measured, results).encode())
    plot(measured, results).savefig(out / f"{NAME}.png", dpi=120)


def table(arms: Sequence[Arm], results: Sequence[dict]) -> str:
    """Markdown. The gain is the mean over seeds of the difference to the baseline's run with the same seed."""
    header = ["arm", "what", *COLUMNS.values(), "gain, dB", "against", "steps", "minutes", "seeds"]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for arm in arms:
        runs = [found for found in results if found["arm"] == arm.name]
        cells = [mean_and_deviation([run[name] for run in runs if name in run]) for name in COLUMNS]
        gain = mean_and_deviation(seed_by_seed(arm, results), "+.2f")
        lines.append("| " + " | ".join([arm.name, arm.varies, *cells, gain, arm.baseline or "-", str(runs[0]["steps"]),
                                        f"{np.mean([r['seconds'] for r in runs]) / 60:.1f}",
                                        str(len(runs))]) + " |")
    return "\n".join(lines) + "\n"


def seed_by_seed(arm: Arm, results: Sequence[dict]) -> list[float]:
    """How much more PSNR (dB) than its baseline's an arm's run has, for the seeds that both have."""
    baseline = {found["seed"]: found["psnr"] for found in results if found["arm"] == arm.baseline}
    return [found["psnr"] - baseline[found["seed"]] for found in results
            if found["arm"] == arm.name and found["seed"] in baseline]


def mean_and_deviation(values: Sequence[float], form: str = ".2f") -> str:
    if not values:
        return "-"
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{deviation}"


def plot(arms: Sequence[Arm], results: Sequence[dict]) -> Figure:
    """Two columns of dots, a row an arm: PSNR over all pixels and over the disoccluded ones; a dot a seed."""
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 1.2 + 0.35 * len(arms)), layout="constrained")
        for axes, name in zip(figure.subplots(1, 2, sharey=True), ("psnr", "disoccluded"), strict=True):
            for row, arm in enumerate(arms):
                values = [found[name] for found in results if found["arm"] == arm.name and name in found]
                axes.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.5)
                if values:
                    axes.plot(np.mean(values), row, "|", color="black", markersize=14)
            axes.set_xlabel(COLUMNS[name])
            axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(arms)), [arm.name for arm in arms])
        axes.invert_yaxis()
    return figure
