"""Which keyframes lend their appearance: those that together show most of what a place and a direction see.

The first is the one that shows most. The next one is the one that shows most of what those before do not; when nobody
shows much more, the photograph that looks most nearly from where the camera does. Only a photograph: painted keyframes
come while one drives, and what is seen already shall not look otherwise for it.

Were they chosen anew for every pose, neighbouring frames would flip between keyframes that show about as much, and
the picture would flicker. Hysteresis cures that, but makes a frame depend on the frames before it. Here all poses of a
cell (0.25 m, 15 degrees) share the choice made for the middle of the cell: neighbours agree, and the same pose always
has the same references.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import render
from worldfm_ros.world.selection import Selection, SelectionSettings, angle, distance_weight, select_by_depth

PLACE = 0.25  # metres, side of a cell
DIRECTION = math.radians(15.0)  # width of a cell
PIXELS = 96  # width of the drawing that the choice is made from
TALLEST = 4 * PIXELS  # its height at most: the picture of a camera that is taller still is squeezed
SETTINGS = SelectionSettings(relative_tolerance=0.05)  # measured depth is less exact than the released panoramas'
REFERENCES = 3  # chosen for a view
NEW = 0.05  # of the samples; who shows less than this that nobody showed before adds nothing
NEARBY = 0.03  # radians between the rays to a sample; below, it makes no difference
Cell = tuple[int, int, int, int, int]


class ReferenceChooser:
    """Chooses among the keyframes of a map, and remembers its choices until the map changes."""

    def __init__(self, anchors: AnchorMap, keyframes: Sequence[Keyframe]) -> None:
        self._anchors, self._keyframes = anchors, keyframes
        self._chosen: dict[tuple[Cell, Intrinsics, int], tuple[Keyframe, ...]] = {}
        self._map_state = (0, 0)

    def choose(self, T_world_camera: Pose, intrinsics: Intrinsics, count: int = REFERENCES) -> tuple[Keyframe, ...]:
        """At most `count` references for a camera, the best first; none when no keyframe shows anything that it sees.

        Raises ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError(f"the number of references is 1 or more, got {count}")
        if not self._keyframes:
            return ()
        map_state = (self._anchors.revision, len(self._keyframes))
        if map_state != self._map_state:
            self._chosen.clear()
            self._map_state = map_state
        height = min(max(1, PIXELS * intrinsics.height // intrinsics.width), TALLEST)
        cell, small = cell_of(T_world_camera), intrinsics.resized(PIXELS, height)
        if (cell, small, count) not in self._chosen:
            self._chosen[cell, small, count] = self._select(middle_of(cell), small, count)
        # the middle of a cell may lie behind a wall or in the void; then the pose itself decides
        return self._chosen[cell, small, count] or self._select(T_world_camera, small, count)

    def _select(self, T_world_camera: Pose, intrinsics: Intrinsics, count: int) -> tuple[Keyframe, ...]:
        drawing = render(self._anchors.visible(T_world_camera, intrinsics), T_world_camera, intrinsics)
        selection = select_by_depth(self._keyframes, drawing.depth, T_world_camera, intrinsics, SETTINGS)
        return tuple(self._keyframes[k] for k in complementary(self._keyframes, selection, T_world_camera, count))


def complementary(keyframes: Sequence[Keyframe], selection: Selection, T_world_camera: Pose, count: int) -> list[int]:
    """The numbers of at most `count` keyframes, of those that a selection found to show something."""
    useful = np.flatnonzero(selection.score > 0)
    if not len(useful):
        return []
    eye, points, confirmed = T_world_camera.translation, selection.points, selection.confirmed[useful]
    eyes = np.array([keyframes[k].T_world_camera.translation for k in useful])
    weight = distance_weight(np.linalg.norm(eyes - eye, axis=1), SETTINGS)
    photograph = np.array([not keyframes[k].painted for k in useful])
    closeness = (confirmed / (NEARBY + angle(points - eye, points - eyes[:, None]))).sum(1) * photograph
    chosen = [int(np.argmax(selection.score[useful]))]
    while len(chosen) < min(count, len(useful)):
        new = (confirmed & ~confirmed[chosen].any(0)).sum(1)
        value = new * weight if new.max() >= NEW * len(points) else closeness
        left = np.setdiff1d(np.flatnonzero(value), chosen)
        if not len(left):
            break
        chosen.append(int(left[np.argmax(value[left])]))
    return useful[chosen].tolist()


def cell_of(T_world_camera: Pose) -> Cell:
    """Place (x, y, z) and direction (pitch, yaw) of the optical axis, as numbers of cells. Roll does not count."""
    x, y, z = np.floor(T_world_camera.translation / PLACE).astype(int).tolist()
    forward = T_world_camera.rotation.apply([0.0, 0.0, 1.0])
    pitch = round(math.asin(np.clip(forward[2], -1.0, 1.0)) / DIRECTION)
    yaw = round(math.atan2(forward[1], forward[0]) / _yaw_step(pitch)) % _yaw_cells(pitch)
    return x, y, z, pitch, yaw


def middle_of(cell: Cell) -> Pose:
    """T_world_camera, upright, of the middle of a cell."""
    x, y, z, pitch, yaw = cell
    elevation, heading = pitch * DIRECTION, yaw * _yaw_step(pitch)
    forward = [math.cos(heading) * math.cos(elevation), math.sin(heading) * math.cos(elevation), math.sin(elevation)]
    eye = (np.array([x, y, z]) + 0.5) * PLACE
    sideways = np.array([math.sin(heading), -math.cos(heading), 0.0])  # the image's right; also straight up and down
    return Pose.looking_at(eye, eye + forward, up=np.cross(sideways, forward))


def _yaw_cells(pitch: int) -> int:
    """How many cells go round at this pitch: fewer towards the poles."""
    return max(1, round(math.tau * math.cos(pitch * DIRECTION) / DIRECTION))


def _yaw_step(pitch: int) -> float:
    return math.tau / _yaw_cells(pitch)
