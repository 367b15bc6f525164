"""Values as other people's writers put them: units, names, masks, sizes. Right ones are read alike in every format, and
what may mean something else is named."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import sys

import cv2
import numpy as np
from PIL import Image
import pytest
from scenes import CAMERA
from test_clip_sources import (
    FRAMES,
    assert_frames,
    bag_messages,
    image,
    scan,  # noqa: F401
    transforms,
    write_bag,
    write_colmap_text,
)

from worldfm_ros.cli.main import main
from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Pose
from worldfm_ros.sources.bag import BagFrames
from worldfm_ros.sources.checks import check_fit
from worldfm_ros.sources.colmap import ColmapFrames
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.images import natural, stored_depth
from worldfm_ros.sources.rgbd_folder import RgbdFolder, read_camera
from worldfm_ros.sources.transforms import TransformsFrames

FOLDERS: dict[str, Callable[[Path], PosedFrames]] = {
    "rgbd": RgbdFolder,
    "transforms": lambda path: TransformsFrames(transforms(path)),
    "colmap": lambda path: ColmapFrames(write_colmap_text(path / "sparse"), path / "rgb", path / "depth"),
}


def each_depth(scan: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:  # noqa: F811
    for path in (scan / "depth").iterdir():
        assert cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def with_facts(scan: Path, change: Callable[[dict], object], **shared) -> TransformsFrames:  # noqa: F811
    """The transforms.json with each frame's facts changed."""
    path = transforms(scan, **shared)
    facts = json.loads(path.read_text())
    for frame in facts["frames"]:
        change(frame)
    path.write_text(json.dumps(facts))
    return TransformsFrames(path)


@pytest.mark.parametrize("form", FOLDERS)
def test_nothing_measured_may_be_written_as_the_largest_number(scan, form):  # noqa: F811
    def full(depth):
        depth[::7, ::5] = 65535
        return depth

    each_depth(scan, full)
    for frame in FOLDERS[form](scan):
        assert not frame.depth[::7, ::5].any() and 0 < frame.depth.max() < 10


