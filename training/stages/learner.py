"""A network that learns: its optimisers, its moving average, and what a checkpoint keeps of them.

Kept states are whole tensors under the network's own names whatever the network is wrapped in (nothing, DDP, FSDP), so
that a run can go on with another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import copy
from typing import Any

from accelerate import Accelerator
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
AVERAGE_WARMUP = 10  # the n-th step's decay is at most (1 + n) / (10 + n): early weights are soon forgotten


def block_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights to train of the linear layers inside a network's repeated blocks (a ModuleList).

    In a frame transformer: its blocks' qkv, proj and mlp; not what goes in or comes out, nor what the time becomes.
    Muon makes each step orthogonal as a whole, that of qkv (3 D, D) too; it is common to treat q, k and v apart.
    """
    weights = dict.fromkeys(layer.weight for blocks in network.modules() if isinstance(blocks, nn.ModuleList)
                            for layer in blocks.modules() if isinstance(layer, nn.Linear))  # once, in order
    return [weight for weight in weights if weight.requires_grad]


class Learner:
    """`network` is wrapped for the run. Methods that speak of "every process" gather what is spread over them."""

    def __init__(self, accelerator: Accelerator, network: nn.Module,
                 optimizers: Sequence[tuple[torch.optim.Optimizer, float]], decay: float) -> None:
        """optimizers: each of parameters of its own, and its learning rate as a multiple of the network's.

        decay: of the moving average of the weights; with 0 there is none, and the weights stand in for it.
        """
        self._plain = copy.deepcopy(network)  # for looking and exporting; stays on the host between times
        self.network, *self._prepared = accelerator.prepare(network, *(optimizer for optimizer, _ in optimizers))
        self._optimizers = [prepared.optimizer for prepared in self._prepared]
        self._multiples = [multiple for _, multiple in optimizers]
        self._decay = decay
        self._average = self._copied() if decay else []

    def step(self, rate: float, number: int) -> None:
        """One step of the optimisers, the run's `number`-th from 0, with the gradients at hand; they are forgotten."""
        for optimizer, prepared, multiple in zip(self._optimizers, self._prepared, self._multiples, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * multiple
            prepared.step()
            prepared.zero_grad()
        if self._average:
            decay = min(self._decay, (1 + number) / (AVERAGE_WARMUP + number))
            with torch.no_grad():
                for average, parameter in zip(self._average, self._trained(), strict=True):
                    average.mul_(decay).add_(parameter, alpha=1.0 - decay)

    def clip(self, norm: float) -> Tensor:
        """The norm of all gradients, which are scaled down to `norm` if it is larger."""
        total = nn.utils.clip_grad_norm_(self._trained(), norm)
        return total.full_tensor() if isinstance(total, DTensor) else total

    def has_gradients(self) -> bool:
        return any(parameter.grad is not None for parameter in self._trained())

    def averaged(self) -> nn.Module:
        """A plain network with the averaged weights, on the host. Every process must ask; the main one may use it."""
        if weights := self._average_state():  # spread over processes, it arrives on the main one alone
            self._plain.load_state_dict(weights)
        return self._plain.eval()

    def state(self) -> tuple[dict[str, dict[str, Tensor]], list[dict[str, Any]]]:
        """All tensors, by what they are of, and the optimisers' groups. Every process must ask; the main one may use
        it, before the next step."""
        optimizer = {}
        if any(one.state for one in self._optimizers):  # of none, torch would take a step to make one
            optimizer = get_optimizer_state_dict(self.network, self._optimizers, options=WHOLE)
        tensors = {
            "weights": get_model_state_dict(self.network, options=WHOLE),
            "optimizer": {f"{name}.{moment}": tensor for name, moments in optimizer.get("state", {}).items()
                          for moment, tensor in moments.items()},
        }
        if self._average:
            tensors["average"] = self._average_state()
        return tensors, optimizer.get("param_groups", [])

    def load_state(self, tensors: Mapping[str, dict[str, Tensor]], groups: list[dict[str, Any]]) -> None:
        """Put back what `state` gave."""
        if self._average:
            set_model_state_dict(self.network, tensors["average"], options=WHOLE)
            self._average = self._copied()
        set_model_state_dict(self.network, tensors["weights"], options=WHOLE)
        if not groups:  # it had not learned yet
            return
        moments: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors["optimizer"].items():
            name, _, moment = key.rpartition(".")
            moments.setdefault(name, {})[moment] = tensor
        set_optimizer_state_dict(self.network, self._optimizers, {"state": moments, "param_groups": groups},
                                 options=WHOLE)

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    def _copied(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self._trained()]

    def _average_state(self) -> dict[str, Tensor]:
        with self._average_inside():
            state = get_model_state_dict(self.network, options=WHOLE)
            return {name: tensor.clone() for name, tensor in state.items()}

    @contextmanager
    def _average_inside(self) -> Iterator[None]:
        """The average, if there is one, in place of the weights for a while."""
        if not self._average:
            yield
            return
        weights = self._copied()
        self._put(self._average)
        try:
            yield
        finally:
            self._put(weights)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._trained(), values, strict=True):
            parameter.copy_(value)
