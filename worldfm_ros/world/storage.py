"""The world folder: how a world is kept on disk.

    world.yaml                        what belongs to the world, with a checksum; replaced atomically, it alone decides
    anchors/<sha256>.safetensors      one tile of anchors each: origin, points, colors, labels, radius; and where some
                                      were inserted while driving, frames and confidence. Coarser levels of it likewise
    keyframes/<sha256>.webp           photographs: RGB, lossless
    keyframes/<sha256>.png            depths (uint16 millimetres, 0 = none); photographs in worlds of version 1

Files are named by the sha256 of their bytes (16 hex digits), written before world.yaml points at them and removed after
it no longer does: a crash at any instant leaves the old or the new world, and a damaged file is recognised by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
import hashlib
import io
from pathlib import Path
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from PIL import Image
import yaml

from worldfm_ros.files import write_whole
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import AnchorMap, tile_box
from worldfm_ros.world.chunks import WorldError, chunk_bytes, damaged, name_of, read_chunk, verified
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.levels import levels
from worldfm_ros.world.manifest import ARBITRARY, METRIC, check_manifest
from worldfm_ros.world.stored_keyframes import Pictures, StoredKeyframe
from worldfm_ros.world.stored_map import StoredMap, StoredTile

FORMAT_VERSION = 2  # version 1 had no boxes and levels of tiles, and in them no frames and no confidence
ANCHORS, KEYFRAMES, MANIFEST = "anchors", "keyframes", "world.yaml"
PHOTOGRAPH = ".webp"
TILES_SHARE = 0.75  # of the memory of a world that stays on the disk
CHECKSUM = "checksum: "  # the last line of world.yaml: the sha256 of what is above it, where it is there

_FILES: WeakKeyDictionary[Keyframe, tuple[Path, str, str]] = WeakKeyDictionary()  # folder, photograph, depth


@dataclass(eq=False)
class World:
    """A scene: its anchors and keyframes. `spacing` is the usual distance between anchors, metres."""

    name: str
    anchors: AnchorMap | StoredMap
    keyframes: Sequence[Keyframe]
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
    before = set(_stored(path))
    try:
        manifest = _manifest(world, path)
    except OSError:  # a full disk: what was written in vain makes room again
        for file in set(_stored(path)) - before:
            file.unlink(missing_ok=True)
        raise
    text = yaml.safe_dump(manifest, sort_keys=False, default_flow_style=None, width=1000)
    write_whole(path / MANIFEST, f"{text}{CHECKSUM}{_sum(text)}\n".encode())
    _remove_unreferenced(path, manifest)


def read_world(path: str | Path) -> World:
    """Read a world folder. Raises WorldError: missing, newer, cut short, or with a damaged file."""
    path = Path(path)
    manifest = read_manifest(path)
    anchors = AnchorMap()
    for name in manifest["chunks"]:
        anchors.insert_tile(read_chunk(path / ANCHORS / name))
    if len(anchors) != manifest["anchors"]["count"]:
        raise damaged(
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


def open_world(path: str | Path, memory: int) -> World:
    """A world folder whose tiles and pictures stay on the disk, and of which at most about `memory` bytes are kept:
    three quarters for tiles, the rest for keyframes. It does not change. Raises WorldError, also later, of a damaged
    file. A world of version 1 is to be written again first: `worldfm world merge OLD --out NEW`."""
    path = Path(path)
    manifest = read_manifest(path)
    if manifest["format_version"] < 2:
        raise WorldError(f"{path} has format version 1, whose tiles cannot stay on the disk; write it again with "
                         f"`worldfm world merge {path} --out NEW`")
    spacing, tiles = manifest["anchors"]["spacing"], []
    for name, coarse, counts, box in zip(*(manifest[key] for key in ("chunks", "levels", "counts", "boxes")),
                                         strict=True):
        files = tuple(path / ANCHORS / file for file in (name, *coarse))
        tiles.append(StoredTile(files, tuple(counts), np.array(box, np.float64)))
    anchors = StoredMap(tiles, spacing, int(memory * TILES_SHARE))
    pictures = Pictures(memory - anchors.budget, lambda entry: _read_keyframe(path / KEYFRAMES, entry))
    keyframes = tuple(StoredKeyframe(entry, pictures, *_camera(path, entry)) for entry in manifest["views"])
    return World(manifest["name"], anchors, keyframes, spacing, manifest["labels"], manifest["frame_id"],
                 manifest["scale"] == METRIC)


def load_world(path: str | Path, map_memory: int = 0) -> World:
    """A world in memory; or on the disk, with about `map_memory` MiB of it in memory. Raises WorldError."""
    return open_world(path, map_memory << 20) if map_memory else read_world(path)


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
        raise damaged(file, f"{type(error).__name__}: {' '.join(str(error).split())}") from None
    try:
        check_manifest(manifest)
    except ValueError as error:
        raise damaged(file, str(error)) from None
    content, _, told = text.rpartition(f"\n{CHECKSUM}")
    if content and told.strip() != _sum(content + "\n"):
        raise damaged(file, f"its last line is not its checksum (was it edited? then take the line {CHECKSUM!r} out)")
    return manifest


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _manifest(world: World, path: Path) -> dict:
    """Write every file that `world` needs and say which: counts first, lists last, so that a cut file is noticed."""
    chunks, boxes, coarse, counts = [], [], [], []
    for tile in world.anchors.tiles:
        chunks.append(_store(path / ANCHORS, ".safetensors", chunk_bytes(tile)))
        boxes.append(tile_box(tile).tolist())
        further = list(levels(tile, world.spacing))
        coarse.append([_store(path / ANCHORS, ".safetensors", chunk_bytes(level)) for level in further])
        counts.append([len(tile), *map(len, further)])
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
        "boxes": boxes,
        "levels": coarse,
        "counts": counts,
        "views": views,
    }


def _store_keyframe(folder: Path, keyframe: Keyframe) -> dict:
    rgb, depth = _kept_files(folder, keyframe) or _new_files(folder, keyframe)
    return {
        "id": int(keyframe.id),
        "rgb": rgb,
        "depth": depth,
        "size": [int(keyframe.intrinsics.width), int(keyframe.intrinsics.height)],
        "K": keyframe.intrinsics.matrix.ravel().tolist(),
        "T_world_camera": [*keyframe.T_world_camera.translation.tolist(), *keyframe.T_world_camera.quaternion.tolist()],
        **{name: True for name in ("inserted", "painted") if getattr(keyframe, name)},
    }


def _new_files(folder: Path, keyframe: Keyframe) -> tuple[str, str]:
    names = _store(folder, PHOTOGRAPH, _webp(keyframe.rgb)), _store(folder, ".png", _png(_millimetres(keyframe.depth)))
    _FILES[keyframe] = folder, *names
    return names


def _kept_files(folder: Path, keyframe: Keyframe) -> tuple[str, str] | None:
    """The names of files that a keyframe was read from or written to, copied if need be: to encode hundreds again
    takes longer than a node has to stop. None when there are none, or no longer."""
    if keyframe not in _FILES:
        return None
    source, *names = _FILES[keyframe]
    try:
        for name in names:
            if not (folder / name).exists():
                write_whole(folder / name, verified(source / name))
    except (OSError, WorldError):
        return None
    return tuple(names)


def in_millimetres(depth: np.ndarray) -> np.ndarray:
    """Depth (H, W) float32 as it comes back from the disk."""
    return (_millimetres(depth) / 1000.0).astype(np.float32)


def _millimetres(depth: np.ndarray) -> np.ndarray:
    millimetres = np.rint(depth * 1000.0)
    return np.where(millimetres <= np.iinfo(np.uint16).max, millimetres, 0).astype(np.uint16)


def _camera(path: Path, entry: dict) -> tuple[Intrinsics, Pose]:
    try:
        return (Intrinsics.from_matrix(*entry["size"], entry["K"]),
                Pose.from_quaternion(entry["T_world_camera"][:3], entry["T_world_camera"][3:]))
    except ValueError as error:
        raise damaged(path / MANIFEST, f"keyframe {entry}: {error}") from None


def _read_keyframe(folder: Path, entry: dict) -> Keyframe:
    intrinsics, pose = _camera(folder.parent, entry)
    try:
        rgb, depth = (_decoded(folder / entry[name], intrinsics) for name in ("rgb", "depth"))
        keyframe = Keyframe(
            entry["id"], np.ascontiguousarray(rgb[..., ::-1]), (depth / 1000.0).astype(np.float32), intrinsics, pose,
            *(entry.get(name, False) is True for name in ("inserted", "painted")),
        )
        if entry["rgb"].endswith(PHOTOGRAPH):  # not so in version 1
            _FILES[keyframe] = folder, entry["rgb"], entry["depth"]
        return keyframe
    except WorldError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder.parent / MANIFEST, f"keyframe {entry}: {error}") from None


def _decoded(file: Path, intrinsics: Intrinsics) -> np.ndarray:
    """The picture. Raises WorldError for one of another size, before it is unpacked."""
    data = verified(file)
    try:
        size = Image.open(io.BytesIO(data)).size
    except (OSError, Image.DecompressionBombError) as error:
        raise damaged(file, str(error)) from None
    if size != (intrinsics.width, intrinsics.height):
        raise damaged(file, f"it is {size[0]}x{size[1]}, {MANIFEST} says {intrinsics.width}x{intrinsics.height}")
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def _webp(rgb: np.ndarray) -> bytes:
    """A quarter smaller than PNG and decoded in two thirds of the time, when encoded as fast (docs/growth.md)."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "WEBP", lossless=True, method=0, quality=20)
    return stream.getvalue()


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()


def _store(folder: Path, suffix: str, data: bytes) -> str:
    name = name_of(data) + suffix
    if not (folder / name).exists():
        write_whole(folder / name, data)
    return name


def _remove_unreferenced(path: Path, manifest: dict) -> None:
    coarse = (name for files in manifest["levels"] for name in files)
    needed = {*manifest["chunks"], *coarse, *(view[name] for view in manifest["views"] for name in ("rgb", "depth"))}
    for file in _stored(path):
        if file.name not in needed:
            file.unlink()


def _stored(path: Path) -> list[Path]:
    return [file for folder in (ANCHORS, KEYFRAMES) for file in (path / folder).iterdir()]


def _foreign(path: Path) -> list[Path]:
    """What a folder holds beside the remains of an interrupted first write."""
    return [
        entry for entry in path.iterdir() if entry.name not in (ANCHORS, KEYFRAMES) and not entry.name.startswith(".")
    ]

