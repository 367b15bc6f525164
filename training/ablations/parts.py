"""What each part of a frame model with a composer adds, on the same views: `python -m training.ablations.parts SOURCE`.

Each arm is a FrameModel that has one part more than another, or one reference more; the drawing is the same for all.
SOURCE and the options that choose views are those of `worldfm eval`.
"""

from __future__ import annotations

from collections.abc import Sequence
import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
import sys
import time
from typing import Annotated

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
import torch
import tyro

from worldfm_ros.cli.eval import Protocol
from worldfm_ros.ending import exit_code
from worldfm_ros.evaluation.degradation import Degradation
from worldfm_ros.evaluation.evaluate import average, in_scene, likeness
from worldfm_ros.evaluation.held_out import HeldOutView
from worldfm_ros.files import write_json
from worldfm_ros.frame_model.checkpoint import LoadedModel
from worldfm_ros.frame_model.composer import Composer
from worldfm_ros.generator import FrameModel, load_model, prepared_with
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.blend import Blend
from worldfm_ros.painting.learned import LearnedPainter, load_painter
from worldfm_ros.progress import Progress
from worldfm_ros.sources.bag import Topics
from worldfm_ros.sources.conventions import Conventions
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

MOST = 4  # references
TEACHER_STEPS = 20  # of DPM-Solver++, as in distillation


@dataclass(frozen=True)
class Fewer:
    """A frame model that is given the best `count` references alone."""

    model: FrameModel
    count: int

    def paint(self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
              intrinsics: Intrinsics) -> np.ndarray:
        """(H, W, 3) uint8."""
        return prepared_with(self.model, drawing, references[:self.count], T_world_camera, intrinsics)().rgb


@dataclass
class Scores:
    """An arm's figures of each view, and the milliseconds that it took, without the drawing."""

    likenesses: list[dict] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def figures(self) -> dict:
        return average(self.likenesses) | {"ms": float(np.median(self.milliseconds))}


def arms_of(painter: LearnedPainter) -> dict[str, FrameModel]:
    """By what they have. Raises ValueError for a model without a composer."""
    model = painter.model
    if model.composer is None:
        raise ValueError(f"the parts are those of a model with a composer; {model.settings.name} has none")
    most = model.composer.config.references

    def variant(composer: Composer, steps: int) -> LearnedPainter:
        made = LearnedPainter(replace(model, composer=composer, settings=replace(model.settings, steps=steps)))
        made.enough = 0.0  # the student runs in every frame
        return made

    untrained, blind = Composer.from_config(model.composer.config), without_latents(model.composer)
    untrained = untrained.to(model.composer.dtype).eval()
    return {**{f"blend of {k}" if k > 1 else "one warped reference": Fewer(Blend(), k) for k in range(1, MOST + 1)},
            f"blend of {most}, brought together": variant(untrained, 1),
            "composer, latents of nothing": variant(blind, 1),
            **{f"composer and student, {k} of {most} references": Fewer(variant(model.composer, 1), k)
               for k in range(1, most)},
            "composer and student, one step": variant(model.composer, 1),
            "composer and student, two steps": variant(model.composer, 2),
            "the student only for what is unknown": LearnedPainter(model)}


def arms_with(teacher: LoadedModel, painter: LearnedPainter) -> dict[str, FrameModel]:
    """A many-step teacher beside the student that was distilled from it: with the composer, and each alone, its latents
    decoded by the autoencoder."""
    model = painter.model

    def sampled(by: LoadedModel, steps: int, composer: Composer | None) -> LearnedPainter:
        made = LearnedPainter(replace(model, transformer=by.transformer, composer=composer,
                                      settings=replace(model.settings, steps=steps)))
        made.enough = 0.0
        return made

    return {f"composer and teacher, {TEACHER_STEPS} steps": sampled(teacher, TEACHER_STEPS, model.composer),
            "student alone, one step": sampled(model, 1, None),
            "student alone, two steps": sampled(model, 2, None),
            f"teacher alone, {TEACHER_STEPS} steps": sampled(teacher, TEACHER_STEPS, None)}


def without_latents(composer: Composer) -> Composer:
    """A copy to which the transformer's latents tell nothing."""
    blind = copy.deepcopy(composer)
    for parameter in blind.enter.parameters():
        torch.nn.init.zeros_(parameter)
    return blind


def compare(views: Sequence[HeldOutView], arms: dict[str, FrameModel]) -> dict[str, dict]:
    """Figures by arm: those of `worldfm eval`, and `ms`. An arm's first picture, which compiles, is not timed."""
    scores = {name: Scores() for name in arms}
    for number, view in enumerate(views):
        truth = view.photograph
        given = view.drawing, view.references, truth.T_world_camera, truth.intrinsics
        for name, arm in arms.items():
            if number == 0:
                arm.paint(*given)
            start = time.perf_counter()
            picture = arm.paint(*given)
            scores[name].milliseconds.append(1e3 * (time.perf_counter() - start))
            scores[name].likenesses.append(likeness(view, in_scene(view, picture)))
    return {name: score.figures() for name, score in scores.items()}


def run(source: tyro.conf.Positional[Path], *, json: Path, protocol: tyro.conf.OmitArgPrefixes[Protocol],
        degradation: tyro.conf.OmitArgPrefixes[Degradation],
        model: Annotated[str, tyro.conf.arg(help="a model with a composer: installed, or a folder")] = "worldfm-tiny",
        teacher: Annotated[Path | None, tyro.conf.arg(help="the student's teacher, a model folder")] = None,
        ) -> None:
    """What each part of a frame model adds, on photographs that it has not seen."""
    protocol.check()
    painter = load_model(model)
    arms = arms_of(painter)
    if teacher is not None:
        arms |= arms_with(load_painter(teacher, dtype=painter.model.transformer.dtype).model, painter)
    views = protocol.find(source, Topics(), Conventions(), degradation)
    figures = compare(Progress(f"painting with {len(arms)} arms")(views), arms)
    write_json(json, {"views": len(views), "source": str(source), "model": model, "arms": figures})
    table = Table(title=f"{len(views)} views", box=SIMPLE)
    for column in ("", "psnr", "disoccluded", "ssim", "sharpness", "ms"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in figures.items():
        disoccluded = row["disoccluded"]["psnr"]
        table.add_row(name, f"{row['all']['psnr']:.2f}", "" if disoccluded is None else f"{disoccluded:.2f}",
                      f"{row['all']['ssim']:.3f}", f"{row['sharpness_ratio']:.2f}", f"{row['ms']:.0f}")
    Console().print(table)


def main() -> int:
    """Run the command line."""
    return exit_code(lambda: tyro.cli(run, prog="python -m training.ablations.parts"))


if __name__ == "__main__":
    sys.exit(main())
