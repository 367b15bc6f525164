"""The RGB-D folder: posed photographs with depth, and the poses file that trajectories share.

rgb/%06d.jpg    depth/%06d.png (uint16 millimetres, 0 = none; the folder may be absent)
poses.txt       index tx ty tz qx qy qz qw     (camera-to-world, optical axes, metres)
camera.yaml     width height distortion_model D K       mask.png (optional, 0 = not part of the scene)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import shutil
import tempfile

import cv2
import numpy as np
from PIL import Image
import yaml

from worldfm_ros.geometry import Intrinsics, Pose

DISTORTION_COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 8}


@dataclass(frozen=True, eq=False)
class RgbdFrame:
    """A posed view: rgb (H, W, 3) uint8; depth (H, W) float32, metres along z, 0 = none; labels (H, W) uint16."""

    index: int
    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: Intrinsics
    T_world_camera: Pose
    labels: np.ndarray | None = None


def read_poses(path: str | Path) -> dict[int, Pose]:
    """T_world_camera by frame index, in file order. Raises ValueError naming the line that is wrong."""
    poses: dict[int, Pose] = {}
    last = -1
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        fields = line.split("#")[0].split()
        if not fields:
            continue
        where = f"{path}:{number}"
        try:
            index, values = int(fields[0]), [float(field) for field in fields[1:]]
        except ValueError:
            raise ValueError(f"{where}: expected 'index tx ty tz qx qy qz qw', got {line!r}") from None
        if len(values) != 7:
            raise ValueError(f"{where}: expected 7 numbers after the index, got {len(values)}: {line!r}")
        if index <= last:
            raise ValueError(f"{where}: indices must rise from line to line, got {index} after {last}; sort the file")
        try:
            poses[index] = Pose.from_quaternion(values[:3], values[3:])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        last = index
    if not poses:
        raise ValueError(f"{path}: no poses; expected lines 'index tx ty tz qx qy qz qw'")
    return poses


def write_poses(poses: Mapping[int, Pose], path: str | Path) -> None:
    """The inverse of `read_poses`, to full float64 precision."""
    lines = ["# index tx ty tz qx qy qz qw   (camera-to-world, optical frame, metres)"]
    for index in sorted(poses):
        values = [*poses[index].translation, *poses[index].quaternion]
        lines.append(f"{index} " + " ".join(f"{value:.17g}" for value in values))
    Path(path).write_text("\n".join(lines) + "\n")


def write_rgbd_folder(frames: Iterable[RgbdFrame], path: str | Path) -> None:
    """Frames of one camera as an RGB-D folder with PNG pictures, so that nothing is lost; whole, or not there at all.

    Depth beyond uint16 millimetres becomes none. Raises FileExistsError, and OSError when a picture cannot be written.
    """
    path = Path(path).absolute()
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another name")
    partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        poses: dict[int, Pose] = {}
        for name in ("rgb", "depth"):
            (partial / name).mkdir()
        for frame in frames:
            millimetres = np.rint(frame.depth * 1000.0)
            depth = np.where(millimetres <= np.iinfo(np.uint16).max, millimetres, 0).astype(np.uint16)
            for name, image in (("rgb", np.ascontiguousarray(frame.rgb[..., ::-1])), ("depth", depth)):
                file = partial / name / f"{frame.index:06d}.png"
                if not cv2.imwrite(str(file), image):
                    raise OSError(f"{file} could not be written; is the disk full?")
            poses[frame.index] = frame.T_world_camera
        write_poses(poses, partial / "poses.txt")
        write_camera(frame.intrinsics, partial / "camera.yaml")
        partial.chmod(0o755)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class RgbdFolder(Sequence[RgbdFrame]):
    """A folder of posed RGB-D frames in order of their index, read when asked for, as rectified pinhole views.

    Depth is all 0 where there is no depth folder. Raises ValueError or FileNotFoundError naming the file that is wrong.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        for name in ("rgb", "poses.txt", "camera.yaml"):
            if not (self.path / name).exists():
                raise FileNotFoundError(
                    f"{self.path} is no RGB-D folder: {name} is missing "
                    "(expected rgb/, poses.txt, camera.yaml and usually depth/)"
                )
        self.poses = read_poses(self.path / "poses.txt")
        self.intrinsics, self.distortion = read_camera(self.path / "camera.yaml")
        self.has_depth = (self.path / "depth").is_dir()
        self._check_indices()
        self._mask = self._read_mask()

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, position: int) -> RgbdFrame:
        index = list(self.poses)[position]
        rgb = np.asarray(_read_image(self._rgb_path(index)).convert("RGB"))
        self._check_size(self._rgb_path(index), rgb)
        depth = self._read_depth(index)
        if self._mask is not None:
            depth = np.where(self._mask, depth, np.float32(0))
        if np.any(self.distortion):
            rgb, depth = self._rectify(rgb, cv2.INTER_LINEAR), self._rectify(depth, cv2.INTER_NEAREST)
        return RgbdFrame(index, rgb, depth, self.intrinsics, self.poses[index])

    def _rgb_path(self, index: int) -> Path:
        jpg = self.path / "rgb" / f"{index:06d}.jpg"
        return jpg if jpg.exists() else jpg.with_suffix(".png")

    def _check_indices(self) -> None:
        missing = [i for i in self.poses if not self._rgb_path(i).exists()]
        if missing:
            raise FileNotFoundError(
                f"{self.path}: {len(missing)} of {len(self.poses)} poses have no image in rgb/, first {missing[0]:06d}"
            )
        images = {int(p.stem) for p in (self.path / "rgb").iterdir() if p.stem.isdigit()}
        unposed = sorted(images - set(self.poses))
        if unposed:
            raise ValueError(
                f"{self.path}: {len(unposed)} images have no line in poses.txt, first {unposed[0]:06d}; "
                "add their poses or move the images away"
            )

    def _check_size(self, path: Path, image: np.ndarray) -> None:
        expected = (self.intrinsics.height, self.intrinsics.width)
        if image.shape[:2] != expected:
            raise ValueError(
                f"{path} is {image.shape[1]}x{image.shape[0]}, camera.yaml says {expected[1]}x{expected[0]}; "
                "depth and colour must be registered to one camera"
            )

    def _read_depth(self, index: int) -> np.ndarray:
        if not self.has_depth:
            return np.zeros((self.intrinsics.height, self.intrinsics.width), np.float32)
        path = self.path / "depth" / f"{index:06d}.png"
        depth = np.asarray(_read_image(path))
        if depth.dtype != np.uint16 or depth.ndim != 2:
            raise ValueError(f"{path}: depth is one channel of uint16 millimetres, got {depth.dtype} {depth.shape}")
        self._check_size(path, depth)
        return depth.astype(np.float32) / 1000.0

    def _read_mask(self) -> np.ndarray | None:
        path = self.path / "mask.png"
        if not path.exists():
            return None
        mask = np.asarray(_read_image(path).convert("L"))
        self._check_size(path, mask)
        return mask > 0

    def _rectify(self, image: np.ndarray, interpolation: int) -> np.ndarray:
        K = self.intrinsics.matrix
        size = (self.intrinsics.width, self.intrinsics.height)
        maps = cv2.initUndistortRectifyMap(K, self.distortion, None, K, size, cv2.CV_32FC1)
        return cv2.remap(image, *maps, interpolation)


