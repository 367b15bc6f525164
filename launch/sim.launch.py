"""The simulation under ros2 launch: the nodes of worldfm_ros.nodes.graph as launch actions."""

from __future__ import annotations

from dataclasses import fields
import os
import signal
import sys

from launch.actions import DeclareLaunchArgument, OpaqueFunction, RegisterEventHandler, SetEnvironmentVariable, Shutdown
from launch.event_handlers import OnProcessExit
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from worldfm_ros.nodes.arguments import (
    SimulationArguments,
    arguments_from_text,
    as_text,
    likely_argument,
    unknown_argument,
)
from worldfm_ros.nodes.graph import NodeSpec, fast_dds_profiles, simulation_graph


def generate_launch_description() -> LaunchDescription:
    """Declare the simulation's arguments and start its nodes."""
    declarations = [
        DeclareLaunchArgument(f.name, default_value=as_text(f.default), description=f.metadata["text"])
        for f in fields(SimulationArguments)
    ]
    profiles = [SetEnvironmentVariable(name, value) for name, value in fast_dds_profiles(os.environ).items()]
    return LaunchDescription([*declarations, *profiles, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[RegisterEventHandler | Node]:
    """The nodes for the arguments' values, after a handler that makes the launch fail when one of them does."""
    values = {f.name: context.launch_configurations[f.name] for f in fields(SimulationArguments)}
    typed = {word.partition(":=")[0] for word in context.argv}
    refuse_misspelt(typed - values.keys())
    arguments = arguments_from_text(values)
    given = frozenset(
        f.name for f in fields(SimulationArguments) if f.name in typed or getattr(arguments, f.name) != f.default
    )
    graph = simulation_graph(arguments, given)
    nodes = [action(node) for node in graph]
    essential = [node for node, spec in zip(nodes, graph, strict=True) if spec.essential]
    # first, because launch asks the newest handler first, and this one may raise
    return [RegisterEventHandler(OnProcessExit(on_exit=fail_with(essential))), *nodes]


def refuse_misspelt(names: set[str]) -> None:
    """Raise ValueError for a name that resembles an argument. Others may be those of a launch file around this one."""
    for name in sorted(names):
        if likely_argument(name):
            raise ValueError(unknown_argument(name))
        print(f"warning: sim.launch.py has no argument {name!r}; it is ignored here", file=sys.stderr)


def fail_with(nodes: list[Node]):
    """A handler that raises when one of the nodes has failed.

    An exception in a handler is how a launch file fails: launch says it, shuts the others down in order, and returns 1.
    """

    def on_exit(event, context: LaunchContext) -> None:
        ours = any(event.action is node for node in nodes)
        stopped = event.returncode in (-signal.SIGINT, -signal.SIGTERM) and context.is_shutdown
        if ours and event.returncode != 0 and not stopped:
            raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}")

    return on_exit


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
