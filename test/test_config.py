"""config/*.yaml: every parameter is there, explained, with its default; they are parameter files and rigs that work."""

from dataclasses import fields
import importlib
from pathlib import Path
import re

import numpy as np
import pytest

from worldfm_ros.nodes.arguments import parse_arguments
from worldfm_ros.nodes.graph import read_parameter_file, simulation_graph
from worldfm_ros.nodes.parameter_fields import default_of
from worldfm_ros.nodes.rig import read_rig
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World, write_world

CONFIG = Path(__file__).parents[1] / "config"
WIRED = {"bag_recorder": {"wait_for", "lockstep", "topics", "bag"}, "demo_robot": {"wait_for", "lockstep"},
         "viewer": {"image"}}  # by the graph


def parameters_of_node(node):
    *_, parameters = (cls for cls in vars(importlib.import_module(f"worldfm_ros.nodes.{node}")).values()
                      if isinstance(cls, type) and cls.__name__.endswith("Parameters"))
    return parameters


@pytest.mark.parametrize("file, node", [("camera.yaml", "frame_camera"), ("sim.yaml", "demo_robot"),
                                        ("sim.yaml", "bag_recorder"), ("sim.yaml", "viewer")])
def test_every_parameter_is_explained_with_its_default(file, node):
    pytest.importorskip("rclpy")
    pytest.importorskip("tf2_msgs")
    values = read_parameter_file(CONFIG / file)[f"/**/{node}"]
    block = (CONFIG / file).read_text().split(f"/**/{node}:")[1].split("\n/**")[0]
    known = {f.name: f for f in fields(parameters_of_node(node)) if f.name not in WIRED.get(node, ())}
    assert values == {name: default_of(known[name]) for name in values}, "a name that there is not, or another default"
    for name, f in known.items():
        assert re.search(rf"^    (# )?{name}: ", block, re.MULTILINE), name
        assert name in values or default_of(f) in ("", [], "map"), "left out only where the default is found elsewhere"
        lines = re.split(rf"^    (?:# )?{name}: ", block, flags=re.MULTILINE)[0].split("\n")
        comment = " ".join(line.strip().removeprefix("# ") for line in lines[-6:])
        assert f.metadata["text"] in comment, name


def test_the_files_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dot = AnchorMap.from_points(np.zeros((1, 3)), np.zeros((1, 3), np.uint8))
    write_world(World("dot", dot, [], 0.1), tmp_path / "w")
    plain = simulation_graph(*parse_arguments([f"world:={tmp_path}/w", "model:=anchors"]))
    for file in ("camera.yaml", "sim.yaml"):
        nodes = simulation_graph(*parse_arguments([f"world:={tmp_path}/w", "model:=anchors",
                                                   f"params_file:={CONFIG / file}"]))
        for node, other in zip(nodes, plain, strict=True):
            assert node.parameters.items() >= other.parameters.items(), "the defaults change nothing"
    assert list(read_rig(CONFIG / "rig.yaml")) == ["front", "left", "right"]
