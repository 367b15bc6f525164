"""The paper's offline stage for one picture (2.2): what it does not show is invented, view by view, from where it does.

Its depth is completed from nothing and makes the first anchors. Then the camera moves over a region around, always to
the pose from which most, but not all, is known; the frame model paints what it sees there, its depth is completed from
what the anchors show, and it is inserted: until all of the region's views are known. Where the picture shows the planes
of a room, and the scale is known, they go on first (layout/). The camera stands at the origin and looks along x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import math

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.depth.completion import DepthCompleter
from worldfm_ros.frame_model.imaging import resize
from worldfm_ros.generator import FrameGenerator, FrameModel
from worldfm_ros.geometry import T_BODY_OPTICAL, Intrinsics, Pose
from worldfm_ros.growth import holes, room_view
from worldfm_ros.layout.rooms import House
from worldfm_ros.sources.image import SMALLEST
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.builders.fusion import FusionSettings, VoxelMeans, trustworthy_depth
from worldfm_ros.world.insertion import CERTAIN, contradicted
from worldfm_ros.world.keyframes import NOT_LENT, Keyframe, lookup
from worldfm_ros.world.renderer import AnchorView, render
from worldfm_ros.world.storage import World

LARGEST = 8192  # pixels, of a picture's sides
LOOK = 64  # pixels, the width at which poses are looked at before one is taken
WANTED = 0.7  # of a view that is known: enough to go on from, and something new
CLEARANCE = 0.1  # of the picture's median depth; no camera is nearer than this to anything
SURE = 0.2  # confidence from which invented depth is inserted


@dataclass(frozen=True)
class ImageSettings:
    """How far a world is made around a picture.

    radius: of the region that the camera can move in, in the world's units. step: between its places.
    sweep: degrees that it can turn to either side; 180 = all around. turn: degrees between its directions.
    covered: a view is known when anchors cover this share of it. views: at most so many are painted.
    width: pixels of the pictures that are painted. voxel: between anchors, in the world's units.
    """

    radius: float = 0.5
    step: float = 0.5
    sweep: float = 180.0
    turn: float = 30.0
    covered: float = 0.97
    views: int = 40
    width: int = 384
    voxel: float = 0.005

    def __post_init__(self) -> None:
        if not (self.radius >= 0 and 1e-3 <= self.step and 0 <= self.sweep <= 180 and 5 <= self.turn <= 90):
            raise ValueError("radius is 0 or more, step 0.001 or more, sweep 0 to 180 and turn 5 to 90 degrees, "
                             f"got {self}")
        if not (0 < self.covered <= 1 and self.views >= 0 and SMALLEST <= self.width <= LARGEST
                and 1e-4 <= self.voxel <= 10):
            raise ValueError(f"covered is a share, views 0 or more, width {SMALLEST} to {LARGEST} pixels and voxel "
                             f"0.0001 to 10, got {self}")


def build(rgb: np.ndarray, intrinsics: Intrinsics, name: str, completer: DepthCompleter, model: FrameModel,
          settings: ImageSettings = ImageSettings(), scale: float | None = None,
          track: Callable[[Iterable], Iterable] = iter) -> World:
    """A world from a picture (H, W, 3) uint8 with its camera. scale: metres a unit of its depth; None = not known.

    `track` wraps the loop over the views (a progress bar).
    """
    world = World(name, AnchorMap(), [], settings.voxel, metric=scale is not None or completer.metric)
    camera = intrinsics.resized(settings.width, max(SMALLEST, round(settings.width * rgb.shape[0] / rgb.shape[1])))
    first = completer.complete(rgb, None, intrinsics)
    depth = first.depth * np.float32(scale or 1.0)
    reach = FusionSettings(voxel=settings.voxel, max_depth=float(2 * depth.max()))
    picture = RgbdFrame(0, rgb, depth, intrinsics, T_BODY_OPTICAL)
    insert(world, picture, np.ones(depth.shape, bool), first.confidence, reach)
    generator, house = FrameGenerator(world, model), House(world)
    house.around(T_BODY_OPTICAL.translation)  # found in the picture alone
    poses = free(region(settings), world.keyframes[0], depth)
    for _ in track(range(settings.views)):
        pose = next_view(world.anchors, poses, camera, settings, CLEARANCE * float(np.median(depth)))
        if pose is None:
            break
        poses.remove(pose)
        room = room_view(world, house, pose, camera)
        if room is not None:
            view = RgbdFrame(len(world.keyframes), room.rgb, room.depth, room.intrinsics, pose, room.labels)
            insert(world, view, ~room.known & (room.confidence >= SURE), room.confidence, reach)
        frame = generator.generate(pose, camera)
        dense = completer.complete(frame.rgb, frame.depth, camera)
        view = RgbdFrame(len(world.keyframes), frame.rgb, dense.depth, camera, pose)
        insert(world, view, holes(frame.coverage) & (dense.confidence >= SURE), dense.confidence, reach)
    return world


def insert(world: World, view: RgbdFrame, new: np.ndarray, confidence: np.ndarray, settings: FusionSettings) -> None:
    """Anchors of the pixels `new` (H, W) bool, without depth edges and what another view looks through; a keyframe.

    Each anchor knows its view and the confidence (H, W), 0..1, of its depth.
    """
    depth = trustworthy_depth(view, settings) * new
    rows, columns = np.nonzero(depth)
    wrong = contradicted(view.T_world_camera.apply(view.intrinsics.unproject(depth)[rows, columns]), world.keyframes)
    depth[rows[wrong], columns[wrong]] = 0
    surface = VoxelMeans(settings.voxel)
    surface.add(view, depth)
    for tile in surface.anchors().tiles:
        pixels, *_ = lookup(view, tile.world_points)
        columns, rows = np.rint(pixels).astype(int).T
        sure = confidence[rows.clip(0, depth.shape[0] - 1), columns.clip(0, depth.shape[1] - 1)]
        world.anchors.insert(tile.world_points, tile.colors, tile.labels, tile.radius, view.index,
                             np.rint(CERTAIN * sure))
    lent = np.where(new & (depth == 0), np.float32(0), np.where(view.depth > 0, view.depth, NOT_LENT))
    world.keyframes.append(Keyframe(view.index, view.rgb, lent, view.intrinsics, view.T_world_camera))


def region(settings: ImageSettings) -> list[Pose]:
    """All poses T_world_camera that the camera may take: level, on a square grid, in all directions."""
    count, turns = int(settings.radius / settings.step + 1e-9), int(settings.sweep / settings.turn + 1e-9)
    yaws = {round(k * settings.turn) % 360 for k in range(-turns, turns + 1)}
    places = [(x * settings.step, y * settings.step) for x in range(-count, count + 1) for y in range(-count, count + 1)
              if math.hypot(x, y) * settings.step <= settings.radius + 1e-9]
    return [Pose(Rotation.from_euler("z", yaw, degrees=True), np.array([x, y, 0.0])) @ T_BODY_OPTICAL
            for x, y in sorted(places, key=lambda place: math.hypot(*place)) for yaw in sorted(yaws)]


def free(poses: list[Pose], picture: Keyframe, depth: np.ndarray) -> list[Pose]:
    """Those that are not behind what the picture shows."""
    eyes = np.array([pose.translation for pose in poses])
    pixels, z, inside = picture.lookup(eyes)
    column, row = np.rint(np.where(inside[:, None], pixels, 0)).astype(int).T
    behind = inside & (z > depth[row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)])
    return [pose for pose, hidden in zip(poses, behind, strict=True) if not hidden]


def next_view(anchors: AnchorMap, poses: list[Pose], camera: Intrinsics, settings: ImageSettings,
              clearance: float) -> Pose | None:
    """The pose to paint next; None when all views are known, or cannot be gone on to."""
    small = camera.resized(LOOK, max(1, round(LOOK * camera.height / camera.width)))
    best, nearest = None, math.inf
    for pose in poses:
        view = render(anchors.visible(pose, small), pose, small)
        known = float(view.coverage.mean())
        if 0 < known < settings.covered and not touches(view, clearance) and abs(known - WANTED) < nearest:
            best, nearest = pose, abs(known - WANTED)
    return best


def touches(view: AnchorView, clearance: float) -> bool:
    """Whether a fair part of what is seen is nearer than that."""
    near = view.coverage & (view.depth < clearance)
    return bool(cv2.erode(near.astype(np.uint8), np.ones((3, 3), np.uint8)).any())


def fitting_size(rgb: np.ndarray, intrinsics: Intrinsics, width: int) -> tuple[np.ndarray, Intrinsics]:
    """A picture and its camera at most so many pixels wide."""
    if rgb.shape[1] <= width:
        return rgb, intrinsics
    height = max(1, round(width * rgb.shape[0] / rgb.shape[1]))
    return resize(rgb, width, height), intrinsics.resized(width, height)
