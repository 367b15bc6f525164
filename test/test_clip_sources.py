"""Sources of clips: each format gives back the frames that were written in it, and says what is wrong with it."""

from __future__ import annotations

from collections import Counter
import json
import os
from pathlib import Path
import struct
from types import MappingProxyType, SimpleNamespace

import cv2
from hypothesis import given, settings, strategies
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scenes import CAMERA, see_room, write_rgbd_folder
from scipy.spatial.transform import Rotation, Slerp

from worldfm_ros.clips import LENGTH
from worldfm_ros.geometry import Pose
from worldfm_ros.sources.bag import BagFrames, Topics
from worldfm_ros.sources.bag_images import decode_color, decode_depth
from worldfm_ros.sources.colmap import ColmapFrames, read_depth_map, read_model
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.open import open_frames
from worldfm_ros.sources.rgbd_folder import RgbdFolder
from worldfm_ros.sources.sources import FrameClips, Joined, colmap_clips, open_source
from worldfm_ros.sources.tf_tree import STATIC, TfTree
from worldfm_ros.sources.transforms import TransformsFrames
from worldfm_ros.tf.history import TransformError

DATA = Path(__file__).parents[2] / "shared" / "data"
POSES = [Pose.looking_at(eye := np.array([0.03 * k - 0.3, 0.02 * k, 1.2]), eye + [1.0, 0.03 * k, -0.2])
         for k in range(LENGTH + 1)]
FRAMES = [see_room(pose, index=k) for k, pose in enumerate(POSES)]


def assert_frames(read, written=FRAMES, pixels_off=0.0):
    assert len(read) == len(written)
    for a, b in zip(read, written, strict=True):
        np.testing.assert_allclose(a.T_world_camera.matrix, b.T_world_camera.matrix, atol=1e-9)
        np.testing.assert_allclose(a.intrinsics.matrix, b.intrinsics.matrix, atol=1e-9)
        assert (a.intrinsics.width, a.intrinsics.height) == (b.intrinsics.width, b.intrinsics.height)
        assert np.mean(a.rgb != b.rgb) <= pixels_off
        assert np.mean(np.abs(a.depth - b.depth) > 0.00051) <= pixels_off


@pytest.fixture
def scan(tmp_path) -> Path:
    """rgb/ and depth/ with a picture each frame."""
    return write_rgbd_folder(tmp_path / "scan", FRAMES)


# ---- cutting


class Numbered(PosedFrames):
    """Frames that are nothing but their number."""

    def __init__(self, count):
        self.path, self.skipped, self.count = Path("scan"), Counter(), count

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        return SimpleNamespace(index=range(self.count)[position])

    camera = files = poses = read = None


@given(strategies.integers(0, 200), strategies.integers(1, 6))
def test_each_frame_is_in_at_most_one_clip(count, stride):
    frames = Numbered(count)
    if count < 15 * stride + 1:
        with pytest.raises(ValueError, match=f"needs {15 * stride + 1} frames; there are {count}"):
            FrameClips(frames, stride)
        return
    clips = FrameClips(frames, stride)
    indices = [[frame.index for frame in clip.frames] for clip in clips]
    used = Counter(k for clip in indices for k in clip)
    assert all(np.all(np.diff(clip) == stride) for clip in indices) and set(used.values()) == {1}
    assert sum(clips.skipped.values()) == count - len(used) <= 15 * stride + stride * 1
    assert len({clip.name for clip in clips}) == len(clips)


def test_sources_are_joined_in_order(scan):
    clips = FrameClips(RgbdFolder(scan))
    both = Joined([clips, clips])
    assert len(both) == 2 and both[1].name == clips[0].name
    with pytest.raises(IndexError):
        both[2]


def test_an_rgbd_folder_without_depth_is_refused(scan):
    for path in (scan / "depth").iterdir():
        path.unlink()
    (scan / "depth").rmdir()
    with pytest.raises(ValueError, match="no depth/ folder"):
        FrameClips(RgbdFolder(scan))


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no source of posed frames"):
        open_source(tmp_path)


# ---- transforms.json


