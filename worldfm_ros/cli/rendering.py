"""Options of every command that renders."""

from __future__ import annotations

from dataclasses import dataclass
import math

from worldfm_ros.replay.runners import InProcesses, OnRay, Runner, in_this_process


@dataclass(frozen=True)
class Where:
    """Where the work is done; the bytes are the same everywhere.

    processes: of this machine; each loads world and model.
    ray: auto (the cluster that runs here, else one of this machine alone) or the address of a Ray cluster.
    """

    processes: int = 1
    ray: str | None = None

    @property
    def runner(self) -> Runner:
        """Raises ValueError for no number of processes."""
        if self.processes < 1:
            raise ValueError(f"--processes is a number of processes from 1 up, got {self.processes}")
        if self.ray is not None:
            if self.processes > 1:
                raise ValueError("--ray and --processes are two ways to share the work; give one of them")
            return OnRay(self.ray)
        return InProcesses(self.processes) if self.processes > 1 else in_this_process


@dataclass(frozen=True)
class Frames:
    """What a bag's TF calls things.

    camera_frame: of a single camera, optical axes; by default camera_optical_frame.
    map_frame: of the world's coordinates; by default the one that world.yaml names.
    tf_topic: of several robots' TF, one.
    """

    camera_frame: str = ""
    map_frame: str = ""
    tf_topic: str | None = None


def check_rate(rate: float | None) -> None:
    """Raise ValueError for what is no rate."""
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f"the rate is frames a second, above 0, got {rate}")
