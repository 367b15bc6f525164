"""Facts about a folder, for people or for programs."""

from __future__ import annotations

from collections.abc import Mapping
import json
from typing import Annotated

import tyro

AsJson = Annotated[bool, tyro.conf.arg(name="json", help="print JSON")]


def print_facts(facts: Mapping[str, object], as_json: bool) -> None:
    """Print JSON-ready facts, one a line for people."""
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:>{width}}: {value}")
