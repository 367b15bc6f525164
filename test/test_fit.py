"""Whether poses and depth fit: the right reading of a source is accepted, each usual wrong one is named."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
import re
import sys

import cv2
import numpy as np
import pytest
from scenes import CAMERA, see_room, write_rgbd_folder

from worldfm_ros.cli.main import main
from worldfm_ros.geometry import Pose
from worldfm_ros.sources.checks import check_fit
from worldfm_ros.sources.conventions import READ, WRITE, Conventions, units_a_metre, with_conventions
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.rgbd_folder import RgbdFolder, read_poses, write_poses

DATA = Path(__file__).parents[2] / "shared" / "data"


def walk(count=17, step=0.05, turn=0.05) -> list[Pose]:
    eyes = [np.array([step * k - 0.5, 0.3 * np.sin(0.2 * k), 1.2 + 0.01 * k]) for k in range(count)]
    return [Pose.looking_at(eye, eye + [np.cos(turn * k), np.sin(turn * k), -0.2]) for k, eye in enumerate(eyes)]


class Told(PosedFrames):
    """Frames of the room that claim other poses and another unit than the true ones."""

    def __init__(self, truth: list[Pose], claimed: list[Pose] | None = None, factor: float = 1.0) -> None:
        self.path, self.skipped = Path("room"), Counter()
        self.truth, self.claimed, self.factor = truth, claimed or truth, factor

    def __len__(self):
        return len(self.truth)

    def read(self, position):
        frame = see_room(self.truth[position], index=position)
        return replace(frame, depth=frame.depth * np.float32(self.factor), T_world_camera=self.claimed[position])

    @property
    def poses(self):
        return self.claimed

    camera = CAMERA
    files = None


@pytest.mark.parametrize("step, turn", [(0.05, 0.05), (0.02, 0.01), (0.1, 0.1)])
def test_the_right_reading_is_accepted(step, turn):
    assert check_fit(Told(walk(step=step, turn=turn))) is None


@pytest.mark.parametrize("factor, units", [(2, "2000"), (0.5, "500"), (5, "5000 .TUM's."),
                                           (6.5535, "6553.5 .Replica's."), (0.256, "256 .KITTI's.")])  # fmt: skip
def test_a_wrong_unit_is_named_and_its_option_mends_it(factor, units):
    with pytest.raises(ValueError, match="too (large|small).*--depth-scale") as told:
        check_fit(Told(walk(), factor=factor))
    assert re.search(f"--depth-scale {units}", str(told.value))
    mended = with_conventions(Told(walk(), factor=factor), Conventions(depth_scale=1000 * factor))
    assert check_fit(mended) is None


@pytest.mark.parametrize("written", [name for name in READ if name != "camera-to-world"])
def test_a_wrong_convention_is_named_and_its_option_mends_it(written):
    truth = walk()
    told = Told(truth, [WRITE[written](pose) for pose in truth])
    with pytest.raises(ValueError, match=f"--poses {written}"):
        check_fit(told)
    mended = with_conventions(told, Conventions(poses=written))
    assert check_fit(mended) is None
    for mine, true in zip(mended.poses, truth, strict=True):
        np.testing.assert_allclose(mine.matrix, true.matrix, atol=1e-12)


def test_poses_of_other_frames_and_no_motion_are_refused():
    truth = walk(step=0.1, turn=0.15)
    shuffled = [truth[k] for k in np.random.default_rng(0).permutation(len(truth))]
    with pytest.raises(ValueError, match="in their order"):
        check_fit(Told(truth, shuffled))
    with pytest.raises(ValueError, match="poses never change"):
        check_fit(Told(truth, truth[:1] * len(truth)))


def test_no_evidence_is_no_agreement():
    still = walk(step=0.0, turn=0.0)[:1] * 17
    assert "hardly moves" in check_fit(Told(still))
    apart = [Pose.looking_at([0, 0, 1.2], [np.cos(a), np.sin(a), 1.2]) for a in np.arange(3) * 2.0]
    assert "same place" in check_fit(Told(apart))


@pytest.mark.parametrize("said, units", [(1000, 1000), (0.001, 1000), (5000.0, 5000), (0.0002, 5000), (1, 1)])
def test_a_scale_is_units_a_metre_or_metres_a_unit(said, units):
    assert units_a_metre(said) == pytest.approx(units)
    for wrong in (0, -5, float("nan"), "5000", True):
        with pytest.raises(ValueError, match="depth_scale"):
            units_a_metre(wrong)


def command(monkeypatch, capsys, *words) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["worldfm", *map(str, words)])
    return main(), capsys.readouterr().err


def test_no_world_and_no_figures_are_made_of_what_does_not_fit(tmp_path, monkeypatch, capsys):
    poses = walk()
    folder = write_rgbd_folder(tmp_path / "scan", [see_room(pose, index=k) for k, pose in enumerate(poses)])
    write_poses({k: pose.inverse() for k, pose in read_poses(folder / "poses.txt").items()}, folder / "poses.txt")
    build = ("world", "build", "rgbd", folder, "--out", tmp_path / "world", "--voxel", 0.1, "--min-views", 2)
    code, said = command(monkeypatch, capsys, *build)
    assert code == 2 and "--poses world-to-camera" in said and not (tmp_path / "world").exists()
    code, said = command(monkeypatch, capsys, "eval", folder, "--clips", 16, "--model", "anchors", "--json",
                         tmp_path / "figures.json")
    assert code == 2 and "--poses world-to-camera" in said and not (tmp_path / "figures.json").exists()
    code, said = command(monkeypatch, capsys, *build, "--poses", "world-to-camera")
    assert code == 0 and "warning" not in said


def test_a_camera_file_may_tell_the_unit_and_the_convention(tmp_path):
    folder = write_rgbd_folder(tmp_path / "scan", [see_room(pose, index=k) for k, pose in enumerate(walk())])
    for path in (folder / "depth").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 5)
    write_poses({k: pose.inverse() for k, pose in read_poses(folder / "poses.txt").items()}, folder / "poses.txt")
    camera = (folder / "camera.yaml").read_text()
    (folder / "camera.yaml").write_text(camera + "depth_scale: 5000\npose_convention: world_to_camera, optical\n")
    assert check_fit(RgbdFolder(folder)) is None
    (folder / "camera.yaml").write_text(camera + "depth_scale: 5000\ndepth_unit_m: 0.001\n")
    with pytest.raises(ValueError, match="depth_scale and depth_unit_m say different things"):
        RgbdFolder(folder)
    (folder / "camera.yaml").write_text(camera + "depth_shift: 3\n")
    with pytest.raises(ValueError, match="the key depth_shift"):
        RgbdFolder(folder)


@pytest.mark.parametrize("scan", ["redkitchen", "fox", "apc_shelf"])
def test_real_scans_are_accepted_and_their_variants_named(scan):
    if not (DATA / scan).exists():
        pytest.skip(f"the {scan} scan is not here")
    frames = RgbdFolder(DATA / scan)
    assert check_fit(frames) is None
    with pytest.raises(ValueError, match="2 times too large.*--depth-scale 1000"):
        check_fit(with_conventions(frames, Conventions(depth_scale=500)))
    with pytest.raises(ValueError, match="--poses camera-to-world"):
        check_fit(with_conventions(frames, Conventions(poses="opengl")))
