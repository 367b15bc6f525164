"""Rigs: their file, their mounts, and several cameras in one process with one model."""

import math

import numpy as np
import pytest

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.arguments import parse_arguments
from worldfm_ros.nodes.camera_graphs import CameraArguments, RigArguments, camera_graph, rig_graph
from worldfm_ros.nodes.graph import simulation_graph
from worldfm_ros.nodes.mounts import link_frame, mount_transforms, parse_mount
from worldfm_ros.nodes.rig import read_rig
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World, write_world

RIG = """
all: {width: 160, height: 120}
cameras:
  front: {mount: 0.2 0 0.4 0 0 0}
  left: {mount: [0, 0.15, 0.4, 0, 0, 1.57], hfov: 90, parent_frame: top}
"""


@pytest.fixture
def rig(tmp_path):
    (tmp_path / "rig.yaml").write_text(RIG)
    return tmp_path / "rig.yaml"


@pytest.fixture
def world(tmp_path):
    dot = AnchorMap.from_points(np.zeros((1, 3)), np.zeros((1, 3), np.uint8))
    write_world(World("dot", dot, [], 0.1), tmp_path / "w")
    return str(tmp_path / "w")


def test_a_rig_says_what_each_camera_does_otherwise(rig):
    front, left = read_rig(rig).values()
    assert front == {"camera_frame": "front_optical_frame", "parent_frame": "base_link", "width": 160, "height": 120,
                     "mount": "0.2 0 0.4 0 0 0"}
    assert (left["hfov"], left["parent_frame"], left["camera_frame"]) == (90.0, "top", "left_optical_frame")
    assert left["mount"] == "0 0.15 0.4 0 0 1.57"


