"""A real scan becomes a world, and its own trajectory is played through it: published images beside the photographs."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from simulations import read_bag, simulate

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.sources.rgbd_folder import RgbdFolder, read_poses, write_poses
from worldfm_ros.world.builders import rgbd
from worldfm_ros.world.builders.fusion import FusionSettings
from worldfm_ros.world.storage import write_world

pytest.importorskip("rclpy")
ROOT = Path(__file__).parents[1]
KITCHEN = ROOT.parent / "shared" / "data" / "redkitchen"


@pytest.mark.skipif(not KITCHEN.is_dir(), reason="needs the redkitchen scan")
def test_a_real_kitchen_beside_its_photographs(tmp_path):
    """The scan becomes a world, its poses a trajectory; the published images are held against the photographs.

    The montage (20 x photograph | published image) is left in build/redkitchen.png to look at.
    """
    write_world(rgbd.build(RgbdFolder(KITCHEN), FusionSettings(voxel=0.02)), tmp_path / "kitchen")
    photographs = RgbdFolder(KITCHEN)
    poses = {i: pose for i, pose in read_poses(KITCHEN / "poses.txt").items() if i < 60}
    write_poses(poses, tmp_path / "poses.txt")
    hfov = math.degrees(photographs.intrinsics.hfov)
    simulate(
        tmp_path, "world:=kitchen", "model:=anchors", "trajectory:=poses.txt", f"hfov:={hfov}", "duration:=6",
        "record:=true", "bag:=b"
    )
    bag = read_bag(tmp_path / "b")
    images = bag.images()
    shown = {stamp: bag.camera_pose(stamp) for stamp in bag.known(images)}
    rows, scores = [], {}
    for index in list(poses)[2::3]:
        stamp = min(shown, key=lambda s: np.abs(shown[s] - poses[index].matrix).max())
        assert np.abs(shown[stamp] - poses[index].matrix).max() < 1e-9
        photograph = photograph_at(photographs[index], hfov)
        scores[index] = psnr(photograph, images[stamp])
        rows.append(np.hstack([photograph, images[stamp]]))
    montage = np.vstack([np.hstack(rows[i : i + 4]) for i in range(0, 20, 4)])
    (ROOT / "build").mkdir(exist_ok=True)
    save_png(ROOT / "build" / "redkitchen.png", montage)
    print({index: round(score, 1) for index, score in scores.items()})
    assert np.mean(list(scores.values())) > 18 and min(scores.values()) > 14


def photograph_at(frame, hfov):
    """The photograph as the simulated camera would take it: its principal point moved to the image's centre."""

    camera = Intrinsics.from_hfov(320, 240, math.radians(hfov))
    maps = np.moveaxis(frame.intrinsics.project(camera.unproject(np.ones((240, 320)))), -1, 0).astype(np.float32)
    smooth = cv2.GaussianBlur(frame.rgb, (0, 0), 0.7)
    return cv2.remap(smooth, *maps, cv2.INTER_LINEAR)


def psnr(a, b):
    return 10 * math.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def save_png(path, rgb):

    cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]))
