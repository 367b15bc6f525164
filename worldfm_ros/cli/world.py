"""`worldfm world`: look at worlds, and hand them on. build.py makes them."""

from __future__ import annotations

from pathlib import Path

import tyro

from worldfm_ros.cli.facts import AsJson, print_facts
from worldfm_ros.replay.engine import check_new
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


def occupancy_map(world: Source, out: Path, robot_radius: float = 0.2, robot_height: float | None = None,
                  resolution: float = 0.05) -> None:
    """Write where a robot can drive in a world as an occupancy map for Nav2's map_server: YAML and PGM.

    Args:
        world: the world folder.
        out: the .yaml file to write, its picture beside it; or a folder to create, with map.yaml and map.pgm.
        robot_radius: metres; free is where the robot's centre may be.
        robot_height: metres; what is higher is no obstacle. By default as tall as to carry the keyframes' camera.
        resolution: metres a cell.
    """
    from worldfm_ros.drive.free_space import FreeSpace
    from worldfm_ros.occupancy import picture_of, write_map
    from worldfm_ros.world.gravity import check_gravity_aligned

    file = out if out.suffix == ".yaml" else out / "map.yaml"
    for new in {out, picture_of(file)} if out == file else {out}:
        check_new(new)
    read = read_world(world)
    check_gravity_aligned(read.anchors, read.keyframes)
    space = FreeSpace.from_world(read.anchors, read.keyframes, robot_radius, robot_height, resolution)
    file.parent.mkdir(exist_ok=True)
    write_map(space, file)
    rows, columns = space.free.shape
    print(f"{file}: {columns} x {rows} cells of {resolution:g} m in frame {read.frame_id}, {space.free.sum()} free, "
          f"{space.blocked.sum()} occupied")
    if not read.metric:
        print("the world's scale is arbitrary, so these metres are a guess")
