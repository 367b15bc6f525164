"""Batches of pairs in an order that is a function of the step alone.

What a step is trained on, the size of its pictures, its clips, targets and random numbers, depends on (seed, step) and
on nothing else: not on the number of workers or processes, nor on where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
import os
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.batch import Batch, Pair
from training.data.pairs import Corruption, make_pair
from training.data.several import ClipMemory, Several, make_pair_of_several, memory_of
from worldfm_ros.clips import REFERENCE_GROUP, TARGETS
from worldfm_ros.sources.sources import ClipSource

CLIPS_KEPT = 4  # decoded, in each worker
PERMUTATION, SLOT, STEP = range(3)  # what a stream of random numbers is for


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """batch: pairs a step, of all processes together. sizes: the (height, width) of which each step takes one.
    workers: processes that make pairs, 0 = the calling one. targets_per_clip: each clip gives so many pairs of a batch.
    distinct: after so many steps the same batches come again, with the same seeds; None = never.
    several: pairs have several references, and corruption is `several`'s; None: they are made as the paper makes them.

    Raises ValueError for settings that make no batch.
    """

    batch: int
    sizes: tuple[tuple[int, int], ...]
    corruption: Corruption
    seed: int = 0
    workers: int = 0
    targets_per_clip: int = 4
    distinct: int | None = None
    several: Several | None = None
    positions: ClassVar[tuple[int, ...]] = TARGETS  # in a clip, of which targets are taken

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.sizes or self.workers < 0 or self.seed < 0:
            raise ValueError("a batch has at least one pair and one size, workers and seed are not negative, "
                             f"got {self.batch} pairs, {self.sizes}, {self.workers} workers, seed {self.seed}")
        if self.distinct is not None and self.distinct < 1:
            raise ValueError(f"the same batches come again after 1 step or more, got distinct {self.distinct}")
        if self.several and not 1 <= self.several.references <= len(REFERENCE_GROUP):
            raise ValueError(f"a clip has 1 to {len(REFERENCE_GROUP)} references, got {self.several.references}")
        if not 1 <= self.targets_per_clip <= len(self.positions):
            raise ValueError(f"a clip has {len(self.positions)} targets, got targets_per_clip {self.targets_per_clip}")

    def collate(self, shares: Shares, samples: list[Sample], size: tuple[int, int], memories: dict[int, int]) -> Batch:
        """The batch of these samples. memories: each clip's memory's seed, where pairs have one."""
        return Batch.collate([shares.pair(sample, size, memories[sample.clip]) for sample in samples])


@dataclass(frozen=True)
class Sample:
    """A pair to make: a clip of the source, a position in it, and the seed."""

    clip: int
    target: int
    seed: int


def plan(clips: int, settings: PairSettings, step: int) -> tuple[tuple[int, int], list[Sample]]:
    """The size (height, width) of a step's pictures and its samples, for a source of so many clips.

    The steps go through the clips in a random order, another one in each epoch, and use each clip once an epoch.
    """
    step = step % settings.distinct if settings.distinct else step
    rng = np.random.default_rng([settings.seed, STEP, step])
    size = settings.sizes[rng.integers(len(settings.sizes))]
    per_clip = settings.targets_per_clip
    slots = -(-settings.batch // per_clip)  # clips that a step uses
    samples = []
    for slot in range(step * slots, (step + 1) * slots):
        epoch, place = divmod(slot, clips)
        targets = np.random.default_rng([settings.seed, SLOT, slot]).permutation(settings.positions)[:per_clip]
        clip = int(_order(settings.seed, epoch, clips)[place])
        samples += [(clip, int(target)) for target in targets]
    return size, [Sample(*sample, int(seed)) for sample, seed in
                  zip(samples[:settings.batch], rng.integers(0, 2**62, settings.batch), strict=True)]


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, clips: int) -> np.ndarray:
    return np.random.default_rng([seed, PERMUTATION, epoch]).permutation(clips)


def loader(source: ClipSource, settings: PairSettings, first_step: int, last_step: int, rank: int = 0,
           world: int = 1) -> Iterable[Batch]:
    """One batch for each of the steps first_step..last_step - 1: the share of process `rank` of `world`, in order.

    The shares of all processes, one after the other, are the batch of a single one. Raises ValueError for an empty
    source and for a batch that cannot be shared evenly; going through it, for a clip that cannot be read.
    """
    if not len(source):
        raise ValueError("there are no clips to train on")
    if settings.batch % world or not 0 <= rank < world:
        raise ValueError(f"{world} processes (this is {rank}) cannot share a batch of {settings.batch} pairs evenly")
    return _Batches(DataLoader(
        Shares(source, settings, rank, world), batch_size=None, sampler=range(first_step, last_step),
        num_workers=settings.workers, collate_fn=_as_it_is, worker_init_fn=_start_worker,
        generator=torch.Generator()))  # its own: nothing is drawn from the global one


@dataclass(frozen=True)
class _Failure:
    """Why a step has no batch. A worker hands it over: what it raises comes with a traceback for a message."""

    message: str


@dataclass(frozen=True)
class _Batches:
    made: DataLoader

    def __iter__(self) -> Iterator[Batch]:
        return map(_checked, iter(self.made))


def _checked(made: Batch | _Failure) -> Batch:
    if isinstance(made, _Failure):
        raise ValueError(made.message)
    return made


class Shares(Dataset):
    """A process's share of each step's batch."""

    def __init__(self, source: ClipSource, settings: PairSettings, rank: int, world: int) -> None:
        self.source, self.settings, self.rank, self.world = source, settings, rank, world
        self.clip = lru_cache(maxsize=CLIPS_KEPT)(source.__getitem__)
        self._memory = lru_cache(maxsize=CLIPS_KEPT)(self._remembered)

    def __getitem__(self, step: int) -> Batch | _Failure:
        try:
            return self._batch(step)
        except (ValueError, OSError) as error:
            return _Failure(str(error))

    def _batch(self, step: int) -> Batch:
        size, samples = plan(len(self.source), self.settings, step)
        share = self.settings.batch // self.world
        first = {sample.clip: sample.seed for sample in reversed(samples)}  # of each clip: its memory's seed
        return self.settings.collate(self, samples[self.rank * share:(self.rank + 1) * share], size, first)

    def pair(self, sample: Sample, size: tuple[int, int], memory: int) -> Pair:
        """The pair of a sample, from the memory of that seed where pairs have several references."""
        clip, settings = self.clip(sample.clip), self.settings
        if settings.several is None:
            return make_pair(clip, sample.target, size, settings.corruption, sample.seed)
        return make_pair_of_several(clip, sample.target, size, settings.several, self._memory(sample.clip, memory),
                                    sample.seed)

    def _remembered(self, clip: int, seed: int) -> ClipMemory:
        return memory_of(self.clip(clip), self.settings.several, seed)


def _as_it_is(made: Batch | _Failure) -> Batch | _Failure:
    return made


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)  # a worker is one thread; OpenCV's own do not survive the fork
    os.setpgrp()  # a signal to the whole job is for the main process, which then still needs its workers for a while
