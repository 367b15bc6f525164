"""viewer: the live page of a camera, http://localhost:8080: its pictures, its world in 3D, its figures, and a stick."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
import sys
import threading

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist, Vector3
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from worldfm_ros.drive.robot import MAX_SPEED, MAX_TURN
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.accounts import losses
from worldfm_ros.nodes.conversions import SECOND, stamp_to_ns
from worldfm_ros.nodes.health import ACCOUNTS, STAGES
from worldfm_ros.nodes.offered import Subscription
from worldfm_ros.nodes.parameters import declare_parameters, describe
from worldfm_ros.nodes.runner import run
from worldfm_ros.nodes.shown_images import colours_of, problem_with
from worldfm_ros.nodes.tf_buffer import TransformBuffer, TransformError, TransformListener
from worldfm_ros.page.pictures import STALE, Command, Stream
from worldfm_ros.page.scene import Scene, camera_facts
from worldfm_ros.page.server import PageServer, Site
from worldfm_ros.page.steering import Steering
from worldfm_ros.world.storage import read_manifest, read_world

TOPICS = {"depth": "depth/image_rect", "labels": "segmentation/image_raw", "confidence": "confidence/image_raw"}
PERIOD = 0.05  # seconds between two commands while somebody steers
EFFECT = SECOND // 50  # ns from a command to the first TF that shows it: a period of the demo robot
REMEMBERED = 256  # commands


@dataclass(frozen=True)
class ViewerParameters:
    port: int = describe(8080, "port of the page, or the next free one where it is taken; 0 takes any", minimum=0,
                         maximum=65535)
    host: str = describe("127.0.0.1", "address that the page is served on; 0.0.0.0 shows it to the whole network, "
                                      "which can then drive the robot, too")
    image: str = describe("camera/image_raw", "image topic: rgb8, bgr8 or mono8; the other topics of the camera lie "
                                              "beside it")
    world: str = describe("", "world folder, for the 3D view, the reference and the bare anchors; empty = without them")
    map_frame: str = describe("map", "frame that the pose is told in")
    camera_frame: str = describe("", "optical frame whose pose is told; empty = the frame of the image")
    base_frame: str = describe("base_link", "frame of the robot that is drawn")
    speed: float = describe(MAX_SPEED, "m/s of a stick that is pushed all the way", 0.0, 100.0)
    turn: float = describe(MAX_TURN, "rad/s of a stick that is pushed all the way", 0.0, 100.0)


class Viewer(Node):
    """Raises OSError when there is no free port, and ValueError for a world that cannot be read."""

    def __init__(self) -> None:
        super().__init__("viewer")
        self._parameters = declare_parameters(self, ViewerParameters)
        self._image: Image | None = None
        self._intrinsics: Intrinsics | None = None
        self._figures: dict = {}
        self._given: deque[tuple[int, Command]] = deque(maxlen=REMEMBERED)  # commands, and when they went out
        self._buffer = TransformBuffer()
        self._listener = TransformListener(self, self._buffer)
        self._topic = self.resolve_topic_name(self._parameters.image)
        self._camera = self._topic.rpartition("/")[0]
        self._loading, self._loaded = threading.Lock(), None
        if self._parameters.world:
            read_manifest(self._parameters.world)  # what is wrong with it is said now
        self._steering = Steering(self._steer)
        self._twists = self.create_publisher(Twist, "cmd_vel", 1)
        streams = {layer: Stream() for layer in ("rgb", *TOPICS)}
        streams |= {layer: Stream() for layer in ("reference", "anchors")} if self._parameters.world else {}
        site = Site(streams, self.status, self._packed, self._steering)
        self._server = PageServer(self._parameters.host, self._parameters.port, site)
        self._streams, self._taken = streams, {}
        Subscription(self, Image, self._topic, self._on_image, 5)
        Subscription(self, CameraInfo, f"{self._camera}/camera_info", self._on_info, 1)
        Subscription(self, DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a simulation that stands still must still be stopped
        self.create_timer(PERIOD, self._steer, clock=steady)
        self.create_timer(0.2, self._take_what_is_watched, clock=steady)
        self._say_where()

    def _say_where(self) -> None:
        logger = self.get_logger()
        for text in filter(None, (self._server.moved, self._server.warning)):
            logger.warning(text)
        logger.info(f"showing {self._topic} on {self._server.url}")

    def status(self) -> dict:
        """What the page shows beside the picture."""
        shared = {"topic": self._topic, "drives": self._twists.get_subscription_count() > 0, "flies": False,
                  "problem": "", **self._figures}
        image, (age, rate) = self._image, self._streams["rgb"].pace()
        if image is None:
            return shared | {"image": None}
        stamp, problem = stamp_to_ns(image.header.stamp), problem_with(image)
        camera, robot = None, None
        try:
            camera = camera_facts(self._pose(image), self._intrinsics)
            robot = self._robot(stamp)
        except TransformError as error:
            problem = problem or ("" if camera else str(error))
        size = {"width": image.width, "height": image.height, "encoding": image.encoding}
        return shared | {"image": size, "stamp": stamp / SECOND, "rate": rate, "age": age, "stale": age > STALE,
                         "camera": camera, "robot": robot, "problem": problem}

    def close(self) -> None:
        self._server.close()

    def _pose(self, image: Image) -> Pose:
        """T_map_camera when it was taken. Raises TransformError."""
        frame = self._parameters.camera_frame or image.header.frame_id
        return self._buffer.lookup(self._parameters.map_frame, frame, stamp_to_ns(image.header.stamp))

    def _robot(self, stamp: int) -> list[float]:
        """x, y, yaw and z of the robot on the floor."""
        pose = self._buffer.lookup(self._parameters.map_frame, self._parameters.base_frame, stamp)
        x, y, z = map(float, pose.translation)
        return [x, y, float(pose.rotation.as_euler("ZYX")[0]), z]

    def _scene(self) -> Scene:
        """The world, read when a browser asks for it for the first time."""
        with self._loading:
            self._loaded = self._loaded or Scene(read_world(self._parameters.world))
            return self._loaded

    def _packed(self) -> bytes:
        return self._scene().packed if self._parameters.world else b""

    def _on_image(self, image: Image) -> None:
        self._image = image
        stamp = stamp_to_ns(image.header.stamp)
        shows = next((command for given, command in reversed(self._given) if given + EFFECT <= stamp), None)
        self._streams["rgb"].put(partial(colours_of, image, "rgb"), stamp / SECOND, shows)
        for layer in {"reference", "anchors"} & self._streams.keys():
            self._streams[layer].put(partial(self._drawn, layer, image), stamp / SECOND, shows)

    def _drawn(self, layer: str, image: Image) -> np.ndarray | None:
        """What the world shows from where the image was taken; None while that is not known."""
        if self._intrinsics is None:
            return None
        try:
            pose = self._pose(image)
        except TransformError:
            return None
        scene = self._scene()
        return (scene.reference if layer == "reference" else scene.drawn)(pose, self._intrinsics)

    def _on_info(self, info: CameraInfo) -> None:
        self._intrinsics = Intrinsics.from_matrix(info.width, info.height, np.reshape(info.k, (3, 3)))

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        """The accounts of the camera that is shown."""
        for status in array.status:
            if status.name.startswith(f"{self._camera}/") and status.name.endswith(ACCOUNTS):
                values = {pair.key: pair.value for pair in status.values}
                counts = {name: int(text) for name, text in values.items() if text.isdecimal()}
                self._figures = {
                    "stages": {name: float(values.get(f"mean_{name}_ms", 0.0)) for name in STAGES},
                    "published": counts.get("published", 0), "lost": losses(counts)}

    def _take_what_is_watched(self) -> None:
        """Subscribe to the layers that somebody looks at, and to no others: the camera makes what is subscribed to."""
        for layer, topic in TOPICS.items():
            watched = self._streams[layer].watchers > 0
            if watched and layer not in self._taken:
                take = partial(self._on_layer, layer)
                self._taken[layer] = Subscription(self, Image, f"{self._camera}/{topic}", take, 1)
            elif not watched and layer in self._taken:
                self._taken.pop(layer).destroy()

    def _on_layer(self, layer: str, image: Image) -> None:
        self._streams[layer].put(partial(colours_of, image, layer), stamp_to_ns(image.header.stamp) / SECOND)

    def _steer(self) -> None:
        """Tell the robot what the stick says, from the first push until it is let go: zeros when nobody pushes."""
        if not self._steering.engaged:
            return
        stick, command = self._steering.now()
        if command:
            self._given.append((self.get_clock().now().nanoseconds, command))
        self._twists.publish(Twist(linear=Vector3(x=self._parameters.speed * stick.forward),
                                   angular=Vector3(z=self._parameters.turn * stick.yaw)))


def main(args=None) -> int:
    return run(Viewer, args)


if __name__ == "__main__":
    sys.exit(main())