def transforms(scan: Path, **changes) -> Path:
    """The frames as nerfstudio writes them: axes x right, y up, z back; the principal point from the corner."""
    frames = []
    for frame in reversed(FRAMES):  # in any order
        matrix = frame.T_world_camera.matrix @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"rgb/{frame.index:06d}.png", "depth_file_path": f"depth/{frame.index:06d}.png",
                       "transform_matrix": matrix.tolist()})
    facts = {"camera_model": "OPENCV", "w": CAMERA.width, "h": CAMERA.height, "fl_x": CAMERA.fx, "fl_y": CAMERA.fy,
             "cx": CAMERA.cx + 0.5, "cy": CAMERA.cy + 0.5, "frames": frames, **changes}
    (scan / "transforms.json").write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))
    return scan / "transforms.json"


def test_transforms_give_the_frames_back(scan):
    clips = FrameClips(TransformsFrames(transforms(scan)))
    assert_frames(clips.frames)
    assert len(clips) == 1 and sum(clips.skipped.values()) == 1 and open_frames(scan).path == clips.frames.path
    by_angle = transforms(scan, fl_x=None, fl_y=None, cx=None, cy=None,
                          camera_angle_x=2 * np.arctan(CAMERA.width / 2 / CAMERA.fx))
    assert_frames(TransformsFrames(by_angle))


def test_transforms_with_distortion_are_undistorted(scan):
    k1 = 0.1
    clips = FrameClips(TransformsFrames(transforms(scan, k1=k1)))
    expected = cv2.undistort(FRAMES[0].rgb, CAMERA.matrix, np.array([k1, 0, 0, 0]))
    assert np.abs(clips.frames[0].rgb.astype(int) - expected).mean() < 0.1
    with pytest.raises(ValueError, match="OPENCV_FISHEYE.*undistort"):
        TransformsFrames(transforms(scan, camera_model="OPENCV_FISHEYE"))


def test_bad_transforms_say_what_is_wrong(scan):
    path = transforms(scan)
    facts = json.loads(path.read_text())
    del facts["frames"][3]["depth_file_path"]
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="1 of 17 frames have no depth_file_path"):
        TransformsFrames(path)
    facts["frames"][3] = {**facts["frames"][4], "transform_matrix": np.diag([2.0, 2, 2, 1]).tolist()}
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="rigid"):
        list(TransformsFrames(path))
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no transforms.json"):
        TransformsFrames(path)
    path = transforms(scan)
    (scan / "depth" / "000002.png").unlink()
    with pytest.raises(FileNotFoundError, match="000002.png is missing"):
        list(TransformsFrames(path))


def matrix_of(frame, change):
    matrix = np.array(frame["transform_matrix"])
    change(matrix)
    frame["transform_matrix"] = matrix.tolist()


@pytest.mark.parametrize("change, message", [
    (lambda facts, frame: frame.pop("transform_matrix"), "transform_matrix is a 4x4"),
    (lambda facts, frame: matrix_of(frame, lambda m: m[3].fill(9)), "transform_matrix is a 4x4"),
    (lambda facts, frame: matrix_of(frame, lambda m: np.negative(m[:, 0], out=m[:, 0])), "transform_matrix is a 4x4"),
    (lambda facts, frame: matrix_of(frame, lambda m: m[0].fill(np.nan)), "transform_matrix is a 4x4"),
    (lambda facts, frame: frame.update(depth_file_path=None), "1 of 17 frames have no depth_file_path"),
    (lambda facts, frame: facts.update(fl_x="50"), "fl_x is a finite number, got '50'"),
    (lambda facts, frame: facts.update(fl_x=-50), "focal lengths are positive"),
    (lambda facts, frame: (facts.pop("fl_x"), facts.update(camera_angle_x=0)), "between 0 and pi, got 0"),
    (lambda facts, frame: facts.update(k1=None), "k1 is a finite number, got None"),
    (lambda facts, frame: facts.update(w=80.5), "w and h are whole numbers"),
    (lambda facts, frame: frame.update(camera_model="OPENCV_FISHEYE"), "'OPENCV_FISHEYE' is none of"),
    (lambda facts, frame: (facts.pop("camera_model"), facts.update(is_fisheye=True)), "'OPENCV', a fisheye, is none"),
    (lambda facts, frame: facts.update(k4=0.1), "got k4, k5, k6 as well"),
    (lambda facts, frame: facts.update(frames=[None]), "is no transforms.json"),
])  # fmt: skip
def test_wrong_facts_in_transforms_name_the_file(scan, change, message):
    path = transforms(scan)
    facts = json.loads(path.read_text())
    change(facts, facts["frames"][3])
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=message) as told:
        list(TransformsFrames(path))
    assert str(told.value).startswith(str(path)) and len(str(told.value).splitlines()) == 1


