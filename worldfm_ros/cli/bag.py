"""`worldfm bag`: rescue recordings."""

from __future__ import annotations

from pathlib import Path

import tyro

from worldfm_ros.bags.recovery import recover


def recover_bag(bag: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> None:
    """Copy every whole message of a bag whose recorder was killed into a new bag.

    Args:
        bag: the damaged bag folder; it is left as it is.
        out: the bag folder to create.
    """
    for topic, count in sorted(recover(bag, out).items()):
        print(f"{count:7d} {topic}")
