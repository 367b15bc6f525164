"""Formats of posed pictures: TUM RGB-D (SLAM) and nerfstudio (radiance fields)."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from worldfm_ros.export.samples import Sample, Samples
from worldfm_ros.files import write_json
from worldfm_ros.geometry import Pose

TUM_UNITS = 5000.0  # of a metre, of TUM's depth images
FRAME_RATE = 30.0  # frames a second, of a source whose stamps are numbers
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL's camera axes: y up, z backwards
EARLIEST = 10**9  # ns; smaller stamps are the numbers of frames


def export_tum(samples: Samples, splits: dict[str, str], out: Path) -> dict[str, int]:
    """A folder for each sequence: rgb/ depth/ rgb.txt depth.txt groundtruth.txt camera.txt. A sequence is whole, in
    splits.json alone it is parted. Returns its number of pictures by name."""
    counts = {}
    for sequence, group in groupby(samples, lambda sample: sample.sequence):
        folder = out / sequence
        lists = {"rgb": ["# timestamp filename"], "depth": ["# timestamp filename"],
                 "groundtruth": ["# timestamp tx ty tz qx qy qz qw"]}
        for sample in group:
            time = seconds(sample.stamp)
            _write(folder / "rgb" / f"{time}.png", sample.rgb[..., ::-1])
            lists["rgb"].append(f"{time} rgb/{time}.png")
            if sample.depth is not None:
                depth = np.rint(sample.depth * TUM_UNITS)
                _write(folder / "depth" / f"{time}.png", np.where(depth < 65536, depth, 0).astype(np.uint16))
                lists["depth"].append(f"{time} depth/{time}.png")
            pose = sample.T_world_camera
            lists["groundtruth"].append(" ".join([time, *(f"{n:.9f}" for n in (*pose.translation, *pose.quaternion))]))
            counts[sequence] = counts.get(sequence, 0) + 1
        for name, lines in lists.items():
            (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
        K = sample.camera.picture
        (folder / "camera.txt").write_text(f"# fx fy cx cy distortion\n{K.fx:.9g} {K.fy:.9g} {K.cx:.9g} {K.cy:.9g} "
                                           f"{' '.join(f'{d:.9g}' for d in sample.camera.lens.D)}\n")
    return counts


def export_nerfstudio(samples: Samples, splits: dict[str, str], out: Path) -> dict[str, int]:
    """transforms.json, images/, depth/ (millimetres) and masks/ (0 = invented). Returns pictures by split."""
    frames, files = [], {name: [] for name in ("train", "val", "test")}
    for sample in samples:
        image, depth = f"images/{sample.name}.png", f"depth/{sample.name}.png"
        _write(out / image, sample.rgb[..., ::-1])
        frame = _camera(sample) | {"file_path": image, "transform_matrix": _opengl(sample.T_world_camera)}
        if sample.depth is not None:
            millimetres = np.rint(sample.depth * 1e3)
            _write(out / depth, np.where(millimetres < 65536, millimetres, 0).astype(np.uint16))
            frame["depth_file_path"] = depth
        if sample.confidence is not None:
            _write(out / f"masks/{sample.name}.png", np.where(sample.invented, 0, 255).astype(np.uint8))
            frame["mask_path"] = f"masks/{sample.name}.png"
        frames.append(frame)
        files[splits[sample.name]].append(image)
    write_json(out / "transforms.json", {"depth_unit_scale_factor": 1e-3, "frames": frames} | {
        f"{name}_filenames": listed for name, listed in files.items()})
    return {name: len(listed) for name, listed in files.items()}


def seconds(stamp: int) -> str:
    """A stamp in seconds; the number of a frame counts at FRAME_RATE."""
    return f"{stamp / 1e9:.6f}" if stamp >= EARLIEST else f"{stamp / FRAME_RATE:.6f}"


def _camera(sample: Sample) -> dict:
    """nerfstudio has pixel corners at integers, we have their centres there."""
    K, lens = sample.camera.picture, sample.camera.lens
    if lens.bends and lens.model not in ("plumb_bob", "equidistant"):
        raise ValueError(f"nerfstudio has no lens {lens.model}; render with plumb_bob, equidistant or a pinhole")
    names = ("k1", "k2", "k3", "k4") if lens.model == "equidistant" else ("k1", "k2", "p1", "p2", "k3")
    D = [*lens.D, *[0.0] * len(names)][:len(names)]  # what a lens leaves out is 0
    named = dict(zip(names, D, strict=True))
    model = "OPENCV_FISHEYE" if lens.model == "equidistant" else "OPENCV"
    return {"camera_model": model, "w": K.width, "h": K.height, "fl_x": K.fx, "fl_y": K.fy, "cx": K.cx + 0.5,
            "cy": K.cy + 0.5} | named


def _opengl(pose: Pose) -> list[list[float]]:
    return (pose.matrix @ FLIP).tolist()


def _write(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), np.ascontiguousarray(image)):
        raise OSError(f"{file} could not be written; is the disk full?")
