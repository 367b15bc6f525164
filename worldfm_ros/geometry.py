"""Rigid poses and pinhole cameras.

Everything is float64 numpy, SI units, radians. `T_a_b` maps coordinates in frame b to frame a: `T_a_c = T_a_b @ T_b_c`.
World and body axes follow REP-103 (x forward, y left, z up); camera axes are optical (x right, y down, z forward).
Pixel centres lie at integers: the centre of the top left pixel is (0, 0), the image covers [-0.5, width - 0.5].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

import numpy as np
from scipy.spatial.transform import Rotation

MAX_IMAGE_SIDE = 8192
QUATERNION_TOLERANCE = 0.01  # of the squared length, as tf2 has it: 0.71 0.71 passes


@dataclass(frozen=True, eq=False)
class Pose:
    """A rigid transform T_a_b: the pose of frame b in frame a.

    Raises ValueError when the translation is not three finite numbers.
    """

    rotation: Rotation
    translation: np.ndarray  # (3,) metres

    def __post_init__(self) -> None:
        translation = np.array(self.translation, dtype=np.float64)
        if translation.shape != (3,) or not np.isfinite(translation).all():
            raise ValueError(f"a translation is three finite numbers in metres, got {self.translation!r}")
        object.__setattr__(self, "translation", translation)

    @classmethod
    def identity(cls) -> Pose:
        return cls(Rotation.identity(), np.zeros(3))

    @classmethod
    def from_quaternion(cls, translation, xyzw) -> Pose:
        """A pose from metres and a quaternion (x, y, z, w); normalised where |q|^2 is 1 within 1 %, else refused."""
        xyzw = np.asarray(xyzw, dtype=np.float64)
        norm = np.linalg.norm(xyzw) if xyzw.shape == (4,) else math.nan
        if not abs(norm * norm - 1.0) <= QUATERNION_TOLERANCE:
            raise ValueError(
                f"a rotation quaternion (x, y, z, w) has a squared length of 1 within {QUATERNION_TOLERANCE}, "
                f"got {xyzw.tolist()} of length {norm:.6g}"
            )
        return cls(Rotation.from_quat(xyzw), translation)

    @classmethod
    def from_matrix(cls, matrix) -> Pose:
        """A pose from a rigid 4x4 matrix. Raises ValueError when it scales, shears or mirrors."""
        matrix = np.asarray(matrix, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise ValueError(f"a pose matrix is 4x4 and finite, got shape {matrix.shape}: {matrix.tolist()}")
        R = matrix[:3, :3]
        rigid = np.allclose(R @ R.T, np.eye(3), atol=1e-4) and np.linalg.det(R) > 0
        if not rigid or not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-9):
            raise ValueError(f"a pose matrix is a rotation and a translation over [0 0 0 1], got {matrix.tolist()}")
        return cls(Rotation.from_matrix(R), matrix[:3, 3])

    @classmethod
    def planar(cls, x: float, y: float, yaw: float) -> Pose:
        """A pose on the floor: metres, and radians about z."""
        return cls(Rotation.from_rotvec([0.0, 0.0, yaw]), np.array([x, y, 0.0]))

    @classmethod
    def looking_at(cls, eye, target, up=(0.0, 0.0, 1.0)) -> Pose:
        """T_world_camera of an optical frame at `eye` whose z axis passes through `target`, image up along `up`."""
        forward = np.subtract(target, eye).astype(np.float64)
        right = np.cross(forward, up)
        if not np.linalg.norm(right) > 1e-9:
            raise ValueError(f"no view direction from eye {eye} to target {target} with up {up}: they are in line")
        axes = np.stack([right, np.cross(forward, right), forward], axis=1)
        return cls(Rotation.from_matrix(axes / np.linalg.norm(axes, axis=0)), np.asarray(eye, dtype=np.float64))

    @property
    def quaternion(self) -> np.ndarray:
        """(4,) x, y, z, w."""
        return self.rotation.as_quat()

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4)"""
        T = np.eye(4)
        T[:3, :3] = self.rotation.as_matrix()
        T[:3, 3] = self.translation
        return T

    def inverse(self) -> Pose:
        inverse = self.rotation.inv()
        return Pose(inverse, -inverse.apply(self.translation))

    def __matmul__(self, other: Pose) -> Pose:
        return Pose(self.rotation * other.rotation, self.translation + self.rotation.apply(other.translation))

    def apply(self, points) -> np.ndarray:
        """Map points (..., 3) in frame b to frame a."""
        return np.asarray(points, dtype=np.float64) @ self.rotation.as_matrix().T + self.translation

    def interpolate(self, other: Pose, fraction: float) -> Pose:
        """The pose at `fraction` of the way to `other`: linear in translation, slerp (the short way) in rotation."""
        turn = (self.rotation.inv() * other.rotation).as_rotvec()
        rotation = self.rotation * Rotation.from_rotvec(fraction * turn)
        return Pose(rotation, (1.0 - fraction) * self.translation + fraction * other.translation)

    def velocity_to(self, other: Pose, dt: float) -> tuple[np.ndarray, np.ndarray]:
        """The mean velocity from here to `other` in dt seconds, linear (3,) and angular (3,), rad/s, in the axes half
        way between the two: (v, 0, 0) and (0, 0, w) for a robot on an arc."""
        turn = (self.rotation.inv() * other.rotation).as_rotvec()
        half_way = self.rotation * Rotation.from_rotvec(turn / 2.0)
        return half_way.inv().apply(other.translation - self.translation) / dt, turn / dt


