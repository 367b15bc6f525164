"""Lockstep over real DDS: a robot, cameras with slow models, a recorder; nothing is lost, whatever happens to them."""

from dataclasses import dataclass, field
import os
from pathlib import Path
import re
import subprocess
import sys
import time
import types

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from scenes import room_poses, room_world
from sensor_msgs.msg import Image
from simulations import read_bag
from std_srvs.srv import SetBool
from test_frame_camera import Recorder
from tf2_msgs.msg import TFMessage

from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import Pose
from worldfm_ros.nodes import demo_robot, health, step_services, stepper
from worldfm_ros.nodes.bag_recorder import BagRecorder
from worldfm_ros.nodes.conversions import SECOND, stamp_to_ns, to_transform_stamped
from worldfm_ros.nodes.demo_robot import FIRST_STAMP, DemoRobot
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.stepper import Stepper, StepSettings
from worldfm_ros.nodes.tf_history import seconds
from worldfm_ros.sources.rgbd_folder import write_poses
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World

ROOT = Path(__file__).parents[1]
RATE = 10.0
TENTH = SECOND // 10
IMAGES = ("image_raw", "depth/image_rect")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(demo_robot, "DISCOVERY", 0.0)
    monkeypatch.setattr(health, "START_UP", 0.0)
    monkeypatch.setattr(stepper, "COMPLAIN", 0.3)


@dataclass
class Slow(Recorder):
    """A model that cannot keep up: three times as slow as the step rate when it runs at ten times real time."""

    seconds: float = 0.03

    def generate(self, *args):
        time.sleep(self.seconds)
        return super().generate(*args)


def slow():
    return Slow(world=World("stage", AnchorMap(), [], 0.1))


def make(cls, *arguments, namespace="", **parameters):
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    return cls(*arguments, namespace=namespace, parameter_overrides=overrides)


def make_camera(name, generator=None, **parameters):
    settings = {"width": 32, "height": 24, "rate": RATE, "lockstep": True, "use_sim_time": True} | parameters
    return make(FrameCamera, generator or slow(), namespace=name, **settings)


@dataclass
class Simulation:
    """A robot that drives `stamps` tenths of a second, a recorder, and the cameras that are expected."""

    ros: object
    folder: Path
    names: list[str]
    stamps: int
    namespace: str = ""
    cameras: dict = field(default_factory=dict)

    def start(self, **robot):
        write_poses(dict(enumerate(room_poses(12))), self.folder / "poses.txt")
        nodes = [f"{name}/frame_camera" for name in self.names]
        topics = [f"{name}/{topic} sensor_msgs/msg/Image" for name in self.names for topic in IMAGES]
        self.recorder = self.ros.spin(make(
            BagRecorder, namespace=self.namespace, bag=str(self.folder / "bag"), lockstep=True, use_sim_time=True,
            topics=[*topics, "/tf tf2_msgs/msg/TFMessage", "/tf_static tf2_msgs/msg/TFMessage"],
            wait_for=[*nodes, "demo_robot"]))
        for name in self.names:
            self.start_camera(name)
        settings = {"real_time_factor": 0.0, "rate": RATE, "duration": self.stamps / RATE, "lockstep": True} | robot
        self.robot = self.ros.spin(make(DemoRobot, namespace=self.namespace, trajectory=str(self.folder / "poses.txt"),
                                        wait_for=[*nodes, "bag_recorder"], **settings))
        return self

    def start_camera(self, name):
        self.cameras[name] = self.ros.spin(make_camera(f"{self.namespace}/{name}".lstrip("/")))

    def kill(self, name):
        """As kill -9 does: it says nothing, and what it was painting is gone."""
        camera = self.cameras.pop(name)
        spinning = next(entry for entry in self.ros._spinning if entry[0] is camera)
        self.ros._spinning.remove(spinning)
        _, executor, stop, thread = spinning
        stop.set()
        thread.join()
        camera.session._worker.close()
        executor.shutdown()
        camera.destroy_node()

    def reached(self, tenth):
        return self.robot.stepper.stamp >= FIRST_STAMP + tenth * TENTH

    def finish(self):
        """Run to the end; the bag."""
        self.ros.wait_for(lambda: self.robot.exit_code is not None, "the end of the drive", 60.0)
        assert self.robot.exit_code == 0
        self.ros.close()
        self.ros._spinning.clear()
        assert self.recorder.exit_code is None
        return read_bag(self.folder / "bag")

    def check(self, bag):
        """Every stamp of the drive is in the bag, once, on every topic, with its pose."""
        due = [FIRST_STAMP + (i + 1) * TENTH for i in range(self.stamps)]
        for name in self.names:
            for topic in IMAGES:
                assert bag.stamps(f"{self.namespace}/{name}/{topic}") == due, (name, topic)
        assert bag.known(due) == due
        tf = [stamp_to_ns(m.transforms[0].header.stamp) for m in bag.messages["/tf"]]
        assert tf == [FIRST_STAMP, *due], "no pose twice either"


