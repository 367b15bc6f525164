"""Writes docs/ros_reference.md from the code and a running simulation: `python test/ros_reference.py`.

test_layouts.py compares the page with what it would be today.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import rclpy
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from scenes import room_world

from worldfm_ros.nodes.arguments import SimulationArguments, as_text
from worldfm_ros.nodes.parameter_fields import default_of
from worldfm_ros.world.storage import write_world

PAGE = Path(__file__).parents[1] / "docs" / "ros_reference.md"
NODES = {"/camera/frame_camera": "frame_camera", "/demo_robot": "demo_robot", "/bag_recorder": "bag_recorder",
         "/viewer": "viewer"}
EVERYWHERE = ("/rosout", "/parameter_events", "/_")
PATIENCE = 90.0
HEAD = """# ROS reference

Written by `python test/ros_reference.py` from the code and from a simulation that runs (`worldfm sim record:=true`): do
not edit it. What the topics, parameters and services mean is told in [nodes.md](nodes.md).
"""


@contextmanager
def simulation(folder: Path):
    """A node beside a simulation of a small room, once every node of it is there."""
    write_world(room_world(), folder / "room")
    words = [f"world:={folder / 'room'}", "model:=anchors", "width:=96", "height:=64", "port:=0", "record:=true",
             f"bag:={folder / 'bag'}"]
    process = subprocess.Popen([sys.executable, "-m", "worldfm_ros.cli.main", "sim", *words], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    rclpy.init()
    node = rclpy.create_node("reference_reader")
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not NODES.keys() <= {
                f"{namespace.rstrip('/')}/{name}" for name, namespace in node.get_node_names_and_namespaces()}:
            time.sleep(0.2)
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown()
        process.terminate()
        process.communicate(timeout=PATIENCE)


def settled(node) -> dict[str, dict[str, list]]:
    """By node and kind, the names and types that it has, once they do not change any more."""
    before, same = None, 0
    while same < 25:
        now = {full: entities(node, full) for full in NODES}
        same = same + 1 if now == before else 0
        before = now
        time.sleep(0.2)
    return now


def entities(node, full: str) -> dict[str, list]:
    """publishers, subscriptions and services of a node, without those that every node has."""
    namespace, _, name = full.rpartition("/")
    asked = {"publishes": node.get_publisher_names_and_types_by_node,
             "subscribes": node.get_subscriber_names_and_types_by_node,
             "serves": node.get_service_names_and_types_by_node}
    return {kind: sorted((topic, types[0]) for topic, types in ask(name, namespace or "/")
                         if not topic.startswith(EVERYWHERE) and "rcl_interfaces" not in types[0]
                         and "type_description" not in types[0]) for kind, ask in asked.items()}


def page(node) -> str:
    """The whole reference."""
    parts = [HEAD, "## Simulation arguments\n", "| argument | default | |\n|---|---|---|\n" + "\n".join(
        f"| `{f.name}` | {as_text(f.default)} | {f.metadata['text']} |" for f in fields(SimulationArguments)) + "\n"]
    for full, kinds in settled(node).items():
        module = NODES[full]
        parts.append(f"## {module}\n\n`ros2 run worldfm_ros {module}`; in a simulation `{full}`.\n")
        for kind, rows in kinds.items():
            if rows:
                parts.append(table(node, full, kind, rows))
        parts.append(parameters(module))
    return "\n".join(parts)


def table(node, full: str, kind: str, rows: list) -> str:
    lines = [f"| {kind} | type | |", "|---|---|---|"]
    for topic, of in rows:
        lines.append(f"| `{topic}` | {of} | {quality(node, full, topic) if kind == 'publishes' else ''} |")
    return "\n".join(lines) + "\n"


def quality(node, full: str, topic: str) -> str:
    """How a node offers a topic."""
    for info in node.get_publishers_info_by_topic(topic):
        if f"{info.node_namespace.rstrip('/')}/{info.node_name}" == full:
            words = ["reliable" if info.qos_profile.reliability == ReliabilityPolicy.RELIABLE else "best effort"]
            latched = info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            return ", ".join([*words, *(["latched"] if latched else [])])
    return ""


def parameters(module: str) -> str:
    lines = ["| parameter | default | range | may change | |", "|---|---|---|---|---|"]
    found = import_module(f"worldfm_ros.nodes.{module}")
    kind = next(value for name, value in vars(found).items() if name.endswith("Parameters") and isinstance(value, type))
    for f in fields(kind):
        low, high = f.metadata["minimum"], f.metadata["maximum"]
        span = "" if low is None and high is None else f"{low} to {'' if high is None else high}".strip()
        lines.append(f"| `{f.name}` | {as_text(default_of(f))} | {span} | {'yes' if f.metadata['changes'] else ''} "
                     f"| {f.metadata['text']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, simulation(Path(folder)) as reader:
        PAGE.write_text(page(reader))
