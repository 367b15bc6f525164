"""Drawing the anchor map: z-buffered splats of coloured, labelled points into RGB, depth, labels and coverage.

One rule, twice: `render` (compiled, threaded) and `render_reference` (numpy, to be read) give equal images.

* A point at camera depth z > NEAR projects to u = fx x / z + cx, v = fy y / z + cy. Pixel centres lie at integers.
* Its splat covers the pixels (i, j) with d^2 = (i - u)^2 + (j - v)^2 <= r^2, r = min(sqrt(fx fy) radius / z, MAX_SPLAT)
  pixels, and always its own pixel, (u, v) rounded half to even. So radius 0 is one pixel, and a surface with a point
  within `radius` of each of its places has no holes, until MAX_SPLAT stops the splats from growing.
* The depth key of a covered pixel is z + min(radius d^2 / r^2, radius): a paraboloid that falls away from the camera.
  Neighbouring splats of a surface therefore meet half-way between their centres, as Voronoi cells do (Hoff et al., Fast
  computation of generalized Voronoi diagrams using graphics hardware, SIGGRAPH 1999); flat discs would show only the
  few nearest points. With radius 0 the nearest point wins.
* The smallest key wins a pixel; of equal keys, the point that comes first in `tiles`. The winner gives the colour, the
  label and the depth, which is its own z. Uncovered pixels are 0 and False.

What is done for each point is float32 in a fixed order of operations, from a projection matrix that is composed in
float64 for each tile: a map frame far from zero costs no precision, and the same arguments give the same bytes whatever
the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.threads import THREADS, in_parallel
from worldfm_ros.world import _splat
from worldfm_ros.world._splat import CHUNK, EMPTY, MAX_SPLAT, MIN_SQUARED, PAD, PAGE
from worldfm_ros.world.anchors import NEAR, Anchors, frustum


@dataclass(frozen=True, eq=False)
class AnchorView:
    """The anchor map as one camera sees it. Uncovered pixels are 0 in every image.

    rgb (H, W, 3) uint8; depth (H, W) float32, metres along z; labels (H, W) uint16; coverage (H, W) bool.
    """

    rgb: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    coverage: np.ndarray

    @classmethod
    def empty(cls, intrinsics: Intrinsics) -> AnchorView:
        size = (intrinsics.height, intrinsics.width)
        return cls(np.zeros((*size, 3), np.uint8), np.zeros(size, np.float32), np.zeros(size, np.uint16),
                   np.zeros(size, bool))

    @property
    def static(self) -> AnchorView:
        """The anchors alone."""
        return self

    @property
    def objects(self) -> ObjectLayer | None:
        """What moves before them, if anything of it is seen."""
        return None

    @property
    def instances(self) -> np.ndarray:
        """(H, W) uint16: the instance ids of the objects, 0 = the static world."""
        return np.zeros_like(self.labels)


@dataclass(frozen=True, eq=False)
class ObjectLayer:
    """The moving objects that a camera sees; 0 elsewhere.

    rgb (H, W, 3) uint8; share (H, W) float32: how much of a pixel they are, 0 to 1; depth (H, W) float32, labels and
    instances (H, W) uint16: of what the pixel's centre sees.
    """

    rgb: np.ndarray
    share: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    instances: np.ndarray

    @classmethod
    def empty(cls, intrinsics: Intrinsics) -> ObjectLayer:
        size = (intrinsics.height, intrinsics.width)
        floats, numbers = (np.zeros((2, *size), kind) for kind in (np.float32, np.uint16))
        return cls(np.zeros((*size, 3), np.uint8), *floats, *numbers)

    @property
    def touched(self) -> np.ndarray:
        """(H, W) bool: the pixels that hold anything of them."""
        return self.share > 0

    def over(self, rgb: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 with the objects before it."""
        share = self.share[self.touched][:, None]
        picture = rgb.copy()
        picture[self.touched] = np.rint(share * self.rgb[self.touched] + (1 - share) * rgb[self.touched])
        return picture


@dataclass(frozen=True, eq=False)
class PopulatedView(AnchorView):
    """Anchors and the objects among them as one drawing; `background`: without the objects."""

    background: AnchorView
    layer: ObjectLayer

    @classmethod
    def of(cls, background: AnchorView, layer: ObjectLayer) -> PopulatedView:
        moving = layer.depth > 0
        return cls(layer.over(background.rgb), np.where(moving, layer.depth, background.depth),
                   np.where(moving, layer.labels, background.labels), background.coverage | moving, background, layer)

    @property
    def static(self) -> AnchorView:
        return self.background

    @property
    def objects(self) -> ObjectLayer:
        return self.layer

    @property
    def instances(self) -> np.ndarray:
        return self.layer.instances


