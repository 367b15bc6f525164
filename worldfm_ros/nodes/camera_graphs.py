"""Cameras alone, for a robot or simulator of somebody else: what camera.launch.py and rig.launch.py start."""

from __future__ import annotations

from dataclasses import dataclass, fields

from worldfm_ros.nodes.arguments import argument, checked_namespace
from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.graph import NodeSpec, parameters_of, read_parameter_file, world_folder
from worldfm_ros.nodes.parameter_fields import describe
from worldfm_ros.nodes.rig import PARENT, read_rig
from worldfm_ros.share import NO_NETWORK, find_model


@dataclass(frozen=True)
class CameraArguments(CameraParameters):
    """The arguments of camera.launch.py: the camera's parameters, and where it is. Raises ValueError."""

    world: str = argument("apartment", "world folder; 'apartment' is the demo world, built on first use")
    parent_frame: str = argument(PARENT, "frame that the camera is mounted on; empty = others publish its mount")
    namespace: str = argument("camera", "namespace of the camera's topics")
    use_sim_time: bool = argument(True, "follow the /clock of a simulator; false on a real robot")
    params_file: str = argument("", "ROS parameter file; arguments given on the command line beat it")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "namespace", checked_namespace("namespace", self.namespace))


@dataclass(frozen=True)
class RigArguments(CameraArguments):
    """The arguments of rig.launch.py: those of a camera are for all cameras of which the rig's file says no other."""

    rig: str = describe("", "YAML file of the rig: its cameras, their mounts, and their parameters")
    namespace: str = argument("", "namespace around the cameras'")
    frame_prefix: str = describe("", "before the frames that the rig's file names, such as r1/")

    def __post_init__(self) -> None:
        super().__post_init__()
        read_rig(self.rig)


def camera_graph(arguments: CameraArguments, given: frozenset[str] = frozenset()) -> list[NodeSpec]:
    """The camera's node. Parameters: defaults, then params_file, then what the user wrote, which `given` names."""
    names = [f.name for f in fields(CameraParameters)]
    return [_node("frame_camera", arguments, names, given)]


def rig_graph(arguments: RigArguments, given: frozenset[str] = frozenset()) -> list[NodeSpec]:
    """The rig's process. What the rig's file says of a camera beats all arguments."""
    names = [f.name for f in fields(CameraParameters) if f.name not in ("camera_frame", "parent_frame", "mount")]
    return [_node("camera_rig", arguments, [*names, "rig", "frame_prefix"], given)]


def _node(executable: str, arguments: CameraArguments, names: list[str], given: frozenset[str]) -> NodeSpec:
    values = {name: getattr(arguments, name) for name in names} | {"use_sim_time": arguments.use_sim_time}
    blocks = read_parameter_file(arguments.params_file) if arguments.params_file else {}
    name = f"/{arguments.namespace}/{executable}".replace("//", "/")
    values |= parameters_of(name, blocks) | {each: values[each] for each in names if each in given}
    if values["model"] != NO_NETWORK:
        find_model(values["model"])  # before the world, which may have to be built
    values["world"] = str(world_folder(values["world"]))
    # an empty list has no type in a parameter file, and is the default
    parameters = {key: value for key, value in values.items() if value != []}
    return NodeSpec(executable, arguments.namespace, parameters, respawns=True)
