"""How near a picture comes to a photograph: PSNR, SSIM and sharpness, over all pixels or a part of them.

Pictures are (H, W, 3) uint8, masks (H, W) bool. Figures are of one picture; those of a set are means over its pictures.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

IDENTICAL = 120.0  # dB, stands for pictures without any difference: a mean of figures could not hold infinity
SSIM_SIGMA = 1.5  # pixels, the Gaussian window of Wang et al., Image quality assessment, 2004
SSIM_WINDOW = 11  # pixels, the smallest picture that it fits in
DOUBTED = 5  # pixels, the side of the squares in which doubt and error are compared
RANKED = 7  # every so many pixels of them


def psnr(picture: np.ndarray, photograph: np.ndarray, mask: np.ndarray | None = None) -> float:
    """dB over the pixels of `mask`; IDENTICAL where nothing differs. Raises ValueError for an empty mask."""
    error = np.square(picture.astype(np.float64) - photograph)
    if mask is not None:
        error = error[mask]
    if not error.size:
        raise ValueError("the mask has no pixel; PSNR needs at least one")
    mean = error.mean()
    return IDENTICAL if mean == 0 else float(10.0 * np.log10(255.0**2 / mean))


def ssim_map(picture: np.ndarray, photograph: np.ndarray) -> np.ndarray:
    """(H, W): the structural similarity around each pixel, mean of the three channels.

    The mean over a mask is the SSIM there. Unlike scikit-image's own mean, pixels at the image's border count: it is
    where disoccluded pixels lie. Raises ValueError for pictures smaller than SSIM_WINDOW.
    """
    if min(picture.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs pictures of {SSIM_WINDOW}x{SSIM_WINDOW} pixels or more, got {picture.shape}")
    _, similarity = structural_similarity(picture, photograph, channel_axis=-1, data_range=255, full=True,
                                          gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False)
    return similarity.mean(axis=-1)


def sharpness(picture: np.ndarray, mask: np.ndarray) -> float:
    """The variance of the grey picture's Laplacian over the mask's pixels."""
    laplacian = cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F)
    return float(laplacian[mask].var())


def sharpness_ratio(picture: np.ndarray, photograph: np.ndarray, mask: np.ndarray) -> float | None:
    """The picture's sharpness over the photograph's: below 1 is blurred, above 1 noisy or aliased.

    None where the photograph has no detail at all.
    """
    detail = sharpness(photograph, mask)
    return sharpness(picture, mask) / detail if detail > 0 else None


def confidence_rank(confidence: np.ndarray, picture: np.ndarray, photograph: np.ndarray,
                    region: np.ndarray) -> float | None:
    """Spearman's rank correlation of doubt, 255 - confidence (H, W) uint8, with the mean absolute error of the colours
    in squares of DOUBTED pixels, in a region (H, W) bool; None where either is the same everywhere."""
    side = (DOUBTED, DOUBTED)
    error = cv2.blur(np.abs(picture.astype(np.float32) - photograph).mean(-1), side)
    doubt = cv2.blur(255 - confidence.astype(np.float32), side)
    chosen = np.flatnonzero(region)[::RANKED]
    doubt, error = doubt.flat[chosen], error.flat[chosen]
    if len(chosen) < 2 or np.ptp(doubt) == 0 or np.ptp(error) == 0:
        return None
    return float(spearmanr(doubt, error).statistic)
