"""The card of a data set: what is in it, what it was made of, how to check it, and what it looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from worldfm_ros.export.samples import Sample, Samples
from worldfm_ros.export.splits import Split

SUMS = "checksums.sha256"
SHOWN = 4  # pictures across the card's sheet
IGNORED = 255  # in semantic/: what is invented


@dataclass(frozen=True, eq=False)
class Card:
    """Of a data set in a format: its splits by sample's name, and annotations or pictures by class."""

    format: str
    samples: Samples
    split: Split
    splits: Mapping[str, str]
    counts: Mapping[str, int]

    def text(self, name: str) -> str:
        """README.md."""
        facts, by_split = self.samples.facts, Counter(self.splits.values())
        made = facts.get("model", {})
        lines = [f"# {name}", "", f"{len(self.splits)} pictures in the format {self.format}, written by "
                 "`worldfm export`.", "", "![pictures](card.jpg)", "", "| split | pictures |", "|---|---|",
                 *(f"| {split} | {count} |" for split, count in sorted(by_split.items())), "",
                 f"Splits are by place: squares of {self.split.place:g} m on the floor, seed {self.split.seed}; no "
                 "square is in two of them (splits.json). A view may still show what a view of another split shows.",
                 "", "| what | how many |", "|---|---|",
                 *(f"| {what} | {count} |" for what, count in self.counts.items() if count), ""]
        if made:
            world = facts["world"]
            lines += [f"Painted by the model `{made['name']}` (sha256 {made['sha256'] or 'none'}), seed "
                      f"{facts['seed']}, in the world `{world['name']}` (sha256 {world['sha256']}).", ""]
        return "\n".join([*lines, "Pixels that a model invented (confidence below one half) are in no mask, and 255 in "
                          "semantic/; an instance that is more than half invented is marked to be ignored.", "",
                          f"Check it: `sha256sum -c {SUMS}`", ""])


def semantic(sample: Sample) -> np.ndarray:
    """(H, W) uint8: the labels, 0 = none, 255 = invented. Raises ValueError for labels that have no room."""
    if sample.labels.max() >= IGNORED:
        raise ValueError(f"label {sample.labels.max()} has no room in 8 bits beside {IGNORED}, which is ignored")
    return np.where(sample.invented, IGNORED, sample.labels).astype(np.uint8)


def sheet(samples: list[Sample]) -> np.ndarray:
    """(H, W, 3) uint8: pictures above their labels, where they have them."""
    rows = [np.hstack([sample.rgb for sample in samples])]
    if all(sample.labels is not None for sample in samples):
        rows.append(np.hstack([_colours(semantic(sample)) for sample in samples]))
    return np.vstack(rows)


def _colours(labels: np.ndarray) -> np.ndarray:
    palette = np.random.default_rng(3).integers(40, 230, (256, 3)).astype(np.uint8)
    palette[0], palette[IGNORED] = 0, 255
    return palette[labels]


def write_card(card: Card, folder: Path, name: str, shown: list[Sample]) -> None:
    """README.md, card.jpg, splits.json and, last, the checksums of all files."""
    smallest = min(sample.rgb.shape[0] for sample in shown)
    alike = [sample for sample in shown if sample.rgb.shape[0] == smallest]
    cv2.imwrite(str(folder / "card.jpg"), sheet(alike)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    (folder / "README.md").write_text(card.text(name))
    (folder / "splits.json").write_text(json.dumps(dict(card.splits), indent=1) + "\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    (folder / SUMS).write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
                                       for path in files))
