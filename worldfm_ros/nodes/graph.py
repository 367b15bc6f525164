"""The simulation, described once: its nodes and their parameters. `worldfm sim` and sim.launch.py run it.

Imports no ROS, so that both runners can read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
import re
import shutil
import signal
import sys

import yaml

from worldfm_ros.nodes.arguments import SimulationArguments
from worldfm_ros.nodes.lockstep import DONE_TOPIC, STEP_TOPIC
from worldfm_ros.nodes.rig import read_rig
from worldfm_ros.objects.objects import objects_file
from worldfm_ros.progress import Progress
from worldfm_ros.sensor.camera_file import read_randomization
from worldfm_ros.share import NO_NETWORK, find_model, share_directory, tells_confidence
from worldfm_ros.world.storage import read_manifest

GLOBAL_TOPICS = ("/tf", "/tf_static", "/clock", STEP_TOPIC, DONE_TOPIC)
RIG = "camera_rig"
DEMO_WORLD = "apartment"
STOP_SECONDS = 30.0  # after this a node that does not stop is killed: a camera may be writing a map
RESTARTS = 3  # of a node that was killed; a cause that comes again is none that passes
STOPPED = (signal.SIGINT, signal.SIGTERM)
PROFILES_HERE = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")  # Fast DDS reads them where it starts
SHARED_MEMORY = 512 * 2**20  # bytes that a handful of processes with the segment of config/fastdds.xml take


@dataclass(frozen=True)
class NodeSpec:
    """One node and its parameters. When an `essential` node ends, the simulation ends; one that only `listens` is
    stopped after the others; one that `respawns` is started again when it was killed. `remaps`: names to full names.
    """

    executable: str
    namespace: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    essential: bool = True
    listens: bool = False
    respawns: bool = False
    remaps: Mapping[str, str] = field(default_factory=dict)

    def starts_again(self, code: int, restarts: int) -> bool:
        """Whether it is started again when it has ended with this code (-n: by signal n), so many times before.

        Not when it was stopped in order, and not when it says itself that it cannot work.
        """
        return self.respawns and restarts < RESTARTS and code < 0 and -code not in STOPPED

    def ended(self, code: int) -> str:
        """That it has ended, and how, in words."""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.executable} {how}"

    @property
    def has_own_names(self) -> bool:
        """Whether the process names its nodes: several, which a name given to the process would reach all."""
        return self.executable == RIG

    @property
    def module(self) -> str:
        return f"worldfm_ros.nodes.{self.executable}"


def simulation_graph(arguments: SimulationArguments, given: frozenset[str] = frozenset()) -> list[NodeSpec]:
    """The nodes of a simulation. Parameters come from the arguments' defaults, then from the params_file, then from the
    arguments that the user wrote, which `given` names: what comes later wins.
    """
    top = f"/{arguments.robot}".rstrip("/")
    camera = f"{top}/{arguments.namespace}".rstrip("/")
    blocks = read_parameter_file(arguments.params_file) if arguments.params_file else {}
    warn_of_unused_keys(blocks, arguments.params_file, top, camera)
    values = {f.name: getattr(arguments, f.name) for f in fields(arguments)}

    def parameters(node: str, names: Sequence[str], **wiring: object) -> dict[str, object]:
        written = {name: values[name] for name in names if name in given}
        return {name: values[name] for name in names} | wiring | parameters_of(node, blocks) | written

    model = str(parameters(f"{camera}/{RIG if arguments.rig else 'frame_camera'}", ("model",))["model"])
    if arguments.films and model != NO_NETWORK:
        find_model(model)  # before the world, which may have to be built
    world = world_folder(arguments.world)
    values |= {
        "world": str(world),
        "trajectory": arguments.trajectory and str(Path(arguments.trajectory).resolve()),
        "camera": arguments.camera and arguments.films and str(Path(arguments.camera).resolve()),
        "save_folder": arguments.save_folder and str(Path(arguments.save_folder).resolve()),
        "objects": arguments.objects and str(objects_file(arguments.objects).resolve()),
        "bag": arguments.bag or f"worldfm_{datetime.now():%Y%m%d_%H%M%S}",
        "map_frame": arguments.map_frame or read_manifest(world)["frame_id"],
        "lockstep": arguments.in_lockstep,
        "camera_frame": arguments.tf_prefix + arguments.camera_frame,
        "frame_prefix": arguments.tf_prefix,
    }
    given |= {"camera_frame", "frame_prefix"} if arguments.tf_prefix else set()
    # who follows a clock that is not the machine's: in lockstep the robot makes it
    follows = {"use_sim_time": arguments.use_sim_time or arguments.in_lockstep}
    executable = RIG if arguments.rig else "frame_camera"
    names = ("world", "model", "width", "height", "hfov", "rate", "preset", "seed", "map_frame", "tf_timeout",
             "always_on", "lockstep", "camera", "objects", "grow", "completer", "max_anchors",
             "map_memory", "save_folder", "autosave",
             *(("rig", "frame_prefix") if arguments.rig else ("camera_frame",)))
    nodes = [NodeSpec(executable, arguments.namespace, parameters(f"{camera}/{executable}", names, **follows),
                      respawns=True)] if arguments.films else []
    inside = camera_namespaces(arguments)
    cameras = [relative(namespace, "frame_camera") for namespace in inside]
    if arguments.record:
        recorder = parameters(f"{top}/bag_recorder", ("bag", "lockstep", "split"),
                              topics=recorded_topics(inside, arguments.compressed, _also(arguments, model)),
                              wait_for=[*cameras, "demo_robot"], **follows)
        nodes.append(NodeSpec("bag_recorder", parameters=recorder, listens=True))
    wait_for = [*cameras, *(["bag_recorder"] if arguments.record else [])]  # the robot holds still until they are there
    if arguments.viewer and inside:
        image = relative(inside[0], "image_raw")
        shown = parameters(f"{top}/viewer", ("host", "port", "world", "map_frame"), image=image,
                           base_frame=f"{arguments.tf_prefix}base_link", use_sim_time=follows["use_sim_time"])
        nodes.append(NodeSpec("viewer", parameters=shown, essential=False, listens=True, respawns=True))
    names = ("world", "trajectory", "rate", "duration", "seed", "map_frame", "camera_frame", "lockstep",
             "real_time_factor", "frame_prefix")
    robot = parameters(f"{top}/demo_robot", names, wait_for=wait_for, use_sim_time=arguments.use_sim_time)
    nodes.append(NodeSpec("demo_robot", parameters=robot))
    return [_within(arguments.robot, node) for node in nodes] if arguments.robot else nodes


def camera_namespaces(arguments: SimulationArguments) -> list[str]:
    """Where the cameras' topics are, relative; none without a camera."""
    if arguments.rig:
        return [relative(arguments.namespace, name) for name in read_rig(arguments.rig)]
    return [arguments.namespace] if arguments.films else []


