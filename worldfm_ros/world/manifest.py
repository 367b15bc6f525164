"""What world.yaml holds: which entries there are, and what each must be. Checked once, when it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import math
import re
from reprlib import repr as shortened

METRIC, ARBITRARY = "metric", "arbitrary"  # scale


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are(kind: Callable[[object], bool], count: int | None = None) -> Callable[[object], bool]:
    """Whether a value is a list, of that many entries, each of a kind."""
    return lambda value: isinstance(value, list) and len(value) == (count or len(value)) and all(map(kind, value))


def _is_file(suffix: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{16}}\.{suffix}", value) is not None


def _are_labels(value: object) -> bool:
    return isinstance(value, dict) and all(_is_count(label) and isinstance(name, str) for label, name in value.items())


Entries = Mapping[str, tuple[str, Callable[[object], bool]]]  # by dotted name: what is expected, and whether it is that
ENTRIES: Entries = {
    "format_version": ("a whole number from 1 up", lambda value: _is_count(value) and value >= 1),
    "name": ("text", lambda value: isinstance(value, str)),
    "frame_id": ("the name of a TF frame", lambda value: isinstance(value, str) and value != ""),
    "scale": (f"{METRIC} or {ARBITRARY}", lambda value: value in (METRIC, ARBITRARY)),
    "anchors.count": ("a whole number from 0 up", _is_count),
    "anchors.files": ("a whole number from 0 up", _is_count),
    "anchors.spacing": ("metres from 0 up", lambda value: _is_number(value) and value >= 0),
    "anchors.bounds": ("two corners of 3 numbers, or null",
                       lambda value: value is None or _are(_are(_is_number, 3), 2)(value)),
    "keyframes.files": ("a whole number from 0 up", _is_count),
    "labels": ("names by whole numbers from 0 up", _are_labels),
    "chunks": ("a list of names <16 hex digits>.safetensors", _are(_is_file("safetensors"))),
    "views": ("a list of keyframes", _are(lambda view: isinstance(view, dict))),
}
TILE_ENTRIES: Entries = {  # from version 2 on, one of each for a chunk
    "boxes": ("a list of 7 numbers each", _are(_are(_is_number, 7))),
    "levels": ("a list of lists of names <16 hex digits>.safetensors", _are(_are(_is_file("safetensors")))),
    "counts": ("a list of lists of whole numbers from 0 up", _are(_are(_is_count))),
}
VIEW_ENTRIES: Entries = {
    "id": ("a whole number from 0 up", _is_count),
    "rgb": ("a name <16 hex digits>.webp or .png", _is_file("(webp|png)")),
    "depth": ("a name <16 hex digits>.png", _is_file("png")),
    "size": ("width and height", _are(_is_count, 2)),
    "K": ("9 numbers", _are(_is_number, 9)),
    "T_world_camera": ("7 numbers, tx ty tz qx qy qz qw", _are(_is_number, 7)),
}
LISTS = {"anchors": "chunks", "keyframes": "views"}  # and what tells how long they are: its `files`


def check_manifest(manifest: object) -> None:
    """Raise ValueError that names the first entry which is missing, is of another kind or does not fit the others."""
    _check(manifest, ENTRIES)
    if manifest["format_version"] > 1:
        _check(manifest, TILE_ENTRIES)
        _check_tiles(manifest)
    for number, view in enumerate(manifest["views"]):
        _check(view, VIEW_ENTRIES, f"views[{number}].")
    for kind, listed in LISTS.items():
        announced, found = manifest[kind]["files"], len(manifest[listed])
        if announced != found:
            raise ValueError(f"it announces {announced} {listed} and lists {found}: cut short?")


def _check_tiles(manifest: dict) -> None:
    """That what is told of the chunks is told of each."""
    for name in TILE_ENTRIES:
        if len(manifest[name]) != len(manifest["chunks"]):
            raise ValueError(f"it lists {len(manifest['chunks'])} chunks and {len(manifest[name])} {name}: cut short?")
    for number, (coarse, counts) in enumerate(zip(manifest["levels"], manifest["counts"], strict=True)):
        if len(counts) != 1 + len(coarse):
            raise ValueError(f"counts[{number}] is of the chunk and of each of its {len(coarse)} levels, got {counts}")


def _check(content: object, entries: Entries, prefix: str = "") -> None:
    for name, (expected, fits) in entries.items():
        value = content
        for key in name.split("."):
            if not isinstance(value, dict) or key not in value:
                raise ValueError(f"{prefix}{name} is missing: cut short?")
            value = value[key]
        if not fits(value):
            raise ValueError(f"{prefix}{name} is {expected}, got {shortened(value)}")
