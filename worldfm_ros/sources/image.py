"""One picture and its camera."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import MAX_IMAGE_SIDE, Intrinsics, Pose
from worldfm_ros.sensor.camera_file import read_camera_file
from worldfm_ros.sources.images import read_rgb
from worldfm_ros.sources.lens import rectified

SMALLEST = 16  # pixels, of a picture's sides


def read_picture(path: Path, hfov: float | None, camera_file: Path | None) -> tuple[np.ndarray, Intrinsics]:
    """(H, W, 3) uint8 without distortion, and its camera: of a camera file, or of so many degrees from edge to edge.

    Raises FileNotFoundError or ValueError naming the file, and for a camera that is told twice or not at all.
    """
    if (hfov is None) == (camera_file is None):
        raise ValueError(f"{path}: one of --hfov DEGREES and --camera FILE tells what the picture's camera is; got "
                         + ("none" if hfov is None else "both"))
    rgb = read_rgb(path)
    height, width = rgb.shape[:2]
    if min(height, width) < SMALLEST or max(height, width) > MAX_IMAGE_SIDE:
        raise ValueError(f"{path} is {width}x{height}; a picture that a world is made of is {SMALLEST} pixels wide and "
                         f"high or more, and at most {MAX_IMAGE_SIDE}: make another copy")
    if camera_file is None:
        try:
            return rgb, Intrinsics.from_hfov(width, height, math.radians(hfov))
        except ValueError as error:
            raise ValueError(f"--hfov: {error}") from None
    camera = read_camera_file(camera_file)
    if (camera.picture.width, camera.picture.height) != (width, height):
        raise ValueError(f"{camera_file} is of a camera of {camera.picture.width}x{camera.picture.height} pixels, "
                         f"{path} is {width}x{height}")
    frame = RgbdFrame(0, rgb, np.zeros((height, width), np.float32), camera.picture, Pose.identity())
    frame = rectified(frame, camera.lens)
    return frame.rgb, frame.intrinsics