def _within(robot: str, node: NodeSpec) -> NodeSpec:
    """The node in the namespace of a robot, with what is global otherwise: TF, time and steps."""
    namespace = f"{robot}/{node.namespace}".strip("/")
    return replace(node, namespace=namespace, remaps={name: f"/{robot}{name}" for name in GLOBAL_TOPICS})


def relative(namespace: str, topic: str) -> str:
    """A topic of the camera as the other nodes name it: relative, so that a namespace around all moves all of them."""
    return f"{namespace}/{topic}".lstrip("/")


def _also(arguments: SimulationArguments, model: str) -> dict[str, str]:
    """Topics of each camera, with their types, that there is something on in this simulation alone."""
    cameras = read_rig(arguments.rig).values() if arguments.rig else [{}]
    also = {"instances/image_raw": "sensor_msgs/msg/Image"} if arguments.objects else {}
    if arguments.films and all(tells_confidence(str(camera.get("model", model))) for camera in cameras):
        also["confidence/image_raw"] = "sensor_msgs/msg/Image"
    if arguments.camera and arguments.films and read_randomization(arguments.camera):
        also["randomization"] = "std_msgs/msg/String"
    return also


def recorded_topics(namespaces: Sequence[str], compressed: bool = False,
                    also: Mapping[str, str] | None = None) -> list[str]:
    """What a recording of cameras holds, as "NAME TYPE"; the recorder adds /clock when it is published. `also`: further
    topics of each camera, and their types."""
    images = {"image_raw/compressed": "CompressedImage", "depth/image_rect/compressedDepth": "CompressedImage"} if (
        compressed) else {"image_raw": "Image", "depth/image_rect": "Image"}
    kinds = images | {"camera_info": "CameraInfo", "depth/camera_info": "CameraInfo", "segmentation/image_raw": "Image"}
    types = {topic: f"sensor_msgs/msg/{kind}" for topic, kind in kinds.items()} | (also or {})
    return [
        *(f"{relative(namespace, topic)} {kind}" for namespace in namespaces for topic, kind in types.items()),
        "odom nav_msgs/msg/Odometry",
        "/tf_static tf2_msgs/msg/TFMessage",
        "/tf tf2_msgs/msg/TFMessage",
    ]


