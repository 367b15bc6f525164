"""`worldfm sim`: runs the simulation's nodes as processes, where `ros2 launch` does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import ctypes
from dataclasses import dataclass, fields
from importlib.util import find_spec
import json
import os
import signal
import subprocess
import sys
import time
from typing import Annotated

import tyro

from worldfm_ros.nodes.arguments import SimulationArguments, as_text, parse_arguments
from worldfm_ros.nodes.graph import RESTARTS, STOP_SECONDS, NodeSpec, fast_dds_profiles, simulation_graph
from worldfm_ros.nodes.python_path import hiding, without

LAST_WORDS_SECONDS = 3.0  # the longest wait for the others to end before the nodes that listen are stopped
SETTLE_SECONDS = 0.3  # in which what the others published last reaches the nodes that listen
POLL_SECONDS = 0.05


def describe_arguments() -> str:
    """One line an argument, for --help."""
    rows = [(f"{f.name}:={as_text(f.default)}", f.metadata["text"]) for f in fields(SimulationArguments)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows)


Words = Annotated[
    tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME:=VALUE ...", help="as listed above")
]


def simulate(arguments: Words = (), /) -> int:
    settings, given = parse_arguments(arguments)
    warn_of_hiding()
    if find_spec("rclpy") is None:
        raise RuntimeError(
            "ROS 2 is not there (rclpy cannot be imported); run `make setup`, or source a ROS 2 installation"
        )
    return run(simulation_graph(settings, given))


simulate.__doc__ = f"""Run the simulation: camera, robot, recorder, viewer. Arguments as for the launch file.

It runs until `duration` is over, a node fails, or Ctrl-C; the exit code is 0, or that of the node that failed: 3 when
a bag was asked for and less than 99 % of the images that were asked for are in it. A camera or viewer that was killed
is started again, up to {RESTARTS} times.

{describe_arguments()}
"""


@dataclass
class RunningNode:
    spec: NodeSpec
    process: subprocess.Popen
    restarts: int = 0


def run(nodes: Sequence[NodeSpec]) -> int:
    """Start every node, wait until an essential one ends or SIGINT or SIGTERM comes, stop the others.

    Returns 0, or the exit code of the first node that failed. A second Ctrl-C kills what has not stopped.
    """
    stop_requests: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stop_requests.append(received))
    running = [start(node) for node in nodes]
    failed = []
    try:
        while not stop_requests:
            start_again(running)
            if any(n.spec.essential and n.process.poll() is not None for n in running):
                break
            time.sleep(POLL_SECONDS)
        failed = failures(running)
    finally:
        stop(running, stop_requests)
    failed = failed or failures(running)
    for node in failed:
        print(f"error: {node.spec.ended(node.process.returncode)}", file=sys.stderr)
    return _exit_code(failed[0].process) if failed else 0


def start_again(running: Sequence[RunningNode]) -> None:
    """Start the nodes again that were killed, where the simulation can go on with that."""
    for node in running:
        code = node.process.poll()
        if code is not None and node.spec.starts_again(code, node.restarts):
            node.restarts += 1
            print(f"warning: {node.spec.ended(code)}; it is started again, {node.restarts} of {RESTARTS} times",
                  file=sys.stderr)
            node.process = start(node.spec).process


def failures(running: Sequence[RunningNode]) -> list[RunningNode]:
    """The essential nodes that have failed. Our SIGINT may also end a node whose handlers are gone: that is none."""
    return [n for n in running if n.spec.essential and n.process.poll() not in (None, 0, -signal.SIGINT)]


def start(node: NodeSpec) -> RunningNode:
    """Start a node in a session of its own, so that Ctrl-C reaches it through `stop`."""
    process = subprocess.Popen(command(node), env=environment(), start_new_session=True, preexec_fn=_prepare)
    return RunningNode(node, process)


def _prepare() -> None:
    """In the node's process: SIGINT waits until the node can handle it, and comes also when we are killed."""
    PR_SET_PDEATHSIG = 1
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _exit_code(process: subprocess.Popen) -> int:
    """As a shell counts: 128 + n for a process that signal n killed."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def stop(running: Sequence[RunningNode], stop_requests: list[int]) -> None:
    """SIGINT to every node, to those that only listen a little later; SIGKILL to what is there after STOP_SECONDS, or
    when another stop request comes.
    """
    deadline = time.monotonic() + STOP_SECONDS
    _interrupt(node for node in running if not node.spec.listens)
    last_words = time.monotonic() + LAST_WORDS_SECONDS
    while time.monotonic() < last_words and any(n.process.poll() is None for n in running if not n.spec.listens):
        time.sleep(POLL_SECONDS)
    time.sleep(SETTLE_SECONDS)
    _interrupt(node for node in running if node.spec.listens)
    stop_requests.clear()  # those of until now may be one that came twice: to us, and to our process group
    while any(node.process.poll() is None for node in running):
        if stop_requests or time.monotonic() > deadline:
            _kill(running, "when asked again" if stop_requests else f"within {STOP_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _kill(running: Sequence[RunningNode], reason: str) -> None:
    for node in running:
        if node.process.poll() is None:
            print(f"error: {node.spec.executable} did not stop {reason}; killed", file=sys.stderr)
            node.process.kill()
            node.process.wait()


def _interrupt(nodes: Iterable[RunningNode]) -> None:
    for node in nodes:
        if node.process.poll() is None:
            node.process.send_signal(signal.SIGINT)


def command(node: NodeSpec) -> list[str]:
    """The node's command line."""
    words = [sys.executable, "-m", node.module, "--ros-args", "-r", f"__ns:=/{node.namespace.strip('/')}"]
    words += [word for pair in node.remaps.items() for word in ("-r", ":=".join(pair))]
    for name, value in node.parameters.items():
        words += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]  # rcl's YAML knows no surrogate escapes
    return words


def environment() -> dict[str, str]:
    """The nodes' environment: ours, with room for large images, and without what hides this environment's packages."""
    return without(os.environ | fast_dds_profiles(os.environ), hiding(os.environ))


def warn_of_hiding() -> None:
    """Say which folders of PYTHONPATH the nodes do not get."""
    for folder, names in hiding(os.environ).items():
        print(f"warning: {folder} in PYTHONPATH has another {', '.join(names)} than this Python's own; the nodes run "
              "without it (a ROS 2 that is sourced for another Python? use a new shell, or unset PYTHONPATH)",
              file=sys.stderr)