def test_transforms_that_are_no_text_name_the_file(scan):
    path = scan / "transforms.json"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ValueError, match="transforms.json is no transforms.json: UnicodeDecodeError"):
        TransformsFrames(path)


def test_sizes_may_be_written_as_floats(scan):
    assert_frames(TransformsFrames(transforms(scan, w=float(CAMERA.width), h=float(CAMERA.height))))


def cut_jpeg(path: Path) -> None:
    """In place of a PNG of the same name."""
    data = cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes()
    path.write_bytes(data[:len(data) // 2])


@pytest.mark.parametrize("source", ["rgbd", "transforms", "colmap"])
def test_a_picture_that_is_cut_short_is_refused(scan, source):
    read = {"rgbd": lambda: RgbdFolder(scan), "transforms": lambda: TransformsFrames(transforms(scan)),
            "colmap": lambda: ColmapFrames(write_colmap_text(scan / "sparse"), scan / "rgb", scan / "depth")}
    frames = read[source]()
    cut_jpeg(scan / "rgb" / "000002.png")
    with pytest.raises(ValueError, match=r"000002.png is not a readable image \(.*truncated"):
        _ = frames[2]


@pytest.mark.parametrize("source", ["rgbd", "transforms", "colmap"])
def test_a_source_tells_when_one_of_its_files_changed(scan, source):
    transforms(scan)
    write_colmap_text(scan / "sparse")
    read = {"rgbd": lambda: RgbdFolder(scan), "transforms": lambda: TransformsFrames(scan),
            "colmap": lambda: ColmapFrames(scan / "sparse", scan / "rgb", scan / "depth")}[source]
    before = read().fingerprint
    (scan / "notes.txt").write_text("not of the source")
    assert read().fingerprint == before
    for name in ("rgb/000003.png", "depth/000016.png"):
        os.utime(scan / name, (1, 1))
        assert read().fingerprint != before
        before = read().fingerprint
    (scan / "depth" / "000016.png").unlink()
    assert read().fingerprint != before


# ---- COLMAP


def colmap_rows():
    """Image number, quaternion wxyz and translation of world-to-camera, name; in any order."""
    for frame in reversed(FRAMES):
        pose = frame.T_world_camera.inverse()
        x, y, z, w = pose.quaternion
        yield frame.index + 1, [w, x, y, z, *pose.translation], f"{frame.index:06d}.png"


def write_colmap_text(folder: Path, model="PINHOLE", parameters=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    parameters = parameters or [CAMERA.fx, CAMERA.fy, CAMERA.cx + 0.5, CAMERA.cy + 0.5]
    (folder / "cameras.txt").write_text(f"# cameras\n7 {model} {CAMERA.width} {CAMERA.height} "
                                        + " ".join(map(repr, map(float, parameters))) + "\n")
    lines = ["# images", *(line for number, pose, name in colmap_rows() for line in
                           (f"{number} {' '.join(map(repr, map(float, pose)))} 7 {name}", "1.0 2.0 -1"))]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_colmap_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    camera = struct.pack("<iiQQ4d", 7, 1, CAMERA.width, CAMERA.height, CAMERA.fx, CAMERA.fy, CAMERA.cx + 0.5,
                         CAMERA.cy + 0.5)
    (folder / "cameras.bin").write_bytes(struct.pack("<Q", 1) + camera)
    images = [struct.pack("<i7di", number, *pose, 7) + name.encode() + b"\0"
              + struct.pack("<Qddqddq", 2, 1, 2, -1, 3, 4, -1) for number, pose, name in colmap_rows()]
    (folder / "images.bin").write_bytes(struct.pack("<Q", len(images)) + b"".join(images))
    return folder


@pytest.mark.parametrize("write", [write_colmap_text, write_colmap_binary])
def test_colmap_gives_the_frames_back(scan, write):
    assert_frames(colmap_clips(write(scan / "sparse" / "0"), scan / "rgb", scan / "depth").frames)


def test_a_colmap_project_is_found_with_its_own_depth_maps(scan):
    write_colmap_binary(scan / "sparse")
    (scan / "rgb").rename(scan / "images")
    for path in (scan / "depth").iterdir():
        path.unlink()
    (scan / "depth").rmdir()
    maps = scan / "stereo" / "depth_maps"
    maps.mkdir(parents=True)
    for frame in FRAMES:
        header = f"{CAMERA.width}&{CAMERA.height}&1&".encode()
        (maps / f"{frame.index:06d}.png.geometric.bin").write_bytes(header + frame.depth.astype("<f4").tobytes())
    assert_frames(open_frames(scan))
    with pytest.raises(FileNotFoundError, match="patch_match_stereo"):
        ColmapFrames(scan / "sparse", scan / "images", scan / "nowhere")


def test_colmap_models_are_undistorted_or_refused(scan):
    radial = write_colmap_text(scan / "radial", "SIMPLE_RADIAL", [50.0, 40.0, 30.0, 0.1])
    frame = ColmapFrames(radial, scan / "rgb", scan / "depth")[0]
    expected = cv2.undistort(FRAMES[0].rgb, CAMERA.matrix, np.array([0.1, 0, 0, 0]))
    assert np.abs(frame.rgb.astype(int) - expected).mean() < 0.1
    with pytest.raises(ValueError, match="OPENCV_FISHEYE is none of .*image_undistorter"):
        ColmapFrames(write_colmap_text(scan / "fish", "OPENCV_FISHEYE"), scan / "rgb", scan / "depth")
    with pytest.raises(FileNotFoundError, match="is no COLMAP model"):
        ColmapFrames(scan / "depth", scan / "rgb", scan / "depth")
    path = write_colmap_binary(scan / "cut") / "images.bin"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="images.bin: cut short"):
        ColmapFrames(scan / "cut", scan / "rgb", scan / "depth")


def test_a_binary_model_that_is_cut_anywhere_is_refused(scan):
    path = write_colmap_binary(scan / "cut") / "images.bin"
    whole = path.read_bytes()
    one = (len(whole) - 8) // len(FRAMES)
    for size in range(len(whole) - one, len(whole)):  # everywhere in the last image: numbers, name and points
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="images.bin: cut short"):
            read_model(scan / "cut")


@pytest.mark.parametrize("change, message", [
    (lambda text: text.replace("1.0 2.0 -1\n", ""), "images.txt: expected two lines for each image"),
    (lambda text: text.replace("1.0 2.0 -1\n", "", 1), "images.txt: expected two lines for each image"),
    (lambda text: f"# Number of images: {len(FRAMES) + 1}, mean observations per image: 1\n" + text,
     "images.txt: the header tells of 18 images, there are 17"),
    (lambda text: text.replace(" 7 000003.png", " 8 000003.png"), r"images.txt: camera 8 of 000003.png is none of \[7"),
    (lambda text: text.replace(" 7 000003.png", ""), "images.txt: expected two lines"),
    (lambda text: text.replace("-1", "word"), "images.txt: expected two lines"),
])  # fmt: skip
def test_wrong_images_of_a_text_model_are_refused(scan, change, message):
    path = write_colmap_text(scan / "sparse") / "images.txt"
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=message):
        read_model(scan / "sparse")


