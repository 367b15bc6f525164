"""Exact ray intersection with boxes, elliptic cylinders and ellipsoids under a bounding volume hierarchy (numba).

Every solid is a unit shape (the cube, cylinder or ball within [-1, 1]^3) stretched by its half size and turned by its
yaw, so one affine change of the ray serves all three, and the ray parameter t stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

from numba import njit
import numpy as np

from worldfm_ros.scenes.scene import Box, Cylinder, Solid, Sphere, solid_bounds

BOX, CYLINDER, SPHERE = range(3)
SHAPES = {Box: BOX, Cylinder: CYLINDER, Sphere: SPHERE}
TINY = 1e-30  # stands in for a direction component of zero, whose inverse would be infinite

# numba keeps compiled kernels in __pycache__, each as old as its own file: after a change in a file whose kernels are
# called from another, delete the .nbi files there (or set NUMBA_CACHE_DIR elsewhere), or the caller stays as it was.
kernel = njit(nogil=True, cache=True, error_model="numpy")


class Geometry(NamedTuple):
    """Solids and their hierarchy as arrays. The tree is stored once per octant of ray directions, nodes in the order
    in which such a ray meets them, so a traversal is a walk to the right: into a node, or past it to `skip`."""

    shape: np.ndarray  # (P,) BOX, CYLINDER or SPHERE
    frame: np.ndarray  # (P, 8) centre, cos yaw, sin yaw, half size
    opaque: np.ndarray  # (P,) bool: casts shadows
    bounds: np.ndarray  # (8, N, 6) a node's lowest and highest corner
    skip: np.ndarray  # (8, N) the node to go on with when a node is missed
    leaf: np.ndarray  # (8, N) the solid in a node, -1 for inner nodes


def pack(solids: Sequence[Solid]) -> Geometry:
    """The arrays that the kernels work on."""
    shape = np.array([SHAPES[type(solid)] for solid in solids])
    frame = np.array([[*solid.centre, math.cos(solid.yaw), math.sin(solid.yaw), *np.divide(solid.size, 2.0)]
                      for solid in solids])
    opaque = np.array([solid.material.emission == 0.0 for solid in solids])
    boxes = np.array([solid_bounds(solid).ravel() for solid in solids])
    boxes += np.array([-1e-7] * 3 + [1e-7] * 3)
    tree = _build(np.arange(len(solids)), boxes)
    octants = [_thread(tree, octant) for octant in range(8)]
    return Geometry(shape, frame, opaque, *(np.stack(arrays) for arrays in zip(*octants, strict=True)))


def _build(index: np.ndarray, boxes: np.ndarray) -> tuple:
    """A tree of (box, solid) leaves and (box, axis, low, high) nodes, split where the surface area heuristic says."""
    box = np.concatenate([boxes[index, :3].min(0), boxes[index, 3:].max(0)])
    if len(index) == 1:
        return box, int(index[0])
    best = (math.inf, 0, 0, index)
    for axis in range(3):
        order = index[np.argsort(boxes[index, axis] + boxes[index, axis + 3], kind="stable")]
        counts = np.arange(1, len(order))
        cost = _areas(boxes[order])[:-1] * counts + _areas(boxes[order[::-1]])[-2::-1] * counts[::-1]
        cut = int(np.argmin(cost))
        if cost[cut] < best[0]:
            best = (cost[cut], axis, cut + 1, order)
    _, axis, cut, order = best
    return box, axis, _build(order[:cut], boxes), _build(order[cut:], boxes)


def _areas(boxes: np.ndarray) -> np.ndarray:
    """Half the surface areas of the boxes around the first 1, 2, ... of `boxes` (N, 6)."""
    x, y, z = (np.maximum.accumulate(boxes[:, 3:]) - np.minimum.accumulate(boxes[:, :3])).T
    return x * y + y * z + z * x


def _thread(tree: tuple, octant: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bounds, skip and leaf of the tree in depth-first order, near child first for directions whose sign bits are
    `octant` (bit k set: component k is negative)."""
    bounds, skip, leaf = [], [], []

    def visit(node: tuple) -> None:
        here = len(bounds)
        bounds.append(node[0])
        skip.append(0)
        leaf.append(node[1] if len(node) == 2 else -1)
        if len(node) == 4:
            for child in node[2:] if not octant >> node[1] & 1 else node[:1:-1]:
                visit(child)
        skip[here] = len(bounds)

    visit(tree)
    return np.array(bounds), np.array(skip), np.array(leaf)


@kernel
def localize(geometry, i, x, y, z):
    """A world direction (or an offset from the centre) in the unit coordinates of solid i."""
    f = geometry.frame[i]
    return (f[3] * x + f[4] * y) / f[5], (f[3] * y - f[4] * x) / f[6], z / f[7]


