"""Frames without distortion, and which distortion a bag's pictures may have."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.sensor.lens import Equidistant, Lens

DISTORTION_COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 8}


def rectified(frame: RgbdFrame, distortion: np.ndarray | Lens) -> RgbdFrame:
    """The frame of a pinhole camera with the same K. distortion: the frame's lens, or OpenCV's coefficients of it.

    What this camera sees and the lens did not, at the border, is black, without depth and not part of the scene.
    """
    K, size = frame.intrinsics.matrix, (frame.intrinsics.width, frame.intrinsics.height)
    if isinstance(distortion, Equidistant):
        D = np.array(distortion.D or [0.0] * 4)
        maps = cv2.fisheye.initUndistortRectifyMap(K, D, np.eye(3), K, size, cv2.CV_32FC1)
    else:
        D = np.array(distortion.D) if isinstance(distortion, Lens) else distortion
        if not np.any(D):
            return frame
        maps = cv2.initUndistortRectifyMap(K, D, None, K, size, cv2.CV_32FC1)
    scene = np.full(frame.depth.shape, 255, np.uint8) if frame.scene is None else np.uint8(255) * frame.scene
    return replace(frame, rgb=cv2.remap(frame.rgb, *maps, cv2.INTER_LINEAR),
                   depth=cv2.remap(frame.depth, *maps, cv2.INTER_NEAREST),
                   scene=cv2.remap(scene, *maps, cv2.INTER_LINEAR) == 255)
