"""What a frame model makes of a view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Painted:
    """rgb (H, W, 3) uint8; confidence (H, W) uint8: 255 = seen by drawing or references, which agree; 0 = invented;
    None of a model that cannot tell."""

    rgb: np.ndarray
    confidence: np.ndarray | None = None
