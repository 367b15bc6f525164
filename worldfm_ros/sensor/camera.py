"""A camera as CameraInfo describes it: the whole sensor's K, D, R and P, and which of its pixels a picture has."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
import math

import numpy as np

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.sensor.lens import PINHOLE, Lens

NARROW = 10.0  # degrees; a narrower view is rarely meant
MAX_BINNING = 64


@dataclass(frozen=True)
class Roi:
    """A window of the whole sensor's pixels. All 0 is the whole sensor, as in CameraInfo."""

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0

    def __bool__(self) -> bool:
        return bool(self.width or self.height)


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera, as sensor_msgs/CameraInfo and its image_geometry read it.

    sensor: size and K of the whole sensor, without binning (REP-104); lens: distortion_model and D
    R (3, 3): turns the optical frame's rays into the rectified picture's
    P (3, 4): [K' | (-fx B, 0, 0)] of the rectified picture; None = [K | 0]
    binning: sensor pixels that make one of the picture, across and down; roi: the window that is read out
    Raises ValueError naming what is wrong.
    """

    sensor: Intrinsics
    lens: Lens = PINHOLE
    R: np.ndarray = field(default_factory=lambda: np.eye(3))
    P: np.ndarray | None = None
    binning: tuple[int, int] = (1, 1)
    roi: Roi = Roi()
    name: str = ""

    def __post_init__(self) -> None:
        R = np.array(self.R, np.float64)
        if R.shape != (3, 3) or not np.allclose(R @ R.T, np.eye(3), atol=1e-4) or np.linalg.det(R) < 0:
            raise ValueError(f"the rectification R is a rotation, 3x3, got {R.tolist()}")
        K = self.sensor.matrix
        P = np.array(np.hstack([K, np.zeros((3, 1))]) if self.P is None else self.P, np.float64)
        if P.shape != (3, 4) or not np.isfinite(P).all():
            raise ValueError(f"the projection P is 3x4 and finite, got {P.tolist()}")
        Intrinsics.from_matrix(self.sensor.width, self.sensor.height, P[:, :3])
        object.__setattr__(self, "R", R)
        object.__setattr__(self, "P", P)
        object.__setattr__(self, "binning", self._checked_binning())
        self._check_roi()

    def _checked_binning(self) -> tuple[int, int]:
        """0 means 1 (CameraInfo)."""
        for n in self.binning:
            if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 0 <= n <= MAX_BINNING:
                raise ValueError(f"binning is a whole number of pixels from 0 to {MAX_BINNING}, got {self.binning}")
        return max(1, int(self.binning[0])), max(1, int(self.binning[1]))

    def _check_roi(self) -> None:
        roi, size = self.roi, (self.sensor.width, self.sensor.height)
        if not roi and not (roi.x or roi.y):
            roi = Roi(0, 0, *size)
        if not (0 <= roi.x and 0 <= roi.y and 0 < roi.width and 0 < roi.height
                and roi.x + roi.width <= size[0] and roi.y + roi.height <= size[1]):
            raise ValueError(f"roi is a window of the sensor's {size[0]}x{size[1]} pixels, got {self.roi}")
        if roi.width < self.binning[0] or roi.height < self.binning[1]:
            raise ValueError(f"binning {self.binning} leaves no pixel of {roi.width}x{roi.height}")

    @property
    def picture(self) -> Intrinsics:
        """Size and K of the picture as it is taken, before rectification."""
        return self._read_out(self.sensor)

    @property
    def rectified(self) -> Intrinsics:
        """Size and K of the rectified picture."""
        return self._read_out(Intrinsics.from_matrix(self.sensor.width, self.sensor.height, self.P[:, :3]))

    @property
    def is_pinhole(self) -> bool:
        """Whether the picture is what a pinhole camera takes, and rectifying changes nothing."""
        return not self.lens.bends and np.array_equal(self.R, np.eye(3)) and np.array_equal(
            self.P[:, :3], self.sensor.matrix)

    def _read_out(self, whole: Intrinsics) -> Intrinsics:
        """image_geometry's rule: u of the whole sensor is u / binning, so binned pixel 0 is centred on pixel 0."""
        (across, down), roi = self.binning, self.roi or Roi(0, 0, whole.width, whole.height)
        return Intrinsics(roi.width // across, roi.height // down, whole.fx / across, whole.fy / down,
                          (whole.cx - roi.x) / across, (whole.cy - roi.y) / down)

    def stereo_right(self, baseline: float) -> Camera:
        """The same camera as the right one of a rectified pair, `baseline` metres to the right: P[3] = -fx B."""
        P = self.P.copy()
        P[0, 3] = -P[0, 0] * baseline
        return replace(self, P=P)


def hfov_warning(hfov: float) -> str:
    """What is suspicious about a horizontal field of view in degrees; empty when nothing is."""
    if not 0.0 < hfov < NARROW:
        return ""
    text = f"hfov is in degrees, and {hfov:g} is a very narrow view"
    return f"{text}; if radians were meant, say hfov {math.degrees(hfov):.1f}" if hfov < math.pi else text
