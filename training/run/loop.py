"""The loop: a stage's networks learn from batches, on whatever accelerate gives (a CPU, a GPU, DDP, FSDP 2).

    a step = for each of `accumulate` batches: for each of the stage's updates: gradients; with the last batch, learn
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
import itertools
import math
from pathlib import Path
import signal
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
import torch
from torch import Tensor

from training.batch import Batch
from training.run.checkpoints import (
    CheckpointError,
    Snapshot,
    latest_checkpoint,
    random_state,
    read_checkpoint,
    set_random_state,
    write_checkpoint,
)
from training.run.exports import export, exported
from training.run.logbook import ROWS, open_logbook
from training.run.processes import Stopped, processes, seed_everything, signals_to_stop, sole_writer
from training.stages.learner import Learner, block_matrices
from training.stages.stage import Stage, Update
from worldfm_ros.frame_model.checkpoint import fast_dtype

CHECKPOINTS = "checkpoints"
NO_CONSEQUENCES = {"checkpoint_every", "preview_every"}  # settings that may change when a run is resumed


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How long and how fast to learn. Raises ValueError naming the field.

    learning_rate: of all networks, or one by network; rises over `warmup` steps, then falls along a cosine to
        final_rate times itself at the last step (1: stays). AdamW's betas and weight_decay.
    muon: learning rate of Muon (Jordan et al. 2024; its steps as large as AdamW's: Liu et al. 2025, arXiv 2502.16982)
        as a multiple of learning_rate, with the same weight_decay, for the matrices of linear layers inside a network's
        repeated blocks (learner.block_matrices); AdamW learns the rest. 0: AdamW learns everything.
    clip_norm: gradients are scaled down to this norm, a network at a time. ema: decay of the averaged weights; 0: none.
    accumulate: batches that make one step. precision: "no" (float32), or "bf16" (autocast) where the
        device is faster with it.
    checkpoint_every, preview_every: steps; the last one has both.
    """

    steps: int
    learning_rate: float | Mapping[str, float]
    final_rate: float = 1.0
    warmup: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    muon: float = 0.0
    clip_norm: float = 1.0
    ema: float = 0.999
    accumulate: int = 1
    precision: str = "no"
    checkpoint_every: int = 1000
    preview_every: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "checkpoint_every", "preview_every"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"{name} is a whole number from 1 up, got {getattr(self, name)!r}")
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"ema is a number from 0 up and below 1, got {self.ema}")
        if not isinstance(self.muon, int | float) or not 0.0 <= self.muon < math.inf:
            raise ValueError(f"muon is a finite number from 0 up, got {self.muon!r}")
        if self.precision not in ("no", "bf16"):
            raise ValueError(f"precision is no or bf16, got {self.precision!r}")

    def of_length(self, steps: int) -> RunSettings:
        """The same run in so many steps; its warm-up is a tenth of them at most."""
        return replace(self, steps=steps, warmup=min(self.warmup, steps // 10))

    def rate(self, network: str, step: int) -> float:
        """A network's learning rate in step `step`, from 0. Raises ValueError for a network that has none."""
        rates = self.learning_rate
        if isinstance(rates, Mapping) and network not in rates:
            raise ValueError(f"learning_rate names {', '.join(rates)}, not the network {network!r}; add it")
        highest = rates[network] if isinstance(rates, Mapping) else rates
        if step < self.warmup:
            return highest * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - 1 - self.warmup)
        return highest * (self.final_rate + (1.0 - self.final_rate) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def train(stage: Stage, batches: Callable[[int], Iterable[Batch]], settings: RunSettings, out: Path, resume: bool,
          config: Mapping[str, Any] | None = None) -> None:
    """Train a stage into the folder `out`: checkpoints/, metrics.csv, losses.png, samples/, and what the stage exports.

    batches(step): this process's share of the batches from step `step` on, `accumulate` of them a step.
    config: what else decides the run; a checkpoint of another config or other settings is not gone on from.

    With `resume` it goes on from the newest whole checkpoint, or from the start when there is none yet. SIGINT and
    SIGTERM end it after the step at hand, with a checkpoint. Raises Stopped for that; FloatingPointError for a loss,
    gradient or weight that is not finite, with older checkpoints kept; CheckpointError; OSError for a full disk;
    ValueError when batches end early, a stage breaks its contract or another run is writing into `out`.
    """
    run = Run(stage, settings, out, {"run": asdict(settings)} | dict(config or {}))
    main = run.accelerator.is_main_process
    shown = first_samples(batches) if main else None  # data that cannot be read ends a run before it leaves a trace
    with sole_writer(out) if main else nullcontext():
        done = run.resume() if resume else 0
        if main:
            (out / CHECKPOINTS).mkdir(exist_ok=True)
        with signals_to_stop() as received, open_logbook(out, done, settings.steps, main) as logbook:
            stream = iter(batches(done)) if done < settings.steps else iter(())  # workers survive a first Ctrl-C too
            for step in range(done, settings.steps):
                logbook.record(step + 1, run.step(micro_batches(stream, step, settings), step))
                stop, last = run.anyone(bool(received)), step + 1 == settings.steps
                keep = stop or last or (step + 1) % settings.checkpoint_every == 0
                if keep:
                    run.save(step + 1)
                if last or (step + 1) % settings.preview_every == 0:
                    logbook.show(step + 1, run.preview(shown))
                if keep:
                    run.export(step + 1)  # a run that goes on, or was stopped, can be looked at and started from
                if stop and not last:
                    raise Stopped(received[0] if received else signal.SIGTERM, step + 1)
            if done == settings.steps and run.anyone(main and not exported(out, done)):  # killed after its last save
                logbook.show(done, run.preview(shown))
                run.export(done)


class Run:
    """A stage, its learners and where they are."""

    def __init__(self, stage: Stage, settings: RunSettings, out: Path, config: Mapping[str, Any]) -> None:
        self.stage, self.settings, self.out = stage, settings, out
        self.config = {**config, "run": {k: v for k, v in config["run"].items() if k not in NO_CONSEQUENCES}}
        device = processes().device
        faster = fast_dtype(device) == torch.bfloat16  # a processor without it takes five times as long
        self.accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=settings.precision if faster else "no")
        if self.accelerator.distributed_type == DistributedType.FSDP and not self.accelerator.is_fsdp2:
            raise ValueError("FSDP 1 is not supported; launch with `accelerate launch --use_fsdp --fsdp_version 2`")
        if self.accelerator.distributed_type == DistributedType.FSDP and settings.muon:
            raise ValueError(f"muon is {settings.muon}, but Muon needs whole matrices and FSDP has them in pieces; "
                             "set muon = 0, or launch without --use_fsdp (DDP)")
        seed_everything(settings.seed + self.accelerator.process_index)
        self.learners = {name: self._learner(name) for name in stage.networks}
        stage.networks.update({name: learner.network for name, learner in self.learners.items()})
        stage.to(self.accelerator.device)

    def _learner(self, name: str) -> Learner:
        network, settings = self.stage.networks[name], self.settings
        rate, weight_decay = settings.rate(name, 0), settings.weight_decay
        matrices = block_matrices(network) if settings.muon else []
        chosen = set(matrices)
        others = [weight for weight in network.parameters() if weight.requires_grad and weight not in chosen]
        optimizers = [(torch.optim.AdamW(others, rate, settings.betas, weight_decay=weight_decay), 1.0)]
        if matrices:
            muon = torch.optim.Muon(matrices, rate * settings.muon, weight_decay, adjust_lr_fn="match_rms_adamw")
            optimizers.append((muon, settings.muon))
        return Learner(self.accelerator, network, optimizers, settings.ema if name in self.stage.averaged else 0.0)

    def step(self, micro: Iterable[Batch], step: int) -> dict[str, float]:
        """One step; its scalars as NETWORK/NAME, means over batches and processes. Raises FloatingPointError."""
        sums: dict[str, list[float]] = {}
        pending: dict[str, list[dict[str, Tensor]]] = {}
        for k, batch in enumerate(micro, start=1):
            last = k == self.settings.accumulate
            with self._gradients_shared(last):
                for update in self._updates(batch.to(self.accelerator.device), step):
                    logs = pending.setdefault(update.network, [])
                    self._backward(update, step, first=not logs)
                    logs.append({"loss": update.loss.detach()} | dict(update.log))
                    if last:
                        for name, value in self._learn(update.network, pending.pop(update.network), step).items():
                            sums.setdefault(f"{update.network}/{name}", []).append(value)
        return {name: sum(values) / len(values) for name, values in sums.items()}

    def _updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """The stage's updates, computed in the run's precision."""
        updates = self.stage.updates(batch, step)
        while True:
            with self.accelerator.autocast():
                update = next(updates, None)
            if update is None:
                return
            yield update

    @contextmanager
    def _gradients_shared(self, shared: bool) -> Iterator[None]:
        """Gradients are averaged over processes only with the last of a step's batches."""
        with ExitStack() as stack:
            for learner in () if shared else self.learners.values():
                stack.enter_context(self.accelerator.no_sync(learner.network))
            yield

    def _backward(self, update: Update, step: int, first: bool) -> None:
        """Add an update's gradients. What reached the network before its own first update came from another's loss."""
        if first and self.learners[update.network].has_gradients():
            raise ValueError(f"step {step + 1}: another network's loss reaches the weights of {update.network}; freeze "
                             "them, or detach, where that loss is computed")
        self.accelerator.backward(update.loss / self.settings.accumulate)

    def _learn(self, network: str, logs: list[dict[str, Tensor]], step: int) -> dict[str, float]:
        """The optimiser step of one network, if all is finite; the scalars of its updates, means over processes."""
        if len(logs) != self.settings.accumulate:
            raise ValueError(f"step {step + 1}: {network} has {len(logs)} updates, {self.settings.accumulate} batches; "
                             "to accumulate, it has one in every batch of a step, or none")
        learner, rate = self.learners[network], self.settings.rate(network, step)
        means = {name: torch.stack([log[name].float() for log in logs]).mean() for name in logs[0]}
        norm = learner.clip(self.settings.clip_norm)
        row = torch.stack([*means.values(), norm.float()]).to(self.accelerator.device)
        values = dict(zip([*means, "gradient_norm"], self.accelerator.reduce(row, "mean").tolist(), strict=True))
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise FloatingPointError(f"step {step + 1}: the loss of {network} is {values['loss']}, its gradient's norm "
                                     f"{values['gradient_norm']}; {self._advice()}")
        learner.step(rate, step)
        return values | {"learning_rate": rate}

    def _advice(self) -> str:
        last = latest_checkpoint(self.out / CHECKPOINTS)
        return (f"the last good checkpoint is {last}" if last else "there is no checkpoint yet") + (
            "; start anew with a lower learning rate, or go on with other data")

    def anyone(self, asks: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self.accelerator.reduce(torch.tensor(int(asks), device=self.accelerator.device)).item())

    @contextmanager
    def _averages(self) -> Iterator[dict[str, torch.nn.Module]]:
        """The averaged networks, on the main process's device for a while; none in the others, which must ask too."""
        networks = {name: self.learners[name].averaged() for name in self.stage.averaged}
        if not self.accelerator.is_main_process:
            yield {}
            return
        try:
            yield {name: network.to(self.accelerator.device) for name, network in networks.items()}
        finally:
            for network in networks.values():
                network.to("cpu")

    @torch.no_grad()
    def preview(self, shown: Batch | None) -> dict[str, Tensor]:
        """The sample grid's columns; none outside the main process, which has no samples."""
        with self._averages() as networks, self.accelerator.autocast():
            return self.stage.preview(networks, shown.to(self.accelerator.device)) if shown is not None else {}

    @torch.no_grad()
    def export(self, done: int) -> None:
        """What the stage exports, after `done` steps. Raises OSError when it cannot be written."""
        with self._averages() as networks:
            if self.accelerator.is_main_process:
                export(self.out, done, lambda folder: self.stage.export(networks, folder))
        self.accelerator.wait_for_everyone()

    def save(self, done: int) -> None:
        """A checkpoint after `done` steps. Raises FloatingPointError rather than keep weights that are not finite."""
        generators = gather_object([random_state()])
        states = {name: learner.state() for name, learner in self.learners.items()}
        if not self.accelerator.is_main_process:
            return
        tensors = {f"{name}.{what}": kept for name, (parts, _) in states.items() for what, kept in parts.items()}
        for file, kept in tensors.items():
            if not all(tensor.isfinite().all() for tensor in kept.values()):
                raise FloatingPointError(f"step {done}: {file} is not finite; {self._advice()}")
        state = {"optimizers": {name: groups for name, (_, groups) in states.items()}, "generators": generators}
        write_checkpoint(self.out / CHECKPOINTS, Snapshot(done, self.config, tensors, state))

    def resume(self) -> int:
        """Back to the newest whole checkpoint; the number of steps that were done then. Raises CheckpointError."""
        place = latest_checkpoint(self.out / CHECKPOINTS)
        if place is None:
            return 0
        snapshot = read_checkpoint(place, self.config)
        if snapshot.step > self.settings.steps:
            raise CheckpointError(f"{place} is after step {snapshot.step} of a run of {self.settings.steps}; remove it")
        try:
            for name, learner in self.learners.items():
                parts = {file.removeprefix(f"{name}."): kept for file, kept in snapshot.tensors.items()
                         if file.startswith(f"{name}.")}
                learner.load_state(parts, snapshot.state["optimizers"][name])
            generators = snapshot.state["generators"]
        except KeyError as error:
            raise CheckpointError(f"{place} has no {error}; remove it to go on from the one before") from error
        if self.accelerator.process_index < len(generators):  # one that was not there before keeps its own seed
            set_random_state(generators[self.accelerator.process_index])
        return snapshot.step


def first_samples(batches: Callable[[int], Iterable[Batch]]) -> Batch:
    """Of the run's first batch, for the sample grid. Raises ValueError when there is none."""
    for batch in batches(0):
        return batch.first(ROWS)
    raise ValueError("there are no batches to train on; the data is empty")


def micro_batches(stream: Iterator[Batch], step: int, settings: RunSettings) -> list[Batch]:
    """The batches of one step. Raises ValueError when they end early: a run is never silently shorter."""
    micro = list(itertools.islice(stream, settings.accumulate))
    if len(micro) < settings.accumulate:
        raise ValueError(f"the batches ended in step {step + 1} of {settings.steps}; "
                         "the data is shorter than the loader promised")
    return micro
