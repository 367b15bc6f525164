"""Runs a camera for a long time and does to it what happens to cameras, at random moments from a seed.

    python test/soak.py [--minutes 30] [--seed 0] [--model worldfm-tiny] [--json FILE]

Parameters change and are refused, the lifecycle is cycled, worlds are loaded, reloaded and saved, TF stops, lies and
comes back, the camera is paused, triggered by the hundred and calibrated. Exit code 1 when a service is not answered or
no image comes within PATIENCE, when the process ends, or when an image is lost without a reason.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field
import json
import math
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory
import threading
import time

import numpy as np

if __name__ == "__main__":  # run from anywhere, installed or not
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.srv import LoadMap
from rcl_interfaces.srv import SetParametersAtomically
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from scenes import room_world
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs.srv import SetCameraInfo
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.accounts import losses
from worldfm_ros.nodes.conversions import SECOND, stamp_to_ns, to_transform_stamped
from worldfm_ros.world.storage import write_world

CAMERA = "/camera/frame_camera"
PATIENCE = 120.0  # seconds, on a machine that does other things too
LOG = "camera.txt"
TF_RATE = 50.0  # Hz
CALM = 0.5, 3.0  # seconds between two blows
TOGETHER = ("asked", "published", "unfinished", "outside")  # counts that are no losses


@dataclass
class Outcome:
    """blows: how often each was dealt; counts: the camera's accounts, all its lives together; unfinished: images that
    were neither published nor lost when it was deactivated in order; slope: resident memory, MB a minute.
    """

    seed: int
    minutes: float = 0.0
    blows: Counter = field(default_factory=Counter)
    counts: Counter = field(default_factory=Counter)
    received: int = 0
    unfinished: int = 0
    lives: int = 0
    memory_mb: list[float] = field(default_factory=list)
    slope: float = math.nan
    slowest_answer: float = 0.0
    failures: list[str] = field(default_factory=list)


class World(Node):
    """The rest of the robot: TF, a subscriber, and clients of all services. `tf`: what is sent, or None."""

    def __init__(self) -> None:
        super().__init__("soak")
        self._tf = self.create_publisher(TFMessage, "/tf", 100)
        self.tf = good
        self.trigger = self.create_publisher(Bool, "/camera/trigger", 100)
        self.lives: dict[str, Counter] = {}  # of the camera, by their accounts' run
        self.received: set[int] = set()
        self.newest = time.monotonic()
        self.create_subscription(Image, "/camera/image_raw", self._on_image, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 100)
        self.create_timer(1 / TF_RATE, self._send)

    def _send(self) -> None:
        if self.tf:
            self._tf.publish(TFMessage(transforms=[self.tf(self.get_clock().now().nanoseconds)]))

    def _on_image(self, image: Image) -> None:
        self.received.add(stamp_to_ns(image.header.stamp))
        self.newest = time.monotonic()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            self.lives[values["run"]] = Counter({
                name: int(text) for name, text in values.items()
                if name in (*TOGETHER, "overruns") or name.startswith("dropped.")})


def good(stamp: int):
    angle = stamp % (60 * SECOND) / SECOND * math.tau / 60
    eye = np.array([0.4 * math.cos(angle), 0.4 * math.sin(angle), 1.2])
    pose = Pose.looking_at(eye, eye + [math.cos(angle), math.sin(angle), -0.2])
    return to_transform_stamped(pose, "map", "camera_optical_frame", stamp)


def not_a_number(stamp: int):
    transform = good(stamp)
    transform.transform.translation.x = math.nan
    return transform


def no_rotation(stamp: int):
    transform = good(stamp)
    transform.transform.rotation.w = transform.transform.rotation.x = 0.0
    return transform


def outdated(stamp: int):
    return good(stamp - 20 * SECOND)


class Soak:
    """Deals the blows. `world`, a node that is spun elsewhere, hears what comes of them."""

    def __init__(self, world: World, process: subprocess.Popen, folder: Path, seed: int) -> None:
        self._world, self._process, self._folder, self._random = world, process, folder, random.Random(seed)
        self.outcome = Outcome(seed)
        self.blows = [self.change, self.change_badly, self.cycle, self.reload, self.load, self.save, self.stop_tf,
                      self.spoil_tf, self.pause, self.flood, self.calibrate, self.reset]

    def ask(self, kind: type, name: str, request):
        client = self._world.create_client(kind, name)
        started = time.monotonic()
        try:
            if not client.wait_for_service(PATIENCE):
                raise TimeoutError(f"{name} is not offered")
            future = client.call_async(request)
            while not future.done():
                if time.monotonic() - started > PATIENCE:
                    raise TimeoutError(f"{name} is not answered")
                time.sleep(0.01)
        finally:
            self._world.destroy_client(client)
        self.outcome.slowest_answer = max(self.outcome.slowest_answer, time.monotonic() - started)
        return future.result()

    def expect(self, right: bool, what: str) -> None:
        if not right:
            self.outcome.failures.append(what)

    def set(self, **values):
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.ask(SetParametersAtomically, f"{CAMERA}/set_parameters_atomically",
                        SetParametersAtomically.Request(parameters=parameters)).result

    def trigger(self, name: str):
        return self.ask(Trigger, f"{CAMERA}/{name}", Trigger.Request())

    def transition(self, *names: str) -> None:
        for name in names:
            request = ChangeState.Request(transition=Transition(id=getattr(Transition, f"TRANSITION_{name}")))
            self.expect(self.ask(ChangeState, f"{CAMERA}/change_state", request).success, f"no transition {name}")

    def change(self) -> None:
        r = self._random
        values = {"width": r.choice([96, 128, 160]), "height": r.choice([72, 96, 120]), "hfov": r.uniform(50.0, 100.0),
                  "rate": r.choice([5.0, 10.0, 15.0]), "full_well": r.choice([0.0, 5000.0]), "seed": r.randrange(3),
                  "camera_info_url": "", "exposure": r.uniform(-1.0, 1.0)}
        result = self.set(**values)
        self.expect(result.successful, f"{values} refused: {result.reason}")

    def change_badly(self) -> None:
        values = self._random.choice([{"width": 64, "height": 0}, {"rate": -1.0}, {"world": "/nowhere"},
                                      {"hfov": 500.0, "width": 8}, {"distortion": "a b c"}, {"lockstep": True}])
        result = self.set(**values)
        self.expect(not result.successful and result.reason, f"{values} taken")

    def cycle(self) -> None:
        self.transition("DEACTIVATE")
        answer = self.trigger("trigger")
        self.expect(not answer.success and "not active" in answer.message, f"trigger asleep: {answer.message}")
        if self._random.random() < 0.5:
            self.transition("CLEANUP")
            answer = self.trigger("save_map")
            self.expect(not answer.success and "not configured" in answer.message, f"save_map: {answer.message}")
            self.transition("CONFIGURE")
        else:
            time.sleep(1.5)  # until it has told its accounts
        self._count_unfinished()
        self.transition("ACTIVATE")

    def _count_unfinished(self) -> None:
        if self._world.lives:
            self.outcome.unfinished += list(self._world.lives.values())[-1]["unfinished"]

    def reload(self) -> None:
        answer = self.trigger("reload_model")
        self.expect(answer.success, f"reload_model: {answer.message}")

    def load(self) -> None:
        name = self._random.choice(["room", "other", "nowhere"])
        answer = self.ask(LoadMap, f"{CAMERA}/load_map", LoadMap.Request(map_url=str(self._folder / name)))
        good_answer = LoadMap.Response.RESULT_SUCCESS, LoadMap.Response.RESULT_MAP_DOES_NOT_EXIST
        self.expect(answer.result == good_answer[name == "nowhere"], f"load_map {name}: {answer.result}")

    def save(self) -> None:
        answer = self.trigger("save_map")
        self.expect(answer.success, f"save_map: {answer.message}")

    def stop_tf(self) -> None:
        self._world.tf = None
        time.sleep(self._random.uniform(0.2, 3.0))
        self._world.tf = good

    def spoil_tf(self) -> None:
        self._world.tf = self._random.choice([not_a_number, no_rotation, outdated])
        time.sleep(self._random.uniform(0.05, 0.15) if self._world.tf is outdated else self._random.uniform(0.2, 3.0))
        self._world.tf = good

    def pause(self) -> None:
        for paused in True, False:
            answer = self.ask(SetBool, f"{CAMERA}/pause", SetBool.Request(data=paused))
            self.expect(answer.success, f"pause: {answer.message}")
            time.sleep(self._random.uniform(0.0, 0.5))

    def flood(self) -> None:
        for _ in range(self._random.randrange(300)):
            self._world.trigger.publish(Bool(data=True))
        answer = self.trigger("trigger")
        self.expect(answer.success or "no image" in answer.message or "gave way" in answer.message,
                    f"trigger: {answer.message}")

    def calibrate(self) -> None:
        f = self._random.choice([0.0, 80.0, 120.0])
        info = CameraInfo(width=128, height=96, distortion_model="plumb_bob", d=[-0.1, 0.01, 0.0, 0.0, 0.0],
                          k=[f, 0.0, 63.5, 0.0, f, 47.5, 0.0, 0.0, 1.0 if f else 0.0])
        answer = self.ask(SetCameraInfo, "/camera/set_camera_info", SetCameraInfo.Request(camera_info=info))
        self.expect(answer.success == bool(f), f"set_camera_info: {answer.status_message}")

    def reset(self) -> None:
        answer = self.trigger("reset")
        self.expect(answer.success, f"reset: {answer.message}")

    def image_comes(self) -> None:
        since = time.monotonic()
        while self._world.newest < since:
            if time.monotonic() - since > PATIENCE or self._process.poll() is not None:
                raise TimeoutError("no image comes")
            time.sleep(0.05)

    def run(self, minutes: float) -> Outcome:
        began, outcome = time.monotonic(), self.outcome
        memory: list[tuple[float, float]] = []
        try:
            self.image_comes()
            while (now := time.monotonic() - began) < 60 * minutes:
                blow = self._random.choice(self.blows)
                blow()
                outcome.blows[blow.__name__] += 1
                self.image_comes()
                memory.append((now / 60, resident_mb(self._process.pid)))
                time.sleep(self._random.uniform(*CALM))
        except (TimeoutError, OSError) as error:
            outcome.failures.append(f"after {(time.monotonic() - began) / 60:.1f} min: {error}")
        outcome.minutes = (time.monotonic() - began) / 60
        late = [sample for sample in memory if sample[0] > outcome.minutes / 3]  # what it loads once is loaded
        if len(late) > 2:
            outcome.slope = float(np.polyfit(*zip(*late, strict=True), 1)[0])
        outcome.memory_mb = [round(mb, 1) for _, mb in memory][:: max(1, len(memory) // 10)]
        return outcome


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(minutes: float, seed: int, model: str, folder: Path) -> Outcome:
    """Start a camera, deal blows for so long, stop it. `folder` gets the worlds, what it writes, and its log."""
    for name, voxel in ("room", 0.05), ("other", 0.1):
        write_world(room_world(voxel=voxel, name=name), folder / name)
    parameters = {"world": folder / "room", "model": model, "width": 128, "height": 96, "rate": 10.0,
                  "save_folder": folder / "saved", "allowed_folders": f"['{folder}']"}
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    with open(folder / LOG, "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worldfm_ros.nodes.frame_camera", "--ros-args", "-r", "__ns:=/camera", *words],
            env=os.environ | {"ROS_HOME": str(folder)}, stdout=log, stderr=subprocess.STDOUT)
    world, executor = World(), SingleThreadedExecutor()
    executor.add_node(world)
    spinning = threading.Thread(target=spin, args=(executor,), daemon=True)
    spinning.start()
    test = Soak(world, process, folder, seed)
    try:
        outcome = test.run(minutes)
        test.expect(process.poll() is None, f"the camera ended with {process.returncode}")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        time.sleep(1.0)
        executor.shutdown()
        spinning.join(10.0)
    outcome.lives, outcome.received = len(world.lives), len(world.received)
    outcome.counts = sum(world.lives.values(), Counter())
    judge(outcome, process.returncode)
    return outcome


def judge(outcome: Outcome, code: int) -> None:
    """Add what is wrong with the numbers."""
    counts = outcome.counts
    accounted = counts["published"] + sum(losses(counts).values()) + counts["unfinished"]
    if counts["asked"] != accounted:
        outcome.failures.append(f"{counts['asked']} asked, {accounted} accounted for")
    if outcome.unfinished:
        outcome.failures.append(f"{outcome.unfinished} images were neither published nor lost")
    if outcome.received < counts["published"]:
        outcome.failures.append(f"{counts['published']} published, {outcome.received} received")
    if code:
        outcome.failures.append(f"exit code {code}")


def spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass


def main() -> int:
    """Soak a camera, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="worldfm-tiny")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rclpy.init()
    with TemporaryDirectory() as folder:
        outcome = soak(asked.minutes, asked.seed, asked.model, Path(folder))
        log = (Path(folder) / LOG).read_text()
    for name, value in vars(outcome).items():
        print(f"{name}: {dict(value) if isinstance(value, Counter) else value}")
    if outcome.failures:
        print(log[-5000:])
    if asked.json:
        asked.json.write_text(json.dumps(vars(outcome), indent=2))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
