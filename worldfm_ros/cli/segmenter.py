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
    """

    train: str = "apartment"
    test: str = "office"
    scenes: int = 4
    tests: int = 2
    views: int = 48
    steps: int = 500


def eval_segmenter(*, model: str, json: Path, options: tyro.conf.OmitArgPrefixes[SchoolOptions], seed: int = 0,
                   montage: Path | None = None) -> None:
    """Train a small segmenter on generated pictures, and judge it by exact ones of another family of scenes.

    The same views of the same scenes four times: exact, seen through the model, through the blend (no network), and as
    bare anchor drawings; the maps have a depth camera's noise. One segmenter each, of the same start, order and length.
    mIoU is of exact pictures of the other family, over the classes that are not rare there; `ratio` is to the one that
    learned from exact pictures.

    Args:
        model: `anchors` (no network), the name of an installed model, or a model folder.
        json: write the figures to this file.
        seed: of the segmenter's weights, order and jitter.
        montage: write some of the pictures as a PNG, the sides in rows.
    """
    for file in (json, montage):
        check_target(file)
    from worldfm_ros.evaluation.lessons import School, attend
    from worldfm_ros.evaluation.montage import write_png
    from worldfm_ros.evaluation.segmenter import Lesson
    from worldfm_ros.generator import load_model

    settings = asdict(options)
    steps = settings.pop("steps")
    if steps < 1:
        raise ValueError(f"steps is 1 or more, got {steps}")
    figures, lessons = attend(School(**settings), load_model(model), Lesson(steps=steps, seed=seed), Progress)
    write_json(json, figures | {"settings": {"model": model, "seed": seed, **asdict(options)}})
    if montage is not None:
        from worldfm_ros.evaluation.lessons import sheet

        write_png(sheet(lessons), montage)
    table = Table(title=f"{figures['pictures']} pictures of {options.train}, judged by {figures['judged']} of "
                        f"{options.test}, {len(figures['classes'])} classes", box=SIMPLE)
    for column in ("learned from", "mIoU", "ratio to exact"):
        table.add_column(column, justify="right")
    for name in lessons:
        ratio = figures[name]["ratio"]
        table.add_row(name, f"{figures[name]['miou']:.3f}", "" if ratio is None else f"{ratio:.3f}")
    Console().print(table)
