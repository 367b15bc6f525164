"""The `worldfm` command: finds the subcommand, and says errors in one line."""

from __future__ import annotations

from collections.abc import Callable
import difflib
from importlib import import_module
import sys
from xml.etree import ElementTree

import tyro

from worldfm_ros.ending import DEBUG, exit_code
from worldfm_ros.share import share_directory

# name: module of this package and function; imported when it is asked for
COMMANDS = {
    "sim": "sim:simulate",
    "explore": "explore:explore",
    "world build rgbd": "build:build_rgbd",
    "world build bag": "build:build_bag",
    "world build transforms": "build:build_transforms",
    "world build colmap": "build:build_colmap",
    "world build panorama": "build:build_panorama",
    "world build image": "build:build_image",
    "world build ply": "build:build_ply",
    "world build synthetic": "build:build_synthetic",
    "world info": "world:info",
    "world export": "world:export",
    "world map": "world:occupancy_map",
    "world merge": "maps:merge_worlds",
    "world cut": "maps:cut_world",
    "model list": "model:list_models",
    "model info": "model:info",
    "model import": "model:import_checkpoint",
    "render": "render:render",
    **{f"trajectory {name}": f"trajectory:{name.replace('-', '_')}"
       for name in ("orbit", "spline", "coverage", "random-walk", "from-bag")},
    "export": "export:export_dataset",
    "eval": "eval:evaluate",
    "eval-segmenter": "segmenter:eval_segmenter",
    "bag render": "bag:render_bag",
    "bag remake": "bag:remake_bag",
    "bag recover": "bag:recover_bag",
    "report": "report:write_report",
    "bench render": "bench:bench_render",
    "bench generate": "bench:bench_generate",
    "bench depth": "depth:bench_depth",
    "bench publish": "bench:bench_publish",
}


def main() -> int:
    """Run a command."""
    words = [word for word in sys.argv[1:] if word != DEBUG]
    if words == ["--version"]:
        return exit_code(_print_version)
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    if name is None:
        return exit_code(lambda: _list_commands(words))
    return exit_code(lambda: tyro.cli(_load(name), prog=f"worldfm {name}", args=words[len(name.split()) :]))


def _load(name: str) -> Callable[..., int | None]:
    module, function = COMMANDS[name].split(":")
    return getattr(import_module(f"worldfm_ros.cli.{module}"), function)


def _print_version() -> None:
    print("worldfm_ros", ElementTree.parse(share_directory() / "package.xml").findtext("version"))


def _list_commands(words: list[str]) -> int:
    """Help for what was asked (exit code 0), or what may have been meant (2)."""
    asked = " ".join(word for word in words if not word.startswith("-"))
    known = {name: _load(name).__doc__.splitlines()[0] for name in COMMANDS if name.startswith(asked)}
    if not known:
        near = difflib.get_close_matches(asked, COMMANDS, n=1, cutoff=0.4)
        print(
            f"error: there is no command {asked!r}; "
            + (f"did you mean `worldfm {near[0]}`?" if near else "see `worldfm --help`"),
            file=sys.stderr,
        )
        return 2
    print("usage: worldfm COMMAND ...      (worldfm COMMAND --help tells more; worldfm --version)\n")
    for name, text in known.items():
        print(f"  worldfm {name:<22} {text}")
    return 0 if {"-h", "--help"} & set(words) or not words else 2


if __name__ == "__main__":
    sys.exit(main())
