"""The camera: for the pose that TF gives at each tick, publish what the generator paints.

At every tick (a whole multiple of 1 / rate on the node's clock) the camera asks for T_map_camera at exactly that stamp.
When TF knows it, the pose goes to one worker thread that paints and publishes. A stamp whose pose cannot be known gets
no image; /diagnostics counts why. In lockstep the simulator's steps give the ticks, and it waits for their frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import math
import time
import traceback
from typing import NoReturn

import numpy as np
from rclpy.node import Node

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.accounts import FrameAccounts
from worldfm_ros.nodes.camera_outputs import CameraOutputs
from worldfm_ros.nodes.conversions import make_header
from worldfm_ros.nodes.health import ADVICE, Health
from worldfm_ros.nodes.parameters import declare_parameters, describe
from worldfm_ros.nodes.runner import leave, run
from worldfm_ros.nodes.stepped_camera import SteppedCamera
from worldfm_ros.nodes.tf_buffer import TransformBuffer, TransformError, TransformListener
from worldfm_ros.nodes.tf_history import ExtrapolationFuture, seconds
from worldfm_ros.nodes.ticks import TickSchedule, tick_period
from worldfm_ros.nodes.worker import NewestWorker

WARM_UP = 4  # pictures before the drive
SLOW = 1.0  # seconds; one picture of a slower model tells enough


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
    lockstep: bool = describe(False, "paint what the simulator's steps ask for, and answer them; none is lost")


class FrameCamera(Node):
    """The node. Raises ValueError or OSError for a world, model or parameter that it cannot work with."""

    def __init__(self, generator=None, **node_options) -> None:
        """`generator`: anything with generate(T_map_camera, intrinsics) -> Frame and a world with a frame_id; by
        default the parameters' world and model."""
        super().__init__("frame_camera", **node_options)
        self.settings = settings = declare_parameters(self, CameraParameters)
        self._intrinsics = Intrinsics.from_hfov(settings.width, settings.height, math.radians(settings.hfov))
        # in lockstep all that waits belongs together: the simulator waits for it
        self._worker = NewestWorker(self._paint, together=math.inf if settings.lockstep else 0.5 / settings.rate,
                                    prepare=lambda: generator or _load_generator(settings, self._intrinsics, self._say))
        self._generator = self._worker.prepared
        self._map_frame = settings.map_frame or self._generator.world.frame_id
        self._outputs = CameraOutputs(self, self._intrinsics)
        self._ticks = TickSchedule(tick_period(settings.rate))
        self._begun = False  # whether TF has been known for a tick
        # Last, because a camera that subscribes to /tf is taken to be ready.
        self._listener = TransformListener(self, TransformBuffer(), self._on_jump)
        self._health = Health(self, self._listener.refused, FrameAccounts(self._outputs.topics))
        self._steps = None
        if settings.lockstep:
            self._steps = SteppedCamera(self, self._outputs, self._health, self._listener, self._request)
        else:
            self._timer = self.create_timer(1.0 / settings.rate, self._tick)

    def close(self) -> None:
        """Stop painting, and tell the final accounts."""
        self._worker.close()
        if not self._begun or not self.count_publishers(self.resolve_topic_name("/tf")):
            for _ in self._listener.waiting():
                self._health.after()
        if self._steps:
            self._steps.leave()
        self._health.close()

    def _say(self, text: str, is_bad: bool) -> None:
        (self.get_logger().warning if is_bad else self.get_logger().info)(text)

    def _tick(self) -> None:
        now = self.get_clock().now().nanoseconds
        stamps = self._ticks.due(now)
        if self.settings.always_on or self._outputs.wanted():
            for stamp in stamps:
                self._request(stamp, self.settings.tf_timeout)
        self._timer.timer_period_ns = self._ticks.wait(now)
        self._timer.reset()

    def _request(self, stamp: int, timeout: float) -> None:
        """Ask for the pose of a tick, and paint it when it is known."""
        self._health.accounts.tick()
        self._listener.request(self._map_frame, self.settings.camera_frame, stamp, timeout,
                               partial(self._on_pose, stamp))

    def _on_jump(self) -> None:
        for stamp, _ in self._worker.clear():  # published now, they would come from the future
            self._drop(stamp, "time_jump", f"no image for time {seconds(stamp)}: time went back before it was "
                                           f"painted. {ADVICE['time_jump']}")

    def _on_pose(self, stamp: int, outcome: Pose | TransformError) -> None:
        if not isinstance(outcome, TransformError):
            if not self._begun:
                self._begun = True
                self._health.begun()
            self._health.overrun(self._worker.offer((stamp, outcome)))
            return
        text = f"no image for time {seconds(stamp)}: {outcome}. {ADVICE[outcome.reason]}"
        if self._steps:
            self._drop(stamp, outcome.reason, text)
        elif not self._begun:
            self._health.waits(outcome.reason, text)
        elif isinstance(outcome, ExtrapolationFuture) and not self.count_publishers(self.resolve_topic_name("/tf")):
            self._health.after()
        else:
            self._drop(stamp, outcome.reason, text)

    def _drop(self, stamp: int, reason: str, text: str) -> None:
        self._health.dropped(reason, text)
        if self._steps:
            self._steps.finish(stamp)

    def _paint(self, tick: tuple[int, Pose]) -> None:
        stamp, T_map_camera = tick
        failed = f"no image for time {seconds(stamp)}: the generator failed"
        try:
            started = time.perf_counter()
            frame = self._generator.generate(T_map_camera, self._intrinsics)
            self._health.generated(time.perf_counter() - started)
            self._worker.deliver(lambda: self._publish(frame, stamp, T_map_camera))
        except ValueError as error:  # a pose that cannot be shown, such as one at 1e300 m
            self._drop(stamp, "generate_failed", f"{failed} at {T_map_camera.translation}: {error}")
        except Exception:  # whatever a model may raise: this image is lost, the next one may be well
            self._drop(stamp, "generate_failed", f"{failed}\n{traceback.format_exc()}")

    def _publish(self, frame, stamp: int, T_map_camera: Pose) -> None:
        if not frame.coverage.any():
            self._health.nothing_seen(f"the camera at {np.round(T_map_camera.translation, 3)} in frame "
                                      f"{self._map_frame!r} sees nothing of the world. Is the robot inside it?")
        header = make_header(stamp, self.settings.camera_frame)
        self._outputs.publish(frame, header)
        self._health.published(stamp)
        if self._steps:
            self._steps.keep(frame, header)
            self._steps.finish(stamp)


