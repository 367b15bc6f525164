"""What `worldfm bench render` measures: our renderer and Open3D's, in turns, on the same points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import json
import subprocess
import sys
import tempfile
import time

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.anchors import FIELDS, TILE, AnchorMap, Anchors
from worldfm_ros.world.renderer import THREADS, AnchorView, render
from worldfm_ros.world.storage import World, write_world

CLOSING = 0.75  # splat radius over point spacing that closes a surface (half the diagonal of a grid cell is 0.71)
DEPTH_MAX = 1000.0  # metres, Open3D's cut
SPACING = 0.016  # metres between the points of a room of 1 M


@dataclass(frozen=True, eq=False)
class RenderCase:
    """One scene and one camera: points (N, 3) float64 in the order in which they came, and the map made of them."""

    name: str
    points: np.ndarray
    colors: np.ndarray
    anchors: AnchorMap
    T_world_camera: Pose
    intrinsics: Intrinsics


def render_cases(points: int) -> Iterator[RenderCase]:
    """The scenes: a cloud that fills the view, and a furnished room seen from its middle and from 0.3 m off a wall."""
    square, vga = Intrinsics.from_hfov(512, 512, np.radians(60)), Intrinsics.from_hfov(640, 480, np.radians(70))
    rng = np.random.default_rng(0)
    depth = rng.uniform(1.0, 8.0, points)
    u, v = rng.uniform(-0.5, 511.5, (2, points))
    rays = np.stack([(u - square.cx) / square.fx, (v - square.cy) / square.fy, np.ones(points)], axis=1)
    cloud = rays * depth[:, None]
    colors = rng.integers(0, 256, (points, 3), dtype=np.uint8)
    for name, radius in (("cloud 1 px", 0.0), ("cloud r=1 px", depth / square.fx)):
        anchors = AnchorMap.from_points(cloud, colors, radius=radius)
        yield RenderCase(name, cloud, colors, anchors, Pose.identity(), square)
    room = room_scene(points, rng)
    middle, wall = (Pose.looking_at(*line) for line in (([-1, -1, 1.4], [4, 1.5, 1]), ([3.7, 0.5, 1.4], [4, 0.5, 1.4])))
    yield RenderCase("room", *room, middle, square)
    yield RenderCase("room", *room, middle, vga)
    yield RenderCase("room wall", *room, wall, vga)
    yield RenderCase("room", *room_scene(4 * points, rng), middle, square)


def room_scene(points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, AnchorMap]:
    """Points, colours and map: the walls of an 8 x 6 x 2.7 m room and 12 boxes in it, face by face, at random places on
    each face; the splats just close the faces."""
    boxes = [(np.array([-4.0, -3.0, 0.0]), np.array([4.0, 3.0, 2.7]))]
    for _ in range(12):
        size = rng.uniform(0.3, 1.2, 3)
        corner = np.array([*rng.uniform([-4.0, -3.0], [2.8, 1.8]), 0.0])
        boxes.append((corner, corner + size))
    faces = [(low, high, axis, end) for low, high in boxes for axis in range(3) for end in (low[axis], high[axis])]
    areas = np.array([np.prod(np.delete(high - low, axis)) for low, high, axis, _ in faces])
    clouds, colors = [], []
    for (low, high, axis, end), n in zip(faces, rng.multinomial(points, areas / areas.sum()), strict=True):
        face = rng.uniform(low, high, (n, 3))
        face[:, axis] = end
        clouds.append(face)
        colors.append(np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (n, 3)))
    spacing = np.sqrt(areas.sum() / points)
    cloud, color = np.concatenate(clouds), np.concatenate(colors)
    return cloud, color, AnchorMap.from_points(cloud, color, radius=CLOSING * spacing)


def large_map(room: AnchorMap, points: int) -> AnchorMap:
    """A room, and so many copies of it behind the camera that the map has `points` points. They share their arrays."""
    anchors = AnchorMap()
    for k in range(max(1, round(points / len(room)))):
        shift = np.array([-4 * TILE * (k % 8 + (k > 0)), 3 * TILE * (k // 8), 0.0]) if k else np.zeros(3)
        for tile in room.tiles:
            anchors.insert_tile(Anchors(tile.origin + shift, *(getattr(tile, name) for name in FIELDS)))
    return anchors


def measure_large(seen_points: int, points: int, repeats: int, budget: int) -> dict:
    """A room of `seen_points` alone and in a map of `points`: in memory, and on the disk with `budget` MiB kept."""
    square = Intrinsics.from_hfov(512, 512, np.radians(60))
    pose = Pose.looking_at([-1, -1, 1.4], [4, 1.5, 1])
    room = room_scene(seen_points, np.random.default_rng(0))[2]
    anchors = large_map(room, points)
    with tempfile.TemporaryDirectory() as folder:
        write_world(World("large", anchors, [], SPACING), folder)
        command = [sys.executable, "-m", "worldfm_ros.bench.stored", folder, str(budget), str(repeats)]
        stored = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def seen(of: AnchorMap) -> Callable[[], AnchorView]:
        return lambda: render(of.visible(pose, square), pose, square)

    works = seen(room), seen(anchors)
    seconds = np.array([[clock(work) for work in works] for _ in range(repeats + 1)])[1:]
    alone, ms = (float(x) for x in 1e3 * np.median(seconds, axis=0))
    return {"points": len(anchors), "alone_ms": alone, "ms": ms, "ratio": ms / alone, "stored_ms": stored["ms"],
            "stored_ratio": stored["ms"] / alone, "budget_mb": budget, "resident_mb": stored["resident_mb"],
            "tiles_mb": stored["tiles_mb"]}


def measure_case(case: RenderCase, repeats: int) -> dict:
    """Time the renderers in turns, after one run of each that is not timed."""
    tiles = case.anchors.tiles
    theirs = open3d_renderer(case, case.points, case.colors)
    theirs_sorted = open3d_renderer(case, *(np.concatenate([getattr(tile, name) for tile in tiles])
                                            for name in ("world_points", "colors")))

    def ours() -> AnchorView:
        return render(case.anchors.visible(case.T_world_camera, case.intrinsics), case.T_world_camera, case.intrinsics)

    seconds = np.array([[clock(work) for work in (ours, theirs, theirs_sorted)] for _ in range(repeats + 1)])[1:]
    ms, open3d_ms, open3d_sorted_ms = (float(x) for x in 1e3 * np.median(seconds, axis=0))
    return {"name": case.name, "points": len(case.points), "visible": count_visible(case),
            "width": case.intrinsics.width, "height": case.intrinsics.height, "threads": THREADS,
            "ms": ms, "open3d_ms": open3d_ms, "open3d_sorted_ms": open3d_sorted_ms, "speedup": open3d_ms / ms,
            "agree": agreement(case, theirs())}


def clock(work: Callable) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def open3d_renderer(case: RenderCase, points: np.ndarray, colors: np.ndarray) -> Callable[[], np.ndarray]:
    """A function that draws world points (N, 3), colours (N, 3) uint8, with Open3D for the case's camera. It
    returns the depth image (H, W), metres, 0 = none."""
    try:
        import open3d as o3d
    except ImportError as error:
        raise ImportError("the render benchmark compares with Open3D: pip install open3d "
                          "(it needs the system libraries libusb-1.0-0 libgl1 libegl1 libgomp1)") from error
    cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor(points.astype(np.float32)))
    cloud.point.colors = o3d.core.Tensor(colors.astype(np.float32) / 255)
    K = o3d.core.Tensor(case.intrinsics.matrix)
    T_camera_world = o3d.core.Tensor(case.T_world_camera.inverse().matrix)

    def draw() -> np.ndarray:
        image = cloud.project_to_rgbd_image(case.intrinsics.width, case.intrinsics.height, K, T_camera_world,
                                            depth_scale=1.0, depth_max=DEPTH_MAX)
        return image.depth.as_tensor().numpy()[..., 0]

    return draw


def agreement(case: RenderCase, other_depth: np.ndarray) -> float:
    """The share of covered pixels whose depth is the same within 0.1 % when every point is one pixel."""
    tiles = [type(tile)(tile.origin, tile.points, tile.colors, tile.labels, np.zeros_like(tile.radius))
             for tile in case.anchors.visible(case.T_world_camera, case.intrinsics)]
    depth = render(tiles, case.T_world_camera, case.intrinsics).depth
    covered = (depth > 0) | (other_depth > 0)
    return float(np.mean(np.isclose(depth, other_depth, rtol=1e-3)[covered]))


def count_visible(case: RenderCase) -> int:
    """Points whose centre falls into the image, hidden ones too."""
    camera = case.T_world_camera.inverse().apply(case.points)
    camera = camera[camera[:, 2] > 0]
    size = [case.intrinsics.width, case.intrinsics.height]
    pixels = case.intrinsics.project(camera)
    return int(np.all((pixels >= -0.5) & (pixels < np.subtract(size, 0.5)), axis=1).sum())
