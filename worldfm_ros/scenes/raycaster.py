"""Exact pictures of a procedural scene: colour, depth, labels and normals of any pinhole camera."""

from __future__ import annotations

from dataclasses import dataclass
import math
import os

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.scenes.lightmap import bake, in_bands, light_at, mix_paint, surface
from worldfm_ros.scenes.scene import Scene
from worldfm_ros.scenes.solids import face_of, kernel, localize, normal_of, pack, trace

MAX_SAMPLES = 16


@dataclass(frozen=True, eq=False)
class RayImage:
    """What a camera sees. Depth, labels and normals belong to the ray through the pixel's centre and are exact; colour
    is the mean of several rays. Where a ray leaves the scene: depth 0, label 0, normal 0."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32, metres along the optical z axis
    labels: np.ndarray  # (H, W) uint16
    normals: np.ndarray  # (H, W, 3) float32, world axes, facing the camera


class RayCaster:
    """Draws one scene from any pose. The light is worked out here, once (some seconds for an apartment), with a
    lightmap vertex every `texel` metres. The pictures depend on the scene only, not on the number of `workers`."""

    def __init__(self, scene: Scene, texel: float = 0.08, workers: int | None = None) -> None:
        if not 0.0 < texel < math.inf:
            raise ValueError(f"the lightmap's texel is a positive length in metres, got {texel}")
        self.scene = scene
        self._workers = workers or os.cpu_count() or 1
        self._geometry = pack(scene.primitives)
        self._paint = mix_paint(scene)
        self._labels = np.array([solid.label for solid in scene.primitives], np.uint16)
        self._ambient = np.array(scene.ambient, np.float64)
        self._lightmap = bake(scene, self._geometry, self._paint, texel, self._workers)

    def render(self, T_world_camera: Pose, intrinsics: Intrinsics, samples: int = 1) -> RayImage:
        """The picture from an optical frame; colour averages samples x samples rays a pixel."""
        if not 1 <= samples <= MAX_SAMPLES:
            raise ValueError(f"samples is the side of a pixel's grid of rays, 1 to {MAX_SAMPLES}, got {samples}")
        shape = (intrinsics.height, intrinsics.width)
        image = RayImage(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.float32),
                         np.zeros(shape, np.uint16), np.zeros((*shape, 3), np.float32))
        camera = np.array([intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy])
        in_bands(_render_rows, intrinsics.height, self._workers, self._geometry, self._paint, self._lightmap,
                 self._labels, self._ambient, self.scene.exposure, T_world_camera.matrix, camera, samples,
                 image.rgb, image.depth, image.labels, image.normals)
        return image


@kernel
def _render_rows(start, stop, geometry, paint, lightmap, labels, ambient, exposure, T, camera, samples,
                 rgb, depth, label, normals):
    scene = (geometry, paint, lightmap, ambient, exposure)
    for row in range(start, stop):
        for column in range(depth.shape[1]):
            dx, dy, dz = _direction(T, camera, column, row)
            t, i = trace(geometry, T[0, 3], T[1, 3], T[2, 3], dx, dy, dz, math.inf, False)
            if i >= 0:
                depth[row, column], label[row, column] = t, labels[i]
                normals[row, column] = _normal(geometry, i, T, dx, dy, dz, t)
            r, g, b = 0.0, 0.0, 0.0
            for k in range(samples * samples):
                if samples > 1:
                    dx, dy, dz = _direction(T, camera, column + (k % samples + 0.5) / samples - 0.5,
                                            row + (k // samples + 0.5) / samples - 0.5)
                    t, i = trace(geometry, T[0, 3], T[1, 3], T[2, 3], dx, dy, dz, math.inf, False)
                sample = _color(scene, i, T, dx, dy, dz, t, 1.0 / (camera[0] * samples))
                r, g, b = r + sample[0], g + sample[1], b + sample[2]
            pixel, weight = rgb[row, column], 1.0 / (samples * samples)
            pixel[0], pixel[1], pixel[2] = _encode(r * weight), _encode(g * weight), _encode(b * weight)


@kernel
def _direction(T, camera, u, v):
    """The world direction through pixel (u, v), of length 1 along the optical axis: t on it is depth."""
    x, y = (u - camera[2]) / camera[0], (v - camera[3]) / camera[1]
    return T[0, 0] * x + T[0, 1] * y + T[0, 2], T[1, 0] * x + T[1, 1] * y + T[1, 2], T[2, 0] * x + T[2, 1] * y + T[2, 2]


@kernel
def _normal(geometry, i, T, dx, dy, dz, t):
    """The unit normal of solid i at camera + t d, facing the camera."""
    f = geometry.frame[i]
    x, y, z = localize(geometry, i, T[0, 3] + t * dx - f[0], T[1, 3] + t * dy - f[1], T[2, 3] + t * dz - f[2])
    nx, ny, nz = normal_of(geometry, i, face_of(geometry.shape[i], x, y, z)[0], x, y, z)
    side = -1.0 if nx * dx + ny * dy + nz * dz > 0.0 else 1.0
    return side * nx, side * ny, side * nz


@kernel
def _color(scene, i, T, dx, dy, dz, t, pixel):
    """The displayed colour, 0..1 linear, of solid i at camera + t d; a pixel spans `pixel` metres at depth 1."""
    geometry, paint, lightmap, ambient, exposure = scene
    if i < 0:
        return _tone(exposure * ambient[0]), _tone(exposure * ambient[1]), _tone(exposure * ambient[2])
    nx, ny, nz = _normal(geometry, i, T, dx, dy, dz, t)
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    slant = max(-(nx * dx + ny * dy + nz * dz) / length, 0.05)
    blur = t * pixel * length / math.sqrt(slant)  # between the footprint's two widths
    face, u, v, r, g, b = surface(geometry, paint, i, T[0, 3] + t * dx, T[1, 3] + t * dy, T[2, 3] + t * dz, blur)
    e = light_at(lightmap, i, face, u, v)
    glow = paint.emission[i]
    return (_tone(exposure * r * (e[0] + glow)), _tone(exposure * g * (e[1] + glow)),
            _tone(exposure * b * (e[2] + glow)))


@kernel
def _tone(x):
    """A filmic curve from linear light to linear display, 0..1 (Narkowicz's fit of ACES)."""
    return min(max(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0.0), 1.0)


@kernel
def _encode(x):
    return int(255.0 * x ** (1.0 / 2.2) + 0.5)
