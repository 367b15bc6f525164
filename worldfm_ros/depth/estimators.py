"""Other people's depth estimators behind our protocol, when they are installed: nothing here is imported before.

What they tell of a picture alone is aligned with the known depth, and then fitted to it.
"""

from __future__ import annotations

from collections.abc import Callable
import sys

import cv2
import numpy as np

from worldfm_ros.depth.completion import DenseDepth, checked, confidence_of
from worldfm_ros.depth.smooth import USUAL, fitted
from worldfm_ros.geometry import Intrinsics

EXPECTED = 0.15  # error of the logarithm of what is not known: none of them tells its own
METRIC_KINDS = {"zoedepth", "depth_pro", "glpn"}  # of transformers' models, beside those whose configuration says so
FARTHEST = 0.05  # of the median of inverse depth; no place is farther


class Estimator:
    """A function from a picture (H, W, 3) uint8 and its camera to depth, or to inverse depth up to scale and offset."""

    needs_depth = False

    def __init__(self, estimate: Callable[[np.ndarray, Intrinsics], np.ndarray], inverse: bool, metric: bool) -> None:
        self._estimate, self._inverse, self.metric = estimate, inverse, metric

    def complete(self, rgb: np.ndarray, known: np.ndarray | None, intrinsics: Intrinsics) -> DenseDepth:
        """As DepthCompleter says. Raises ValueError for an estimate that is not finite."""
        known = checked(rgb, known, intrinsics)
        told = np.asarray(self._estimate(rgb, intrinsics), np.float32).squeeze()
        if told.ndim != 2 or not np.isfinite(told).all():
            raise ValueError(f"the depth estimator gave no picture of finite numbers, but shape {told.shape}")
        told = cv2.resize(told, (intrinsics.width, intrinsics.height), interpolation=cv2.INTER_LINEAR)
        depth = from_inverse(told, known) if self._inverse else scaled(np.maximum(told, 1e-3), known, self.metric)
        return DenseDepth(fitted(depth, known, rgb), confidence_of(np.where(known > 0, 0.02, EXPECTED)))


def scaled(depth: np.ndarray, known: np.ndarray, metric: bool) -> np.ndarray:
    """Depth times the factor that fits the known depth best; of estimates without a scale, the usual one."""
    mask = known > 0
    if mask.any():
        return depth * np.float32(np.median(known[mask] / depth[mask]))
    return depth if metric else depth * np.float32(USUAL / np.median(depth))


def from_inverse(told: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Depth from inverse depth up to scale and offset: least squares to the known depth's inverse, else as told."""
    mask = known > 0
    if np.count_nonzero(mask) >= 10 and np.ptp(told[mask]) > 0:
        design = np.column_stack([told[mask], np.ones(np.count_nonzero(mask))])
        (scale, offset), *_ = np.linalg.lstsq(design, 1.0 / known[mask], rcond=None)
        if scale > 0:
            inverse = scale * told + offset
            return (1.0 / np.maximum(inverse, 0.25 / known.max())).astype(np.float32)
    middle = max(float(np.median(told)), 1e-6)
    return scaled(middle / np.maximum(told, FARTHEST * middle), known, metric=False)


def transformers_completer(name: str) -> Estimator:
    """transformers' depth-estimation pipeline with a model: a local folder or a hub's name. Prints its licence.

    Raises ValueError when transformers is missing or finds no such model.
    """
    try:
        from PIL import Image
        from transformers import pipeline
    except ImportError:
        raise ValueError("transformers is not installed: pip install transformers, or choose another one") from None
    try:
        made = pipeline("depth-estimation", model=name)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"transformers has no depth estimator {name!r}: {reason}; name a folder of one, or a model of "
                         "its hub") from None
    config = made.model.config
    metric = getattr(config, "depth_estimation_type", "") == "metric" or config.model_type in METRIC_KINDS
    print(f"depth by {name}; licence: {getattr(config, 'license', None) or 'see the card of the model'}",
          file=sys.stderr)

    def estimate(rgb: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        return made(Image.fromarray(rgb))["predicted_depth"].float().cpu().numpy()

    return Estimator(estimate, inverse=not metric, metric=metric)


def depth_anything_completer(name: str) -> Estimator:
    """Depth Anything 3 with a model: a local folder or a hub's name. Prints its licence. Raises ValueError likewise."""
    try:
        from depth_anything_3.api import DepthAnything3
    except ImportError:
        raise ValueError("depth-anything-3 is not installed: pip install it, or choose another completer"
                         ) from None
    try:
        made = DepthAnything3.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"Depth Anything 3 has no model {name!r}: {str(error).strip().splitlines()[0]}") from None
    print(f"depth by {name}; licence: see the card of the model (some are not for commercial use)", file=sys.stderr)

    def estimate(rgb: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        return np.asarray(made.inference([rgb], intrinsics=intrinsics.matrix[None]).depth[0])

    return Estimator(estimate, inverse=False, metric="metric" in name.lower())
