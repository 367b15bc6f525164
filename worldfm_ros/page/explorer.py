"""Looking around in a world without ROS: a robot that is steered from the page, or a camera that flies."""

from __future__ import annotations

from dataclasses import dataclass
import math
import threading
from time import monotonic

import numpy as np

from worldfm_ros.drive.free_space import FreeSpace, median_height
from worldfm_ros.drive.robot import MAX_SPEED, MAX_TURN, DifferentialDrive
from worldfm_ros.generator import Frame, FrameGenerator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.page.pictures import Command, Stream, confidence_colours, depth_colours, label_colours
from worldfm_ros.page.scene import Scene, camera_facts
from worldfm_ros.page.server import Site
from worldfm_ros.page.steering import Steering, Stick
from worldfm_ros.world.storage import World

TICK = 0.02  # seconds of motion at a time
LONGEST = 0.25  # seconds of motion between two pictures at most: what took longer does not make the robot jump
FLY_SPEED, FLY_TURN = 1.5, 1.2  # m/s, rad/s
STEEPEST = math.radians(85.0)  # the free camera's pitch


@dataclass
class FreeCamera:
    """A camera without a body: place (3,) metres, heading and pitch in radians; upright, and through walls."""

    place: np.ndarray
    yaw: float
    pitch: float = 0.0

    @classmethod
    def at(cls, T_world_camera: Pose) -> FreeCamera:
        x, y, z = T_world_camera.rotation.apply([0.0, 0.0, 1.0])
        return cls(T_world_camera.translation.copy(), math.atan2(y, x), math.asin(np.clip(z, -1.0, 1.0)))

    @property
    def pose(self) -> Pose:
        """T_world_camera."""
        forward = [math.cos(self.yaw) * math.cos(self.pitch), math.sin(self.yaw) * math.cos(self.pitch),
                   math.sin(self.pitch)]
        return Pose.looking_at(self.place, self.place + forward)

    def step(self, stick: Stick, dt: float) -> None:
        forward = np.array([math.cos(self.yaw), math.sin(self.yaw), 0.0])
        left = np.array([-forward[1], forward[0], 0.0])
        self.place = self.place + FLY_SPEED * dt * (
            stick.forward * forward + stick.left * left + stick.up * np.array([0.0, 0.0, 1.0]))
        self.yaw += FLY_TURN * dt * stick.yaw
        self.pitch = float(np.clip(self.pitch + FLY_TURN * dt * stick.pitch, -STEEPEST, STEEPEST))


class Explorer:
    """Paints where the stick leads, as fast as the model can and at most `rate` times a second; nothing for nobody.

    Raises ValueError for a world without keyframes, from one of which it starts.
    """

    def __init__(self, generator: FrameGenerator, intrinsics: Intrinsics, rate: float) -> None:
        world = generator.world
        if not world.keyframes:
            raise ValueError("the world has no keyframe to start from")
        self._generator, self._intrinsics, self._rate = generator, intrinsics, rate
        self._scene = Scene(world)
        self._robot, self.problem = _robot(world)
        self._height = median_height(world.keyframes)
        self._camera = FreeCamera.at(self._robot_pose() if self._robot else world.keyframes[0].T_world_camera)
        self._flies = self._robot is None
        self._painted: Pose | None = None  # where the picture was taken that is shown
        self._milliseconds, self._count = 0.0, 0
        layers = ("rgb", "depth", "labels", "confidence", "reference", "anchors")
        self.site = Site({layer: Stream() for layer in layers}, self.status, lambda: self._scene.packed, Steering())
        self._paint(self._camera.pose, None)  # which takes longest, and says what is wrong with the world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="explorer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5.0)

    def status(self) -> dict:
        """What the page shows beside the pictures."""
        pose, (age, rate) = self._painted, self.site.streams["rgb"].pace()
        size = {"width": self._intrinsics.width, "height": self._intrinsics.height, "encoding": "rgb8"}
        return {
            "topic": self._generator.world.name, "image": size if pose else None, "rate": rate, "age": age,
            "stale": False, "problem": "" if self._robot else f"no robot, only a free camera: {self.problem}",
            "camera": pose and camera_facts(pose, self._intrinsics), "drives": self._robot is not None, "flies": True,
            "robot": None if self._flies else [
                self._robot.x, self._robot.y, self._robot.yaw, self._robot.free_space.floor],
            "stages": {"generate": self._milliseconds}, "published": self._count, "lost": {},
        }

    def _robot_pose(self) -> Pose:
        """T_world_camera of the robot's camera, which looks straight on."""
        place = np.array([self._robot.x, self._robot.y, self._height])
        return FreeCamera(place, self._robot.yaw).pose

    def _run(self) -> None:
        then = monotonic()
        while not self._stop.wait(max(0.0, then + 1.0 / self._rate - monotonic())):
            now = monotonic()
            stick, command = self.site.steering.now()
            self._move(stick, min(now - then, LONGEST))
            then = now
            pose = self._camera.pose if self._flies else self._robot_pose()
            if any(stream.watchers for stream in self.site.streams.values()) and not _same(pose, self._painted):
                self._paint(pose, command)

    def _move(self, stick: Stick, duration: float) -> None:
        if self._robot and stick.fly != self._flies:
            self._flies, self._camera = stick.fly, FreeCamera.at(self._painted or self._robot_pose())
        for _ in range(round(duration / TICK)):
            if self._flies:
                self._camera.step(stick, TICK)
            else:
                self._robot.step(MAX_SPEED * stick.forward, MAX_TURN * stick.yaw, TICK)

    def _paint(self, pose: Pose, command: Command | None) -> None:
        begun = monotonic()
        frame = self._generator.generate(pose, self._intrinsics)
        self._milliseconds = 1e3 * (monotonic() - begun)
        self._painted, self._count = pose, self._count + 1
        for layer, draw in self._draw(frame, pose).items():
            self.site.streams[layer].put(draw, begun, command)

    def _draw(self, frame: Frame, pose: Pose) -> dict:
        return {
            "rgb": lambda: frame.rgb,
            "depth": lambda: depth_colours(frame.depth),
            "labels": lambda: label_colours(frame.labels),
            "confidence": lambda: None if frame.confidence is None else confidence_colours(frame.confidence),
            "reference": lambda: self._scene.reference(pose, self._intrinsics),
            "anchors": lambda: self._scene.drawn(pose, self._intrinsics),
        }


def _robot(world: World) -> tuple[DifferentialDrive | None, str]:
    """A robot at the first keyframe, or why there is none."""
    try:
        space = FreeSpace.from_world(world.anchors, world.keyframes)
        return DifferentialDrive.at_keyframe(space, world.keyframes[0]), ""
    except ValueError as error:
        return None, str(error)


def _same(pose: Pose, other: Pose | None) -> bool:
    return other is not None and np.array_equal(pose.matrix, other.matrix)
