"""The RGB-D folder: posed photographs with depth, and the poses file that trajectories share.

rgb/%06d.jpg    depth/%06d.png (uint16 millimetres, 0 = none; the folder may be absent)
poses.txt       index tx ty tz qx qy qz qw     (camera-to-world, optical axes, metres)
camera.yaml     width height distortion_model D K, optional depth_scale       mask.png (optional, 0 = not the scene)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
import shutil
import tempfile

import cv2
import numpy as np
import yaml

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.camera_file import camera_yaml, read_camera_file, write_yaml
from worldfm_ros.sensor.lens import PINHOLE, Lens
from worldfm_ros.sources.conventions import READ
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.images import MILLIMETRES, read_depth, read_image, read_rgb, registered_depth
from worldfm_ros.sources.lens import rectified
from worldfm_ros.sources.meanings import depth_units, pose_convention

LOST = "the tracker was lost (a pose that is not finite)"
MEANINGS = ("pose_convention", "scale")  # the latter a remark for people


def read_poses(path: str | Path) -> dict[int, Pose]:
    """T_world_camera by frame index, in file order. Raises ValueError naming the line that is wrong."""
    poses, lost = read_track(path)
    if lost:
        raise ValueError(f"{path}: {len(lost)} of {len(poses) + len(lost)} poses are lost (inf, nan or a zero "
                         f"quaternion), first index {lost[0]}; a trajectory is complete: take these lines out")
    return poses


def read_track(path: str | Path) -> tuple[dict[int, Pose], list[int]]:
    """T_world_camera by frame index, in file order, and the indices where the tracker was lost: not finite, or a zero
    quaternion. Raises ValueError naming the line that is wrong, and for a track without a pose."""
    poses: dict[int, Pose] = {}
    lost: list[int] = []
    last = -1
    for number, line in enumerate(_read_text(Path(path)).splitlines(), start=1):
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
        last = index
        if not np.isfinite(values).all() or not any(values[3:]):
            lost.append(index)
            continue
        try:
            poses[index] = Pose.from_quaternion(values[:3], values[3:])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if not poses:
        raise ValueError(f"{path}: no poses; expected lines 'index tx ty tz qx qy qz qw'"
                         + (f"; all {len(lost)} are lost (inf, nan or a zero quaternion)" if lost else ""))
    return poses, lost


def write_poses(poses: Mapping[int, Pose], path: str | Path) -> None:
    """The inverse of `read_poses`, to full float64 precision."""
    lines = ["# index tx ty tz qx qy qz qw   (camera-to-world, optical frame, metres)"]
    for index in sorted(poses):
        values = [*poses[index].translation, *poses[index].quaternion]
        lines.append(f"{index} " + " ".join(f"{value:.17g}" for value in values))
    Path(path).write_text("\n".join(lines) + "\n")


def write_rgbd_folder(frames: Iterable[RgbdFrame], path: str | Path, lens: Lens = PINHOLE) -> None:
    """Frames of one camera as an RGB-D folder with PNG pictures, so that nothing is lost; whole, or not there at all.

    lens: through which all of a frame was taken, its depth too.

    Depth beyond uint16 millimetres becomes none. Raises FileExistsError, ValueError for no frames, and OSError when a
    picture cannot be written.
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
        if not poses:
            raise ValueError(f"{path}: there are no frames to write")
        write_poses(poses, partial / "poses.txt")
        write_camera(frame.intrinsics, partial / "camera.yaml", lens)
        partial.chmod(0o755)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class RgbdFolder(PosedFrames):
    """A folder of posed RGB-D frames in order of their index.

    Depth is all 0 where there is no depth folder, and where mask.png says that it is not the scene. Raises ValueError
    or FileNotFoundError naming the file that is wrong.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.skipped = Path(path), Counter()
        for name in ("rgb", "poses.txt", "camera.yaml"):
            if not (self.path / name).exists():
                raise FileNotFoundError(
                    f"{self.path} is no RGB-D folder: {name} is missing "
                    "(expected rgb/, poses.txt, camera.yaml and usually depth/)"
                )
        self._poses, self._lost = read_track(self.path / "poses.txt")
        if self._lost:
            self.skipped[LOST] = len(self._lost)
        self.intrinsics, self.distortion = read_camera(self.path / "camera.yaml")
        self.units, self.written = read_meanings(self.path / "camera.yaml")
        self._poses = {index: READ[self.written](pose) for index, pose in self._poses.items()}
        self.has_depth = (self.path / "depth").is_dir()
        self._check_indices()
        self._mask = self._read_mask()

    def __len__(self) -> int:
        return len(self._poses)

    def read(self, position: int) -> RgbdFrame:
        index = list(self._poses)[position]
        rgb = read_rgb(self._rgb_path(index))
        self._check_size(self._rgb_path(index), rgb)
        depth = self._read_depth(index)
        if self._mask is not None:
            depth = np.where(self._mask, depth, np.float32(0))
        frame = RgbdFrame(index, rgb, depth, self.intrinsics, self._poses[index], scene=self._mask)
        return rectified(frame, self.distortion)

    @property
    def name(self) -> str:
        return self.path.resolve().name  # a folder's dots are no suffix

    @property
    def camera(self) -> Intrinsics:
        return self.intrinsics

    @property
    def poses(self) -> list[Pose]:
        return list(self._poses.values())

    def files(self) -> list[Path]:
        pictures = [path for name in ("rgb", "depth") for path in sorted((self.path / name).glob("*"))]
        facts = [self.path / name for name in ("poses.txt", "camera.yaml", "mask.png")]
        return [*(path for path in facts if path.exists()), *pictures]

    def _rgb_path(self, index: int) -> Path:
        jpg = self.path / "rgb" / f"{index:06d}.jpg"
        return jpg if jpg.exists() else jpg.with_suffix(".png")

    def _check_indices(self) -> None:
        missing = [i for i in self._poses if not self._rgb_path(i).exists()]
        if missing:
            raise FileNotFoundError(
                f"{self.path}: {len(missing)} of {len(self._poses)} poses have no image in rgb/, first {missing[0]:06d}"
            )
        images = {int(p.stem) for p in (self.path / "rgb").iterdir() if p.stem.isdigit()}
        unposed = sorted(images - set(self._poses) - set(self._lost))
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
        depth = registered_depth(read_depth(path, self.units), self.intrinsics)
        self._check_size(path, depth)
        return depth

    def _read_mask(self) -> np.ndarray | None:
        path = self.path / "mask.png"
        if not path.exists():
            return None
        mask = np.asarray(read_image(path).convert("L"))
        self._check_size(path, mask)
        if not mask.any():
            raise ValueError(f"{path} leaves no pixel of the scene (0 = not part of it)")
        return mask > 0


def read_camera(path: str | Path) -> tuple[Intrinsics, Lens]:
    """Size, K and lens of a camera file's picture (sensor/camera_file.py). Raises ValueError naming the field."""
    camera = read_camera_file(path)
    return camera.picture, camera.lens


def read_meanings(path: str | Path) -> tuple[float, str]:
    """By a camera.yaml, units of the stored depth a metre and how poses are written (conventions.py). Raises ValueError
    naming a key that may change what depth or poses mean and is not known."""
    data = yaml.safe_load(_read_text(Path(path)))
    return (depth_units(data, MEANINGS, str(path)) or MILLIMETRES,
            pose_convention(data.get("pose_convention"), str(path)))


def write_camera(intrinsics: Intrinsics, path: str | Path, lens: Lens = PINHOLE) -> None:
    """The inverse of `read_camera`."""
    write_yaml(camera_yaml(Camera(intrinsics, lens)), path)


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}") from None
