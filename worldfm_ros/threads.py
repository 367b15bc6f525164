"""The process's own threads for compiled kernels that run without the GIL: started once, shared by all calls.

They sleep when there is nothing to do, so the processor is left to others, and concurrent calls may use them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
import os
import sys
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")
SPIN = "GOMP_SPINCOUNT"  # of a thread that waits for others: then it sleeps
OTHERS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", SPIN, "KMP_BLOCKTIME")  # by which users decide about this themselves
THREADS = min(len(os.sched_getaffinity(0)), 4)  # the renderer's have a buffer each, so more of them pay less and less


@cache
def _pool() -> ThreadPoolExecutor:
    """To start threads for each image would take 0.3 ms."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="kernel")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def in_parallel(function: Callable[[Argument], Result], arguments: Sequence[Argument]) -> list[Result]:
    """The function of each argument; the calling thread takes the first, so a single one needs no other thread."""
    others = [_pool().submit(function, argument) for argument in arguments[1:]]
    return [function(arguments[0]), *(other.result() for other in others)]


def work_off(function: Callable[[Argument], object], jobs: Sequence[Argument], threads: int = THREADS) -> None:
    """The function of each job; each of so many threads takes the next job when it is free."""
    work = iter(jobs)

    def take(_: int) -> None:
        for job in work:
            function(job)

    in_parallel(take, range(max(1, min(threads, len(jobs)))))


def before_torch() -> int | None:
    """Call it before torch is imported for the first time: how many threads it should then be given; None = as it is.

    A camera never has the machine to itself. OpenMP's threads wait for each other in busy loops, so that one busy
    process beside two of them makes a network ten times slower: half of the processors are theirs, and they soon sleep.
    The number depends on the machine alone, as pictures' bytes may depend on it. Users' own settings stay.
    """
    if "torch" in sys.modules or any(name in os.environ for name in OTHERS):
        return None
    os.environ[SPIN] = "1000"
    return max(1, min(THREADS, len(os.sched_getaffinity(0)) // 2))
