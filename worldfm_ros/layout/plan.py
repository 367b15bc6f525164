"""The rooms of a layout: what walls, with their doorways closed, part from each other; and whose looks a room has.

A room that was seen looks like itself. One of which too little was seen looks like the one that leads to it: a doorway
away before two, and of several the one of which more was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from scipy import ndimage

from worldfm_ros.layout.planes import CELL, Layout, Plane
from worldfm_ros.layout.walls import STEP, Standing
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.selection import SelectionSettings, confirms

BESIDE = 0.15  # metres from a wall; there is the room that it is seen from
AROUND = 1.0  # metres around all walls
SHOWS = SelectionSettings(absolute_tolerance=0.03)  # a keyframe shows a point
SAMPLES = 1000  # points of a wall that keyframes are asked about


@dataclass(frozen=True, eq=False)
class RoomPlan:
    """rooms (X, Y): the number of the room in each CELL of the layout's floor, from `start` (2,) on; doors: pairs of
    rooms, and metres of doorway between them."""

    start: np.ndarray
    rooms: np.ndarray
    doors: dict[tuple[int, int], float]

    def at(self, places: np.ndarray) -> np.ndarray:
        """(N,) the rooms of places (N, 2), metres in the layout's frame; outside, the nearest."""
        cell = np.floor((places - self.start) / CELL).astype(int)
        return self.rooms[tuple(np.clip(cell, 0, np.array(self.rooms.shape) - 1).T)]

    def facing(self, wall: Plane, along: np.ndarray, side: np.ndarray | float) -> np.ndarray:
        """(N,) the rooms before a wall at places (N,) along it, on its side 1 or -1."""
        places = np.empty((len(along), 2))
        places[:, wall.axis], places[:, 1 - wall.axis] = wall.offset + BESIDE * side, along
        return self.at(places)

    def like(self, seen: dict[int, float]) -> dict[int, int]:
        """Whose looks each room has, of those of which something was seen, square metres each (none: nobody's)."""
        looks = {room: room for room in seen}
        while new := {room: max(sources, key=lambda source: (source[1], source[0]))[0]
                      for room, sources in self._next_to(looks, seen).items()}:
            looks |= new
        most = max(seen, key=seen.__getitem__, default=None)
        return {room: looks.get(room, most) for room in np.unique(self.rooms).tolist() if most is not None}

    def _next_to(self, looks: dict[int, int], seen: dict[int, float]) -> dict[int, list[tuple[int, float]]]:
        found: dict[int, list[tuple[int, float]]] = {}
        for pair in self.doors:
            for room, other in (pair, pair[::-1]):
                if room not in looks and other in looks:
                    found.setdefault(room, []).append((looks[other], seen[looks[other]]))
        return found


def draw_plan(layout: Layout, standing: Sequence[Standing]) -> RoomPlan:
    """The plan of walls that stand."""
    corners = np.stack([*layout.ends, *(corner for wall in standing for corner in _ends(wall))])
    low, high = corners.min(0) - AROUND, corners.max(0) + AROUND
    barrier = np.zeros(np.ceil((high - low) / CELL).astype(int) + 1, bool)
    for wall in standing:
        along = wall.start + STEP * (np.arange(len(wall.sure)) + 0.5)
        closed = (wall.sure > 0) | wall.seen(along)
        places = np.empty((int(closed.sum()), 2))
        places[:, wall.plane.axis], places[:, 1 - wall.plane.axis] = wall.plane.offset, along[closed]
        barrier[tuple(np.floor((places - low) / CELL).astype(int).T)] = True
    rooms, _ = ndimage.label(~barrier)
    nearest = ndimage.distance_transform_edt(barrier, return_distances=False, return_indices=True)
    plan = RoomPlan(low, rooms[tuple(nearest)], {})
    for wall in standing:
        along = wall.start + STEP * (np.arange(len(wall.sure)) + 0.5)
        along = along[wall.seen(along) & (wall.sure == 0)]
        for pair in zip(*(plan.facing(wall.plane, along, side).tolist() for side in (-1, 1)), strict=True):
            if pair[0] != pair[1]:
                key = min(pair), max(pair)
                plan.doors[key] = plan.doors.get(key, 0.0) + STEP
    return plan


def _ends(wall: Standing) -> list[np.ndarray]:
    """The two ends of a wall on the plan, (2,) each."""
    return [np.array([wall.plane.offset, along] if wall.plane.axis == 0 else [along, wall.plane.offset])
            for along in (wall.start, wall.start + STEP * len(wall.sure))]


def sides(walls: Sequence[Plane], points: Sequence[np.ndarray], turn: np.ndarray,
          keyframes: Sequence[Keyframe]) -> list[np.ndarray]:
    """For each wall, of whose points (N, 3) in the layout's frame are given, the side that each was seen from: 1, -1,
    0 = not known; that of the nearest point which keyframes were asked about."""
    asked = [np.arange(0, len(part), max(1, math.ceil(len(part) / SAMPLES))) for part in points]
    places = np.concatenate([np.zeros((0, 3)), *(part[some] for part, some in zip(points, asked, strict=True))])
    if not len(places):
        return [np.zeros(len(part)) for part in points]
    eyes = np.array([k.T_world_camera.translation for k in keyframes]) @ turn.T
    shown = confirms(keyframes, places @ turn, np.zeros(3), SHOWS)
    found, ends = [], np.cumsum([0, *(len(some) for some in asked)])
    for k, (wall, part) in enumerate(zip(walls, points, strict=True)):
        votes = np.sign(eyes[:, wall.axis] - wall.offset) @ shown[:, ends[k]:ends[k + 1]]
        along = part[:, 1 - wall.axis]
        step = np.floor(along / STEP).astype(int) - math.floor(along.min(initial=0.0) / STEP)
        sums = np.bincount(step[asked[k]], votes, int(step.max(initial=0)) + 1)
        found.append(np.sign(sums)[step])
    return found
