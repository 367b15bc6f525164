"""The geometry judge: its alignment and its errors, and that COLMAP finds the cameras of a room it can see."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
import json
from pathlib import Path
import subprocess
import sys

from geometry_judge import TrajectoryError, Try, main, ranked, trajectory_error, umeyama
import numpy as np
import pytest
from scenes import see_room, write_rgbd_folder
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose

CAMERA = Intrinsics.from_hfov(240, 180, np.radians(78.0))
VIEWS = 8
JUDGE = Path(__file__).parent / "geometry_judge.py"


def random_drive(rng: np.random.Generator, count: int = 20) -> list[Pose]:
    return [Pose(rotation, position) for rotation, position in
            zip(Rotation.random(count, rng), rng.normal(size=(count, 3)) * [3.0, 2.0, 0.5], strict=True)]


def elsewhere(drive: list[Pose], scale: float, move: Pose) -> list[Pose]:
    """The drive in another frame and unit, from 4x4 matrices alone."""
    similarity = move.matrix @ np.diag([scale, scale, scale, 1.0])
    matrices = [similarity @ pose.matrix for pose in drive]
    return [Pose(Rotation.from_matrix(matrix[:3, :3] / scale), matrix[:3, 3]) for matrix in matrices]


@pytest.mark.parametrize("seed", range(5))
def test_a_drive_in_another_frame_and_unit_is_the_same_drive(seed):
    rng = np.random.default_rng(seed)
    drive = random_drive(rng)
    if seed == 4:  # on a floor: the mirror image fits as well and must not be taken
        drive = [Pose(pose.rotation, pose.translation * [1.0, 1.0, 0.0]) for pose in drive]
    scale, move = rng.uniform(0.1, 10.0), random_drive(rng, 1)[0]
    found = elsewhere(drive, scale, move)
    alignment = umeyama(*(np.array([pose.translation for pose in poses]) for poses in (drive, found)))
    assert alignment.scale == pytest.approx(scale)
    np.testing.assert_allclose(alignment.rotation.as_matrix(), move.rotation.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(alignment.translation, move.translation, atol=1e-9)
    error = trajectory_error(found, drive)
    assert error.ate_rmse_m < 1e-9 and error.rotation_median_deg < 1e-4


def test_no_similarity_nearby_fits_better():
    rng = np.random.default_rng(7)
    source, target = rng.normal(size=(2, 30, 3))
    best = umeyama(source, target)

    def residual(scale, rotation, translation):
        return np.sum((scale * rotation.apply(source) + translation - target) ** 2)

    least = residual(best.scale, best.rotation, best.translation)
    for _ in range(100):
        turn, shift, growth = np.split(rng.normal(scale=1e-2, size=7), [3, 6])
        assert residual(best.scale * (1.0 + growth[0]), Rotation.from_rotvec(turn) * best.rotation,
                        best.translation + shift) > least


def test_the_errors_are_those_that_were_put_in():
    """Three sides of a square, its corners 0.1 m too high and too low in turn, and cameras turned by 2 degrees."""
    corners = np.array([[0.0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]])
    saddle = corners + 0.1 * np.array([[0.0, 0, 1], [0, 0, -1], [0, 0, 1], [0, 0, -1]])
    true = [Pose(Rotation.identity(), corner) for corner in corners]
    estimated = [Pose(Rotation.from_rotvec([np.radians(2.0), 0, 0]), corner) for corner in saddle]
    error = trajectory_error(estimated, true)
    assert error.path_m == pytest.approx(30.0)
    assert error.ate_rmse_m == pytest.approx(0.1, rel=1e-3)  # a saddle: no similarity flattens it
    assert error.ate_percent_of_path == pytest.approx(100.0 * 0.1 / 30.0, rel=1e-3)
    assert error.rotation_median_deg == pytest.approx(2.0, rel=1e-3)


def test_what_fixes_no_rotation_is_refused():
    line = np.outer(np.arange(5.0), [1.0, 2.0, 3.0])
    turn = np.random.default_rng(0).normal(size=(5, 3))
    for source, target in ((line, turn), (turn, line)):
        with pytest.raises(ValueError, match="in one line"):
            umeyama(source, target)
    with pytest.raises(ValueError, match="3 or more positions"):
        umeyama(turn[:2], turn[:2])


def test_more_frames_count_more_than_a_smaller_error():
    tries = [Try(k, registered, 1, error and TrajectoryError(error, 3.0, 100.0 * error / 3.0, 1.0))
             for k, (registered, error) in enumerate([(60, 0.3), (60, 0.01), (9, 0.001), (0, None), (60, 0.02)])]
    assert [one.seed for one in ranked(tries)] == [1, 4, 0, 2, 3]


def test_without_pycolmap_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    folder = write_rgbd_folder(tmp_path / "drive", [see_room(Pose.identity(), CAMERA)])
    monkeypatch.setattr(sys, "argv", ["geometry_judge.py", str(folder)])
    assert main() == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: the judge is COLMAP, and it is not installed: pip install pycolmap"]


def paint_room(frame: RgbdFrame) -> RgbdFrame:
    """The room with walls of random tiles, 0.15 m wide: something to recognise."""
    points = frame.T_world_camera.apply(frame.intrinsics.unproject(frame.depth))
    tiles = np.floor(points / 0.15 + 1e-3).astype(int) % 32
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    return RgbdFrame(frame.index, colours[tuple(np.moveaxis(tiles, -1, 0))], frame.depth, frame.intrinsics,
                     frame.T_world_camera)


@pytest.fixture(scope="module")
def drive() -> list[RgbdFrame]:
    """Along an arc in the room, with a look into one corner."""
    angles = np.linspace(-0.5, 0.5, VIEWS)
    eyes = [np.array([-1.0 + 0.8 * np.cos(a), 0.8 * np.sin(a), 1.2 + 0.1 * np.sin(9.0 * a)]) for a in angles]
    return [paint_room(see_room(Pose.looking_at(eye, [2.0, 1.0, 0.9]), CAMERA, k)) for k, eye in enumerate(eyes)]


def test_colmap_finds_the_cameras_of_a_room_but_not_of_noise(drive, tmp_path):
    """By the command alone: pycolmap brings a zlib that must not get into the process of the other tests."""
    if find_spec("pycolmap") is None:
        pytest.skip("the judge is COLMAP, and it is not installed: pip install pycolmap")
    noise = np.random.default_rng(1).integers(0, 256, drive[0].rgb.shape, dtype=np.uint8)
    unknown = [replace(drive[0], index=VIEWS + k, rgb=noise) for k in range(2)]
    folder = write_rgbd_folder(tmp_path / "drive", [*drive, *unknown])

    def judged(file):
        result = subprocess.run([sys.executable, JUDGE, folder, "--json", file, "--count", str(VIEWS + 1),
                                 "--tries", "2"], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert f"{VIEWS} frames registered (89 %), 1 models" in result.stdout
        return json.loads(file.read_text())

    figures = judged(tmp_path / "figures.json")
    assert figures["frames"] == VIEWS + 1 and [one["seed"] for one in figures["tries"]] == [0, 1]
    for one in figures["tries"]:
        assert (one["registered"], one["models"]) == (VIEWS, 1)
        assert one["trajectory"]["ate_percent_of_path"] < 2.0 and one["trajectory"]["rotation_median_deg"] < 0.5
    assert judged(tmp_path / "again.json") == figures
