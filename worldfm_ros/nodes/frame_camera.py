"""The camera: for the pose that TF gives at each tick, publish what the generator paints.

At every tick (a whole multiple of 1 / rate on the node's clock) the camera asks for T_map_camera at exactly that stamp.
When TF knows it, the pose goes to one worker thread that paints and publishes. A stamp whose pose cannot be known gets
no image; /diagnostics counts why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
import math
import time
import traceback
from typing import NoReturn

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.conversions import ImageMessage, camera_info, make_header
from worldfm_ros.nodes.health import Health
from worldfm_ros.nodes.parameters import declare_parameters, describe
from worldfm_ros.nodes.runner import leave, run
from worldfm_ros.nodes.tf_buffer import TransformBuffer, TransformError, TransformListener
from worldfm_ros.nodes.tf_history import seconds
from worldfm_ros.nodes.ticks import TickSchedule, tick_period
from worldfm_ros.nodes.worker import NewestWorker

ADVICE = {
    "unknown_frame": "Does the robot run, and are the parameters map_frame and camera_frame frames of its TF tree?",
    "not_connected": "A link of the TF tree is missing, often map -> odom or the static mount of the camera.",
    "extrapolation_future": "TF comes late or not at all: does its publisher run, on this clock (use_sim_time)? "
                            "If it is only slow, raise tf_timeout.",
    "gap": "TF stopped for a while, or its publisher is slower than 1 Hz.",
    "extrapolation_past": "This camera's clock is behind TF's: do both have the same use_sim_time?",
    "invalid_transform": "Correct the publisher of that transform.",
    "outdated_transform": "That publisher's clock is behind: does it have the same use_sim_time as the others?",
    "transform_loop": "Two publishers disagree about which of the frames is the parent.",
    "time_jump": "The TF history starts again; this is expected when a simulation is reset.",
}


@dataclass(frozen=True)
class CameraParameters:
    world: str = describe("", "world folder to show")
    model: str = describe("worldfm-tiny", "frame model: a model's name or folder, or anchors = no network")
    width: int = describe(320, "image width in pixels", 1, 8192)
    height: int = describe(240, "image height in pixels", 1, 8192)
    hfov: float = describe(70.0, "horizontal field of view in degrees", 1.0, 179.0)
    rate: float = describe(10.0, "images per second", 0.01, 1000.0)
    preset: str = describe("exact", "exact, or fast: a network's picture may change for speed (docs/frame_model.md)")
    seed: int = describe(0, "seed of the frame model", 0)
    map_frame: str = describe("", "TF frame of the world's coordinates; empty = the one that world.yaml names")
    camera_frame: str = describe("camera_optical_frame", "TF frame of the camera, optical axes; frame_id of the images")
    tf_timeout: float = describe(0.5, "seconds to wait for the TF of a stamp before its image is dropped", 0.0, 60.0)
    always_on: bool = describe(False, "paint even when nobody subscribes")


class CameraOutputs:
    """The camera's topics. Everything painted for one stamp goes out with one header, and no info without its image."""

    def __init__(self, node: Node, intrinsics: Intrinsics) -> None:
        def publisher(kind, topic):
            # reliable matches every kind of subscriber, and best effort loses whole images above 512 KB on one host;
            # one profile for each topic, because rclpy writes the overrides into it
            qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
            overridable = QoSOverridingOptions.with_default_policies()
            try:
                return node.create_publisher(kind, topic, qos, qos_overriding_options=overridable)
            except RuntimeError as error:
                raise ValueError(f"the publisher of {topic} cannot be made: {error}") from None

        size = intrinsics.width, intrinsics.height
        self._intrinsics = intrinsics
        # mono16, not 16UC1: every viewer shows it, and nothing mistakes the labels for millimetres of depth
        self._images = {
            "rgb": (publisher(Image, "image_raw"), ImageMessage(*size, "rgb8")),
            "depth": (publisher(Image, "depth/image_rect"), ImageMessage(*size, "32FC1")),
            "labels": (publisher(Image, "segmentation/image_raw"), ImageMessage(*size, "mono16")),
        }
        self._infos = [publisher(CameraInfo, "camera_info"), publisher(CameraInfo, "depth/camera_info")]

    def wanted(self) -> bool:
        """Whether anybody subscribes to any of the topics."""
        publishers = [*self._infos, *(publisher for publisher, _ in self._images.values())]
        return any(publisher.get_subscription_count() for publisher in publishers)

    def publish(self, frame, header: Header) -> None:
        """`frame`: a generator's Frame. Its depth 0 = none becomes NaN (REP-118)."""
        depth = np.where(frame.depth > 0, frame.depth, np.float32(np.nan))
        pixels = {"rgb": frame.rgb, "depth": depth, "labels": frame.labels}
        images = [(publisher, message.filled(pixels[name], header))
                  for name, (publisher, message) in self._images.items()]
        info = camera_info(self._intrinsics, header)
        for publisher, message in [*images, *((publisher, info) for publisher in self._infos)]:
            publisher.publish(message)


