"""What a run leaves to look at: metrics.csv, losses.png, samples/*.png, and the same for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import csv
from datetime import timedelta
from functools import wraps
import io
import math
from pathlib import Path
import threading
import time

import cv2
from matplotlib.figure import Figure
import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from worldfm_ros.files import write_whole

METRICS, CURVES, SAMPLES, EVENTS = "metrics.csv", "losses.png", "samples", "tensorboard"
COLUMN, TITLE, GAP = 160, 22, 4  # pixels: the smallest width of a column, a title's height, between pictures
ROWS = 8  # of the sample grid, at most
TOLD_EVERY = 15.0  # seconds
SMOOTHED = 50  # a curve's points are means of 1 / SMOOTHED of the run
COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")


def room_needed(method):
    """Of a Logbook: a full disk is one line that says what cannot be written and what to do."""
    @wraps(method)
    def wrapped(book: Logbook, *arguments):
        try:
            return method(book, *arguments)
        except OSError as error:
            raise OSError(f"{error.filename or book.out} cannot be written: {error.strerror or error}; make room there "
                          "and go on with --resume") from error
    return wrapped


class NullLogbook:
    """What the other processes write into: nothing."""

    def record(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def show(self, step: int, columns: Mapping[str, Tensor]) -> None: ...


class Logbook(NullLogbook):
    """The main process's; `step` counts the steps that are done. Opened with `open_logbook`."""

    @room_needed
    def __init__(self, out: Path, done: int, steps: int) -> None:
        """Goes on after step `done` of `steps`: what was written about later steps is dropped."""
        self.out = out
        self._pace = Pace(done, steps)
        self._events = SummaryWriter(str(out / EVENTS), purge_step=done + 1)
        self._names, rows = read_metrics(out / METRICS)
        self._table = self._rewrite([row for row in rows if int(row["step"]) <= done])

    def record(self, step: int, scalars: Mapping[str, float]) -> None:
        """A row of numbers. A name that was not there before gets a column, empty so far."""
        self._keep(step, scalars)
        self._pace.tell(step, {name: value for name, value in scalars.items() if name.endswith("loss")})

    @room_needed
    def _keep(self, step: int, scalars: Mapping[str, float]) -> None:
        new = [name for name in scalars if name not in self._names]
        if new:
            self._table.close()
            _, rows = read_metrics(self.out / METRICS)
            self._names += new
            self._table = self._rewrite(rows)
        self._write(self._table, {"step": str(step)} | {name: repr(value) for name, value in scalars.items()})
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)

    @room_needed
    def show(self, step: int, columns: Mapping[str, Tensor]) -> None:
        """Samples as a grid of pictures, and the curves so far."""
        grid = sample_grid(columns)
        path = self.out / SAMPLES / f"step-{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, cv2.imencode(".png", np.ascontiguousarray(grid[..., ::-1]))[1].tobytes())
        self._events.add_image("samples", grid, step, dataformats="HWC")
        plot_curves(self.out / METRICS, self.out / CURVES)

    @room_needed
    def close(self) -> None:
        self._table.close()
        self._events.close()

    def _rewrite(self, rows: list[dict[str, str]]):
        """metrics.csv anew with these rows, in one go; what it returns appends to it."""
        table = io.StringIO(newline="")
        csv.writer(table).writerow(["step", *self._names])
        for row in rows:
            self._write(table, row)
        write_whole(self.out / METRICS, table.getvalue().encode())
        return open(self.out / METRICS, "a", newline="", buffering=1)

    def _write(self, stream, row: Mapping[str, str]) -> None:
        csv.writer(stream).writerow([row["step"], *(row.get(name, "") for name in self._names)])


class Pace:
    """Says on stdout how far the run is, now and then."""

    def __init__(self, done: int, steps: int) -> None:
        self._first, self._steps = done, steps
        self._start = self._told = time.monotonic()

    def tell(self, step: int, losses: Mapping[str, float]) -> None:
        now = time.monotonic()
        if now - self._told < TOLD_EVERY and step not in (self._first + 1, self._steps):
            return
        self._told = now
        seconds = (now - self._start) / (step - self._first)
        left = str(timedelta(seconds=round(seconds * (self._steps - step))))
        values = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
        print(f"step {step}/{self._steps}  {values}  {seconds:.3g} s a step, {left} left", flush=True)


@contextmanager
def open_logbook(out: Path, done: int, steps: int, main: bool) -> Iterator[NullLogbook]:
    """The run's logbook after `done` of `steps` steps; only the main process's writes."""
    if not main:
        yield NullLogbook()
        return
    with _tensorboard_says_it_once():
        book = Logbook(out, done, steps)
        try:
            yield book
        finally:
            book.close()


@contextmanager
def _tensorboard_says_it_once() -> Iterator[None]:
    """What goes wrong in its thread, a full disk, is raised in ours too: no traceback beside the error."""
    before = threading.excepthook
    threading.excepthook = lambda failed: (None if type(failed.thread).__module__.startswith("tensorboard.")
                                           else before(failed))
    try:
        yield
    finally:
        threading.excepthook = before


def read_metrics(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The names besides `step`, and the rows of metrics.csv as written; a last row that was cut short is left out.

    Raises ValueError for a file that is no such table.
    """
    if not file.exists():
        return [], []
    try:
        with open(file, newline="") as stream:
            header, *rows = csv.reader([line for line in stream if line.endswith("\n")])
        if header[:1] != ["step"]:
            raise ValueError("its first column is not step")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file} is damaged: {error}; remove it, the run goes on with a new one") from error
    return header[1:], [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]


def sample_grid(columns: Mapping[str, Tensor]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the first samples of each column (B, 3, H, W) in [-1, 1], its title above it."""
    return np.concatenate([_column(title, pictures[:ROWS]) for title, pictures in columns.items()], axis=1)


def _column(title: str, pictures: Tensor) -> np.ndarray:
    rgb = (pictures.detach().float().cpu().clamp(-1.0, 1.0) * 127.5 + 127.5).round().byte()
    rgb = rgb.permute(0, 2, 3, 1).numpy()                                          # (B, H, W, 3)
    zoom = math.ceil(COLUMN / rgb.shape[2])
    rgb = rgb.repeat(zoom, axis=1).repeat(zoom, axis=2)
    rgb = np.pad(rgb, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    heading = np.full((TITLE, rgb.shape[2], 3), 255, np.uint8)
    cv2.putText(heading, title, (2, TITLE - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([heading, *rgb])


def plot_curves(metrics: Path, picture: Path) -> None:
    """Every column of metrics.csv but the learning rates over the steps, and its mean over stretches, as a PNG."""
    names, rows = read_metrics(metrics)
    names = [name for name in names if not name.endswith("learning_rate")]
    across = math.ceil(math.sqrt(len(names)))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(4.2 * across, 2.8 * down))
    figure.subplots_adjust(0.4 / across, 0.25 / down, 1 - 0.05 / across, 1 - 0.15 / down, 0.25, 0.35)
    for i, name in enumerate(names):
        axis = figure.add_subplot(down, across, i + 1)
        points = np.array([(int(row["step"]), float(row[name])) for row in rows if row[name]])
        color = COLORS[i % len(COLORS)]
        axis.plot(*points.T, color=color, alpha=0.3, linewidth=0.8)
        means = [stretch.mean(axis=0) for stretch in np.array_split(points, min(SMOOTHED, len(points)))]
        axis.plot(*np.array(means).T, color=color)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=7)
    png = io.BytesIO()
    figure.savefig(png, dpi=90)
    write_whole(picture, png.getvalue())
