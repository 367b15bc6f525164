"""Every command that README and docs name is taken by the real parsers, links lead somewhere, the quick start runs."""

import argparse
from contextlib import redirect_stdout
from functools import cache, wraps
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys

from docs_commands import PAGES, ROOT, STOPPED, Command, blocks, fenced, mentioned, run
import pytest
from scenes import room_world
import tyro

from training.recipes import find_recipe
from worldfm_ros.cli import main as cli
from worldfm_ros.nodes.arguments import SimulationArguments, arguments_from_text
from worldfm_ros.nodes.camera_graphs import CameraArguments, RigArguments
from worldfm_ros.world.storage import write_world

LAUNCHED = {"sim.launch.py": SimulationArguments, "camera.launch.py": CameraArguments, "rig.launch.py": RigArguments}
HAS_PARSER = re.compile(r"tyro\.cli|ArgumentParser")


class Parsed(BaseException):
    """A command line was taken: raised where the command would begin its work, with what it was given."""


@pytest.fixture
def only_parsed(monkeypatch, tmp_path):
    """Commands end where they know their arguments. The folder has the files that the docs show."""
    cli_of, several, parse = tyro.cli, tyro.extras.subcommand_cli_from_dict, argparse.ArgumentParser.parse_args

    def ending(function):
        @wraps(function)
        def end(*positional, **named):
            raise Parsed(positional, named)
        return end

    def parse_args(parser, *given):
        raise Parsed((), vars(parse(parser, *given)))

    monkeypatch.setattr(tyro, "cli", lambda function, **how: cli_of(ending(function), **how))
    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", lambda functions, **how: several(
        {name: ending(function) for name, function in functions.items()}, **how))
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.chdir(tmp_path)
    shown = next(text for _, language, text in blocks(ROOT / "docs" / "objects.md") if language == "yaml")
    (tmp_path / "my_objects.yaml").write_text(shown)


def parsed(run, argv, monkeypatch, capsys):
    """What a command line of ours means. Raises ValueError with what is said where it is not taken."""
    monkeypatch.setattr(sys, "argv", argv)
    try:
        code = run()
    except Parsed as taken:
        return taken.args
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    raise ValueError(f"ended with {code}: {said.err or said.out}")


def check(words, monkeypatch, capsys):
    """Raise ValueError where a command is none of ours as it stands. Others' programs are not looked at."""
    match words:
        case ["worldfm", *rest]:
            parsed(cli.main, words, monkeypatch, capsys)
            if rest[0] == "sim":
                check_arguments(SimulationArguments, rest[1:])
        case ["accelerate" | "torchrun", *rest]:
            check(["python", *rest[rest.index("-m"):]], monkeypatch, capsys)
        case ["python", "-m", module, *rest] if module.startswith("training"):
            _, named = parsed(lambda: runpy.run_module(module, run_name="__main__"), [module, *rest], monkeypatch,
                              capsys)
            if named.get("recipe"):
                find_recipe(named["recipe"])
        case ["python" | "python3", script, *rest] if script.endswith(".py"):
            file = there(script.removeprefix("src/worldfm_ros/"))
            if HAS_PARSER.search(file.read_text()):
                parsed(lambda: runpy.run_path(str(file), run_name="__main__"), [script, *rest], monkeypatch, capsys)
        case ["make", target, *rest]:
            if not re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE):
                raise ValueError(f"make has no {target}")
            check_arguments(SimulationArguments, [word for text in rest if text.startswith("ARGS=")
                                                  for word in text.removeprefix("ARGS=").split()])
        case ["ros2", "launch", "worldfm_ros", file, *arguments]:
            there(f"launch/{file}")
            check_arguments(LAUNCHED[file], arguments)
        case ["ros2", "run", "worldfm_ros", node, *_]:
            there(f"worldfm_ros/nodes/{node}.py")
        case ["ros2", "param", "set", "/camera/frame_camera", name, value]:
            check_arguments(CameraArguments, [f"{name}:={value}"])
        case ["pytest", *rest]:
            for file in (word for word in rest if word.endswith(".py")):
                there(file)


def check_arguments(kind, words):
    """`name:=value` as the launch files and `worldfm sim` read them."""
    arguments_from_text(dict(word.split(":=", 1) for word in words), kind)


def there(file):
    """A file of the repository."""
    if not (ROOT / file).is_file():
        raise ValueError(f"{file} is not there")
    return ROOT / file


def refused(commands, check_words) -> str:
    """The commands of which a part is not taken, each with the reason."""
    wrong = []
    for command in commands:
        try:
            for words in command.parts:
                check_words(words)
        except ValueError as error:
            wrong.append(f"{command}\n{error}")
    return "\n\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_taken_as_it_is_written(page, only_parsed, monkeypatch, capsys):
    assert refused(fenced(page), lambda words: check(words, monkeypatch, capsys)) == ""


