"""Where the pixels of several reference keyframes go in the target view, by the drawn depth, and how good each is.

A target pixel's surface point is projected into each reference. Its colour is taken, from the pyramid level whose
pixels are as large as the target's there, unless the reference shows something nearer. Colours are brought to the first
reference's exposure and white balance, where they overlap. The cost is that of a few array operations a reference, and
what comes out is aligned with the target and as sharp as the photographs are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.pyramid import PER_OCTAVE, Pyramid, Pyramids
from worldfm_ros.world.keyframes import Keyframe

NEAR = np.float32(1e-3)  # metres; what is not farther in front of the reference is not seen by it
DEPTH_TOLERANCE = np.float32(0.05)  # relative: measured this much nearer is in front, this much farther is behind
DEPTH_RANGE = 2 * DEPTH_TOLERANCE  # the relative difference of depth at the end of its scale
SHARPNESS = np.float32(-0.75)  # of the cubic kernel: its slope at a distance of one pixel
HALF = np.float32(0.5)
OCTAVE = 32  # steps of the resolution's scale to the octave
FEATHER = 64  # a mask's soft rim is this part of the picture's longer side wide

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
    def empty(cls, count: int, height: int, width: int) -> WarpedReferences:
        size = count, height, width
        return cls(np.zeros((*size, 3), np.uint8), np.zeros(size, bool), np.zeros(size, bool),
                   np.zeros((*size, QUALITIES), np.uint8), np.ones((count, 3), np.float32))


_PYRAMIDS = Pyramids()


def warp_references(references: Sequence[Keyframe], surface_depth: np.ndarray, T_world_camera: Pose,
                    intrinsics: Intrinsics) -> WarpedReferences:
    """The references seen by a camera for which every pixel's depth (H, W) float32, metres along z, is known.

    0 = not known; nothing is shown there. References may differ in size and camera; none is K = 0. Raises ValueError
    for a depth of another size than the camera's.
    """
    size = (intrinsics.height, intrinsics.width)
    if surface_depth.shape != size:
        raise ValueError(f"expected the depth of a {intrinsics.width}x{intrinsics.height} camera, {size}, "
                         f"got {surface_depth.shape}")
    warped = WarpedReferences.empty(len(references), *size)
    for k, reference in enumerate(references):
        _warp_in_numpy(reference, surface_depth, T_world_camera, intrinsics, warped, k)
    return warped


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

    @classmethod
    def between(cls, reference: Keyframe, T_world_camera: Pose, intrinsics: Intrinsics) -> Projection:
        T_reference_camera = reference.T_world_camera.inverse() @ T_world_camera
        K, R = reference.intrinsics.matrix, T_reference_camera.rotation.as_matrix()
        zoom = np.sqrt(np.linalg.det(K[:2, :2]) / (intrinsics.fx * intrinsics.fy))
        ray = [1 / intrinsics.fx, 1 / intrinsics.fy, intrinsics.cx, intrinsics.cy]
        return cls((K @ R @ np.linalg.inv(intrinsics.matrix)).astype(np.float32),
                   (K @ T_reference_camera.translation).astype(np.float32), np.array(ray, np.float32),
                   T_reference_camera.inverse().translation.astype(np.float32), np.float32(zoom))


def _warp_in_numpy(reference: Keyframe, depth: np.ndarray, T_world_camera: Pose, intrinsics: Intrinsics,
                   warped: WarpedReferences, k: int) -> None:
    """Fill the `k`-th of `warped`, but for its colours' balance."""
    to_reference, camera = Projection.between(reference, T_world_camera, intrinsics), reference.intrinsics
    row, column = np.ogrid[:np.float32(intrinsics.height), :np.float32(intrinsics.width)]
    uz, vz, z = (depth * (a * column + (b * row + c)) + o
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
    rgb = sample_in_numpy(_PYRAMIDS.of(reference), u, v, octaves)
    warped.rgb[k] = np.where(shown[..., None], rgb, 0)
    scales = (255 * chord(depth, column, row, to_reference), 128 + OCTAVE * octaves,
              128 + np.float32(127) / DEPTH_RANGE * farther, np.where(known, 255, 0), rim(shown))
    for column_of, scale in enumerate(scales):
        warped.quality[k, ..., column_of] = np.where(shown, np.clip(np.floor(scale + HALF), 0, 255), 0)


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
    return np.maximum(around, 128) * 2 - 255  # half of what is around a border is shown


def sample_in_numpy(pyramid: Pyramid, u: np.ndarray, v: np.ndarray, octaves: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the picture at (u, v) of its full size, from the level for pixels 2 ** octaves as large."""
    chosen = np.clip(np.floor(PER_OCTAVE * octaves + HALF).astype(int), 0, len(pyramid.levels) - 1)
    first, width, height = np.moveaxis(pyramid.levels[chosen], -1, 0)
    (x, wx), (y, wy) = (_taps((place + HALF) * (size / full).astype(np.float32) - HALF) for place, size, full in
                        ((u, width, pyramid.levels[0, 1]), (v, height, pyramid.levels[0, 2])))
    rgb = np.zeros((*u.shape, 3), np.float32)
    for j in range(4):
        line = np.zeros_like(rgb)
        for i in range(4):
            place = first + (y + j).clip(0, height - 1) * width + (x + i).clip(0, width - 1)
            line += wx[i][..., None] * pyramid.pixels[place]
        rgb += wy[j][..., None] * line
    return np.clip(rgb + HALF, 0, 255).astype(np.uint8)


def _taps(place: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first of the four pixels around each place, and their weights: cubic convolution (Keys 1981), as OpenCV's."""
    first = np.floor(place)
    t, a, one, two = place - first, SHARPNESS, np.float32(1), np.float32(2)
    s = one - t
    outer = [a * (x * (x * (x - two) + one)) for x in (t, s)]  # a (x^3 - 2 x^2 + x), of the pixel that is 2 - x away
    inner = (a + two) * t * t * t - (a + two + one) * t * t + one
    return first.astype(int) - 1, [outer[0], inner, one - inner - outer[0] - outer[1], outer[1]]
