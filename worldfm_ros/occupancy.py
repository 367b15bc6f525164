"""A world's free space as the map that Nav2's map_server loads: a picture of it (PGM) and the YAML that places it.

Free is where the centre of the demo robot may be, occupied a cell that holds an obstacle; the rest is unknown: what
nobody saw, and where the robot does not fit. Nav2 inflates obstacles itself, by its own robot's radius.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from worldfm_ros.drive.free_space import FreeSpace
from worldfm_ros.files import write_whole

FREE, OCCUPIED, UNKNOWN = 254, 0, 205  # grey; how occupied that is: (255 - grey) / 255
FREE_BELOW, OCCUPIED_ABOVE = 0.196, 0.65  # UNKNOWN is 0.1961: below Nav2's own 0.25, it would be free


def write_map(space: FreeSpace, file: Path) -> None:
    """Write `file`, the YAML, and before it its picture, so that the YAML never names what is not there."""
    picture = picture_of(file)
    rows, columns = space.free.shape
    write_whole(picture, f"P5\n{columns} {rows}\n255\n".encode() + shades(space).tobytes())
    entries = {"image": picture.name, "mode": "trinary", "resolution": space.resolution,
               "origin": [*map(float, space.origin), 0.0], "negate": 0,
               "occupied_thresh": OCCUPIED_ABOVE, "free_thresh": FREE_BELOW}
    write_whole(file, yaml.safe_dump(entries, sort_keys=False, default_flow_style=None).encode())


def picture_of(file: Path) -> Path:
    """The picture that belongs to a map's YAML."""
    return file.with_suffix(".pgm")


def shades(space: FreeSpace) -> np.ndarray:
    """(R, C) uint8, the picture: its top row is the one of highest y."""
    return np.where(space.free, FREE, np.where(space.blocked, OCCUPIED, UNKNOWN)).astype(np.uint8)[::-1]
