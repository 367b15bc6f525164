"""`worldfm eval`: a frame model judged by photographs that it has not seen, beside what needs no network.

The evaluation is imported inside: it needs torch, and no other command should wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
import tyro

from worldfm_ros.cli.fitting import fitting
from worldfm_ros.cli.topics import TopicOptions
from worldfm_ros.clips import LENGTH
from worldfm_ros.evaluation.degradation import Degradation
from worldfm_ros.files import write_json
from worldfm_ros.geometry import check_image_size
from worldfm_ros.progress import Progress
from worldfm_ros.sources.bag import Topics
from worldfm_ros.sources.conventions import Conventions
from worldfm_ros.sources.open import open_frames
from worldfm_ros.world.builders.fusion import FusionSettings
from worldfm_ros.world.storage import read_world

if TYPE_CHECKING:
    from worldfm_ros.evaluation.held_out import HeldOutViews
    from worldfm_ros.frame_model.noise import Noise

MIN_SIDE = 16  # pixels
WIDTH = 100  # columns of the widest table, so that it is whole in a file, too


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Which views are held out, and at what size they are judged.

    clips: 16: of every 16 consecutive frames 4 make a cloud that shows the other 12.
    hold_out: every so many frames one is a target; the others make the world.
    views: a source of posed frames, whose photographs the world SOURCE is judged by.
    width: pixels; photographs are centre-cropped to the aspect of width and height, and resized.
    height: pixels.
    voxel: metres between the anchors of the world that hold_out makes.
    count: only so many clips, or views of a world, spread evenly, for speed.
    """

    clips: int | None = None
    hold_out: int | None = None
    views: Path | None = None
    width: int = 256
    height: int = 256
    voxel: float = FusionSettings.voxel
    count: int | None = None

    def check(self) -> None:
        """Raise ValueError for what is no protocol or no size."""
        given = [name for name in ("clips", "hold_out", "views") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of --clips {LENGTH}, --hold-out 8 and --views FOLDER; "
                             f"got {' and '.join('--' + name.replace('_', '-') for name in given) or 'none'}")
        if self.clips not in (None, LENGTH):
            raise ValueError(f"a clip has {LENGTH} frames: --clips {LENGTH}, got {self.clips}")
        check_image_size(self.width, self.height)
        if min(self.width, self.height) < MIN_SIDE:
            raise ValueError(f"pictures are {MIN_SIDE} pixels wide and high, or more, got {self.width}x{self.height}")

    def find(self, source: Path, topics: Topics, conventions: Conventions, degradation: Degradation) -> HeldOutViews:
        """The views in `source`. Raises ValueError or FileNotFoundError for a source that does not have them."""
        from worldfm_ros.evaluation.held_out import ClipViews, Photographs, WorldViews, hold_out, targets

        frames = fitting(open_frames(self.views or source, topics), conventions)
        photographs = Photographs(frames, self.width, self.height)
        if self.clips is not None:
            return ClipViews(photographs, degradation, self.count)
        if self.hold_out is not None:
            world = hold_out(photographs, self.hold_out, degradation, FusionSettings(voxel=self.voxel),
                             Progress("building the world"))
            return WorldViews(world, photographs, targets(photographs, self.hold_out), self.count)
        if degradation.of_frames:
            raise ValueError("--depth-noise and --pose-noise change the frames that a map is made of; "
                             "a finished world can only be thinned (--thin)")
        world = read_world(source)
        world.anchors = degradation.anchors(world.anchors)
        return WorldViews(world, photographs, count=self.count)