@pytest.mark.parametrize("names, namespace", [(["eye"], ""), (["left", "right"], "/robot1")])
def test_a_slow_model_loses_nothing(ros, tmp_path, names, namespace):
    simulation = Simulation(ros, tmp_path, names, stamps=25, namespace=namespace).start()
    simulation.check(simulation.finish())
    for camera in simulation.cameras.values():
        counts = camera.session.health.accounts.counts
        assert (counts["asked"], counts["published"]) == (25, 25)


def test_a_camera_that_is_killed_and_started_again_owes_nothing(ros, tmp_path, capfd):
    simulation = Simulation(ros, tmp_path, ["left", "right"], stamps=20).start()
    ros.wait_for(lambda: simulation.reached(8), "the middle of the drive")
    simulation.kill("left")
    capfd.readouterr()  # a busy machine may have stood still before
    log = []

    def complaint():
        log.append(capfd.readouterr().err)
        return re.search(r"the simulation stands at (\S+) and waits for (.*)", "".join(log))

    line = ros.wait_for(complaint, "what it waits for")
    stood = simulation.robot.stepper.stamp
    assert line[1] == seconds(stood) and "/left/frame_camera" in line[2]
    owing = ["/bag_recorder", "/left/frame_camera"]
    ros.wait_for(lambda: simulation.robot.stepper._barrier.missing() == owing, "the other camera")
    assert simulation.robot.stepper.stamp == stood and simulation.robot.exit_code is None
    simulation.start_camera("left")
    simulation.check(simulation.finish())
    assert f"all have answered for {line[1]}" in "".join([*log, capfd.readouterr().err]), "it says that it goes on"


def test_a_paused_simulation_stands_still_and_goes_on(ros, tmp_path):
    simulation = Simulation(ros, tmp_path, ["eye"], stamps=20).start()
    hand = ros.spin(Node("hand"))
    client = hand.create_client(SetBool, "/demo_robot/pause")
    ros.wait_for(client.service_is_ready, "the service")
    ros.wait_for(lambda: simulation.reached(5), "the first half second")

    def pause(value):
        future = client.call_async(SetBool.Request(data=value))
        ros.wait_for(future.done, "the answer")
        assert future.result().success

    pause(True)
    ros.wait_for(lambda: not simulation.robot.stepper._open, "the end of the step")
    stamp = simulation.robot.stepper.stamp
    time.sleep(1.0)
    assert simulation.robot.stepper.stamp == stamp and simulation.robot.exit_code is None
    pause(False)
    simulation.check(simulation.finish())


def test_the_robot_of_a_lockstep_is_the_only_one_that_makes_time(ros, tmp_path):
    write_poses(dict(enumerate(room_poses(3))), tmp_path / "poses.txt")
    other = ros.spin(Node("gazebo"))
    other.create_publisher(Clock, "/clock", 1)
    ros.wait_for(lambda: other.count_publishers("/clock"), "the clock")
    with pytest.raises(ValueError, match="somebody else does: set lockstep to false"):
        make(DemoRobot, trajectory=str(tmp_path / "poses.txt"), lockstep=True)


def test_a_camera_says_which_pose_it_waits_for(ros, capfd):
    """TF with a hole: nothing is dropped, the simulation stands, and the log names the frame."""
    camera = ros.spin(make_camera("eye", camera_frame="elsewhere"))
    player = ros.spin(Node("player"))
    stamps, tf = [], player.create_publisher(TFMessage, "/tf", 100)

    def publish(stamp):
        stamps.append(stamp)
        tf.publish(TFMessage(transforms=[to_transform_stamped(Pose.identity(), "map", "base_link", stamp)]))

    settings = StepSettings(SECOND, TENTH, 0.0, ["/eye/frame_camera"], ["/tf"])
    Stepper(player, settings, lambda _, stamp: publish(stamp), lambda: publish(stamps[-1]), lambda stamp: False)
    text, log = "the simulation waits for the pose at 1.100000000: the frame 'elsewhere' is not known", []
    ros.wait_for(lambda: log.append(capfd.readouterr().err) or text in "".join(log), "why it stands")
    assert stamps[-1] == SECOND + TENTH and camera.session.health.accounts.counts["asked"] == 1


