"""Pictures side by side, with titles: something to look at beside the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from worldfm_ros.files import write_whole

GAP = 4  # pixels
TITLE = 24  # pixels, height of the line of titles
LINE = cv2.FONT_HERSHEY_SIMPLEX


def montage(rows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """One picture (H, W, 3) uint8 of rows of pictures of one size (h, w, 3); the keys of the first row are titles."""
    height, width = next(iter(rows[0].values())).shape[:2]
    sheet = np.full((TITLE + len(rows) * (height + GAP), len(rows[0]) * (width + GAP) - GAP, 3), 255, np.uint8)
    for column, title in enumerate(rows[0]):
        left = column * (width + GAP)
        cell = np.ascontiguousarray(sheet[:TITLE, left:left + width])
        sheet[:TITLE, left:left + width] = cv2.putText(cell, title, (2, TITLE - 8), LINE, 0.5, (0, 0, 0), 1,
                                                       cv2.LINE_AA)
        for line, row in enumerate(rows):
            top = TITLE + line * (height + GAP)
            sheet[top:top + height, left:left + width] = row[title]
    return sheet


def write_png(rgb: np.ndarray, path: Path) -> None:
    """(H, W, 3) uint8 to a file; a crash leaves the old file or the new one."""
    encoded = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1]
    write_whole(path, encoded.tobytes())
