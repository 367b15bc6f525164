"""A sensor's RGB-D images become anchors of a running camera's map; over real DDS."""

from array import array
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from scenes import CAMERA, HIGH, LOW, color_of, room_world, see_room
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from test_camera_modes import bench, robot  # noqa: F401
from test_frame_camera import ROOM_CAMERA, T_BASE_CAMERA, still
from test_running_map import AHEAD, drawn, held, start
from tf2_msgs.msg import TFMessage

from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.conversions import ns_to_stamp, stamp_to_ns, to_transform_stamped
from worldfm_ros.nodes.encodings import compress_depth
from worldfm_ros.nodes.rgbd_topics import DEPTH, Pairs, topics_of
from worldfm_ros.sources.rgbd_camera import SLOP
from worldfm_ros.world.anchors import MEASURED, SCAN
from worldfm_ros.world.cut import cut
from worldfm_ros.world.insertion import InsertionSettings

COLOR, DEPTH_TOPIC, INFO = "/sensor/color/image_raw", "/sensor/depth/image_raw", "/sensor/color/camera_info"
T_BASE_SENSOR = T_BASE_CAMERA @ T_BODY_OPTICAL


@pytest.fixture(scope="module")
def room():
    return room_world(24, voxel=0.05)


class Sensor:
    """An RGB-D camera beside the robot's; `send` publishes what it sees, changed."""

    def __init__(self, bench, compressed: bool) -> None:  # noqa: F811
        self.bench, self.compressed = bench, compressed
        kind, ends = (CompressedImage, ("/compressed", "/compressedDepth")) if compressed else (Image, ("", ""))
        self.topics = {"insert_color_topic": COLOR + ends[0], "insert_depth_topic": DEPTH_TOPIC + ends[1]}
        self.color, self.depth = (bench.create_publisher(kind, topic, 10) for topic in self.topics.values())
        self.info = bench.create_publisher(CameraInfo, INFO, 10)
        bench.tf_static.publish(TFMessage(transforms=[
            to_transform_stamped(T_BASE_CAMERA, "base_link", "camera_link", 0),
            to_transform_stamped(T_BODY_OPTICAL, "camera_link", "camera_optical_frame", 0),
            to_transform_stamped(T_BASE_SENSOR, "base_link", "sensor_optical_frame", 0)]))

    def messages(self, depth_encoding="16UC1") -> SimpleNamespace:
        frame = see_room(Pose.planar(0, 0, 1.0) @ ROOM_CAMERA)
        z = frame.depth if depth_encoding == "32FC1" else np.rint(1000 * frame.depth).astype(np.uint16)
        header = {"frame_id": "sensor_optical_frame", "stamp": self.bench.get_clock().now().to_msg()}
        if self.compressed:
            color = CompressedImage(format="rgb8; png compressed bgr8",
                                    data=array("B", cv2.imencode(".png", frame.rgb[..., ::-1])[1].tobytes()))
            depth = CompressedImage(format=f"{depth_encoding}; compressedDepth png", data=array("B", compress_depth(z)))
        else:
            size = {"width": 80, "height": 60}
            color = Image(**size, encoding="rgb8", step=240, data=array("B", frame.rgb.tobytes()))
            depth = Image(**size, encoding=depth_encoding, step=80 * z.itemsize, data=array("B", z.tobytes()))
        info = CameraInfo(width=80, height=60, k=CAMERA.matrix.ravel().tolist(), distortion_model="plumb_bob",
                          d=[0.0] * 5)
        for message in (color, depth, info):
            message.header.frame_id, message.header.stamp = header["frame_id"], header["stamp"]
        return SimpleNamespace(color=color, depth=depth, info=info)

    def send(self, ros, camera, change=lambda messages: None, **options) -> None:
        """The info first, and when the camera has it the pictures."""
        messages = self.messages(**options)
        change(messages)
        self.info.publish(messages.info)
        ros.wait_for(lambda: camera.session._rgbd._info == messages.info, "the camera info")
        self.color.publish(messages.color)
        self.depth.publish(messages.depth)


def told(bench) -> dict[str, int]:  # noqa: F811
    return {key.removeprefix("rgbd."): int(value) for key, value in bench.status.items() if key.startswith("rgbd.")}


def begin(ros, bench, robot, tmp_path, room, sensor, **parameters):  # noqa: F811
    camera = start(ros, tmp_path, cut(room, AHEAD), **sensor.topics, **parameters)
    robot.make_tf = still
    robot.start()
    ros.wait_for(lambda: len(bench.got["depth/image_rect"]) > 3, "images")
    ros.wait_for(lambda: all(publisher.get_subscription_count() for publisher in (sensor.color, sensor.depth,
                                                                                sensor.info)), "the sensor's topics")
    return camera


@pytest.mark.parametrize(("compressed", "encoding"), [(False, "16UC1"), (False, "32FC1"), (True, "16UC1"),
                                                      (True, "32FC1")])
