"""The calibration round trip: OpenCV, given pictures of boards that a camera took, finds its K and D again."""

from __future__ import annotations

from boards import COLUMNS, CORNERS, ROWS, chessboard
import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.lens import Equidistant, Lens, PlumbBob, RationalPolynomial
from worldfm_ros.sensor.sensor import Sensor

WIDTH, HEIGHT, BOARDS, BORDER, TIGHT = 480, 360, 12, 8, 10  # pixels; TIGHT: corners of a board are further apart
PRECISE = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-5)
CAMERAS = {
    "plumb_bob": Camera(Intrinsics(WIDTH, HEIGHT, 300.0, 302.0, 243.3, 176.8),
                        PlumbBob((-0.28, 0.09, 8e-4, -5e-4, -0.012))),
    "rational_polynomial": Camera(Intrinsics(WIDTH, HEIGHT, 300.0, 302.0, 243.3, 176.8),
                                  RationalPolynomial((0.6, 0.05, 5e-4, -3e-4, 0.003, 0.95, 0.2, 0.01))),
    # 150 degrees wide: from the faces of a cube
    "equidistant": Camera(Intrinsics(WIDTH, HEIGHT, 180.0, 181.0, 243.3, 176.8),
                          Equidistant((-0.02, 0.005, -0.002, 0.0003))),
}


def in_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    K = camera.sensor
    return camera.lens.project(points) * [K.fx, K.fy] + [K.cx, K.cy]


def boards(camera: Camera, rng: np.random.Generator):
    """Tilted boards all over the picture: T_camera_board, and where its corners are."""
    K, found = camera.sensor, 0
    while found < BOARDS:
        place = rng.uniform([0.15, 0.15], [0.85, 0.85]) * [WIDTH, HEIGHT]
        ray = camera.lens.unproject((place - [K.cx, K.cy]) / [K.fx, K.fy])
        turn = Rotation.from_rotvec(rng.uniform(-0.5, 0.5, 3))
        T = Pose(turn, ray * rng.uniform(0.35, 0.6) * K.fx / 300 - turn.apply(CORNERS.mean(axis=0)))
        corners = in_pixels(camera, T.apply(CORNERS))
        grid = corners.reshape(ROWS, COLUMNS, 2)
        apart = [np.linalg.norm(np.diff(grid, axis=axis), axis=-1).min() for axis in (0, 1)]
        if (corners > BORDER).all() and (corners < [WIDTH - BORDER, HEIGHT - BORDER]).all() and min(apart) > TIGHT:
            found += 1
            yield T, corners


def measured(picture: np.ndarray, about: np.ndarray) -> np.ndarray:
    """The corners in a picture, looked for near `about` (N, 2)."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return cv2.cornerSubPix(gray, about.astype(np.float32).reshape(-1, 1, 2), (3, 3), (-1, -1), PRECISE)


def calibrated(camera: Camera, corners: list[np.ndarray]) -> tuple[np.ndarray, Lens]:
    """K and lens by OpenCV, which is told the kind of lens alone."""
    size, kind = (WIDTH, HEIGHT), type(camera.lens)
    if kind is Equidistant:
        board = [CORNERS.reshape(1, -1, 3)] * len(corners)
        points = [c.reshape(1, -1, 2).astype(np.float64) for c in corners]
        K = np.array([[WIDTH / 3, 0, (WIDTH - 1) / 2], [0, WIDTH / 3, (HEIGHT - 1) / 2], [0, 0, 1]])
        flags = cv2.CALIB_RECOMPUTE_EXTRINSIC | cv2.CALIB_FIX_SKEW | cv2.CALIB_USE_INTRINSIC_GUESS
        _, K, D, _, _ = cv2.fisheye.calibrate(board, points, size, K, np.zeros(4), flags=flags, criteria=PRECISE)
    else:
        board = [CORNERS.astype(np.float32)] * len(corners)
        flags = cv2.CALIB_RATIONAL_MODEL if kind is RationalPolynomial else 0
        _, K, D, _, _ = cv2.calibrateCamera(board, corners, size, None, None, flags=flags)
    return K, kind(tuple(D.ravel()[: kind.counts[0] if kind is not PlumbBob else 5]))


@pytest.mark.parametrize("model", CAMERAS)
def test_opencv_finds_the_camera_again(model):
    camera, rng = CAMERAS[model], np.random.default_rng(0)
    sensor, corners, misses = Sensor(camera), [], []
    for T, true in boards(camera, rng):
        picture = sensor.take(chessboard(T), [Pose.identity()], 0).frame.rgb
        corners.append(measured(picture, true + rng.uniform(-1, 1, true.shape)))
        misses.append(np.abs(corners[-1][:, 0] - true))
    assert np.median(misses) < 0.06 and np.max(misses) < 0.6  # pixels
    K, lens = calibrated(camera, corners)
    known, true = camera.sensor, camera.sensor.matrix
    print(f"{model}: fx {K[0, 0] / known.fx - 1:+.5%}, fy {K[1, 1] / known.fy - 1:+.5%}, cx {K[0, 2] - known.cx:+.3f}, "
          f"cy {K[1, 2] - known.cy:+.3f} px, D {np.round(lens.D, 4).tolist()}")
    np.testing.assert_allclose(K[[0, 1], [0, 1]], true[[0, 1], [0, 1]], rtol=1e-3)
    np.testing.assert_allclose(K[:2, 2], true[:2, 2], atol=0.3)
    # coefficients make up for each other, so that what counts is where they send a ray
    seen = np.concatenate([c[:, 0] for c in corners])
    rays = camera.lens.unproject((seen - true[:2, 2]) / [known.fx, known.fy])
    bent = lens.project(rays) * K[[0, 1], [0, 1]] + K[:2, 2]
    assert np.abs(bent - seen).max() < 0.3
    if model != "rational_polynomial":
        np.testing.assert_allclose(lens.D[:2], camera.lens.D[:2], atol=0.01)