@pytest.mark.parametrize("text, message", [
    ("cameras: {}", "a rig is cameras: {NAME"),
    ("cameras: [front]", "a rig is cameras: {NAME"),
    ("camera: {a: {}}\ncameras: {a: {}}", "there is no camera; a rig has all, cameras, stereo, surround"),
    ("cameras: {front/left: {}}", "a camera's name is letters.*'front/left'"),
    ("cameras: {a: {widht: 3}}", "rig.yaml: a: there is no parameter 'widht' of one camera"),
    ("cameras: {a: {lockstep: true}}", "there is no parameter 'lockstep' of one camera"),
    ("cameras: {a: {width: wide}}", "a: width is of the kind int, got 'wide'"),
    ("cameras: {a: {mount: 1 2 3}}", "a: a mount is six numbers"),
    ("cameras: {a: {mode: sometimes}}", "a: parameter mode is one of rate, tf, trigger"),
    ("cameras: {a: 3}", "a is a map of parameters, got 3"),
    ("cameras: {a: [", "cannot be read"),
])
def test_a_bad_rig_says_where_and_what(tmp_path, text, message):
    (tmp_path / "rig.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rig(tmp_path / "rig.yaml")
    with pytest.raises(ValueError, match="there is no rig file"):
        read_rig(tmp_path / "none.yaml")


def test_a_mount_is_urdfs():
    """Roll, pitch and yaw about the parent's axes, in this order: yaw turns the pitched camera's view."""
    T = parse_mount(f"1 2 3 0 {math.radians(30)} {math.pi / 2}")
    np.testing.assert_allclose(T.apply([1.0, 0, 0]), [1, 2 + math.cos(math.radians(30)), 3 - 0.5], atol=1e-12)
    (body, *first), (optical, *second) = mount_transforms("base_link", "0 0 1 0 0 0", "eye_optical_frame")
    assert (first, second) == (["base_link", "eye_link"], ["eye_link", "eye_optical_frame"])
    np.testing.assert_allclose((body @ optical).apply([0, 0, 1.0]), [1, 0, 1], atol=1e-12)
    assert link_frame("eye") == "eye_link" and isinstance(body, Pose)


def test_a_simulation_waits_for_records_and_shows_the_rigs_cameras(rig, world):
    words = [f"world:={world}", f"rig:={rig}", "record:=true", "bag:=b", "namespace:=head", "model:=anchors"]
    camera, recorder, viewer, robot = simulation_graph(*parse_arguments(words))
    assert (camera.executable, camera.namespace, camera.parameters["rig"]) == ("camera_rig", "head", str(rig))
    assert robot.parameters["wait_for"] == ["head/front/frame_camera", "head/left/frame_camera", "bag_recorder"]
    assert recorder.parameters["wait_for"] == ["head/front/frame_camera", "head/left/frame_camera", "demo_robot"]
    assert "head/left/depth/image_rect sensor_msgs/msg/Image" in recorder.parameters["topics"]
    assert viewer.parameters["image"] == "head/front/image_raw"


def test_the_camera_alone_has_its_mount_and_a_simulators_clock(world, tmp_path):
    arguments = CameraArguments(world=world, model="anchors", mount="0 0 0.4 0 0 0")
    node, = camera_graph(arguments, frozenset({"mount"}))
    assert (node.executable, node.namespace, node.respawns) == ("frame_camera", "camera", True)
    assert node.parameters["use_sim_time"] and node.parameters["parent_frame"] == "base_link"
    (tmp_path / "p.yaml").write_text("/**/frame_camera: {ros__parameters: {mount: '9 9 9 0 0 0', hfov: 100.0}}")
    arguments = CameraArguments(world=world, model="anchors", mount="0 0 0.4 0 0 0", params_file=f"{tmp_path}/p.yaml")
    node, = camera_graph(arguments, frozenset({"mount"}))
    assert (node.parameters["mount"], node.parameters["hfov"]) == ("0 0 0.4 0 0 0", 100.0), "what is typed wins"
    with pytest.raises(ValueError, match="a mount is six numbers"):
        CameraArguments(mount="high")


def test_a_rig_alone(rig, world):
    node, = rig_graph(RigArguments(world=world, model="anchors", rig=str(rig), rate=5.0), frozenset({"rate"}))
    assert (node.executable, node.namespace, node.has_own_names) == ("camera_rig", "", True)
    assert node.parameters["rig"] == str(rig) and node.parameters["rate"] == 5.0
    assert "mount" not in node.parameters and "camera_frame" not in node.parameters
    with pytest.raises(ValueError, match="no rig file /nowhere"):
        RigArguments(rig="/nowhere")


def test_the_cameras_of_a_process_share_a_model_and_have_names_of_their_own(ros, rig, tmp_path):
    pytest.importorskip("rclpy")
    pytest.importorskip("tf2_msgs")
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from scenes import room_world
    from sensor_msgs.msg import CameraInfo, Image
    from tf2_msgs.msg import TFMessage

    from worldfm_ros.nodes.camera_rig import CameraRig
    from worldfm_ros.nodes.conversions import pose_from_transform, stamp_to_ns, to_transform_stamped

    write_world(room_world(12), tmp_path / "room")
    bench = ros.spin(Node("bench"))
    images, infos, mounts = {"front": [], "left": []}, {"front": [], "left": []}, {}
    for name in images:
        bench.create_subscription(Image, f"/r2/{name}/image_raw", images[name].append, 10)
        bench.create_subscription(CameraInfo, f"/r2/{name}/camera_info", infos[name].append, 10)
    bench.create_subscription(TFMessage, "/tf_static", lambda message: mounts.update(
        {(t.header.frame_id, t.child_frame_id): pose_from_transform(t.transform) for t in message.transforms}),
        QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    parameters = {"rig": str(rig), "world": str(tmp_path / "room"), "model": "anchors", "tf_timeout": 5.0,
                  "frame_prefix": "r2/"}
    node = CameraRig(namespace="r2", parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()])
    for camera in node.cameras:
        ros.spin(camera)
    ros.spin(node)
    front, left = node.cameras
    assert front.session.generator is left.session.generator
    assert front.get_fully_qualified_name() == "/r2/front/frame_camera"
    ros.wait_for(lambda: len(mounts) == 4, "the mounts")
    T_top_left = mounts["r2/top", "r2/left_link"]
    np.testing.assert_allclose(T_top_left.apply([1.0, 0, 0]), [math.cos(1.57), 1.15, 0.4], atol=1e-3)
    tf = bench.create_publisher(TFMessage, "/tf", 10)

    def both():
        now = bench.get_clock().now().nanoseconds
        tf.publish(TFMessage(transforms=[to_transform_stamped(Pose.planar(0, 0, 0), "map", f"r2/{child}", now)
                                         for child in ("base_link", "top")]))
        stamps = [{stamp_to_ns(image.header.stamp) for image in images[name]} for name in images]
        return stamps[0] & stamps[1]

    ros.wait_for(both, "an image of each with one stamp", 60.0)
    assert images["left"][0].header.frame_id == "r2/left_optical_frame" and images["left"][0].width == 160
    assert infos["left"][0].k[0] == pytest.approx(80.0), "hfov 90 over 160 pixels"
    assert infos["front"][0].k[0] == pytest.approx(80 / math.tan(math.radians(35)))
