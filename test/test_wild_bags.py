"""Bags as people have them: bad transforms, gaps, clocks that go back, several robots, rectified topics, masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from boards import Picture
import numpy as np
import pytest
from scenes import CAMERA, see_room
from test_clip_sources import (
    COLOR,
    DEPTH,
    FRAMES,
    INFO,
    SECOND,
    STORE,
    assert_frames,
    bag_messages,
    camera_info,
    image,
    transform,
    write_bag,
)
import yaml

from worldfm_ros.bags.recovery import recover
from worldfm_ros.bags.writer import BagWriter
from worldfm_ros.geometry import Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.lens import Equidistant, PlumbBob
from worldfm_ros.sensor.sensor import Sensor
from worldfm_ros.sources.bag import BagFrames, Topics
from worldfm_ros.sources.conventions import Conventions, with_conventions
from worldfm_ros.sources.sources import FrameClips
from worldfm_ros.tf.buffer import TransformBuffer
from worldfm_ros.tf.history import TransformError

STAMPS = [SECOND + k * SECOND // 10 for k in range(len(FRAMES))]


def test_a_bad_transform_is_counted_and_passed_over(tmp_path):
    bad = transform(0, "base", "antenna", Pose.identity())
    bad.transforms[0].transform.rotation.w = 0.0
    frames = BagFrames(write_bag(tmp_path / "bag", [*bag_messages(), ("/tf_static", 9, bad)]))
    assert_frames(frames)
    assert frames.ignored == {"transforms of antenna: invalid_transform": 1}


def test_the_bag_knows_what_the_live_buffer_knows(tmp_path):
    known = [0, 1, 2, 3, 14, 15, 16]
    frames = BagFrames(write_bag(tmp_path / "bag", bag_messages(poses_of=known)))
    buffer, live = TransformBuffer(), []
    for k in known:
        pose = FRAMES[k].T_world_camera
        buffer.insert("map", "optical", STAMPS[k], pose.translation, pose.quaternion)
    for k, stamp in enumerate(STAMPS):
        try:
            buffer.lookup("map", "optical", stamp)
        except TransformError:
            continue
        live.append(k)
    assert_frames(frames, [FRAMES[k] for k in live])
    assert list(frames.skipped.values()) == [10] and "gap" in next(iter(frames.skipped))


def test_a_clock_that_goes_back_begins_another_sequence(tmp_path):
    once = sorted(bag_messages(), key=lambda message: message[1])
    again = [(topic, when + 100 * SECOND, message) for topic, when, message in once]
    frames = BagFrames(write_bag(tmp_path / "bag", [*once, *again]))
    assert frames.sequences == (0, len(FRAMES))
    assert_frames(frames, [*FRAMES, *FRAMES])
    clips = FrameClips(frames)
    assert [clips[k].frames[0].index for k in range(len(clips))] == [0, len(FRAMES)]


def test_fixed_transforms_alone_are_no_odometry(tmp_path):
    fixed = [message for message in bag_messages() if message[0] != "/tf"]
    with pytest.raises(ValueError, match="fixed transforms alone between base and optical"):
        BagFrames(write_bag(tmp_path / "bag", fixed))


def test_two_robots_are_not_one_tree(tmp_path):
    mine = [(f"/a{topic}" if topic.startswith("/tf") else topic, *rest) for topic, *rest in bag_messages()]
    other = [("/b/tf_static", 0, transform(0, "base", "optical", Pose.planar(0, 0.5, 1.0))),
             *(("/b/tf", s + 5, transform(s + 5, "map", "base", Pose.planar(9, 9, 0))) for s in STAMPS)]
    bag = write_bag(tmp_path / "bag", [*mine, *other])
    with pytest.raises(ValueError, match="/a/tf, /b/tf may be of several robots.*--tf-topic"):
        BagFrames(bag)
    assert_frames(BagFrames(bag, Topics(tf="/a/tf")))
    named = [(f"/a{topic}", *rest) for topic, *rest in bag_messages()]
    assert_frames(BagFrames(write_bag(tmp_path / "named", [*named, *other])))


def test_rectified_pictures_have_p_and_no_distortion(tmp_path):
    info = camera_info(k=CAMERA.matrix * [[1.1], [1.1], [1]], d=[0.2, -0.05, 0, 0, 0])
    info.p = np.column_stack([CAMERA.matrix, np.zeros(3)]).ravel()
    rect = "/cam/color/image_rect_color"
    messages = [(rect if topic == COLOR else topic, *rest) for topic, *rest in bag_messages(info=info)]
    assert_frames(BagFrames(write_bag(tmp_path / "rect", messages)))
    raw = BagFrames(write_bag(tmp_path / "raw", bag_messages(info=info)))
    assert raw.intrinsics.fx == pytest.approx(1.1 * CAMERA.fx) and raw.distortion.bends


@pytest.mark.parametrize("lens", [PlumbBob((-0.2, 0.05, 0.0, 0.0, 0.0)), Equidistant((0.01, -0.01, 0.0, 0.0))])
def test_raw_colour_with_rectified_depth(tmp_path, lens):
    """What a camera with a lens publishes, ours too: image_raw through the lens, depth/image_rect without it."""
    def generate(T, intrinsics):
        frame = see_room(T, intrinsics)
        return Picture(frame.rgb, frame.depth, frame.labels, frame.depth > 0)

    sensor = Sensor(Camera(CAMERA, lens))
    bent = iter([sensor.take(generate, [frame.T_world_camera], 0).frame.rgb for frame in FRAMES])
    info = camera_info(model=lens.model, d=lens.D)
    info.p = np.column_stack([CAMERA.matrix, np.zeros(3)]).ravel()
    messages = []
    for topic, when, message in bag_messages(info=info):
        if topic == COLOR:
            message = image(when - 50, next(bent), "rgb8")
        messages.append(("/cam/depth/image_rect" if topic == DEPTH else topic, when, message))
    read = BagFrames(write_bag(tmp_path / "bag", messages))
    assert read.distortion == lens and read.intrinsics == CAMERA
    for frame, expected in zip(read, FRAMES[:len(read)], strict=True):
        seen = frame.scene & (frame.depth > 0)
        assert seen.mean() > 0.6
        np.testing.assert_allclose(frame.depth, np.rint(expected.depth * 1000) / 1000, atol=1e-3)
        assert np.abs(frame.rgb[seen].astype(int) - expected.rgb[seen]).mean() < 2


def test_roles_are_read_off_the_pictures(tmp_path):
    names = {COLOR: "/camera/image_raw", INFO: "/camera/camera_info", DEPTH: "/camera/stereo/image_rect"}
    messages = [(names.get(topic, topic), *rest) for topic, *rest in bag_messages()]
    size = (CAMERA.height, CAMERA.width)
    beside = [("/camera/segmentation/image_raw", s, image(s, np.ones(size, np.uint16), "mono16")) for s in STAMPS]
    beside += [("/camera/confidence/image_raw", s, image(s, np.ones(size, np.uint8), "mono8")) for s in STAMPS]
    assert_frames(BagFrames(write_bag(tmp_path / "bag", [*messages, *beside])))


def test_full_scale_depth_is_none(tmp_path):
    def full():
        for topic, when, message in bag_messages():
            if topic == DEPTH:
                pixels = message.data.view(np.uint16).reshape(CAMERA.height, CAMERA.width).copy()
                pixels[:9] = 65535
                message = image(message.header.stamp.sec * SECOND + message.header.stamp.nanosec, pixels, "16UC1")
            yield topic, when, message

    expected = [replace(frame, depth=np.where(np.arange(CAMERA.height)[:, None] < 9, np.float32(0), frame.depth))
                for frame in FRAMES]
    assert_frames(BagFrames(write_bag(tmp_path / "bag", full())), expected)


def test_a_bag_is_opened_once_a_process(tmp_path, monkeypatch):
    from worldfm_ros.bags import reader

    opened, really = [], reader.open_bag
    monkeypatch.setattr(reader, "open_bag", lambda path: opened.append(path) or really(path))
    frames = BagFrames(write_bag(tmp_path / "bag", bag_messages()))
    assert len([frame.rgb for frame in frames]) == len(FRAMES) and len(opened) == 1


def record(path: Path, storage: str) -> Path:
    """The messages as our recorder writes them."""
    with BagWriter(path, storage) as bag:
        topics = {}
        for topic, recorded, message in sorted(bag_messages(), key=lambda message: message[1]):
            topics[topic] = topics.get(topic) or bag.add_topic(topic, message.__msgtype__)
            bag.write(topics[topic], recorded, STORE.serialize_cdr(message, message.__msgtype__))
    return path


def change_a_pixel(bag: Path) -> None:
    file = next(file for file in bag.iterdir() if file.suffix in (".mcap", ".db3"))
    data = bytearray(file.read_bytes())
    data[data.index(FRAMES[5].rgb.tobytes()[:64]) + 32] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_changed_pixel_of_our_own_bag_is_noticed(tmp_path, storage):
    frames = BagFrames(record(tmp_path / "bag", storage))
    assert_frames(frames)
    assert not frames.notes
    change_a_pixel(tmp_path / "bag")
    with pytest.raises(ValueError, match="worldfm bag recover"):
        BagFrames(tmp_path / "bag")
    recover(tmp_path / "bag", tmp_path / "new", lost := Counter())
    assert lost.total() == 1 and (storage == "mcap" or COLOR in next(iter(lost)))


def test_a_bag_in_which_damage_would_not_show_is_said_to_be_one(tmp_path):
    frames = BagFrames(write_bag(tmp_path / "bag", bag_messages()))
    assert any("has no checksums" in note for note in frames.notes)
    reread = with_conventions(frames, Conventions(poses="opengl"))
    assert reread.notes == frames.notes
    (record(tmp_path / "ours", "sqlite3") / "metadata.yaml").unlink()
    assert any("has no checksums" in note for note in BagFrames(tmp_path / "ours").notes)
    (record(tmp_path / "chunks", "mcap") / "metadata.yaml").unlink()
    assert not BagFrames(tmp_path / "chunks").notes, "an mcap file's chunks have theirs"


def test_messages_that_are_announced_and_not_there_are_said(tmp_path):
    bag = write_bag(tmp_path / "bag", bag_messages())
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    for topic in metadata["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic["message_count"] += topic["topic_metadata"]["name"] == COLOR
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    assert any(f"17 of 18 messages of {COLOR}" in note for note in BagFrames(bag).notes)
