"""The machine that figures are from: a figure without its processor, instruction set and threads says little."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
import os
from pathlib import Path
import platform

CPUINFO = Path("/proc/cpuinfo")
# The names of /proc/cpuinfo's flags; of each row the first that the processor has is named.
LEVELS = (
    {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sse4_2": "SSE4.2",
     "sve2": "SVE2", "sve": "SVE", "asimd": "NEON", "neon": "NEON"},
    {"avx512_bf16": "bf16", "bf16": "bf16"},
    {"amx_tile": "AMX", "sme": "SME"},
)


def environment(threads: int) -> dict:
    """What figures depend on, JSON-ready; `threads` is how many did the work."""
    cpuinfo = CPUINFO.read_text() if CPUINFO.exists() else ""
    return {"cpu": cpu_name(cpuinfo), "isa": instruction_set(cpuinfo), "threads": threads,
            "cores": os.cpu_count(), "load": os.getloadavg()[0],
            "python": platform.python_version(), "platform": platform.platform(),
            **{name: version(name) for name in ("numpy", "numba", "open3d")}}


def cpu_name(cpuinfo: str) -> str:
    """The processor in its maker's words; where the system does not tell them (ARM, macOS), its architecture."""
    return field(cpuinfo, "model name") or platform.processor() or platform.machine()


def instruction_set(cpuinfo: str) -> str:
    """What the processor can do at once, such as "AVX2" or "AVX-512, bf16, AMX"; if nobody tells, its architecture."""
    flags = (field(cpuinfo, "flags") or field(cpuinfo, "Features")).split()  # x86, ARM
    names = (next((name for flag, name in level.items() if flag in flags), None) for level in LEVELS)
    return ", ".join(filter(None, names)) or platform.machine()


def field(cpuinfo: str, name: str) -> str:
    """The value of that name of the first core that has one; "" if none has."""
    rows = (line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    return next((value.strip() for key, value in rows if key.strip() == name), "")


def in_words(environment: Mapping) -> str:
    """The line below a table of figures."""
    threads = environment["threads"]
    words = f"{environment['cpu']}, {environment['isa']}, {threads} thread{'s' * (threads != 1)}"
    return words + (f"; torch uses {environment['torch_isa']}" if "torch_isa" in environment else "")
