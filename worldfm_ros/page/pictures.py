"""Streams of pictures for browsers: the newest of each layer, drawn and compressed once, and only for who watches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import threading
from time import monotonic

import cv2
import numpy as np

JPEG_QUALITY = 85
RATE_WINDOW = 20  # pictures that the rate is measured over
STALE = 2.0  # seconds without a new picture
FARTHEST = 0.98  # quantile of the depths that gets the last colour
NO_DEPTH = (24, 26, 30)  # rgb
GOLDEN = 0.618034  # of the colour circle between a label and the next


@dataclass(frozen=True)
class Command:
    """One push of the joystick: the `number`-th that this browser has sent."""

    client: str
    number: int


@dataclass(frozen=True, eq=False)
class Picture:
    """`count`: how many the stream has had, 0 = none. jpeg: empty when there is nothing to show. stamp: seconds. shows:
    the newest command whose effect can be seen in it."""

    count: int = 0
    jpeg: bytes = b""
    stamp: float = 0.0
    shows: Command | None = None


class Stream:
    """The newest picture of a layer. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._compressing = threading.Lock()
        self._draw: Callable[[], np.ndarray | None] = lambda: None
        self._newest = self._shown = Picture()
        self._arrivals: deque[float] = deque(maxlen=RATE_WINDOW)
        self.watchers = 0
        self.closed = False

    def put(self, draw: Callable[[], np.ndarray | None], stamp: float, shows: Command | None = None) -> None:
        """`draw` makes the picture (H, W, 3) uint8 RGB, or None when there is none to show; called once at most."""
        with self._changed:
            self._draw = draw
            self._newest = Picture(self._newest.count + 1, b"", stamp, shows)
            self._arrivals.append(monotonic())
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody who waits go."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While somebody looks at it."""
        with self._changed:
            self.watchers += 1
        try:
            yield
        finally:
            with self._changed:
                self.watchers -= 1

    def pace(self) -> tuple[float, float]:
        """Seconds since the newest picture, and the rate in Hz, which is 0 when they have stopped."""
        with self._changed:
            if not self._arrivals:
                return 0.0, 0.0
            age, span = monotonic() - self._arrivals[-1], self._arrivals[-1] - self._arrivals[0]
            return age, (len(self._arrivals) - 1) / span if span and age < STALE else 0.0

    def wait(self, seen: int, timeout: float) -> Picture:
        """The newest picture, once it is another than number `seen` or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._newest.count != seen, timeout)
            draw, newest = self._draw, self._newest
        with self._compressing:
            if self._shown.count < newest.count:
                pixels = draw()
                jpeg = b"" if pixels is None else to_jpeg(pixels)
                self._shown = Picture(newest.count, jpeg, newest.stamp, newest.shows)
            return self._shown


def to_jpeg(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as JPEG."""
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def depth_colours(depth: np.ndarray) -> np.ndarray:
    """Depths (H, W), metres, 0 or NaN = none, as (H, W, 3) RGB: near is red, far is blue, none is dark."""
    known = np.isfinite(depth) & (depth > 0)
    near, far = np.quantile(depth[known], [1.0 - FARTHEST, FARTHEST]) if known.any() else (0.0, 1.0)
    closeness = 1.0 - (np.where(known, depth, far) - near) / max(far - near, 1e-6)
    return _mapped(closeness, cv2.COLORMAP_TURBO, known)


def confidence_colours(confidence: np.ndarray) -> np.ndarray:
    """(H, W) uint8, 255 = seen, 0 = invented, as (H, W, 3) RGB: seen is light, invented is dark violet."""
    return _mapped(confidence / 255.0, cv2.COLORMAP_INFERNO, np.ones(confidence.shape, bool))


def label_colours(labels: np.ndarray) -> np.ndarray:
    """Labels (H, W), 0 = none, as (H, W, 3) RGB: a colour for each, the same in every picture."""
    hue = (labels * GOLDEN) % 1.0 * 179.0
    # neighbours on the colour circle differ in brightness too
    value = 150 + 105 * (labels % 2)
    hsv = np.stack([hue, np.full(labels.shape, 165.0), value], -1).astype(np.uint8)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    rgb[labels == 0] = NO_DEPTH
    return rgb


def _mapped(values: np.ndarray, colours: int, known: np.ndarray) -> np.ndarray:
    """Values (H, W) from 0 to 1 in a colour map of OpenCV's."""
    bgr = cv2.applyColorMap((255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8), colours)
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    rgb[~known] = NO_DEPTH
    return rgb
