"""One thread for slow work that never falls behind: what waits gives way to what is newer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
import threading
import time
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class NewestWorker(Generic[Item]):
    """Calls `work(item)` in its own thread, one item at a time. What `prepare()` returned there is `prepared`.

    All that starts native threads belongs into that thread. Torch's are a team of the thread that asks for them, and
    with a second team on the same cores, though idle, libgomp sends both to sleep at each barrier: pictures took 1.7
    times as long when a model was loaded in the main thread.

    Items offered within `together` seconds belong together (one late TF message may answer several ticks at once); what
    is left of them gives way as soon as a later item is offered.
    """

    def __init__(self, work: Callable[[Item], None], together: float,
                 prepare: Callable[[], Any] = lambda: None) -> None:
        """Waits for `prepare()`, and raises what it raises."""
        self._work, self._together = work, together
        self._waiting: deque[Item] = deque()
        self._in_hand: list[Item] = []  # the one that is worked on, unless it was forgotten
        self._offered = -together  # when the first of those that belong together came
        self._closed = False
        self._changed = threading.Condition()
        self._delivering = threading.Lock()
        # a daemon, because a model may take longer for its picture than Ctrl-C may wait
        prepared: Future = Future()
        threading.Thread(target=self._run, args=(prepare, prepared), name="worker", daemon=True).start()
        self.prepared = prepared.result()

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

    def deliver(self, publish: Callable[[], None]) -> None:
        """For `work`: call `publish()`, unless the item in hand was forgotten meanwhile."""
        with self._delivering:
            if self._in_hand:
                publish()

    def clear(self) -> list[Item]:
        """Forget all items, also the one in hand, and return them. Waits for a delivery, not for work."""
        with self._delivering, self._changed:
            forgotten = [*self._in_hand, *self._waiting]
            self._in_hand.clear()
            self._waiting.clear()
        return forgotten

    def close(self) -> None:
        """Start nothing and deliver nothing any more; work in hand goes on in its thread, for nobody."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self.clear()

    def _run(self, prepare: Callable[[], Any], prepared: Future) -> None:
        try:
            prepared.set_result(prepare())
        except BaseException as error:  # goes on in the thread that waits
            prepared.set_exception(error)
            return
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                item = self._waiting.popleft()
                self._in_hand = [item]
            self._work(item)
            with self._changed:
                self._in_hand.clear()
