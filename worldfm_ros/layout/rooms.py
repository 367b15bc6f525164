"""A place whose layout is known, and what a camera would see of it where the map shows nothing.

A ray goes on to the first of these: a wall, where it was seen or carried on from there; floor or ceiling; where the
scan ends, a wall that is assumed. Nothing stands where a keyframe looks through. What was scanned decides alone, so
that all views continue a place alike, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.layout.looks import Looks, Points
from worldfm_ros.layout.planes import Layout, Plane, find_layout
from worldfm_ros.layout.walls import SURE, Standing, seen_empty, standing
from worldfm_ros.world.anchors import SCAN, TILE, Anchors
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.storage import World

AROUND = 12.0  # metres; a layout is found in what is this near
MOST = 200_000  # points that it is found in
KEPT = 4  # layouts that a House remembers
CEILING = 2.5  # metres above the floor that walls reach where no ceiling was seen
PITCH = 0.02  # metres; textures are not finer
ON_PLANE = 0.03  # of the depth and at least a voxel: a pixel that is this near a plane lies on it
AROUND_HOLES = np.ones((7, 7), np.uint8)  # pixels; what borders a hole
BORDER = 0.1  # of what is known of the view, or around a hole, that lies on planes; else the hole is none of the room's
SPARSE = 4  # pixels between those for which keyframes are asked


@dataclass(frozen=True, eq=False)
class Continued:
    """What a layout adds to a view; 0 where nothing. depth (H, W) float32, metres along z; rgb (H, W, 3) uint8; labels
    (H, W) uint16: of the plane; confidence (H, W) float32, 0..1."""

    depth: np.ndarray
    rgb: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray


class Rooms:
    """The layout around a place of a world, and how its planes look."""

    def __init__(self, layout: Layout, seen: Sequence[Points], spacing: float, keyframes: Sequence[Keyframe]) -> None:
        """seen: of the layout's planes, in their order; spacing: between the world's anchors, metres."""
        self.layout, self._seen, self._spacing, self._keyframes = layout, seen, spacing, keyframes

    @cached_property
    def standing(self) -> list[Standing]:
        """The walls, and where they stand."""
        return standing(self.layout, self._keyframes, self._seen[0][0][:, :2])

    @cached_property
    def looks(self) -> Looks:
        """How the planes look."""
        return Looks(self.layout, self._seen, max(self._spacing, PITCH), self.standing, self._keyframes)

    def continued(self, holes: np.ndarray, depth: np.ndarray, T_world_camera: Pose,
                  intrinsics: Intrinsics) -> Continued:
        """What stands in `holes` (H, W) bool of a view whose other depth is known, (H, W) float32, 0 = none."""
        rays = intrinsics.unproject(np.ones(holes.shape)) @ (self.layout.turn @ T_world_camera.rotation.as_matrix()).T
        eye = self.layout.turn @ T_world_camera.translation
        pixels = np.nonzero(self._bordered(holes, depth, rays, eye))
        z, number, sure, planes = self._first(eye, rays[pixels])
        places = eye + z[:, None] * rays[pixels]
        found = np.flatnonzero((sure > 0) & ~self._seen_empty(pixels, places))
        added = Continued(np.zeros_like(depth), np.zeros((*holes.shape, 3), np.uint8),
                          np.zeros(holes.shape, np.uint16), np.zeros(holes.shape, np.float32))
        rows, columns = (axis[found] for axis in pixels)
        added.depth[rows, columns], added.confidence[rows, columns] = z[found], sure[found]
        for k, plane in enumerate(planes):
            mine = number[found] == k
            at = rows[mine], columns[mine]
            added.labels[at] = plane.label
            added.rgb[at] = (self.looks.of_level(k, places[found[mine]]) if plane.axis == 2 else
                             self.looks.of_wall(plane, places[found[mine]], eye))
        return added

    def _bordered(self, holes: np.ndarray, depth: np.ndarray, rays: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """The holes (H, W) bool around which the layout's planes are seen; all of a view that shows enough of them."""
        known = ~holes & (depth > 0)
        points, near = eye + depth[known, None] * rays[known], np.maximum(ON_PLANE * depth[known], self._spacing)
        on = np.zeros_like(holes)
        for plane in self.layout.planes:
            on[known] |= np.abs(points[:, plane.axis] - plane.offset) < near
        if on.sum() >= max(1, BORDER * known.sum()):
            return holes
        return bordered(holes, (cv2.dilate(holes.astype(np.uint8), AROUND_HOLES) > 0) & known, on)

    def _first(self, eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Plane]]:
        """Of rays (N, 3), 1 along the optical axis: depth to the first surface, which of the planes it is, and how sure
        it is, 0 = none, each (N,); and the planes."""
        layout = self.layout
        top = layout.floor.offset + CEILING if layout.ceiling is None else layout.ceiling.offset
        z, number, sure = np.full(len(rays), np.inf), np.zeros(len(rays), int), np.zeros(len(rays))
        planes = [layout.floor] if layout.ceiling is None else [layout.floor, layout.ceiling]
        for k, plane in enumerate(planes):
            at = meeting(eye, rays, plane)
            near = at < z
            z[near], number[near], sure[near] = at[near], k, SURE
        for k, wall in enumerate(self.standing, len(planes)):
            at = meeting(eye, rays, wall.plane)
            near = np.flatnonzero(at < z)
            place = eye + at[near, None] * rays[near]
            stands = wall.at(place[:, 1 - wall.plane.axis])
            here = (stands > 0) & (place[:, 2] <= top)
            z[near[here]], number[near[here]], sure[near[here]] = at[near[here]], k, stands[here]
        return np.where(sure > 0, z, 0), number, sure, planes + [wall.plane for wall in self.standing]

    def _seen_empty(self, pixels: tuple[np.ndarray, np.ndarray], places: np.ndarray) -> np.ndarray:
        """(N,) bool: which of the pixels' places (N, 3) a keyframe looks through; one pixel is asked for each square of
        SPARSE."""
        square = (pixels[0] // SPARSE).astype(np.int64) << 32 | pixels[1] // SPARSE
        _, one, which = np.unique(square, return_index=True, return_inverse=True)
        return seen_empty(places[one] @ self.layout.turn, self._keyframes)[which]


class House:
    """The layouts of a world, each found when a camera first comes near; all places of a tile share one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rooms: dict[tuple[int, ...], Rooms | None] = {}

    def around(self, place: np.ndarray) -> Rooms | None:
        """The layout around a place (3,), metres; None where there is none, or the world is not metric."""
        tile = tuple(np.floor(place / TILE).astype(int).tolist())
        if tile not in self._rooms:
            self._rooms[tile] = find_rooms(self._world, (np.array(tile) + 0.5) * TILE) if self._world.metric else None
            for old in list(self._rooms)[:-KEPT]:
                del self._rooms[old]
        return self._rooms[tile]


def find_rooms(world: World, place: np.ndarray) -> Rooms | None:
    """The layout around a place (3,) of a metric world, from what was scanned, or from the picture that it was made of;
    None where there is none."""
    keyframes = [keyframe for keyframe in world.keyframes if not keyframe.inserted]
    eyes = np.array([k.T_world_camera.translation for k in keyframes]).reshape(-1, 3)
    origins = [SCAN, *(keyframe.id for keyframe in keyframes[:1])]
    parts = [nearby(tile, place, origins) for tile in world.anchors.tiles]
    if not len(eyes) or not sum(len(points) for points, *_ in parts):
        return None
    points, colors, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    near = eyes[np.abs(eyes - place).max(1) < AROUND]
    thin = slice(None, None, 1 + len(points) // MOST)
    layout = find_layout(points[thin], labels[thin], near if len(near) else eyes)
    if layout is None:
        return None
    turned, pitch = points @ layout.turn.T, max(world.spacing, PITCH)
    return Rooms(layout, [seen_of(plane, turned, colors, labels, pitch) for plane in layout.planes], world.spacing,
                 keyframes)


def nearby(tile: Anchors, place: np.ndarray, origins: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, colours and labels of a tile's anchors that are of these origins and near."""
    near = np.isin(tile.frames, origins) & (np.abs(tile.points + (tile.origin - place)).max(1) < AROUND)
    return tile.world_points[near], tile.colors[near], tile.labels[near]


def seen_of(plane: Plane, points: np.ndarray, colors: np.ndarray, labels: np.ndarray, pitch: float) -> Points:
    """What was seen of a plane: those of the points (N, 3), metres in the layout's frame, that lie on it and are called
    what most of them are: no rug on a floor, nor a picture on a wall."""
    on = np.abs(points[:, plane.axis] - plane.offset) <= pitch
    on &= labels == np.bincount(labels[on], minlength=1).argmax()
    return points[on], colors[on]


def meeting(eye: np.ndarray, rays: np.ndarray, plane: Plane) -> np.ndarray:
    """(N,) depth at which rays (N, 3) meet a plane; inf where they do not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (plane.offset - eye[plane.axis]) / rays[:, plane.axis]
    return np.where(z > 0, z, np.inf)


def bordered(holes: np.ndarray, around: np.ndarray, on: np.ndarray) -> np.ndarray:
    """Those of the holes (H, W) bool for which BORDER or more of the pixels `around` (H, W) bool are `on` planes."""
    count, number = cv2.connectedComponents(holes.astype(np.uint8))
    nearest = cv2.dilate(number.astype(np.float32), AROUND_HOLES).astype(int)
    known, flat = (np.bincount(nearest[mask], minlength=count) for mask in (around, around & on))
    good = flat >= BORDER * np.maximum(known, 1)
    good[0] = False
    return good[number]


def widened(intrinsics: Intrinsics, share: float) -> Intrinsics:
    """The camera with a wider picture: so much more, of its sides, at each of its edges."""
    dx, dy = round(share * intrinsics.width), round(share * intrinsics.height)
    return replace(intrinsics, width=intrinsics.width + 2 * dx, height=intrinsics.height + 2 * dy,
                   cx=intrinsics.cx + dx, cy=intrinsics.cy + dy)