# Body axes (x forward, y left, z up) of a camera -> its optical axes (x right, y down, z forward), REP-103.
T_BODY_OPTICAL = Pose(Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion: u = fx x/z + cx, v = fy y/z + cy, in pixels, pixel centres at integers.

    Raises ValueError for a size outside 1..8192 and for focal lengths that are not positive and finite.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        check_image_size(self.width, self.height)
        if not (0 < self.fx < math.inf and 0 < self.fy < math.inf):
            raise ValueError(f"focal lengths are positive pixels, got fx {self.fx}, fy {self.fy}")
        if not (math.isfinite(self.cx) and math.isfinite(self.cy)):
            raise ValueError(f"the principal point is finite, got cx {self.cx}, cy {self.cy}")

    @classmethod
    def from_hfov(cls, width: int, height: int, hfov: float) -> Intrinsics:
        """Square pixels, centred principal point, `hfov` radians from the left edge of the image to the right one."""
        check_image_size(width, height)
        if not 0.0 < hfov < math.pi:
            raise ValueError(
                f"a pinhole camera's horizontal field of view is between 0 and 180 degrees, got {math.degrees(hfov):g}"
            )
        f = width / (2.0 * math.tan(hfov / 2.0))
        return cls(width, height, f, f, (width - 1) / 2.0, (height - 1) / 2.0)

    @classmethod
    def from_matrix(cls, width: int, height: int, K) -> Intrinsics:
        """From a 3x3 matrix or its 9 numbers, row-major. Raises ValueError for skew."""
        K = np.asarray(K, dtype=np.float64).reshape(-1)
        if K.shape != (9,):
            raise ValueError(f"K is 3x3 (9 numbers, row-major), got {K.size} numbers")
        if not np.allclose(K[[1, 3, 6, 7, 8]], [0, 0, 0, 0, 1], atol=1e-6):
            raise ValueError(f"K is [fx 0 cx; 0 fy cy; 0 0 1], got {K.tolist()}")
        return cls(width, height, *(float(K[i]) for i in (0, 4, 2, 5)))

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3)"""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def hfov(self) -> float:
        """Radians between the left and the right edge of the image."""
        return math.atan((self.cx + 0.5) / self.fx) + math.atan((self.width - 0.5 - self.cx) / self.fx)

    def resized(self, width: int, height: int) -> Intrinsics:
        """The same view in another number of pixels (edges stay edges, so the half pixel moves too)."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            width, height, self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> Intrinsics:
        """The camera of image[top:top + height, left:left + width]."""
        return replace(self, width=width, height=height, cx=self.cx - left, cy=self.cy - top)

    def project(self, points) -> np.ndarray:
        """Camera-frame points (..., 3) with z > 0 to pixels (..., 2)."""
        points = np.asarray(points, dtype=np.float64)
        return points[..., :2] / points[..., 2:] * [self.fx, self.fy] + [self.cx, self.cy]

    def unproject(self, depth) -> np.ndarray:
        """A depth image (height, width), metres along z, to camera-frame points (height, width, 3)."""
        depth = np.asarray(depth, dtype=np.float64)
        x = (np.arange(self.width) - self.cx) / self.fx
        y = (np.arange(self.height) - self.cy) / self.fy
        return np.stack([depth * x, depth * y[:, None], depth], axis=-1)


def check_image_size(width, height) -> None:
    """Raise ValueError unless width and height are whole numbers in 1..8192."""
    for name, value in (("width", width), ("height", height)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise ValueError(f"image {name} is a whole number of pixels, got {value!r}")
        if not 1 <= value <= MAX_IMAGE_SIDE:
            raise ValueError(f"image {name} is between 1 and {MAX_IMAGE_SIDE} pixels, got {value}")
