"""The paper's choices against their alternatives, at equal steps, small: `python -m training.ablations.arms --out DIR`.

Trains the arms below on procedural clips (or those of --data), judges them on apartments, which none has seen, and
writes DIR/ablations.md, .png and .json. Finished arms stay: the same command goes on, another --arms adds to the table.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import sys
from typing import Annotated

import tyro

from training.ablations.arms import ablate, find_arms
from training.ablations.bench import BenchSettings
from training.data.shards import ShardedClips
from training.run.processes import Stopped
from training.synthetic.clips import ClipSettings, SyntheticClips
from worldfm_ros.ending import exit_code
from worldfm_ros.scenes.families import SCENES

HELD_OUT = "apartment"


def run(out: Annotated[Path, tyro.conf.arg(help="folder of the table and the runs; may hold finished arms")],
        arms: Annotated[list[str], tyro.conf.arg(help="which arms; all by default")] = [],  # noqa: B006  (tyro's)
        seeds: Annotated[int, tyro.conf.arg(help="runs of each arm")] = 3,
        steps: Annotated[int, tyro.conf.arg(help="of a teacher; autoencoder: twice that, student: a fifth")] = 3000,
        data: Annotated[str | None, tyro.conf.arg(help="clips to train on: a folder of shards")] = None,
        clips: Annotated[int, tyro.conf.arg(help="procedural clips to train on, without --data")] = 96,
        held_out: Annotated[int, tyro.conf.arg(help="procedural clips to judge on")] = 16) -> None:
    """Train small models that differ in one choice each, and compare them."""
    for name, count in (("seeds", seeds), ("steps", steps), ("clips", clips), ("held-out", held_out)):
        if count < 1:
            raise ValueError(f"--{name} is a whole number from 1 up, got {count}")
    settings = replace(BenchSettings(), steps=steps, student_steps=max(1, steps // 5), autoencoder_steps=2 * steps)
    filmed = ClipSettings(width=settings.side, height=settings.side, samples=2)
    families = tuple(sorted(set(SCENES) - {HELD_OUT}))
    chosen = find_arms(arms)
    training = ShardedClips(data) if data else tuple(SyntheticClips(families, 0, clips, filmed))
    ablate(out, chosen, seeds, settings, training, tuple(SyntheticClips((HELD_OUT,), 1, held_out, filmed)))
    print(f"{out / 'ablations.md'}\n{out / 'ablations.png'}")


def main() -> int:
    """Run the command line. Exit code 130 or 143 when SIGINT or SIGTERM stopped a run, 1 for numbers not finite."""
    return exit_code(_command)


def _command() -> int | None:
    try:
        return tyro.cli(run, prog="python -m training.ablations")
    except Stopped as stopped:
        print("stopped; the same command goes on")
        return 128 + stopped.number
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