@pytest.mark.parametrize("form", [*FOLDERS, "bag"])
def test_smaller_registered_depth_shows_the_same_view(scan, tmp_path, form):  # noqa: F811
    """Half the number of pixels; every other shape is refused."""
    half = (CAMERA.width // 2, CAMERA.height // 2)
    if form == "bag":
        def halved(topic, when, message):
            if "depth" in topic:
                pixels = message.data.view(np.uint16).reshape(message.height, message.width)
                small = cv2.resize(pixels, half, interpolation=cv2.INTER_NEAREST_EXACT)
                message = image(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec, small, "16UC1")
            return topic, when, message

        frames = BagFrames(write_bag(tmp_path / "bag", (halved(*message) for message in bag_messages())))
    else:
        each_depth(scan, lambda depth: cv2.resize(depth, half, interpolation=cv2.INTER_NEAREST_EXACT))
        frames = FOLDERS[form](scan)
    for frame, true in zip(frames, FRAMES, strict=True):
        assert frame.depth.shape == true.depth.shape
        assert np.median(np.abs(frame.depth - true.depth)) < 0.03


@pytest.mark.parametrize("form", FOLDERS)
def test_depth_of_another_shape_is_refused(scan, form):  # noqa: F811
    each_depth(scan, lambda depth: depth[:, :-7])
    with pytest.raises(ValueError, match="registered"):
        _ = FOLDERS[form](scan)[0]


def test_frames_come_in_the_order_of_their_numbers(scan):  # noqa: F811
    """1, 2, 10 and not 1, 10, 2."""
    for folder in ("rgb", "depth"):
        for path in (scan / folder).iterdir():
            path.rename(path.with_name(f"{int(path.stem)}.png"))

    def short(frame):
        for key in ("file_path", "depth_file_path"):
            frame[key] = f"{Path(frame[key]).parent}/{int(Path(frame[key]).stem)}.png"

    assert_frames(with_facts(scan, short))
    model = write_colmap_text(scan / "sparse")
    text = (model / "images.txt").read_text()
    for frame in FRAMES:
        text = text.replace(f"{frame.index:06d}.png", f"{frame.index}.png")
    (model / "images.txt").write_text(text)
    assert_frames(ColmapFrames(model, scan / "rgb", scan / "depth"))
    assert sorted(["a10b2", "a2b10", "a2b9", "b1", "10"], key=natural) == ["10", "a2b9", "a2b10", "a10b2", "b1"]


@pytest.mark.parametrize("facts", [{"integer_depth_scale": 0.0002}, {"depth_unit_scale_factor": 0.0002},
                                   {"depth_unit_m": 0.0002}, {"depth_scale": 5000}, {"png_depth_scale": 5000.0}])
@pytest.mark.parametrize("shared", [True, False])
def test_a_scale_of_depth_is_obeyed(scan, facts, shared):  # noqa: F811
    each_depth(scan, lambda depth: depth * 5)
    frames = with_facts(scan, lambda frame: None if shared else frame.update(facts), **(facts if shared else {}))
    assert_frames(frames)
    assert frames.units == pytest.approx(5000)


@pytest.mark.parametrize("facts, message", [
    ({"depth_shift": 3}, "the key depth_shift"), ({"pose_w2c": True}, "the key pose_w2c"),
    ({"integer_depth_scale": 0.001, "depth_scale": 5000}, "different things"), ({"depth_scale": "mm"}, "depth_scale"),
    ({"integer_depth_scale": -1}, "integer_depth_scale"),
])  # fmt: skip
def test_what_may_change_the_meaning_is_never_passed_over(scan, facts, message):  # noqa: F811
    with pytest.raises(ValueError, match=message):
        TransformsFrames(transforms(scan, **facts))
    camera = (scan / "camera.yaml").read_text()
    (scan / "camera.yaml").write_text(camera + "".join(f"{key}: {json.dumps(value)}\n" for key, value in facts.items()))
    with pytest.raises(ValueError, match=message):
        RgbdFolder(scan)
    read_camera(scan / "camera.yaml")  # as a camera alone it is sound


@pytest.mark.parametrize("change", [
    lambda frame: frame.update(file_path=frame["file_path"].replace("/", "\\"),
                               depth_file_path=frame["depth_file_path"].replace("/", "\\")),
    lambda frame: frame.update(file_path=frame["file_path"].removesuffix(".png")),
    lambda frame: frame.update(depth_path=frame.pop("depth_file_path")),
], ids=["Windows", "no ending", "depth_path"])  # fmt: skip
def test_dialects_of_transforms_are_read(scan, change):  # noqa: F811
    assert_frames(with_facts(scan, change))


def test_a_field_of_view_in_degrees_is_suspected(scan):  # noqa: F811
    with pytest.raises(ValueError, match="camera_angle_x is in radians.*degrees"):
        _ = TransformsFrames(transforms(scan, fl_x=None, fl_y=None, camera_angle_x=60.0))[0]


def test_a_mask_takes_pixels_out_of_the_scene(scan):  # noqa: F811
    mask = np.full((CAMERA.height, CAMERA.width), 255, np.uint8)
    mask[:20] = 0
    cv2.imwrite(str(scan / "mask.png"), mask)
    frame = with_facts(scan, lambda facts: facts.update(mask_path="mask.png"))[0]
    assert not frame.depth[:20].any() and (frame.depth[20:] > 0).all() and np.array_equal(frame.scene, mask > 0)
    cv2.imwrite(str(scan / "mask.png"), mask[:-1])
    with pytest.raises(ValueError, match="mask.png is 80x59, the camera 80x60"):
        _ = TransformsFrames(scan / "transforms.json")[0]


@pytest.mark.parametrize("factor", [0.002, 1.0, 300.0])
def test_a_colmap_models_scale_is_brought_to_where_millimetres_do(scan, factor):  # noqa: F811
    """Poses and depth alike, so that they go on to fit, by a power of ten."""
    scaled = [RgbdFrame(f.index, f.rgb, f.depth * np.float32(factor), f.intrinsics,
                        Pose(f.T_world_camera.rotation, factor * f.T_world_camera.translation)) for f in FRAMES]
    model = write_colmap_text(scan / "sparse")
    lines = (model / "images.txt").read_text().splitlines()
    for number, line in enumerate(lines):
        words = line.split()
        if len(words) == 10:
            words[5:8] = (repr(factor * float(word)) for word in words[5:8])
            lines[number] = " ".join(words)
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    (maps := scan / "maps").mkdir()
    for frame in scaled:
        header = f"{CAMERA.width}&{CAMERA.height}&1&".encode()
        (maps / f"{frame.index:06d}.png.geometric.bin").write_bytes(header + frame.depth.astype("<f4").tobytes())
    frames = ColmapFrames(model, scan / "rgb", maps)
    assert frames.scale == 10.0 ** round(np.log10(frames.scale)) and not frames.metric
    assert 0.3 < np.median(frames[0].depth) < 30
    for read, true in zip(frames, scaled, strict=True):
        np.testing.assert_allclose(read.depth, true.depth * frames.scale, rtol=1e-5)
        np.testing.assert_allclose(read.T_world_camera.translation, true.T_world_camera.translation * frames.scale,
                                   atol=1e-9)
    assert check_fit(frames) is None


def test_sixteen_bits_that_pillow_opens_as_more_are_read():
    """Pillow before 10.3 opens a PNG of 16 bits as int32."""
    depth = np.array([[0, 1500, 65535]], np.int32)
    np.testing.assert_allclose(stored_depth(depth, 1000.0, "d"), [[0, 1.5, 0]])
    assert np.asarray(Image.fromarray(depth)).dtype == np.int32
    for wrong in (depth + 1, depth - 1, depth.astype(np.float32), depth.astype(np.uint8)):
        with pytest.raises(ValueError, match="one channel of uint16"):
            stored_depth(wrong, 1000.0, "d")


def test_depth_that_is_too_far_is_named_as_such(scan, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(sys, "argv", ["worldfm", "world", "build", "rgbd", str(scan), "--out", str(tmp_path / "world"),
                                      "--max-depth", "0.2"])
    assert main() == 2
    assert "beyond max_depth, 0.2 m, the nearest at" in (said := capsys.readouterr().err) and "--max-depth" in said
