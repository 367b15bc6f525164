"""One thread for slow work that never falls behind: what waits gives way to what is newer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
import threading
import time
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Publish = Callable[[], None]


class WorkThread:
    """A thread that several workers share; it does their jobs in the order in which they came.

    All that starts native threads belongs into it. Torch's are a team of the thread that asks for them, and with a
    second team on the same cores, though idle, libgomp sends both to sleep at each barrier: pictures took 1.7 times as
    long when a model was loaded in the main thread.
    """

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], None] | None] = deque()
        self._changed = threading.Condition()
        # a daemon, because a model may take longer for its picture than Ctrl-C may wait
        threading.Thread(target=self._run, name="worker", daemon=True).start()

    def do(self, job: Callable[[], None]) -> None:
        """Do it when all before it is done. It must not raise."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def call(self, function: Callable[[], Any]) -> Any:
        """Do it there, wait, and return what it returns or raise what it raises."""
        result: Future = Future()

        def job() -> None:
            try:
                result.set_result(function())
            except BaseException as error:  # goes on in the thread that waits
                result.set_exception(error)

        self.do(job)
        return result.result()

    def close(self) -> None:
        """Do nothing any more; the job in hand goes on, for nobody."""
        with self._changed:
            self._jobs.clear()
            self._jobs.append(None)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                job = self._jobs.popleft()
            if job is None:
                return
            job()


class NewestWorker(Generic[Item]):
    """Calls `work(item)` in a thread, one item at a time, and in a second thread what that returns, which publishes it;
    so the next item is worked on meanwhile. What `prepare()` returned in the first thread is `prepared`; the owner may
    put another in its place.

    Items offered within `together` seconds belong together (one late TF message may answer several ticks at once); what
    is left of them gives way as soon as a later item is offered.
    """

    def __init__(self, work: Callable[[Item], Publish | None], together: float,
                 prepare: Callable[[], Any] = lambda: None, thread: WorkThread | None = None) -> None:
        """Waits for `prepare()`, and raises what it raises. `thread`: one that others use too; by default its own.
        `work` and what it returns must not raise.
        """
        self._work, self.together = work, together
        self._waiting: deque[Item] = deque()
        self._in_hand: list[Item] = []  # what is worked on or waits to be published, unless it was forgotten
        self._offered = -together  # when the first of those that belong together came
        self._closed = False
        self._changed = threading.Lock()
        self._delivering = threading.Lock()
        self._outlet, self._room = WorkThread(), threading.Semaphore(1)  # one item at a time is published
        self._owned = thread is None
        self.thread = thread or WorkThread()
        self.prepared = self._prepare(prepare)

    def offer(self, item: Item) -> list[Item]:
        """Hand over a new item. Returns the older ones that gave way to it."""
        lost: list[Item] = []
        now = time.monotonic()
        with self._changed:
            if now - self._offered > self.together:
                lost, self._offered = list(self._waiting), now
                self._waiting.clear()
            self._waiting.append(item)
        self.thread.do(self._next)
        return lost

    def clear(self) -> list[Item]:
        """Forget all items, also those in hand, and return them. Waits for what is published just now, not for work."""
        with self._changed:
            forgotten = [*self._in_hand, *self._waiting]
            self._in_hand.clear()
            self._waiting.clear()
        with self._delivering:
            return forgotten

    def close(self) -> None:
        """Start nothing and deliver nothing any more; work in hand goes on in its thread, for nobody."""
        with self._changed:
            self._closed = True
        self.clear()
        self._outlet.close()
        self._room.release()  # for what waits for a turn that does not come
        if self._owned:
            self.thread.close()

    def _prepare(self, prepare: Callable[[], Any]) -> Any:
        try:
            return self.thread.call(prepare)
        except BaseException:
            self.close()
            raise

    def _next(self) -> None:
        """The oldest item that waits; there may be none left, since each offer asks once and items give way."""
        with self._changed:
            if self._closed or not self._waiting:
                return
            item = self._waiting.popleft()
            self._in_hand.append(item)
        publish = self._work(item)
        if publish is None:
            self._let_go(item)
            return
        self._room.acquire()
        self._outlet.do(lambda: self._deliver(item, publish))

    def _deliver(self, item: Item, publish: Publish) -> None:
        with self._delivering:
            if self._let_go(item):
                publish()
        self._room.release()

    def _let_go(self, item: Item) -> bool:
        """It is in hand no more. False when it was forgotten before."""
        with self._changed:
            known = item in self._in_hand
            if known:
                self._in_hand.remove(item)
        return known