@dataclass(frozen=True, eq=False)
class _Source:
    """A tile made ready: its projection, and the number of its first point."""

    tile: Anchors
    P: np.ndarray  # (3, 4) float32, tile coordinates to u z, v z, z
    first: int

    @property
    def pages(self) -> int:
        return -(-len(self.tile) // PAGE)

    @property
    def record(self) -> tuple:
        """As the kernels want it; it holds while the tile does."""
        arrays = (getattr(self.tile, name) for name in ("points", "radius", "colors", "labels", "blocks"))
        return (self.P, self.first, len(self.tile), *(array.__array_interface__["data"][0] for array in arrays))


def render(tiles: Sequence[Anchors], T_world_camera: Pose, intrinsics: Intrinsics,
           threads: int = THREADS) -> AnchorView:
    """Draw the tiles (`AnchorMap.visible`) for a pinhole camera by the rule above. Releases the GIL.

    Nothing but idle threads is kept from one call to the next, and calls may run at the same time. The first call in a
    process loads the compiled kernels; the very first on a machine compiles them, a few seconds.
    """
    view = AnchorView.empty(intrinsics)
    sources = _sources(tiles, T_world_camera, intrinsics)
    records = np.array([source.record for source in sources], _splat.TILE)
    chunks = np.array([(k, start) for k, source in enumerate(sources) for start in range(0, len(source.tile), CHUNK)],
                      np.int64).reshape(-1, 2)
    threads = max(1, min(threads, len(chunks)))
    planes, focal, taken = frustum(intrinsics), _focal(intrinsics), np.zeros(1, np.int64)
    buffers = np.empty((threads, intrinsics.height + 2 * PAD, intrinsics.width + 2 * PAD), np.int64)
    in_parallel(lambda k: _splat.draw(buffers[k], planes, focal, records, chunks, taken), range(threads))
    rows = np.linspace(0, intrinsics.height, threads + 1).astype(int)
    tile_of_page = np.repeat(np.arange(len(sources)), [source.pages for source in sources])
    in_parallel(lambda k: _splat.paint(buffers, rows[k], rows[k + 1], records, tile_of_page, view.rgb, view.depth,
                                       view.labels, view.coverage), range(threads))
    return view


def _sources(tiles: Sequence[Anchors], T_world_camera: Pose, intrinsics: Intrinsics) -> list[_Source]:
    """The projections K [R | t] are composed in float64, each about its tile's own origin."""
    KR = intrinsics.matrix @ T_world_camera.rotation.as_matrix().T
    first, sources = 0, []
    for tile in filter(len, tiles):
        P = np.empty((3, 4), np.float32)
        P[:, :3], P[:, 3] = KR, KR @ (tile.origin - T_world_camera.translation)
        sources.append(_Source(tile, P, first))
        first += sources[-1].pages * PAGE
    assert first < 2**32, "a packed key numbers points with 32 bits"
    return sources


def _focal(intrinsics: Intrinsics) -> np.float32:
    """Pixels of radius per metre of radius at 1 m."""
    return np.float32(math.sqrt(intrinsics.fx * intrinsics.fy))


def render_reference(tiles: Sequence[Anchors], T_world_camera: Pose, intrinsics: Intrinsics) -> AnchorView:
    """The rule in numpy, one splat at a time: the specification of `render`, for small scenes."""
    keys = np.full((intrinsics.height, intrinsics.width), EMPTY, np.int64)
    depths, sources = [], _sources(tiles, T_world_camera, intrinsics)
    for source in sources:
        (X, Y, Z), P, radius = source.tile.points.T, source.P, source.tile.radius
        uz, vz, z = (P[k, 0] * X + P[k, 1] * Y + P[k, 2] * Z + P[k, 3] for k in range(3))
        depths.append(z)
        for n in np.flatnonzero(z > np.float32(NEAR)):
            inverse = np.float32(1) / z[n]
            _splat_reference(keys, uz[n] * inverse, vz[n] * inverse, z[n], radius[n],
                             _focal(intrinsics) * radius[n] * inverse, source.first + n)
    view = AnchorView.empty(intrinsics)
    view.coverage[:] = keys < EMPTY
    for source, z in zip(sources, depths, strict=True):
        number = (keys & 0xFFFFFFFF) - source.first
        won = view.coverage & (number >= 0) & (number < len(z))
        view.depth[won], view.rgb[won], view.labels[won] = (
            array[number[won]] for array in (z, source.tile.colors, source.tile.labels))
    return view


def _splat_reference(keys: np.ndarray, u, v, z, radius, r, number: int) -> None:
    """One splat at pixel (u, v), depth z and radius in metres, r in pixels; scalars are float32."""
    r = min(r, np.float32(MAX_SPLAT))
    r2 = max(r * r, MIN_SQUARED)
    rows, columns = (_pixels(center, r, size) for center, size in zip((v, u), keys.shape, strict=True))
    j, i = np.ogrid[rows, columns]
    du, dv = i.astype(np.float32) - u, j.astype(np.float32) - v
    d2 = du * du + dv * dv
    covered = (d2 <= r2) | ((i == np.rint(u)) & (j == np.rint(v)))
    key = z + np.minimum(d2 * (radius / r2), radius)
    packed = (key.view(np.int32).astype(np.int64) << 32) | number
    box = keys[rows, columns]
    box[covered] = np.minimum(box, packed)[covered]


def _pixels(center, r, size: int) -> slice:
    """The pixels of one image axis that may lie within r of center, and the nearest one if it is in the image."""
    start = max(math.floor(center - r), 0)
    return slice(start, max(start, min(math.ceil(center + r) + 1, size)))
