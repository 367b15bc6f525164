"""Equirectangular panoramas, and maps of the distance along each of their rays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from worldfm_ros.sources.images import MILLIMETRES, read_depth, read_rgb

MAX_WIDTH = 16384  # pixels


@dataclass(frozen=True, eq=False)
class Panorama:
    """rgb (H, 2 H, 3) uint8; distance (H, 2 H) float32, metres along each ray, above 0."""

    rgb: np.ndarray
    distance: np.ndarray


def read_panorama(path: Path) -> np.ndarray:
    """(H, 2 H, 3) uint8. Raises FileNotFoundError or ValueError naming the file."""
    rgb = read_rgb(path)
    check_equirectangular(rgb, path)
    return rgb


def read_distances(path: Path, height: int, units: float = MILLIMETRES) -> np.ndarray:
    """(height, 2 height) float32 metres, above 0, of a 16-bit picture with `units` a metre or an .npy file of metres.

    A map of another size is resampled by what is known in it; where it holds nothing (0, not finite) is what is
    farthest away, as the sky is. Raises FileNotFoundError or ValueError naming the file.
    """
    if path.suffix == ".npy":
        distance = _read_array(path)
    else:
        distance = read_depth(path, units)
    check_equirectangular(distance, path)
    known = np.isfinite(distance) & (distance > 0)
    if not known.any():
        raise ValueError(f"{path} holds no distance above 0; metres along each pixel's ray are expected")
    if len(distance) != height:
        size = (2 * height, height)
        share, sums = (cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in
                       (known.astype(np.float32), np.where(known, distance, 0).astype(np.float32)))
        known = share > 0.5
        distance = np.divide(sums, share, out=np.zeros_like(sums), where=known)
    return filled(distance)


def filled(distance: np.ndarray) -> np.ndarray:
    """Distances (H, W) with the largest of them where there is none (0 or not finite), as of the sky."""
    known = np.isfinite(distance) & (distance > 0)
    return np.where(known, distance, distance[known].max()).astype(np.float32)


def check_equirectangular(image: np.ndarray, where: object) -> None:
    """Raise ValueError, naming `where`, unless a picture is twice as wide as high and not too large."""
    height, width = image.shape[:2]
    if width != 2 * height or not 4 <= width <= MAX_WIDTH:
        raise ValueError(f"{where}: an equirectangular panorama shows 360 x 180 degrees: it is twice as wide as high "
                         f"and up to {MAX_WIDTH} pixels wide; got {width}x{height}")


def _read_array(path: Path) -> np.ndarray:
    try:
        distance = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing") from None
        raise ValueError(f"{path} is no array of distances ({error})") from None
    if distance.ndim != 2 or distance.dtype.kind != "f":
        raise ValueError(f"{path}: distances are an array (H, 2 H) of floating point metres, got {distance.dtype} "
                         f"{distance.shape}")
    return distance
