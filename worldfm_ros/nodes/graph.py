"""The simulation, described once: its arguments, its nodes and their parameters. Run by `worldfm sim` and by sim.launch.py.

Imports no ROS, so that both runners (and --help) can read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
import difflib
import math
from pathlib import Path
import shutil

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.rgbd_folder import read_poses
from worldfm_ros.share import share_directory
from worldfm_ros.world.storage import read_manifest

MAX_RATE = 1000.0
SHARED_MEMORY = 512 * 2**20  # bytes that a handful of processes with the segment of config/fastdds.xml take


def _argument(default, text: str):
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True)
class SimulationArguments:
    """The `name:=value` arguments of a simulation. Raises ValueError naming the argument that is wrong."""

    world: str = _argument("apartment", "world folder; 'apartment' is the demo world, built on first use")
    model: str = _argument("anchors", "frame model; 'anchors' is the point drawing with its holes filled, no network")
    width: int = _argument(320, "image width, pixels")
    height: int = _argument(240, "image height, pixels")
    hfov: float = _argument(70.0, "horizontal field of view, degrees")
    rate: float = _argument(10.0, "images per second (and poses per second of a trajectory)")
    duration: float = _argument(0.0, "seconds of motion, then the simulation ends; 0 = until stopped")
    trajectory: str = _argument("", "poses file that the camera follows; without one the robot drives itself or obeys /cmd_vel")
    record: bool = _argument(False, "record a bag")
    bag: str = _argument("", "bag folder to create; default worldfm_<date>_<time>")
    viewer: bool = _argument(True, "serve the live image on http://localhost:8080")
    seed: int = _argument(0, "seed of the robot's tour and of the model's noise")
    namespace: str = _argument("camera", "namespace of the camera's topics")
    params_file: str = _argument("", "ROS parameter file; arguments given on the command line beat it")

    def __post_init__(self) -> None:
        Intrinsics.from_hfov(self.width, self.height, math.radians(self.hfov))
        if not 0.0 < self.rate <= MAX_RATE:
            raise ValueError(f"rate is above 0 and at most {MAX_RATE:g} Hz, got {self.rate}")
        if not 0.0 <= self.duration < math.inf:
            raise ValueError(f"duration is 0 (until stopped) or a number of seconds, got {self.duration}")
        if self.bag and not self.record:
            raise ValueError(f"bag:={self.bag} asks for a recording; add record:=true")
        if self.bag and Path(self.bag).exists():
            raise ValueError(f"the bag {self.bag} exists and is never overwritten; choose another name or remove it")
        if self.params_file and not Path(self.params_file).is_file():
            raise ValueError(f"params_file {self.params_file} does not exist")
        if self.trajectory:
            if not Path(self.trajectory).is_file():
                raise ValueError(f"trajectory {self.trajectory} does not exist; expected a file of lines 'index tx ty tz qx qy qz qw'")
            read_poses(self.trajectory)


@dataclass(frozen=True)
class NodeSpec:
    """One node. Parameters in `defaults` yield to a params_file, those in `explicit` beat it.

    When an `essential` node ends, the simulation ends.
    """

    executable: str
    namespace: str = ""
    defaults: Mapping[str, object] = field(default_factory=dict)
    explicit: Mapping[str, object] = field(default_factory=dict)
    essential: bool = True

    @property
    def module(self) -> str:
        return f"worldfm_ros.nodes.{self.executable}"


def parse_arguments(words: Sequence[str]) -> tuple[SimulationArguments, frozenset[str]]:
    """`name:=value` words as arguments, and the names that were given. Raises ValueError for an unknown one."""
    values = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator:
            raise ValueError(f"expected name:=value, got {word!r}")
        values[name] = value
    return arguments_from_text(values), frozenset(values)


def arguments_from_text(values: Mapping[str, str]) -> SimulationArguments:
    """Arguments from their text. Raises ValueError for an unknown name or a value of the wrong type."""
    known = {f.name: f for f in fields(SimulationArguments)}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"there is no argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ";")
                             + f" The arguments: {', '.join(known)}")
    return SimulationArguments(**{name: _parse(name, known[name].default, text) for name, text in values.items()})


def _parse(name: str, default: object, text: str) -> object:
    if isinstance(default, bool):
        words = {"true": True, "false": False, "1": True, "0": False}
        if text.lower() not in words:
            raise ValueError(f"{name} is true or false, got {text!r}")
        return words[text.lower()]
    try:
        return type(default)(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ValueError(f"{name} is {kind}, got {text!r}") from None


def simulation_graph(arguments: SimulationArguments, given: frozenset[str] = frozenset()) -> list[NodeSpec]:
    """The nodes of a simulation. `given` names the arguments that the user wrote, which beat the params_file."""
    world = world_folder(arguments.world)
    read_manifest(world)
    bag = arguments.bag or f"worldfm_{datetime.now():%Y%m%d_%H%M%S}"
    values = {f.name: getattr(arguments, f.name) for f in fields(arguments)}
    values |= {"world": str(world), "trajectory": arguments.trajectory and str(Path(arguments.trajectory).resolve()), "bag": bag}

    def spec(executable: str, names: Sequence[str], *, namespace: str = "", essential: bool = True, **wiring) -> NodeSpec:
        return NodeSpec(executable, namespace,
                        {name: values[name] for name in names if name not in given} | wiring,
                        {name: values[name] for name in names if name in given}, essential)

    nodes = [spec("frame_camera", ("world", "model", "width", "height", "hfov", "rate", "seed"), namespace=arguments.namespace)]
    if arguments.record:
        nodes.append(spec("bag_recorder", ("bag",), topics=recorded_topics(arguments.namespace)))
    wait_for = [node.executable for node in nodes]  # the robot holds still until these listen to /tf
    if arguments.viewer:
        nodes.append(spec("viewer", (), essential=False, image=f"/{arguments.namespace}/image_raw".replace("//", "/")))
    nodes.append(spec("demo_robot", ("world", "trajectory", "rate", "duration", "seed"), wait_for=wait_for))
    return nodes


def recorded_topics(namespace: str) -> list[str]:
    """What a recording holds, as "NAME TYPE"; the recorder adds /clock when it is published."""
    prefix = f"/{namespace}".rstrip("/")
    return [
        f"{prefix}/image_raw sensor_msgs/msg/Image",
        f"{prefix}/camera_info sensor_msgs/msg/CameraInfo",
        f"{prefix}/depth/image_rect sensor_msgs/msg/Image",
        f"{prefix}/depth/camera_info sensor_msgs/msg/CameraInfo",
        f"{prefix}/segmentation/image_raw sensor_msgs/msg/Image",
        "/odom nav_msgs/msg/Odometry",
        "/tf_static tf2_msgs/msg/TFMessage",
        "/tf tf2_msgs/msg/TFMessage",
    ]


def world_folder(name: str) -> Path:
    """The folder of a world; the demo world is built on first use. Raises ValueError when there is no such world."""
    if Path(name).exists():
        return Path(name).resolve()
    if name == "apartment":
        from worldfm_ros.world.builders.demo import demo_world  # compiles a ray caster; only this world needs it

        return demo_world()
    raise ValueError(f"there is no world folder {name!r}; build one with `worldfm world build`, or use the demo world 'apartment'")


def fast_dds_profiles(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that give Fast DDS a shared-memory segment which holds large images; none where the user has chosen.

    Without it, images above 512 KB get lost on their way to best-effort subscribers. One name is read by Fast DDS 2
    (Humble, Jazzy), the other by 3 (Kilted). The segment needs its size in /dev/shm for each process.
    """
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    if any(name in environment for name in names) or not _shared_memory_is_large():
        return {}
    return dict.fromkeys(names, str(share_directory() / "config" / "fastdds.xml"))


def _shared_memory_is_large() -> bool:
    try:
        return shutil.disk_usage("/dev/shm").free >= SHARED_MEMORY
    except OSError:
        return False
