"""The `name:=value` arguments of a simulation: names, defaults, meaning, and what is wrong with one. No ROS here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
import difflib
import math
import os
from pathlib import Path
import re
import sys

from worldfm_ros.bags.splitting import Split
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.nodes.parameter_fields import default_of, describe
from worldfm_ros.objects.objects import objects_file, read_objects
from worldfm_ros.sensor.camera import hfov_warning
from worldfm_ros.sensor.camera_file import read_sensor_file
from worldfm_ros.sources.rgbd_folder import read_poses

MAX_RATE = 1000.0
MAX_PORT = 65535
MAX_TIMEOUT = 60.0  # seconds
NO_CAMERA = "false"
PATHS = ("world", "model", "trajectory", "bag", "params_file", "rig", "camera", "objects", "save_folder")  # with ~
ROS_NAME = r"[A-Za-z_]\w*"


def argument(default, text: str):
    """A dataclass field that is an argument: bool, int, float or str, as `default` is."""
    return describe(default, text)


@dataclass(frozen=True)
class SimulationArguments:
    """The `name:=value` arguments of a simulation. Raises ValueError naming the argument that is wrong."""

    world: str = argument("apartment", "world folder; 'apartment' is the demo world, built on first use")
    model: str = argument("worldfm-tiny", "frame model; 'anchors' is the point drawing, its holes filled, no network")
    width: int = argument(320, "image width, pixels")
    height: int = argument(240, "image height, pixels")
    hfov: float = argument(70.0, "horizontal field of view, degrees")
    rate: float = argument(10.0, "images per second (and poses per second of a trajectory)")
    duration: float = argument(0.0, "seconds of motion, then the simulation ends; 0 = until stopped")
    trajectory: str = argument(
        "", "poses file that the camera follows; without one the robot drives itself or obeys /cmd_vel"
    )
    record: bool = argument(False, "record a bag")
    lockstep: str = argument("auto", "true: time goes on when every camera has published its frame, and none is lost; "
                                      "false: real time; auto = true when a bag is recorded and the clock is ours")
    real_time_factor: float = argument(1.0, "in lockstep, how much faster than real time it may be; 0 = any speed")
    bag: str = argument("", "bag folder to create; default worldfm_<date>_<time>")
    split: str = argument("", "the bag goes on in another file after a size or duration, such as 2GB or 10min")
    compressed: bool = argument(False, "record image_raw/compressed and compressedDepth in place of the raw images")
    viewer: bool = argument(True, "serve the live image on http://localhost:PORT")
    host: str = argument("127.0.0.1", "address of the viewer; 0.0.0.0 shows it to the whole network")
    port: int = argument(8080, "port of the viewer; 0 takes any free one")
    seed: int = argument(0, "seed of the robot's tour and of the model's noise")
    namespace: str = argument("camera", "namespace of the camera's topics")
    camera: str = argument("", "camera file (size, K, distortion, noise ...: docs/sensors.md): a ROS camera_info YAML "
                               "or a camera.yaml; beats width, height and hfov. false: no camera, for a drive that "
                               "gets its images later")
    rig: str = argument("", "YAML file of several cameras in place of one; what it says beats the camera's arguments")
    objects: str = argument("", "what moves in the world: an objects.yaml (docs/objects.md); demo: a person who walks "
                                "through the demo world")
    map_memory: int = argument(0, "MiB of the world that are kept in memory, the rest stays on the disk; 0 = all of it")
    grow: bool = argument(False, "the map grows where the robot sees what it does not have (docs/growth.md)")
    completer: str = argument("smooth", "what completes the depth of frames that the map grows by, such as depth-tiny")
    max_anchors: int = argument(5_000_000, "of a map that grows; beyond, generated anchors leave it, the least sure "
                                           "first")
    save_folder: str = argument("", "world folder to save a grown world to, at the end and by ~/save_map")
    autosave: float = argument(0.0, "seconds between saves to save_folder while the map grows; 0 = at the end")
    robot: str = argument("", "name of the robot: a namespace around all nodes, with TF and clock of its own, so that "
                               "several simulations share a ROS domain")
    tf_prefix: str = argument("", "before the frames odom, base_link, camera_link and camera_frame, such as r1/: for "
                                   "robots that share one /tf")
    use_sim_time: bool = argument(False, "follow the /clock that somebody else publishes")
    camera_frame: str = argument("camera_optical_frame", "TF frame of the camera, optical axes")
    map_frame: str = argument("", "TF frame of the world's coordinates; empty = the one that world.yaml names")
    preset: str = argument("exact", "exact, or fast: a network's picture may change for speed")
    tf_timeout: float = argument(0.5, "seconds to wait for the TF of a stamp before its image is dropped")
    always_on: bool = argument(False, "paint even when nobody subscribes")
    params_file: str = argument("", "ROS parameter file; arguments given on the command line beat it")

    def __post_init__(self) -> None:
        for name in PATHS:
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))
        for name in ("namespace", "robot"):
            object.__setattr__(self, name, checked_namespace(name, getattr(self, name)))
        object.__setattr__(self, "lockstep", _lockstep(self.lockstep))
        if self.use_sim_time and self.lockstep == "true":
            raise ValueError("lockstep:=true makes the time here, use_sim_time:=true follows somebody else's /clock; "
                             "give one of them (another simulator in lockstep: docs/nodes.md)")
        if not 0.0 <= self.real_time_factor <= MAX_RATE:
            raise ValueError(f"real_time_factor is from 0 (any speed) to {MAX_RATE:g}, got {self.real_time_factor}")
        if not 0.0 <= self.tf_timeout <= MAX_TIMEOUT:
            raise ValueError(f"tf_timeout is from 0 to {MAX_TIMEOUT:g} seconds, got {self.tf_timeout}")
        if not self.camera_frame:
            raise ValueError("camera_frame is the TF frame of the camera, such as camera_optical_frame; it is empty")
        if not 0 <= self.port <= MAX_PORT:
            raise ValueError(f"port is from 0 to {MAX_PORT}, got {self.port}")
        Intrinsics.from_hfov(self.width, self.height, math.radians(self.hfov))
        if not 0.0 < self.rate <= MAX_RATE:
            raise ValueError(f"rate is above 0 and at most {MAX_RATE:g} Hz, got {self.rate}")
        if not 0.0 <= self.duration < math.inf:
            raise ValueError(f"duration is 0 (until stopped) or a number of seconds, got {self.duration}")
        Split.parse(self.split)
        if (self.split or self.compressed) and not self.record:
            raise ValueError("split and compressed say how to record; add record:=true")
        if self.bag and not self.record:
            raise ValueError(f"bag:={self.bag} asks for a recording; add record:=true")
        if self.bag and Path(self.bag).exists():
            raise ValueError(f"the bag {self.bag} exists and is never overwritten; choose another name or remove it")
        if not self.films and (self.rig or self.objects or self.lockstep == "true"):
            raise ValueError("camera:=false has nothing to do with rig, objects or lockstep:=true; leave them out")
        if self.camera and self.films:
            read_sensor_file(self.camera)
        if self.map_memory < 0 or (self.grow and self.map_memory):
            raise ValueError("map_memory is MiB, 0 = all of the world; a map that grows is all in memory, got "
                             f"{self.map_memory}")
        if self.max_anchors < 1:
            raise ValueError(f"max_anchors is a number of anchors above 0, got {self.max_anchors}")
        if self.autosave and not (self.grow and self.save_folder):
            raise ValueError("autosave is for a map that grows; add grow:=true and save_folder:=FOLDER")
        if self.objects:
            read_objects(objects_file(self.objects))
        if self.params_file and not Path(self.params_file).is_file():
            raise ValueError(f"params_file {self.params_file} does not exist")
        if self.trajectory:
            if not Path(self.trajectory).is_file():
                raise ValueError(
                    f"trajectory {self.trajectory} does not exist; "
                    "expected a file of lines 'index tx ty tz qx qy qz qw'"
                )
            read_poses(self.trajectory)

    @property
    def films(self) -> bool:
        """Whether there is a camera at all."""
        return self.camera != NO_CAMERA

    @property
    def in_lockstep(self) -> bool:
        """Whether time waits for the cameras."""
        return self.lockstep == "true" or (
            self.lockstep == "auto" and self.record and self.films and not self.use_sim_time)


def checked_namespace(name: str, value: str) -> str:
    """A namespace without slashes around it. Raises ValueError for what ROS does not allow."""
    value = value.strip("/")
    if value and not re.fullmatch(f"{ROS_NAME}(/{ROS_NAME})*", value, re.ASCII):
        raise ValueError(f"{name} is one or more names with / between them, each of letters, digits and _ and "
                         f"not beginning with a digit, such as camera or front/camera; got {value!r}")
    return value


def _lockstep(text: str) -> str:
    """true, false or auto. Raises ValueError for another word."""
    words = {"true": "true", "1": "true", "false": "false", "0": "false", "auto": "auto"}
    if text.lower() not in words:
        raise ValueError(f"lockstep is true, false or auto, got {text!r}")
    return words[text.lower()]


def parse_arguments(words: Sequence[str]) -> tuple[SimulationArguments, frozenset[str]]:
    """`name:=value` words as arguments, and the names that were given. Raises ValueError for an unknown one."""
    values = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator:
            raise ValueError(f"expected name:=value, got {word!r}")
        values[name] = value
    return arguments_from_text(values), frozenset(values)


def arguments_from_text(values: Mapping[str, str], kind: type = SimulationArguments):
    """Arguments of a kind from text; says on stderr what is unusual. Raises ValueError for an unknown name or a value
    of the wrong type."""
    known = {f.name: f for f in fields(kind)}
    for name in values:
        if name not in known:
            raise ValueError(unknown_argument(name, kind))
    arguments = kind(**{name: _parse(name, default_of(known[name]), text) for name, text in values.items()})
    if hint := hfov_warning(getattr(arguments, "hfov", 0.0)):
        print(f"warning: {hint}", file=sys.stderr)
    return arguments


def unknown_argument(name: str, kind: type = SimulationArguments) -> str:
    """Says that there is no such argument, and which one may have been meant."""
    known = [f.name for f in fields(kind)]
    near = likely_argument(name, kind)
    return (f"there is no argument {name!r}" + (f"; did you mean {near!r}?" if near else ";")
            + f" The arguments: {', '.join(known)}")


def likely_argument(name: str, kind: type = SimulationArguments) -> str:
    """The argument that a misspelt name resembles; empty when it resembles none."""
    return next(iter(difflib.get_close_matches(name, [f.name for f in fields(kind)], n=1)), "")


def as_text(value: object) -> str:
    """A value as it is written after `name:=`."""
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse(name: str, default: object, text: str) -> object:
    if isinstance(default, bool):
        words = {"true": True, "false": False, "1": True, "0": False}
        if text.lower() not in words:
            raise ValueError(f"{name} is true or false, got {text!r}")
        return words[text.lower()]
    if isinstance(default, list):
        return [word for word in text.split(",") if word]
    try:
        return type(default)(text)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ValueError(f"{name} is {kind}, got {text!r}") from None
