"""Files of anchors: one tile in each, named by the sha256 of its bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from worldfm_ros.world.anchors import FIELDS, MEASURED, SCAN, Anchors

KINDS = {"F64": np.float64, "F32": np.float32, "I32": np.int32, "U16": np.uint16, "U8": np.uint8}


class WorldError(ValueError):
    """A world folder that cannot be read, with the file and what to do."""


def damaged(file: Path, reason: str) -> WorldError:
    return WorldError(f"{file} is damaged: {reason}; build the world again or restore the file")


def chunk_bytes(tile: Anchors) -> bytes:
    """A tile as safetensors, without what is the same in all of a scan."""
    left_out = [name for name, value in (("frames", SCAN), ("confidence", MEASURED))
                if (getattr(tile, name) == value).all()]
    kept = {name: getattr(tile, name) for name in FIELDS if name not in left_out}
    return save_tensors({"origin": tile.origin, **kept})


def read_chunk(file: Path) -> Anchors:
    """The tile of a file. Raises WorldError."""
    try:
        return Anchors(**load_tensors(verified(file)))
    except WorldError:
        raise
    except (SafetensorError, TypeError, ValueError) as error:
        raise damaged(file, str(error)) from None


def map_chunk(file: Path) -> Anchors:
    """The same, its arrays mapped into memory: pages come when they are needed. Raises WorldError."""
    try:
        data = np.memmap(file, np.uint8, "r")
        if name_of(data) != file.stem:
            raise damaged(file, f"its {data.size} bytes do not have the checksum in its name")
        begin = 8 + int(data[:8].view(np.uint64)[0])
        header = json.loads(data[8:begin].tobytes())
        arrays = {name: data[begin + part["data_offsets"][0]:begin + part["data_offsets"][1]].view(
            KINDS[part["dtype"]]).reshape(part["shape"]) for name, part in header.items() if name != "__metadata__"}
        return Anchors(**arrays)
    except WorldError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(file, f"{type(error).__name__}: {error}") from None


def verified(file: Path) -> bytes:
    """The bytes of a file that is named by its hash. Raises WorldError."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise damaged(file, str(error)) from None
    if name_of(data) != file.stem:
        raise damaged(file, f"its {len(data)} bytes do not have the checksum in its name")
    return data


def name_of(data) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
