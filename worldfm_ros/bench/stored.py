"""One world on the disk, drawn by a process of its own: how long that takes, and what it adds to resident memory.

    python -m worldfm_ros.bench.stored WORLD MEBIBYTES REPEATS
"""

from __future__ import annotations

import json
from pathlib import Path
import sys
import time

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.renderer import render
from worldfm_ros.world.storage import load_world


def resident() -> int:
    """Bytes of this process that are in memory, mapped files too."""
    return next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmRSS"))


def main(folder: str, memory: str, repeats: str) -> None:
    camera, pose = Intrinsics.from_hfov(512, 512, np.radians(60)), Pose.looking_at([-1, -1, 1.4], [4, 1.5, 1])
    warm = AnchorMap.from_points([[2.0, 1.0, 1.0]], np.zeros((1, 3), np.uint8), radius=0.01)
    render(warm.visible(pose, camera), pose, camera)  # loads the kernels
    before = resident()
    world = load_world(folder, int(memory))
    seconds = []
    for _ in range(int(repeats) + 1):
        start = time.perf_counter()
        render(world.anchors.visible(pose, camera), pose, camera)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"ms": 1e3 * float(np.median(seconds[1:])), "first_ms": 1e3 * seconds[0],
                      "resident_mb": (resident() - before) / 2**20, "tiles_mb": world.anchors.resident / 2**20}))


if __name__ == "__main__":
    main(*sys.argv[1:])
