"""What decides the bytes of a rendering, and the studio that paints by it: the same in every process and on every node.

A recipe travels to workers and, as text, into what was rendered, so that any frame of it can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache, partial
import hashlib
import json
from pathlib import Path
import sys

from worldfm_ros.geometry import Pose
from worldfm_ros.objects.objects import MovingObject, Placed, load_objects, objects_file, read_objects
from worldfm_ros.objects.route import State
from worldfm_ros.replay.cameras import ReplayCamera
from worldfm_ros.replay.parts import Made, pack
from worldfm_ros.sensor.sensor import Sensor, Taken
from worldfm_ros.share import NO_NETWORK, find_model
from worldfm_ros.threads import before_torch
from worldfm_ros.truth.things import Things
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import MANIFEST, World, read_manifest, read_world

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, eq=False)
class Later:
    """The camera and what moves at the next stamp of a job's camera."""

    pose: Pose
    time: int
    states: Mapping[str, State]


@dataclass(frozen=True, eq=False)
class Job:
    """A picture that is asked for: of which camera (its place in the recipe), when, and from where.

    name: what it is called in the output; stamp: nanoseconds, or a frame's number, which chooses the noise
    poses: T_world_camera (optical axes) at the stamp + each of the sensor's offsets
    time: nanoseconds, at which objects are where they are; states: of objects on TF frames, by frame
    later: the next stamp, None at the end
    """

    name: str
    camera: int
    stamp: int
    poses: tuple[Pose, ...]
    time: int
    states: Mapping[str, State] = field(default_factory=dict)
    later: Later | None = None

    @property
    def pose(self) -> Pose:
        return self.poses[len(self.poses) // 2]


def followed(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, each with the next stamp of its camera and trajectory."""
    later, found = {}, []
    for job in reversed(jobs):
        key = job.camera, job.name.rpartition("/")[0]
        found.append(replace(job, later=later.get(key)))
        later[key] = Later(job.pose, job.time, job.states)
    return found[::-1]


@dataclass(frozen=True, eq=False)
class Shot:
    """What a camera took for a job, with which sensor, of which objects: all that an output is made of."""

    job: Job
    camera: ReplayCamera
    sensor: Sensor
    objects: Sequence[Placed]
    has_objects: bool  # whether there are any, seen or not
    later: Sequence[Placed] | None  # where the objects are at the next stamp
    things: Things | None  # of the static world, where they are asked for
    taken: Taken


Maker = Callable[[Shot], Made]  # the files or messages of a shot, by name; it travels to workers, so it can be pickled


@dataclass(frozen=True)
class Model:
    """A frame model by name or folder, the seed of its noise, and what may be done to it for speed."""

    name: str
    seed: int = 0
    preset: str = "exact"


@dataclass(frozen=True)
class Scene:
    """A world folder, and the file of what moves in it (`demo` = the demo's; empty = nothing); things: whether what
    stands in the world has instance ids, too."""

    world: str
    objects: str = ""
    things: bool = False

    @classmethod
    def of(cls, world: str | Path, objects: str = "", things: bool = False) -> Scene:
        """By absolute paths, as workers find them. Raises ValueError."""
        read_manifest(world)
        return cls(str(Path(world).absolute()), str(objects_file(objects).absolute()) if objects else "", things)

    def items(self) -> list[MovingObject]:
        """What moves. Raises ValueError."""
        return read_objects(Path(self.objects)) if self.objects else []

    def label_names(self) -> dict[int, str]:
        """Of the world and of what moves in it."""
        manifest = read_manifest(self.world)
        world = World(manifest["name"], AnchorMap(), [], 0.0, manifest["labels"])
        return load_objects(self.objects, world).named(world).label_names

    def instance_names(self) -> dict[int, str]:
        """Of what moves and, where they are asked for, of the world's things. Raises ValueError."""
        things = Things.of(read_world(self.world)).names if self.things else {}
        return things | {item.id: item.name for item in self.items()}

    @property
    def hash(self) -> str:
        """Of world.yaml, which names every file of the world by its hash, and of the objects' file."""
        files = [Path(self.world) / MANIFEST, *([Path(self.objects)] if self.objects else [])]
        return _short(b"".join(file.read_bytes() for file in files))


@dataclass(frozen=True, eq=False)
class Recipe:
    """Scene, model and cameras, with the hashes that tell whether they are the same elsewhere.

    threads: of torch, which pictures may depend on; 0 = there is no network.
    """

    scene: Scene
    model: Model
    cameras: tuple[ReplayCamera, ...]
    scene_hash: str
    model_hash: str
    code_hash: str
    threads: int

    @classmethod
    def of(cls, scene: Scene, model: Model, cameras: Sequence[ReplayCamera]) -> Recipe:
        """Raises ValueError or OSError for a model or preset that is not there."""
        model_hash = hash_of_model(model.name)
        threads = 0 if model.name == NO_NETWORK and model.preset == "exact" else _threads(model.preset)
        return cls(scene, model, tuple(cameras), scene.hash, model_hash, code_hash(), threads)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def _key(self) -> str:
        return f"{self.scene}\n{json.dumps(self.to_dict())}"

    def to_dict(self) -> dict:
        """JSON-ready: what makes the same bytes, wherever the world and the model are."""
        name = read_manifest(self.scene.world)["name"]
        return {"world": {"name": name, "objects": Path(self.scene.objects).name, "sha256": self.scene_hash,
                          "things": self.scene.things},
                "model": {"name": self.model.name, "sha256": self.model_hash}, "seed": self.model.seed,
                "preset": self.model.preset, "threads": self.threads, "code": self.code_hash,
                "cameras": [camera.to_dict() for camera in self.cameras]}

    def check_here(self) -> None:
        """Raise ValueError when this machine would paint something else."""
        if (found := code_hash()) != self.code_hash:
            raise ValueError(f"a worker runs another version of worldfm_ros ({found}, not {self.code_hash}); install "
                             "the same one on every node")
        for path in filter(None, (self.scene.world, self.scene.objects)):
            if not Path(path).exists():
                raise ValueError(f"a worker does not have the world: there is no {path} on its node; put it on a "
                                 "shared disk, or copy it to the same path on every node")
        for what, found, expected in (("world", self.scene.hash, self.scene_hash),
                                      ("model", hash_of_model(self.model.name), self.model_hash)):
            if found != expected:
                raise ValueError(f"a worker has another {what} by that name ({found}, not {expected}); copy the "
                                 f"{what} to its node again")


class Studio:
    """A recipe at work: world and model are loaded once."""

    def __init__(self, recipe: Recipe) -> None:
        """Raises ValueError or OSError."""
        recipe.check_here()
        from worldfm_ros.generator import load_generator  # compiled code takes seconds to load

        model, scene = recipe.model, recipe.scene
        self._generator = load_generator(read_world(scene.world), model.name, model.seed, model.preset, scene.objects)
        self._things = Things.of(self._generator.world) if scene.things else None
        if recipe.threads:
            sys.modules["torch"].set_num_threads(recipe.threads)
        self._cameras = [(camera, camera.sensor()) for camera in recipe.cameras]

    def shoot(self, job: Job) -> Shot:
        """Raises ValueError for a pose from which nothing can be shown."""
        camera, sensor = self._cameras[job.camera]
        objects = self._generator.objects
        placed = objects.at(job.time, job.states.get)
        later = objects.at(job.later.time, job.later.states.get) if job.later else None
        taken = sensor.take(partial(self._generator.generate, objects=placed), job.poses, job.stamp)
        return Shot(job, camera, sensor, placed, bool(objects.items), later, self._things, taken)


@dataclass(frozen=True, eq=False)
class Painting:
    """What a worker is sent: how to paint, and what to make of it."""

    recipe: Recipe
    make: Maker

    def __call__(self, jobs: Sequence[Job]) -> bytes:
        """What is made of the jobs, packed."""
        studio = _studio(self.recipe)
        return pack([self.make(studio.shoot(job)) for job in jobs])


@lru_cache(maxsize=1)
def _studio(recipe: Recipe) -> Studio:
    """A worker gets many chunks of one recipe, each with a copy of it."""
    return Studio(recipe)


@lru_cache(maxsize=8)
def hash_of_model(name: str) -> str:
    """Of the files of a model's folder; empty without a network."""
    if name == NO_NETWORK:
        return ""
    digest = hashlib.sha256()
    folder = find_model(name)
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".json", ".safetensors"):
            digest.update(f"{file.relative_to(folder)}\n".encode())
            with file.open("rb") as data:
                while block := data.read(2**20):
                    digest.update(block)
    return digest.hexdigest()[:16]


@cache
def code_hash() -> str:
    """Of this package's source."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{file.relative_to(PACKAGE)}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _threads(preset: str) -> int:
    """How many threads torch has here: as load_model gives it. Raises ValueError for an unknown preset."""
    threads = before_torch()
    import torch

    from worldfm_ros.painting.learned import find_preset

    find_preset(preset)
    return threads or torch.get_num_threads()
