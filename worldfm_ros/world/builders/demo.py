"""The demo world: built once, and kept in the user's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import os
from pathlib import Path

from worldfm_ros.world.builders import synthetic
from worldfm_ros.world.storage import MANIFEST, write_world

VERSION = 2  # raise it when the apartment or its fusion changes


def demo_world(track: Callable[[Sequence], Iterable] = iter) -> Path:
    """The folder of the demo world; built when it is not there yet, in about a minute."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "worldfm_ros" / f"apartment-{VERSION}"
    if not (folder / MANIFEST).exists():
        print(f"building the demo world in {folder} (once)", flush=True)
        write_world(synthetic.build("apartment", track=track), folder)
    return folder
