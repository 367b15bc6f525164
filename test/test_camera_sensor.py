"""The camera node behind a lens: its images are what image_geometry and image_proc compute from its CameraInfo."""

from __future__ import annotations

from boards import chessboard
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

import cv2
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.camera_motion import poses_about
from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.conversions import (
    SECOND,
    camera_info,
    make_header,
    rectified_info,
    stamp_to_ns,
    to_transform_stamped,
)
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.rig import read_rig
from worldfm_ros.sensor.camera import Camera, Roi
from worldfm_ros.sensor.camera_file import camera_info_yaml, write_yaml
from worldfm_ros.sensor.lens import Equidistant, PlumbBob
from worldfm_ros.tf.history import ExtrapolationPast
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World

BARREL = PlumbBob((-0.28, 0.09, 8e-4, -5e-4, -0.012))
SENSOR = Intrinsics(160, 120, 120.0, 121.0, 78.0, 61.0)
TOPICS = {"image_raw": Image, "image_rect": Image, "depth/image_rect": Image, "segmentation/image_raw": Image,
          "camera_info": CameraInfo, "depth/camera_info": CameraInfo}


class Board:
    """A generator that sees a chessboard from wherever it is."""

    world = World("stage", AnchorMap(), [], 0.1)

    def generate(self, T, intrinsics):
        return chessboard(Pose(Rotation.from_rotvec([0.2, 0.1, 0]), [-0.2, -0.12, 0.5]))(T, intrinsics)


def pixels(message) -> np.ndarray:
    dtype, channels = {"rgb8": (np.uint8, 3), "32FC1": (np.float32, 1), "mono16": (np.uint16, 1)}[message.encoding]
    return np.frombuffer(message.data, dtype).reshape((message.height, message.width, channels)).squeeze()


def first_of_each(ros, **parameters) -> dict:
    """The first message on each topic of a camera that looks along the map's z axis."""
    bench, got = ros.spin(Node("bench")), {}
    for topic, kind in TOPICS.items():
        bench.create_subscription(kind, f"/camera/{topic}", lambda m, t=topic: got.setdefault(t, []).append(m), 10)
    tf = bench.create_publisher(TFMessage, "/tf", 10)
    overrides = [Parameter(k, value=v) for k, v in ({"rate": 10.0, "tf_timeout": 5.0} | parameters).items()]
    ros.spin(FrameCamera(Board(), namespace="camera", parameter_overrides=overrides))

    def all_there():
        now = bench.get_clock().now().nanoseconds
        tf.publish(TFMessage(transforms=[to_transform_stamped(Pose.identity(), "map", "camera_optical_frame", now)]))
        return len(got) == len(TOPICS)

    ros.wait_for(all_there, "a message on each topic")
    stamp = max(stamp_to_ns(messages[0].header.stamp) for messages in got.values())
    found = {}

    def together():
        all_there()
        for topic, messages in got.items():
            found.update((topic, m) for m in messages if stamp_to_ns(m.header.stamp) == stamp)
        return len(found) == len(TOPICS)

    ros.wait_for(together, "all topics of one stamp")
    return found


def test_opencv_rectifies_the_raw_image_by_its_camera_info(ros, tmp_path):
    write_yaml(camera_info_yaml(Camera(SENSOR, BARREL)), tmp_path / "camera.yaml")  # NAME is the frame's
    got = first_of_each(ros, camera_info_url=f"file://{tmp_path}/${{NAME}}.yaml")
    info, depth_info = got["camera_info"], got["depth/camera_info"]
    assert (info.width, info.height, info.distortion_model, tuple(info.d)) == (160, 120, "plumb_bob", BARREL.D)
    assert not any(depth_info.d) and tuple(depth_info.k) == tuple(info.p[i] for i in (0, 1, 2, 4, 5, 6, 8, 9, 10))
    K, R, P = np.reshape(info.k, (3, 3)), np.reshape(info.r, (3, 3)), np.reshape(info.p, (3, 4))
    maps = cv2.initUndistortRectifyMap(K, np.array(info.d), R, P, (160, 120), cv2.CV_32FC1)  # as image_proc
    expected = cv2.remap(pixels(got["image_raw"]), *maps, cv2.INTER_LINEAR)
    assert np.abs(pixels(got["image_rect"]).astype(int) - expected).mean() < 0.5
    # depth and its info are a pinhole's, exactly
    plain = Board().generate(Pose.identity(), Intrinsics.from_matrix(160, 120, np.array(depth_info.k)))
    np.testing.assert_allclose(pixels(got["depth/image_rect"]), plain.depth, rtol=1e-5)
    assert pixels(got["segmentation/image_raw"]).shape == (120, 160)


def test_a_window_of_the_sensor_has_its_place_in_the_info(ros):
    got = first_of_each(ros, width=160, height=120, distortion_model="plumb_bob", distortion="-0.2 0.05 0 0 0",
                        binning_x=2, binning_y=2, roi="20 10 100 80", full_well=5000.0, vignette=0.3)
    info = got["camera_info"]
    assert (info.width, info.height, info.binning_x, info.binning_y) == (160, 120, 2, 2)
    roi = info.roi
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height, roi.do_rectify) == (20, 10, 100, 80, True)
    assert pixels(got["image_raw"]).shape == (40, 50, 3) and pixels(got["depth/image_rect"]).shape == (40, 50)


def test_infos_of_all_models():
    for lens, count in ((PlumbBob(), 5), (BARREL, 5), (Equidistant(), 4), (Equidistant((0.1, 0.0, 0.0, 0.0)), 4)):
        info = camera_info(Camera(SENSOR, lens, roi=Roi(0, 0, 80, 60)), make_header(5, "eye"))
        assert (info.distortion_model, len(info.d), info.header.frame_id) == (lens.model, count, "eye")
    right = Camera(SENSOR).stereo_right(0.1)
    assert camera_info(right, make_header(5, "eye")).p[3] == pytest.approx(-12.0)
    assert rectified_info(right, make_header(5, "eye")).p[3] == 0  # its depth is its own


