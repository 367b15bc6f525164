"""A camera with registered depth, as its messages tell of it: bags and topics are read by these rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.lens import PINHOLE, Equidistant, Lens, make_lens
from worldfm_ros.sources.bag_images import decode_depth
from worldfm_ros.sources.bag_topics import picture_camera
from worldfm_ros.sources.images import check_sizes, registered_depth
from worldfm_ros.sources.lens import rectified, rectifying_maps, with_rectified_colour

SLOP = 20_000_000  # nanoseconds between the stamps of colour and depth that belong together


class RgbdCamera:
    """The pinhole camera of the frames that are made of a topic's pictures and the depth registered to them.

    intrinsics: its; distortion: of the pictures before; T_optical_picture: from the axes of a rectified picture to
    those of the messages' frame. Raises ValueError for a camera info without K, or with a lens that is not known.
    """

    def __init__(self, info: Any, color_topic: str, depth_topic: str) -> None:
        """`info`: a CameraInfo message of ROS 1 or 2."""
        size = int(info.width), int(info.height)
        K, D, R = picture_camera(info, color_topic)
        self.distortion = lens_of(info.distortion_model, D)
        self._maps = None  # of colour whose depth is rectified, as a camera with a lens publishes the two
        if self.distortion.bends and "rect" in depth_topic.lower():
            raw = Camera(Intrinsics.from_matrix(*size, K), self.distortion)
            K, _, R = picture_camera(info, depth_topic)
            self._maps = rectifying_maps(replace(raw, R=R, P=np.column_stack([K, np.zeros(3)])))
        self.intrinsics = Intrinsics.from_matrix(*size, K)
        self.T_optical_picture = Pose(Rotation.from_matrix(R).inv(), np.zeros(3))

    def depth(self, message: Any) -> np.ndarray:
        """(H, W) float32 metres, 0 = none, of a depth message. Raises ValueError as `decode_depth`."""
        return registered_depth(decode_depth(message), self.intrinsics)

    def frame(self, index: int, rgb: np.ndarray, depth: np.ndarray, T_world_camera: Pose, where: str) -> RgbdFrame:
        """The frame of a picture and its depth; the pose is `T_optical_picture`'s. Raises ValueError naming `where` for
        other sizes than the camera's."""
        check_sizes(rgb, depth, self.intrinsics, where)
        frame = RgbdFrame(index, rgb, depth, self.intrinsics, T_world_camera)
        return rectified(frame, self.distortion) if self._maps is None else with_rectified_colour(frame, self._maps)


def lens_of(model: str, D: np.ndarray) -> Lens:
    """The lens of a camera info. Raises ValueError for one that is not known."""
    if not D.any() and model != Equidistant.model:
        return PINHOLE
    try:
        return make_lens(model, D.tolist())
    except ValueError as error:
        raise ValueError(f"{error}; or record rectified pictures") from None
