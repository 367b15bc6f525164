"""The RGB-D folder and the poses file: round trips, and every way they can be wrong."""

import math
import shutil

import cv2
import numpy as np
import pytest
from scenes import CAMERA, announced_png, room_frames, room_poses, write_rgbd_folder

from worldfm_ros.evaluation.held_out import Photographs
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.sources.rgbd_folder import RgbdFolder, read_camera, read_poses, write_camera, write_poses
from worldfm_ros.world.builders import rgbd
from worldfm_ros.world.builders.fusion import FusionSettings

GOOD = "0 0 0 0 0 0 0 1"


@pytest.fixture
def folder(tmp_path):
    return write_rgbd_folder(tmp_path / "scan", room_frames(3))


def test_poses_survive_the_file_to_the_last_bit(tmp_path):
    poses = dict(enumerate(room_poses()))
    write_poses(poses, tmp_path / "poses.txt")
    back = read_poses(tmp_path / "poses.txt")
    assert list(back) == list(poses)
    for index in poses:
        np.testing.assert_array_equal(back[index].translation, poses[index].translation)
        np.testing.assert_allclose(back[index].quaternion, poses[index].quaternion, atol=1e-15)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no poses"),
        ("# only a comment\n", "no poses"),
        (f"{GOOD}\n1 0 0 nan 0 0 0 1", r"1 of 2 poses are lost"),
        (f"{GOOD}\n1 0 0 inf 0 0 0 1", r"1 of 2 poses are lost"),
        (f"{GOOD}\n1 0 0 0 0 0 0 nan", r"1 of 2 poses are lost"),
        (f"{GOOD}\n1 0 0 0 0 0 0 1.006", r"poses.txt:2: .*squared length of 1 within 0.01"),
        (f"3 {GOOD[2:]}\n2 {GOOD[2:]}", r"poses.txt:2: .*rise.*got 2 after 3"),
        (f"{GOOD}\n{GOOD}", r"poses.txt:2: .*rise.*got 0 after 0"),
        ("-1 0 0 0 0 0 0 1", r"poses.txt:1: .*rise"),
        ("0 0 0 0 0 0 1", r"poses.txt:1: expected 7 numbers after the index, got 6"),
        ("zero 0 0 0 0 0 0 1", r"poses.txt:1: expected 'index tx"),
    ],
)
def test_bad_poses_name_the_line(tmp_path, text, message):
    (tmp_path / "poses.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_poses(tmp_path / "poses.txt")


def test_frames_come_as_written(folder):
    frames = room_frames(3)
    read = list(RgbdFolder(folder))
    assert len(read) == len(RgbdFolder(folder)) == 3
    for a, b in zip(frames, read, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_allclose(a.depth, b.depth, atol=0.0005)
        assert a.index == b.index and b.depth.dtype == np.float32


def test_the_mask_removes_depth(folder):
    mask = np.full((60, 80), 255, np.uint8)
    mask[:, :10] = 0
    cv2.imwrite(str(folder / "mask.png"), mask)
    frame = RgbdFolder(folder)[0]
    assert not frame.depth[:, :10].any() and frame.depth[:, 10:].all()
    np.testing.assert_array_equal(frame.scene, mask > 0)


def test_the_border_that_the_lens_did_not_show_is_no_scene(folder):
    assert RgbdFolder(folder)[0].scene is None
    text = (folder / "camera.yaml").read_text().replace("D: [0.0, 0.0", "D: [0.3, 0.0")
    (folder / "camera.yaml").write_text(text)
    mask = np.full((60, 80), 255, np.uint8)
    mask[50:, 30:60] = 0
    cv2.imwrite(str(folder / "mask.png"), mask)
    scans = RgbdFolder(folder)
    frame = scans[0]
    assert 0.5 < frame.scene.mean() < 0.95 and not frame.scene[0, 0] and not frame.depth[~frame.scene].all()
    judged = Photographs(scans, CAMERA.width, CAMERA.height)[0].scene  # of maps that OpenCV rounds
    assert np.mean(frame.scene != judged) < 0.005


def test_distortion_is_removed(tmp_path):
    """A grid of dots, projected by OpenCV with distortion, comes out where the pinhole camera projects it."""
    camera = Intrinsics(320, 240, 250, 250, 159.5, 119.5)
    D = np.array([-0.25, 0.08, 0.002, -0.001, 0.0])
    grid = np.stack([*np.meshgrid(np.linspace(-0.3, 0.3, 5), np.linspace(-0.2, 0.2, 4)), np.ones((4, 5))], -1).reshape(
        -1, 3
    )
    image = np.zeros((240, 320, 3), np.uint8)
    for u, v in cv2.projectPoints(grid, np.zeros(3), np.zeros(3), camera.matrix, D)[0][:, 0]:
        cv2.circle(image, (round(u * 16), round(v * 16)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    frame = room_frames(1)[0]
    folder = write_rgbd_folder(
        tmp_path / "scan", [type(frame)(0, image, np.ones((240, 320), np.float32), camera, frame.T_world_camera)]
    )
    text = (folder / "camera.yaml").read_text().replace("D: [0.0, 0.0, 0.0, 0.0, 0.0]", f"D: {D.tolist()}")
    (folder / "camera.yaml").write_text(text)
    rectified = RgbdFolder(folder)[0].rgb[..., 0].astype(float)
    for u, v in camera.project(grid):
        window = rectified[round(v) - 6 : round(v) + 7, round(u) - 6 : round(u) + 7]
        rows, columns = np.indices(window.shape)
        found = np.array([(window * columns).sum(), (window * rows).sum()]) / window.sum() + [
            round(u) - 6,
            round(v) - 6,
        ]
        np.testing.assert_allclose(found, [u, v], atol=0.15)


def break_no_depth(folder):
    shutil.rmtree(folder / "depth")


def break_depth_size(folder):
    cv2.imwrite(str(folder / "depth" / "000001.png"), np.zeros((31, 40), np.uint16))


def break_depth_kind(folder):
    cv2.imwrite(str(folder / "depth" / "000001.png"), np.zeros((60, 80), np.uint8))


def break_depth_gone(folder):
    (folder / "depth" / "000001.png").unlink()


def break_rgb_gone(folder):
    (folder / "rgb" / "000001.png").unlink()


def break_rgb_cut(folder):
    path = folder / "rgb" / "000001.png"
    path.write_bytes(path.read_bytes()[:50])


def break_rgb_end_missing(folder):
    path = folder / "rgb" / "000001.png"
    data = cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes()
    path.unlink()
    path.with_suffix(".jpg").write_bytes(data[: len(data) * 2 // 3])


def break_rgb_bomb(folder):
    (folder / "rgb" / "000001.png").write_bytes(announced_png(60_000, 60_000))


def break_rgb_size(folder):
    cv2.imwrite(str(folder / "rgb" / "000001.png"), np.zeros((30, 40, 3), np.uint8))


def break_unposed(folder):
    shutil.copy(folder / "rgb" / "000001.png", folder / "rgb" / "000009.png")


def break_camera_key(folder):
    (folder / "camera.yaml").write_text("width: 80\nheight: 60\n")


def break_camera_focal(folder):
    write_camera(CAMERA, folder / "camera.yaml")
    (folder / "camera.yaml").write_text((folder / "camera.yaml").read_text().replace("50.0", "-50.0"))


def break_camera_model(folder):
    text = (folder / "camera.yaml").read_text()
    (folder / "camera.yaml").write_text(text.replace("plumb_bob", "double_sphere"))


def break_camera_yaml(folder):
    (folder / "camera.yaml").write_text("width: [1,\n")


def break_camera_binary(folder):
    (folder / "camera.yaml").write_bytes(b"\xff\xfe\x80")


def break_camera_coefficients(folder):
    change_camera(folder, "D: [0.0, 0.0, 0.0, 0.0, 0.0]", "D: 5")


def break_camera_coefficient(folder):
    change_camera(folder, "D: [0.0", "D: [.nan")


def break_camera_model_list(folder):
    change_camera(folder, "plumb_bob", "[plumb_bob]")


def break_poses_binary(folder):
    (folder / "poses.txt").write_bytes(b"\xff\xfe\x80")


def change_camera(folder, old, new):
    text = (folder / "camera.yaml").read_text()
    assert old in text
    (folder / "camera.yaml").write_text(text.replace(old, new))


def break_no_poses(folder):
    (folder / "poses.txt").unlink()


@pytest.mark.parametrize(
    "damage, message",
    [
        (break_no_depth, "no depth/ folder"),
        (break_depth_size, r"depth/000001.png is 40x31, camera.yaml says 80x60"),
        (break_depth_kind, "one channel of uint16 .millimetres"),
        (break_depth_gone, "depth/000001.png is missing"),
        (break_rgb_gone, "1 of 3 poses have no image in rgb/, first 000001"),
        (break_rgb_cut, "000001.png is not a readable image"),
        (break_rgb_end_missing, r"000001.jpg is not a readable image \(.*truncated"),
        (break_rgb_bomb, "000001.png announces too large a picture"),
        (break_rgb_size, "000001.png is 40x30"),
        (break_unposed, "1 images have no line in poses.txt, first 000009"),
        (break_camera_key, "camera.yaml: expected the keys width, height and K"),
        (break_camera_focal, "camera.yaml: focal lengths are positive"),
        (break_camera_model, "distortion_model 'double_sphere'"),
        (break_camera_yaml, "camera.yaml is not YAML: while parsing"),
        (break_camera_binary, "camera.yaml is no text"),
        (break_camera_coefficients, "camera.yaml: D is a list of finite numbers, got 5"),
        (break_camera_coefficient, r"camera.yaml: D is a list of finite numbers, got \[nan"),
        (break_camera_model_list, r"camera.yaml: distortion_model \['plumb_bob'\] with 5"),
        (break_poses_binary, "poses.txt is no text"),
        (break_no_poses, "is no RGB-D folder: poses.txt is missing"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_bad_folder_names_the_file(folder, damage, message):
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        rgbd.build(RgbdFolder(folder), FusionSettings(voxel=0.1))


def test_no_frames_make_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        write_rgbd_folder(tmp_path / "none", [])
    assert not list(tmp_path.iterdir())


def test_a_folder_becomes_a_world(folder):
    world = rgbd.build(RgbdFolder(folder), FusionSettings(voxel=0.1))
    assert world.name == "scan" and len(world.anchors) > 500 and world.keyframes[0].intrinsics == CAMERA


def test_camera_files_round_trip(tmp_path):
    camera = Intrinsics.from_hfov(640, 480, math.radians(71.3))
    write_camera(camera, tmp_path / "camera.yaml")
    back, lens = read_camera(tmp_path / "camera.yaml")
    assert back == camera and not lens.bends
