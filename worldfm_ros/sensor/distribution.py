"""Distributions as files name them: `{uniform: [low, high]}` and the like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math

import numpy as np

KINDS = ("uniform", "log_uniform", "normal", "integers", "choice")


@dataclass(frozen=True)
class Distribution:
    """uniform, log_uniform: from low to high; normal: mean, deviation; integers: from low to high, both included;
    choice: of some numbers. Raises ValueError."""

    kind: str
    numbers: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a distribution is one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.kind != "choice" and len(self.numbers) != 2 or not self.numbers:
            raise ValueError(f"{self.kind} has two numbers (choice: some), got {list(self.numbers)}")
        if self.kind in ("uniform", "log_uniform", "integers") and self.numbers[0] > self.numbers[1]:
            raise ValueError(f"{self.kind} is from the lower number to the higher one, got {list(self.numbers)}")
        if self.kind == "log_uniform" and self.numbers[0] <= 0:
            raise ValueError(f"log_uniform is of numbers above 0, got {list(self.numbers)}")
        if self.kind == "normal" and self.numbers[1] < 0:
            raise ValueError(f"normal is [mean, deviation], and no deviation is below 0, got {list(self.numbers)}")

    def check(self, low: float, high: float) -> None:
        """Raise ValueError when values beyond these are asked for; a normal's tails are cut there."""
        asked = self.numbers[:1] if self.kind == "normal" else self.numbers
        if not all(low <= number <= high for number in asked):
            raise ValueError(f"it is from {low:g} to {high:g}, got {self.kind} {list(self.numbers)}")

    def draw(self, source: np.random.Generator) -> float:
        a, b = (self.numbers * 2)[:2]
        if self.kind == "uniform":
            return float(source.uniform(a, b))
        if self.kind == "log_uniform":
            return math.exp(source.uniform(math.log(a), math.log(b)))
        if self.kind == "normal":
            return float(source.normal(a, b))
        if self.kind == "integers":
            return float(source.integers(int(a), int(b), endpoint=True))
        return float(source.choice(self.numbers))

    def to_dict(self) -> dict:
        return {self.kind: list(self.numbers)}


def distribution_of(text: object) -> Distribution:
    """Of a number (always that), or {kind: numbers}. Raises ValueError."""
    if isinstance(text, (int, float)) and not isinstance(text, bool) and math.isfinite(text):
        return Distribution("choice", (float(text),))
    if not isinstance(text, Mapping) or len(text) != 1:
        raise ValueError(f"a distribution is a number, or {{kind: numbers}} of one of {', '.join(KINDS)}; got {text!r}")
    (kind, numbers), = text.items()
    good = isinstance(numbers, list) and all(isinstance(n, (int, float)) and not isinstance(n, bool)
                                             and math.isfinite(n) for n in numbers)
    if not good:
        raise ValueError(f"{kind} has a list of finite numbers, got {numbers!r}")
    return Distribution(str(kind), tuple(float(n) for n in numbers))
