"""A source becomes a data set: checked before the work, whole or not there at all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
import shutil
import tempfile

import cv2

from worldfm_ros.export.annotated import export_annotated
from worldfm_ros.export.bag_samples import BagSamples
from worldfm_ros.export.card import SHOWN, Card, semantic, write_card
from worldfm_ros.export.lerobot import export_lerobot
from worldfm_ros.export.posed import export_nerfstudio, export_tum
from worldfm_ros.export.samples import FolderSamples, Samples
from worldfm_ros.export.splits import Split

POSED: dict[str, Callable] = {"tum": export_tum, "nerfstudio": export_nerfstudio, "lerobot": export_lerobot}


def open_samples(path: Path) -> Samples:
    """Of a bag or a folder of pictures. Raises ValueError or OSError."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    is_bag = path.is_file() or (path / "metadata.yaml").exists() or any(path.glob("*.mcap")) or any(path.glob("*.db3"))
    return BagSamples(path) if is_bag else FolderSamples(path)


def export(source: Path, kind: str, out: Path, split: Split) -> Card:
    """Write the data set of a format. Raises ValueError, ImportError and OSError, and then nothing is there."""
    samples = open_samples(source)
    splits = dict(zip(samples.poses, split.of(list(samples.poses.values())), strict=True))
    partial = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}."))
    try:
        if kind in POSED:
            counts = POSED[kind](samples, splits, partial)
        else:
            counts = export_annotated(samples, splits, kind, partial)
            _write_semantic(samples, partial / "semantic")
        card = Card(kind, samples, split, splits, counts)
        step = max(1, len(samples) // SHOWN)
        write_card(card, partial, out.name, list(islice(samples, 0, step * SHOWN, step)))
        partial.chmod(0o755)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def _write_semantic(samples: Samples, folder: Path) -> None:
    folder.mkdir()
    for sample in samples:
        if not cv2.imwrite(str(folder / f"{sample.name}.png"), semantic(sample)):
            raise OSError(f"{folder / sample.name}.png could not be written; is the disk full?")
