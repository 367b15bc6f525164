"""The topics of a camera: all that is painted for one stamp goes out with one header; only what is read is made."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
import json
import sys

from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header, String

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.conversions import ImageMessage, camera_info, rectified_info, stamp_to_ns, to_pose
from worldfm_ros.nodes.encodings import (
    POINT,
    OrganisedPoints,
    compress_depth,
    encode_picture,
    metres,
    millimetres,
    pack_colours,
)
from worldfm_ros.nodes.qos import PacedPublisher, preset
from worldfm_ros.sensor.sensor import Sensor, Taken
from worldfm_ros.world.storage import World

MAP_POINTS = 500_000  # of the anchor map's cloud at most: 8 MB


@dataclass(frozen=True)
class OutputSettings:
    """depth_encoding: 32FC1 (metres) or 16UC1 (millimetres); compressed: jpeg or png; jpeg_quality: 1 to 100; qos: a
    preset, of all but what is latched.
    """

    depth_encoding: str = "32FC1"
    compressed: str = "jpeg"
    jpeg_quality: int = 90
    qos: str = "reliable"


@dataclass(frozen=True, eq=False)
class Shot:
    """What is published of one tick: what the sensor took, where the camera was, and the sensor then."""

    taken: Taken
    header: Header
    T_map_camera: Pose
    sensor: Sensor

    @property
    def frame(self):
        """The picture as it was taken, with its labels: before rectification."""
        return self.taken.frame

    @cached_property
    def rectified(self) -> np.ndarray:
        """The picture as image_proc rectifies it; it goes with the depth."""
        return self.frame.rgb if self.sensor.camera.is_pinhole else self.sensor.rectified(self.frame.rgb)


class CameraOutputs:
    """The camera's topics. What nobody subscribes to is not made, and there is no info without its image."""

    def __init__(self, node: Node, settings: OutputSettings, map_frame: str) -> None:
        self._settings, self._map_frame = settings, map_frame
        self._sensor: Sensor | None = None  # of the messages below
        makers = {  # mono16 labels, not 16UC1: every viewer shows it, and nothing mistakes them for millimetres
            "image_raw": (Image, self._image("rgb8", lambda shot: shot.frame.rgb)),
            "image_raw/compressed": (CompressedImage, self._compressed_image),
            "image_rect": (Image, self._image("rgb8", lambda shot: shot.rectified)),
            "depth/image_rect": (Image, self._image(settings.depth_encoding, self._depth)),
            "depth/image_rect/compressedDepth": (CompressedImage, self._compressed_depth),
            "depth/points": (PointCloud2, self._points),
            "segmentation/image_raw": (Image, self._image("mono16", lambda shot: shot.frame.labels)),
            "instances/image_raw": (Image, self._image("mono16", lambda shot: getattr(shot.frame, "instances", None))),
            "confidence/image_raw": (Image, self._image("mono8", lambda shot: getattr(shot.frame, "confidence", None))),
            "randomization": (String, self._randomization),
            "pose": (PoseStamped, self._pose),
            "camera_info": (CameraInfo, lambda shot: camera_info(shot.sensor.camera, shot.header)),
            "depth/camera_info": (CameraInfo, lambda shot: rectified_info(shot.sensor.camera, shot.header)),
        }
        self._outputs = [(PacedPublisher(node, kind, topic, settings.qos), make)
                         for topic, (kind, make) in makers.items()]
        # a confidence comes only of a model that has one, and so on, so that its absence is no loss
        self.topics = [each.publisher.topic_name for (each, _), topic in zip(self._outputs, makers, strict=True)
                       if topic not in ("confidence/image_raw", "randomization")]

    def publisher(self, topic: str):
        """The publisher of a topic by its relative name."""
        publishers = (each.publisher for each, _ in self._outputs)
        return next(each for each in publishers if each.topic_name.endswith(f"/{topic}"))

    def wanted(self) -> bool:
        """Whether anybody subscribes to any of the topics."""
        return any(self.subscribers())

    def subscribers(self) -> list[int]:
        """How many subscriptions each topic has."""
        return [each.publisher.get_subscription_count() for each, _ in self._outputs]

    def publish(self, shot: Shot) -> None:
        """Make and publish what is subscribed to. From one thread at a time: the messages serve all frames."""
        if self._sensor is not shot.sensor:
            self._sensor = shot.sensor
            self._messages: dict[Callable, ImageMessage] = {}  # by who fills them
            self._cloud: tuple[OrganisedPoints, PointCloud2] | None = None
        made = [(each, make(shot)) for each, make in self._outputs if each.publisher.get_subscription_count()]
        for each, message in made:
            if message is not None:
                each.publish(message)

    def _image(self, encoding: str, pixels: Callable[[Shot], np.ndarray | None]) -> Callable[[Shot], Image | None]:
        def make(shot: Shot) -> Image | None:
            values = pixels(shot)
            if values is None:
                return None
            if make not in self._messages:
                self._messages[make] = ImageMessage(values.shape[1], values.shape[0], encoding)
            return self._messages[make].filled(values, shot.header)

        return make

    def _depth(self, shot: Shot) -> np.ndarray:
        return (metres if self._settings.depth_encoding == "32FC1" else millimetres)(shot.taken.depth)

    def _compressed_image(self, shot: Shot) -> CompressedImage:
        kind = self._settings.compressed
        data = encode_picture(shot.frame.rgb, kind, self._settings.jpeg_quality)
        return CompressedImage(header=shot.header, format=f"rgb8; {kind} compressed bgr8", data=array("B", data))

    def _compressed_depth(self, shot: Shot) -> CompressedImage:
        data = compress_depth(self._depth(shot))
        kind = f"{self._settings.depth_encoding}; compressedDepth png"
        return CompressedImage(header=shot.header, format=kind, data=array("B", data))

    def _randomization(self, shot: Shot) -> String | None:
        if not shot.taken.values:
            return None
        stamp = stamp_to_ns(shot.header.stamp)
        return String(data=json.dumps({"stamp": stamp, "values": dict(shot.taken.values)}))

    def _points(self, shot: Shot) -> PointCloud2:
        if self._cloud is None:
            camera = shot.sensor.camera.rectified
            self._cloud = OrganisedPoints(camera), cloud_message(camera.width, camera.height)
        grid, message = self._cloud
        np.frombuffer(message.data, POINT)[:] = grid.fill(shot.taken.depth, shot.rectified).ravel()
        message.header = shot.header
        return message

    def _pose(self, shot: Shot) -> PoseStamped:
        return PoseStamped(header=Header(stamp=shot.header.stamp, frame_id=self._map_frame),
                           pose=to_pose(shot.T_map_camera))