@kernel
def _interval(geometry, i, ox, oy, oz, dx, dy, dz):
    """Where the line o + t d enters and leaves solid i; enters after it leaves when it misses."""
    f = geometry.frame[i]
    ox, oy, oz = localize(geometry, i, ox - f[0], oy - f[1], oz - f[2])
    dx, dy, dz = localize(geometry, i, dx, dy, dz)
    shape = geometry.shape[i]
    enter, leave = -math.inf, math.inf
    if shape != SPHERE:
        inverse = 1.0 / (dz if abs(dz) > TINY else TINY)
        half = abs(inverse)
        enter, leave = -oz * inverse - half, -oz * inverse + half
    if shape == BOX:
        for o, d in ((ox, dx), (oy, dy)):
            inverse = 1.0 / (d if abs(d) > TINY else TINY)
            half = abs(inverse)
            enter, leave = max(enter, -o * inverse - half), min(leave, -o * inverse + half)
        return enter, leave
    if shape == CYLINDER:
        oz, dz = 0.0, 0.0
    a = max(dx * dx + dy * dy + dz * dz, TINY)
    middle = -(ox * dx + oy * dy + oz * dz) / a  # the line's point nearest the axis or centre
    px, py, pz = ox + middle * dx, oy + middle * dy, oz + middle * dz
    rest = 1.0 - (px * px + py * py + pz * pz)
    if rest < 0.0:
        return math.inf, -math.inf
    half = math.sqrt(rest / a)
    return max(enter, middle - half), min(leave, middle + half)


@kernel
def _meets(bounds, ox, oy, oz, ix, iy, iz, limit):
    """Does the ray with inverse direction i meet the box before t = limit?"""
    ax, bx = (bounds[0] - ox) * ix, (bounds[3] - ox) * ix
    ay, by = (bounds[1] - oy) * iy, (bounds[4] - oy) * iy
    az, bz = (bounds[2] - oz) * iz, (bounds[5] - oz) * iz
    enter = max(max(min(ax, bx), min(ay, by)), max(min(az, bz), 0.0))
    return enter <= min(min(max(ax, bx), max(ay, by)), min(max(az, bz), limit))


@kernel
def trace(geometry, ox, oy, oz, dx, dy, dz, limit, shadow):
    """(t, i) of the first surface on the ray o + t d with 0 < t < limit, i = -1 when there is none. Inside a solid that
    is its inner side. With `shadow`, any opaque solid will do and the others are looked through."""
    octant = (1 if dx < 0.0 else 0) + (2 if dy < 0.0 else 0) + (4 if dz < 0.0 else 0)
    bounds, skip, leaf = geometry.bounds[octant], geometry.skip[octant], geometry.leaf[octant]
    ix = 1.0 / (dx if abs(dx) > TINY else TINY)
    iy = 1.0 / (dy if abs(dy) > TINY else TINY)
    iz = 1.0 / (dz if abs(dz) > TINY else TINY)
    found, node = -1, 0
    while node < len(leaf):
        if not _meets(bounds[node], ox, oy, oz, ix, iy, iz, limit):
            node = skip[node]
            continue
        i = leaf[node]
        node += 1
        if i < 0 or (shadow and not geometry.opaque[i]):
            continue
        enter, leave = _interval(geometry, i, ox, oy, oz, dx, dy, dz)
        t = enter if enter > 0.0 else leave
        if enter <= leave and 0.0 < t < limit:
            limit, found = t, i
            if shadow:
                break
    return limit, found


@kernel
def face_of(shape, x, y, z):
    """(face, u, v) of a point on a unit shape. Each has six faces, 2 axis + (1 on the negative side), with u, v in
    -1..1 along the other two axes; balls and the sides of cylinders are projected from the cube around them."""
    if shape == CYLINDER and abs(z) * abs(z) < x * x + y * y:
        if abs(x) >= abs(y):
            return (0 if x > 0.0 else 1), y / abs(x), z
        return (2 if y > 0.0 else 3), x / abs(y), z
    if abs(x) >= abs(y) and abs(x) >= abs(z):
        return (0 if x > 0.0 else 1), y / abs(x), z / abs(x)
    if abs(y) >= abs(z):
        return (2 if y > 0.0 else 3), x / abs(y), z / abs(y)
    return (4 if z > 0.0 else 5), x / abs(z), y / abs(z)


@kernel
def point_of(shape, face, u, v):
    """The point (x, y, z) of a unit shape at (face, u, v): the inverse of `face_of`."""
    side = 1.0 - 2.0 * (face % 2)
    x, y, z = (side, u, v) if face < 2 else (u, side, v) if face < 4 else (u, v, side)
    scale = 1.0
    if shape == SPHERE:
        scale = 1.0 / math.sqrt(x * x + y * y + z * z)
    elif shape == CYLINDER and face < 4:
        scale = 1.0 / math.sqrt(x * x + y * y)
    return x * scale, y * scale, z * (scale if shape == SPHERE else 1.0)


@kernel
def normal_of(geometry, i, face, x, y, z):
    """The outward unit normal in the world of solid i at the point (x, y, z) of its unit shape, which is on `face`."""
    f, shape, axis = geometry.frame[i], geometry.shape[i], face // 2
    if shape == BOX or (shape == CYLINDER and axis == 2):
        side = 1.0 - 2.0 * (face % 2)
        x, y, z = side * (axis == 0), side * (axis == 1), side * (axis == 2)
    elif shape == CYLINDER:
        z = 0.0
    x, y, z = x / f[5], y / f[6], z / f[7]
    length = math.sqrt(x * x + y * y + z * z)
    return (f[3] * x - f[4] * y) / length, (f[4] * x + f[3] * y) / length, z / length
