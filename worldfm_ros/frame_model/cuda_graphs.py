"""Functions of tensors, recorded once on a GPU as CUDA graphs and replayed: the same kernels without launching each.

A function must be tensors only (no waiting for the device, no choice that depends on values); what FrameTransformer and
LatentCodec offer for every frame is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
import copy
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

WARM_UP = 3  # calls before recording: kernels are chosen and workspaces made in the first ones


class Runner(Protocol):
    """Calls a function. What it returns holds until the next call of the same function with the same shapes."""

    def __call__(self, function: Callable, *arguments: Any) -> Any: ...

    def forget(self) -> None:
        """Free what is kept between calls."""


class Eager:
    """Plain calls."""

    def __call__(self, function: Callable, *arguments: Any) -> Any:
        return function(*arguments)

    def forget(self) -> None:
        pass


@dataclass(frozen=True, eq=False)
class Recorded:
    """One recorded call: its inputs are copied into place, its output is overwritten every time."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple
    output: Any

    def replay(self, arguments: tuple) -> Any:
        for place, given in zip(leaves(self.inputs), leaves(arguments), strict=True):
            if isinstance(place, Tensor):
                place.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.output


class CudaGraphs:
    """A graph for every function and shape of its arguments, on one GPU.

    All share one memory pool, so a result must be used before a function that was first called earlier is called
    again. Frames do: encode, denoise, denoise, decode, and the next frame after that.
    """

    def __init__(self, device: torch.device, compiled: bool = False) -> None:
        self.device = device
        self.compiled = compiled
        self.forget()

    def forget(self) -> None:
        self._recorded: dict[tuple, Recorded] = {}
        self._pool = None

    def __call__(self, function: Callable, *arguments: Any) -> Any:
        key = (function, *map(signature, leaves(arguments)))
        with torch.cuda.device(self.device):
            if key not in self._recorded:
                self._recorded[key] = self._record(function, arguments)
            return self._recorded[key].replay(arguments)

    def _record(self, function: Callable, arguments: tuple) -> Recorded:
        inputs = copy.deepcopy(arguments)
        if self.compiled:
            function = one_graph(function)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                function(*inputs)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = function(*inputs)
        self._pool = self._pool or graph.pool()
        return Recorded(graph, inputs, output)


def one_graph(function: Callable, backend: str = "inductor") -> Callable:
    """The function compiled as one graph for fixed shapes; an error when it cannot be one."""
    return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)


def leaves(part: Any) -> Iterator[Any]:
    """What nested tuples, lists and dataclasses hold, in order."""
    if is_dataclass(part):
        for field in fields(part):
            yield from leaves(getattr(part, field.name))
    elif isinstance(part, tuple | list):
        for item in part:
            yield from leaves(item)
    else:
        yield part


def signature(leaf: Any) -> Hashable:
    """What a recording depends on: a tensor's shape and dtype, anything else itself."""
    return (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf
