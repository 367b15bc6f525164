"""The cameras of a rendering, from the files that the live nodes read: a camera.yaml, a camera_info file or a rig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.mounts import mount_transforms, parse_mount
from worldfm_ros.nodes.rig import read_rig
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.camera_file import camera_of, camera_yaml, read_mapping
from worldfm_ros.sensor.randomize import Randomization, randomization_of
from worldfm_ros.sensor.rig import Mounted
from worldfm_ros.sensor.sensor import Sensor
from worldfm_ros.sensor.settings import SensorSettings, settings_of

NAMESPACE = "camera"  # of a single camera's topics, as for the live node
OF_A_RUN = ("world", "model", "preset", "seed")  # which are one for all cameras here


@dataclass(frozen=True, eq=False)
class ReplayCamera:
    """One camera: its topics' namespace, its TF frame (optical axes), and what it is made of. Can be pickled.

    parent: the frame that it is mounted on by `mount` ("x y z roll pitch yaw"); empty = TF says where it is.
    rate: images a second that its file asks for; None = it says nothing.
    """

    namespace: str
    frame: str
    camera: Camera
    settings: SensorSettings
    parent: str = ""
    mount: str = "0 0 0 0 0 0"
    depth_encoding: str = "32FC1"
    qos: str = "reliable"
    rate: float | None = None
    randomization: Randomization | None = None

    def sensor(self) -> Sensor:
        return Sensor(self.camera, self.settings, self.randomization)

    @property
    def mounts(self) -> list[tuple[Pose, str, str]]:
        """The static transforms (T_parent_child, parent, child) of its mount; none where TF has them."""
        return mount_transforms(self.parent, self.mount, self.frame) if self.parent else []

    @property
    def T_parent_optical(self) -> Pose:
        return Mounted(self.camera, parse_mount(self.mount)).T_base_optical

    def to_dict(self) -> dict:
        """All of it, JSON-ready, to the last bit."""
        texts = {name: getattr(self, name) for name in ("namespace", "frame", "parent", "mount", "depth_encoding",
                                                        "qos", "rate")}
        varies = self.randomization and self.randomization.to_dict()
        return texts | {"camera": camera_yaml(self.camera), "sensor": asdict(self.settings), "randomize": varies}

    @classmethod
    def from_dict(cls, data: Mapping) -> ReplayCamera:
        """The inverse. Raises ValueError for what is no such camera."""
        rest = dict(data)
        try:
            varies = rest.pop("randomize")
            return cls(camera=camera_of(rest.pop("camera")), settings=settings_of(rest.pop("sensor")),
                       randomization=randomization_of(varies) if varies else None, **rest)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no camera of a rendering: {error}") from None


def read_cameras(path: str | Path, frame: str = "") -> tuple[ReplayCamera, ...]:
    """The cameras of a file. `frame`: TF frame of a single camera. Raises ValueError or OSError naming the file."""
    path = Path(path)
    if {"cameras", "surround"} & read_mapping(path).keys():
        if frame:
            raise ValueError(f"{path} is a rig, which names its cameras' frames; leave the camera frame out")
        return tuple(_mounted(path, name, values) for name, values in read_rig(path).items())
    parameters = CameraParameters(camera=str(path), **({"camera_frame": frame} if frame else {}))
    return (_replayed(NAMESPACE, parameters, None),)


def _mounted(path: Path, name: str, values: dict[str, object]) -> ReplayCamera:
    if own := sorted(values.keys() & set(OF_A_RUN)):
        raise ValueError(f"{path}: {name}: {', '.join(own)} is said on the command line, and is one for all cameras; "
                         "take it out of the rig")
    return _replayed(name, CameraParameters(**values), values.get("rate"))


def _replayed(namespace: str, parameters: CameraParameters, rate: float | None) -> ReplayCamera:
    sensor = parameters.sensor
    return ReplayCamera(namespace, parameters.camera_frame, sensor.camera, sensor.settings, parameters.parent_frame,
                        parameters.mount, parameters.depth_encoding, parameters.qos, rate, sensor.randomization)
