"""Frames of a COLMAP model (text or binary) with depth.

Poses are world-to-camera, principal points count from the picture's corner, and the scale is the model's own.
https://colmap.github.io/format.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
import struct

import numpy as np

from training.data.images import check_sizes, read_depth, read_rgb, undistorted
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.rgbd_folder import RgbdFrame

MODELS = {0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8)}


@dataclass(frozen=True, eq=False)
class ColmapCamera:
    intrinsics: Intrinsics
    distortion: np.ndarray  # OpenCV's k1 k2 p1 p2


@dataclass(frozen=True, eq=False)
class ColmapImage:
    name: str
    camera: int
    T_world_camera: Pose


class ColmapFrames(Sequence[RgbdFrame]):
    """The frames of a model folder (cameras and images, .txt or .bin) in order of their names.

    depth: a folder with NAME.png or STEM.png (uint16 millimetres), or COLMAP's own maps, NAME.geometric.bin or
    NAME.photometric.bin. Raises ValueError or FileNotFoundError naming what is wrong.
    """

    def __init__(self, model: str | Path, images: str | Path, depth: str | Path | None) -> None:
        if depth is None or not Path(depth).is_dir():
            raise FileNotFoundError(f"{model}: clips need depth, there is no folder {depth}; make it with `colmap "
                                    "image_undistorter` and `colmap patch_match_stereo` (stereo/depth_maps), or "
                                    "estimate it and save uint16 millimetres as STEM.png")
        self.images, self.depth = Path(images), Path(depth)
        self.cameras, views = read_model(Path(model))
        self.views = sorted(views, key=lambda view: view.name)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, position: int) -> RgbdFrame:
        view = self.views[position]
        camera = self.cameras[view.camera]
        rgb, depth = read_rgb(self.images / view.name), self._read_depth(view.name)
        check_sizes(rgb, depth, camera.intrinsics, view.name)
        rgb, depth = undistorted(rgb, depth, camera.intrinsics, camera.distortion)
        return RgbdFrame(position, rgb, depth, camera.intrinsics, view.T_world_camera)

    def _read_depth(self, name: str) -> np.ndarray:
        for kind in ("geometric", "photometric"):
            path = self.depth / f"{name}.{kind}.bin"
            if path.exists():
                return read_depth_map(path)
        path = self.depth / f"{name}.png"
        return read_depth(path if path.exists() else (self.depth / name).with_suffix(".png"))


def read_model(folder: Path) -> tuple[dict[int, ColmapCamera], list[ColmapImage]]:
    """Cameras by id, and posed images. Raises FileNotFoundError or ValueError."""
    for suffix, cameras, images in ((".bin", _cameras_bin, _images_bin), (".txt", _cameras_txt, _images_txt)):
        paths = [folder / f"{name}{suffix}" for name in ("cameras", "images")]
        if all(path.exists() for path in paths):
            try:
                return dict(cameras(paths[0])), list(images(paths[1]))
            except (struct.error, IndexError, KeyError) as error:
                raise ValueError(f"{folder} is no whole COLMAP model: {error!r}") from error
    raise FileNotFoundError(f"{folder} is no COLMAP model: expected cameras and images, both .bin or both .txt")


def read_depth_map(path: Path) -> np.ndarray:
    """(H, W) float32 of COLMAP's dense depth map: 'W&H&1&', then float32 row after row; 0 = none."""
    data = path.read_bytes()
    *size, numbers = data.split(b"&", 3)
    width, height, channels = (int(x) for x in size)
    if channels != 1 or len(numbers) != 4 * width * height:
        raise ValueError(f"{path} is no depth map: {width}x{height}x{channels} with {len(numbers)} bytes")
    return np.maximum(np.frombuffer(numbers, "<f4").reshape(height, width), 0)


def _camera(model: str, width: int, height: int, values: Sequence[float]) -> ColmapCamera:
    if model in ("PINHOLE", "OPENCV"):
        fx, fy, cx, cy, *distortion = values
    elif model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        fx, cx, cy, *distortion = values
        fy = fx
    else:
        known = ", ".join(name for name, _ in MODELS.values())
        raise ValueError(f"camera model {model} is none of {known}; run `colmap image_undistorter` first")
    coefficients = np.zeros(4)
    coefficients[:len(distortion)] = distortion
    return ColmapCamera(Intrinsics(width, height, fx, fy, cx - 0.5, cy - 0.5), coefficients)


def _image(numbers: Sequence[float], camera: int, name: str) -> ColmapImage:
    w, x, y, z, *translation = numbers
    return ColmapImage(name, camera, Pose.from_quaternion(translation, [x, y, z, w]).inverse())


def _lines(path: Path) -> Iterator[str]:
    return (line for line in path.read_text().splitlines() if not line.startswith("#"))


def _cameras_txt(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for line in filter(str.strip, _lines(path)):
        number, model, width, height, *values = line.split()
        yield int(number), _camera(model, int(width), int(height), [float(x) for x in values])


def _images_txt(path: Path) -> Iterator[ColmapImage]:
    for line in list(_lines(path))[::2]:  # every second line lists points, and may be empty
        if line.strip():
            fields = line.split(maxsplit=9)
            yield _image([float(x) for x in fields[1:8]], int(fields[8]), fields[9])


def _cameras_bin(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    with path.open("rb") as file:
        (count,) = _unpack(file, "<Q")
        for _ in range(count):
            number, model, width, height = _unpack(file, "<iiQQ")
            if model not in MODELS:
                raise ValueError(f"{path}: camera model {model} is not supported; run `colmap image_undistorter` first")
            name, parameters = MODELS[model]
            yield number, _camera(name, width, height, _unpack(file, f"<{parameters}d"))


def _images_bin(path: Path) -> Iterator[ColmapImage]:
    with path.open("rb") as file:
        (count,) = _unpack(file, "<Q")
        for _ in range(count):
            _, *numbers, camera = _unpack(file, "<i7di")
            name = b"".join(iter(lambda: file.read(1), b"\0")).decode()
            (points,) = _unpack(file, "<Q")
            file.seek(24 * points, 1)  # x, y, point id
            yield _image(numbers, camera, name)


def _unpack(file, layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
