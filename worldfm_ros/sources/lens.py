"""Frames without distortion."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.lens import Equidistant, Lens, PlumbBob, RationalPolynomial

Maps = tuple[np.ndarray, np.ndarray]


def rectifying_maps(camera: Camera) -> Maps | None:
    """Where the pixels of a camera's rectified picture are in its raw one, by D, R and P as image_proc has it; None
    when both are one.
    """
    if camera.is_pinhole:
        return None
    K, D, P = camera.picture.matrix, np.array(camera.lens.D), camera.rectified.matrix
    size = camera.rectified.width, camera.rectified.height
    if isinstance(camera.lens, Equidistant):
        D = D if len(D) else np.zeros(4)
        return cv2.fisheye.initUndistortRectifyMap(K, D, camera.R, P, size, cv2.CV_32FC1)
    return cv2.initUndistortRectifyMap(K, D if len(D) else None, camera.R, P, size, cv2.CV_32FC1)


def rectified(frame: RgbdFrame, distortion: np.ndarray | Lens) -> RgbdFrame:
    """The frame of a pinhole camera with the same K. distortion: the frame's lens, or OpenCV's coefficients of it.

    What this camera sees and the lens did not, at the border, is black, without depth and not part of the scene.
    """
    if not isinstance(distortion, Lens):
        distortion = (PlumbBob if len(distortion) <= 5 else RationalPolynomial)(tuple(distortion))
    maps = rectifying_maps(Camera(frame.intrinsics, distortion))
    if maps is None:
        return frame
    frame = replace(frame, depth=cv2.remap(frame.depth, *maps, cv2.INTER_NEAREST))
    return with_rectified_colour(frame, maps)


def with_rectified_colour(frame: RgbdFrame, maps: Maps) -> RgbdFrame:
    """The frame, of which the depth is rectified already, with its colour and scene rectified too."""
    scene = np.full(frame.depth.shape, 255, np.uint8) if frame.scene is None else np.uint8(255) * frame.scene
    return replace(frame, rgb=cv2.remap(frame.rgb, *maps, cv2.INTER_LINEAR),
                   scene=cv2.remap(scene, *maps, cv2.INTER_LINEAR) == 255)
