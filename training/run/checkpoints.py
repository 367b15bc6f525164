"""Checkpoints: what a run has learned and where it is; with the same data and start it goes on as if it never stopped.

    OUT/checkpoints/step-00001200/
        NAME.safetensors     tensors: weights, averages, optimiser states
        state.json           numbers: optimiser options, the state of every random generator
        checkpoint.json      step, config, and the size and CRC-32 of every other file: written last

A checkpoint is whole when its files are what checkpoint.json says and can be read. There is no pointer to the latest:
it is the newest whole one. It is written beside the others and renamed: a crash meanwhile leaves those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import json
import os
from pathlib import Path
import random
import re
import shutil
import tempfile
from typing import Any
import warnings
import zlib

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

FORMAT_VERSION = 1
MANIFEST, STATE = "checkpoint.json", "state.json"
KEEP = 2
CHUNK = 1 << 24  # bytes


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or gone on from, with the reason and what to do."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run after `step` steps. tensors: {file: {name: tensor}}; state: numbers that JSON can hold; config: of the run,
    which a resumed one must share."""

    step: int
    config: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def write_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write a snapshot into `folder` in one go, then remove all but the last two whole checkpoints.

    Raises CheckpointError when it cannot be written (a full disk); the older checkpoints are still there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    place = folder / _name(snapshot.step)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=f".{place.name}."))
    try:
        _write_files(temporary, snapshot)
        if place.exists():  # a damaged one, or the run has been here before
            shutil.rmtree(place)
        temporary.rename(place)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint of step {snapshot.step} cannot be written to {folder}: {error}; "
                              "make room there and go on with --resume") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(folder)
    return place


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None when there is none at all. Damaged ones are skipped with a warning.

    Raises CheckpointError when there are checkpoints but every one is damaged.
    """
    damaged = []
    for place in _newest_first(folder):
        problem = damage(place)
        if problem is None:
            return place
        damaged.append(f"{place.name}: {problem}")
        warnings.warn(f"checkpoint {place} is skipped: {problem}", stacklevel=2)
    if damaged:
        raise CheckpointError(f"no checkpoint in {folder} is whole: {'; '.join(damaged)}. Start anew elsewhere")
    return None


def read_checkpoint(place: Path, config: Mapping[str, Any]) -> Snapshot:
    """A whole checkpoint. Raises CheckpointError that lists the differing fields when it is of another config."""
    manifest = json.loads((place / MANIFEST).read_text())
    check_same_config(place, manifest["config"], config)
    tensors = {name.removesuffix(".safetensors"): load_file(place / name)
               for name in manifest["files"] if name.endswith(".safetensors")}
    return Snapshot(manifest["step"], manifest["config"], tensors, json.loads((place / STATE).read_text()))


def check_same_config(place: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise CheckpointError that lists every field in which the stored config and this run's differ."""
    then, now = dict(_flat(stored)), dict(_flat(plain_json(config)))
    differing = [f"{name}: {then.get(name, 'absent')} then, {now.get(name, 'absent')} now"
                 for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    if differing:
        raise CheckpointError(f"{place} is of another run: " + "; ".join(differing)
                              + ". Resume with the same settings, or start in another folder")


def damage(place: Path) -> str | None:
    """What is wrong with a checkpoint; None: it is whole."""
    try:
        manifest = json.loads((place / MANIFEST).read_text())
        if manifest["format_version"] > FORMAT_VERSION:
            return f"its format_version {manifest['format_version']} is newer than {FORMAT_VERSION}"
        if place.name != _name(manifest["step"]):
            return f"{MANIFEST} is of step {manifest['step']}"
        if STATE not in manifest["files"] or not isinstance(manifest["config"], dict):
            return f"{MANIFEST} is damaged"
        problems = (_damage_of(place / name, expected) for name, expected in manifest["files"].items())
        return next(filter(None, problems), None)
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"


def _damage_of(file: Path, expected: Mapping[str, int]) -> str | None:
    size = file.stat().st_size
    if size != expected["bytes"]:
        return f"{file.name} has {size} bytes, {expected['bytes']} were written"
    if _crc32(file) != expected["crc32"]:
        return f"{file.name} is not what was written"
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt"):
                return None
        json.loads(file.read_text())
    except (SafetensorError, ValueError) as error:
        return f"{file.name} cannot be read: {error}"
    return None


def random_state() -> dict[str, Any]:
    """The state of this process's global random generators, as JSON can hold it."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()],
        "numpy": [kind, keys.tolist(), position, has_gauss, gauss],
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put random_state()'s result back; on a machine with other GPUs theirs stays."""
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([torch.tensor(one, dtype=torch.uint8) for one in state["cuda"]])
    np.random.set_state(tuple(state["numpy"]))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def plain_json(value: Any) -> Any:
    """A config as it comes back from a JSON file: tuples are lists; paths and functions are their names."""
    return json.loads(json.dumps(value, default=lambda x: getattr(x, "__qualname__", None) or str(x)))


def _write_files(folder: Path, snapshot: Snapshot) -> None:
    for name, tensors in snapshot.tensors.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
    (folder / STATE).write_text(json.dumps(snapshot.state))
    files = {file.name: {"bytes": file.stat().st_size, "crc32": _crc32(file)} for file in sorted(folder.iterdir())}
    manifest = {"format_version": FORMAT_VERSION, "step": snapshot.step, "config": plain_json(snapshot.config),
                "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors makes files that nobody else can read
        _sync(file)
    _sync(folder)


def _prune(folder: Path) -> None:
    """Remove what is older than the last KEEP whole checkpoints; what was damaged in between does not count."""
    whole = 0
    for place in _newest_first(folder):
        if whole == KEEP:
            shutil.rmtree(place)
        elif damage(place) is None:
            whole += 1


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _newest_first(folder: Path) -> list[Path]:
    """The checkpoints, whole or damaged; other entries, and folders with nothing in them, are none."""
    return sorted((place for place in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", place.name)
                   and place.is_dir() and any(place.iterdir())), reverse=True)


def _crc32(file: Path) -> int:
    value = 0
    with open(file, "rb") as stream:
        while chunk := stream.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def _sync(path: Path) -> None:
    """To the disk, a file's content or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b", value) of every leaf of nested mappings."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value
