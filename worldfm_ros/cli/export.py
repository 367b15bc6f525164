"""`worldfm export`: a rendered or recorded drive as a data set in one of the field's formats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import tyro

from worldfm_ros.export.export import export
from worldfm_ros.export.splits import Split
from worldfm_ros.replay.engine import check_new


def export_dataset(
    source: tyro.conf.Positional[Path],
    *,
    format: str,  # noqa: A002  what a user calls it
    out: Path,
    split: tyro.conf.OmitArgPrefixes[Split] = Split(),
) -> None:
    """Write a data set: pictures with their truth, split by place, with checksums and a card.

    What a model invented is in no mask, and an instance that is mostly invented is marked to be ignored.

    Args:
        source: a bag with a camera (`worldfm bag render`, or a recording), or a folder of `worldfm render`.
        format: coco, panoptic, kitti, yolo, voc, voc_segmentation or another one of datumaro's; tum, nerfstudio
            or lerobot.
        out: the folder to create.
    """
    check_new(out)
    card = export(source, format, out, split)
    parts = ", ".join(f"{count} {name}" for name, count in Counter(card.splits.values()).most_common())
    print(f"{out}: {len(card.splits)} pictures ({parts}), {sum(card.counts.values())} annotations or poses")