def test_images_without_points_and_with_a_header_are_read(scan):
    path = write_colmap_text(scan / "sparse") / "images.txt"
    text = path.read_text().replace("1.0 2.0 -1\n", "\n")
    path.write_text(f"# Number of images: {len(FRAMES)}, mean observations per image: 0\n{text.rstrip()}")
    assert len(read_model(scan / "sparse")[1]) == len(FRAMES)


@pytest.mark.parametrize("model, parameters, message", [
    ("PINHOLE", [50.0, 50.0, 40.0, 30.0, 0.1], "PINHOLE has 4 parameters, got 5"),
    ("SIMPLE_RADIAL", [50.0, 40.0, 30.0], "SIMPLE_RADIAL has 4 parameters, got 3"),
    ("RADIAL", [50.0, 40.0, 30.0, float("nan"), 0.0], "distortion is finite"),
])  # fmt: skip
def test_wrong_parameters_of_a_camera_are_refused(scan, model, parameters, message):
    with pytest.raises(ValueError, match=f"cameras.txt: .*{message}"):
        read_model(write_colmap_text(scan / "sparse", model, parameters))


@pytest.mark.parametrize("data", [b"", b"80&60&1&" + bytes(100), b"\xff" * 500, b"80&60&3&" + bytes(4 * 80 * 60 * 3)])
def test_a_depth_map_that_is_none_names_the_file(tmp_path, data):
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(ValueError, match="a.bin is no whole depth map"):
        read_depth_map(tmp_path / "a.bin")


