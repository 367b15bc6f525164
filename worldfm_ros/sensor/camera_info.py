"""What a CameraInfo says of a camera, as plain values: the same for every way to make the message."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.lens import PINHOLE


def info_fields(camera: Camera) -> dict:
    """The fields below the header: K and size of the whole sensor, binning and roi (REP-104); `roi` is a dict, too."""
    (across, down), roi = camera.binning, camera.roi
    return {
        "height": camera.sensor.height, "width": camera.sensor.width, "distortion_model": camera.lens.model,
        "d": camera.lens.D or [0.0] * camera.lens.counts[-1 if camera.lens.model == "plumb_bob" else 0],
        "k": camera.sensor.matrix.ravel(), "r": camera.R.ravel(), "p": camera.P.ravel(),
        "binning_x": across if across > 1 else 0, "binning_y": down if down > 1 else 0,  # 0 is how a message says 1
        "roi": {"x_offset": roi.x, "y_offset": roi.y, "height": roi.height, "width": roi.width,
                "do_rectify": bool(roi)},
    }


def rectified_camera(camera: Camera) -> Camera:
    """The camera of what is rectified, as depth is: K is P's, without distortion, and P[3] is 0."""
    K = Intrinsics.from_matrix(camera.sensor.width, camera.sensor.height, camera.P[:, :3])
    return replace(camera, sensor=K, lens=PINHOLE, R=np.eye(3), P=None)
