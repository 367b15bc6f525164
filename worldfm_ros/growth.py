"""A world that grows while somebody drives through it (paper 2.4.1: scene content is updated at keyframes).

Where a painted frame shows much that the map does not, it becomes a keyframe: depth from the drawing where anchors
cover, completed elsewhere, and inserted (world/insertion.py). From then on the invented part is in the map: the same
place looks the same again. So a frame is a function of the drive so far and not of its pose alone; a saved map gives
its frames again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from worldfm_ros.depth.completion import DepthCompleter
from worldfm_ros.generator import Frame, FrameGenerator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.objects.objects import Placed
from worldfm_ros.world.insertion import Inserted, InsertionSettings, View, insert
from worldfm_ros.world.reference import Cell, cell_of

GAP = np.ones((5, 5), np.uint8)  # pixels; smaller holes are between anchors
LEAST_KNOWN = 0.1  # of the picture; with less of it covered, completed depth has no scale


@dataclass(frozen=True)
class GrowthSettings:
    """least_new: the share of a frame that the map must not cover for it to be inserted. insertion: what is inserted.

    Raises ValueError for numbers out of range."""

    least_new: float = 0.02
    insertion: InsertionSettings = InsertionSettings()

    def __post_init__(self) -> None:
        if not 0 < self.least_new <= 1:
            raise ValueError(f"least_new is a share above 0 and at most 1, got {self.least_new}")


class GrowingGenerator:
    """A FrameGenerator whose world grows with the frames that it makes. Each place and direction is tried once."""

    def __init__(self, generator: FrameGenerator, completer: DepthCompleter,
                 settings: GrowthSettings = GrowthSettings()) -> None:
        self.generator, self.world, self.objects, self.model = (generator, generator.world, generator.objects,
                                                                generator.model)
        self.history: list[Inserted] = []
        self._completer, self._settings = completer, settings
        self._tried: set[Cell] = set()

    def generate(self, T_world_camera: Pose, intrinsics: Intrinsics, objects: Sequence[Placed] = ()) -> Frame:
        """The view, as the map was before; then the map grows by it, if there is much new in it."""
        frame = self.generator.generate(T_world_camera, intrinsics, objects)
        if self.is_keyframe(frame, T_world_camera):
            self.history.append(insert(self.world, completed(frame, T_world_camera, intrinsics, self._completer),
                                       self._settings.insertion))
        return frame

    def is_keyframe(self, frame: Frame, T_world_camera: Pose) -> bool:
        """Whether the frame shows enough that is new, from a place and direction that was not tried before."""
        new, cell = unseen(frame), cell_of(T_world_camera)
        known = frame.coverage.mean() >= LEAST_KNOWN
        if cell in self._tried or not known or new.mean() < self._settings.least_new:
            return False
        self._tried.add(cell)
        return True


def unseen(frame: Frame) -> np.ndarray:
    """(H, W) bool: holes of the drawing that are larger than gaps between anchors, and no object."""
    holes = cv2.morphologyEx((~frame.coverage).astype(np.uint8), cv2.MORPH_OPEN, GAP) > 0
    return holes & (frame.instances == 0)


def completed(frame: Frame, T_world_camera: Pose, intrinsics: Intrinsics, completer: DepthCompleter) -> View:
    """A painted frame as a view for `insert`: depth everywhere, what anchors cover is known. Objects are left out."""
    static = frame.instances == 0
    known = np.where(frame.coverage & static, frame.depth, np.float32(0))
    dense = completer.complete(frame.rgb, known, intrinsics)
    near_object = cv2.dilate((~static).astype(np.uint8), GAP) > 0
    confidence = np.where(near_object, np.float32(0), dense.confidence)
    return View(frame.rgb, dense.depth, confidence, ~unseen(frame), intrinsics, T_world_camera)
