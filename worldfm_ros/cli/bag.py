"""`worldfm bag`: rescue recordings, and let cameras see what a recorded drive passed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
import sys

import tyro

from worldfm_ros.bags.reader import open_bag
from worldfm_ros.bags.recovery import recover
from worldfm_ros.cli.rendering import Frames, Where, check_rate
from worldfm_ros.progress import Progress
from worldfm_ros.replay.bag_output import BagOutput, note_of
from worldfm_ros.replay.bag_poses import Wanted, poses_of
from worldfm_ros.replay.cameras import read_cameras
from worldfm_ros.replay.engine import Rendering, check_new
from worldfm_ros.replay.messages import MessageMaker
from worldfm_ros.replay.recipe import Model, Painting, Recipe, Scene, code_hash, followed
from worldfm_ros.replay.remake import check_note, frames_of, place_of, recipe_of, remake
from worldfm_ros.replay.truths import check_truths
from worldfm_ros.world.storage import read_manifest


def render_bag(
    bag: tyro.conf.Positional[Path],
    *,
    world: Path,
    camera: Path,
    model: str,
    out: Path,
    rate: float | None = None,
    seed: int = 0,
    preset: str = "exact",
    objects: str = "",
    truth: tuple[str, ...] = (),
    where: tyro.conf.OmitArgPrefixes[Where] = Where(),
    frames: tyro.conf.OmitArgPrefixes[Frames] = Frames(),
    compressed: bool = False,
) -> None:
    """Give a bag that has TF the topics of cameras: every tick of a rate, or every pose that TF gives.

    The messages are those that the live camera publishes for the same stamps and poses, however long the model takes.
    The input's own topics, stamps and QoS stay as they are. A command that was stopped goes on where it was.

    Args:
        bag: the bag with /tf and /tf_static (ROS 2, any storage); it is only read.
        world: the world folder that the bag was driven in.
        camera: a camera.yaml, a ROS camera_info file, or the YAML of a rig.
        model: `anchors` (no network), the name of an installed model, or a model folder.
        out: the bag folder to create.
        rate: pictures a second, at whole multiples of 1 / rate; by default the rig's, else every new pose of TF.
        seed: of the model's noise.
        preset: exact, or fast: what may be done to a network for speed.
        objects: what moves: an objects.yaml (docs/objects.md), or demo.
        truth: what else: things boxes normals flow (docs/datasets.md).
        compressed: JPEG and compressedDepth in place of raw images.
    """
    check_new(out)
    check_rate(rate)
    cameras = read_cameras(camera, frames.camera_frame)
    truths = check_truths(truth)
    scene = Scene.of(world, objects, "things" in truths)
    recipe = Recipe.of(scene, Model(model, seed, preset), cameras)
    wanted = Wanted(cameras, frames.map_frame or read_manifest(world)["frame_id"], rate, frames.tf_topic,
                    [item.frame for item in scene.items() if item.frame])
    with open_bag(bag) as source:
        asked = poses_of(source, wanted)
        painting = Painting(recipe, MessageMaker(compressed, truths, wanted.map_frame))
        rendering = Rendering(out, painting, followed(asked.jobs),
                              f"{bag.absolute()} {compressed} {truths}")
        output = BagOutput(source, rendering, asked, wanted)
        output.check()
        rendering.paint(where.runner, Progress(f"painting with {model}"))
        output.write()
    stamps = len(asked.jobs) + asked.lost.total()
    print(f"{out}: {len(asked.jobs)} of {stamps} images")
    for reason, count in asked.lost.items():
        print(f"lost: {count} without a pose: {reason}", file=sys.stderr)
    for frame, count in asked.undrawn.items():
        print(f"note: not drawn {count} times, object at {frame}", file=sys.stderr)


def remake_bag(
    bag: tyro.conf.Positional[Path],
    *,
    world: Path,
    index: int | None = None,
    stamp: int | None = None,
    every: int = 1,
    objects: str = "",
    model: str = "",
) -> None:
    """Paint frames of a rendered bag again, from the bag alone, and compare every byte of their messages with it.

    World, objects and model must be those that the bag names by their hashes. Ends with 1 where a byte differs.

    Args:
        bag: a bag of `worldfm bag render`; it is only read.
        world: the world folder that it was painted of.
        index: one frame by its number, from 0; by default all of them.
        stamp: the frames (one of each camera) of one stamp, nanoseconds.
        every: of all frames, every so many.
        objects: the file of what moved, or demo, where the bag was painted with it.
        model: where the model is now, if not by the bag's name for it.
    """
    if every < 1 or sum((index is not None, stamp is not None, every > 1)) > 1:
        raise ValueError("give one of --index, --stamp and --every (from 1 up)")
    with open_bag(bag) as source:
        note = note_of(bag)
        check_note(note, bag)
        recipe = recipe_of(note, world, objects, model)
        frames = frames_of(source, note, recipe)
        count = len(frames.jobs)
        if index is not None and not 0 <= index < count:
            raise ValueError(f"{bag} has the frames 0 to {count - 1}, there is no {index}")
        places = [index] if index is not None else range(0, count, every)
        if stamp is not None:
            places = place_of(frames.jobs, stamp)
        remade = list(remake(source, note, recipe, frames, places))
    wrong = [frame for frame in remade if frame.different]
    for frame in wrong:
        print(f"{frame.name}: {', '.join(frame.different)} came out otherwise", file=sys.stderr)
    if wrong and note["code"] != code_hash():
        print(f"note: the bag was painted by another version of worldfm_ros ({note['code']}, here {code_hash()})",
              file=sys.stderr)
    print(f"{bag}: {len(remade) - len(wrong)} of {len(remade)} frames made again, "
          f"{sum(frame.messages for frame in remade)} messages, byte for byte")
    if wrong:
        raise SystemExit(1)


def recover_bag(bag: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> None:
    """Copy every whole message of a damaged bag into a new bag.

    Args:
        bag: the damaged bag folder, with or without metadata.yaml, or one storage file; it is left as it is.
        out: the bag folder to create.
    """
    lost, notes = Counter(), []
    for topic, count in sorted(recover(bag, out, lost, notes).items()):
        print(f"{count:7d} {topic}")
    for kind, count in lost.items():
        print(f"lost: {count} {kind}", file=sys.stderr)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
