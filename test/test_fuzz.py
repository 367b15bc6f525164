"""Damaged inputs: refused in a line, read as far as they are whole with a word about it, or unharmed; never silently
other, never a traceback, never a hang. More of them: `python test/fuzz.py --examples 1000`, or WORLDFM_FUZZ=1000."""

from __future__ import annotations

import os

import fuzz
import pytest

EXAMPLES = int(os.environ.get("WORLDFM_FUZZ", "4"))


@pytest.mark.timeout(60 + 2 * EXAMPLES)
@pytest.mark.parametrize("kind", fuzz.INPUTS)
def test_damage_is_never_silent(kind):
    outcomes = fuzz.fuzz(kind, EXAMPLES)
    assert outcomes.total() >= EXAMPLES
