"""Whatever is at a path, as posed frames."""

from __future__ import annotations

from pathlib import Path

from worldfm_ros.bags.reader import bag_files
from worldfm_ros.sources.bag import BagFrames, Topics
from worldfm_ros.sources.colmap import ColmapFrames
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.rgbd_folder import RgbdFolder
from worldfm_ros.sources.transforms import TransformsFrames

BAGS = (".mcap", ".db3", ".bag")


def open_frames(path: str | Path, topics: Topics | None = None) -> PosedFrames:
    """The frames of an RGB-D folder, a nerfstudio transforms.json (or its folder), a COLMAP project or a bag, which
    `topics` are for. Raises FileNotFoundError or ValueError naming what is wrong, and for anything else."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix == ".json" or (path / "transforms.json").exists():
        return TransformsFrames(path)
    if path.suffix in BAGS or (path / "metadata.yaml").exists() or (path.is_dir() and bag_files(path)):
        return BagFrames(path, topics)
    if (path / "sparse").is_dir():
        return open_colmap(path)
    if (path / "poses.txt").exists():
        return RgbdFolder(path)
    raise ValueError(f"{path} is no source of posed frames: expected an RGB-D folder (poses.txt), a transforms.json, a "
                     "COLMAP project (sparse/) or a bag (metadata.yaml)")


def open_colmap(path: str | Path) -> ColmapFrames:
    """The frames of a COLMAP project: sparse/ or sparse/0/, images/, and depth/ or stereo/depth_maps/. Raises
    likewise."""
    path = Path(path)
    model = path / "sparse" / "0" if (path / "sparse" / "0").is_dir() else path / "sparse"
    depth = path / "depth" if (path / "depth").is_dir() else path / "stereo" / "depth_maps"
    return ColmapFrames(model, path / "images", depth)
