"""`worldfm world`: build worlds and look at them."""

from __future__ import annotations

from pathlib import Path

import tyro

from worldfm_ros.cli.facts import AsJson, print_facts
from worldfm_ros.cli.fitting import fitting
from worldfm_ros.cli.topics import TopicOptions
from worldfm_ros.progress import Progress
from worldfm_ros.sources.bag import BagFrames
from worldfm_ros.sources.conventions import Conventions
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.open import open_colmap
from worldfm_ros.sources.rgbd_folder import RgbdFolder
from worldfm_ros.sources.transforms import TransformsFrames
from worldfm_ros.world.builders import rgbd, synthetic
from worldfm_ros.world.builders.fusion import FusionSettings
from worldfm_ros.world.storage import World, read_manifest, write_world

Source = tyro.conf.Positional[Path]
Settings = tyro.conf.OmitArgPrefixes[FusionSettings]
Meaning = tyro.conf.OmitArgPrefixes[Conventions]


def build_rgbd(source: Source, out: Path, settings: Settings = FusionSettings(),
               conventions: Meaning = Conventions()) -> None:
    """Build a world from an RGB-D folder (rgb/, depth/, poses.txt, camera.yaml).

    Args:
        source: the RGB-D folder.
        out: the world folder to write; a world that is there is replaced.
    """
    _fuse(RgbdFolder(source), settings, out, conventions)


def build_bag(source: Source, out: Path, topics: tyro.conf.OmitArgPrefixes[TopicOptions] = TopicOptions(),
              settings: Settings = FusionSettings(), conventions: Meaning = Conventions()) -> None:
    """Build a world from a bag with colour, registered depth, camera_info and TF (ROS 1 or 2, any storage).

    Args:
        source: the bag.
        out: the world folder to write; a world that is there is replaced.
    """
    _fuse(BagFrames(source, topics), settings, out, conventions)


def build_transforms(source: Source, out: Path, settings: Settings = FusionSettings(),
                     conventions: Meaning = Conventions()) -> None:
    """Build a world from a nerfstudio transforms.json with depth.

    Args:
        source: the transforms.json, or its folder.
        out: the world folder to write; a world that is there is replaced.
    """
    _fuse(TransformsFrames(source), settings, out, conventions)


def build_colmap(source: Source, out: Path, settings: Settings = FusionSettings(),
                 conventions: Meaning = Conventions()) -> None:
    """Build a world from a COLMAP project (sparse/, images/, and stereo/depth_maps/ or depth/), in the model's scale.

    Args:
        source: the project folder.
        out: the world folder to write; a world that is there is replaced.
    """
    _fuse(open_colmap(source), settings, out, conventions)


def build_synthetic(out: Path, source: tyro.conf.Positional[str] = "apartment", seed: int = 0) -> None:
    """Build a procedural scene, with labels; the apartment is the demo world.

    Args:
        out: the world folder to write; a world that is there is replaced.
        source: the family of scenes: apartment, rooms, office, warehouse or street.
        seed: another seed, another scene of the family.
    """
    _finish(synthetic.build(source, seed, Progress(f"rendering the {source}")), out)


def info(world: Source, json: AsJson = False) -> None:
    """Say what a world folder holds.

    Args:
        world: the world folder.
    """
    print_facts(describe(world), json)


def describe(path: Path) -> dict:
    """The facts of a world folder, JSON-ready. Raises WorldError."""
    manifest = read_manifest(path)
    anchors = manifest["anchors"]
    return {
        "name": manifest["name"],
        "format_version": manifest["format_version"],
        "frame_id": manifest["frame_id"],
        "scale": manifest["scale"],
        "anchors": anchors["count"],
        "chunks": anchors["files"],
        "spacing": anchors["spacing"],
        "bounds": anchors["bounds"],
        "keyframes": manifest["keyframes"]["files"],
        "labels": {str(label): name for label, name in manifest["labels"].items()},
        "bytes": sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file()),
    }


def _fuse(frames: PosedFrames, settings: FusionSettings, out: Path, conventions: Conventions) -> None:
    frames = fitting(frames, conventions)
    _finish(rgbd.build(frames, settings, Progress(f"fusing {frames.path}")), out)
    if not frames.metric:
        print("the scale is arbitrary: lengths are not metres")


def _finish(world: World, out: Path) -> None:
    write_world(world, out)
    print(f"{out}: {len(world.anchors)} anchors, {len(world.keyframes)} keyframes")
