"""Depth completers by name."""

from __future__ import annotations

from pathlib import Path

from worldfm_ros.depth.completion import DepthCompleter
from worldfm_ros.depth.smooth import Plane, Smooth
from worldfm_ros.share import models_directory

TRANSFORMERS, DEPTH_ANYTHING = "transformers:", "depth-anything-3:"
NAMES = (f"smooth, plane, depth-tiny, {TRANSFORMERS}MODEL, {DEPTH_ANYTHING}MODEL, or the depth/ folder of a run of "
         "tiny-depth")


def load_completer(name: str) -> DepthCompleter:
    """The completer of that name. Raises ValueError listing the names, and for one that cannot be loaded."""
    if name in ("smooth", "plane"):
        return {"smooth": Smooth, "plane": Plane}[name]()
    for folder in (Path(name).expanduser(), models_directory() / name):
        if (folder / "config.json").is_file():
            from worldfm_ros.depth.learned import LearnedCompleter  # torch, which takes seconds

            return LearnedCompleter(folder)
    from worldfm_ros.depth import estimators

    if name.startswith(TRANSFORMERS):
        return estimators.transformers_completer(name.removeprefix(TRANSFORMERS))
    if name.startswith(DEPTH_ANYTHING):
        return estimators.depth_anything_completer(name.removeprefix(DEPTH_ANYTHING))
    raise ValueError(f"there is no depth completer {name!r}: it is one of {NAMES}")
