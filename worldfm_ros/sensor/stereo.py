"""Stereo pairs: the R and P that make both pictures' rows one, and the right P[3] = -fx B (CameraInfo)."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from worldfm_ros.geometry import Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.lens import Equidistant

ALIGNED = 1e-9  # radians, metres: a pair that is mounted in parallel needs no rectification but the lens's


def rectified_pair(left: Camera, right: Camera, T_left_right: Pose) -> tuple[Camera, Camera]:
    """The two cameras of a pair with R and P. T_left_right is between optical frames.

    Files that hold a pair's P already (a P[3] of the right one) are left as they are, when it fits the mounts. Two
    equal cameras side by side keep R = I and K; others are turned by OpenCV's stereoRectify (fisheye's for two
    equidistant lenses). Raises ValueError for a right camera that is not to the right, and for what cannot be a pair.
    """
    a, b = left.sensor, right.sensor
    if (a.width, a.height, left.binning, left.roi) != (b.width, b.height, right.binning, right.roi):
        raise ValueError(f"both pictures of a pair have the same size, binning and roi, got {a.width}x{a.height} and "
                         f"{b.width}x{b.height}")
    baseline = T_left_right.translation
    if not baseline[0] > np.linalg.norm(baseline[1:]):
        raise ValueError("the right camera is to the right of the left one (their x axis), it is at "
                         f"{np.round(baseline, 4).tolist()} m in the left one's optical axes; are they exchanged?")
    if right.P[0, 3]:
        _check_written(right, baseline[0])
        return left, right
    parallel = T_left_right.rotation.magnitude() < ALIGNED and np.abs(baseline[1:]).max() < ALIGNED
    if parallel and np.array_equal(a.matrix, b.matrix):
        return left, right.stereo_right(float(baseline[0]))
    return _turned(left, right, T_left_right)


def _check_written(right: Camera, baseline: float) -> None:
    written = -right.P[0, 3] / right.P[0, 0]
    if abs(written - baseline) > 0.01 * baseline:
        raise ValueError(f"the right camera's file has P[3] of a baseline of {written:.4f} m, the mounts are "
                         f"{baseline:.4f} m apart; correct one of them")


def _turned(left: Camera, right: Camera, T_left_right: Pose) -> tuple[Camera, Camera]:
    T = T_left_right.inverse()  # OpenCV: points of the first camera to the second
    kinds = [isinstance(camera.lens, Equidistant) for camera in (left, right)]
    if any(kinds) and not all(kinds):
        raise ValueError("one lens is equidistant and the other is not; OpenCV rectifies two of a kind")
    D = [np.array(camera.lens.D or [0.0] * 4) for camera in (left, right)]
    size, flags = (left.sensor.width, left.sensor.height), cv2.CALIB_ZERO_DISPARITY
    shift = T.translation.reshape(3, 1)
    arguments = (left.sensor.matrix, D[0], right.sensor.matrix, D[1], size, T.rotation.as_matrix(), shift)
    if all(kinds):
        R1, R2, P1, P2, *_ = cv2.fisheye.stereoRectify(*arguments, flags)
    else:
        R1, R2, P1, P2, *_ = cv2.stereoRectify(*arguments, flags=flags, alpha=0)
    return replace(left, R=R1, P=P1), replace(right, R=R2, P=P2)
