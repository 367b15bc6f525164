"""What the loop trains: a stage owns networks and says, for each batch, which of them learns from which loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from training.batch import Batch


@dataclass(frozen=True, eq=False)
class Update:
    """One optimiser step of one network. log: scalars to record, detached."""

    network: str
    loss: Tensor
    log: Mapping[str, Tensor]


class Stage(Protocol):
    """`networks` are those that are trained, by name, each with an optimiser of its own; the loop may wrap them (DDP,
    FSDP), so a stage always calls self.networks[name](...). `averaged` names those whose moving average is kept, shown
    and exported. What is frozen stays outside `networks`. `settings`: a dataclass of what else decides what is learned.
    """

    settings: Any
    networks: dict[str, nn.Module]
    averaged: tuple[str, ...]

    def to(self, device) -> None:
        """Move what is frozen."""
        ...

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """The updates for one batch, in order. The loop takes the optimiser step before it asks for the next one."""
        ...

    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Columns of the sample grid by title, (B, 3, H, W) in [-1, 1], made with `networks` (the averages)."""
        ...

    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """Write what later stages and users load (a model folder), from `networks` (the averages)."""
        ...


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """What is computed inside does not reach the network's parameters; gradients pass through to its inputs."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
