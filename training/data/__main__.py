"""`python -m training.data build SOURCE... --out DIR` and `python -m training.data info DIR`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
import sys
from typing import Annotated

import numpy as np
import tyro

from training.data.contact_sheet import PAIR_COLUMNS, VIEW_COLUMNS, pair_cells, view_cells, write_contact_sheet
from training.data.pairs import Corruption, make_pair
from training.data.shard_index import VIEWS, read_index
from training.data.shards import ShardedClips, write_shards
from worldfm_ros.cli.facts import AsJson, print_facts
from worldfm_ros.cli.fitting import fitting
from worldfm_ros.cli.topics import TopicOptions
from worldfm_ros.clips import TARGETS
from worldfm_ros.ending import exit_code
from worldfm_ros.progress import Progress
from worldfm_ros.sources.checks import problem, whole
from worldfm_ros.sources.conventions import Conventions
from worldfm_ros.sources.sources import ClipSource, Joined, open_source

SHEET = "contact_sheet.png"
SHEET_ROWS = 12
SHEET_SIZE = (192, 192)  # (height, width) pixels of a picture


def build(
    sources: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    *,
    out: Path,
    stride: int = 1,
    synthetic: str = "",
    count: int = 1000,
    seed: int = 0,
    clips_per_scene: int = 8,
    views_per_scene: int = 0,
    width: int = 320,
    height: int = 256,
    clips_per_shard: int = 32,
    topics: tyro.conf.OmitArgPrefixes[TopicOptions] = TopicOptions(),
    conventions: tyro.conf.OmitArgPrefixes[Conventions] = Conventions(),
    json: AsJson = False,
) -> None:
    """Write the clips of sources to shards, and a contact sheet of training pairs to look at.

    A build that was stopped goes on where it was when it is run again.

    Args:
        sources: RGB-D folders, transforms.json files, COLMAP projects, bags.
        out: the folder for the shards.
        stride: a clip is 16 frames that are so many frames apart.
        synthetic: families of procedural scenes, e.g. rooms,office; clips of them follow those of the sources.
        count: the number of synthetic clips.
        seed: of the synthetic clips.
        clips_per_scene: so many synthetic clips share a scene; its light is worked out once.
        views_per_scene: if above 0, the synthetic clips' 16 pictures are no film, but so many views from all over each
            of the next scenes, in a coarser light: many more places. The depth network alone learns from those.
        width: of the synthetic clips' pictures. Larger than what is trained at, references are as sharp as a robot's.
        height: of the synthetic clips' pictures.
        clips_per_shard: how many clips a tar file holds.
    """
    if out == Path():
        raise ValueError("--out is a folder for the shards alone, got the current one or nothing")
    clips: list[ClipSource] = [open_source(source, stride, topics, conventions) for source in sources]
    for source in clips:
        fitting(source.frames)
    origin = {"sources": [str(source) for source in sources], "files": [source.fingerprint[:16] for source in clips],
              "stride": stride}
    if conventions != Conventions():
        origin["conventions"] = asdict(conventions)
    if topics != TopicOptions():
        origin["topics"] = asdict(topics)
    frames_skipped = sum((source.skipped for source in clips), Counter())
    if views_per_scene and (sources or not synthetic):
        raise ValueError("--views-per-scene is of synthetic scenes alone: name --synthetic FAMILY,... and no source")
    if synthetic:
        from training.synthetic.clips import ClipSettings, SyntheticClips
        from training.synthetic.views import SyntheticViews, rough

        families = tuple(synthetic.split(","))
        clips.append(SyntheticViews(families, seed, count, rough(width, height), views_per_scene) if views_per_scene
                     else SyntheticClips(families, seed, count, ClipSettings(width=width, height=height),
                                         clips_per_scene=clips_per_scene))
        origin.update(synthetic=synthetic, count=count, seed=seed, size=[width, height])
        origin.update({VIEWS: views_per_scene} if views_per_scene else {"clips_per_scene": clips_per_scene})
    if not clips:
        raise ValueError("nothing to build from: name a source, or --synthetic FAMILY,...")
    write_shards(Joined(clips), out, clips_per_shard, origin, Progress("writing clips"),
                 whole if views_per_scene else problem)
    shards = ShardedClips(out)
    if views_per_scene:
        write_contact_sheet(sheet_views(shards), out / SHEET, VIEW_COLUMNS)
    else:
        write_contact_sheet(map(pair_cells, sheet_pairs(shards)), out / SHEET, PAIR_COLUMNS)
    print_facts({**describe(out), "frames left out": dict(frames_skipped), "contact sheet": str(out / SHEET)}, json)


def info(folder: tyro.conf.Positional[Path], verify: bool = False, json: AsJson = False) -> None:
    """Say what a folder of shards holds.

    Args:
        folder: the folder.
        verify: read all shards and compare them with their checksums.
    """
    if verify:
        ShardedClips(folder).verify(Progress("verifying shards"))
    print_facts(describe(folder), json)


def describe(folder: Path) -> dict:
    """The facts of a folder of shards, JSON-ready. Raises ValueError."""
    shards, index = ShardedClips(folder), read_index(folder)
    frame = shards[0].frames[0]
    return {
        "clips": len(shards),
        "shards": len(index.shards),
        "bytes": sum(shard.bytes for shard in index.shards),
        "first clip's pictures": f"{frame.intrinsics.width}x{frame.intrinsics.height}",
        "made from": index.source,
        "clips left out": index.skipped,
    }


def sheet_pairs(clips: ClipSource):
    """Pairs with the corruption of training, of clips from all over the source."""
    for row, number in enumerate(np.linspace(0, len(clips) - 1, SHEET_ROWS).round().astype(int)):
        yield make_pair(clips[int(number)], TARGETS[5 * row % len(TARGETS)], SHEET_SIZE, Corruption.default(), row)


def sheet_views(clips: ClipSource):
    """Rows of two views and how near what they show is, of clips from all over the source."""
    for number in np.linspace(0, len(clips) - 1, SHEET_ROWS).round().astype(int):
        frames = clips[int(number)].frames
        yield [cell for frame in (frames[0], frames[len(frames) - 1]) for cell in view_cells(frame)]


def main() -> int:
    """Run a command."""
    commands = {"build": build, "info": info}
    return exit_code(lambda: tyro.extras.subcommand_cli_from_dict(commands, prog="python -m training.data"))


if __name__ == "__main__":
    sys.exit(main())
