"""Frames of a rendered bag made again: its note says how, its TF from where, and its messages what must come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worldfm_ros.bags.reader import Bag
from worldfm_ros.replay.bag_output import NOTE
from worldfm_ros.replay.bag_poses import Asked, Wanted, poses_of
from worldfm_ros.replay.cameras import ReplayCamera
from worldfm_ros.replay.messages import MessageMaker
from worldfm_ros.replay.recipe import Job, Model, Recipe, Scene, Studio, followed

NEEDED = {"world", "model", "seed", "preset", "threads", "code", "cameras", "map_frame", "rate", "tf_topic",
          "compressed", "truth"}


@dataclass(frozen=True)
class Remade:
    """A frame's name, how many messages it has, and the topics (below the camera's namespace) that came out otherwise.
    """

    name: str
    messages: int
    different: Sequence[str]


def check_note(note: Mapping, path: Path) -> None:
    """Raise ValueError for what does not tell how a bag was rendered."""
    if not note:
        raise ValueError(f"{path} does not tell how it was painted: its metadata.yaml has no {NOTE}, which "
                         "`worldfm bag render` writes; frames of other bags cannot be made again")
    if missing := sorted(NEEDED - note.keys()):
        raise ValueError(f"{path} was rendered by an older version, whose note lacks {', '.join(missing)}; render it "
                         "again to have frames that can be made again")


def recipe_of(note: Mapping, world: Path, objects: str = "", model: str = "") -> Recipe:
    """A checked note's recipe with the world, the objects' file and the model of this machine (by default the model of
    the note's name). Raises ValueError where they are others than the bag's, OSError."""
    known = note["world"]
    if bool(objects) != bool(known["objects"]):
        raise ValueError(f"the bag was painted with {known['objects']}; give that file as --objects" if known["objects"]
                         else "the bag was painted without objects; leave out --objects")
    scene = Scene.of(world, objects, known["things"])
    if scene.hash != known["sha256"]:
        raise ValueError(f"{world}{' with ' + objects if objects else ''} is not what the bag was painted of: its hash "
                         f"is {scene.hash}, the bag names {known['sha256']} (world {known['name']!r}"
                         f"{', objects ' + known['objects'] if objects else ''}); give that one, as it was then")
    named = Model(model or note["model"]["name"], note["seed"], note["preset"])
    recipe = Recipe.of(scene, named, [ReplayCamera.from_dict(camera) for camera in note["cameras"]])
    if recipe.model_hash != note["model"]["sha256"]:
        raise ValueError(f"the model {named.name!r} here is not the bag's: its hash is {recipe.model_hash or 'none'}, "
                         f"the bag names {note['model']['sha256'] or 'none'} ({note['model']['name']!r}); give that "
                         "one (--model FOLDER)")
    return replace(recipe, threads=note["threads"])


def frames_of(bag: Bag, note: Mapping, recipe: Recipe) -> Asked:
    """The frames that the bag was rendered with, from its own TF. Raises ValueError where TF gives none."""
    moving = [item.frame for item in recipe.scene.items() if item.frame]
    asked = poses_of(bag, Wanted(recipe.cameras, note["map_frame"], note["rate"], note["tf_topic"], moving))
    return replace(asked, jobs=followed(asked.jobs))


def remake(bag: Bag, note: Mapping, recipe: Recipe, frames: Asked, places: Sequence[int]) -> Iterator[Remade]:
    """Paint the frames at these places in `frames` again, and compare each message's bytes with the bag's."""
    studio = Studio(recipe)
    make = MessageMaker(note["compressed"], tuple(note["truth"]), note["map_frame"])
    for place in places:
        job = frames.jobs[place]
        made = make(studio.shoot(job))
        space = f"/{recipe.cameras[job.camera].namespace}/"
        stored = _stored(bag, {space + name for name in make.topics}, frames.recorded[place])
        different = [name for name in make.topics if space + name in stored.keys() | {space + each for each in made}
                     and made.get(name) not in stored.get(space + name, ())]
        yield Remade(job.name, len(made), different)


def _stored(bag: Bag, topics: set[str], recorded: int) -> dict[str, list[bytes]]:
    """Messages of a moment, by topic; each has its stamp in it, so that no other frame's has the same bytes."""
    found: dict[str, list[bytes]] = {}
    connections = [c for c in bag.connections if c.topic in topics]
    for connection, _, data in bag.messages(connections, recorded, recorded + 1) if connections else ():
        found.setdefault(connection.topic, []).append(bytes(data))
    return found


def place_of(jobs: Sequence[Job], stamp: int) -> list[int]:
    """Where the frames with a stamp (ns) are, one of each camera. Raises ValueError, naming the next ones."""
    found = [place for place, job in enumerate(jobs) if job.stamp == stamp]
    if not found:
        nearest = min(jobs, key=lambda job: abs(job.stamp - stamp)).stamp
        raise ValueError(f"the bag has no frame with the stamp {stamp} ns; the nearest is {nearest}")
    return found
