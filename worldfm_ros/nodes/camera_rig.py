"""Several cameras in one process: one model, one thread that paints, a namespace for each camera.

    camera_rig --ros-args -p rig:=rig.yaml -p world:=my_world
"""

from __future__ import annotations

from dataclasses import dataclass, fields
import os
from typing import NoReturn
from weakref import WeakValueDictionary

from rclpy.node import Node
from rclpy.parameter import Parameter

from worldfm_ros.nodes.camera_loading import growing, load_generator_of, measure
from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.graph import GLOBAL_TOPICS
from worldfm_ros.nodes.parameters import declare_parameters, describe
from worldfm_ros.nodes.qos import send_from_a_thread
from worldfm_ros.nodes.rig import read_rig
from worldfm_ros.nodes.runner import leave, run
from worldfm_ros.nodes.worker import Threads


@dataclass(frozen=True)
class RigParameters(CameraParameters):
    """Those of a camera are for all of them, where the rig's file does not say otherwise."""

    rig: str = describe("", "YAML file of the rig: its cameras, their mounts, and their parameters")
    frame_prefix: str = describe("", "before the frames that the rig's file names, such as r1/")


class CameraRig(Node):
    """Makes the cameras, each as `NAME/frame_camera` in its own namespace, and spins with them.

    Raises ValueError or OSError for a rig, world, model or parameter that it cannot work with.
    """

    def __init__(self, **node_options) -> None:
        super().__init__("camera_rig", **node_options)
        settings = declare_parameters(self, RigParameters, fixed=True)
        if not settings.rig:
            raise ValueError("the parameter rig is empty; give the YAML file of a rig (docs/nodes.md)")
        rig = read_rig(settings.rig, {f.name: getattr(settings, f.name) for f in fields(CameraParameters)})
        self._generators: WeakValueDictionary = WeakValueDictionary()
        self._threads = Threads()
        self.cameras: list[FrameCamera] = []
        try:
            for name, values in rig.items():
                self.cameras.append(self._make(name, values, settings))
        except BaseException:
            self.destroy_node()
            raise
        self.nodes = [self, *self.cameras]
        self.exit_code: int | None = None
        self.get_logger().info(f"{len(rig)} cameras: {', '.join(rig)}")

    def _make(self, name: str, values: dict[str, object], settings: RigParameters) -> FrameCamera:
        ours = {f.name: getattr(settings, f.name) for f in fields(CameraParameters)} | values
        for frame in ("camera_frame", "parent_frame"):
            ours[frame] = settings.frame_prefix + ours[frame] if ours[frame] else ""
        ours["use_sim_time"] = self.get_parameter("use_sim_time").value
        # not the process's arguments: __ns and __node would give all of them one name
        remaps = [word for topic in GLOBAL_TOPICS for word in ("-r", f"{topic}:={self.resolve_topic_name(topic)}")]
        return FrameCamera(
            threads=self._threads, load=self._load, namespace=f"{self.get_namespace().rstrip('/')}/{name}",
            use_global_arguments=False, cli_args=["--ros-args", *remaps], context=self.context,
            parameter_overrides=[Parameter(key, value=value) for key, value in ours.items() if value != []])

    def _load(self, settings: CameraParameters, again: bool, say):
        """The generator of a camera, the same for all cameras that ask for the same."""
        key = settings.world, settings.model, settings.seed, settings.preset, settings.objects, settings.map_memory
        generator = None if again else self._generators.get(key)
        if generator is None:
            generator = self._generators[key] = load_generator_of(settings)
        measure(generator, settings, say)
        return growing(generator, settings, say)

    def close(self) -> None:
        for camera in self.cameras:
            camera.close()
            self.exit_code = self.exit_code or camera.exit_code
        self._threads.close()

    def destroy_node(self) -> None:
        for camera in self.cameras:
            camera.destroy_node()
        super().destroy_node()


def main(args=None) -> NoReturn:
    send_from_a_thread(os.environ)
    leave(run(CameraRig, args))


if __name__ == "__main__":
    main()
