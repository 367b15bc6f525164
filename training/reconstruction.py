"""What autoencoders keep of pictures, side by side: `python -m training.reconstruction RUN... --data SOURCE...`.

All of them see the same targets of clips, with exact guides, and take turns picture by picture, so that whatever else
the machine does slows all alike: times tell a ratio between them, not a speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path
import sys
from time import perf_counter

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
import torch
import tyro

from training.batch import Batch, Pair
from training.builders import model_folder
from training.data.pairs import Corruption, make_pair
from training.data.shard_index import INDEX
from training.data.shards import ShardedClips
from worldfm_ros.cli.facts import AsJson, print_facts
from worldfm_ros.clips import TARGETS
from worldfm_ros.ending import exit_code
from worldfm_ros.evaluation.scoring import psnr, ssim_map
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import AUTOENCODER, CONFIG, load_autoencoder
from worldfm_ros.frame_model.imaging import to_uint8
from worldfm_ros.geometry import check_image_size
from worldfm_ros.progress import Progress
from worldfm_ros.sources.open import open_frames
from worldfm_ros.sources.sources import ClipSource, FrameClips

TARGET_STEP = 5  # from a picture's position in its clip to the next one's; prime to their number, so all come equally
SHOWN = {"psnr": 2, "ssim": 3, "psnr_guided": 2, "ssim_guided": 3, "milliseconds": 1}  # figures: digits in the table

# ---- figures


@dataclass(frozen=True)
class Figures:
    """Of 8-bit pictures: PSNR (dB) and SSIM of what the latents alone decode to, and of what they do with the guide
    (None for an autoencoder that takes none). milliseconds: to encode and decode, with the guide where it is taken;
    making the guide is not in it."""

    psnr: float
    ssim: float
    psnr_guided: float | None
    ssim_guided: float | None
    milliseconds: float


def reconstruction_figures(codecs: Sequence[LatentCodec], pairs: Iterable[Pair]) -> list[Figures]:
    """Each autoencoder's mean figures of the targets, and the median of its times. Raises ValueError for no pair."""
    found = [[reconstructed(codec, pair) for codec in codecs] for pair in pairs]
    if not found:
        raise ValueError("figures need at least one picture, got none")
    return [_together(of_one) for of_one in zip(*found, strict=True)]


@torch.inference_mode()
def reconstructed(codec: LatentCodec, pair: Pair) -> Figures:
    """The figures of one target. Raises ValueError for a size that the autoencoder does not take."""
    batch = Batch.collate([pair])
    similarities: list[float | None] = []
    for guide in (None, batch.guide) if codec.guided else (None,):
        start = perf_counter()
        decoded = codec.decode(codec.encode(batch.target), guide)
        seconds = perf_counter() - start
        picture = to_uint8(decoded)
        similarities += [psnr(picture, pair.target), float(ssim_map(picture, pair.target).mean())]
    if not codec.guided:
        similarities += [None, None]
    return Figures(*similarities, 1e3 * seconds)


def _together(figures: Sequence[Figures]) -> Figures:
    columns = {field.name: [getattr(one, field.name) for one in figures] for field in fields(Figures)}
    times = columns.pop("milliseconds")
    means = {name: None if None in values else float(np.mean(values)) for name, values in columns.items()}
    return Figures(**means, milliseconds=float(np.median(times)))


# ---- what is compared


def open_codec(path: Path) -> LatentCodec:
    """The autoencoder of a run, of a model folder, or in a folder of its own; in float32. Raises ValueError."""
    folder = path if (path / CONFIG).exists() else model_folder(path) / AUTOENCODER
    if not folder.is_dir():
        raise ValueError(f"{path} holds no autoencoder: expected a run or a model folder with {AUTOENCODER}/, "
                         "or that folder itself")
    return LatentCodec(load_autoencoder(folder))


def open_clips(source: str, stride: int) -> ClipSource:
    """Shards, whose stride was chosen when they were built, or whatever `open_frames` takes. Raises ValueError."""
    if "://" in source or (Path(source) / INDEX).exists():
        return ShardedClips(source)
    return FrameClips(open_frames(source), stride)


