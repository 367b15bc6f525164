"""`worldfm bag`: rescue recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
import sys

import tyro

from worldfm_ros.bags.recovery import recover


def recover_bag(bag: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> None:
    """Copy every whole message of a damaged bag into a new bag.

    Args:
        bag: the damaged bag folder, with or without metadata.yaml, or one storage file; it is left as it is.
        out: the bag folder to create.
    """
    lost, notes = Counter(), []
    for topic, count in sorted(recover(bag, out, lost, notes).items()):
        print(f"{count:7d} {topic}")
    for kind, count in lost.items():
        print(f"lost: {count} {kind}", file=sys.stderr)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