def test_what_a_sensor_sees_is_in_the_map_and_in_the_next_image(ros, bench, robot, room, tmp_path, compressed,  # noqa: F811
                                                                encoding):
    sensor = Sensor(bench, compressed)
    camera = begin(ros, bench, robot, tmp_path, room, sensor)
    before = drawn(bench)
    for _ in range(2):
        sensor.send(ros, camera, depth_encoding=encoding)
        ros.wait_for(lambda: told(bench).get("inserted"), "the insertion")
    ros.wait_for(lambda: drawn(bench) > max(0.9, before + 0.3), "an image that shows it")
    ros.wait_for(lambda: told(bench).get("same_place"), "the second image")
    world = camera.session.generator.world
    points, colors, frames, confidence = (np.concatenate([getattr(tile, name) for tile in world.anchors.tiles])
                                          for name in ("world_points", "colors", "frames", "confidence"))
    new = frames != SCAN
    assert (confidence == MEASURED).all() and told(bench)["inserted"] == 1 and told(bench)["anchors"] == new.sum() > 500
    assert set(frames[new]) == {world.keyframes[-1].id} and world.keyframes[-1].inserted
    off = np.minimum(np.abs(points[new] - LOW), np.abs(points[new] - HIGH)).min(1)
    assert off.max() < 0.02, "they lie on the room's surface"
    assert np.abs(colors[new].astype(int) - color_of(points[new])).max() <= 3


def set_data(message, values: np.ndarray) -> None:
    message.data = array("B", np.ascontiguousarray(values).tobytes())


def narrow(messages) -> None:
    messages.depth.height = 30
    messages.depth.data = messages.depth.data[:30 * messages.depth.step]


BAD = {
    "unknown_frame": lambda m: [setattr(part.header, "frame_id", "nowhere") for part in (m.color, m.depth)],
    "sizes_differ": narrow,
    "bad_depth": lambda m: setattr(m.depth, "encoding", "8UC1"),
    "no_depth": lambda m: set_data(m.depth, np.full((60, 80), np.nan, np.float32)),
    "bad_camera_info": lambda m: setattr(m.info, "k", [0.0] * 9),
    "bad_color": lambda m: setattr(m.color, "step", 7),
    "frames_differ": lambda m: setattr(m.depth.header, "frame_id", "other"),
}


def test_images_that_cannot_be_used_are_counted_by_reason(ros, bench, robot, room, tmp_path):  # noqa: F811
    sensor = Sensor(bench, compressed=False)
    camera = begin(ros, bench, robot, tmp_path, room, sensor)
    before = held(camera.session.generator.world)
    for reason, change in BAD.items():
        sensor.send(ros, camera, change, depth_encoding="32FC1")
        ros.wait_for(lambda reason=reason: camera.session._images.get(f"rgbd.{reason}"), reason)
    camera.session._rgbd._settings = InsertionSettings(max_anchors=1)
    sensor.send(ros, camera)
    ros.wait_for(lambda: told(bench) == dict.fromkeys([*BAD, "map_full"], 1), "the diagnostics")
    assert held(camera.session.generator.world) == before
    camera.session._rgbd._settings = InsertionSettings()
    sensor.send(ros, camera)
    ros.wait_for(lambda: told(bench).get("inserted") == 1, "a good one")
    for _ in range(2 * DEPTH):  # a busy machine may lose some
        sensor.color.publish(sensor.messages().color)
    ros.wait_for(lambda: told(bench).get("no_depth_at_its_time", 0) >= 1, "the first that will get no depth")


def stamped(milliseconds: int) -> SimpleNamespace:
    return SimpleNamespace(header=SimpleNamespace(stamp=ns_to_stamp(milliseconds * 1_000_000)))


def test_pictures_and_depth_of_the_same_time_are_brought_together():
    paired, alone = [], []

    def name(message) -> int:
        return stamp_to_ns(message.header.stamp) // 1_000_000

    pairs = Pairs(lambda color, depth: paired.append((name(color), name(depth))),
                  lambda color: alone.append(name(color)))
    for kind, stamp in [("color", 100), ("depth", 105), ("depth", 133), ("color", 135), ("color", 166), ("depth", 260),
                        ("color", 255), ("color", 300), ("color", 333), ("depth", 334)]:
        getattr(pairs, kind)(stamped(stamp))
    assert paired == [(100, 105), (135, 133), (255, 260), (333, 334)] and not alone
    for k in range(DEPTH + 3):
        pairs.color(stamped(1000 + 33 * k))
    assert alone == [166, 300, 1000, 1033, 1066], "no depth has come of their time"
    pairs.restart()
    pairs.depth(stamped(1000 + 33 * DEPTH))
    assert len(paired) == 4 and SLOP == 20_000_000


@pytest.mark.parametrize(("color", "info"), [
    ("/cam/color/image_raw", "/cam/color/camera_info"), ("/cam/image_rect/compressed", "/cam/camera_info"),
    ("image", "camera_info")])
def test_the_camera_info_is_beside_the_pictures(color, info):
    settings = CameraParameters(insert_color_topic=color, insert_depth_topic="depth")
    assert topics_of(settings).camera_info == info and topics_of(CameraParameters()) is None
    assert topics_of(replace(settings, insert_camera_info_topic="k")).camera_info == "k"


@pytest.mark.parametrize(("parameters", "words"), [
    ({"insert_color_topic": "a"}, "go together"), ({"insert_depth_topic": "a"}, "go together"),
    ({"insert_color_topic": "a", "insert_depth_topic": "b", "map_memory": 64}, "a map that grows is in memory"),
    ({"grow": True, "map_memory": 64}, "a map that grows is in memory"), ({"autosave": 1.0}, "autosave is for a map")])
def test_parameters_that_do_not_go_together_are_refused(parameters, words):
    with pytest.raises(ValueError, match=words):
        CameraParameters(**parameters)
