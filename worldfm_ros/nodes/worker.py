"""One thread for slow work that never falls behind: what waits gives way to what is newer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import threading
import time
from typing import Generic, TypeVar

Item = TypeVar("Item")


class NewestWorker(Generic[Item]):
    """Calls `work(item)` in its own thread, one item at a time.

    Items offered within `together` seconds belong together (one late TF message may answer several ticks at once); what
    is left of them gives way as soon as a later item is offered.
    """

    def __init__(self, work: Callable[[Item], None], together: float) -> None:
        self._work, self._together = work, together
        self._waiting: deque[Item] = deque()
        self._offered = -together  # when the first of those that belong together came
        self._changed = threading.Condition()
        self.closed = False
        # a daemon, because a model may take longer for its picture than Ctrl-C may wait
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> int:
        """Hand over a new item. Returns how many older ones gave way to it."""
        lost, now = 0, time.monotonic()
        with self._changed:
            if now - self._offered > self._together:
                lost, self._offered = len(self._waiting), now
                self._waiting.clear()
            self._waiting.append(item)
            self._changed.notify()
        return lost

    def close(self, patience: float = 1.0) -> None:
        """Start nothing more, and wait at most `patience` seconds for the work in hand."""
        with self._changed:
            self.closed = True
            self._changed.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self.closed)
                if self.closed:
                    return
                item = self._waiting.popleft()
            self._work(item)
