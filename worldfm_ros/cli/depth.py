"""`worldfm bench depth`: how well depth is completed."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
import tyro

from worldfm_ros.files import write_json
from worldfm_ros.progress import Progress
from worldfm_ros.sources.open import open_frames


def bench_depth(source: tyro.conf.Positional[Path], json: Path, completers: str = "plane,smooth",
                count: int = 16) -> None:
    """Judge depth completers by measured depth: AbsRel and delta1 where it was not told, and how well
    their confidence tells where they are off (the rank correlation of doubt and error).

    They are told nothing (and aligned by the median of the ratio), 1 % of the pixels, or the left half.

    Args:
        source: posed frames with depth (an RGB-D folder, a bag, a transforms.json, a COLMAP project).
        json: write the figures to this file.
        completers: plane, smooth, depth-tiny, transformers:MODEL, depth-anything-3:MODEL, depth/ of a run; commas
            between them.
        count: so many frames, spread evenly.
    """
    from worldfm_ros.depth.find import load_completer
    from worldfm_ros.evaluation.depths import judge

    named = {name: load_completer(name) for name in completers.split(",")}
    cases = judge(open_frames(source), named, count, track=Progress("completing depth"))
    write_json(json, {"source": str(source), "cases": cases})
    table = Table(title=f"depth of {source}", box=SIMPLE)
    for column in ("known", "completer", "frames", "AbsRel", "delta1", "confidence"):
        table.add_column(column, justify="left" if column in ("known", "completer") else "right")
    for case in cases:
        rank = case["confidence_rank"]
        table.add_row(case["known"], case["completer"], str(case["frames"]), f"{case['abs_rel']:.3f}",
                      f"{case['delta1']:.3f}", "" if rank is None else f"{rank:.2f}")
    Console().print(table)
