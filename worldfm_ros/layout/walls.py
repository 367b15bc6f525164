"""Where along its line a wall may stand: where it was seen, carried on straight from there, or assumed.

A wall is carried on for EXTENSION metres, through what nobody saw, until a keyframe looks through where it would stand.
Around all that was seen walls are assumed, BEYOND metres away: a place whose end nobody saw ends somewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np

from worldfm_ros.layout.planes import Layout, Plane
from worldfm_ros.world.insertion import mark_through
from worldfm_ros.world.keyframes import Keyframe

EXTENSION = 6.0  # metres
BEYOND = 0.5  # metres; of 0 to 3 the least depth error in procedural homes of which one picture is known
ROOM = 3.5  # metres; so deep is a usual room, which is behind a doorway
DOORWAY = 5  # steps; narrower ones are none
THICKEST = 0.4  # metres from one face of a wall to the other
SURE, LEAST = 0.6, 0.22  # confidence of a surface where its plane was seen, and at EXTENSION and of what is assumed
STEP = 0.1  # metres between the places along a wall that are tried
HEIGHTS = (0.3, 0.8, 1.3, 1.8)  # metres above the floor at which they are tried
OPEN = 0.5  # of these: seen empty there, the wall is not there
SILL = 0.03, 0.09  # metres before and behind a wall's face; where floor is on both sides, it is a doorway's
GAP = 3  # steps; a wall that is seen to end for so long does not go on behind


@dataclass(frozen=True, eq=False)
class Standing:
    """A wall and how sure it is that it stands at places along it: sure (K,), 0 = not at all, STEP metres each, from
    `start` on. passage: one can go through it somewhere."""

    plane: Plane
    start: float
    sure: np.ndarray
    passage: bool = False

    def seen(self, along: np.ndarray) -> np.ndarray:
        """(N,) bool: the places (N,) along the wall from its one end that was seen to the other."""
        return (along >= self.plane.low) & (along <= self.plane.high) & (not self.plane.assumed)

    def at(self, along: np.ndarray) -> np.ndarray:
        """(N,): how sure at places (N,), metres along the wall."""
        step = np.floor((along - self.start) / STEP)
        inside = (step >= 0) & (step < len(self.sure))
        return np.where(inside, self.sure[np.where(inside, step, 0).astype(int)], 0.0)


def standing(layout: Layout, keyframes: Sequence[Keyframe], floor: np.ndarray) -> list[Standing]:
    """The walls of a layout, seen and assumed, where no keyframe looks through them, nor the floor, of which points
    (N, 2) in the layout's frame are given, goes on under them."""
    seen = stood(layout.walls, layout, keyframes, floor)
    return seen + stood(assumed(layout, [wall.plane for wall in seen if wall.passage]), layout, keyframes, floor)


def stood(walls: Sequence[Plane], layout: Layout, keyframes: Sequence[Keyframe], floor: np.ndarray) -> list[Standing]:
    """Each of the walls, as `standing` says."""
    starts, steps, points = [], [], []
    for wall in walls:
        reach = 0.0 if wall.assumed else EXTENSION
        starts.append(wall.low - reach)
        steps.append(STEP * (np.arange(math.ceil((wall.high - wall.low + 2 * reach) / STEP)) + 0.5))
        place = np.empty((len(steps[-1]), len(HEIGHTS), 3))
        place[..., wall.axis], place[..., 1 - wall.axis] = wall.offset, (starts[-1] + steps[-1])[:, None]
        place[..., 2] = layout.floor.offset + np.array(HEIGHTS)
        points.append(place.reshape(-1, 3))
    empty = seen_empty(np.concatenate([np.zeros((0, 3)), *points]) @ layout.turn, keyframes)
    share = np.split(empty.reshape(-1, len(HEIGHTS)).mean(1), np.cumsum([len(step) for step in steps])[:-1])
    ways = [doorways(wall, start, len(step), floor) | (open_there == 1)
            for wall, start, step, open_there in zip(walls, starts, steps, share[:len(walls)], strict=True)]
    found = []
    for k, (wall, start, step) in enumerate(zip(walls, starts, steps, strict=True)):
        along = start + step
        way = ways[k] | np.any([through(ways[j], starts[j], other, along) for j, other in enumerate(walls)
                                if j != k and faces_alike(wall, other)] or [np.zeros(len(along), bool)], axis=0)
        stands = carried_on(wall, along, (share[k] < OPEN) & ~way)
        inner = way & (along > wall.low) & (along < wall.high) & (not wall.assumed)
        passage = bool((np.convolve(inner, np.ones(DOORWAY), "full") == DOORWAY).any())
        found.append(Standing(wall, start, sureness(wall, along) * stands, passage))
    return found


