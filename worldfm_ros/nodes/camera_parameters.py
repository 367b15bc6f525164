"""The parameters of a camera: what they mean, which may change while it runs, and what is wrong with a choice."""

from __future__ import annotations

from dataclasses import dataclass
import os

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.nodes.encodings import FORMATS
from worldfm_ros.nodes.mounts import parse_mount
from worldfm_ros.nodes.parameter_fields import describe
from worldfm_ros.nodes.sensor_parameters import SensorParameters
from worldfm_ros.sensor.camera import hfov_warning
from worldfm_ros.share import NO_NETWORK

MODES = ("rate", "tf", "trigger")
DEPTH_ENCODINGS = ("32FC1", "16UC1")
QOS = ("reliable", "sensor_data", "latched")
TRAINED_HFOV = 50.0, 100.0  # degrees; of the clips that all models of this package are trained on


@dataclass(frozen=True)
class CameraParameters(SensorParameters):
    """Those that `change` may be set while the camera runs, together or not at all. Raises ValueError."""

    world: str = describe("", "world folder to show", changes=True)
    model: str = describe("worldfm-tiny", "frame model: a model's name or folder, or anchors = no network",
                          changes=True)
    width: int = describe(320, "image width in pixels", 1, 8192, changes=True)
    height: int = describe(240, "image height in pixels", 1, 8192, changes=True)
    hfov: float = describe(70.0, "horizontal field of view in degrees", 1.0, 179.0, changes=True)
    rate: float = describe(10.0, "images per second; in the mode tf, at most", 0.01, 1000.0, changes=True)
    mode: str = describe("rate", "rate: an image at each whole multiple of 1 / rate; tf: at each new pose of the "
                                 "camera; trigger: when asked")
    preset: str = describe("exact", "exact, or fast: a network's picture may change for speed (docs/frame_model.md)",
                           changes=True)
    seed: int = describe(0, "seed of the frame model", 0, changes=True)
    objects: str = describe("", "what moves in the world: an objects.yaml (docs/objects.md), or demo; empty = nothing",
                            changes=True)
    map_memory: int = describe(0, "MiB of the world that are kept in memory, the rest stays on the disk; 0 = all of it",
                               0, 1 << 20, changes=True)
    grow: bool = describe(False, "the map grows where a frame shows what it does not have; frames then depend on the "
                                 "drive (docs/growth.md)", changes=True)
    completer: str = describe("smooth", "what completes the depth of frames that the map grows by, such as depth-tiny")
    max_anchors: int = describe(5_000_000, "of a map that grows; beyond, generated anchors leave it, the least sure "
                                           "first", 1, 1_000_000_000)
    insert_color_topic: str = describe("", "a sensor's colour images, raw or .../compressed, which the map is given as "
                                           "measured with insert_depth_topic's (docs/growth.md); empty = none")
    insert_depth_topic: str = describe("", "depth registered to insert_color_topic, raw or .../compressedDepth")
    insert_camera_info_topic: str = describe("", "its camera_info; empty = beside insert_color_topic")
    autosave: float = describe(0.0, "seconds between saves to save_folder while the map grows; 0 = at the end", 0.0)
    map_frame: str = describe("", "TF frame of the world's coordinates; empty = the one that world.yaml names")
    camera_frame: str = describe("camera_optical_frame", "TF frame of the camera, optical axes; frame_id of the images")
    parent_frame: str = describe("", "frame that the camera is mounted on: it publishes its mount as static TF; empty "
                                     "= somebody else does")
    mount: str = describe("0 0 0 0 0 0", "the mount: x y z (metres) roll pitch yaw (radians) of the camera's body axes "
                                         "in parent_frame")
    tf_timeout: float = describe(0.5, "seconds to wait for the TF of a stamp before its image is dropped", 0.0, 60.0,
                                 changes=True)
    always_on: bool = describe(False, "paint even when nobody subscribes", changes=True)
    lockstep: bool = describe(False, "paint what the simulator's steps ask for, and answer them; none is lost")
    depth_encoding: str = describe("32FC1", "depth images: 32FC1 = metres, NaN = none; 16UC1 = millimetres, 0 = none")
    compressed: str = describe("jpeg", "format of image_raw/compressed: jpeg or png")
    jpeg_quality: int = describe(90, "quality of JPEG images", 1, 100)
    qos: str = describe("reliable", "how the topics are offered: reliable, sensor_data (best effort) or latched")
    autostart: bool = describe(True, "configure and activate at once; false = wait for the lifecycle's transitions")
    save_folder: str = describe("", "world folder that ~/save_map writes, and a map that grows at the end",
                                changes=True)
    allowed_folders: list[str] = describe([], "folders that a world, model, camera file or save_folder set at run time "
                                              "must be in; empty = any")

    def __post_init__(self) -> None:
        for name, choices in {"mode": MODES, "depth_encoding": DEPTH_ENCODINGS, "compressed": FORMATS,
                              "qos": QOS}.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"parameter {name} is one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if bool(self.insert_color_topic) != bool(self.insert_depth_topic):
            raise ValueError("insert_color_topic and insert_depth_topic go together, got "
                             f"{self.insert_color_topic!r} and {self.insert_depth_topic!r}")
        if self.grows and self.map_memory:
            raise ValueError("a map that grows is in memory; set map_memory to 0, or grow to false and "
                             "insert_color_topic and insert_depth_topic to nothing")
        if self.autosave and not (self.grows and self.save_folder):
            raise ValueError("autosave is for a map that grows: set grow to true, or insert_color_topic and "
                             "insert_depth_topic, and save_folder to a folder")
        if self.lockstep and self.mode != "rate":
            raise ValueError(f"in lockstep the simulator's steps say when, at the rate asked; got mode {self.mode!r}")
        parse_mount(self.mount)

    @property
    def grows(self) -> bool:
        """Whether the map changes while the camera runs."""
        return self.grow or bool(self.insert_color_topic)

    @property
    def intrinsics(self) -> Intrinsics:
        """Of the image as it is taken."""
        return self.sensor.camera.picture

    def doubts(self) -> list[str]:
        """What may be meant otherwise, or look worse than it could."""
        doubts = []
        if self.camera_path:
            return doubts
        if hint := hfov_warning(self.hfov):
            doubts.append(hint)
        elif self.model != NO_NETWORK and not TRAINED_HFOV[0] <= self.hfov <= TRAINED_HFOV[1]:
            low, high = TRAINED_HFOV
            doubts.append(f"hfov {self.hfov:g} is outside of {low:g} to {high:g} degrees, which models are trained on: "
                          f"pictures will be worse than they can be")
        return doubts

    def check_folders(self) -> None:
        """Raise ValueError when a path that may be set at run time is outside of the allowed folders."""
        for name in ("world", "model", "camera", "objects", "randomize", "save_folder"):
            path = str(self.camera_path or "") if name == "camera" else getattr(self, name)
            if path and (name not in ("model", "objects") or os.sep in path):  # else a name, not a path
                self.check_folder(name, path)

    def check_folder(self, name: str, path: str) -> None:
        """Raise ValueError when the path, which is called by the name, is outside of the allowed folders."""
        allowed = [os.path.realpath(os.path.expanduser(folder)) for folder in self.allowed_folders]
        real = os.path.realpath(os.path.expanduser(path))
        if allowed and not any(os.path.commonpath([real, folder]) == folder for folder in allowed):
            raise ValueError(f"{name} {path} is not in the allowed folders {', '.join(allowed)}")
