"""What users set themselves wins, and where something is possible but unusual there is a word about it."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import pytest

from worldfm_ros import kernel_cache
from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.kernel_cache import give_kernels_a_folder
from worldfm_ros.nodes import graph
from worldfm_ros.nodes.arguments import parse_arguments
from worldfm_ros.nodes.hints import axes_hint, transforms_hint
from worldfm_ros.nodes.python_path import hiding, without

PROFILES = {"FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"}


@pytest.fixture
def room(monkeypatch, tmp_path):
    """Enough shared memory for the profiles, and a folder without any of Fast DDS's files."""
    monkeypatch.setattr(graph, "SHARED_MEMORY", 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("chosen", [
    {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}, {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
    {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, *({name: "/mine.xml"} for name in sorted(PROFILES)),
])  # fmt: skip
def test_who_has_chosen_how_messages_travel_gets_no_profiles(room, chosen):
    assert graph.fast_dds_profiles(chosen) == {}


def test_who_has_not_chosen_gets_them(room):
    assert graph.fast_dds_profiles({}).keys() == PROFILES
    assert graph.fast_dds_profiles({"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}).keys() == PROFILES
    (room / "DEFAULT_FASTDDS_PROFILES.xml").write_text("<mine/>")  # Fast DDS finds it by itself
    assert graph.fast_dds_profiles({}) == {}


def test_a_python_path_that_hides_our_packages_is_named_and_cleared(tmp_path):
    own, ros, harmless = (tmp_path / name for name in ("venv", "ros", "harmless"))
    for folder, packages in ((own, ("rclpy", "numpy")), (ros, ("rclpy", "other")), (harmless, ("other",))):
        for package in packages:
            (folder / package).mkdir(parents=True)
    environment = {"PYTHONPATH": os.pathsep.join(map(str, (harmless, ros, own))), "HOME": "/root"}
    assert hiding(environment, own) == {str(ros): ["rclpy"]}
    assert without(environment, hiding(environment, own)) == {
        "PYTHONPATH": os.pathsep.join(map(str, (harmless, own))), "HOME": "/root"}
    assert hiding(environment, tmp_path / "none") == {}, "a ROS 2 that is sourced is where rclpy comes from"
    assert hiding({}, own) == {} and without({}, {}) == {}


def unwritable(tmp_path: Path) -> Path:
    """A folder that nobody can make, root included."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "folder"


def test_kernels_have_a_folder_though_nothing_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_cache, "KERNELS", unwritable(tmp_path))
    environment = {"XDG_CACHE_HOME": str(unwritable(tmp_path))}
    give_kernels_a_folder(environment)
    assert f"_{os.getuid()}" in environment["NUMBA_CACHE_DIR"]
    unusable = environment | {"NUMBA_CACHE_DIR": str(unwritable(tmp_path) / "mine")}
    give_kernels_a_folder(unusable)
    assert unusable["NUMBA_CACHE_DIR"] == environment["NUMBA_CACHE_DIR"]


def test_a_folder_for_kernels_that_was_chosen_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_cache, "KERNELS", unwritable(tmp_path))
    chosen = {"NUMBA_CACHE_DIR": str(tmp_path / "mine"), "XDG_CACHE_HOME": str(unwritable(tmp_path))}
    give_kernels_a_folder(environment := dict(chosen))
    assert environment == chosen
    monkeypatch.setattr(kernel_cache, "KERNELS", tmp_path)
    give_kernels_a_folder(environment := {})
    assert environment == {}, "where numba finds a folder it needs none of ours"


def test_a_field_of_view_in_radians_is_suspected(capsys):
    assert parse_arguments(["hfov:=1.047"])[0].hfov == 1.047  # it may be a telescope
    assert "say hfov 60.0" in capsys.readouterr().err


def test_a_camera_frame_with_x_forward_is_suspected():
    upright = Pose.planar(1.0, 2.0, 0.3)
    assert "optical frame" in axes_hint(upright, "camera_link")
    assert axes_hint(upright @ T_BODY_OPTICAL, "camera_optical_frame") == ""
    assert axes_hint(Pose.looking_at([0, 0, 3], [0, 0.1, 0]), "drone_optical_frame") == "", "down is no ceiling"


class Graph:
    """What a node knows of others."""

    def __init__(self, *published: str) -> None:
        self.published = published

    def count_publishers(self, topic: str) -> int:
        return self.published.count(topic)

    def resolve_topic_name(self, topic: str) -> str:
        return topic

    def get_topic_names_and_types(self) -> list:
        return [(topic, ["tf2_msgs/msg/TFMessage"]) for topic in {*self.published, "/tf", "/tf_static"}]


def test_transforms_of_a_namespace_are_found():
    said = transforms_hint(Graph("/robot1/tf", "/robot1/tf_static"))
    assert "-r /tf:=/robot1/tf -r /tf_static:=/robot1/tf_static" in said
    assert "nobody publishes /tf" in transforms_hint(Graph())
    assert transforms_hint(Graph("/tf", "/robot1/tf")) == transforms_hint(Graph("/tf_static")) == ""


def test_a_ros_of_another_python_is_said_in_one_line(tmp_path):
    """rclpy without its compiled part, before ours in PYTHONPATH."""
    (tmp_path / "rclpy").mkdir()
    (tmp_path / "rclpy" / "__init__.py").write_text("from rclpy import _rclpy_pybind11\n")
    code = ("import sys; from worldfm_ros.ending import exit_code\n"
            "def load():\n    import rclpy\n"
            "sys.exit(exit_code(load))")
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"})
    assert done.returncode == 2 and "PYTHONPATH" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("node", ["frame_camera", "bag_recorder"])
def test_a_node_with_the_rclpy_of_another_python_says_so_in_one_line(tmp_path, node):
    (tmp_path / "rclpy").mkdir()
    (tmp_path / "rclpy" / "__init__.py").write_text("from rclpy import _rclpy_pybind11\n")
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", f"worldfm_ros.nodes.{node}"], capture_output=True, text=True,
                          timeout=60, env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"})
    assert done.returncode == 2 and "PYTHONPATH" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("node", ["frame_camera", "camera_rig", "demo_robot", "bag_recorder", "viewer"])
def test_a_node_is_imported_without_compiled_code(node):
    """Kernels are given a folder, and signals handlers, before what takes seconds to load."""
    pytest.importorskip("rclpy")
    pytest.importorskip("tf2_msgs")
    code = f"import sys, worldfm_ros.nodes.{node}; print(*{{'numba', 'torch'}} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