def test_depth_that_is_no_number_is_none(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"4&1&1&" + np.array([np.nan, np.inf, -1, 2], "<f4").tobytes())
    np.testing.assert_array_equal(read_depth_map(tmp_path / "a.bin"), [[0, 0, 0, 2]])


# ---- TF


@given(strategies.integers(0, 10**9), strategies.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_transforms_are_interpolated_like_scipy_does(stamp, seed):
    turns, places = Rotation.random(2, random_state=seed), np.random.default_rng(seed).normal(size=(2, 3))
    tree = TfTree()
    for when, turn, place in zip((10**9, 0), turns[::-1], places[::-1], strict=True):  # late ones first
        tree.add(when, "map", "base", Pose(turn, place))
    mount = Pose(Rotation.from_euler("x", 0.3), [0.1, 0.0, 0.5])
    tree.add(STATIC, "base", "camera", mount)
    root, found = tree.from_root("camera", stamp)
    fraction = stamp / 10**9
    expected = Pose(Slerp([0, 1], turns)(fraction), (1 - fraction) * places[0] + fraction * places[1]) @ mount
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-9)
    assert root == "map"


def test_transforms_are_not_made_up():
    tree = TfTree()
    tree.add(5, "map", "base", Pose.identity())
    assert tree.from_root("base", 5)[0] == "map"
    for stamp in (4, 6):
        with pytest.raises(TransformError, match="no transform of base"):
            tree.from_root("base", stamp)
    tree.add(STATIC, "base", "map", Pose.identity())
    with pytest.raises(TransformError, match="loop"):
        tree.from_root("base", 5)


# ---- bags

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
SECOND = 10**9
COLOR, INFO, DEPTH = "/cam/color/image_raw", "/cam/color/camera_info", "/cam/depth/image_raw"


