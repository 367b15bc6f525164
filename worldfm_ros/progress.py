"""A progress bar around a loop, on stderr, so that what a command prints can be piped on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track


@dataclass(frozen=True)
class Progress:
    """`for item in Progress("what is done")(items)`."""

    text: str

    def __call__(self, items: Sequence) -> Iterable:
        return track(items, self.text, console=Console(stderr=True))
