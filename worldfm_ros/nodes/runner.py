"""Runs one node in one process: start, spin, stop cleanly on Ctrl-C or SIGTERM."""

from __future__ import annotations

from collections.abc import Callable
import os
import re
import signal
import sys
from typing import NoReturn

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.signals import SignalHandlerOptions

from worldfm_ros.ending import take_debug, tell
from worldfm_ros.kernel_cache import give_kernels_a_folder

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
WAKE_UP = 0.1  # seconds; a waiting executor cannot see a signal earlier
BAD_START = 2  # exit code
TEAR_DOWN = 30  # seconds for the middleware to end; longer than a launcher waits before it kills
TURN = 3e-4  # seconds, Python's own is 5 ms: so long a painting thread waits, hundreds of times a frame, for its turn
FAILED = 1  # exit code of a node that was running
REFUSALS = (  # of parameters, arguments and environment variables, by rclpy; ending.MENDABLE has the others
    ParameterException, NameValidationException,
    rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError,
)


class _Stopped(BaseException):
    """A stop signal came before the node was spinning; not an Exception, so that no library swallows it."""


class _StopSignals:
    """Remembers a stop signal; while `starting`, raises it, because a world may take long to load."""

    def __init__(self) -> None:
        self.starting = True
        self.received = False
        for number in STOP_SIGNALS:
            signal.signal(number, self._receive)

    def unblock(self) -> None:
        """Take what a launcher held back while this process had no handlers yet."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _receive(self, number, frame) -> None:
        first, self.received = not self.received, True
        if first and self.starting:
            raise _Stopped


def run(make_node: Callable[[], rclpy.node.Node], args=None) -> int:
    """Make the node and spin it (with others, where it has `nodes`) until a stop signal, or until it sets
    `node.exit_code` to a number.

    Returns the process's exit code: the node's, else 0; 2 after one line on stderr when the node could not start, 1
    after one when it failed later (with --debug or WORLDFM_DEBUG behind a traceback). Calls `node.close()` at the end
    if there is one. To be called once, from the main thread; the signal handlers stay, so that a second Ctrl-C does
    not tear the clean-up apart.
    """
    signals = _StopSignals()
    try:
        take_debug()
        give_kernels_a_folder(os.environ)
        sys.setswitchinterval(TURN)
        signals.unblock()
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make_node()
        signals.starting = False
        status = _spin(node, signals)
    except _Stopped:
        status = 0
    except Exception as error:  # noqa: BLE001  the last place where one can be turned into a line
        status = BAD_START if signals.starting else FAILED
        tell(error if not isinstance(error, REFUSALS) else ValueError(_in_one_line(error)))
    rclpy.try_shutdown()
    signal.alarm(0)
    return status


def _in_one_line(error: Exception) -> str:
    if isinstance(error, rclpy_implementation.UnknownROSArgsError):  # says the words and nothing else
        return f"unknown ROS arguments: {error}"
    return re.sub(r",? at /\S+:\d+", "", str(error))  # without places in rcl


def leave(status: int) -> NoReturn:
    """End the process at once, after `run`. For a node with native threads that may still be at work.

    Python's own way out takes torch's libraries seconds to tear down, and it can crash under a thread of theirs.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _spin(node, signals: _StopSignals) -> int:
    executor = SingleThreadedExecutor()
    for each in getattr(node, "nodes", [node]):
        executor.add_node(each)
    try:
        while not signals.received and getattr(node, "exit_code", None) is None:
            executor.spin_once(timeout_sec=WAKE_UP)
    finally:
        if hasattr(node, "close"):
            node.close()
        # Fast DDS 2.14 may wait for itself for ever in here when other nodes end at the same time, with Python's lock
        # in its hands: without a launcher, which kills what hangs, SIGALRM ends the process. What matters is closed.
        signal.alarm(TEAR_DOWN)
        executor.shutdown()
        node.destroy_node()
    return getattr(node, "exit_code", None) or 0
