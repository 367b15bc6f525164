"""The processes of a run: who takes part, what they start from, where no others may write, how they are stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import random
import signal

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
import numpy as np
import torch

from worldfm_ros.files import claim


class Stopped(Exception):
    """A signal asked the run to stop; a checkpoint was written after `step` steps."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; go on with --resume")
        self.number, self.step = number, step


def processes() -> PartialState:
    """The processes that take part. Where there is no GPU this must be said, or each of them believes it is alone."""
    without = not torch.cuda.is_available() and not torch.backends.mps.is_available()
    return PartialState(cpu=without or parse_flag_from_env("ACCELERATE_USE_CPU"))


def seed_everything(seed: int) -> None:
    """The global random generators, which weights are drawn from; what belongs to a sample has a seed of its own."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make a folder and keep other runs out of it meanwhile. Raises ValueError when another one is writing into it."""
    folder.mkdir(parents=True, exist_ok=True)
    with claim(folder):
        yield


@contextmanager
def signals_to_stop() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM; a second one of a kind does what it did before."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, ask)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
