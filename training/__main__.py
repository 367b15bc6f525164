"""`python -m training --recipe NAME --out DIR [--resume]`; on many GPUs `accelerate launch -m training --recipe ...`.

Exit codes: 0 done; 130 stopped by SIGINT, 143 by SIGTERM, both with a checkpoint; 1 the numbers are not finite; 2
something that the user can mend.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
import sys
from typing import Annotated

import tyro

from training.recipes import RECIPES, Recipe, find_recipe
from worldfm_ros.ending import exit_code

SIGNALLED = 128  # and the signal's number, as shells have it
BEFORE_A_RUN = {"pairs", ".lock"}  # what a run that ended before its first step may have left


def run(recipe: Annotated[str | None, tyro.conf.arg(help="its name; --list tells them")] = None,
        out: Annotated[Path | None, tyro.conf.arg(help="folder of the run, new unless --resume")] = None,
        resume: Annotated[bool, tyro.conf.arg(help="go on from the newest whole checkpoint in --out")] = False,
        data: Annotated[str | None, tyro.conf.arg(help="clips to train on: a folder of shards")] = None,
        start: Annotated[Path | None, tyro.conf.arg(help="run or model folder to start from")] = None,
        steps: Annotated[int | None, tyro.conf.arg(help="length of the run, instead of the recipe's")] = None,
        list: Annotated[bool, tyro.conf.arg(help="print the recipes and exit")] = False) -> None:
    """Train a stage of a frame model."""
    if list:
        for name, function in RECIPES.items():
            print(f"{name:<21} {function.__doc__}")
        return
    if recipe is None or out is None:
        raise ValueError("a run needs --recipe NAME and --out DIR; --list prints the recipes")
    if data == "":
        raise ValueError("--data is empty; name a folder of shards, or their address, or leave it out")
    found = find_recipe(recipe)
    if start is not None and not found.needs:
        raise ValueError(f"--start is {start}, but {recipe} starts from nothing; leave --start out")
    if steps is not None:
        found = replace(found, run=found.run.of_length(steps))
    check_out(out, resume)
    follow(found, recipe, out, resume, data, found.start(out, start))


def follow(recipe: Recipe, name: str, out: Path, resume: bool, data: str | None, start: Path | None) -> None:
    """Train as a recipe says."""
    from training.builders import Inputs, fingerprint
    from training.data.loader import loader
    from training.run.loop import train
    from training.run.processes import Stopped, processes, seed_everything

    mine = processes()
    mine.wait_for_everyone()  # all have looked at `out` before one writes into it
    settings = recipe.run
    clips = recipe.clips(data)
    seed_everything(settings.seed)  # the same first weights everywhere
    stage = recipe.stage(Inputs(start, out, settings.steps, lambda count: loader(clips, recipe.data, 0, count)))
    pairs = {key: value for key, value in asdict(recipe.data).items() if key != "workers"}
    config = {"recipe": name, "data": data, "clips": clips.fingerprint, "start": start,
              "start_sha256": fingerprint(start) if start else None, "pairs": pairs, "stage": asdict(stage.settings)}

    def batches(step: int):
        return loader(clips, recipe.data, step * settings.accumulate, settings.steps * settings.accumulate,
                      mine.process_index, mine.num_processes)

    try:
        train(stage, batches, settings, out, resume, config)
    except Stopped as stopped:
        if mine.is_main_process:
            print(stopped)
        sys.exit(SIGNALLED + stopped.number)
    if mine.is_main_process:
        made = ", ".join(f"{entry.name}/" if entry.is_dir() else entry.name
                         for entry in sorted(out.iterdir()) if not entry.name.startswith("."))
        print(f"done: {out} holds {made}")


def check_out(out: Path, resume: bool) -> None:
    """Raise ValueError when a new run would touch an old one's folder, or there is nothing to resume."""
    if resume and not (out / "checkpoints").is_dir():
        raise ValueError(f"there is no run in {out} to resume; start it without --resume")
    if not resume and out.exists() and {entry.name for entry in out.iterdir()} - BEFORE_A_RUN:
        raise ValueError(f"{out} exists; go on with --resume, or choose another folder")


def main() -> int:
    """Run the command line. Training that left the numbers ends with exit code 1."""
    return exit_code(_command)


def _command() -> int | None:
    try:
        return tyro.cli(run, prog="python -m training")
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
