"""The world folder: how a world is kept on disk.

    world.yaml                        what belongs to the world, with a checksum; replaced atomically, it alone decides
    anchors/<sha256>.safetensors      one tile of anchors each: origin, points, colors, labels, radius
    keyframes/<sha256>.png            photographs (RGB) and depths (uint16 millimetres, 0 = none)

Files are named by the sha256 of their bytes (16 hex digits), written before world.yaml points at them and removed after
it no longer does: a crash at any instant leaves the old or the new world, and a damaged file is recognised by its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import hashlib
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
import yaml

from worldfm_ros.files import write_whole
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import FIELDS, AnchorMap, Anchors
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.manifest import ARBITRARY, METRIC, check_manifest

FORMAT_VERSION = 1
ANCHORS, KEYFRAMES, MANIFEST = "anchors", "keyframes", "world.yaml"
CHECKSUM = "checksum: "  # the last line of world.yaml: the sha256 of what is above it, where it is there


class WorldError(ValueError):
    """A world folder that cannot be read, with the file and what to do."""


@dataclass(eq=False)
class World:
    """A scene: its anchors and keyframes. `spacing` is the usual distance between anchors, metres."""

    name: str
    anchors: AnchorMap
    keyframes: list[Keyframe]
    spacing: float
    label_names: dict[int, str] = field(default_factory=dict)
    frame_id: str = "map"
    metric: bool = True


def write_world(world: World, path: str | Path) -> None:
    """Write `world` to the folder `path`, replacing the world that is there. Raises WorldError for a foreign folder."""
    path = Path(path)
    if path.exists() and not (path / MANIFEST).exists() and (not path.is_dir() or any(_foreign(path))):
        raise WorldError(f"{path} exists and is no world folder (it has no {MANIFEST}); choose another name")
    for name in (ANCHORS, KEYFRAMES):
        (path / name).mkdir(parents=True, exist_ok=True)
    manifest = _manifest(world, path)
    text = yaml.safe_dump(manifest, sort_keys=False, default_flow_style=None, width=1000)
    write_whole(path / MANIFEST, f"{text}{CHECKSUM}{_sum(text)}\n".encode())
    _remove_unreferenced(path, manifest)


def read_world(path: str | Path) -> World:
    """Read a world folder. Raises WorldError: missing, newer, cut short, or with a damaged file."""
    path = Path(path)
    manifest = read_manifest(path)
    anchors = AnchorMap()
    for name in manifest["chunks"]:
        anchors.insert_tile(_read_chunk(path / ANCHORS / name))
    if len(anchors) != manifest["anchors"]["count"]:
        raise _damaged(
            path / MANIFEST, f"{manifest['anchors']['count']} anchors are announced, {len(anchors)} are there"
        )
    keyframes = [_read_keyframe(path / KEYFRAMES, entry) for entry in manifest["views"]]
    return World(
        manifest["name"],
        anchors,
        keyframes,
        manifest["anchors"]["spacing"],
        manifest["labels"],
        manifest["frame_id"],
        manifest["scale"] == METRIC,
    )


def read_manifest(path: str | Path) -> dict:
    """The checked content of a world folder's world.yaml. Raises WorldError."""
    file = Path(path) / MANIFEST
    if not file.exists():
        raise WorldError(f"{path} is no world folder: {file} is missing; make one with `worldfm world build`")
    try:
        text = file.read_text()
        manifest = yaml.safe_load(text)
        version = manifest["format_version"]
        if version > FORMAT_VERSION:
            raise WorldError(
                f"{file} has format version {version}, this worldfm_ros reads up to {FORMAT_VERSION}; "
                "update worldfm_ros or build the world again"
            )
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise _damaged(file, f"{type(error).__name__}: {' '.join(str(error).split())}") from None
    try:
        check_manifest(manifest)
    except ValueError as error:
        raise _damaged(file, str(error)) from None
    content, _, told = text.rpartition(f"\n{CHECKSUM}")
    if content and told.strip() != _sum(content + "\n"):
        raise _damaged(file, f"its last line is not its checksum (was it edited? then take the line {CHECKSUM!r} out)")
    return manifest


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _manifest(world: World, path: Path) -> dict:
    """Write every file that `world` needs and say which: counts first, lists last, so that a cut file is noticed."""
    chunks = [_store(path / ANCHORS, ".safetensors", _chunk_bytes(tile)) for tile in world.anchors.tiles]
    views = [_store_keyframe(path / KEYFRAMES, keyframe) for keyframe in world.keyframes]
    bounds = world.anchors.bounds
    return {
        "format_version": FORMAT_VERSION,
        "name": world.name,
        "frame_id": world.frame_id,
        "units": "metre",
        "scale": METRIC if world.metric else ARBITRARY,
        "axes": "x forward, y left, z up",
        "anchors": {
            "count": len(world.anchors),
            "files": len(chunks),
            "spacing": float(world.spacing),
            "bounds": None if bounds is None else bounds.tolist(),
        },
        "keyframes": {"files": len(views)},
        "labels": {int(label): name for label, name in world.label_names.items()},
        "chunks": chunks,
        "views": views,
    }


