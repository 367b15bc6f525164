"""Every test session gets a ROS domain of its own, so that nothing else on the machine or network takes part."""

from __future__ import annotations

import os
import threading
import time

from hypothesis import settings
import pytest

settings.register_profile("worldfm", deadline=None)  # no test asserts a time
settings.load_profile("worldfm")

# 1 to 100: their ports lie below those that the operating system gives to others. Child processes inherit it.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


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

    def close(self) -> None:
        for _, _, stop, _ in self._spinning:
            stop.set()
        for node, executor, _, thread in self._spinning:
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
