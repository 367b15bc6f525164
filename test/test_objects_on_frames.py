"""A person on a TF frame who crosses the view of a camera; over real DDS."""

from itertools import count
import math

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from rclpy.parameter import Parameter
from scenes import room_world
from sensor_msgs.msg import Image
from test_camera_modes import bench  # noqa: F401
from test_frame_camera import ROOM_CAMERA, still
from test_objects import cast, intersection_over_union

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.conversions import SECOND, stamp_to_ns, to_transform_stamped
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.objects import GAIT
from worldfm_ros.objects.objects import load_objects
from worldfm_ros.objects.route import State
from worldfm_ros.world.storage import read_world, write_world

WIDTH, HEIGHT = 160, 120
SPEED = 1.2  # m/s
FROM, TO = -1.5, 2.1  # metres along x, both out of sight
PERSON = "objects: [{name: anna, shape: person, label: person, id: 7, frame: anna/base_link}]"
TOPICS = "image_raw", "depth/image_rect", "segmentation/image_raw", "instances/image_raw"
PERIOD = SECOND // 5  # of the images


def pixels(message) -> np.ndarray:
    """(H, W) of a mono16 image."""
    return np.frombuffer(message.data, np.uint16).reshape(message.height, message.width)


def is_near(mesh, T_world_camera: Pose, intrinsics: Intrinsics) -> bool:
    """Whether a part of it is in the picture, or beside it by less than 3 pixels."""
    vertices = T_world_camera.inverse().apply(mesh.vertices)
    column, row = intrinsics.project(vertices[vertices[:, 2] > 0.05]).T
    return bool(((column > -3) & (column < WIDTH + 2) & (row > -3) & (row < HEIGHT + 2)).any())


class Walk:
    """The person's way, a function of the stamp: out of sight, across the view, and out of sight again."""

    def __init__(self, started: int) -> None:
        self.started = started
        self.end = started + round((TO - FROM) / SPEED * SECOND)

    def pose(self, stamp: int) -> Pose:
        x = FROM + SPEED * (stamp - self.started) / SECOND
        return Pose.planar(min(max(x, FROM), TO), 1.0, 0.0)

    def state(self, stamp: int) -> State:
        goes = self.started < stamp <= self.end
        return State(self.pose(stamp), GAIT * (stamp % (3600 * SECOND)) / SECOND, SPEED if goes else 0.0)


def start(ros, bench, name, **parameters) -> dict[str, dict]:  # noqa: F811
    """A camera `name`; its images by topic and stamp."""
    overrides = {"model": "anchors", "width": WIDTH, "height": HEIGHT, "rate": 1 / (PERIOD / SECOND),
                 "tf_timeout": 60.0, "mode": "tf"} | parameters
    camera = ros.spin(FrameCamera(namespace=name, parameter_overrides=[
        Parameter(key, value=value) for key, value in overrides.items()]))
    got = {topic: {} for topic in TOPICS}
    for topic in TOPICS:
        bench.create_subscription(Image, f"/{name}/{topic}", lambda message, mine=got[topic]: mine.update({
            stamp_to_ns(message.header.stamp): message}), 10)
    publisher = camera.session.outputs.publisher
    ros.wait_for(lambda: all(publisher(topic).get_subscription_count() for topic in TOPICS), "the subscriptions")
    return got


def test_its_mask_is_exact_and_it_leaves_nothing_behind(ros, bench, tmp_path):  # noqa: F811
    world = str(tmp_path / "room")
    write_world(room_world(24, voxel=0.05), world)
    (tmp_path / "objects.yaml").write_text(PERSON)
    cameras = [start(ros, bench, name, world=world, objects=objects)
               for name, objects in (("with", str(tmp_path / "objects.yaml")), ("without", ""))]
    ros.wait_for(lambda: bench.tf.get_subscription_count() == 2, "discovery")
    walk = Walk(1000 * SECOND)

    def publish(stamp: int) -> None:
        bench.publish([*still(stamp), to_transform_stamped(walk.pose(stamp), "map", "anna/base_link", stamp)])

    stamps = count(10 * SECOND, PERIOD)  # until all of the bench's TF is heard
    images = [each for got in cameras for each in got.values()]
    ros.wait_for(lambda: [publish(next(stamps)), ros.pause(0.1), all(images)][-1], "the first images", 120.0)
    for stamp in range(walk.started - SECOND, walk.end + SECOND, PERIOD // 2):
        publish(stamp)
        if stamp % PERIOD == 0:
            ros.wait_for(lambda stamp=stamp: all(stamp in each for each in images),
                         f"the images of {stamp}", 120.0)
    alone = cameras[1]
    objects = load_objects(str(tmp_path / "objects.yaml"), read_world(world))
    camera, intrinsics = Pose.planar(0, 0, 1.0) @ ROOM_CAMERA, Intrinsics.from_hfov(WIDTH, HEIGHT, math.radians(70))
    overlaps, untouched = [], []
    for stamp in range(walk.started - SECOND, walk.end + SECOND, PERIOD):
        shown = {topic: got[stamp] for topic, got in cameras[0].items()}
        mask = pixels(shown["segmentation/image_raw"]) == objects.labels["person"]
        assert np.array_equal(mask, pixels(shown["instances/image_raw"]) == 7)
        placed, = objects.at(stamp, {"anna/base_link": walk.state(stamp)}.get)
        exact = np.isfinite(cast(placed.mesh, camera, intrinsics))
        if exact.sum() > 100 and stamp > walk.started + SECOND // 2:  # its speed is known 0.2 s after it has begun
            overlaps.append(intersection_over_union(mask, exact))
        same = [shown[topic].data == alone[topic][stamp].data for topic in TOPICS]
        assert all(same) or is_near(placed.mesh, camera, intrinsics)
        untouched += [stamp] if all(same) else []
    assert len(overlaps) > 5 and min(overlaps) >= 0.95, overlaps
    assert untouched[0] <= walk.started and sum(stamp > walk.end for stamp in untouched) > 3
