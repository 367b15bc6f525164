"""A rendering as a bag: the input's messages as they are, and each camera's behind the transform that it waited for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import json
import math
from pathlib import Path
import shutil

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from worldfm_ros.bags.reader import Bag
from worldfm_ros.bags.recovery import custom_data
from worldfm_ros.bags.writer import BagWriter
from worldfm_ros.nodes.qos_presets import PRESETS
from worldfm_ros.replay.bag_poses import Asked, Wanted
from worldfm_ros.replay.cameras import ReplayCamera
from worldfm_ros.replay.cdr import store
from worldfm_ros.replay.engine import Rendering
from worldfm_ros.replay.messages import STRING, TF, names, static_transforms
from worldfm_ros.replay.recipe import Recipe

NOTE = "worldfm_ros.rendering"  # in the metadata's custom data
STATIC = "/tf_static"
NAMES = ("segmentation/labels", "instances/names")  # what is latched of each camera
FOREVER = QosTime(2**31 - 1, 2**32 - 1)  # no deadline, no lifespan


@dataclass(frozen=True, eq=False)
class BagOutput:
    """Where the messages of a rendering go. wanted: what was asked of the bag, to be known to make a frame again."""

    bag: Bag
    rendering: Rendering
    asked: Asked
    wanted: Wanted

    @property
    def recipe(self) -> Recipe:
        return self.rendering.painting.recipe

    def topics(self) -> dict[str, tuple[str, ReplayCamera]]:
        """What is made, by full name: type and camera."""
        kinds = self.rendering.painting.make.topics
        return {f"/{camera.namespace}/{topic}": (kind, camera) for camera in self.recipe.cameras
                for topic, kind in kinds.items()}

    def check(self) -> None:
        """Raise ValueError for a bag that has the topics already, or whose messages cannot be copied."""
        ours = {*self.topics(), *(f"/{camera.namespace}/{name}" for camera in self.recipe.cameras for name in NAMES)}
        if taken := sorted(ours & {connection.topic for connection in self.bag.connections}):
            raise ValueError(f"{self.bag.path} has {', '.join(taken)} already; name the camera otherwise (a rig's "
                             "cameras are named in its file), or record without it (camera:=false)")
        if self.bag.path.suffix == ".bag":
            raise ValueError(f"{self.bag.path} is a bag of ROS 1; make it one of ROS 2 first: rosbags-convert --src "
                             f"{self.bag.path} --dst {self.bag.path.with_suffix('')}")

    def write(self) -> None:
        """Write it from the parts, whole or not at all. Raises OSError, and ValueError for a damaged input."""
        out = self.rendering.out
        partial = self.rendering.folder / out.name
        shutil.rmtree(partial, ignore_errors=True)
        make, wanted = self.rendering.painting.make, self.wanted
        note = self.recipe.to_dict() | {"map_frame": wanted.map_frame, "rate": wanted.rate, "tf_topic": wanted.tf,
                                        "compressed": make.compressed, "truth": make.truth}
        writer = BagWriter(partial, compression="zstd", notes={NOTE: json.dumps(note)}, flush_period=math.inf)
        writer.typestore = store()
        with writer:
            self._copy(writer)
        partial.rename(out)
        self.rendering.close()

    def _copy(self, writer: BagWriter) -> None:
        copies = {(c.topic, c.msgtype): _announced(writer, c) for c in self.bag.connections}
        frames, begun = self._made(writer), False
        due = next(frames, None)
        for connection, recorded, data in self.bag.messages():
            while due and due[1] < recorded:
                writer.write(*due)
                due = next(frames, None)
            if not begun:
                begun = True
                self._latch(writer, copies, recorded)
            writer.write(copies[connection.topic, connection.msgtype], recorded, data)
        while due:
            writer.write(*due)
            due = next(frames, None)

    def _made(self, writer: BagWriter) -> Iterator[tuple[Connection, int, bytes]]:
        """The cameras' messages, in order; a topic is announced with its first one."""
        kinds, known = self.topics(), {}
        for (job, made), recorded in zip(self.rendering.made(), self.asked.recorded, strict=True):
            for name, data in made.items():
                topic = f"/{self.recipe.cameras[job.camera].namespace}/{name}"
                if topic not in known:
                    kind, camera = kinds[topic]
                    known[topic] = writer.add_topic(topic, kind, [qos(camera.qos)])
                yield known[topic], recorded, data

    def _latch(self, writer: BagWriter, copies: dict, recorded: int) -> None:
        """What is told once, at the beginning: mounts, and the names of the labels."""
        latched = [qos("latched")]
        mounted = [camera for camera in self.recipe.cameras if camera.mounts]
        if mounted:
            static = copies.get((STATIC, TF)) or writer.add_topic(STATIC, TF, latched)
            for camera in mounted:
                writer.write(static, recorded, static_transforms(camera, recorded))
        scene = self.recipe.scene
        for camera in self.recipe.cameras:
            for name, known in zip(NAMES, (scene.label_names(), scene.instance_names()), strict=True):
                if known or name == NAMES[0]:
                    writer.write(writer.add_topic(f"/{camera.namespace}/{name}", STRING, latched), recorded,
                                 names(known))


def _announced(writer: BagWriter, connection: Connection) -> Connection:
    """The input's topic in the output, with its type's own definition, which may be a user's."""
    return writer.add_connection(
        connection.topic, connection.msgtype, msgdef=connection.msgdef.data, rihs01=connection.digest,
        serialization_format=connection.ext.serialization_format,
        offered_qos_profiles=connection.ext.offered_qos_profiles)


def qos(name: str) -> Qos:
    """A preset as a bag stores it."""
    preset = PRESETS[name]
    return Qos(QosHistory.KEEP_LAST, preset.depth,
               QosReliability.RELIABLE if preset.reliable else QosReliability.BEST_EFFORT,
               QosDurability.TRANSIENT_LOCAL if preset.latched else QosDurability.VOLATILE,
               FOREVER, FOREVER, QosLiveliness.AUTOMATIC, FOREVER, False)


def note_of(path: Path) -> dict:
    """What a bag's metadata say of how it was rendered, all that makes its frames again; nothing in another bag."""
    custom = custom_data(path)
    return json.loads(custom[NOTE]) if isinstance(custom, Mapping) and NOTE in custom else {}