class FrameCamera(Node):
    """The node. Raises ValueError or OSError for a world, model or parameter that it cannot work with."""

    def __init__(self, generator=None, **node_options) -> None:
        """`generator`: anything with generate(T_map_camera, intrinsics) -> Frame and a world with a frame_id; by
        default the parameters' world and model."""
        super().__init__("frame_camera", **node_options)
        self.settings = settings = declare_parameters(self, CameraParameters)
        self._intrinsics = Intrinsics.from_hfov(settings.width, settings.height, math.radians(settings.hfov))
        self._worker = NewestWorker(self._paint, together=0.5 / settings.rate,
                                    prepare=lambda: generator or _load_generator(settings, self._intrinsics))
        self._generator = self._worker.prepared
        self._map_frame = settings.map_frame or self._generator.world.frame_id
        self._outputs = CameraOutputs(self, self._intrinsics)
        self._ticks = TickSchedule(tick_period(settings.rate))
        # Last, because a camera that subscribes to /tf is taken to be ready.
        self._listener = TransformListener(self, TransformBuffer(), self._on_jump)
        self._health = Health(self, self._listener.refused)
        self._timer = self.create_timer(1.0 / settings.rate, self._tick)

    def close(self) -> None:
        self._worker.close()

    def _tick(self) -> None:
        now = self.get_clock().now().nanoseconds
        stamps = self._ticks.due(now)
        settings = self.settings
        if settings.always_on or self._outputs.wanted():
            for stamp in stamps:
                self._listener.request(self._map_frame, settings.camera_frame, stamp, settings.tf_timeout,
                                       partial(self._on_pose, stamp))
        self._timer.timer_period_ns = self._ticks.wait(now)
        self._timer.reset()

    def _on_jump(self) -> None:
        for stamp, _ in self._worker.clear():  # published now, they would come from the future
            self._health.dropped("time_jump", f"no image for time {seconds(stamp)}: time went back before it was "
                                 f"painted. {ADVICE['time_jump']}")

    def _on_pose(self, stamp: int, outcome: Pose | TransformError) -> None:
        if isinstance(outcome, TransformError):
            text = f"no image for time {seconds(stamp)}: {outcome}. {ADVICE[outcome.reason]}"
            self._health.dropped(outcome.reason, text)
        else:
            self._health.overrun(self._worker.offer((stamp, outcome)))

    def _paint(self, tick: tuple[int, Pose]) -> None:
        stamp, T_map_camera = tick
        failed = f"no image for time {seconds(stamp)}: the generator failed"
        try:
            started = time.perf_counter()
            frame = self._generator.generate(T_map_camera, self._intrinsics)
            self._health.generated(time.perf_counter() - started)
            self._worker.deliver(lambda: self._publish(frame, stamp, T_map_camera))
        except ValueError as error:  # a pose that cannot be shown, such as one at 1e300 m
            self._health.dropped("generate_failed", f"{failed} at {T_map_camera.translation}: {error}")
        except Exception:  # whatever a model may raise: this image is lost, the next one may be well
            self._health.dropped("generate_failed", f"{failed}\n{traceback.format_exc()}")

    def _publish(self, frame, stamp: int, T_map_camera: Pose) -> None:
        if not frame.coverage.any():
            self._health.nothing_seen(f"the camera at {np.round(T_map_camera.translation, 3)} in frame "
                                      f"{self._map_frame!r} sees nothing of the world. Is the robot inside it?")
        self._outputs.publish(frame, make_header(stamp, self.settings.camera_frame))
        self._health.published()


def _load_generator(settings: CameraParameters, intrinsics: Intrinsics):
    if not settings.world:
        raise ValueError("the parameter world is empty; give a world folder, as `worldfm world build` makes it")
    # Imported here, because compiled code takes seconds to load and Ctrl-C must be heard meanwhile.
    from worldfm_ros.generator import load_generator
    from worldfm_ros.world.storage import read_world

    world = read_world(settings.world)
    generator = load_generator(world, settings.model, settings.seed, settings.preset)
    poses = [keyframe.T_world_camera for keyframe in world.keyframes] or [Pose.identity()]
    generator.generate(poses[0], intrinsics)  # the first image compiles; ticks must not pile up behind it
    return generator


def main(args=None) -> NoReturn:
    leave(run(FrameCamera, args))


if __name__ == "__main__":
    main()
