"""Every test process gets a ROS domain of its own, so that nothing else on the machine or network takes part."""

from __future__ import annotations

import errno
import os
from pathlib import Path
import socket
import threading
import time

from hypothesis import settings
import pytest

settings.register_profile("worldfm", deadline=None)  # no test asserts a time
settings.load_profile("worldfm")
DOMAINS, HERE = 100, Path(__file__).parent


def claim_domain() -> tuple[int, socket.socket]:
    """A ROS domain that no other test process has, and what says so to the others as long as this process lives.

    1 to 100: the ports of these lie below those that the operating system gives to others. A name in Linux's abstract
    socket space belongs to one process, vanishes with it, and is seen as far as the domain's ports are.
    """
    for i in range(DOMAINS):
        domain = 1 + (os.getpid() + i) % DOMAINS
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0worldfm_ros test domain {domain}")
            return domain, claim
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise RuntimeError(f"all {DOMAINS} ROS domains are in use by other test processes")


DOMAIN, _CLAIM = claim_domain()
os.environ["ROS_DOMAIN_ID"] = str(DOMAIN)  # child processes inherit it
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait for each other leave the cores to others
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores, so each has one thread
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


class RosSession:
    """Nodes that spin in a thread of their own until the test ends."""

    def __init__(self) -> None:
        self._spinning = []

    def spin(self, node):
        """Spin the node in its own thread; returns the node."""
        from rclpy.executors import SingleThreadedExecutor

        executor = SingleThreadedExecutor()
        executor.add_node(node)
        stop = threading.Event()

        def spin():
            while not stop.is_set():
                executor.spin_once(timeout_sec=0.05)

        thread = threading.Thread(target=spin, daemon=True)
        thread.start()
        self._spinning.append((node, executor, stop, thread))
        return node

    @staticmethod
    def wait_for(condition, what: str, timeout: float = 20.0):
        """The first true value of condition(); fails the test when there is none within `timeout` seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.01)
        pytest.fail(f"waited {timeout} s in vain for {what}")

    @staticmethod
    def pause(seconds: float) -> None:
        """Let the nodes do what they do; for what must not happen."""
        time.sleep(seconds)

    def stop(self, node) -> None:
        """End one node."""
        entry = next(entry for entry in self._spinning if entry[0] is node)
        self._spinning.remove(entry)
        self._end([entry])

    def close(self) -> None:
        self._end(self._spinning)

    @staticmethod
    def _end(entries) -> None:
        for _, _, stop, _ in entries:
            stop.set()
        for node, executor, _, thread in entries:
            thread.join(5.0)
            if hasattr(node, "close"):
                node.close()
            executor.shutdown()
            node.destroy_node()


@pytest.fixture
def ros():
    """rclpy, initialised for one test, as a RosSession."""
    rclpy = pytest.importorskip("rclpy")
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    session = RosSession()
    yield session
    session.close()
    rclpy.try_shutdown()
