"""The simulation under ros2 launch: the nodes of worldfm_ros.nodes.graph as launch actions."""

from __future__ import annotations

from dataclasses import fields
import os

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from worldfm_ros.nodes.arguments import SimulationArguments, arguments_from_text, as_text
from worldfm_ros.nodes.graph import NodeSpec, fast_dds_profiles, simulation_graph


def generate_launch_description() -> LaunchDescription:
    """Declare the simulation's arguments and start its nodes."""
    declarations = [
        DeclareLaunchArgument(f.name, default_value=as_text(f.default), description=f.metadata["text"])
        for f in fields(SimulationArguments)
    ]
    profiles = [SetEnvironmentVariable(name, value) for name, value in fast_dds_profiles(os.environ).items()]
    return LaunchDescription([*declarations, *profiles, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Node]:
    """The nodes for the arguments' values."""
    values = {f.name: context.launch_configurations[f.name] for f in fields(SimulationArguments)}
    arguments = arguments_from_text(values)
    typed = {word.partition(":=")[0] for word in context.argv}
    given = frozenset(
        f.name for f in fields(SimulationArguments) if f.name in typed or getattr(arguments, f.name) != f.default
    )
    return [action(node) for node in simulation_graph(arguments, given)]


def action(node: NodeSpec) -> Node:
    """A node as a launch action."""
    return Node(
        package="worldfm_ros",
        executable=node.executable,
        name=node.executable,
        namespace=node.namespace,
        parameters=[dict(node.parameters)],
        output="screen",
        on_exit=Shutdown(reason=f"{node.executable} ended") if node.essential else None,
    )
