"""Waiting for what happens in other threads and processes."""

import time

PATIENCE = 60.0  # seconds for anything that must happen at all


def wait_for(value):
    """The first true value that `value()` gives."""
    end = time.monotonic() + PATIENCE
    while not (found := value()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found