@pytest.mark.parametrize("text", [
    "worldfm eval my_scan --model anchors --clipz 16 --json scores.json", "worldfm wrold info my_world",
    "worldfm render my_world --camera camera.yaml", "worldfm sim wdith:=3", "worldfm sim objects:=nowhere.yaml",
    "python -m training --recipe tiny-nothing --out run", "python -m training.data build my_scan --outt data/scan",
    "python test/nothing.py", "python test/soak.py --hours 3", "make smi", 'make sim ARGS="rate:=-1"',
    "ros2 launch worldfm_ros camera.launch.py grwo:=true", "ros2 param set /camera/frame_camera wdith 3",
    "accelerate launch --num_processes 8 -m training --recipee tiny-finish --out run", "worldfm sim 'objects:=demo",
    "for each in tiny nothing; do python -m training --recipe $each-finish --out run; done"])
def test_what_is_wrong_is_found(text, only_parsed, monkeypatch, capsys):
    with pytest.raises(ValueError):
        for words in Command(ROOT / "README.md", 1, text).parts:
            check(words, monkeypatch, capsys)


def test_a_block_is_read_as_a_shell_reads_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text\n```\n$ worldfm world info w   # what\nw: 3 anchors\n"
                    "$ X=1 make \\\n  lint && cat 'a b' > c\n```\n```python\nmake = 3\n```\n- item\n\n"
                    "  ```\n  for a in b c; do\n    cp $a d\n  done\n  ```\n`make sim`")
    commands = list(fenced(page))
    assert [command.line for command in commands] == [3, 5, 14]
    assert [words for command in commands for words in command.parts] == [
        ["worldfm", "world", "info", "w"], ["make", "lint"], ["cat", "a b"], ["cp", "b", "d"], ["cp", "c", "d"]]
    assert [command.text for command in mentioned(page)] == ["make sim"]


def test_a_command_that_goes_on_is_stopped_with_all_that_it_started(tmp_path):
    text = """bash -c 'trap "touch ended; exit" INT; while true; do sleep 0.1; done'; true"""
    assert run(Command(ROOT / "README.md", 1, text), tmp_path, 1.0) == STOPPED
    assert (tmp_path / "ended").exists()


# ----------------------------------------------------------------------------------- what the text names, often in part


def alternatives(words):
    """`world build {rgbd|bag}` as each of what it stands for."""
    for k, word in enumerate(words):
        if word.startswith("{"):
            return [each for choice in word.strip("{}").split("|") for each in alternatives([*words[:k], choice,
                                                                                             *words[k + 1:]])]
    return [words]


@cache
def options_of(name):
    """The options that a command's help tells of."""
    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit):
        tyro.cli(cli._load(name), prog="worldfm", args=["--help"])
    return set(re.findall(r"--[a-z][\w-]*", told.getvalue())) | {"--help", "--debug"}


def check_part(words):
    """Raise ValueError where `worldfm ...`, of which the text may leave out much, names what there is not."""
    name = next((name for name in cli.COMMANDS if words[:len(name.split())] == name.split()), None)
    if name is None:
        if not any(known.startswith(" ".join(words) + " ") for known in cli.COMMANDS):
            raise ValueError("there is no such command")
        return  # `worldfm bench` as a whole
    given = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z][\w-]*(=.*)?", word)}
    if not given <= options_of(name):
        raise ValueError(f"worldfm {name} has no {given - options_of(name)}")
    if name == "sim":
        check_arguments(SimulationArguments, words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_the_text_names_exist(page, monkeypatch, capsys, request):
    def check_named(words):
        if words[0] == "worldfm":
            for each in alternatives(words[1:]):
                check_part(each)
        elif not {"NODE", "KIND", "ARGS=..."} & {*words, *(word.split(".")[-1] for word in words)}:
            request.getfixturevalue("only_parsed")
            check(words, monkeypatch, capsys)

    assert refused(mentioned(page), check_named) == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
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


def test_published_figures_name_no_path_of_the_machine_that_measured_them():
    def texts(value):
        if isinstance(value, dict | list):
            return [text for part in (value.values() if isinstance(value, dict) else value) for text in texts(part)]
        return [value] if isinstance(value, str) else []

    results = sorted((ROOT / "docs/results").glob("*.json"))
    assert len(results) > 10
    for file in results:
        assert not [text for text in texts(json.loads(file.read_text())) if text.startswith(("/", "~"))], file.name
