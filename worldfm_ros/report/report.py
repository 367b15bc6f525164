"""A report on anything: bags, worlds and evaluations, each a section."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from worldfm_ros.bags.reader import bag_files
from worldfm_ros.report.bag import bag_section
from worldfm_ros.report.plots import Plan
from worldfm_ros.report.scores import scores_section
from worldfm_ros.report.sheet import Section, page
from worldfm_ros.report.world import plan_of, world_section
from worldfm_ros.sources.open import BAGS
from worldfm_ros.world.storage import MANIFEST, read_world

KINDS = "a world folder (world.yaml), a bag (metadata.yaml, .mcap, .db3, .bag) or a JSON file of `worldfm eval`"


def report(sources: Sequence[Path], track: Callable[[Sequence], Iterable] = iter) -> str:
    """The page. Worlds come first: their plan lies below what the others show on the floor.

    Raises FileNotFoundError, or ValueError for what is no source of a report.
    """
    kinds = {path: kind_of(path) for path in sources}
    sections: list[Section] = []
    plan: Plan | None = None
    for path in track(sorted(kinds, key=lambda path: kinds[path] != "world")):
        if kinds[path] == "world":
            world = read_world(path)
            plan = plan or plan_of(world)
            sections.append(world_section(world, str(path)))
        else:
            sections.append((scores_section if kinds[path] == "scores" else bag_section)(path, plan))
    return page(", ".join(path.name for path in sources), sections)


def kind_of(path: Path) -> str:
    """world, bag or scores. Raises FileNotFoundError or ValueError."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if (path / MANIFEST).exists():
        return "world"
    if path.suffix in BAGS or (path / "metadata.yaml").exists() or (path.is_dir() and bag_files(path)):
        return "bag"
    if path.suffix == ".json":
        return "scores"
    raise ValueError(f"{path} is nothing to report on: expected {KINDS}")