def faces_alike(wall: Plane, other: Plane) -> bool:
    """Whether two planes may be the faces of one wall, which have their doorways in common."""
    return wall.axis == other.axis and abs(wall.offset - other.offset) < THICKEST


def through(way: np.ndarray, start: float, wall: Plane, along: np.ndarray) -> np.ndarray:
    """(N,) bool: the places (N,) along a wall, between the ends that were seen, where there is a `way` (K,) bool of its
    steps from `start` on."""
    step = np.floor((along - start) / STEP).astype(int)
    inside = (along > wall.low) & (along < wall.high) & (step >= 0) & (step < len(way))
    return inside & way[np.where(inside, step, 0)]


def doorways(wall: Plane, start: float, count: int, floor: np.ndarray) -> np.ndarray:
    """(count,) bool: at which steps along a wall, from `start` on, points of the floor (N, 2) lie on both sides of it
    where it would be thick."""
    across, step = floor[:, wall.axis] - wall.offset, np.floor((floor[:, 1 - wall.axis] - start) / STEP).astype(int)
    near = (np.abs(across) > SILL[0]) & (np.abs(across) < SILL[1]) & (step >= 0) & (step < count)
    return np.logical_and(*(np.bincount(step[near & (across * side > 0)], minlength=count) > 0 for side in (-1, 1)))


def carried_on(wall: Plane, along: np.ndarray, free: np.ndarray) -> np.ndarray:
    """(K,) bool: of the places (K,) along a wall where it may stand, those that it reaches from where it was seen."""
    gone = along[:-GAP + 1][np.convolve(free, np.ones(GAP), "valid") == 0]
    before = gone[gone < wall.low].max(initial=-math.inf)
    behind = gone[gone > wall.high].min(initial=math.inf)
    return free & (along > before) & (along < behind)


def sureness(wall: Plane, along: np.ndarray) -> np.ndarray:
    """(K,) confidence of a wall at places (K,) along it."""
    if wall.assumed:
        return np.full(len(along), LEAST)
    return SURE * (LEAST / SURE) ** (np.maximum(0.0, np.maximum(wall.low - along, along - wall.high)) / EXTENSION)


def assumed(layout: Layout, passages: Sequence[Plane]) -> list[Plane]:
    """Walls around all that was seen, none where no wall was; a usual room away from walls with a passage."""
    if not layout.walls:
        return []
    ends = layout.ends + [[-BEYOND], [BEYOND]]
    for wall in passages:
        ends[0, wall.axis] = min(ends[0, wall.axis], wall.offset - ROOM)
        ends[1, wall.axis] = max(ends[1, wall.axis], wall.offset + ROOM)
    (west, south), (east, north) = ends
    return [Plane(axis, offset, low, high, layout.wall, assumed=True)
            for axis, offset, low, high in ((0, west, south, north), (0, east, south, north), (1, south, west, east),
                                            (1, north, west, east))]


def seen_empty(points: np.ndarray, keyframes: Sequence[Keyframe]) -> np.ndarray:
    """(N,) bool: world points (N, 3) that a keyframe looks through, or at which it shows something without depth (sky,
    glass)."""
    empty = np.zeros(len(points), bool)
    for keyframe in keyframes:
        mark_through(points, keyframe, np.where(keyframe.depth == 0, np.float32(np.inf), keyframe.depth), empty)
    return empty