def chosen_targets(clips: int, count: int) -> list[tuple[int, int]]:
    """(clip, position in it) of `count` targets, or of all there are if these are fewer: from all over a source of so
    many clips, every position as often as any other."""
    count = min(count, clips * len(TARGETS))
    return [(k * clips // count, TARGETS[TARGET_STEP * k % len(TARGETS)]) for k in range(count)]


def exact_pairs(clips: ClipSource, targets: Iterable[tuple[int, int]], size: tuple[int, int]) -> Iterator[Pair]:
    """Without corruption, at a size (height, width); a clip is read once."""
    for number, of_clip in groupby(targets, key=itemgetter(0)):
        clip = clips[number]
        for _, position in of_clip:
            yield make_pair(clip, position, size, Corruption.none(), seed=0)


# ---- the command


def run(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    *,
    data: tuple[str, ...],
    count: int = 48,
    width: int = 256,
    height: int = 256,
    stride: int = 1,
    json: AsJson = False,
) -> None:
    """Compare what autoencoders make of the same pictures, from the latents alone and with the guide.

    Args:
        runs: folders of runs, models or autoencoders.
        data: RGB-D folders, transforms.json files, COLMAP projects, bags, folders of shards.
        count: pictures of each source, at most.
        width: pixels; pictures are centre-cropped to the aspect of width and height, and resized.
        height: pixels.
        stride: a clip is 16 frames that are so many frames apart; shards have their own.
    """
    check_image_size(width, height)
    if not runs or not data:
        raise ValueError("nothing to compare: name at least one folder of an autoencoder, and a source with --data")
    if count < 1:
        raise ValueError(f"count is 1 picture or more, got {count}")
    if stride < 1:
        raise ValueError(f"stride is 1 frame or more, got {stride}")
    codecs = {str(path): open_codec(path) for path in runs}
    sources = {source: open_clips(source, stride) for source in data}
    for codec in codecs.values():  # the first pass at a size is slow; and it may refuse the size
        codec.decode(codec.encode(torch.zeros(1, 3, height, width)))
    rows = []
    for source, clips in sources.items():
        targets = chosen_targets(len(clips), count)
        pairs = exact_pairs(clips, Progress(source)(targets), (height, width))
        found = reconstruction_figures(list(codecs.values()), pairs)
        rows += [{"autoencoder": name, "parameters": parameters(codec), "latent_channels": codec.latent_channels,
                  "source": source, "pictures": len(targets), **asdict(figures)}
                 for (name, codec), figures in zip(codecs.items(), found, strict=True)]
    if json:
        print_facts({"size": [height, width], "figures": rows}, json)
    else:
        Console().print(table(rows, f"reconstruction, {width}x{height}"))


def parameters(codec: LatentCodec) -> int:
    return sum(parameter.numel() for parameter in codec.autoencoder.parameters())


def table(rows: Sequence[Mapping], title: str) -> Table:
    """A line for each autoencoder, under its source."""
    made = Table(title=title, box=SIMPLE, padding=0)
    made.add_column("", overflow="fold")
    for column in ("M para-\nmeters", "latent\nchannels", "PSNR", "SSIM", "guided\nPSNR", "guided\nSSIM", "ms"):
        made.add_column(column, justify="right", no_wrap=True)
    for (source, pictures), of_source in groupby(rows, key=itemgetter("source", "pictures")):
        made.add_section()
        made.add_row(f"{source}, {pictures} pictures")
        for row in of_source:
            made.add_row(f"  {row['autoencoder']}", f"{row['parameters'] / 1e6:.2f}", str(row["latent_channels"]),
                         *(_cell(row[name], digits) for name, digits in SHOWN.items()))
    return made


def _cell(figure: float | None, digits: int) -> str:
    return "-" if figure is None else f"{figure:.{digits}f}"


def main() -> int:
    """Run the command line."""
    return exit_code(lambda: tyro.cli(run, prog="python -m training.reconstruction"))


if __name__ == "__main__":
    sys.exit(main())
