"""Threads for slow work that never falls behind: what waits gives way to what is newer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
import threading
import time
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Publish = Callable[[], None]
Paint = Callable[[], Publish | None]


class Closed(ValueError):
    """What was asked for is not done any more."""


class WorkThread:
    """A thread that several workers share; it does their jobs in the order in which they came."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: deque[tuple[Callable[[], None], Callable[[], None]]] = deque()  # and what to do in place of each
        self._closed = False
        self._changed = threading.Condition()
        # a daemon, because a model may take longer for its picture than Ctrl-C may wait
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def do(self, job: Callable[[], None], instead: Callable[[], None] = lambda: None) -> None:
        """Do it when all before it is done, or `instead`, in any thread, where that is never. Neither must raise."""
        with self._changed:
            closed = self._closed
            if not closed:
                self._jobs.append((job, instead))
                self._changed.notify()
        if closed:
            instead()

    def call(self, function: Callable[[], Any]) -> Any:
        """Do it there, wait, and return what it returns or raise what it raises; Closed where it is never done."""
        result: Future = Future()

        def job() -> None:
            try:
                result.set_result(function())
            except BaseException as error:  # goes on in the thread that waits
                result.set_exception(error)

        self.do(job, lambda: result.set_exception(Closed(f"the thread for {self._name} was closed before its turn")))
        return result.result()

    def close(self) -> None:
        """Begin nothing any more; the job in hand goes on, for nobody."""
        with self._changed:
            self._closed = True
            dropped = list(self._jobs)
            self._jobs.clear()
            self._changed.notify()
        for _, instead in dropped:
            instead()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                job, _ = self._jobs.popleft()
            job()
            del job, _  # it may hold a world, and the next one may be long in coming


class Threads:
    """Of all cameras of a process: while one picture is painted, the next one is drawn.

    All that starts native threads belongs into the one that paints. Torch's are a team of the thread that asks for
    them, and with a second team on the same cores, though idle, libgomp sends both to sleep at each barrier: pictures
    took 1.7 times as long when a model was loaded in the main thread.
    """

    def __init__(self) -> None:
        self.drawing, self.painting = WorkThread("drawing"), WorkThread("painting")

    def call(self, function: Callable[[], Any]) -> Any:
        """Do it in the thread that paints, while nothing is drawn either; return or raise what it does, or Closed."""
        return self.drawing.call(lambda: self.painting.call(function))

    def close(self) -> None:
        self.drawing.close()
        self.painting.close()


class NewestWorker(Generic[Item]):
    """Calls `draw(item)` in a thread, in a second one what that returns, which paints it, and in a third one what that
    returns, which publishes it; so the next item is worked on meanwhile. At most one item is drawn ahead. What `load()`
    returned in the thread that paints is `loaded`; the owner may put another in its place.

    Items offered within `together` seconds belong together (one late TF message may answer several ticks at once); what
    is left of them gives way as soon as a later item is offered.
    """

    def __init__(self, draw: Callable[[Item], Paint | None], together: float, load: Callable[[], Any] = lambda: None,
                 threads: Threads | None = None) -> None:
        """Waits for `load()`, and raises what it raises. `threads`: some that others use too; by default its own.
        `draw` and what it returns must not raise.
        """
        self._draw, self.together = draw, together
        self._waiting: deque[Item] = deque()
        self._in_hand: list[Item] = []  # what is worked on or waits for the next thread, unless it was forgotten
        self._offered = -together  # when the first of those that belong together came
        self._closed = False
        self._changed = threading.Lock()
        self._delivering = threading.Lock()
        self._outlet, self._room = WorkThread("outlet"), threading.Semaphore(1)  # one item at a time is published
        self._ahead = threading.Semaphore(1)  # and one waits to be painted
        self._owned = threads is None
        self.threads = threads or Threads()
        self.loaded = self._load(load)

    def offer(self, item: Item) -> list[Item]:
        """Hand over a new item. Returns the older ones that gave way to it."""
        lost: list[Item] = []
        now = time.monotonic()
        with self._changed:
            if now - self._offered > self.together:
                lost, self._offered = list(self._waiting), now
                self._waiting.clear()
            self._waiting.append(item)
        self.threads.drawing.do(self._next)
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
        self._ahead.release()
        if self._owned:
            self.threads.close()

    def _load(self, load: Callable[[], Any]) -> Any:
        try:
            return self.threads.call(load)
        except BaseException:
            self.close()
            raise

    def _next(self) -> None:
        """The oldest item that waits; there may be none left, since each offer asks once and items give way."""
        self._ahead.acquire()
        with self._changed:
            if self._closed or not self._waiting:
                self._ahead.release()
                return
            item = self._waiting.popleft()
            self._in_hand.append(item)
        paint = self._draw(item)
        if paint is None:
            self._ahead.release()
            self._let_go(item)
            return
        self.threads.painting.do(lambda: self._paint(item, paint))

    def _paint(self, item: Item, paint: Paint) -> None:
        self._ahead.release()
        with self._changed:
            if item not in self._in_hand:
                return
        publish = paint()
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