@pytest.mark.parametrize(("values", "message"), [
    ({"camera": "a.yaml", "camera_info_url": "file:///a.yaml"}, "give one of them"),
    ({"camera_info_url": "http://a"}, "camera_info_url is"),
    ({"camera_info_url": "package://no_such_package_here/a.yaml"}, "no package"),
    ({"distortion_model": "brown", "distortion": "1 2"}, "distortion_model 'brown'"),
    ({"distortion_model": "plumb_bob", "distortion": "0.1 0.2"}, "4 or 5 coefficients, got 2"),
    ({"distortion": "a b"}, "parameter distortion is some numbers"),
    ({"roi": "1 2 3"}, "parameter roi is 4 numbers"), ({"roi": "300 0 100 100"}, "roi is a window"),
    ({"projection": "1 2 3"}, "parameter projection is 12 numbers"),
    ({"rectification": "1 1 1 1 1 1 1 1 1"}, "rectification R is a rotation"),
    ({"read_noise": 3.0}, "give full_well"),
    ({"binning_x": 64, "roi": "0 0 32 32"}, "leaves no pixel"),
])
def test_what_makes_no_camera_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        CameraParameters(**values).sensor  # noqa: B018


def test_the_file_and_the_parameters_are_one_camera(tmp_path):
    file = tmp_path / "front.yaml"
    write_yaml(camera_info_yaml(Camera(SENSOR, BARREL)) | {"sensor": {"vignette": 0.3, "full_well": 9000}}, file)
    sensor = CameraParameters(camera=str(file), full_well=4000.0, width=99).sensor
    assert (sensor.camera.sensor, sensor.camera.lens) == (SENSOR, BARREL)
    assert (sensor.settings.vignette, sensor.settings.full_well) == (0.3, 4000.0)
    assert CameraParameters(camera=str(file), full_well=4000.0, width=99).sensor is sensor
    with pytest.raises(ValueError, match="give one of the two"):
        CameraParameters(camera=str(file), distortion="1 2 3 4").sensor  # noqa: B018
    with pytest.raises(FileNotFoundError):
        CameraParameters(camera=str(tmp_path / "none.yaml")).sensor  # noqa: B018


def test_a_motion_needs_tf_of_the_past_alone():
    def lookup(stamp):
        assert stamp < 10 * SECOND
        return Pose(Rotation.identity(), [stamp / SECOND, 0, 0])

    poses = poses_about(lookup, 10 * SECOND, Pose(Rotation.identity(), [10, 0, 0]), [-0.02, -0.01, 0, 0.01, 0.02])
    np.testing.assert_allclose([pose.translation[0] for pose in poses], [9.98, 9.99, 10, 10.01, 10.02])

    def unknown(stamp):
        raise ExtrapolationPast("before all that is known")

    assert isinstance(poses_about(unknown, 10 * SECOND, Pose.identity(), [-0.01, 0, 0.01]), ExtrapolationPast)


def test_a_rigs_pairs_and_circles(tmp_path):
    write_yaml(camera_info_yaml(Camera(SENSOR, BARREL)), tmp_path / "cam.yaml")
    (tmp_path / "rig.yaml").write_text("""
cameras:
  left: {camera: cam.yaml, mount: 0.1 0.06 0.5 0 0 0}
  right: {camera: cam.yaml, mount: 0.1 -0.06 0.5 0 0.01 0}
stereo: [{left: left, right: right}]
surround: {name: ring, count: 4, radius: 0.2, height: 1.0, hfov: 90.0}
""")
    rig = read_rig(tmp_path / "rig.yaml")
    assert list(rig) == ["left", "right", "ring_0", "ring_1", "ring_2", "ring_3"]
    left, right = (CameraParameters(**rig[name]).sensor.camera for name in ("left", "right"))
    assert left.lens == BARREL and left.P[0, 3] == 0
    assert -right.P[0, 3] / right.P[0, 0] == pytest.approx(0.12)
    np.testing.assert_array_equal(left.P[:, :3], right.P[:, :3])
    assert not np.array_equal(right.R, np.eye(3))
    assert [float(n) for n in rig["ring_1"]["mount"].split()] == pytest.approx([0, 0.2, 1, 0, 0, np.pi / 2])
    assert rig["ring_1"]["hfov"] == 90.0 and rig["ring_1"]["camera_frame"] == "ring_1_optical_frame"


@pytest.mark.parametrize(("text", "message"), [
    ("cameras: {a: {}}\nstereo: {left: a}", "stereo is"), ("cameras: {a: {}}\nstereo: [{left: a}]", "stereo is"),
    ("cameras: {a: {}}\nstereo: [{left: a, right: b}]", "no camera 'b'"),
    ("cameras: {a: {}, b: {}}\nstereo: [{left: a, right: b}]", "are they exchanged"),
    ("cameras: {a: {}, b: {parent_frame: arm}}\nstereo: [{left: a, right: b}]", "the same parent_frame"),
    ("surround: {count: 1}", "2 to 32 cameras"), ("surround: {radius: wide}", "surround: could not convert"),
    ("surround: 4", "surround is"), ("cameras: {a: {camera: none.yaml}}", "a: .*none.yaml"),
    ("cameras: {a: {vignette: 4.0}}", "a: vignette"),
])
def test_a_bad_rig_is_refused(tmp_path, text, message):
    (tmp_path / "rig.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_rig(tmp_path / "rig.yaml")
    assert str(error.value).startswith(str(tmp_path / "rig.yaml"))