def cloud_message(width: int, height: int) -> PointCloud2:
    """An empty coloured cloud, in encodings.POINT's layout."""
    kinds = {"x": PointField.FLOAT32, "y": PointField.FLOAT32, "z": PointField.FLOAT32, "rgb": PointField.FLOAT32}
    point_fields = [PointField(name=name, offset=POINT.fields[name][1], datatype=kind, count=1)
                    for name, kind in kinds.items()]
    step = width * POINT.itemsize
    return PointCloud2(width=width, height=height, fields=point_fields, point_step=POINT.itemsize, row_step=step,
                       is_bigendian=sys.byteorder == "big", is_dense=height == 1, data=array("B", bytes(step * height)))


class WorldOutputs:
    """What is told once of the world, latched: the names of the labels, and the anchors when somebody asks for them."""

    def __init__(self, node: Node, world: World, map_frame: str) -> None:
        self._map_frame = map_frame
        self._asked = False  # whether anybody has asked for the anchors
        self._names = label_publisher(node)
        # the cloud is made in the executor when the first subscription comes, and stays for all later ones
        self._cloud = node.create_publisher(PointCloud2, "anchor_map", preset("latched"),
                                            event_callbacks=PublisherEventCallbacks(matched=self._on_matched))

        self.tell(world)

    def tell(self, world: World) -> None:
        """Another world."""
        self.world = world
        self._names.publish(label_message(self._names.msg_type, world.label_names))
        if self._asked:
            self._cloud.publish(anchor_cloud(world, self._map_frame))

    def _on_matched(self, event) -> None:
        if event.current_count and not self._asked:
            self._asked = True
            self._cloud.publish(anchor_cloud(self.world, self._map_frame))


def anchor_cloud(world: World, map_frame: str) -> PointCloud2:
    """The anchors in the map's frame; of more than MAP_POINTS every n-th."""
    stride = max(1, -(-len(world.anchors) // MAP_POINTS))
    tiles = world.anchors.tiles
    points = np.concatenate([np.empty((0, 3)), *(tile.world_points for tile in tiles)])[::stride]
    colours = np.concatenate([np.empty((0, 3), np.uint8), *(tile.colors for tile in tiles)])[::stride]
    message = cloud_message(len(points), 1)
    message.header.frame_id = map_frame
    cloud = np.frombuffer(message.data, POINT)
    for i, axis in enumerate("xyz"):
        cloud[axis] = points[:, i]
    cloud["rgb"] = pack_colours(colours)
    return message


def label_publisher(node: Node):
    """Of the labels' names, latched: vision_msgs/LabelInfo where that is installed, else JSON in a String."""
    try:
        return node.create_publisher(import_module("vision_msgs.msg").LabelInfo, "segmentation/label_info",
                                     preset("latched"))
    except (ImportError, AttributeError):  # not installed, or a version before LabelInfo
        return node.create_publisher(String, "segmentation/labels", preset("latched"))


def label_message(kind: type, names: dict[int, str]):
    """The names by label, as a message of `label_publisher`'s kind."""
    if kind is String:
        return String(data=json.dumps({str(label): name for label, name in sorted(names.items())}))
    name_of = import_module("vision_msgs.msg").VisionClass
    return kind(class_map=[name_of(class_id=label, class_name=name) for label, name in sorted(names.items())])
