"""`worldfm world build`: worlds from what people have. Each leaves a preview.png in the world's folder."""

from __future__ import annotations

from pathlib import Path
import sys
from typing import Annotated

import cv2
import tyro

from worldfm_ros.cli.fitting import fitting
from worldfm_ros.cli.topics import TopicOptions
from worldfm_ros.files import write_whole
from worldfm_ros.offline import ImageSettings
from worldfm_ros.progress import Progress
from worldfm_ros.sources.bag import BagFrames
from worldfm_ros.sources.conventions import Conventions
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.open import open_colmap
from worldfm_ros.sources.rgbd_folder import RgbdFolder
from worldfm_ros.sources.transforms import TransformsFrames
from worldfm_ros.world.builders import cloud, panorama, rgbd, synthetic
from worldfm_ros.world.builders.cloud import CloudSettings
from worldfm_ros.world.builders.fusion import FusionSettings
from worldfm_ros.world.builders.panorama import PanoramaSettings
from worldfm_ros.world.preview import preview
from worldfm_ros.world.storage import World, write_world

PREVIEW = "preview.png"
Source = tyro.conf.Positional[Path]
Settings = tyro.conf.OmitArgPrefixes[FusionSettings]
Meaning = tyro.conf.OmitArgPrefixes[Conventions]
ESTIMATOR = tyro.conf.arg(name="depth", help="who estimates depth: depth-tiny, transformers:MODEL, "
                          "depth-anything-3:MODEL, or the depth/ folder of a run")


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
    """Build a world from a bag with colour, registered depth or a LiDAR, camera_info and TF (ROS 1 or 2, any storage).

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


def build_panorama(
    source: Source, out: Path, distance: Path | None = None, distance_scale: float = 1000.0, scale: float | None = None,
    depth: Annotated[str | None, ESTIMATOR] = None,
    settings: tyro.conf.OmitArgPrefixes[PanoramaSettings] = PanoramaSettings(),
) -> None:
    """Build a world from an equirectangular panorama: the paper's offline stage, with 42 crops as references.

    Args:
        source: the panorama, twice as wide as high; its centre is ahead (x).
        out: the world folder to write; a world that is there is replaced.
        distance: map of the distance along each ray: a 16-bit picture, or an .npy file of metres. Else it is estimated.
        distance_scale: units a metre of a 16-bit map.
        scale: metres a unit of estimated distances; without it the world's scale is arbitrary.
    """
    from worldfm_ros.sources.panorama import Panorama, read_distances, read_panorama

    check_scale(scale)
    rgb = read_panorama(source)
    if distance is None:
        far = panorama.estimated(rgb, find_completer(depth, source), Progress("estimating depth")) * (scale or 1.0)
    else:
        far = read_distances(distance, len(rgb), distance_scale)
    metric = distance is not None or scale is not None
    world = panorama.build(Panorama(rgb, far), source.stem, settings, metric, Progress("cutting out references"))
    _finish(world, out)


def build_image(
    source: Source, out: Path, hfov: float | None = None, camera: Path | None = None, scale: float | None = None,
    depth: Annotated[str, ESTIMATOR] = "depth-tiny", model: str = "worldfm-tiny",
    settings: tyro.conf.OmitArgPrefixes[ImageSettings] = ImageSettings(),
) -> None:
    """Build a world from one picture: what it does not show is invented, outward from it.

    Args:
        source: the picture.
        out: the world folder to write; a world that is there is replaced.
        hfov: degrees that the picture shows from its left to its right edge; or give --camera.
        camera: a camera file (width, height, K, lens) of the picture.
        scale: metres a unit of the estimated depth; without it the world's scale is arbitrary.
        model: the frame model that paints what is not known.
    """
    from worldfm_ros.generator import load_model
    from worldfm_ros.offline import build, fitting_size
    from worldfm_ros.sources.image import read_picture

    check_scale(scale)
    rgb, intrinsics = fitting_size(*read_picture(source, hfov, camera), 2 * settings.width)
    world = build(rgb, intrinsics, source.stem, find_completer(depth, source), load_model(model), settings, scale,
                  Progress("painting outward"))
    _finish(world, out)


def build_ply(source: Source, out: Path,
              settings: tyro.conf.OmitArgPrefixes[CloudSettings] = CloudSettings()) -> None:
    """Build a world from a PLY file: a coloured point cloud, or 3D Gaussian splats; or from splats packed as SPZ.

    Args:
        source: the .ply file, text or binary, or the .spz file.
        out: the world folder to write; a world that is there is replaced.
    """
    from worldfm_ros.sources.ply import read_ply
    from worldfm_ros.sources.spz import read_spz

    packed = source.suffix.lower() == ".spz"
    discs = read_spz(source) if packed else read_ply(source, Progress(f"reading {source}"))
    world = cloud.build(discs, source.stem, settings)
    for reason, count in discs.skipped.items():
        print(f"left out: {count} points: {reason}", file=sys.stderr)
    _finish(world, out)


def build_synthetic(out: Path, source: tyro.conf.Positional[str] = "apartment", seed: int = 0) -> None:
    """Build a procedural scene, with labels; the apartment is the demo world.

    Args:
        out: the world folder to write; a world that is there is replaced.
        source: the family of scenes: apartment, rooms, office, warehouse or street.
        seed: another seed, another scene of the family.
    """
    _finish(synthetic.build(source, seed, Progress(f"rendering the {source}")), out)


def find_completer(name: str | None, source: Path):
    """The depth completer of that name. Raises ValueError listing them, and when none is named."""
    from worldfm_ros.depth.find import NAMES, load_completer

    if name is None:
        raise ValueError(f"{source} has no depth; name who estimates it with --depth: {NAMES}")
    return load_completer(name)


def check_scale(scale: float | None) -> None:
    """Raise ValueError unless lengths can be multiplied by it, or it is not known."""
    if scale is not None and not 0 < scale < float("inf"):
        raise ValueError(f"--scale is metres a unit, above 0; leave it out where it is not known; got {scale:g}")


def _fuse(frames: PosedFrames, settings: FusionSettings, out: Path, conventions: Conventions) -> None:
    frames = fitting(frames, conventions)
    _finish(rgbd.build(frames, settings, Progress(f"fusing {frames.path}")), out)


def _finish(world: World, out: Path) -> None:
    write_world(world, out)
    picture = cv2.imencode(".png", preview(world)[..., ::-1])[1].tobytes()
    write_whole(out / PREVIEW, picture)
    print(f"{out}: {len(world.anchors)} anchors, {len(world.keyframes)} keyframes; look at {out / PREVIEW}")
    if not world.metric:
        print("the scale is arbitrary: lengths are not metres")
