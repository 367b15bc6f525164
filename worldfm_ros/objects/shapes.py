"""Procedural shapes: solids of triangles, and a person, a forklift and a small robot made of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
import math

import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Pose
from worldfm_ros.objects.mesh import Mesh, joined

Color = Sequence[int]
Size = Sequence[float]
ROUND, RINGS = 24, 12  # corners around a round solid, and rings along it
SKIN, HAIR, SHOE, TYRE, STEEL, GLASS = ((214, 168, 140), (62, 46, 38), (45, 42, 44), (38, 38, 40), (150, 152, 156),
                                        (40, 60, 70))
HEIGHT = 1.75  # metres, of the person that the lengths below are of
STEP = 0.72  # metres, of a step at a walk
SWING = 0.42  # radians, of the thigh at full pace


def box(size: Size, color: Color) -> Mesh:
    """A cuboid of extents (x, y, z) about the origin, each face with normals of its own."""
    corners, normals = [], []
    for axis in range(3):
        for side in (-1.0, 1.0):
            normal = np.eye(3)[axis] * side
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3] * side
            corners += [normal + a * u + b * v for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            normals += [normal] * 4
    quads = np.arange(24).reshape(6, 4)
    return _mesh(np.array(corners) * np.asarray(size) / 2, np.array(normals), color,
                 np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]]))


def ellipsoid(size: Size, color: Color) -> Mesh:
    """About the origin."""
    directions, triangles = _ball()
    half = np.asarray(size, np.float64) / 2
    normals = directions / half
    return _mesh(directions * half, normals / np.linalg.norm(normals, axis=1, keepdims=True), color, triangles)


def cylinder(size: Size, color: Color) -> Mesh:
    """An upright elliptic cylinder about the origin."""
    angle = np.arange(ROUND) * math.tau / ROUND
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    half = np.asarray(size, np.float64) / 2
    wall = [np.column_stack([circle, np.full(ROUND, z)]) for z in (-1.0, 1.0)]
    outward = np.column_stack([circle / half[:2], np.zeros(ROUND)])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    up = np.tile([0.0, 0.0, 1.0], (ROUND, 1))
    k, after = np.arange(ROUND), (np.arange(ROUND) + 1) % ROUND
    sides = np.concatenate([np.column_stack([k, after, after + ROUND]), np.column_stack([k, after + ROUND, k + ROUND])])
    fan = np.column_stack([np.zeros(ROUND - 2, int), np.arange(1, ROUND - 1), np.arange(2, ROUND)])
    return _mesh(np.concatenate([*wall, *wall]) * half, np.concatenate([outward, outward, -up, up]), color,
                 np.concatenate([sides, fan + 2 * ROUND, fan + 3 * ROUND]))


def limb(start: Sequence[float], end: Sequence[float], radii: tuple[float, float], color: Color) -> Mesh:
    """A rounded cone from one joint to the other: a ball stretched between them, thicker at the start."""
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    directions, triangles = _ball()
    length = float(np.linalg.norm(end - start))
    along = directions[:, 2] >= 0
    radius = np.where(along, radii[1], radii[0])[:, None]
    points = directions * radius + np.where(along, length, 0.0)[:, None] * [0.0, 0.0, 1.0]
    axis = (end - start) / max(length, 1e-9)
    turn, _ = Rotation.align_vectors([axis], [[0.0, 0.0, 1.0]])
    return _mesh(points, directions, color, triangles).at(Pose(turn, start))


def person(color: Color, phase: float, pace: float, size: Size) -> Mesh:
    """A person of the clothes' colour who walks along x. phase: radians of the gait, 2 pi for two steps; pace: 0
    stands, 1 walks. size: extents of a person who stands, metres; the gait swings beyond its x."""
    swing = SWING * pace * math.sin(phase)
    bounce = 0.02 * pace * math.cos(2 * phase)
    dark = tuple(int(0.55 * c) for c in color)
    hip, shoulder = 0.90 + bounce, 1.40 + bounce
    parts = [ellipsoid((0.20, 0.16, 0.24), SKIN).at(_shift(0.02, 0, 1.62 + bounce)),
             ellipsoid((0.21, 0.175, 0.20), HAIR).at(_shift(-0.005, 0, 1.655 + bounce)),
             limb((0, 0, 1.38 + bounce), (0.01, 0, 1.53 + bounce), (0.06, 0.05), SKIN),
             ellipsoid((0.24, 0.38, 0.62), color).at(_shift(0, 0, 1.19 + bounce)),
             ellipsoid((0.22, 0.33, 0.28), dark).at(_shift(0, 0, 0.92 + bounce))]
    for side in (-1.0, 1.0):
        parts += _leg(side * 0.095, hip, side * swing, pace * math.cos(phase) * side, dark)
        parts += _arm(side * 0.22, shoulder, -side * 0.8 * swing, color)
    mesh = joined(parts)
    return Mesh(mesh.vertices * np.divide(size, STANDING), mesh.normals, mesh.colors, mesh.triangles)


STANDING = (0.32, 0.56, HEIGHT)  # the extents of `person` with pace 0


def _leg(y: float, hip: float, thigh: float, forwards: float, color: Color) -> list[Mesh]:
    """One leg; the knee bends while the leg swings forwards."""
    bend = 0.08 + 0.9 * max(0.0, forwards) * SWING
    knee = np.array([0.44 * math.sin(thigh), y, hip - 0.44 * math.cos(thigh)])
    shin = thigh - bend
    ankle = knee + 0.41 * np.array([math.sin(shin), 0.0, -math.cos(shin)])
    foot = Pose(Rotation.from_rotvec([0.0, -0.6 * shin, 0.0]), ankle)
    return [limb((0, y, hip), knee, (0.085, 0.06), color), limb(knee, ankle, (0.06, 0.042), color),
            ellipsoid((0.27, 0.10, 0.10), SHOE).at(foot @ _shift(0.06, 0, -0.02))]


def _arm(y: float, shoulder: float, swing: float, color: Color) -> list[Mesh]:
    elbow = np.array([0.28 * math.sin(swing), y * 1.08, shoulder - 0.28 * math.cos(swing)])
    lower = swing + 0.35
    wrist = elbow + 0.26 * np.array([math.sin(lower), 0.0, -math.cos(lower)])
    hand = Pose(Rotation.from_rotvec([0.0, -lower, 0.0]), wrist) @ _shift(0, 0, -0.04)
    return [limb((0, y, shoulder), elbow, (0.058, 0.045), color), limb(elbow, wrist, (0.045, 0.035), color),
            ellipsoid((0.08, 0.05, 0.13), SKIN).at(hand)]


def forklift(color: Color) -> Mesh:
    """About 2.6 x 1.1 x 2.1 m, its fork forward."""
    boxes = [((1.5, 1.05, 0.55), (-0.35, 0, 0.55), color), ((0.5, 1.0, 0.45), (-0.8, 0, 1.0), color),
             ((0.9, 1.0, 0.05), (-0.35, 0, 2.07), TYRE), ((0.5, 0.5, 0.1), (-0.35, 0, 0.95), TYRE),
             ((0.1, 0.5, 0.5), (-0.6, 0, 1.2), TYRE), ((0.06, 0.9, 0.06), (0.5, 0, 1.9), STEEL),
             ((0.06, 0.9, 0.4), (0.54, 0, 0.35), STEEL)]
    for y in (-0.47, 0.47):
        boxes += [((0.07, 0.07, 1.25), (x, y, 1.44), TYRE) for x in (-0.78, 0.08)]
        boxes += [((0.10, 0.12, 1.9), (0.5, 0.6 * y, 1.0), STEEL), ((1.0, 0.12, 0.05), (1.05, 0.6 * y, 0.12), STEEL)]
    lying = Rotation.from_rotvec([math.pi / 2, 0.0, 0.0])
    wheels = [cylinder((wheel, wheel, 0.2), TYRE).at(Pose(lying, np.array([x, y, wheel / 2])))
              for x, wheel in ((0.25, 0.62), (-0.8, 0.5)) for y in (-0.47, 0.47)]
    return joined([*(box(size, c).at(_shift(*at)) for size, at, c in boxes), *wheels])


def robot(color: Color) -> Mesh:
    """A round robot with a mast and a screen, about 0.5 x 0.5 x 1.1 m."""
    boxes = [((0.05, 0.12, 0.62), (-0.08, 0, 0.7), STEEL), ((0.10, 0.30, 0.16), (-0.04, 0, 1.03), color),
             ((0.012, 0.26, 0.12), (0.012, 0, 1.03), GLASS)]
    discs = [((0.5, 0.5, 0.28), (0, 0, 0.2), color), ((0.46, 0.46, 0.06), (0, 0, 0.06), TYRE),
             ((0.36, 0.36, 0.06), (0, 0, 0.37), STEEL), ((0.11, 0.11, 0.08), (0.1, 0, 0.44), GLASS)]
    return joined([kind(size, c).at(_shift(*at)) for kind, rows in ((box, boxes), (cylinder, discs))
                   for size, at, c in rows])


def _shift(x: float, y: float, z: float) -> Pose:
    return Pose(Rotation.identity(), np.array([x, y, z]))


def _mesh(vertices: np.ndarray, normals: np.ndarray, color: Color, triangles: np.ndarray) -> Mesh:
    return Mesh(vertices, normals, np.tile(np.asarray(color, np.uint8), (len(vertices), 1)), triangles.astype(np.int32))


@cache
def _ball() -> tuple[np.ndarray, np.ndarray]:
    """The unit sphere: vertices (V, 3), which are its normals, and triangles (T, 3)."""
    elevation = np.linspace(-math.pi / 2, math.pi / 2, RINGS + 1)
    around = np.arange(ROUND) * math.tau / ROUND
    ring = np.stack([np.cos(around), np.sin(around)], axis=1)
    points = np.concatenate([np.column_stack([math.cos(e) * ring, np.full(ROUND, math.sin(e))]) for e in elevation])
    k, after = np.arange(ROUND), (np.arange(ROUND) + 1) % ROUND
    quads = [(row * ROUND + k, row * ROUND + after, (row + 1) * ROUND + after, (row + 1) * ROUND + k)
             for row in range(RINGS)]
    triangles = np.concatenate([np.column_stack(corners) for a, b, c, d in quads for corners in ((a, b, c), (a, c, d))])
    return points, triangles