# ---- the same /tf gives the same bytes

def path(stamp):
    t = stamp / SECOND
    return Pose.planar(0.4 * np.sin(t), 0.3 * np.cos(2 * t), t) @ Pose.looking_at([0, 0, 1], [1, 0, 0.9])


class Player(Node):
    """Plays recorded TF in lockstep at a rate, and keeps the images."""

    def __init__(self, recorded, play_rate):
        super().__init__("player")
        self.images, self.over = {}, False
        tf = self.create_publisher(TFMessage, "/tf", 100)
        self.create_subscription(Image, "/eye/image_raw", self._keep, 100)

        def publish(previous, stamp):
            for message in recorded:
                if previous - TENTH <= stamp_to_ns(message.transforms[0].header.stamp) <= stamp:
                    tf.publish(message)

        self._repeat = lambda: publish(self.stepper.stamp, self.stepper.stamp)

        def finished(stamp):
            self.over = stamp >= FIRST_STAMP + SECOND
            return self.over

        settings = StepSettings(FIRST_STAMP, TENTH, play_rate, ["/eye/frame_camera"], ["/tf"])
        self.stepper = Stepper(self, settings, publish, self._repeat, finished)

    def _keep(self, image):
        self.images[stamp_to_ns(image.header.stamp)] = bytes(image.data)