def _load_generator(settings: CameraParameters, intrinsics: Intrinsics, say: Callable[[str, bool], None]):
    """The generator. Tells `say(text, is_bad)` how fast it is here."""
    if not settings.world:
        raise ValueError("the parameter world is empty; give a world folder, as `worldfm world build` makes it")
    # Imported here, because compiled code takes seconds to load and Ctrl-C must be heard meanwhile.
    from worldfm_ros.generator import load_generator
    from worldfm_ros.world.storage import read_world

    world = read_world(settings.world)
    generator = load_generator(world, settings.model, settings.seed, settings.preset)
    poses = [keyframe.T_world_camera for keyframe in world.keyframes] or [Pose.identity()]
    duration = _warm_up(lambda i: generator.generate(poses[i % len(poses)], intrinsics))
    say(*speed_line(duration, settings.rate, settings.lockstep))
    return generator


def _warm_up(paint: Callable[[int], object]) -> float:
    """Seconds that a picture takes. The first compiles; ticks must not pile up behind it, and it is no measure."""
    before = 0.0
    for i in range(WARM_UP):
        started = time.perf_counter()
        paint(i)
        duration = time.perf_counter() - started
        if i and duration > SLOW and duration > 0.5 * before:  # else what took so long was compiling
            break
        before = duration
    return duration


def speed_line(duration: float, rate: float, lockstep: bool) -> tuple[str, bool]:
    """What a model that takes `duration` seconds a frame means for `rate` Hz, and whether frames will be lost."""
    text = f"this model takes {1e3 * duration:.0f} ms a frame here: "
    possible = 1.0 / duration
    if possible >= rate:
        return f"{text}enough for the {rate:g} Hz asked", False
    if lockstep:
        return f"{text}lockstep slows the simulation to about {possible / rate:.2g} of real time and loses none", False
    return f"{text}about {possible:.2g} of the {rate:g} Hz asked; lockstep:=true loses none", True


def main(args=None) -> NoReturn:
    leave(run(FrameCamera, args))


if __name__ == "__main__":
    main()
