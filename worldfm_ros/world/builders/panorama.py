"""A world from one equirectangular panorama: the released offline stage's geometry (paper 2.2, offline stage).

The panorama's centre is ahead (x), its left half to the left (y); columns are angles about z, rows angles from straight
up, without half a pixel: row 0 is the zenith, column 0 is behind. A pixel's distance is along its ray. The 42 reference
views are crops at the panorama's own place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import math

import cv2
import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from worldfm_ros.depth.completion import DepthCompleter
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.panorama import Panorama
from worldfm_ros.world.builders.fusion import VoxelMeans
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.storage import World

CROP = 504  # pixels a side
FOCAL = 320 / 504  # of a crop, in sides
PITCHES = tuple(math.radians(degrees) for degrees in (0, 45, -45, 30, -30))  # upwards
YAWS = tuple(math.radians(degrees) for degrees in (0, 45, 90, 135, 180, -135, -90, -45))  # to the right
ESTIMATED = 512  # rows of the map of distances that are estimated


@dataclass(frozen=True)
class PanoramaSettings:
    """How a panorama becomes a world.

    voxel: the distance between anchors, metres. crop: width and height of the 42 reference pictures, pixels.
    edge: neighbours whose distances jump by more than this fraction are of two surfaces, and are no anchors.
    """

    voxel: float = 0.01
    crop: int = CROP
    edge: float = 0.1

    def __post_init__(self) -> None:
        if not 1e-4 <= self.voxel <= 10.0:
            raise ValueError(f"the voxel size is between 0.0001 and 10 metres, got {self.voxel}")
        if not 16 <= self.crop <= 2048 or not self.edge > 0:
            raise ValueError(f"crops are 16 to 2048 pixels wide and the edge is positive, got {self.crop}, {self.edge}")


def build(panorama: Panorama, name: str, settings: PanoramaSettings = PanoramaSettings(), metric: bool = True,
          track: Callable[[Iterable], Iterable] = iter) -> World:
    """Anchors from all pixels, and the 42 crops as keyframes. `track` wraps the loop over these (a progress bar)."""
    surface = VoxelMeans(settings.voxel)
    keep = ~at_edges(panorama.distance, settings.edge)
    distance = panorama.distance[keep]
    surface.insert(directions(*panorama.distance.shape)[keep] * distance[:, None], panorama.rgb[keep], distance,
                   distance * np.float32(math.pi / len(panorama.rgb)))
    keyframes = [crop(panorama, pose, camera(settings.crop), number)
                 for number, pose in enumerate(track(reference_poses()))]
    return World(name, surface.anchors(), keyframes, settings.voxel, metric=metric)


def directions(height: int, width: int) -> np.ndarray:
    """(H, W, 3) float64: each pixel's unit ray, x forward, y left, z up."""
    theta = 2.0 * np.pi * np.arange(width) / width - np.pi
    phi = np.pi * np.arange(height)[:, None] / height
    return np.stack([np.sin(phi) * np.cos(theta), -np.sin(phi) * np.sin(theta),
                     np.cos(phi) * np.ones_like(theta)], axis=-1)


def pixels(rays: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows at which rays (..., 3), x forward, y left, z up, of any length meet a panorama."""
    theta = np.arctan2(-rays[..., 1], rays[..., 0])
    phi = np.arccos(np.clip(rays[..., 2] / np.linalg.norm(rays, axis=-1), -1, 1))
    return (theta + np.pi) * width / (2 * np.pi), phi * height / np.pi


def camera(side: int) -> Intrinsics:
    """Of a crop; its principal point is at half its side, as released."""
    return Intrinsics(side, side, FOCAL * side, FOCAL * side, side / 2, side / 2)


def reference_poses() -> list[Pose]:
    """T_world_camera of the 42 crops: 8 directions at each of 5 pitches, then straight up and down."""
    poses = []
    for pitch in PITCHES:
        for yaw in YAWS:
            level, up = math.cos(pitch), math.sin(pitch)
            forward = np.array([math.cos(yaw) * level, -math.sin(yaw) * level, up])
            poses.append(_looking(forward, np.cross(forward, [0.0, 0.0, 1.0])))
    return poses + [_looking(np.array([0.0, 0.0, up]), np.array([0.0, -1.0, 0.0])) for up in (1.0, -1.0)]


def _looking(forward: np.ndarray, right: np.ndarray) -> Pose:
    right = right / np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    return Pose(Rotation.from_matrix(axes), np.zeros(3))


def crop(panorama: Panorama, pose: Pose, intrinsics: Intrinsics, number: int) -> Keyframe:
    """What a pinhole camera at the panorama's place sees: colours between pixels, the nearest pixel's distance."""
    rays = intrinsics.unproject(np.ones((intrinsics.height, intrinsics.width)))
    height, width = panorama.distance.shape
    rotated = rays @ pose.rotation.as_matrix().T
    column, row = pixels(rotated, height, width)
    distance = panorama.distance[np.rint(row).astype(int).clip(0, height - 1), np.rint(column).astype(int) % width]
    depth = distance / np.linalg.norm(rays, axis=-1)
    colors = between(panorama.rgb, *pixels(rotated, *panorama.rgb.shape[:2]))
    return Keyframe(number, colors, depth.astype(np.float32), intrinsics, pose)


def between(rgb: np.ndarray, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Bilinear colours (..., 3) uint8; columns wrap around, rows end at the poles."""
    height, width = rgb.shape[:2]
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    u, v = (column - left)[..., None], (row - top)[..., None]
    x0, x1 = left % width, (left + 1) % width
    y0, y1 = top.clip(0, height - 1), (top + 1).clip(0, height - 1)
    upper = (1 - u) * rgb[y0, x0] + u * rgb[y0, x1]
    lower = (1 - u) * rgb[y1, x0] + u * rgb[y1, x1]
    return ((1 - v) * upper + v * lower + 0.5).astype(np.uint8)


def at_edges(distance: np.ndarray, edge: float) -> np.ndarray:
    """(H, W) bool: pixels that float between a nearer surface and one farther away."""
    around = np.pad(np.pad(distance, ((0, 0), (1, 1)), "wrap"), ((1, 1), (0, 0)), "edge")
    kernel = np.ones((3, 3), np.uint8)
    nearest, farthest = (f(around, kernel)[1:-1, 1:-1] for f in (cv2.erode, cv2.dilate))
    return (distance > (1 + edge) * nearest) & (farthest > (1 + edge) * distance)


def estimated(rgb: np.ndarray, completer: DepthCompleter, track: Callable[[Iterable], Iterable] = iter) -> np.ndarray:
    """Distances (H, 2 H) of a panorama without a map: one of the 42 crops after the other is completed, from what the
    crops before it have found."""
    height = min(ESTIMATED, len(rgb))
    rays, view = directions(height, 2 * height), camera(256)
    known = np.zeros(rays.shape[:2], np.float32)
    for number, pose in enumerate(track(reference_poses())):
        seen = crop(Panorama(rgb, known), pose, view, number)
        found = completer.complete(seen.rgb, seen.depth, view).depth
        local = rays @ pose.rotation.as_matrix()
        front = (local[..., 2] > 1e-3) & (known == 0)
        u, v = view.project(local[front]).T
        z = np.where((u >= 0) & (v >= 0) & (u <= view.width - 1) & (v <= view.height - 1),
                     map_coordinates(found, [v, u], order=1, mode="nearest"), 0)
        known[front] = z / local[front][:, 2]
    return cv2.resize(known, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
