"""How the surfaces of each room look: those that were seen like themselves, others like what the room is painted with.

A wall goes on in its own looks within the room that it was seen in. In another room, and where it is assumed, it has
that room's paint: the looks of the plainest of the large walls of the room, or of the one that leads to it. Its floor
and ceiling are that room's, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from worldfm_ros.layout.plan import draw_plan, sides
from worldfm_ros.layout.planes import CELL, Layout, Plane
from worldfm_ros.layout.texture import Paint, Texture
from worldfm_ros.layout.walls import Standing
from worldfm_ros.world.keyframes import Keyframe

LEAST = 0.5  # square metres of a surface that were seen in a room; with less it has no looks of its own
LARGE = 0.25  # of a room's largest wall; one that is as large may be what the room is painted like
ALL = 0  # in place of a room's number: all that was seen, in whatever room
Points = tuple[np.ndarray, np.ndarray]  # places (N, 3), metres in the layout's frame, and colours (N, 3) uint8


class Looks:
    """The looks of a layout's surfaces, from what was seen of its planes."""

    def __init__(self, layout: Layout, seen: Sequence[Points], pitch: float, standing: Sequence[Standing],
                 keyframes: Sequence[Keyframe]) -> None:
        """seen: of each of the layout's planes, in their order. pitch: metres between points."""
        self._planes, self._levels, self._pitch = layout.planes, len(layout.planes) - len(layout.walls), pitch
        self._plan = draw_plan(layout, standing)
        seen_from = sides(layout.walls, [places for places, _ in seen[self._levels:]], layout.turn, keyframes)
        self._seen = []
        for k, (places, colors) in enumerate(seen):
            if k < self._levels:
                rooms = self._plan.at(places[:, :2])
            else:
                side, along = seen_from[k - self._levels], places[:, 1 - self._planes[k].axis]
                rooms = np.where(side == 0, ALL, self._plan.facing(self._planes[k], along, side))
            self._seen.append({ALL: (places, colors)} | {
                room: (places[rooms == room], colors[rooms == room]) for room in np.unique(rooms[rooms > 0]).tolist()})
        self._sizes = [{room: area(self._planes[k], places) for room, (places, _) in parts.items()}
                       for k, parts in enumerate(self._seen)]
        self._like_level = [self._plan.like(self._large(sizes)) for sizes in self._sizes[:self._levels]]
        self._papered = [k for k, plane in enumerate(self._planes) if plane.axis != 2 and plane.label == layout.wall]
        walls = [self._large(self._sizes[k]) for k in self._papered]
        self._like_walls = self._plan.like({room: sum(sizes.get(room, 0.0) for sizes in walls)
                                            for room in set().union(*walls)})
        self._textures: dict[tuple[int, int], Texture] = {}
        self._paints: dict[int, Paint] = {}

    def of_level(self, k: int, places: np.ndarray) -> np.ndarray:
        """(N, 3) uint8 of places (N, 3) on the k-th plane of the layout, its floor or ceiling."""
        return in_each(self._plan.at(places[:, :2]), places[:, :2],
                       lambda room: self._texture(k, self._like_level[k].get(room, ALL)))

    def of_wall(self, wall: Plane, places: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """(N, 3) uint8 of places (N, 3) on a wall that an eye (3,) sees."""
        rooms = self._plan.facing(wall, places[:, 1 - wall.axis], 1.0 if eye[wall.axis] > wall.offset else -1.0)
        number = None if wall.assumed else self._planes.index(wall)

        def look(room: int) -> Texture | Paint:
            if number is not None and room in self._large(self._sizes[number]):
                return self._texture(number, room)
            return self._paint(self._like_walls.get(room, ALL))

        return in_each(rooms, places[:, wall.within], look)

    def _large(self, sizes: dict[int, float]) -> dict[int, float]:
        return {room: size for room, size in sizes.items() if room != ALL and size >= LEAST}

    def _texture(self, k: int, room: int) -> Texture:
        if (k, room) not in self._textures:
            plane, (places, colors) = self._planes[k], self._seen[k][room]
            self._textures[k, room] = Texture(places[:, plane.within], colors, self._pitch, plane.axis != 2)
        return self._textures[k, room]

    def _paint(self, room: int) -> Paint:
        if room not in self._paints:
            sizes = {k: size for k in self._papered if (size := self._sizes[k].get(room, 0.0))}
            large = [k for k, size in sizes.items() if size >= LARGE * max(sizes.values())]
            paints = [Paint(places[:, self._planes[k].within], colors, self._pitch)
                      for k in large for places, colors in (self._seen[k][room],)]
            self._paints[room] = min(paints, key=lambda paint: paint.unevenness)
        return self._paints[room]


def area(plane: Plane, places: np.ndarray) -> float:
    """Square metres of a plane in which there are points (N, 3)."""
    cells = np.floor(places[:, plane.within] / CELL).astype(np.int64)
    return len(np.unique(cells[:, 0] << 32 | cells[:, 1] & 0xFFFFFFFF)) * CELL**2


def in_each(rooms: np.ndarray, places: np.ndarray, look: Callable[[int], Texture | Paint]) -> np.ndarray:
    """(N, 3) uint8: what places (N, 2) in a plane look like, by the looks of the rooms (N,) that they are in."""
    colors = np.zeros((len(places), 3), np.uint8)
    for room in np.unique(rooms).tolist():
        colors[rooms == room] = look(room).look(places[rooms == room])
    return colors
