"""From a graph of nodes to actions of `ros2 launch`: what the launch files share. launch itself has no wheel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
import os
from pathlib import Path
import sys

from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from worldfm_ros.nodes.arguments import arguments_from_text, as_text, likely_argument, unknown_argument
from worldfm_ros.nodes.graph import RESTARTS, STOP_SECONDS, STOPPED, NodeSpec, fast_dds_profiles
from worldfm_ros.nodes.parameter_fields import default_of

RESPAWN_DELAY = 1.0  # seconds, in which a launch that fails is shut down first

Graph = Callable[[object, frozenset[str]], Sequence[NodeSpec]]


def describe(file: str, arguments: type, graph: Graph) -> LaunchDescription:
    """The launch description of `file`: `arguments`, a dataclass, become nodes by `graph(arguments, given)`."""
    declarations = [
        DeclareLaunchArgument(f.name, default_value=as_text(default_of(f)), description=f.metadata["text"])
        for f in fields(arguments)
    ]
    profiles = [SetEnvironmentVariable(name, value) for name, value in fast_dds_profiles(os.environ).items()]

    def start(context: LaunchContext) -> list[RegisterEventHandler | Node]:
        """The nodes for the arguments' values, after a handler that makes the launch fail when one of them does."""
        values = {f.name: context.launch_configurations[f.name] for f in fields(arguments)}
        typed = {word.partition(":=")[0] for word in context.argv}
        refuse_unknown(typed - values.keys(), Path(file).name, arguments)
        chosen = arguments_from_text(values, arguments)
        given = frozenset(
            f.name for f in fields(arguments) if f.name in typed or getattr(chosen, f.name) != default_of(f)
        )
        pushed = context.launch_configurations.get("ros_namespace", "").rstrip("/")
        nodes = [(action(spec, pushed), spec) for spec in graph(chosen, given)]
        # first, because launch asks the newest handler first, and this one may raise
        return [RegisterEventHandler(OnProcessExit(on_exit=watch(nodes))), *(node for node, _ in nodes)]

    return LaunchDescription([*declarations, *profiles, OpaqueFunction(function=start)])


def refuse_unknown(names: set[str], file: str, arguments: type) -> None:
    """Raise ValueError for arguments that there are not: every such name where `ros2 launch` was given this very file.

    Where a launch file around this one was started, the others may be its own: only a misspelt one is refused.
    """
    alone = any(Path(word).name == file for word in sys.argv)
    for name in sorted(names):
        if alone or likely_argument(name, arguments):
            raise ValueError(unknown_argument(name, arguments))
        print(f"warning: {file} has no argument {name!r}; it is ignored here", file=sys.stderr)


def watch(nodes: Sequence[tuple[Node, NodeSpec]]):
    """A handler of processes that have ended. It raises when one of the essential nodes has failed, ends the launch
    when one has finished, and says so when one is started again.

    An exception in a handler is how a launch file fails: launch says it, shuts the others down in order, and returns 1.
    """
    restarts = [0] * len(nodes)

    def on_exit(event, context: LaunchContext) -> list[Shutdown | LogInfo] | None:
        i, spec = next(((i, spec) for i, (node, spec) in enumerate(nodes) if node is event.action), (None, None))
        code = event.returncode
        if spec is None or (context.is_shutdown and -code in (0, *STOPPED)):
            return None
        if not context.is_shutdown and spec.starts_again(code, restarts[i]):
            restarts[i] += 1
            return [LogInfo(msg=f"{spec.ended(code)}; it is started again, {restarts[i]} of {RESTARTS} times")]
        if not spec.essential:
            return None
        if code != 0:
            raise RuntimeError(f"{event.process_name} {spec.ended(code).removeprefix(spec.executable).strip()}")
        return [Shutdown(reason=f"{spec.executable} ended")]

    return on_exit


def action(spec: NodeSpec, pushed: str) -> Node:
    """A node as a launch action; `pushed`: the namespace that a launch file around this one has pushed, or none."""
    again = {"respawn": True, "respawn_delay": RESPAWN_DELAY} if spec.respawns else {}
    return Node(
        package="worldfm_ros",
        executable=spec.executable,
        name=None if spec.has_own_names else spec.executable,
        namespace=spec.namespace,
        parameters=[dict(spec.parameters)],
        remappings=[(name, f"{pushed}{target}") for name, target in spec.remaps.items()],
        output="screen",
        sigterm_timeout=str(STOP_SECONDS),
        **again,
    )
