"""Frames of a nerfstudio transforms.json with depth.

Its cameras look along -z with y up (OpenGL), its principal points count from the picture's corner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import math
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from training.data.images import check_sizes, read_depth, read_rgb, undistorted
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.rgbd_folder import RgbdFrame

MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")
DISTORTION = ("k1", "k2", "p1", "p2", "k3")
OPENGL_OPTICAL = np.diag([1.0, -1.0, -1.0])
RIGID_TOLERANCE = 1e-3


class TransformsFrames(Sequence[RgbdFrame]):
    """The frames of a transforms.json in order of their file's name; depth is uint16 times `depth_unit` metres.

    Raises ValueError or FileNotFoundError naming what is wrong.
    """

    def __init__(self, path: str | Path, depth_unit: float = 0.001) -> None:
        path = Path(path)
        self.path = path / "transforms.json" if path.is_dir() else path
        self.depth_unit = depth_unit
        try:
            self.facts = json.loads(self.path.read_text())
            self.frames = sorted(self.facts["frames"], key=lambda frame: frame["file_path"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is no transforms.json: {error!r}") from error
        without = [frame["file_path"] for frame in self.frames if "depth_file_path" not in frame]
        if without:
            raise ValueError(f"{self.path}: {len(without)} of {len(self.frames)} frames have no depth_file_path, first "
                             f"{without[0]}; clips need depth: export it with the data, or estimate it first")
        model = self.facts.get("camera_model", "OPENCV")
        if model not in MODELS:
            raise ValueError(f"{self.path}: camera_model {model!r} is none of {MODELS}; undistort the pictures first")

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, position: int) -> RgbdFrame:
        frame = self.frames[position]
        where = f"{self.path}: {frame['file_path']}"
        rgb = read_rgb(self.path.parent / frame["file_path"])
        depth = read_depth(self.path.parent / frame["depth_file_path"], self.depth_unit)
        facts = {**self.facts, **frame}
        intrinsics = camera(facts, rgb.shape[1], rgb.shape[0], where)
        check_sizes(rgb, depth, intrinsics, where)
        rgb, depth = undistorted(rgb, depth, intrinsics, np.array([facts.get(k, 0.0) for k in DISTORTION], float))
        return RgbdFrame(position, rgb, depth, intrinsics, pose(frame["transform_matrix"], where))


def camera(facts: Mapping, width: int, height: int, where: str) -> Intrinsics:
    """The camera of a frame's facts, for a picture of this size."""
    if "fl_x" in facts:
        fx = facts["fl_x"]
    elif "camera_angle_x" in facts:
        fx = width / (2 * math.tan(facts["camera_angle_x"] / 2))
    else:
        raise ValueError(f"{where}: there is neither fl_x nor camera_angle_x")
    cx, cy = facts.get("cx", width / 2), facts.get("cy", height / 2)
    return Intrinsics(facts.get("w", width), facts.get("h", height), fx, facts.get("fl_y", fx), cx - 0.5, cy - 0.5)


def pose(matrix, where: str) -> Pose:
    """T_world_camera, optical axes, from a 4x4 camera-to-world matrix with OpenGL's."""
    T = np.array(matrix, np.float64)
    if T.shape != (4, 4) or not np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=RIGID_TOLERANCE):
        raise ValueError(f"{where}: transform_matrix is a 4x4 rigid camera-to-world matrix, got {matrix}")
    return Pose(Rotation.from_matrix(T[:3, :3] @ OPENGL_OPTICAL), T[:3, 3])
