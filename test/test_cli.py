"""The `worldfm` command: what it lists, what it says when it is not understood, and its JSON."""

import json
import subprocess
import sys

import pytest
from scenes import room_frames, room_world, write_rgbd_folder

from worldfm_ros.cli.main import COMMANDS
from worldfm_ros.world.storage import read_world, write_world


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


def test_a_scan_is_built_and_described(tmp_path):
    scan = write_rgbd_folder(tmp_path / "scan", room_frames(24))
    built = worldfm("world", "build", "rgbd", scan, "--out", tmp_path / "w", "--voxel", "0.05")
    assert built.returncode == 0, built.stderr
    facts = json.loads(worldfm("world", "info", tmp_path / "w", "--json").stdout)
    world = read_world(tmp_path / "w")
    assert (facts["name"], facts["anchors"], facts["keyframes"]) == ("scan", len(world.anchors), len(world.keyframes))
    assert facts["format_version"] == 1 and facts["scale"] == "metric" and facts["spacing"] == 0.05
    assert facts["bounds"][0][0] < -1.5 and facts["bounds"][1][0] > 1.5


def test_a_refused_build_leaves_the_old_world(tmp_path):
    write_world(room_world(3), tmp_path / "w")
    scan = write_rgbd_folder(tmp_path / "scan", room_frames(3))
    (scan / "depth" / "000002.png").unlink()
    assert worldfm("world", "build", "rgbd", scan, "--out", tmp_path / "w").returncode == 2
    assert read_world(tmp_path / "w").name == "room"
