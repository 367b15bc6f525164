"""`worldfm eval-segmenter`: what generated pictures are worth to who trains on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
import tyro

from worldfm_ros.cli.eval import check_target
from worldfm_ros.files import write_json
from worldfm_ros.progress import Progress


@dataclass(frozen=True, kw_only=True)
class SchoolOptions:
    """Which procedural scenes are learned from and judged by.

    train: family of scenes that are mapped and seen through the model.
    test: another family, of exact pictures alone.
    scenes: how many to learn from.
    tests: how many to be judged by.
    views: pictures of a scene.
    steps: of training, for each side.
    seeds: how many segmenters learn from each side; the figures are their mean and spread.
    """

    train: str = "apartment"
    test: str = "office"
    scenes: int = 12
    tests: int = 4
    views: int = 30
    steps: int = 800
    seeds: int = 3


def eval_segmenter(*, model: str, json: Path, options: tyro.conf.OmitArgPrefixes[SchoolOptions], seed: int = 0,
                   montage: Path | None = None) -> None:
    """Train a small segmenter on generated pictures, and judge it by exact ones of another family of scenes.

    The same views of the same scenes four times: exact, seen through the model, through the blend (no network), and as
    bare anchor drawings; the maps have a depth camera's noise. Segmenters of the same start, order and length learn
    from each. mIoU is of exact pictures of the other family, over the classes that are not rare there; `ratio` is to
    the one that learned from exact pictures; `blind` says of each place what is most often there, without looking.

    Args:
        model: `anchors` (no network), the name of an installed model, or a model folder.
        json: write the figures to this file.
        seed: of the first segmenter's weights, order and jitter; the next ones count on.
        montage: write some of the pictures as a PNG, the sides in rows.
    """
    for file in (json, montage):
        check_target(file)
    from worldfm_ros.evaluation.lessons import School, attend
    from worldfm_ros.evaluation.montage import write_png
    from worldfm_ros.evaluation.segmenter import Lesson
    from worldfm_ros.generator import load_model

    settings = asdict(options)
    steps, seeds = settings.pop("steps"), settings.pop("seeds")
    if min(steps, seeds) < 1:
        raise ValueError(f"steps and seeds are 1 or more, got {steps} and {seeds}")
    figures, lessons = attend(School(**settings), load_model(model), Lesson(steps=steps, seed=seed), seeds, Progress)
    write_json(json, figures | {"settings": {"model": model, "seed": seed, **asdict(options)}})
    if montage is not None:
        from worldfm_ros.evaluation.lessons import sheet

        write_png(sheet(lessons), montage)
    table = Table(title=f"{figures['pictures']} pictures of {options.train}, judged by {figures['judged']} of "
                        f"{options.test}, {len(figures['classes'])} classes", box=SIMPLE)
    for column in ("learned from", "mIoU", "deviation", "ratio to exact"):
        table.add_column(column, justify="right")
    for name in (*lessons, "blind"):
        row = figures[name]
        table.add_row(name, f"{row['miou']:.3f}", *("" if row.get(key) is None else f"{row[key]:.3f}"
                                                    for key in ("deviation", "ratio")))
    Console().print(table)
