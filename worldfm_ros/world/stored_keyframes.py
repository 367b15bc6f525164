"""Keyframes whose pictures stay on the disk: decoded when they are looked at, the least recently used forgotten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
import threading

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import Keyframe, lookup


class Pictures:
    """Decodes keyframes by their entry in world.yaml. At most `budget` bytes are kept, and the one in use."""

    def __init__(self, budget: int, read: Callable[[dict], Keyframe]) -> None:
        self.budget, self._read = budget, read
        self._kept: OrderedDict[int, Keyframe] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def of(self, entry: dict) -> Keyframe:
        """With its picture and depth. Raises WorldError."""
        with self._lock:
            if id(entry) in self._kept:
                self._kept.move_to_end(id(entry))
                return self._kept[id(entry)]
        keyframe = self._read(entry)
        with self._lock:
            if id(entry) not in self._kept:
                self._kept[id(entry)] = keyframe
                self._bytes += _bytes(keyframe)
            while self._bytes > self.budget and len(self._kept) > 1:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        return keyframe


@dataclass(frozen=True, eq=False)
class StoredKeyframe:
    """Reads like a Keyframe. `entry`: its lines in world.yaml."""

    entry: dict
    pictures: Pictures
    intrinsics: Intrinsics
    T_world_camera: Pose

    @property
    def id(self) -> int:
        return self.entry["id"]

    @property
    def inserted(self) -> bool:
        return self.entry.get("inserted", False) is True

    @property
    def painted(self) -> bool:
        return self.entry.get("painted", False) is True

    @property
    def rgb(self) -> np.ndarray:
        return self.pictures.of(self.entry).rgb

    @property
    def depth(self) -> np.ndarray:
        return self.pictures.of(self.entry).depth

    lookup = lookup


def _bytes(keyframe: Keyframe) -> int:
    return keyframe.rgb.nbytes + keyframe.depth.nbytes
