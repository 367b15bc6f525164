"""Threads that are closed: what another thread waits for ends, with what it has or with an error."""

from concurrent.futures import ThreadPoolExecutor
import threading
import time

import pytest

pytest.importorskip("rclpy")

from worldfm_ros.nodes.worker import Closed, Threads, WorkThread  # noqa: E402

PATIENCE = 10.0


def wait_for_a_job(thread):
    deadline = time.monotonic() + PATIENCE
    while not thread._jobs:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_call_that_never_comes_to_its_turn_ends():
    begun, go_on, thread = threading.Event(), threading.Event(), WorkThread("tests")
    with ThreadPoolExecutor(2) as pool:
        in_hand = pool.submit(thread.call, lambda: begun.set() or go_on.wait(PATIENCE))
        assert begun.wait(PATIENCE)
        waits = pool.submit(thread.call, lambda: pytest.fail("it is closed"))
        wait_for_a_job(thread)
        thread.close()
        with pytest.raises(Closed, match="thread for tests"):
            waits.result(PATIENCE)
        with pytest.raises(Closed):
            thread.call(lambda: pytest.fail("it is closed"))
        go_on.set()
        assert in_hand.result(PATIENCE) is True


def test_a_call_through_both_threads_ends_where_the_second_one_never_does_it():
    painting, go_on, threads = threading.Event(), threading.Event(), Threads()
    threads.painting.do(lambda: painting.set() or go_on.wait(PATIENCE))
    assert painting.wait(PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(threads.call, lambda: pytest.fail("it is closed"))
        wait_for_a_job(threads.painting)
        threads.close()
        with pytest.raises(Closed, match="painting"):
            waits.result(PATIENCE)
        go_on.set()
