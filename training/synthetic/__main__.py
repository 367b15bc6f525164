"""Procedural clips from the command line.

    python -m training.synthetic bench [--device cuda]                 how fast they are made
    python -m training.synthetic film FAMILY --seed 0 --out FOLDER     some of a scene, as an RGB-D folder to look at
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
import math
from pathlib import Path
import sys
from time import perf_counter
from typing import Annotated, NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
import tyro

from training.synthetic.clips import ClipSettings, synthetic_clip
from training.synthetic.raycaster import TorchRayCaster
from training.synthetic.trajectories import Space, draw
from worldfm_ros.clips import LENGTH
from worldfm_ros.ending import exit_code
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.scenes.families import SCENES, check_families, make_scene
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.scene import Light, Material, Scene, Sphere
from worldfm_ros.sources.rgbd_folder import write_rgbd_folder

Maker = Callable[[Scene, float], Callable]  # of a function (poses, intrinsics, samples) that draws a scene


class Speed(NamedTuple):
    """Seconds until a caster is ready to draw a scene, and seconds a picture."""

    scene: float
    picture: float


def bench(
    device: str = "",
    families: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FAMILY...")] = tuple(SCENES),
    texel: float = 0.15,
    clips: int = 1,
) -> None:
    """Time the numba ray caster and, with --device, the torch one: scenes and pictures (320x256, 2x2 rays) a second.

    A scene counts as ready when its light is worked out and it is known where a camera may be. What is done once only,
    such as compiling, is not counted.

    Args:
        device: where the torch caster runs, cpu or cuda; on a CPU it works out a scene's light for minutes.
        families: families of scenes.
        texel: metres between a lightmap's vertices.
        clips: clips of 16 pictures that are timed in each scene.
    """
    check_families(*families)
    makers: dict[str, Maker] = {"numba": _numba}
    if device:
        makers[f"torch {device}"] = partial(_torch, device=device)
    table = Table(title="procedural clips", box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("family", "solids", "lights", "caster", "scenes/s", "frames/s"):
        table.add_column(column, justify="left" if column in ("family", "caster") else "right", no_wrap=True)
    console = Console()
    with console.status("compiling") as status:
        ball = Scene("ball", [Sphere((2.0, 0.0, 0.0), (1.0, 1.0, 1.0), Material.hex("#808080"), 1)],
                     [Light((0.0, 0.0, 5.0), (9.0, 9.0, 9.0))], (0.1, 0.1, 0.1), {1: "ball"})
        for make in makers.values():
            measure(ball, make, 1.0, [Pose.identity()])
        for family in families:
            scene = make_scene(family)
            start = perf_counter()
            space = Space.of(scene)
            places = perf_counter() - start
            poses = [pose for k in range(clips) for pose in draw(space, np.random.default_rng(k))]
            for name, make in makers.items():
                status.update(f"{family}, {name}")
                speed = measure(scene, make, texel, poses)
                table.add_row(family, str(len(scene.primitives)), str(len(scene.lights)), name,
                              f"{1.0 / (places + speed.scene):.3g}", f"{1.0 / speed.picture:.3g}")
    console.print(table)


def film(family: tyro.conf.Positional[str], *, out: Path, seed: int = 0, clips: int = 3, hfov: float = 75.0) -> None:
    """Write clips of one scene, one after the other, as an RGB-D folder: what `worldfm eval --clips 16` scores.

    Args:
        family: of the scene.
        out: the folder, which must not exist.
        seed: of the scene.
        clips: how many.
        hfov: degrees.
    """
    if clips < 1:
        raise ValueError(f"clips is 1 or more, got {clips}")
    settings = ClipSettings(hfov=(math.radians(hfov), math.radians(hfov)))
    frames = (replace(frame, index=LENGTH * take + frame.index)
              for take in range(clips) for frame in synthetic_clip(family, seed, settings, take).frames)
    write_rgbd_folder(frames, out)
    print(f"{out}: {clips} clips of {family} {seed}")


def measure(scene: Scene, make: Maker, texel: float, poses: Sequence[Pose]) -> Speed:
    """Of one scene and pictures from `poses`."""
    settings = ClipSettings()
    intrinsics = Intrinsics.from_hfov(settings.width, settings.height, float(np.mean(settings.hfov)))
    start = perf_counter()
    render = make(scene, texel)
    ready = perf_counter()
    render(poses, intrinsics, settings.samples)
    return Speed(ready - start, (perf_counter() - ready) / len(poses))


def _numba(scene: Scene, texel: float) -> Callable:
    caster = RayCaster(scene, texel)
    return lambda poses, *rest: [caster.render(pose, *rest) for pose in poses]


def _torch(scene: Scene, texel: float, device: str) -> Callable:
    caster = TorchRayCaster(scene, texel, device)
    return lambda poses, *rest: caster.render(poses, *rest).rgb.cpu()  # waits until the device is done


def main() -> int:
    """Run a command."""
    commands = {"bench": bench, "film": film}
    return exit_code(lambda: tyro.extras.subcommand_cli_from_dict(commands, prog="python -m training.synthetic"))


if __name__ == "__main__":
    sys.exit(main())
