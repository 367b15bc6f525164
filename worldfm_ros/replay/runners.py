"""Where chunks of jobs are painted: in this process, in several, or on a Ray cluster. A runner gives results as they
come; a chunk whose worker dies is painted again elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
import os
import signal
import socket
import sys
import threading
from urllib.parse import urlsplit

from worldfm_ros.ending import MENDABLE
from worldfm_ros.replay.recipe import Job, Painting

Chunks = Mapping[int, tuple[Job, ...]]
Results = Iterator[tuple[int, bytes]]  # the chunk's number, and its part
Runner = Callable[[Painting, Chunks], Results]
DEATHS = 3  # of workers in a row, with nothing painted between: it is no accident
ANSWER = 10.0  # seconds in which a cluster's head accepts a connection
RETRIES = 3  # of a task whose worker or node died


def in_this_process(painting: Painting, chunks: Chunks) -> Results:
    for number, jobs in chunks.items():
        yield number, painting(jobs)


@dataclass(frozen=True)
class InProcesses:
    """In so many processes of this machine."""

    count: int

    def __call__(self, painting: Painting, chunks: Chunks) -> Results:
        """Raises RuntimeError when workers die again and again, and what a worker raises."""
        waiting, deaths = dict(chunks), 0
        while waiting:
            pool = ProcessPoolExecutor(self.count, get_context("spawn"), _begin_worker)
            try:
                futures = {pool.submit(painting, jobs): number for number, jobs in waiting.items()}
                for done in as_completed(futures):
                    part = done.result()
                    waiting.pop(futures[done])
                    deaths = 0
                    yield futures[done], part
            except BrokenProcessPool:
                deaths += 1
                if deaths == DEATHS:
                    raise RuntimeError(f"{deaths} workers in a row were killed before they had painted anything; is "
                                       "there enough memory for so many? (--processes fewer)") from None
                print("warning: a worker was killed; what it had in hand is painted again", file=sys.stderr)
            finally:
                pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Ctrl-C is the main process's to handle, and a worker does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os._exit(1)


@dataclass(frozen=True)
class OnRay:
    """As tasks of a Ray cluster: `auto` = the one that runs here, else one of this machine for this run; or an address.
    """

    address: str

    def __call__(self, painting: Painting, chunks: Chunks) -> Results:
        """Raises ImportError without ray, ConnectionError, and ValueError for a worker that is not set up as this."""
        ray, options = _ray(), {"include_dashboard": False}
        if self.address != "auto":
            _check_answers(self.address)
            options = {"address": self.address}
        ray.init(**options, log_to_driver=False, logging_level="error")
        try:
            task = ray.remote(num_cpus=max(1, painting.recipe.threads), max_retries=RETRIES)(_paint)
            shared, todo = ray.put(painting), iter(chunks.items())
            running = {}
            room = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
            while True:
                for number, jobs in todo:
                    running[task.remote(shared, jobs)] = number
                    if len(running) >= room:
                        break
                if not running:
                    return
                (done,), _ = ray.wait(list(running))
                yield running.pop(done), _result(ray, done)
        finally:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself goes on trying for many minutes. Raises ConnectionError, and ValueError for what is no address."""
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = place.hostname, place.port
    except ValueError:  # no number, or too large
        host, port = None, None
    if not host or not port:
        raise ValueError(f"--ray is auto or the address of a cluster's head, HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host, port), timeout=ANSWER).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster answers at {address} ({error}); start one (ray start --head --port="
                              f"{port}), or --ray auto") from None


def _paint(painting: Painting, jobs: tuple[Job, ...]) -> bytes:
    return painting(jobs)


def _result(ray, done) -> bytes:
    """What a task returned. Raises ValueError with what it said where a user can mend that, without its traceback."""
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MENDABLE):
            raise ValueError(f"on a node of the Ray cluster: {error.cause}") from None
        failed = error.cause
    except ray.exceptions.RayError as error:
        failed = error
    raise RuntimeError(f"a chunk could not be painted on Ray, {RETRIES} retries: {str(failed).splitlines()[0]} (is "
                       "this package installed on every node, and is there memory?)")


def _ray():
    try:
        import ray
    except ImportError:
        raise ImportError("--ray needs the package ray: pip install ray (on every node of the cluster, with this "
                          "package)") from None
    return ray
