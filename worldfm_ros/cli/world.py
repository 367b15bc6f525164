"""`worldfm world`: look at worlds, and hand them on. build.py makes them."""

from __future__ import annotations

from pathlib import Path

import tyro

from worldfm_ros.cli.facts import AsJson, print_facts
from worldfm_ros.world.storage import read_manifest, read_world

Source = tyro.conf.Positional[Path]


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


def export(world: Source, out: Path) -> None:
    """Write a world's anchors as a point cloud, PLY or PCD.

    Args:
        world: the world folder.
        out: the file to write, ending in .ply or .pcd.
    """
    from worldfm_ros.world.export import export_anchors

    anchors = read_world(world).anchors
    export_anchors(anchors, out)
    print(f"{out}: {len(anchors)} points")
