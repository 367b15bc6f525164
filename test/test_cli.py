"""The `worldfm` command: what it lists, what it says when it is not understood, and its JSON."""

import json
from pathlib import Path
import signal
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from scenes import room_frames, room_world, write_rgbd_folder

from worldfm_ros.cli.main import COMMANDS
from worldfm_ros.world.storage import read_world, write_world

ROOT = Path(__file__).parents[1]


def worldfm(*words):
    return subprocess.run(
        [sys.executable, "-m", "worldfm_ros.cli.main", *map(str, words)], capture_output=True, text=True
    )


def test_help_lists_every_command():
    result = worldfm("--help")
    assert result.returncode == 0
    assert all(f"worldfm {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = worldfm(*name.split(), "--help")
    assert result.returncode == 0, result.stderr
    assert "usage: worldfm " + name in result.stdout and len(result.stdout.splitlines()) > 5


@pytest.mark.parametrize(
    "words, message",
    [
        (["wrold", "info"], "did you mean `worldfm world info`?"),
        (["world", "info", "/nowhere"], "/nowhere is no world folder"),
        (["world", "build", "rgbd", "/nowhere", "--out", "/tmp/never"], "/nowhere is no RGB-D folder"),
        (["world", "build", "synthetic", "castle", "--out", "/tmp/never"], "the families: apartment"),
        (["world", "build", "rgbd", "/nowhere", "--out", "/tmp/never", "--voxel", "0"], "the voxel size is between"),
        (["model", "info", "dalle"], "there is no model 'dalle'"),
        (["bag", "recover", "/nowhere", "/tmp/never"], "/nowhere"),
        (["sim", "widht:=3"], "did you mean 'width'?"),
    ],
)
def test_errors_are_one_line(words, message):
    result = worldfm(*words)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


def test_version_is_that_of_the_package():
    result = worldfm("--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"worldfm_ros {ElementTree.parse(ROOT / 'package.xml').findtext('version')}\n"


SLOW = """
import signal, sys, time
from worldfm_ros.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it

def slow() -> None:
    "A command that takes long."
    print("works", flush=True)
    time.sleep(600)

main._load = lambda name: slow
sys.argv = ["worldfm", "render"]
sys.exit(main.main())
"""


def test_ctrl_c_is_no_traceback():
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "stopped\n")


def test_a_scan_is_built_and_described(tmp_path):
    scan = write_rgbd_folder(tmp_path / "scan", room_frames(24))
    built = worldfm("world", "build", "rgbd", scan, "--out", tmp_path / "w", "--voxel", "0.05")
    assert built.returncode == 0, built.stderr
    facts = json.loads(worldfm("world", "info", tmp_path / "w", "--json").stdout)
    world = read_world(tmp_path / "w")
    assert (facts["name"], facts["anchors"], facts["keyframes"]) == ("scan", len(world.anchors), len(world.keyframes))
    assert facts["format_version"] == 2 and facts["scale"] == "metric" and facts["spacing"] == 0.05
    assert facts["bounds"][0][0] < -1.5 and facts["bounds"][1][0] > 1.5


def test_a_refused_build_leaves_the_old_world(tmp_path):
    write_world(room_world(3), tmp_path / "w")
    scan = write_rgbd_folder(tmp_path / "scan", room_frames(3))
    (scan / "depth" / "000002.png").unlink()
    assert worldfm("world", "build", "rgbd", scan, "--out", tmp_path / "w").returncode == 2
    assert read_world(tmp_path / "w").name == "room"
