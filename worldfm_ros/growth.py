"""A world that grows while somebody drives through it (paper 2.4.1: scene content is updated at keyframes).

Where a frame shows much that the map does not, it becomes a keyframe. First the planes of the room, floor, walls and
ceiling, go on to where nobody looked (layout/); then it is painted. What is unknown still gets its depth completed, and
both are inserted (world/insertion.py). From then on the invented part is in the map: the same place looks the same
again. So a frame is a function of the drive so far and not of its pose alone; a saved map gives its frames again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from worldfm_ros.depth.completion import DepthCompleter
from worldfm_ros.generator import Frame, FrameGenerator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.layout.rooms import House, widened
from worldfm_ros.objects.objects import Placed
from worldfm_ros.world.cells import Cell, cell_of
from worldfm_ros.world.insertion import Inserted, InsertionSettings, View, insert
from worldfm_ros.world.renderer import render
from worldfm_ros.world.storage import World

GAP = np.ones((5, 5), np.uint8)  # pixels; smaller holes are between anchors
OUTSIDE = 0.25  # of the picture's sides: what is this near to its edges is continued with it
FEW = 100  # anchors; where a room adds fewer to a view, it is not asked again
FAR = 20.0  # metres; a room goes on so far: where its planes are is known better than depth that was completed
LEAST_KNOWN = 0.1  # of the picture; with less of it covered, completed depth has no scale


@dataclass(frozen=True)
class GrowthSettings:
    """least_new: the share of a frame that the map must not cover for it to be inserted; least_hole: for the room to be
    continued there. insertion: what is inserted.

    Raises ValueError for numbers out of range."""

    least_new: float = 0.02
    least_hole: float = 0.002
    insertion: InsertionSettings = InsertionSettings()

    def __post_init__(self) -> None:
        if not (0 < self.least_new <= 1 and 0 < self.least_hole <= 1):
            raise ValueError(f"least_new and least_hole are shares above 0 and at most 1, got {self}")


class GrowingGenerator:
    """A FrameGenerator whose world grows with the frames that it makes. What is painted is inserted once from each
    place and direction; a room is continued as long as that adds something."""

    def __init__(self, generator: FrameGenerator, completer: DepthCompleter,
                 settings: GrowthSettings = GrowthSettings(), warn: Callable[[str], None] = lambda text: None) -> None:
        """`warn` is told once when the map is full."""
        self.generator, self.world, self.objects, self.model = (generator, generator.world, generator.objects,
                                                                generator.model)
        self.history: list[Inserted] = []
        self._completer, self._settings, self._warn = completer, settings, warn
        self._house = House(self.world)
        self._tried: set[Cell] = set()
        self._settled: set[Cell] = set()

    def generate(self, T_world_camera: Pose, intrinsics: Intrinsics, objects: Sequence[Placed] = ()) -> Frame:
        """The view. Where it shows much that the map has not, the map grows, first by the planes of the room, then,
        where they do not reach, by what was painted; and it is painted again, as it will look from then on."""
        frame, cell = self.generator.generate(T_world_camera, intrinsics, objects), cell_of(T_world_camera)
        if unseen(frame).mean() >= self._settings.least_hole and cell not in self._settled:
            added = self._continue_room(T_world_camera, intrinsics)
            if added < FEW:
                self._settled.add(cell)
            if added:
                frame = self.generator.generate(T_world_camera, intrinsics, objects)
        if LEAST_KNOWN <= frame.coverage.mean() and cell not in self._tried and (
                unseen(frame).mean() >= self._settings.least_new):
            self._tried.add(cell)
            self._insert(completed(frame, T_world_camera, intrinsics, self._completer), self._settings.insertion)
            frame = self.generator.generate(T_world_camera, intrinsics, objects)
        return frame

    def _continue_room(self, T_world_camera: Pose, intrinsics: Intrinsics) -> int:
        """Insert what the room's layout tells of the view. Returns the number of new anchors."""
        view = room_view(self.world, self._house, T_world_camera, intrinsics)
        return 0 if view is None else self._insert(view, replace(self._settings.insertion, max_depth=FAR))

    def _insert(self, view: View, settings: InsertionSettings) -> int:
        self.history.append(insert(self.world, view, settings))
        if self.history[-1].evicted and not any(before.evicted for before in self.history[:-1]):
            self._warn(f"the map is full, with {settings.max_anchors} anchors (max_anchors): for what "
                       "is new, generated ones leave, the least sure and oldest first; nothing that was measured does")
        return self.history[-1].anchors


def room_view(world: World, house: House, T_world_camera: Pose, intrinsics: Intrinsics) -> View | None:
    """What the room's layout tells of a view, and of what is just outside of it, where the map has holes; None where
    nothing."""
    rooms = house.around(T_world_camera.translation)
    if rooms is None:
        return None
    wide = widened(intrinsics, OUTSIDE)
    drawing = render(world.anchors.visible(T_world_camera, wide), T_world_camera, wide)
    more = rooms.continued(holes(drawing.coverage), drawing.depth, T_world_camera, wide)
    new = more.depth > 0
    rgb = np.where(new[..., None], more.rgb, drawing.rgb)
    return View(rgb, more.depth, more.confidence, ~new, wide, T_world_camera, more.labels) if new.any() else None


def unseen(frame: Frame) -> np.ndarray:
    """(H, W) bool: holes of the drawing that are larger than gaps between anchors, and no object."""
    return holes(frame.coverage) & (frame.instances == 0)


def holes(coverage: np.ndarray) -> np.ndarray:
    """(H, W) bool: what a drawing does not cover (H, W) bool, but for gaps between anchors."""
    return cv2.morphologyEx((~coverage).astype(np.uint8), cv2.MORPH_OPEN, GAP) > 0


def completed(frame: Frame, T_world_camera: Pose, intrinsics: Intrinsics, completer: DepthCompleter) -> View:
    """A painted frame as a view for `insert`: depth everywhere, what anchors cover is known. Objects are left out."""
    static = frame.instances == 0
    known = np.where(frame.coverage & static, frame.depth, np.float32(0))
    dense = completer.complete(frame.rgb, known, intrinsics)
    near_object = cv2.dilate((~static).astype(np.uint8), GAP) > 0
    confidence = np.where(near_object, np.float32(0), dense.confidence)
    return View(frame.rgb, dense.depth, confidence, ~unseen(frame), intrinsics, T_world_camera)
