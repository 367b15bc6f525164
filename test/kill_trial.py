"""By hand: kill -9 at random instants of saves, inserts and merges; the world on the disk must always open.

    python test/kill_trial.py --kills 200
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import os
from pathlib import Path
import random
import signal
import sys
import tempfile
import time

import numpy as np
from scenes import room_world, see_room
import tyro

from worldfm_ros.geometry import Pose
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.insertion import View, insert
from worldfm_ros.world.merge import merge, merge_into
from worldfm_ros.world.storage import World, read_world, write_world

WORK = ("save", "insert", "merge", "merge while running")


def view(number: int) -> View:
    """An exact picture from another place each time."""
    frame = see_room(Pose.looking_at([0.05 * number, 0.0, 1.2], [2.0, 0.1 * number, 1.0]))
    whole = np.ones(frame.depth.shape, np.float32)
    return View(frame.rgb, frame.depth, whole, whole > 0, frame.intrinsics, frame.T_world_camera, frame.labels, True)


def copied(world: World) -> World:
    anchors = AnchorMap()
    for tile in world.anchors.tiles:
        anchors.insert_tile(tile)
    return replace(world, anchors=anchors, keyframes=list(world.keyframes))


def labour(kind: str, worlds: list[World], folder: Path, pipe: int) -> None:
    """In the child: change the world in the folder for ever. Says before each write which world it is to be."""
    for number in range(10_000):
        if kind == "save":
            world = worlds[number % 2]
        elif kind == "insert":
            world = copied(read_world(folder))
            insert(world, view(number % 40))
        elif kind == "merge":
            world = merge([read_world(folder), worlds[number % 2]])
        else:
            world = copied(read_world(folder))
            merge_into(world, worlds[number % 2], lambda function: function())
        os.write(pipe, f"{len(world.anchors)} {len(world.keyframes)}\n".encode())
        write_world(world, folder)


def one(kind: str, worlds: list[World], folder: Path, seconds: float) -> bool:
    """Kill the work after so many seconds; whether the world is one of the last two that were to be written."""
    write_world(worlds[0], folder)
    told, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            labour(kind, worlds, folder, pipe)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(pipe)
    asked = [f"{len(worlds[0].anchors)} {len(worlds[0].keyframes)}"]
    with open(told) as stream:
        asked += stream.read().split("\n")[:-1]
    world = read_world(folder)
    found = f"{len(world.anchors)} {len(world.keyframes)}"
    return os.WIFSIGNALED(status) and found in asked[-2:]


def trial(kills: int = 200, seed: int = 0) -> int:
    """Args:
        kills: in all.
        seed: of the instants.
    """
    rng, outcomes = random.Random(seed), Counter()
    worlds = [room_world(3, 0.1, "odd"), room_world(4, 0.12, "even")]
    worlds[1] = replace(worlds[1], spacing=worlds[0].spacing)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(kills):
            kind = WORK[number % len(WORK)]
            outcomes[kind, one(kind, worlds, Path(folder) / "w", rng.uniform(0.001, 0.4))] += 1
    for kind in WORK:
        whole, torn = outcomes[kind, True], outcomes[kind, False]
        print(f"{kind}: {whole} of {whole + torn} kills left a whole world, the old or the new")
    return int(any(not whole for _, whole in outcomes))


if __name__ == "__main__":
    sys.exit(tyro.cli(trial))
