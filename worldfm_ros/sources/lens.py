"""Lenses: distortion coefficients as files and messages name them, and frames without distortion."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from worldfm_ros.clips import RgbdFrame

DISTORTION_COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 8}


def coefficients(model, D) -> np.ndarray:
    """OpenCV's coefficients, of a file's distortion_model and D. Raises ValueError."""
    if not isinstance(D, list) or not np.isfinite(np.array(D, np.float64)).all():
        raise ValueError(f"D is a list of finite numbers, got {D!r}")
    known = isinstance(model, str) and model in DISTORTION_COEFFICIENTS
    if not known or len(D) not in (0, 4, DISTORTION_COEFFICIENTS[model]):
        raise ValueError(
            f"distortion_model {model!r} with {len(D)} coefficients is not supported; "
            f"use one of {DISTORTION_COEFFICIENTS} or undistort the images first"
        )
    return np.array(D, np.float64)


def rectified(frame: RgbdFrame, distortion: np.ndarray) -> RgbdFrame:
    """The frame of a pinhole camera with the same K. distortion: OpenCV's coefficients of the frame's lens.

    What this camera sees and the lens did not, at the border, is black, without depth and not part of the scene.
    """
    if not np.any(distortion):
        return frame
    K, size = frame.intrinsics.matrix, (frame.intrinsics.width, frame.intrinsics.height)
    maps = cv2.initUndistortRectifyMap(K, distortion, None, K, size, cv2.CV_32FC1)
    scene = np.full(frame.depth.shape, 255, np.uint8) if frame.scene is None else np.uint8(255) * frame.scene
    return replace(frame, rgb=cv2.remap(frame.rgb, *maps, cv2.INTER_LINEAR),
                   depth=cv2.remap(frame.depth, *maps, cv2.INTER_NEAREST),
                   scene=cv2.remap(scene, *maps, cv2.INTER_LINEAR) == 255)