def header(stamp: int, frame: str):
    return T["std_msgs/msg/Header"](T["builtin_interfaces/msg/Time"](stamp // SECOND, stamp % SECOND), frame)


def image(stamp: int, pixels: np.ndarray, encoding: str, frame="optical"):
    step = pixels.strides[0]
    return T["sensor_msgs/msg/Image"](header(stamp, frame), *pixels.shape[:2], encoding, 0, step,
                                      np.frombuffer(pixels.tobytes(), np.uint8))


def transform(stamp: int, parent: str, child: str, pose: Pose):
    vector, quaternion = T["geometry_msgs/msg/Vector3"], T["geometry_msgs/msg/Quaternion"]
    moved = T["geometry_msgs/msg/Transform"](vector(*pose.translation), quaternion(*pose.quaternion))
    stamped = T["geometry_msgs/msg/TransformStamped"](header(stamp, parent), child, moved)
    return T["tf2_msgs/msg/TFMessage"]([stamped])


def camera_info(k=CAMERA.matrix, model="plumb_bob", d=()):
    roi = T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return T["sensor_msgs/msg/CameraInfo"](header(0, "optical"), CAMERA.height, CAMERA.width, model, np.array(d, float),
                                           np.array(k, float).ravel(), np.eye(3).ravel(), np.eye(3, 4).ravel(), 0, 0,
                                           roi)


def write_bag(path: Path, messages, silent=MappingProxyType({})) -> Path:
    """(topic, time of recording, message)s to a bag. silent: types of topics without a message."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in silent.items():
            writer.add_connection(topic, kind, typestore=STORE)
        connections = {}
        for topic, recorded, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(connections[topic], recorded, STORE.serialize_cdr(message, message.__msgtype__))
    return path


def bag_messages(info=None, depth_frame="optical", depth_late=3_000_000, poses_of=range(LENGTH + 1)):
    """The frames at 10 Hz, depth a little later than colour; the camera's pose is the product of two transforms."""
    mount = Pose(Rotation.from_euler("y", 0.2), [0.0, 0.1, 0.0])
    yield "/tf_static", 0, transform(0, "base", "optical", mount)
    yield INFO, 0, info or camera_info()
    for k in poses_of:
        stamp = SECOND + k * SECOND // 10
        yield "/tf", stamp, transform(stamp, "map", "base", FRAMES[k].T_world_camera @ mount.inverse())
    for k, frame in enumerate(FRAMES):
        stamp = SECOND + k * SECOND // 10
        yield COLOR, stamp + 50, image(stamp, frame.rgb, "rgb8")
        depth = np.rint(frame.depth * 1000).astype(np.uint16)
        yield DEPTH, stamp + 60, image(stamp + depth_late, depth, "16UC1", depth_frame)


def test_a_bag_gives_the_frames_back(tmp_path):
    bag = write_bag(tmp_path / "bag", bag_messages())
    clips = FrameClips(BagFrames(bag))
    assert_frames(clips.frames)
    assert len(clips) == 1 and sum(clips.skipped.values()) == 1 and len(open_source(bag)) == 1


def test_pictures_without_pose_or_depth_are_counted(tmp_path):
    frames = BagFrames(write_bag(tmp_path / "poses", bag_messages(poses_of=range(3, 15))))
    assert len(frames) == 12 and sum(frames.skipped.values()) == 5
    late = BagFrames(write_bag(tmp_path / "late", bag_messages(depth_late=30_000_000)))
    assert len(late) == 0 and late.skipped == {"no depth at the picture's time": len(FRAMES)}
    with pytest.raises(ValueError, match="there are 0, 17 left out: no depth at the picture's time"):
        FrameClips(BagFrames(tmp_path / "late"))


@pytest.mark.parametrize("messages, topics, message", [
    (dict(depth_frame="infra"), {}, "registered"),
    (dict(info=camera_info(model="double_sphere", d=[0.1, 0, 0, 0])), {}, "double_sphere"),
    ({}, dict(color="/cam/colour"), "has no topic /cam/colour; it has /cam/color/camera_info"),
])  # fmt: skip
def test_bags_that_cannot_be_used_say_why(tmp_path, messages, topics, message):
    with pytest.raises(ValueError, match=message):
        BagFrames(write_bag(tmp_path / "bag", bag_messages(**messages)), Topics(**topics))


def test_a_bag_without_depth_or_transforms_says_so(tmp_path):
    blind = [m for m in bag_messages() if m[0] != DEPTH]
    with pytest.raises(ValueError, match="expected one depth topic, got none; name the one to use with --depth-topic"):
        BagFrames(write_bag(tmp_path / "blind", blind))
    with pytest.raises(ValueError, match=f"{DEPTH} has no message"):
        BagFrames(write_bag(tmp_path / "silent", blind, silent={DEPTH: "sensor_msgs/msg/Image"}))
    lost = [m for m in bag_messages() if not m[0].startswith("/tf")]
    with pytest.raises(ValueError, match="TF does not say where optical is.*: no transform has it .* record /tf"):
        BagFrames(write_bag(tmp_path / "lost", lost))
    apart = [(topic, stamp, transform(stamp, "map" if stamp < 2 * SECOND else "other", "base", FRAMES[0].T_world_camera)
              if topic == "/tf" else message) for topic, stamp, message in bag_messages()]
    with pytest.raises(ValueError, match="optical is in one fixed frame: its tree has two roots, map and other"):
        BagFrames(write_bag(tmp_path / "apart", apart))
    (tmp_path / "text.mcap").write_text("no bag")
    with pytest.raises(ValueError, match="no bag that can be read"):
        BagFrames(tmp_path / "text.mcap")


def test_topics_can_be_named(tmp_path):
    other = [("/other/image", when, message) for topic, when, message in bag_messages() if topic == COLOR]
    bag = write_bag(tmp_path / "bag", [*bag_messages(), *other])
    with pytest.raises(ValueError, match="expected one color topic, got .*--color-topic"):
        open_source(bag)
    assert len(open_source(bag, topics=Topics(color=COLOR))) == 1
    first = open_source(bag, topics=Topics(color=COLOR)).fingerprint
    os.utime(next(bag.glob("*.mcap")), (1, 1))
    assert open_source(bag, topics=Topics(color=COLOR)).fingerprint != first


def test_the_real_bag_is_the_real_scan():
    bag, scan = DATA / "bags" / "redkitchen_mcap", DATA / "redkitchen"
    if not bag.exists() or not scan.exists():
        pytest.skip("the redkitchen scan and its bag are not here")
    a, b = FrameClips(BagFrames(bag)), FrameClips(RgbdFolder(scan))
    assert len(a.frames) == 60
    for k in (0, 31):
        np.testing.assert_allclose(a.frames[k].T_world_camera.matrix, b.frames[k].T_world_camera.matrix, atol=1e-9)
        np.testing.assert_array_equal(a.frames[k].depth, b.frames[k].depth)
        assert np.abs(a.frames[k].rgb.astype(int) - b.frames[k].rgb).mean() < 2


# ---- pictures in messages

RGB = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
METRES = np.array([[0.0, 0.5, 1.25], [2.0, 4.0, 8.0]], np.float32)


@pytest.mark.parametrize("encoding, pixels", [
    ("rgb8", RGB), ("bgr8", RGB[..., ::-1]), ("rgba8", np.dstack([RGB, RGB[..., :1]])),
    ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., :1]])),
])  # fmt: skip
def test_colour_encodings(encoding, pixels):
    np.testing.assert_array_equal(decode_color(image(0, np.ascontiguousarray(pixels), encoding)), RGB)


