"""`worldfm explore`: the live page of a world, without ROS."""

from __future__ import annotations

import math
from pathlib import Path
import signal
import sys

import tyro

from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.page.explorer import Explorer
from worldfm_ros.page.server import PageServer
from worldfm_ros.world.storage import read_world

FASTEST = 100.0  # Hz


def explore(
    world: tyro.conf.Positional[Path],
    *,
    model: str = "worldfm-tiny",
    width: int = 320,
    height: int = 240,
    hfov: float = 70.0,
    rate: float = 15.0,
    seed: int = 0,
    preset: str = "exact",
    host: str = "127.0.0.1",
    port: int = 8080,
) -> None:
    """Look around in a world: a page in the browser, on which a robot is driven or a camera flies. No ROS is needed.

    The page is that of `worldfm sim`. It runs until Ctrl-C.

    Args:
        world: the world folder.
        model: `anchors` (no network), the name of an installed model, or a model folder.
        width: pixels of the picture.
        height: pixels of the picture.
        hfov: degrees from edge to edge.
        rate: pictures a second at most; only what is looked at, and has changed, is painted.
        seed: of the model's noise.
        preset: exact, or fast: what may be done to a network for speed.
        host: address that the page is served on; 0.0.0.0 shows it to the whole network.
        port: of the page; 0 takes any free one, and the next free one is taken where it is not free.
    """
    if not 0.0 < rate <= FASTEST:
        raise ValueError(f"the rate is pictures a second, above 0 and at most {FASTEST:g}, got {rate}")
    intrinsics = Intrinsics.from_hfov(width, height, math.radians(hfov))
    explorer = Explorer(load_generator(read_world(world), model, seed, preset), intrinsics, rate)
    server = PageServer(host, port, explorer.site)
    for text in filter(None, (server.moved, server.warning)):
        print(f"warning: {text}", file=sys.stderr)
    print(f"{world} through {model}: {server.url} (Ctrl-C ends it)", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
        explorer.close()
