"""Light on the surfaces of a scene, worked out once and then looked up by every view (numba).

Each of a solid's six faces carries a grid of vertices that hold the irradiance: direct light with soft shadows, and one
bounce off the surfaces around, which darkens corners and tints walls. Lambertian, so it holds from every side.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
import math
from typing import NamedTuple

import numpy as np

from worldfm_ros.scenes.scene import Light, Scene
from worldfm_ros.scenes.solids import (
    BOX,
    CYLINDER,
    SPHERE,
    Geometry,
    face_of,
    kernel,
    localize,
    normal_of,
    point_of,
    trace,
)
from worldfm_ros.scenes.textures import albedo

OFFSET = 1e-3  # metres; light rays start this far off their surface, and vertices lie this far inside a face's edges
LIGHT_GRID = ((0.5, 4), (0.0, 2))  # a light is sampled n times along extents above that many metres
BOUNCE_RAYS = 96
BOUNCE_BLUR = 0.5  # metres; what bounces is blurred by this and
BOUNCE_LIMIT = 1.5  # limited to this first, or each ray would cast its own image of a sunny spot or a lamp's halo
FAINT = 3e-4  # irradiance below this is not worth a shadow ray
FACE_AXES = np.array([[1, 2], [0, 2], [0, 1]])  # the axes of u and v on the faces across x, y and z


class Paint(NamedTuple):
    """The materials of the solids (P, ...); colours are linear."""

    texture: np.ndarray
    colors: np.ndarray
    scale: np.ndarray
    emission: np.ndarray
    seed: np.ndarray


class Lightmap(NamedTuple):
    """faces (P, 6, 3): first vertex and the number of vertices along u and v; irradiance (V, 3) float32, linear."""

    faces: np.ndarray
    irradiance: np.ndarray


def mix_paint(scene: Scene) -> Paint:
    materials = [solid.material for solid in scene.primitives]
    colors = np.array([(m.colors * 3)[:3] for m in materials]) ** 2.2
    rows = ((int(m.texture), m.scale, m.emission, m.seed) for m in materials)
    texture, scale, emission, seed = (np.array(column) for column in zip(*rows, strict=True))
    return Paint(texture, colors, scale.astype(np.float64), emission.astype(np.float64), seed)


def in_bands(work: Callable, count: int, workers: int, *arguments) -> None:
    """Call work(start, stop, *arguments) for bands of range(count) on threads. `work` is a nogil kernel."""
    edges = np.linspace(0, count, min(4 * workers, count) + 1).astype(int)
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, start, stop, *arguments) for start, stop in pairwise(edges)]:
            done.result()


def bake(scene: Scene, geometry: Geometry, paint: Paint, texel: float, workers: int) -> Lightmap:
    """The lightmap of a scene with a vertex every `texel` metres."""
    faces, count = _layout(geometry, texel)
    points, normals, buried = np.zeros((count, 3)), np.zeros((count, 3)), np.zeros(count, np.bool_)
    in_bands(_place_vertices, len(faces), workers, geometry, faces, points, normals, buried)
    direct = np.zeros((count, 3), np.float32)
    in_bands(_direct, count, workers, geometry, sample_lights(scene.lights), points, normals, buried, direct)
    _fill_buried(faces, buried.copy(), direct)
    reflected = np.minimum(direct, 4.0 * BOUNCE_LIMIT)
    for _ in range(2):
        reflected = _blur(faces, reflected, max(round(0.5 * BOUNCE_BLUR / texel), 1))
    reflected = Lightmap(faces, np.minimum(reflected, BOUNCE_LIMIT))
    indirect = np.zeros_like(direct)
    in_bands(_bounce, count, workers, geometry, paint, reflected, np.array(scene.ambient, np.float64),
             _cosine_directions(BOUNCE_RAYS), points, normals, buried, indirect)
    _fill_buried(faces, buried, indirect)
    return Lightmap(faces, direct + _blur(faces, indirect, 2))


def _layout(geometry: Geometry, texel: float) -> tuple[np.ndarray, int]:
    half = geometry.frame[:, 5:]
    sizes = np.clip(np.ceil(2.0 * half / texel).astype(np.int64) + 1, 2, 1024)[:, FACE_AXES[[0, 0, 1, 1, 2, 2]]]
    counts = sizes.prod(axis=2).ravel()
    first = np.concatenate([[0], np.cumsum(counts)])
    return np.concatenate([first[:-1].reshape(-1, 6, 1), sizes], axis=2), int(first[-1])


def sample_lights(lights: tuple[Light, ...]) -> np.ndarray:
    """(S, 9): position, intensity and direction (0 for all round) of the point samples of all lights."""
    rows = []
    for light in lights:
        counts = (next((n for above, n in LIGHT_GRID if extent > above), 1) for extent in light.size)
        steps = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
        offsets = [np.multiply(step, light.size) for step in product(*steps)]
        direction = np.array(light.direction or (0.0, 0.0, 0.0), np.float64)
        direction /= np.linalg.norm(direction) or 1.0
        rows += [[*(light.position + o), *np.divide(light.intensity, len(offsets)), *direction] for o in offsets]
    return np.array(rows).reshape(-1, 9)


def _cosine_directions(count: int) -> np.ndarray:
    """(count, 3) directions about +z, as dense as the cosine, on a Fibonacci spiral."""
    k = np.arange(count)
    radius, angle = np.sqrt((k + 0.5) / count), k * math.pi * (3.0 - math.sqrt(5.0))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1.0 - radius**2)], axis=1)


@kernel
def _place_vertices(start, stop, geometry, faces, points, normals, buried):
    """Where the vertices of solids start..stop lie, just off their surface, and which are inside another solid."""
    for i in range(start, stop):
        f = geometry.frame[i]
        for face in range(6):
            first, nu, nv = faces[i, face]
            axis = face // 2
            hu, hv = f[5 + (1 if axis == 0 else 0)], f[5 + (1 if axis == 2 else 2)]
            for k in range(nu * nv):
                u = (2.0 * (k // nv) / (nu - 1) - 1.0) * (1.0 - min(OFFSET / hu, 0.5))
                v = (2.0 * (k % nv) / (nv - 1) - 1.0) * (1.0 - min(OFFSET / hv, 0.5))
                x, y, z = point_of(geometry.shape[i], face, u, v)
                nx, ny, nz = normal_of(geometry, i, face, x, y, z)
                x, y, z = x * f[5], y * f[6], z * f[7]
                p = points[first + k]
                p[0] = f[0] + f[3] * x - f[4] * y + OFFSET * nx
                p[1] = f[1] + f[4] * x + f[3] * y + OFFSET * ny
                p[2] = f[2] + z + OFFSET * nz
                normals[first + k] = nx, ny, nz
                buried[first + k] = _inside_another(geometry, i, p)


@kernel
def _inside_another(geometry, i, p):
    for k in range(len(geometry.shape)):
        f = geometry.frame[k]
        x, y, z = localize(geometry, k, p[0] - f[0], p[1] - f[1], p[2] - f[2])
        if k == i or abs(z) >= 1.0 or abs(x) >= 1.0 or abs(y) >= 1.0:
            continue
        across = x * x + y * y
        if geometry.shape[k] == BOX or (across < 1.0 and (geometry.shape[k] == CYLINDER or across + z * z < 1.0)):
            return True
    return False


@kernel
def _direct(start, stop, geometry, lights, points, normals, buried, irradiance):
    for k in range(start, stop):
        if buried[k]:
            continue
        p, n = points[k], normals[k]
        for light in lights:
            x, y, z = light[0] - p[0], light[1] - p[1], light[2] - p[2]
            r2 = x * x + y * y + z * z
            weight = (n[0] * x + n[1] * y + n[2] * z) / (r2 * math.sqrt(r2))
            if light[6] != 0.0 or light[7] != 0.0 or light[8] != 0.0:
                weight *= -(light[6] * x + light[7] * y + light[8] * z) / math.sqrt(r2)
                if x * light[6] + y * light[7] + z * light[8] >= 0.0:
                    continue
            if weight * max(light[3], light[4], light[5]) < FAINT:
                continue
            if trace(geometry, p[0], p[1], p[2], x, y, z, 1.0 - 1e-9, True)[1] < 0:
                for c in range(3):
                    irradiance[k, c] += weight * light[3 + c]


@kernel
def _bounce(start, stop, geometry, paint, lightmap, ambient, directions, points, normals, buried, irradiance):
    """Add the light that comes from the surfaces around: `lightmap` and ambient light off their albedo."""
    for k in range(start, stop):
        if buried[k]:
            continue
        p, n = points[k], normals[k]
        sign = 1.0 if n[2] >= 0.0 else -1.0  # tangents as in Duff et al. 2017
        a = -1.0 / (sign + n[2])
        b = n[0] * n[1] * a
        for direction in directions:
            s, t, c = direction
            x = s * (1.0 + sign * n[0] * n[0] * a) + t * b + c * n[0]
            y = s * sign * b + t * (sign + n[1] * n[1] * a) + c * n[1]
            z = -s * sign * n[0] - t * n[1] + c * n[2]
            distance, i = trace(geometry, p[0], p[1], p[2], x, y, z, math.inf, False)
            r, g, b_ = 1.0, 1.0, 1.0
            e = (0.0, 0.0, 0.0)
            if i >= 0:
                face, u, v, r, g, b_ = surface(geometry, paint, i, p[0] + distance * x, p[1] + distance * y,
                                               p[2] + distance * z, 0.1)
                e = light_at(lightmap, i, face, u, v)
            irradiance[k, 0] += r * (e[0] + ambient[0]) / len(directions)
            irradiance[k, 1] += g * (e[1] + ambient[1]) / len(directions)
            irradiance[k, 2] += b_ * (e[2] + ambient[2]) / len(directions)


@kernel
def _fill_buried(faces, buried, irradiance):
    """Give vertices inside other solids the mean of their neighbours, ring by ring, so that they do not darken the
    visible surface beside them."""
    for first, nu, nv in faces.reshape(-1, 3):
        for _ in range(3):
            known = buried[first:first + nu * nv].copy()
            for k in range(nu * nv):
                if not known[k]:
                    continue
                total, count = np.zeros(3), 0
                for i in range(max(k // nv - 1, 0), min(k // nv + 2, nu)):
                    for j in range(max(k % nv - 1, 0), min(k % nv + 2, nv)):
                        if not known[i * nv + j]:
                            total += irradiance[first + i * nv + j]
                            count += 1
                if count:
                    irradiance[first + k] = total / count
                    buried[first + k] = False


@kernel
def _blur(faces, irradiance, radius):
    """The mean of `irradiance` over squares of 2 radius + 1 vertices of a face, from its summed area table."""
    out = np.empty_like(irradiance)
    for first, nu, nv in faces.reshape(-1, 3):
        sums = np.zeros((nu + 1, nv + 1, 3))
        for i in range(nu):
            for j in range(nv):
                sums[i + 1, j + 1] = irradiance[first + i * nv + j] + sums[i, j + 1] + sums[i + 1, j] - sums[i, j]
        for i in range(nu):
            for j in range(nv):
                a, b = max(i - radius, 0), min(i + radius + 1, nu)
                c, d = max(j - radius, 0), min(j + radius + 1, nv)
                out[first + i * nv + j] = (sums[b, d] - sums[a, d] - sums[b, c] + sums[a, c]) / ((b - a) * (d - c))
    return out


@kernel
def light_at(lightmap, i, face, u, v):
    """Irradiance (r, g, b) of solid i at (face, u, v), bilinear."""
    first, nu, nv = lightmap.faces[i, face]
    x, y = (min(max(u, -1.0), 1.0) + 1.0) * 0.5 * (nu - 1), (min(max(v, -1.0), 1.0) + 1.0) * 0.5 * (nv - 1)
    j, k = min(int(x), nu - 2), min(int(y), nv - 2)
    x, y = x - j, y - k
    e, at = lightmap.irradiance, first + j * nv + k
    w00, w01, w10, w11 = (1.0 - x) * (1.0 - y), (1.0 - x) * y, x * (1.0 - y), x * y
    return (w00 * e[at, 0] + w01 * e[at + 1, 0] + w10 * e[at + nv, 0] + w11 * e[at + nv + 1, 0],
            w00 * e[at, 1] + w01 * e[at + 1, 1] + w10 * e[at + nv, 1] + w11 * e[at + nv + 1, 1],
            w00 * e[at, 2] + w01 * e[at + 1, 2] + w10 * e[at + nv, 2] + w11 * e[at + nv + 1, 2])


@kernel
def surface(geometry, paint, i, x, y, z, blur):
    """(face, u, v, r, g, b): the place on solid i of a world point on its surface, and the linear albedo there."""
    f = geometry.frame[i]
    px, py, pz = localize(geometry, i, x - f[0], y - f[1], z - f[2])
    face, u, v = face_of(geometry.shape[i], px, py, pz)
    x, y = f[3] * x + f[4] * y, f[3] * y - f[4] * x
    axis = face // 2
    if geometry.shape[i] == SPHERE or (geometry.shape[i] == CYLINDER and axis != 2):  # wrapped around
        s, t, w, h = math.atan2(py, px) * f[5], z, 2.0 * f[5], 2.0 * f[7]
    elif axis == 0:
        s, t, w, h = y, z, 2.0 * f[6], 2.0 * f[7]
    elif axis == 1:
        s, t, w, h = x, z, 2.0 * f[5], 2.0 * f[7]
    else:
        s, t, w, h = x, y, 2.0 * f[5], 2.0 * f[6]
    r, g, b = albedo(paint.texture[i], paint.colors[i], paint.scale[i], paint.seed[i], s, t, u, v, w, h, blur)
    return face, u, v, r, g, b