def test_rows_may_be_padded_but_not_cut():
    padded = image(0, np.ascontiguousarray(np.pad(RGB, ((0, 0), (0, 2), (0, 0)))), "rgb8")
    padded.width = 5
    np.testing.assert_array_equal(decode_color(padded), RGB)
    padded.data = padded.data[:-1]
    with pytest.raises(ValueError, match="has 83 bytes"):
        decode_color(padded)
    with pytest.raises(ValueError, match="bayer_rggb8"):
        decode_color(image(0, RGB, "bayer_rggb8"))


def test_depth_encodings():
    millimetres = np.rint(METRES * 1000).astype(np.uint16)
    np.testing.assert_array_equal(decode_depth(image(0, millimetres, "16UC1")), METRES)
    swapped = image(0, millimetres.astype(">u2"), "16UC1")
    swapped.is_bigendian = 1
    np.testing.assert_array_equal(decode_depth(swapped), METRES)
    unknown = np.where(METRES == 0, np.float32(np.nan), METRES)
    np.testing.assert_array_equal(decode_depth(image(0, unknown, "32FC1")), METRES)
    with pytest.raises(ValueError, match="8UC1"):
        decode_depth(image(0, RGB, "8UC1"))


def compressed(kind: str, data: bytes):
    return T["sensor_msgs/msg/CompressedImage"](header(0, "optical"), kind, np.frombuffer(data, np.uint8))


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_compressed_pictures():
    np.testing.assert_array_equal(decode_color(compressed("rgb8; png compressed bgr8", png(RGB[..., ::-1]))), RGB)
    millimetres = png(np.rint(METRES * 1000).astype(np.uint16))
    for data in (millimetres, bytes(12) + millimetres):
        np.testing.assert_array_equal(decode_depth(compressed("16UC1; compressedDepth png", data)), METRES)
    a, b = np.float32(1000.0), np.float32(-10.0)  # depth = a / (level - b)
    levels = np.where(METRES > 0, np.rint(a / np.maximum(METRES, 0.1) + b), 0).astype(np.uint16)
    data = struct.pack("<iff", 0, a, b) + png(levels)
    np.testing.assert_allclose(decode_depth(compressed("32FC1; compressedDepth png", data)), METRES, rtol=0.01)
    with pytest.raises(ValueError, match="a picture of format 'jpeg' is not a readable image"):
        decode_color(compressed("jpeg", b"no picture"))
    jpeg = cv2.imencode(".jpg", np.tile(RGB, (20, 20, 1)))[1].tobytes()
    with pytest.raises(ValueError, match="truncated"):
        decode_color(compressed("jpeg", jpeg[:len(jpeg) // 2]))