@pytest.fixture(scope="module")
def recorded():
    stamps = range(FIRST_STAMP - TENTH, FIRST_STAMP + SECOND + 1, SECOND // 50)
    return [TFMessage(transforms=[to_transform_stamped(path(s), "map", "camera_optical_frame", s)]) for s in stamps]


def play(ros, recorded, play_rate):
    player = ros.spin(Player(recorded, play_rate))
    ros.wait_for(lambda: player.over and len(player.images) == 10, "the last image", 60.0)
    ros.close()
    ros._spinning.clear()
    return player.images


def test_the_same_tf_gives_the_same_bytes_at_any_play_rate_and_in_another_process(ros, recorded, tmp_path):
    from worldfm_ros.world.storage import write_world

    write_world(room_world(12), tmp_path / "room")
    world, runs = room_world(12), []
    for play_rate in (0.5, 1.0, 4.0):
        ros.spin(make_camera("eye", load_generator(world, "anchors", 3), width=96, height=64))
        runs.append(play(ros, recorded, play_rate))
    looped = ros.spin(make_camera("eye", load_generator(world, "anchors", 3), width=96, height=64))
    for _ in range(2):  # the second time, the clock of the same camera goes back to the start
        player = ros.spin(Player(recorded, 0.0))
        ros.wait_for(lambda player=player: player.over and len(player.images) == 10, "the last image", 60.0)
        runs.append(player.images)
        ros.stop(player)
    assert looped.session.health.accounts.counts["published"] == 20
    ros.close()
    ros._spinning.clear()
    words = {"world": tmp_path / "room", "model": "anchors", "seed": 3, "width": 96, "height": 64, "rate": RATE,
             "lockstep": "true", "use_sim_time": "true"}
    parameters = [word for name, value in words.items() for word in ("-p", f"{name}:={value}")]
    process = subprocess.Popen([sys.executable, Path(__file__).with_name("slow_camera.py"), "0.05", "--ros-args", "-r",
                                "__ns:=/eye", *parameters], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        runs.append(play(ros, recorded, 0.0))
    finally:
        process.kill()
        process.wait()
    assert sorted(runs[0]) == [FIRST_STAMP + (i + 1) * TENTH for i in range(10)]
    assert len(set(runs[0].values())) == 10, "the camera moves"
    assert len(runs) == 6 and all(run == runs[0] for run in runs)


def test_the_example_simulator_of_the_documentation_runs(ros):
    """The whole code block as a process of its own, with a slow camera; the poses are those that it has published."""
    code = re.search(r"```python\n(import rclpy.*?)```", (ROOT / "docs" / "nodes.md").read_text(), re.DOTALL).group(1)
    assert len(code.splitlines()) < 40
    generator = slow()
    camera = ros.spin(make_camera("camera", generator))
    result = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    shown = [pose.translation[0] for pose in generator.poses]
    np.testing.assert_allclose(shown, 0.01 * np.arange(1, 31), atol=1e-12)
    assert camera.session.health.accounts.counts["published"] == 30


# ---- simulation_interfaces, which has no wheel: a stand-in for the package

def message(**fields):
    """A stand-in for a message class."""
    return type("Message", (), {"__init__": lambda self: self.__dict__.update(
        {name: value() if isinstance(value, type) else value for name, value in fields.items()})})


def service(response, **constants):
    return type("Service", (), {"Response": type("Response", (response,), constants)})


class FakeNode:
    """Remembers its services."""

    def __init__(self):
        self.services = {}

    def create_service(self, kind, name, handler, callback_group=None):
        self.services[name] = kind, handler

    def call(self, name, **request):
        kind, handler = self.services[name]
        return handler(types.SimpleNamespace(**request), kind.Response())


class FakeStepper:
    paused, granted = False, 0

    def __init__(self):
        self.on_idle = None

    def pause(self, paused):
        self.paused = paused

    def grant(self, steps):
        self.granted += steps


STATES = type("SimulationState", (), {"STOPPED": 0, "PLAYING": 1, "PAUSED": 2})
RESULT = type("Result", (), {"FEATURE_UNSUPPORTED": 0, "OK": 1, "OPERATION_FAILED": 4, "result": 0,
                             "error_message": ""})
FULL = type("SimulatorFeatures", (), {"SIMULATION_STATE_GETTING": 24, "SIMULATION_STATE_SETTING": 25,
                                      "SIMULATION_STATE_PAUSE": 26, "STEP_SIMULATION_SINGLE": 31,
                                      "STEP_SIMULATION_MULTIPLE": 32, "SPAWNING": 0, "features": ()})
WITH_RESULT = message(result=RESULT)


@pytest.fixture
def standard():
    """The services of a version that has everything, and their stepper."""
    services = types.SimpleNamespace(
        GetSimulatorFeatures=service(message(features=FULL)), StepSimulation=service(WITH_RESULT),
        GetSimulationState=service(message(result=RESULT, state=message(state=0))),
        SetSimulationState=service(WITH_RESULT, ALREADY_IN_TARGET_STATE=101))
    messages = types.SimpleNamespace(SimulatorFeatures=FULL, SimulationState=STATES, Result=RESULT)
    node, fake = FakeNode(), FakeStepper()
    step_services.StandardServices(node, fake, services, messages)
    return node, fake


def test_the_standard_services_pause_and_step(standard):
    node, fake = standard
    features = node.call("~/get_simulator_features").features.features
    assert features == [24, 25, 26, 31, 32], "what it does, and nothing else"
    assert node.call("~/get_simulation_state").state.state == STATES.PLAYING
    playing = node.call("~/step_simulation", steps=1)
    with pytest.raises(StopIteration) as end:
        playing.send(None)
    assert end.value.value.result.result == RESULT.OPERATION_FAILED and fake.granted == 0, "not while it plays"
    paused = types.SimpleNamespace(state=STATES.PAUSED)
    assert node.call("~/set_simulation_state", state=paused).result.result == RESULT.OK and fake.paused
    assert node.call("~/set_simulation_state", state=paused).result.result == 101
    assert node.call("~/get_simulation_state").state.state == STATES.PAUSED
    step = node.call("~/step_simulation", steps=3)
    step.send(None)
    assert fake.granted == 3, "and there is no answer before they are done"
    fake.on_idle()
    with pytest.raises(StopIteration) as end:
        step.send(None)
    assert end.value.value.result.result == RESULT.OK
    stopped = types.SimpleNamespace(state=STATES.STOPPED)
    assert node.call("~/set_simulation_state", state=stopped).result.result == RESULT.FEATURE_UNSUPPORTED


def test_an_old_version_gets_what_it_knows():
    """Before there was a Result or a simulation state: StepSimulation answers with success and a text."""
    features = type("SimulatorFeatures", (), {"STEP_SIMULATION_SINGLE": 15, "SIMULATION_STATE_PAUSE": 14,
                                              "features": ()})
    services = types.SimpleNamespace(GetSimulatorFeatures=service(message(features=features)),
                                     StepSimulation=service(message(success=False, status_message="")))
    node = FakeNode()
    step_services.StandardServices(node, FakeStepper(), services, types.SimpleNamespace(SimulatorFeatures=features))
    assert set(node.services) == {"~/get_simulator_features", "~/step_simulation"}
    assert node.call("~/get_simulator_features").features.features == [15]
    with pytest.raises(StopIteration) as end:
        node.call("~/step_simulation", steps=1).send(None)
    assert not end.value.value.success and "while it is paused" in end.value.value.status_message


def test_without_the_package_there_is_the_pause_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "simulation_interfaces", None)
    node, fake = FakeNode(), FakeStepper()
    assert step_services.offer_services(node, fake) is None
    assert list(node.services) == ["~/pause"]
