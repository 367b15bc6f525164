"""The report on an evaluation: what `worldfm eval` writes, view by view, on the floor plan, the worst ones."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path

import numpy as np

from worldfm_ros.report.plots import Plan, floor_plan, new_figure
from worldfm_ros.report.sheet import Section
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.open import open_frames

SIDES = {"model": "#6ea8fe", "baseline": "#f0b35a", "inpainted": "#8b959e"}
WORST = 10  # views
FIGURES = ("all psnr", "all ssim", "seen psnr", "disoccluded psnr", "sharpness_ratio", "warp_psnr", "confidence_rank")


def read_scores(path: Path) -> dict:
    """The figures in a file. Raises ValueError for what `worldfm eval` has not written."""
    try:
        scores = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); expected what `worldfm eval --json FILE` writes") from None
    if not isinstance(scores, dict) or not isinstance(scores.get("per_view"), list) or "settings" not in scores:
        raise ValueError(f"{path} is not from `worldfm eval`: it has no per_view and settings")
    return scores


def scores_section(path: Path, plan: Plan | None) -> Section:
    """`plan`: of the world that the views are of, where it is known. Raises ValueError as read_scores does."""
    scores = read_scores(path)
    settings, rows = scores["settings"], scores["per_view"]
    section = Section(f"Evaluation {path.name}")
    section.facts({"source": settings.get("source"), "model": settings.get("model"), "views": scores["views"],
                   "uncovered": f"{scores['uncovered']:.1%}"})
    section.table(("", *SIDES), [(name, *(_number(_at(scores[side], name)) for side in SIDES)) for name in FIGURES])
    better = [row for row in rows if _gain(row) is not None and _gain(row) >= 0]
    section.check("the model against the blend", scores["model"]["all"]["psnr"] >= scores["baseline"]["all"]["psnr"],
                  f"better in {len(better)} of {len(rows)} views")
    section.show_checks()
    section.plot(_by_view(rows))
    frames, reason = _frames(settings)
    if frames is None:
        section.text(f"No map and no pictures of the worst views: {reason}")
        return section
    places = _places(frames, rows)
    title = "PSNR of the model where the views are (dB)"
    section.plot(floor_plan(lambda axes: _psnr_map(axes, rows, places), title, plan))
    _worst(section, frames, rows)
    return section


def _frames(settings: Mapping) -> tuple[PosedFrames | None, str]:
    """What was evaluated on, or why it cannot be opened here."""
    source = settings.get("views") or settings.get("source")
    try:
        return open_frames(source), ""
    except (OSError, ValueError, TypeError) as error:
        return None, str(error)


def _places(frames: PosedFrames, rows: list[dict]) -> np.ndarray:
    """(N, 2) where each view's camera was, x and y; NaN for one that is not there any more."""
    wanted = {row["frame"] for row in rows}
    found = {frame.index: frame.T_world_camera.translation[:2] for frame in frames if frame.index in wanted}
    return np.array([found.get(row["frame"], (np.nan, np.nan)) for row in rows])


def _psnr_map(axes, rows: list[dict], places: np.ndarray) -> None:
    values = [row["model"]["all"]["psnr"] for row in rows]
    dots = axes.scatter(*places.T, c=values, cmap="RdYlGn", s=26, edgecolors="#0e1114", linewidths=0.4)
    bar = axes.figure.colorbar(dots, ax=axes, shrink=0.8)
    bar.ax.tick_params(colors="#c8ced4", labelsize=8)


def _by_view(rows: list[dict]):
    figure, (axes,) = new_figure(11.0, 2.6)
    for side, colour in SIDES.items():
        axes.plot([row[side]["all"]["psnr"] for row in rows], color=colour, label=side, linewidth=1.1)
    axes.set(xlabel="view", ylabel="PSNR (dB)", title="view by view")
    axes.legend(fontsize=8, facecolor="#161a1f", edgecolor="#39424b", labelcolor="#c8ced4")
    return figure


def _worst(section: Section, frames: PosedFrames, rows: list[dict]) -> None:
    worst = sorted(rows, key=lambda row: row["model"]["all"]["psnr"])[:WORST]
    section.heading(f"The worst {len(worst)} views")
    section.table(("frame", "model", "blend", "uncovered"), [
        (row["frame"], _number(row["model"]["all"]["psnr"]), _number(row["baseline"]["all"]["psnr"]),
         f"{row['uncovered']:.1%}") for row in worst])
    wanted = {row["frame"]: row for row in worst}
    pictures = {frame.index: frame.rgb for frame in frames if frame.index in wanted}
    section.text("Their photographs:")
    section.pictures((f"frame {index}: {row['model']['all']['psnr']:.1f} dB", pictures[index])
                     for index, row in wanted.items() if index in pictures)


def _gain(row: Mapping) -> float | None:
    ours, theirs = (row[side]["all"]["psnr"] for side in ("model", "baseline"))
    return None if ours is None or theirs is None else ours - theirs


def _at(side: Mapping, name: str) -> float | None:
    for word in name.split():
        side = (side or {}).get(word)
    return side


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
