"""Where the pixels of several reference keyframes go in the target view, by the drawn depth, and how good each is.

A target pixel's surface point is projected into each reference. Its colour is taken, from the pyramid level whose
pixels are as large as the target's there, unless the reference shows something nearer. Colours are brought to the first
reference's exposure and white balance, where they overlap. The cost is that of a few array operations a reference, and
what comes out is aligned with the target and as sharp as the photographs are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
import math

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting import _warp as _kernel
from worldfm_ros.painting._warp import FINER, FRACTIONS, WEIGHT_BITS
from worldfm_ros.painting.pyramid import PER_OCTAVE, Pyramid, Pyramids, unpack
from worldfm_ros.threads import THREADS, work_off
from worldfm_ros.world.keyframes import Keyframe

NEAR = np.float32(1e-3)  # metres; what is not farther in front of the reference is not seen by it
DEPTH_TOLERANCE = np.float32(0.05)  # relative: measured this much nearer is in front, this much farther is behind
DEPTH_RANGE = 2 * DEPTH_TOLERANCE  # the relative difference of depth at the end of its scale
ENOUGH = 512  # of them, to tell a ratio
SAMPLES = 1024  # pixels at least, of the small picture that exposures are compared in
DARK, BRIGHT = 8, 247  # levels between which a ratio tells the exposure
OVERLAP = 48  # pixels, the least that tell it
GAIN_LIMIT = 2.0
BANDS = 4  # of the target's rows for each reference, which threads share
SHARPNESS = -0.75  # of the cubic kernel: its slope at a distance of one pixel
HALF = np.float32(0.5)
OCTAVE = 32  # steps of the resolution's scale to the octave
FEATHER = 64  # a mask's soft rim is this part of the picture's longer side wide

LIMITS = NEAR, DEPTH_TOLERANCE, np.float32(127) / DEPTH_RANGE

ANGLE, RESOLUTION, DEPTH, MEASURED, RIM = range(5)  # the columns of `quality`
QUALITIES = 5


@dataclass(frozen=True, eq=False)
class WarpedReferences:
    """K references seen from the target, in the order in which they were given; 0 and False where not shown.

    rgb (K, H, W, 3) uint8, balanced to the first reference. shown (K, H, W) bool: the reference shows that place, or
    might: nothing that it measured is in front. beyond (K, H, W) bool: shown, but it looks past that place at something
    behind. gains (K, 3) float32: what was multiplied to the R, G and B of each; 1 for the first.

    quality (K, H, W, 5) uint8, linear scales:
    * ANGLE: between the rays from target and reference to the place, 2 sin(angle / 2); 0 = 0, 255 = 1 (60 degrees).
    * RESOLUTION: 128 + 32 log2(a target pixel's size there / a reference pixel's); above 128 the reference is finer.
    * DEPTH: 128 + 127 (measured - z) / (0.1 z), z the place's depth in the reference; 128 where it measured nothing.
    * MEASURED: 255 where the reference measured depth, else 0.
    * RIM: 0 at the border of what is shown, 255 from some 1/64 of the picture's longer side on inwards.
    """

    rgb: np.ndarray
    shown: np.ndarray
    beyond: np.ndarray
    quality: np.ndarray
    gains: np.ndarray

    @classmethod
    def empty(cls, count: int, height: int, width: int, gains: np.ndarray, described: bool = True) -> WarpedReferences:
        size = count, height, width
        quality = np.zeros((count, QUALITIES if described else 0, height, width), np.uint8)
        return cls(np.zeros((*size, 3), np.uint8), np.zeros(size, bool), np.zeros(size, bool),
                   np.moveaxis(quality, 1, -1), gains)


_PYRAMIDS = Pyramids()


@dataclass(frozen=True, eq=False)
class Target:
    """A camera and the depth (H, W) float32 of what it sees, metres along z; 0 = not known.

    Raises ValueError for a depth that is not the camera's."""

    depth: np.ndarray
    T_world_camera: Pose
    intrinsics: Intrinsics

    def __post_init__(self) -> None:
        size = (self.intrinsics.height, self.intrinsics.width)
        if self.depth.shape != size or self.depth.dtype != np.float32:
            raise ValueError(f"expected the depth of a {size[1]}x{size[0]} camera, {size} float32, "
                             f"got {self.depth.shape} {self.depth.dtype}")

    def reduced(self, pixels: int) -> Target:
        """Every n-th pixel of every n-th row, of which there are at least so many, or all."""
        step = max(1, math.isqrt(self.depth.size // pixels))
        depth, camera = np.ascontiguousarray(self.depth[::step, ::step]), self.intrinsics
        return Target(depth, self.T_world_camera, Intrinsics(
            depth.shape[1], depth.shape[0], camera.fx / step, camera.fy / step, camera.cx / step, camera.cy / step))


def warp_references(references: Sequence[Keyframe], target: Target, moves: np.ndarray | None = None,
                    threads: int = THREADS) -> WarpedReferences:
    """The references as the target sees them: nothing where its depth is not known.

    References may differ in size and camera; none is K = 0. moves (K, 2, H, W) float32: what is shown at a pixel is
    what the reference shows of the place so many pixels to the right and below (align.py). Releases the GIL; the bytes
    do not depend on the number of threads.
    """
    return with_rims(warp_balanced(references, target, balance(references, target), moves, threads), threads)


def with_rims(warped: WarpedReferences, threads: int = THREADS) -> WarpedReferences:
    """The same, its column RIM filled."""
    def find_rim(k: int) -> None:
        warped.quality[k, ..., RIM] = rim(warped.shown[k])

    work_off(find_rim, range(len(warped.shown)), threads)
    return warped


def balance(references: Sequence[Keyframe], target: Target) -> np.ndarray:
    """Gains (K, 3) float32 of the references' R, G, B, that bring them to the first one's exposure and white balance.

    Told from a small picture of the same view: the median ratio to the references before it, where they show the same
    surface. 1 where that is too little, and never beyond GAIN_LIMIT: more is another light, or another thing.
    """
    gains = np.ones((len(references), 3), np.float32)
    if len(references) < 2:
        return gains
    warped = warp_balanced(references, target.reduced(SAMPLES), gains, threads=1)
    seen = warped.shown & ~warped.beyond
    before, known = warped.rgb[0].astype(np.float32), seen[0].copy()
    for k in range(1, len(references)):
        gains[k] = gain_between(warped.rgb[k][known & seen[k]], before[known & seen[k]])
        new = seen[k] & ~known
        before[new], known = warped.rgb[k][new] * gains[k], known | new
    return gains


def gain_between(rgb: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(3,) float32: what colours (N, 3) of 0 to 255 are multiplied with to be as the `wanted` ones, by the median."""
    step = max(1, len(rgb) // ENOUGH)
    rgb, wanted = rgb[::step], wanted[::step]
    told = ((rgb > DARK) & (rgb < BRIGHT) & (wanted > DARK) & (wanted < BRIGHT)).all(1)
    if told.sum() < OVERLAP:
        return np.ones(3, np.float32)
    ratio = np.median(wanted[told].astype(np.float32) / rgb[told], axis=0)
    return np.clip(ratio, 1 / GAIN_LIMIT, GAIN_LIMIT).astype(np.float32)


def warp_balanced(references: Sequence[Keyframe], target: Target, gains: np.ndarray, moves: np.ndarray | None = None,
                  threads: int = THREADS, described: bool = True) -> WarpedReferences:
    """The references with colours times `gains` (K, 3) float32, without rims; not `described`: without qualities."""
    count, (height, width) = len(references), target.depth.shape
    depth = np.ascontiguousarray(target.depth)
    warped = WarpedReferences.empty(count, height, width, gains, described)
    if not count:
        return warped
    moves = np.zeros((count, 2, 0, 0), np.float32) if moves is None else moves
    sources = [_Source.of(reference, target.T_world_camera, target.intrinsics) for reference in references]
    bands = np.linspace(0, height, 1 + min(BANDS if threads > 1 else 1, height)).astype(int).tolist()
    planes = np.moveaxis(warped.quality, -1, 1)  # as they lie in memory

    def fill(job: tuple[int, int, int]) -> None:
        k, top, bottom = job
        gain = tuple(gains[k] / np.float32(1 << WEIGHT_BITS))
        out = warped.rgb[k], warped.shown[k], warped.beyond[k], planes[k]
        _kernel.warp_rows(sources[k].pyramid, sources[k].depth, (depth, moves[k]), sources[k].projection, LIMITS, gain,
                          out, top, bottom)

    work_off(fill, [(k, *band) for k in range(count) for band in pairwise(bands)], threads)
    return warped


@dataclass(frozen=True, eq=False)
class _Source:
    """A reference made ready for the kernel."""

    pyramid: tuple[np.ndarray, ...]
    depth: np.ndarray
    projection: tuple[np.float32, ...]

    @classmethod
    def of(cls, reference: Keyframe, T_world_camera: Pose, intrinsics: Intrinsics) -> _Source:
        pyramid, depth = _PYRAMIDS.of(reference), np.ascontiguousarray(reference.depth).view()
        depth.flags.writeable = False  # as memory-mapped ones are: with all alike, numba compiles one variant
        projection = Projection.between(reference, T_world_camera, intrinsics)
        return cls((pyramid.pixels, pyramid.levels, pyramid.scales, WEIGHTS), depth, projection.flat)


# ---- the rule in numpy: the specification of the compiled kernel


@dataclass(frozen=True, eq=False)
class Projection:
    """The target's pixels in a reference: (u z, v z, z) = depth direction (column, row, 1) + origin.

    ray: 1 / fx, 1 / fy, cx, cy of the target; eye (3,): the reference's centre in the target's axes, metres; zoom: the
    reference's focal length over the target's. All float32, composed in float64.
    """

    direction: np.ndarray
    origin: np.ndarray
    ray: np.ndarray
    eye: np.ndarray
    zoom: np.float32

    @property
    def flat(self) -> tuple[np.float32, ...]:
        """The 20 numbers that the kernel takes."""
        return tuple(np.concatenate([np.column_stack([self.direction, self.origin]).ravel(), self.ray, self.eye,
                                     [self.zoom]]))

    @classmethod
    def between(cls, reference: Keyframe, T_world_camera: Pose, intrinsics: Intrinsics) -> Projection:
        K, back = reference.intrinsics.matrix, reference.T_world_camera.rotation.as_matrix().T
        R = back @ T_world_camera.rotation.as_matrix()  # T_reference_camera, without SciPy's 0.2 ms for small things
        t = back @ (T_world_camera.translation - reference.T_world_camera.translation)
        zoom = math.sqrt(K[0, 0] * K[1, 1] / (intrinsics.fx * intrinsics.fy))
        ray = [1 / intrinsics.fx, 1 / intrinsics.fy, intrinsics.cx, intrinsics.cy]
        return cls((K @ R @ np.linalg.inv(intrinsics.matrix)).astype(np.float32),
                   (K @ t).astype(np.float32), np.array(ray, np.float32),
                   (-R.T @ t).astype(np.float32), np.float32(zoom))


def warp_in_numpy(references: Sequence[Keyframe], target: Target, gains: np.ndarray,
                  moves: np.ndarray | None = None) -> WarpedReferences:
    """What `warp_references` makes, with given gains (K, 3) float32."""
    warped = WarpedReferences.empty(len(references), *target.depth.shape, gains)
    for k, reference in enumerate(references):
        _warp_in_numpy(reference, target, np.zeros(2, np.float32) if moves is None else moves[k], warped, k)
    return warped


def _warp_in_numpy(reference: Keyframe, target: Target, move: np.ndarray, warped: WarpedReferences, k: int) -> None:
    """Fill the `k`-th of `warped`."""
    depth, intrinsics, camera = target.depth, target.intrinsics, reference.intrinsics
    to_reference = Projection.between(reference, target.T_world_camera, intrinsics)
    row, column = (axis.astype(np.float32) for axis in np.ogrid[:intrinsics.height, :intrinsics.width])
    moved_row, moved_column = row + move[1], column + move[0]
    uz, vz, z = (depth * (a * moved_column + (b * moved_row + c)) + o
                 for (a, b, c), o in zip(to_reference.direction, to_reference.origin, strict=True))
    front = (depth > 0) & (z > NEAR)
    z = np.where(front, z, np.float32(1))
    u, v = uz / z, vz / z
    inside = front & (u >= -0.5) & (u < camera.width - 0.5) & (v >= -0.5) & (v < camera.height - 0.5)
    u, v = np.where(inside, u, np.float32(0)), np.where(inside, v, np.float32(0))
    nearest = (np.minimum(np.floor(x + HALF).astype(int), size - 1)
               for x, size in ((v, camera.height), (u, camera.width)))
    measured = reference.depth[tuple(nearest)]
    known = measured > 0
    farther = np.where(known, (measured - z) / z, np.float32(0))
    shown = inside & (farther > -DEPTH_TOLERANCE)
    warped.shown[k], warped.beyond[k] = shown, shown & (farther > DEPTH_TOLERANCE)
    octaves = octaves_of(depth * to_reference.zoom / z)
    gain = warped.gains[k] / np.float32(1 << WEIGHT_BITS)
    rgb = sample_in_numpy(_PYRAMIDS.of(reference), u, v, octaves).astype(np.float32) * gain
    warped.rgb[k] = np.where(shown[..., None], (rgb + HALF).clip(0, 255), 0)
    scales = (255 * chord(depth, column, row, to_reference), 128 + OCTAVE * octaves,
              128 + np.float32(127) / DEPTH_RANGE * farther, np.where(known, 255, 0), rim(shown))
    for column_of, scale in enumerate(scales):
        warped.quality[k, ..., column_of] = np.where(shown, np.clip(scale + HALF, 0, 255), 0)


def octaves_of(ratio: np.ndarray) -> np.ndarray:
    """log2 of positive float32, exact at powers of 2 and linear between them: off by 0.09 at most, and cheap."""
    return ratio.view(np.int32).astype(np.float32) * np.float32(2**-23) - np.float32(127)


def chord(depth, column, row, to_reference: Projection):
    """2 sin(angle / 2), the angle between the rays from both cameras to the target's pixels."""
    ray, eye = to_reference.ray, to_reference.eye
    x, y, z = depth * ((column - ray[2]) * ray[0]), depth * ((row - ray[3]) * ray[1]), depth
    X, Y, Z = x - eye[0], y - eye[1], z - eye[2]
    cosine = (x * X + y * Y + z * Z) / np.sqrt(np.maximum((x * x + y * y + z * z) * (X * X + Y * Y + Z * Z), NEAR**4))
    return np.sqrt(np.maximum(np.float32(2) - np.float32(2) * cosine, np.float32(0)))


def rim(shown: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 0 to 255 from the border of a mask (H, W) bool inwards; the picture's own border is none."""
    radius = max(1, round(max(shown.shape) / FEATHER))
    around = cv2.blur(255 * shown.view(np.uint8), (2 * radius + 1,) * 2, borderType=cv2.BORDER_REPLICATE)
    return np.where(shown, np.maximum(around, 128) * 2 - 255, 0)  # half of what is around a border is shown


def sample_in_numpy(pyramid: Pyramid, u: np.ndarray, v: np.ndarray, octaves: np.ndarray) -> np.ndarray:
    """(H, W, 3) int64, WEIGHT_BITS of them a fraction: the picture at (u, v) of its full size, from the level whose
    pixels are 2 ** octaves as large, by cubic convolution in steps of 1 / FRACTIONS pixel."""
    chosen = np.clip((PER_OCTAVE * octaves + np.float32(FINER)).astype(int), 0, len(pyramid.levels) - 1)
    first, width, height = np.moveaxis(pyramid.levels[chosen], -1, 0)
    x, y = (np.floor(((place + HALF) * pyramid.scales[chosen, axis] - HALF) * np.float32(FRACTIONS) + HALF).astype(int)
            for axis, place in enumerate((u, v)))
    weights = WEIGHTS[y % FRACTIONS * FRACTIONS + x % FRACTIONS].astype(np.int64)
    x, y = x // FRACTIONS - 1, y // FRACTIONS - 1
    total = np.zeros((*u.shape, 3), np.int64)
    for j in range(4):
        for i in range(4):
            place = first + (y + j).clip(0, height - 1) * width + (x + i).clip(0, width - 1)
            total += weights[..., 4 * j + i, None] * unpack(pyramid.pixels[place])
    return total


def cubic_weights() -> np.ndarray:
    """(FRACTIONS^2, 16) int16: of the 4x4 pixels around each place between four (row by row, x the faster), the weights
    of cubic convolution (Keys 1981) with OpenCV's sharpness; each row sums up to 2 ** WEIGHT_BITS."""
    t = np.arange(FRACTIONS) / FRACTIONS
    outer = [SHARPNESS * (x**3 - 2 * x**2 + x) for x in (t, 1 - t)]
    inner = (SHARPNESS + 2) * t**3 - (SHARPNESS + 3) * t**2 + 1
    line = np.stack([outer[0], inner, 1 - inner - outer[0] - outer[1], outer[1]], axis=1)
    weights = np.rint((line[:, None, :, None] * line[None, :, None, :]).reshape(-1, 16) * (1 << WEIGHT_BITS))
    largest = weights.argmax(1)
    weights[np.arange(len(weights)), largest] += (1 << WEIGHT_BITS) - weights.sum(1)
    return weights.astype(np.int16)


WEIGHTS = cubic_weights()
