"""A picture of training data to look at: is what the network is shown like what a robot has?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.batch import Pair
from worldfm_ros.clips import RgbdFrame

PAIR_COLUMNS = ("target", "drawing", "guide's best guess", "reference in the target", "reference")
VIEW_COLUMNS = ("view", "nearness", "view", "nearness")
WHITE = 0.5  # metres; half as near is half as light
TITLE = 18  # pixels
GAP = 2


def contact_sheet(rows: Iterable[Sequence[np.ndarray]], columns: Sequence[str]) -> np.ndarray:
    """(H, W, 3) uint8: rows of pictures (h, w, 3) uint8, all of one size, below the names of their columns."""
    strips = [np.concatenate([_framed(cell) for cell in row], axis=1) for row in rows]
    if not strips:
        raise ValueError("a contact sheet needs at least one row, got none")
    return np.concatenate([_titles(strips[0].shape[1], columns), *strips])


def write_contact_sheet(rows: Iterable[Sequence[np.ndarray]], path: str | Path, columns: Sequence[str]) -> None:
    """As PNG. Raises OSError when it cannot be written."""
    Image.fromarray(contact_sheet(rows, columns)).save(path)


def pair_cells(pair: Pair) -> list[np.ndarray]:
    """A pair's row, PAIR_COLUMNS."""
    return [pair.target, pair.drawing, pair.guide[..., :3], pair.guide[..., 3:6], pair.reference]


def view_cells(frame: RgbdFrame) -> list[np.ndarray]:
    """A view and how near what it shows is: half of VIEW_COLUMNS."""
    nearness = np.divide(WHITE, frame.depth, out=np.zeros_like(frame.depth), where=frame.depth > 0)
    return [frame.rgb, np.rint(255 * nearness.clip(0, 1)).astype(np.uint8)[..., None].repeat(3, axis=-1)]


def _framed(picture: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(picture, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _titles(width: int, columns: Sequence[str]) -> np.ndarray:
    strip = np.full((TITLE, width, 3), 255, np.uint8)
    for k, title in enumerate(columns):
        place = (k * width // len(columns) + 2, TITLE - 5)
        cv2.putText(strip, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
