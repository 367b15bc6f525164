"""A configured camera: its world, model and topics, and the way of a tick from asking for its pose to its image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
import math
import os
import time
import traceback
from typing import Any

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.accounts import FrameAccounts
from worldfm_ros.nodes.belongings import Belongings
from worldfm_ros.nodes.camera_modes import AtPoses, AtRate, WhenAsked
from worldfm_ros.nodes.camera_motion import poses_about
from worldfm_ros.nodes.camera_outputs import CameraOutputs, OutputSettings, Shot, WorldOutputs
from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.conversions import make_header, to_transform_stamped
from worldfm_ros.nodes.health import ADVICE, Health
from worldfm_ros.nodes.hints import axes_hint, transforms_hint
from worldfm_ros.nodes.mounts import mount_transforms
from worldfm_ros.nodes.objects import States, Whereabouts, objects_of, prepare_at
from worldfm_ros.nodes.qos import loss_to_expect
from worldfm_ros.nodes.saving import Saving
from worldfm_ros.nodes.stepped_camera import SteppedCamera
from worldfm_ros.nodes.tf_buffer import TransformBuffer, TransformError, TransformListener
from worldfm_ros.nodes.tf_history import ExtrapolationFuture, seconds
from worldfm_ros.nodes.worker import NewestWorker, Paint, Publish, Threads
from worldfm_ros.sensor.sensor import Sensor, Taken
from worldfm_ros.world.storage import write_world

REMADE = ("world", "model", "preset", "seed", "objects", "grow", "map_memory")  # a change loads another generator
PATHS = ("world", "model", "camera", "camera_info_url", "objects", "randomize", "save_folder")

Done = Callable[[bool, str], None]  # whether the image was published, and what became of it


@dataclass(frozen=True, eq=False)
class Tick:
    """An image that is asked for. `asked` is when, in real seconds; `done` is told what became of it."""

    stamp: int
    asked: float = field(default_factory=time.perf_counter)
    done: Done = lambda published, text: None


class CameraSession:
    """Lives from configure to cleanup. Raises ValueError or OSError for what it cannot work with."""

    def __init__(self, node, settings: CameraParameters, load: Callable[[CameraParameters, bool], object],
                 threads: Threads | None) -> None:
        """`load(settings, again)`: the generator, `again` from its files; called in the thread that paints."""
        self._node, self.settings, self._load = node, settings, load
        self.sensor: Sensor = settings.sensor
        self._worker = NewestWorker(self._draw, _together(settings), lambda: load(settings, False), threads)
        self.map_frame = settings.map_frame or self.generator.world.frame_id
        self._begun = False  # whether TF has been known for a tick
        self.paused = False
        self._belongings, self._active = Belongings(node), Belongings(node)
        self.listener: TransformListener | None = None
        self.steps: SteppedCamera | None = None
        self._rgbd = None  # of a sensor whose images are inserted
        self._mode: AtRate | AtPoses | WhenAsked | None = None  # none in lockstep
        try:
            self._offer()
        except BaseException:
            self._belongings.destroy()
            self._worker.close()
            raise

    @property
    def generator(self):
        """What paints. The worker has the only one, so that the memory of one that it takes the place of is free."""
        return self._worker.loaded

    @property
    def intrinsics(self) -> Intrinsics:
        """Of the image as it is taken."""
        return self.sensor.camera.picture

    def _offer(self) -> None:
        """The topics."""
        settings, node = self.settings, self._belongings
        self.outputs = CameraOutputs(node, OutputSettings(settings.depth_encoding, settings.compressed,
                                                          settings.jpeg_quality, settings.qos), self.map_frame)
        self._world_outputs = WorldOutputs(node, self.generator.world, self.map_frame)
        if settings.parent_frame:
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            mount = mount_transforms(settings.parent_frame, settings.mount, settings.camera_frame)
            stamp = node.get_clock().now().nanoseconds
            node.create_publisher(TFMessage, "/tf_static", latched).publish(TFMessage(transforms=[
                to_transform_stamped(pose, parent, child, stamp) for pose, parent, child in mount]))
        self._refused: Counter[str] = Counter()
        self._saving = Saving(node, self)
        self._images: Counter[str] = Counter()  # a sensor's, by what became of them
        self.health = Health(node, self._refused, FrameAccounts(self.outputs.topics), self._images)
        doubts = [*settings.doubts(), loss_to_expect(settings.qos, 3 * settings.width * settings.height, os.environ)]
        for doubt in filter(None, doubts):
            node.get_logger().warning(doubt)

    def activate(self) -> None:
        """Begin to take images."""
        settings, node = self.settings, self._active
        # Last, because a camera that subscribes to /tf is taken to be ready.
        self.listener = TransformListener(node, TransformBuffer(), self._on_jump, self._refused)
        if settings.insert_color_topic:
            from worldfm_ros.nodes.rgbd_topics import RgbdTopics, topics_of  # compiled code takes seconds to load

            self._rgbd = RgbdTopics(node, self, topics_of(settings), self._images)
        if settings.lockstep:
            self.steps = SteppedCamera(node, self.outputs, self.health, self.listener, self.request)
        elif settings.mode == "rate":
            self._mode = AtRate(node, self._take, settings.rate)
        elif settings.mode == "tf":
            frames = self.map_frame, settings.camera_frame
            self._mode = AtPoses(self.listener, self._take, frames, settings.rate)
        else:
            self._mode = WhenAsked()

    def deactivate(self) -> None:
        """Take no images any more; what is in hand is lost."""
        self.forget("deactivated", "the camera was deactivated")
        for stamp, _ in self.listener.waiting():
            self._lose(Tick(stamp), "deactivated", "the camera was deactivated")
        if self.steps:
            self.steps.leave()
        self._leave()
        self.listener = self.steps = self._mode = self._rgbd = None

    def _leave(self) -> None:
        for each in filter(None, (self.listener, self._rgbd)):
            each.close()
        self._active.destroy()

    def close(self) -> bool:
        """Stop painting, and tell the final accounts. Once. False when a world that has grown could not be saved."""
        if self.health.accounts.final:
            return True
        saved = self._saving.save()
        self._worker.close()
        if self.listener and (not self._begun or not self._tf_has_publisher()):
            for _ in self.listener.waiting():
                self.health.after()
        if self.steps:
            self.steps.leave()
        self._leave()
        self.health.close()
        self._belongings.destroy()
        return saved

    def adopt(self, new: CameraParameters) -> None:
        """Put other settings in force, all at once. Raises ValueError or OSError, and then nothing has changed."""
        old = self.settings
        if old.lockstep and new.rate != old.rate:
            raise ValueError("in lockstep the rate is the simulator's steps'; it cannot change while they go on")
        if any(getattr(new, name) != getattr(old, name) for name in PATHS):
            new.check_folders()
        sensor, generator = new.sensor, self.generator
        if any(getattr(new, name) != getattr(old, name) for name in REMADE):
            generator = self._worker.threads.call(lambda: self._load(new, False))
        self.settings, self.sensor, self._worker.loaded = new, sensor, generator
        self._worker.together = _together(new)
        if generator.world is not self._world_outputs.world:
            self._world_outputs.tell(generator.world)
        if self.listener and self._mode and new.rate != old.rate:
            self._mode.set_rate(new.rate)
        for doubt in new.doubts():
            self._node.get_logger().warning(doubt)

    def reload(self) -> None:
        """Read world and model again. Raises ValueError or OSError, nothing changed."""
        self._worker.loaded = self._worker.threads.call(lambda: self._load(self.settings, True))
        self.tell_world()

    def change(self, generator, function: Callable[[], Any]) -> Any:
        """Call the function where the generator's map may change, while nothing is drawn or painted. Raises ValueError
        when the camera shows another one by then."""
        def still() -> Any:
            if self.generator is not generator or self.health.accounts.final:
                raise ValueError("the camera shows another world by now")
            return function()

        return self._worker.threads.call(still)

    def do(self, job: Callable[[], None]) -> None:
        """In the thread that draws, where the map may be changed; images wait meanwhile. It must not raise."""
        self._worker.threads.drawing.do(job)

    def tell_world(self) -> None:
        """The map has changed at once."""
        self._world_outputs.tell(self.generator.world)

    def save(self) -> str:
        """Write the world as it is to `save_folder`. Returns where; raises ValueError or OSError."""
        folder = self.settings.save_folder
        if not folder:
            raise ValueError("the parameter save_folder is empty; set it to the world folder to write")
        self.settings.check_folders()
        path = os.path.abspath(os.path.expanduser(folder))
        self._worker.threads.call(lambda: write_world(self.generator.world, path))  # where a world may change, too
        return path

    def forget(self, reason: str, why: str) -> None:
        """Lose what is painted or waits to be."""
        for tick, _ in self._worker.clear():
            self._lose(tick, reason, f"no image for time {seconds(tick.stamp)}: {why}")

    def request(self, stamp: int, timeout: float, done: Done = lambda published, text: None) -> None:
        """Ask for the pose of a stamp, and paint it when it is known."""
        self.health.accounts.tick()
        self.listener.request(self.map_frame, self.settings.camera_frame, stamp, timeout,
                              partial(self._on_pose, Tick(stamp, done=done)))

    def _take(self, stamp: int) -> None:
        if not self.paused and (self.settings.always_on or self.outputs.wanted()):
            self.request(stamp, self.settings.tf_timeout)

    def _tf_has_publisher(self) -> int:
        return self._node.count_publishers(self._node.resolve_topic_name("/tf"))

    def _on_jump(self) -> None:
        # published now, they would come from the future
        self.forget("time_jump", f"time went back before it was painted. {ADVICE['time_jump']}")
        if self._mode:
            self._mode.restart()

    def _on_pose(self, tick: Tick, outcome: Pose | TransformError) -> None:
        sensor = self.sensor
        if isinstance(outcome, Pose):
            lookup = partial(self.listener.lookup, self.map_frame, self.settings.camera_frame)
            outcome = poses_about(lookup, tick.stamp, outcome, sensor.offsets)
        if not isinstance(outcome, TransformError):
            if not self._begun:
                self._begun = True
                if hint := axes_hint(outcome[len(outcome) // 2], self.settings.camera_frame):
                    self._node.get_logger().warning(hint)
                self.health.begun()
            self.health.stage("wait_tf", time.perf_counter() - tick.asked)
            # a step's TF has come before the step is asked for
            timeout = None if self.steps else self.settings.tf_timeout
            Whereabouts(self.listener, self.map_frame, self._node.get_logger()).request(
                objects_of(self.generator), tick.stamp, timeout, partial(self._hand_over, tick, sensor, outcome))
            return
        text = f"no image for time {seconds(tick.stamp)}: {outcome}. {ADVICE[outcome.reason]}"
        if self.steps:
            self._lose(tick, outcome.reason, text)
        elif not self._begun:
            self.health.waits(outcome.reason, " ".join([text, transforms_hint(self._node)]).strip())
            tick.done(False, text)
        elif isinstance(outcome, ExtrapolationFuture) and not self._tf_has_publisher():
            self.health.after()
            tick.done(False, text)
        else:
            self._lose(tick, outcome.reason, text)

    def _hand_over(self, tick: Tick, sensor: Sensor, poses: list[Pose], states: States) -> None:
        """To the thread that draws."""
        given_way = self._worker.offer((tick, (sensor, poses, states)))
        self.health.overrun(len(given_way))
        for other, _ in given_way:
            other.done(False, "it gave way to a newer one: the model is too slow")

    def _lose(self, tick: Tick, reason: str, text: str) -> None:
        self.health.dropped(reason, text)
        tick.done(False, text)
        if steps := self.steps:
            steps.finish(tick.stamp)

    def _draw(self, item: tuple[Tick, tuple[Sensor, list[Pose], States]]) -> Paint | None:
        """In the thread that draws. Returns what paints the image, in another thread; None when it is lost."""
        tick, (sensor, poses, states) = item
        T_map_camera = poses[len(poses) // 2]
        with self._losing(tick, T_map_camera):
            started = time.perf_counter()
            prepare = prepare_at(self.generator, tick.stamp, states, self._worker.threads.painting.call)
            develop = sensor.begin(prepare, poses, tick.stamp)
            return partial(self._paint, tick, sensor, T_map_camera, develop, time.perf_counter() - started)
        return None

    def _paint(self, tick: Tick, sensor: Sensor, T_map_camera: Pose, develop: Callable[[], Taken],
               drawing: float) -> Publish | None:
        """In the thread that paints. Returns what publishes the image, in another thread; None when it is lost."""
        with self._losing(tick, T_map_camera):
            started = time.perf_counter()
            taken = develop()
            self.health.stage("generate", drawing + time.perf_counter() - started)
            header = make_header(tick.stamp, self.settings.camera_frame)
            return partial(self._publish, tick, Shot(taken, header, T_map_camera, sensor))
        return None

    def _publish(self, tick: Tick, shot: Shot) -> None:
        with self._losing(tick, shot.T_map_camera):
            if not shot.frame.coverage.any():
                self.health.nothing_seen(f"the camera at {np.round(shot.T_map_camera.translation, 3)} in frame "
                                         f"{self.map_frame!r} sees nothing of the world. Is the robot inside it?")
            started = time.perf_counter()
            self.outputs.publish(shot)
            self.health.stage("publish", time.perf_counter() - started)
            self.health.published(tick.stamp)
            tick.done(True, f"published the image of time {seconds(tick.stamp)}")
            if self.steps:
                self.steps.keep(shot)
                self.steps.finish(tick.stamp)

    @contextmanager
    def _losing(self, tick: Tick, T_map_camera: Pose) -> Iterator[None]:
        """Loses the image where something fails in here, and says why."""
        failed = f"no image for time {seconds(tick.stamp)}: the generator failed"
        try:
            yield
        except ValueError as error:  # a pose that cannot be shown, such as one at 1e300 m
            self._lose(tick, "generate_failed", f"{failed} at {T_map_camera.translation}: {error}")
        except Exception:  # whatever a model may raise: this image is lost, the next one may be well
            self._lose(tick, "generate_failed", f"{failed}\n{traceback.format_exc()}")


def _together(settings: CameraParameters) -> float:
    """In lockstep all that waits belongs together: the simulator waits for it."""
    return math.inf if settings.lockstep else 0.5 / settings.rate
