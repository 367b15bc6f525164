"""`worldfm report`: one HTML page on bags, worlds and evaluations."""

from __future__ import annotations

from pathlib import Path

import tyro

from worldfm_ros.files import write_whole
from worldfm_ros.progress import Progress


def write_report(sources: tyro.conf.Positional[tuple[Path, ...]], *, out: Path) -> None:
    """One self-contained HTML page on bags, worlds and evaluations: pictures, plots, maps and checks.

    Of a bag: rates, jitter and latency, whether each picture has a stamp of its own, a pose in TF and a calibration
    that fits, where the camera was, a contact sheet, labels. Of a world: what it is made of, from above, and how many
    keyframes show each place. Of the JSON of `worldfm eval`: view by view, over the floor plan, the worst ten views.
    A world among the sources lies below the maps of the others.

    Args:
        sources: world folders, bags, and JSON files of `worldfm eval`.
        out: the page, FILE.html; it is replaced.
    """
    if not sources:
        raise ValueError("name a bag, a world folder or a JSON file of `worldfm eval`")
    if out.suffix not in (".html", ".htm"):
        raise ValueError(f"the page is a file that ends in .html, got {out}")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"cannot write {out}: "
                         + ("it is a folder" if out.is_dir() else f"there is no folder {out.parent}"))
    from worldfm_ros.report.report import report  # matplotlib

    text = report(sources, Progress("reading"))
    write_whole(out, text.encode())
    print(f"{out}: {len(text) / 2**20:.1f} MB")