def world_folder(name: str) -> Path:
    """The folder of a world; the demo world is built on first use. Raises ValueError when there is no such world."""
    if name == DEMO_WORLD and not (Path(name) / "world.yaml").exists():  # what lies here may be no world
        from worldfm_ros.world.builders.demo import demo_world  # compiles a ray caster; only this world needs it

        return demo_world(Progress("rendering the apartment"))
    if Path(name).exists():
        return Path(name).resolve()
    raise ValueError(
        f"there is no world folder {name!r}; build one with `worldfm world build`, or use the demo world {DEMO_WORLD!r}"
    )


def fast_dds_profiles(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that give Fast DDS a shared-memory segment which holds large images; none where the user has chosen
    profiles, transports or another middleware.

    Without it, images above 512 KB get lost on their way to best-effort subscribers. One name is read by Fast DDS 2
    (Humble, Jazzy), the other by 3 (Kilted). The segment needs its size in /dev/shm for each process.
    """
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    chosen = [*names, "FASTDDS_BUILTIN_TRANSPORTS", *(("RMW_IMPLEMENTATION",) if other_middleware(environment) else ())]
    beside = any(Path(name).exists() for name in PROFILES_HERE)
    if any(environment.get(name) for name in chosen) or beside or not _shared_memory_is_large():
        return {}
    return dict.fromkeys(names, str(share_directory() / "config" / "fastdds.xml"))


def other_middleware(environment: Mapping[str, str]) -> bool:
    """Whether the user has chosen another one than Fast DDS."""
    return "fastrtps" not in environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")


def _shared_memory_is_large() -> bool:
    try:
        return shutil.disk_usage("/dev/shm").free >= SHARED_MEMORY
    except OSError:
        return False


Blocks = Mapping[str, Mapping[str, object]]  # parameters by the key of a parameter file


def read_parameter_file(file: str | Path) -> Blocks:
    """The parameters of a ROS parameter file by its keys, which may hold * (one part of a node's name) and ** (any).

    Nested parameters come with dotted names. Raises ValueError for a file of another form.
    """
    try:
        content = yaml.safe_load(Path(file).read_text()) or {}
        return {key: _dotted(block["ros__parameters"]) for key, block in content.items()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is no ROS parameter file ({error}); expected NODE: {{ros__parameters: {{name: value}}}}"
        ) from None


def parameters_of(node: str, blocks: Blocks) -> dict[str, object]:
    """What the blocks say for a node, given by its full name; later ones win."""
    return {name: value for key, block in blocks.items() if _matches(key, node) for name, value in block.items()}


def warn_of_unused_keys(blocks: Blocks, file: str, top: str, camera: str) -> None:
    """Say which keys belong to no node that a simulation has, whether it is started now or not."""
    others = (f"{top}/{name}" for name in ("bag_recorder", "viewer", "demo_robot"))
    nodes = (f"{camera}/frame_camera", f"{camera}/{RIG}", *others)
    for key in blocks:
        if not any(_matches(key, node) for node in nodes):
            print(f"warning: {file}: {key!r} is none of the nodes {', '.join(nodes)}; its parameters have no effect",
                  file=sys.stderr)


def _matches(key: str, node: str) -> bool:
    pattern = re.escape("/" + key.strip("/")).replace(r"/\*\*", "(/.+)?").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, node) is not None


def _dotted(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat |= _dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
