"""What `worldfm bench publish` measures: a camera's way from a frame to another process, for each size and QoS."""

from __future__ import annotations

from dataclasses import asdict, dataclass
import json
import os
import subprocess
import sys

MODULE = "worldfm_ros.nodes.publish_bench"
SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080))
PATIENCE = 120.0  # seconds


@dataclass(frozen=True)
class Case:
    """Pictures of a size with a QoS preset, with or without the package's profile of shared memory."""

    width: int
    height: int
    qos: str
    profile: bool


def publish_cases() -> list[Case]:
    """Each size as the package does it, and as Fast DDS comes with best effort: what the warnings are about."""
    return [Case(*size, qos, profile) for size in SIZES for qos, profile in (
        ("reliable", True), ("reliable", False), ("sensor_data", True), ("sensor_data", False))]


def measure_publish(case: Case, frames: int, rate: float, profiles: dict[str, str]) -> dict:
    """The case's row of the report; `profiles`: the variables that choose the profile. Raises RuntimeError."""
    request = json.dumps({"width": case.width, "height": case.height, "qos": case.qos, "frames": frames, "rate": rate})
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_DEFAULT_PROFILES_FILE")}
    environment = plain | (profiles if case.profile else {})
    processes = {role: subprocess.Popen([sys.executable, "-m", MODULE, role, request], env=environment, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                 for role in ("listen", "publish")}
    row: dict = asdict(case)
    try:
        for role, process in processes.items():
            output, errors = process.communicate(timeout=PATIENCE + frames / rate)
            if process.returncode:
                raise RuntimeError(f"{role} failed: {errors.strip()[-500:]}")
            row |= json.loads(output.splitlines()[-1])
    finally:
        for process in processes.values():
            process.kill()
    return row
