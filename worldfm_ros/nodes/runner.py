"""Runs one node in one process: start, spin, stop cleanly on Ctrl-C or SIGTERM."""

from __future__ import annotations

from collections.abc import Callable
import signal
import sys

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
WAKE_UP = 0.1  # seconds; a waiting executor cannot see a signal earlier
BAD_START = 2  # exit code


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
    """Make the node and spin it until a stop signal, or until it sets `node.exit_code` to a number.

    Returns the process's exit code: the node's, else 0; and 2 after one line on stderr when the node could not start
    (ValueError or OSError). Calls `node.close()` at the end if there is one. To be called once, from the main thread;
    the signal handlers stay, so that a second Ctrl-C does not tear the clean-up apart.
    """
    signals = _StopSignals()
    try:
        signals.unblock()
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make_node()
        signals.starting = False
    except _Stopped:
        status = 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = BAD_START
    else:
        status = _spin(node, signals)
    rclpy.try_shutdown()
    return status


def _spin(node, signals: _StopSignals) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not signals.received and getattr(node, "exit_code", None) is None:
            executor.spin_once(timeout_sec=WAKE_UP)
    finally:
        if hasattr(node, "close"):
            node.close()
        executor.shutdown()
        node.destroy_node()
    return getattr(node, "exit_code", None) or 0
