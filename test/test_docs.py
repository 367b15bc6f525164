"""Every command, option and file that README and docs name exists, and the quick start runs."""

from contextlib import redirect_stdout
import io
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys

import pytest
from scenes import room_world
import tyro

from worldfm_ros.cli import main as cli
from worldfm_ros.nodes.arguments import SimulationArguments
from worldfm_ros.world.storage import write_world

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "models").glob("*/README.md"))]
CONTINUED = re.compile(r"\\\n\s*")
SHELL = re.compile(r"&&|\|\||[;|&]")  # between commands


def fenced(page):
    """The lines of the page's fenced blocks of no language or of the shell's."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        if language in ("", "bash", "sh"):
            yield from CONTINUED.sub(" ", block).splitlines()


def commands(page):
    """Words of each command of the page, in fenced blocks and in backticks."""
    text = page.read_text()
    inline = re.findall(r"`((?:worldfm|make|python -m|ros2 launch) [^`\n]+)`", text)
    for line in [*fenced(page), *inline]:
        line = re.sub(r"\s#.*", "", line)
        for part in SHELL.split(line):
            try:
                words = shlex.split(part)
            except ValueError:
                continue  # an output that holds a quote
            while words and re.fullmatch(r"\w+=\S*", words[0]):
                words = words[1:]  # the environment
            if words:
                yield words


def worldfm_commands():
    for page in PAGES:
        for words in commands(page):
            if words[0] == "worldfm" and len(words) > 1 and re.fullmatch(r"[a-z][\w-]*|\{.*", words[1]):
                yield page, words[1:]


def named(words):
    """The command that words begin with, None when there is none."""
    return next((name for name in cli.COMMANDS if words[:len(name.split())] == name.split()), None)


def alternatives(words):
    """`world build {rgbd|bag}` as each of what it stands for."""
    for k, word in enumerate(words):
        if word.startswith("{"):
            return [each for choice in word.strip("{}").split("|") for each in alternatives([*words[:k], choice,
                                                                                             *words[k + 1:]])]
    return [words]


ALL = [(page, words) for page, given in worldfm_commands() for words in alternatives(given)]


def options_of(name):
    """The options that a command's help tells of."""
    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit):
        tyro.cli(cli._load(name), prog="worldfm", args=["--help"])
    return set(re.findall(r"--[a-z][\w-]*", told.getvalue())) | {"--help", "--debug"}


OPTIONS = {name: options_of(name) for name in cli.COMMANDS}


def test_there_is_something_to_check():
    assert len(ALL) > 40 and {named(words) for _, words in ALL} >= {"sim", "eval", "render", "report", "explore"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_exists(page):
    for where, words in ALL:
        if where != page:
            continue
        name = named(words)
        if name is None and any(known.startswith(" ".join(words) + " ") for known in cli.COMMANDS):
            continue  # `worldfm bench` as a whole
        assert name, f"{page.name}: there is no command `worldfm {' '.join(words)}`"
        given = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z][\w-]*(=.*)?", word)}
        assert given <= OPTIONS[name], f"{page.name}: worldfm {name} has no {given - OPTIONS[name]}"
        if name == "sim":
            check_arguments(page, words[1:])


def check_arguments(page, words):
    known = SimulationArguments.__dataclass_fields__
    for word in words:
        argument, separator, _ = word.partition(":=")
        assert not separator or argument in known, f"{page.name}: {word}: no such argument of a simulation"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_launch_and_python_modules_exist(page):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        if words[0] == "make" and len(words) > 1 and re.fullmatch(r"[a-z]+", words[1]):
            assert words[1] in targets, f"{page.name}: make has no {words[1]}"
        if words[0] == "make":
            arguments = [word[len("ARGS="):] for word in words if word.startswith("ARGS=")]
            for text in arguments:
                check_arguments(page, text.split())
        if words[:2] == ["ros2", "launch"] and len(words) > 3 and words[2] == "worldfm_ros":
            assert (ROOT / "launch" / words[3]).is_file(), f"{page.name}: {words[3]}"
        if words[0].startswith("python") and re.fullmatch(r"-m (training|worldfm_ros)[a-z_.]*", " ".join(words[1:3])):
            module = ROOT.joinpath(*words[2].split("."))
            assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), f"{page.name}: {words[2]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_quick_start_runs(tmp_path):
    """Of docs/quickstart.md the block that needs no ROS, as it stands; only its first line, which renders a scene for a
    minute, gives way to a small room."""
    page = (ROOT / "docs" / "quickstart.md").read_text()
    first, rest = re.search(r"<!-- run by the tests -->\n```\n(.*?)\n(.*?)```", page, re.DOTALL).groups()
    assert first.startswith("worldfm world build synthetic")
    write_world(room_world(), tmp_path / "my_world")
    shim = tmp_path / "bin" / "worldfm"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m worldfm_ros.cli.main "$@"\n')
    shim.chmod(0o755)
    environment = os.environ | {"PATH": f"{shim.parent}:{os.environ['PATH']}",
                                "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(["bash", "-e"], input=rest, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"poses.txt", "poses.png", "drive.mp4", "report.html"} <= {file.name for file in tmp_path.iterdir()}