def _chunk_bytes(tile: Anchors) -> bytes:
    return save_tensors({"origin": tile.origin, **{name: getattr(tile, name) for name in FIELDS}})


def _read_chunk(file: Path) -> Anchors:
    try:
        return Anchors(**load_tensors(_verified(file)))
    except WorldError:
        raise
    except (SafetensorError, TypeError, ValueError) as error:
        raise _damaged(file, str(error)) from None


def _store_keyframe(folder: Path, keyframe: Keyframe) -> dict:
    millimetres = np.rint(keyframe.depth * 1000.0)
    depth = np.where(millimetres <= np.iinfo(np.uint16).max, millimetres, 0).astype(np.uint16)
    return {
        "id": int(keyframe.id),
        "rgb": _store(folder, ".png", _png(keyframe.rgb[..., ::-1])),
        "depth": _store(folder, ".png", _png(depth)),
        "size": [int(keyframe.intrinsics.width), int(keyframe.intrinsics.height)],
        "K": keyframe.intrinsics.matrix.ravel().tolist(),
        "T_world_camera": [*keyframe.T_world_camera.translation.tolist(), *keyframe.T_world_camera.quaternion.tolist()],
    }


def _read_keyframe(folder: Path, entry: dict) -> Keyframe:
    try:
        intrinsics = Intrinsics.from_matrix(*entry["size"], entry["K"])
        pose = Pose.from_quaternion(entry["T_world_camera"][:3], entry["T_world_camera"][3:])
        rgb, depth = (
            cv2.imdecode(np.frombuffer(_verified(folder / entry[name]), np.uint8), cv2.IMREAD_UNCHANGED)
            for name in ("rgb", "depth")
        )
        return Keyframe(
            entry["id"], np.ascontiguousarray(rgb[..., ::-1]), (depth / 1000.0).astype(np.float32), intrinsics, pose
        )
    except WorldError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder.parent / MANIFEST, f"keyframe {entry}: {error}") from None


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()


def _store(folder: Path, suffix: str, data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()[:16] + suffix
    if not (folder / name).exists():
        write_whole(folder / name, data)
    return name


def _verified(file: Path) -> bytes:
    """The bytes of a file that is named by its hash."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _damaged(file, str(error)) from None
    if hashlib.sha256(data).hexdigest()[:16] != file.stem:
        raise _damaged(file, f"its {len(data)} bytes do not have the checksum in its name")
    return data


def _remove_unreferenced(path: Path, manifest: dict) -> None:
    needed = {*manifest["chunks"], *(view[name] for view in manifest["views"] for name in ("rgb", "depth"))}
    for folder in (ANCHORS, KEYFRAMES):
        for file in (path / folder).iterdir():
            if file.name not in needed:
                file.unlink()


def _foreign(path: Path) -> list[Path]:
    """What a folder holds beside the remains of an interrupted first write."""
    return [
        entry for entry in path.iterdir() if entry.name not in (ANCHORS, KEYFRAMES) and not entry.name.startswith(".")
    ]


def _damaged(file: Path, reason: str) -> WorldError:
    return WorldError(f"{file} is damaged: {reason}; build the world again or restore the file")
