"""Frames of a COLMAP model (text or binary) with depth.

Poses are world-to-camera, principal points count from the picture's corner, and the scale is the model's own.
https://colmap.github.io/format.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
import math
from pathlib import Path
import re
import struct
from typing import BinaryIO

import numpy as np

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.images import MILLIMETRES, check_sizes, natural, read_depth, read_rgb, registered_depth
from worldfm_ros.sources.lens import rectified

MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")  # by number
PARAMETERS = dict(zip(MODELS, (3, 4, 4, 5, 8), strict=True))
NEAREST, USUAL, FARTHEST = 0.4, 3.0, 25.0  # metres: median depths of pictures
SCALED_BY = 5  # depth maps
POINT_BYTES = 24  # of images.bin: x, y, point id


@dataclass(frozen=True, eq=False)
class ColmapCamera:
    intrinsics: Intrinsics
    distortion: np.ndarray  # OpenCV's k1 k2 p1 p2


@dataclass(frozen=True, eq=False)
class ColmapImage:
    name: str
    camera: int
    T_world_camera: Pose


class ColmapFrames(PosedFrames):
    """The frames of a model folder (cameras and images, .txt or .bin) in order of their names.

    depth: a folder with NAME.png or STEM.png (uint16 thousandths of the model's unit), or COLMAP's own maps,
    NAME.geometric.bin or NAME.photometric.bin. A model whose depths are far from what pictures in metres have is scaled
    by a power of ten, poses and depth alike (`scale`): worlds keep millimetres. Raises ValueError or FileNotFoundError
    naming what is wrong.
    """

    metric = False
    written = "world-to-camera"

    def __init__(self, model: str | Path, images: str | Path, depth: str | Path | None) -> None:
        if depth is None or not Path(depth).is_dir():
            raise FileNotFoundError(f"{model}: depth is needed, there is no folder {depth}; make it with `colmap "
                                    "image_undistorter` and `colmap patch_match_stereo` (stereo/depth_maps), or "
                                    "estimate it and save uint16 millimetres as STEM.png")
        self.images, self.depth = Path(images), Path(depth)
        self.path = Path(model)
        self.skipped = Counter()
        self.cameras, views = read_model(self.path)
        self.views = sorted(views, key=lambda view: natural(view.name))
        if not self.views:
            raise ValueError(f"{self.path} has no posed image")

    def __len__(self) -> int:
        return len(self.views)

    def read(self, position: int) -> RgbdFrame:
        view = self.views[position]
        camera = self.cameras[view.camera]
        rgb, depth = read_rgb(self.images / view.name), registered_depth(self._depth(view.name), camera.intrinsics)
        check_sizes(rgb, depth, camera.intrinsics, str(self.images / view.name))
        return rectified(RgbdFrame(position, rgb, depth * np.float32(self.scale), camera.intrinsics,
                                   self.poses[position]), camera.distortion)

    @cached_property
    def poses(self) -> list[Pose]:
        return [Pose(view.T_world_camera.rotation, self.scale * view.T_world_camera.translation)
                for view in self.views]

    @cached_property
    def scale(self) -> float:
        """1, or the power of ten that brings the usual depth near 3 m."""
        chosen = {int(k) for k in np.linspace(0, len(self.views) - 1, SCALED_BY)}
        paths = [path for k in sorted(chosen) if (path := self._depth_path(self.views[k].name)).exists()]
        medians = [np.median(depth[depth > 0]) for depth in map(self._read_depth, paths) if depth.any()]
        median = float(np.median(medians)) if medians else USUAL
        return 1.0 if NEAREST <= median <= FARTHEST else 10.0 ** round(math.log10(USUAL / median))

    @cached_property
    def units(self) -> float:
        return 1.0 if self._depth_path(self.views[0].name).suffix == ".bin" else MILLIMETRES

    def _depth(self, name: str) -> np.ndarray:
        return self._read_depth(self._depth_path(name))

    @staticmethod
    def _read_depth(path: Path) -> np.ndarray:
        return read_depth_map(path) if path.suffix == ".bin" else read_depth(path)

    @property
    def name(self) -> str:
        return self.images.resolve().parent.name

    @property
    def camera(self) -> Intrinsics:
        return self.cameras[self.views[0].camera].intrinsics

    def files(self) -> list[Path]:
        return [*sorted(self.path.glob("*")), *(path for view in self.views for path in
                                                 (self.images / view.name, self._depth_path(view.name)))]

    def _depth_path(self, name: str) -> Path:
        names = [f"{name}.geometric.bin", f"{name}.photometric.bin", f"{name}.png"]
        found = (self.depth / name for name in names if (self.depth / name).exists())
        return next(found, (self.depth / name).with_suffix(".png"))


def read_model(folder: Path) -> tuple[dict[int, ColmapCamera], list[ColmapImage]]:
    """Cameras by id, and posed images. Raises FileNotFoundError or ValueError."""
    for suffix, cameras, images in ((".bin", _cameras_bin, _images_bin), (".txt", _cameras_txt, _images_txt)):
        paths = [folder / f"{name}{suffix}" for name in ("cameras", "images")]
        if all(path.exists() for path in paths):
            known, views = dict(_read(cameras, paths[0])), _read(images, paths[1])
            for view in views:
                if view.camera not in known:
                    raise ValueError(f"{paths[1]}: camera {view.camera} of {view.name} is none of {sorted(known)}, "
                                     f"those in {paths[0].name}")
            return known, views
    raise FileNotFoundError(f"{folder} is no COLMAP model: expected cameras and images, both .bin or both .txt")


def _read(read: Callable[[Path], Iterable], path: Path) -> list:
    try:
        return list(read(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_depth_map(path: Path) -> np.ndarray:
    """(H, W) float32 of COLMAP's dense depth map: 'W&H&1&', then float32 row after row; 0 = none."""
    header = re.match(rb"(\d+)&(\d+)&1&", data := path.read_bytes())
    if not header or len(data) - header.end() != 4 * int(header[1]) * int(header[2]):
        raise ValueError(f"{path} is no whole depth map: expected W&H&1& and 4 bytes for each pixel, got {len(data)} "
                         f"bytes from {data[:16]!r} on")
    depth = np.frombuffer(data, "<f4", offset=header.end()).reshape(int(header[2]), int(header[1]))
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _camera(model: str, width: int, height: int, values: Sequence[float]) -> ColmapCamera:
    if model not in MODELS:
        raise ValueError(f"camera model {model} is none of {', '.join(MODELS)}; run `colmap image_undistorter` first")
    if len(values) != PARAMETERS[model]:
        raise ValueError(f"camera model {model} has {PARAMETERS[model]} parameters, got {len(values)}")
    if model in ("PINHOLE", "OPENCV"):
        fx, fy, cx, cy, *distortion = values
    else:
        fx, cx, cy, *distortion = values
        fy = fx
    coefficients = np.zeros(4)
    coefficients[:len(distortion)] = distortion
    if not np.isfinite(coefficients).all():
        raise ValueError(f"distortion is finite, got {distortion}")
    return ColmapCamera(Intrinsics(width, height, fx, fy, cx - 0.5, cy - 0.5), coefficients)


def _image(numbers: Sequence[float], camera: int, name: str) -> ColmapImage:
    w, x, y, z, *translation = numbers
    return ColmapImage(name, camera, Pose.from_quaternion(translation, [x, y, z, w]).inverse())


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def _cameras_txt(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for line in filter(str.strip, _lines(path.read_text())):
        number, model, width, height, *values = line.split()
        yield int(number), _camera(model, int(width), int(height), [float(x) for x in values])


def _images_txt(path: Path) -> Iterator[ColmapImage]:
    """Two lines an image; the second one lists its points, and may be empty but not missing."""
    text, count = path.read_text(), 0
    lines = _lines(text)
    for line, points in zip_longest(lines[::2], lines[1::2], fillvalue=""):
        if not line.strip() and not points.strip():
            continue
        fields = line.split(maxsplit=9)
        if len(fields) != 10 or not _is_points(points):
            raise ValueError("expected two lines for each image, 'ID QW QX QY QZ TX TY TZ CAMERA NAME' and its points "
                             f"'X Y ID X Y ID ...' (an empty line for none), got {line[:70]!r} and {points[:70]!r}")
        count += 1
        yield _image([float(x) for x in fields[1:8]], int(fields[8]), fields[9])
    told = re.search(r"^# Number of images: (\d+)", text, re.MULTILINE)
    if told and int(told[1]) != count:
        raise ValueError(f"the header tells of {told[1]} images, there are {count}")


def _is_points(line: str) -> bool:
    fields = line.split()
    return len(fields) % 3 == 0 and (not fields or re.fullmatch(r"-?\d+", fields[-1]) is not None)


def _cameras_bin(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    with path.open("rb") as file:
        (count,) = _unpack(file, "<Q")
        for _ in range(count):
            number, model, width, height = _unpack(file, "<iiQQ")
            name = MODELS[model] if 0 <= model < len(MODELS) else str(model)
            yield number, _camera(name, width, height, _unpack(file, f"<{PARAMETERS.get(name, 0)}d"))


def _images_bin(path: Path) -> Iterator[ColmapImage]:
    size = path.stat().st_size
    with path.open("rb") as file:
        (count,) = _unpack(file, "<Q")
        for _ in range(count):
            _, *numbers, camera = _unpack(file, "<i7di")
            name = _name(file)
            (points,) = _unpack(file, "<Q")
            if POINT_BYTES * points > size - file.tell():
                raise ValueError(f"cut short in the points of {name}")
            file.seek(POINT_BYTES * points, 1)
            yield _image(numbers, camera, name)


def _name(file: BinaryIO) -> str:
    name = bytearray()
    while (byte := file.read(1)) != b"\0":
        if not byte:
            raise ValueError("cut short in an image's name")
        name += byte
    return name.decode()


def _unpack(file: BinaryIO, layout: str) -> tuple:
    size = struct.calcsize(layout)
    if len(data := file.read(size)) != size:
        raise ValueError(f"cut short: {len(data)} bytes of {size} at byte {file.tell()}")
    return struct.unpack(layout, data)
