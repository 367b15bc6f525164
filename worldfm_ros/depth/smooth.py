"""Completions without a network: a plane, and the smoothest surface that may break where the picture has edges.

Both work on inverse depth, in which planes are linear over the picture (z^-1 = a u + b v + c). The latter mends other
people's guesses, too.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from worldfm_ros.depth.completion import (
    DenseDepth,
    checked,
    confidence_of,
    pulled,
    reduced,
    size_of,
)
from worldfm_ros.geometry import Intrinsics

PIXELS = 120 * 90  # at which the surface is solved for
USUAL = 2.5  # metres: the middle of depth whose scale nothing tells
FIDELITY = 100.0  # of known depth, beside the smoothness
STRETCH = 1e-3  # of the first derivatives beside the second: far from all depth the surface levels out
EDGE = 12.0  # grey levels between neighbours at which the surface may well break
STIFFEST = 1e-3  # what is left of the smoothness across the strongest edge
ROUNDS = 4  # of fitting a plane, each without what was off most


class Plane:
    """The plane that most of the known depth lies on; a baseline. Known depth pulls nothing."""

    metric = needs_depth = False

    def complete(self, rgb: np.ndarray, known: np.ndarray | None, intrinsics: Intrinsics) -> DenseDepth:
        """As DepthCompleter says. Where nothing is known: an upright wall at 1 m."""
        known = checked(rgb, known, intrinsics)
        inverse = plane(known) if np.count_nonzero(known) >= 3 else np.ones_like(known)
        depth = np.where(known > 0, known, 1.0 / inverse).astype(np.float32)
        return DenseDepth(depth, np.where(known > 0, np.float32(1), np.float32(0.1)))


class Smooth:
    """The smoothest surface through the known depth, which may break at the picture's edges."""

    metric, needs_depth = False, True

    def complete(self, rgb: np.ndarray, known: np.ndarray | None, intrinsics: Intrinsics) -> DenseDepth:
        """As DepthCompleter says. Raises ValueError, too, where nothing is known."""
        known = checked(rgb, known, intrinsics)
        if not known.any():
            raise ValueError("a smooth completion needs some known depth, got none; choose a completer with a network: "
                             "transformers:MODEL, depth-anything-3:MODEL or the depth/ folder of a run")
        away = cv2.distanceTransform((known == 0).astype(np.uint8), cv2.DIST_L2, 3) / max(known.shape)
        return DenseDepth(smoothest(known, rgb), confidence_of(0.02 + away))


def smoothest(known: np.ndarray, rgb: np.ndarray, pixels: int = PIXELS) -> np.ndarray:
    """The smooth completion (H, W) of known depth, solved for at so many pixels; a wall where nothing is known."""
    return fitted(np.ones_like(known), known, rgb, pixels) if known.any() else np.full_like(known, USUAL)


def fitted(guess: np.ndarray, known: np.ndarray, rgb: np.ndarray, pixels: int = PIXELS) -> np.ndarray:
    """A guess of depth (H, W), above 0, that is made to agree with the known depth: divided by the smoothest ratio to
    it, which may break at the picture's edges. So a guess needs to be right in its shape alone, and that nearby alone;
    of a guess that is 1 everywhere this makes the smoothest inverse depth. Known depth is exact."""
    if not known.any():
        return guess
    height, width = known.shape
    size = size_of(known.shape, pixels)
    small, shape = reduced(known, *size), cv2.resize(guess, size, interpolation=cv2.INTER_AREA)
    mask = small > 0
    ratio = np.divide(shape, small, out=np.zeros_like(small), where=mask)
    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    solved = surface(ratio, mask, grey.astype(np.float32))
    solved = np.clip(solved, 0.5 * ratio[mask].min(), 2.0 * ratio.max()).astype(np.float32)
    return pulled(guess / cv2.resize(solved, (width, height), interpolation=cv2.INTER_LINEAR), known)


def surface(values: np.ndarray, mask: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """(H, W): argmin of FIDELITY |x - values|^2 in the mask + |second derivatives|^2 + STRETCH |first derivatives|^2,
    the derivatives weighed by how even the grey picture (H, W) is there."""
    first, second = [], []
    for axis in (0, 1):
        edge = np.abs(np.diff(grey, axis=axis))
        even = np.maximum(np.exp(-(edge / EDGE) ** 2), STIFFEST)
        first.append(_weighed(differences(grey.shape, axis, (-1, 1)), even))
        if grey.shape[axis] > 2:
            both = np.minimum(np.delete(even, -1, axis), np.delete(even, 0, axis))
            second.append(_weighed(differences(grey.shape, axis, (1, -2, 1)), both))
    terms = sparse.vstack(second + [np.sqrt(STRETCH) * rows for rows in first])
    data = sparse.diags(FIDELITY * mask.ravel().astype(np.float64))
    scale = values[mask].mean()
    system = (terms.T @ terms + data).tocsc()
    solver = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    x = solver.solve(FIDELITY * (mask * values).ravel() / scale)
    return x.reshape(grey.shape) * scale


def differences(shape: tuple[int, int], axis: int, taps: tuple[int, ...]) -> sparse.csr_matrix:
    """Rows that take differences of neighbours along an axis of a picture of that shape."""
    places = np.arange(shape[0] * shape[1]).reshape(shape)
    count = shape[axis] - len(taps) + 1
    columns = np.stack([np.take(places, range(k, k + count), axis).ravel() for k in range(len(taps))], axis=1)
    rows = np.repeat(np.arange(len(columns)), len(taps))
    return sparse.csr_matrix((np.tile(np.float64(taps), len(columns)), (rows, columns.ravel())),
                             shape=(len(columns), places.size))


def _weighed(rows: sparse.csr_matrix, weight: np.ndarray) -> sparse.csr_matrix:
    return sparse.diags(np.sqrt(weight.ravel().astype(np.float64))) @ rows


def plane(known: np.ndarray) -> np.ndarray:
    """Inverse depth (H, W) of the plane through most of the known depth: least squares, again without the outliers."""
    rows, columns = np.nonzero(known)
    pick = np.linspace(0, len(rows) - 1, min(len(rows), 5000)).astype(int)
    height, width = known.shape
    design = np.column_stack([columns[pick] / width, rows[pick] / height, np.ones(len(pick))])
    wanted, kept = 1.0 / known[rows[pick], columns[pick]], np.ones(len(pick), bool)
    for _ in range(ROUNDS):
        solution, *_ = np.linalg.lstsq(design[kept], wanted[kept], rcond=None)
        off = np.abs(design @ solution - wanted)
        kept = off <= 2.0 * np.median(off) + 1e-9
    inverse = (np.arange(width) / width * solution[0] + (np.arange(height) / height * solution[1])[:, None]
               + solution[2])
    return np.clip(inverse, 0.5 * wanted.min(), 2.0 * wanted.max())
