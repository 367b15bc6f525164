"""Scenes for tests: an empty box room with a smooth colour pattern, seen exactly, and RGB-D folders made from it."""

import struct
import zlib

import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources import rgbd_folder
from worldfm_ros.world.builders.fusion import FusionSettings, VoxelMeans, fuse

LOW, HIGH = np.array([-2.0, -1.5, 0.0]), np.array([2.0, 1.5, 2.5])
CAMERA = Intrinsics(80, 60, 50.0, 50.0, 39.5, 29.5)


def color_of(points):
    """(..., 3) uint8: a pattern that varies slowly over space, so that neighbouring points look alike."""
    return np.rint(127 + 100 * np.sin(points * [1.3, 1.7, 2.1] + [0, 1, 2])).astype(np.uint8)


def see_room(pose, camera=CAMERA, index=0):
    """What a camera inside the room sees: exact depth by the slab method."""
    rays = camera.unproject(np.ones((camera.height, camera.width))) @ pose.rotation.as_matrix().T
    with np.errstate(divide="ignore"):
        exits = np.where(rays > 0, (HIGH - pose.translation) / rays, (LOW - pose.translation) / rays)
    depth = np.nanmin(exits, axis=-1)
    points = pose.translation + rays * depth[..., None]
    labels = (np.nanargmin(exits, axis=-1) + 1).astype(np.uint16)
    return RgbdFrame(index, color_of(points), depth.astype(np.float32), camera, pose, labels)


def room_poses(count=12):
    """Cameras on a ring that look outwards and a little down."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    eyes = [np.array([0.4 * np.cos(a), 0.4 * np.sin(a), 1.2]) for a in angles]
    return [Pose.looking_at(eye, eye + [np.cos(a), np.sin(a), -0.2]) for a, eye in zip(angles, eyes, strict=True)]


def room_frames(count=12):
    return [see_room(pose, index=i) for i, pose in enumerate(room_poses(count))]


def room_world(count=12, voxel=0.05, name="room", **settings):
    """The room as a world, from `count` exact views."""
    settings = FusionSettings(voxel=voxel, **settings)
    return fuse(
        room_frames(count), name, VoxelMeans(voxel), settings, label_names={1: "x wall", 2: "y wall", 3: "floor"}
    )


def announced_png(width, height):
    """The bytes of a PNG file that announces this size and has next to nothing."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def write_rgbd_folder(folder, frames):
    """Frames as an RGB-D folder, which is returned."""
    rgbd_folder.write_rgbd_folder(frames, folder)
    return folder