def evaluate(
    source: tyro.conf.Positional[Path],
    *,
    model: str,
    json: Path,
    protocol: tyro.conf.OmitArgPrefixes[Protocol],
    degradation: tyro.conf.OmitArgPrefixes[Degradation],
    topics: tyro.conf.OmitArgPrefixes[TopicOptions] = TopicOptions(),
    conventions: tyro.conf.OmitArgPrefixes[Conventions] = Conventions(),
    montage: Path | None = None,
    preset: str = "exact",
    noise: str | None = None,
    predictivity: bool = False,
) -> None:
    """Score a frame model on photographs it has not seen, beside the best picture without a network.

    The baseline is what --model anchors paints: the references warped by the drawn depth and blended over the drawing;
    `inpainted` is the drawing alone, its holes filled by OpenCV inpainting.

    `seen` pixels are those that the anchor drawing covers, `disoccluded` the rest. Figures are means over the views:
    psnr (dB) and ssim; lpips and, of 64 views or more, fid, where the networks for them are installed; sharpness_ratio,
    the variance of the Laplacian over the photograph's; warp_psnr, dB between neighbouring views that are brought
    together by the true depth, and warp_excess, how much less that is than between the photographs; tsed, the share of
    neighbouring views whose SIFT matches obey the epipolar geometry; revisit_psnr, dB between a view and the same one
    painted again at the end (120 = no difference); confidence_rank, how well the confidence tells where the error is
    (Spearman, 1 = as well as can be).

    Args:
        source: posed frames (an RGB-D folder, a bag, a transforms.json, a COLMAP project); with --views a world folder.
        model: `anchors` (no network), the name of an installed model, or a model folder.
        json: write the figures to this file.
        montage: write some views as a PNG: drawing, inpainted, blend, model, photograph.
        preset: exact, or fast: what may be done to a network for speed.
        noise: seeded, world or fresh, instead of the model's own.
        predictivity: also do with neighbouring views what algorithms do, ORB and SIFT matches and visual odometry,
            on the model's pictures, the blend's, bare drawings and photographs; tell the ratios to the latter.
    """
    protocol.check()
    for file in (json, montage):
        check_target(file)
    from worldfm_ros.evaluation import evaluate as judge
    from worldfm_ros.evaluation.perceptual import find_perceptual
    from worldfm_ros.evaluation.predictivity import Predictivity
    from worldfm_ros.generator import load_model

    painter = load_model(model, degradation.seed, preset)
    if noise is not None:
        painter.noise = find_noise(noise, model, degradation.seed)
    views = protocol.find(source, topics, conventions, degradation)
    perceptual = find_perceptual(len(views))
    result = judge.evaluate(views, painter, Progress(f"painting with {model}"), perceptual,
                            Predictivity() if predictivity else None)
    settings = {"source": source, "model": model, "preset": preset, "noise": noise, **asdict(protocol),
                **asdict(degradation)}
    figures = result.figures | {"settings": {name: str(value) if isinstance(value, Path) else value
                                             for name, value in settings.items()}}
    if montage is not None:
        write_montage(result.examples, montage)
    write_json(json, figures)
    print_table(figures)
    if predictivity:
        print_predictivity(figures["predictivity"])
    if perceptual.advice:
        print(perceptual.advice, file=sys.stderr)


def print_predictivity(figures: Mapping) -> None:
    """What algorithms made of each side, and in brackets the ratio to what they made of the photographs."""
    table = Table(title=f"{figures['pairs']} pairs of neighbouring views", box=SIMPLE)
    sides = ("photograph", "model", "baseline", "drawing")
    for column in ("", *sides):
        table.add_column(column, justify="right", no_wrap=True)
    for name in figures.get("photograph", {}):
        cells = []
        for side in sides:
            value, ratio = figures[side][name], figures[side].get("ratio", {}).get(name)
            cells.append(("" if value is None else f"{value:.3f}") + ("" if ratio is None else f" ({ratio:.2f})"))
        table.add_row(name.replace("_", " "), *cells)
    Console(width=WIDTH).print(table)


def find_noise(name: str, model: str, seed: int) -> Noise:
    """The noise of that name. Raises ValueError listing the names, and for a model without a network."""
    from worldfm_ros.frame_model.checkpoint import NOISES

    if model == "anchors" or name not in NOISES:
        raise ValueError(f"--noise is one of {', '.join(NOISES)}, for a model with a network; "
                         f"got {name!r} for {model}")
    return NOISES[name](seed)


def check_target(file: Path | None) -> None:
    """Raise ValueError, before the work, when a file cannot be written there."""
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ValueError(f"cannot write {file}: "
                         + ("it is a folder" if file.is_dir() else f"there is no folder {file.parent}"))


def write_montage(examples: list, file: Path) -> None:
    """A row for each example: the drawing, what can be made of it without a network and with one, the truth."""
    from worldfm_ros.evaluation.montage import montage, write_png

    rows = [{"anchor drawing": painted.view.drawing.rgb, **{title: painted.pictures[name] for name, title in
             (("inpainted", "drawing + inpainting"), ("baseline", "blend"), ("model", "model"),
              ("photograph", "photograph"))}}
            for painted in examples]
    write_png(montage(rows), file)


def print_table(figures: Mapping) -> None:
    """The figures of all sides and of the photographs, for people."""
    table = Table(title=f"{figures['views']} views, {figures['uncovered']:.1%} of the pixels uncovered", box=SIMPLE)
    columns = [f"{region} {name}" for region in ("all", "seen", "disoccluded") for name in ("psnr", "ssim")]
    columns += [name for name in ("lpips", "fid") if figures["model"][name] is not None]
    columns += ["sharpness_ratio", "warp_psnr", "warp_excess", "tsed", "confidence_rank", "revisit_psnr"]
    table.add_column("")
    sides = ("model", "baseline", "inpainted", "photograph")
    for side in sides:
        table.add_column(side, justify="right")
    for column in columns:
        cells = []
        for side in sides:
            value = figures[side]
            for name in column.split():
                value = (value or {}).get(name)
            cells.append("" if value is None else f"{value:.3f}")
        table.add_row(column.replace("_", " "), *cells)
    Console().print(table)
