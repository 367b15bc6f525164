"""Frames of a nerfstudio transforms.json with depth.

Its cameras look along -z with y up (OpenGL), its principal points count from the picture's corner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
import json
import math
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.images import (
    MILLIMETRES,
    check_sizes,
    natural,
    read_depth,
    read_image,
    read_rgb,
    registered_depth,
)
from worldfm_ros.sources.lens import rectified
from worldfm_ros.sources.meanings import depth_units

MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")
DISTORTION = ("k1", "k2", "p1", "p2", "k3")
OTHER_DISTORTION = ("k4", "k5", "k6")
OPENGL_OPTICAL = np.diag([1.0, -1.0, -1.0])
RIGID_TOLERANCE = 1e-3
DEPTH_KEYS = ("depth_file_path", "depth_path")
ENDINGS = (".png", ".jpg", ".jpeg", ".PNG", ".JPG")
KNOWN = (*DEPTH_KEYS, "mask_path", "aabb_scale", "scale", "applied_scale", "auto_scale_poses_override")


class TransformsFrames(PosedFrames):
    """The frames of a transforms.json in the natural order of their file's names; depth is uint16 millimetres unless a
    key of the file says otherwise.

    Raises ValueError or FileNotFoundError naming what is wrong.
    """

    written = "opengl"

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path, self.skipped = path / "transforms.json" if path.is_dir() else path, Counter()
        frames = self._read()
        without = [frame["file_path"] for frame in frames if not isinstance(frame.get(DEPTH_KEYS[0]), str)]
        if without:
            raise ValueError(f"{self.path}: {len(without)} of {len(frames)} frames have no depth_file_path, first "
                             f"{without[0]}; depth is needed: export it with the data, or estimate it first")
        self._units = [depth_units(frame, KNOWN, self._where(frame)) or MILLIMETRES for frame in frames]
        self.units = self._units[0] if frames else MILLIMETRES
        self.frames = [(frame, self._pose(frame)) for frame in frames]

    def _read(self) -> list[dict]:
        """The facts of each frame, in order."""
        try:
            shared = json.loads(self.path.read_bytes())
            frames = [{**shared, **frame} for frame in shared["frames"]]
            for frame in frames:
                del frame["frames"]
                if DEPTH_KEYS[0] not in frame and DEPTH_KEYS[1] in frame:
                    frame[DEPTH_KEYS[0]] = frame.pop(DEPTH_KEYS[1])
            return sorted(frames, key=lambda frame: natural(frame["file_path"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{self.path} is no transforms.json: {type(error).__name__} {error}") from None

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, position: int) -> RgbdFrame:
        facts, T_world_camera = self.frames[position]
        where = self._where(facts)
        rgb = read_rgb(self._beside(facts["file_path"]))
        depth = read_depth(self._beside(facts["depth_file_path"]), self._units[position])
        try:
            intrinsics = camera(facts, rgb.shape[1], rgb.shape[0])
            distortion = np.array([_number(facts, key, 0) for key in DISTORTION])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        depth = registered_depth(depth, intrinsics)
        check_sizes(rgb, depth, intrinsics, where)
        scene = self._mask(facts, intrinsics)
        if scene is not None:
            depth = np.where(scene, depth, np.float32(0))
        return rectified(RgbdFrame(position, rgb, depth, intrinsics, T_world_camera, scene=scene), distortion)

    @property
    def poses(self) -> list[Pose]:
        return [T_world_camera for _, T_world_camera in self.frames]

    def _mask(self, facts: Mapping, intrinsics: Intrinsics) -> np.ndarray | None:
        """The pixels that show the scene, by the frame's mask (0 = not the scene)."""
        if not facts.get("mask_path"):
            return None
        path = self._beside(facts["mask_path"])
        mask = np.asarray(read_image(path).convert("L"))
        if mask.shape != (intrinsics.height, intrinsics.width):
            raise ValueError(f"{path} is {mask.shape[1]}x{mask.shape[0]}, the camera {intrinsics.width}x"
                             f"{intrinsics.height}")
        return mask > 0

    @property
    def name(self) -> str:
        return self.path.resolve().parent.name

    @cached_property
    def camera(self) -> Intrinsics:
        return self.read(0).intrinsics

    def files(self) -> list[Path]:
        return [self.path, *(self._beside(facts[key]) for facts, _ in self.frames
                             for key in ("file_path", "depth_file_path", "mask_path") if facts.get(key))]

    def _pose(self, facts: Mapping) -> Pose:
        """Raises ValueError as well for a camera that is no pinhole."""
        try:
            check_model(facts)
            return pose(facts.get("transform_matrix"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self._where(facts)}: {error}") from None

    def _beside(self, name: str) -> Path:
        """The file; Windows' separators and missing endings are allowed."""
        if not isinstance(name, str):
            raise ValueError(f"{self.path}: the name of a file is text, got {name!r}")
        path = self.path.parent / name.replace("\\", "/")
        endings = (path.with_name(path.name + ending) for ending in ENDINGS)
        return path if path.is_file() else next((other for other in endings if other.is_file()), path)

    def _where(self, facts: Mapping) -> str:
        return f"{self.path}: {facts['file_path']}"


def check_model(facts: Mapping) -> None:
    """Raise ValueError unless a frame's camera is a pinhole with OpenCV's five coefficients."""
    model = facts.get("camera_model", "OPENCV")
    if model not in MODELS or facts.get("is_fisheye"):
        fisheye = ", a fisheye," if facts.get("is_fisheye") else ""
        raise ValueError(f"camera_model {model!r}{fisheye} is none of {MODELS}; undistort the pictures first")
    if any(_number(facts, key, 0) for key in OTHER_DISTORTION):
        raise ValueError(f"distortion is {', '.join(DISTORTION)}, got {', '.join(OTHER_DISTORTION)} as well; "
                         "undistort the pictures first")


def camera(facts: Mapping, width: int, height: int) -> Intrinsics:
    """The camera of a frame's facts, for a picture of this size. Raises ValueError."""
    if "fl_x" in facts:
        fx = _number(facts, "fl_x")
    elif "camera_angle_x" in facts:
        angle = _number(facts, "camera_angle_x")
        if not 0 < angle < math.pi:
            raise ValueError(f"camera_angle_x is in radians, between 0 and pi, got {angle:g} (degrees?)")
        fx = Intrinsics.from_hfov(width, height, angle).fx
    else:
        raise ValueError("there is neither fl_x nor camera_angle_x")
    cx, cy = _number(facts, "cx", width / 2), _number(facts, "cy", height / 2)
    width, height = _number(facts, "w", width), _number(facts, "h", height)
    if (width, height) != (round(width), round(height)):
        raise ValueError(f"w and h are whole numbers of pixels, got {width} and {height}")
    return Intrinsics(round(width), round(height), fx, _number(facts, "fl_y", fx), cx - 0.5, cy - 0.5)


def pose(matrix) -> Pose:
    """T_world_camera, optical axes, from a 4x4 camera-to-world matrix with OpenGL's. Raises ValueError or TypeError."""
    T = np.array(matrix, np.float64)
    rigid = T.shape == (4, 4) and np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=RIGID_TOLERANCE)
    if not rigid or np.linalg.det(T[:3, :3]) < 0 or not np.allclose(T[3], [0, 0, 0, 1]):
        raise ValueError(f"transform_matrix is a 4x4 rigid camera-to-world matrix, got {matrix}")
    return Pose(Rotation.from_matrix(T[:3, :3] @ OPENGL_OPTICAL), T[:3, 3])


def _number(facts: Mapping, key: str, default: float | None = None) -> float:
    value = facts.get(key, default)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{key} is a finite number, got {value!r}")
    return float(value)