def read_camera(path: str | Path) -> tuple[Intrinsics, np.ndarray]:
    """A camera.yaml as intrinsics and distortion coefficients (OpenCV's order). Raises ValueError naming the field."""
    data = yaml.safe_load(Path(path).read_text())
    if not isinstance(data, dict) or not {"width", "height", "K"} <= set(data):
        raise ValueError(
            f"{path}: expected the keys width, height and K (9 numbers, row-major), "
            f"got {sorted(data) if isinstance(data, dict) else data!r}"
        )
    model, D = data.get("distortion_model", "plumb_bob"), data.get("D") or []
    if model not in DISTORTION_COEFFICIENTS or len(D) not in (0, 4, DISTORTION_COEFFICIENTS[model]):
        raise ValueError(
            f"{path}: distortion_model {model!r} with {len(D)} coefficients is not supported; "
            f"use one of {DISTORTION_COEFFICIENTS} or undistort the images first"
        )
    try:
        return Intrinsics.from_matrix(data["width"], data["height"], data["K"]), np.array(D, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def write_camera(intrinsics: Intrinsics, path: str | Path) -> None:
    """The inverse of `read_camera` for a camera without distortion."""
    K = [float(value) for value in intrinsics.matrix.ravel()]
    data = {
        "width": intrinsics.width,
        "height": intrinsics.height,
        "distortion_model": "plumb_bob",
        "D": [0.0] * 5,
        "K": K,
    }
    Path(path).write_text(yaml.safe_dump(data, sort_keys=False, default_flow_style=None))


def _read_image(path: Path) -> Image.Image:
    """Pillow, because it refuses a file that is cut short where OpenCV returns a half-grey picture."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError) as error:  # Pillow reports broken PNG chunks as SyntaxError
        raise ValueError(f"{path} is not a readable image ({error})") from None
    return image
