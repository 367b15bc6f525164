"""A picture of training pairs to look at: is what the network is shown like what a robot has?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.batch import Pair

COLUMNS = ("target", "drawing", "guide's best guess", "reference in the target", "reference")
TITLE = 18  # pixels
GAP = 2


def contact_sheet(pairs: Iterable[Pair]) -> np.ndarray:
    """(H, W, 3) uint8: a row for each pair, all of one size, with the columns `COLUMNS`."""
    rows = [np.concatenate([_framed(cell) for cell in _cells(pair)], axis=1) for pair in pairs]
    if not rows:
        raise ValueError("a contact sheet needs at least one pair, got none")
    return np.concatenate([_titles(rows[0].shape[1]), *rows])


def write_contact_sheet(pairs: Iterable[Pair], path: str | Path) -> None:
    """As PNG. Raises OSError when it cannot be written."""
    Image.fromarray(contact_sheet(pairs)).save(path)


def _cells(pair: Pair) -> list[np.ndarray]:
    return [pair.target, pair.drawing, pair.guide[..., :3], pair.guide[..., 3:6], pair.reference]


def _framed(picture: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(picture, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _titles(width: int) -> np.ndarray:
    strip = np.full((TITLE, width, 3), 255, np.uint8)
    for k, title in enumerate(COLUMNS):
        place = (k * width // len(COLUMNS) + 2, TITLE - 5)
        cv2.putText(strip, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
