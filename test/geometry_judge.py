"""A geometry judge that we did not write: can COLMAP reconstruct the pictures of a drive, and where does it see them?

    python test/geometry_judge.py FOLDER [--json FILE] [--count 60]

FOLDER is an RGB-D folder, for example one that `worldfm render` wrote; its depth is not read. Pictures that show one
rigid scene are registered, and on the trajectory of poses.txt. COLMAP gets the camera of camera.yaml and keeps it;
everything else is its default. Judge photographs of the same poses beside it: they show what the drive itself allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
import json as jsonlib
from pathlib import Path
import sys
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation
import tyro

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.rgbd_folder import RgbdFolder

SEED = 0
FEWEST = 3  # positions that an alignment needs, and not in one line
SPREAD = 1e-6  # second singular value of the positions by the first: below it they are in one line


@dataclass(frozen=True, eq=False)
class Similarity:
    """target = scale * rotation(source) + translation, positions in metres or any other unit."""

    scale: float
    rotation: Rotation
    translation: np.ndarray  # (3,)

    def apply(self, pose: Pose) -> Pose:
        """A pose T_source_camera as T_target_camera; lengths are scaled, the camera is not."""
        return Pose(self.rotation * pose.rotation,
                    self.scale * self.rotation.apply(pose.translation) + self.translation)


def umeyama(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity of the least squares from positions (N, 3) to positions (N, 3) (Umeyama 1991, eq. 40-43).

    Raises ValueError for fewer than three positions, and for positions in one line: they fix no rotation.
    """
    if source.shape != target.shape or source.shape[1:] != (3,) or len(source) < FEWEST:
        raise ValueError(f"an alignment needs {FEWEST} or more positions (N, 3) on both sides, "
                         f"got {source.shape} and {target.shape}")
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    source, target = source - mean_source, target - mean_target
    for name, positions in (("source", source), ("target", target)):
        spread = np.linalg.svd(positions, compute_uv=False)
        if not spread[1] > SPREAD * spread[0]:
            raise ValueError(f"the {name} positions are in one line, which fixes no rotation; judge a drive that turns")
    U, D, Vt = np.linalg.svd(target.T @ source)
    mirror = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    rotation = Rotation.from_matrix(U @ np.diag(mirror) @ Vt)
    scale = float(D @ mirror / np.sum(source**2))
    return Similarity(scale, rotation, mean_target - scale * rotation.apply(mean_source))


@dataclass(frozen=True)
class TrajectoryError:
    """How far an aligned trajectory is from the true one: of the same frames, in the order of the drive."""

    ate_rmse_m: float  # absolute trajectory error: root mean square distance of the positions
    path_m: float  # length of the true path through these frames
    ate_percent_of_path: float
    rotation_median_deg: float


def trajectory_error(estimated: Sequence[Pose], true: Sequence[Pose]) -> TrajectoryError:
    """T_any_camera in any unit against T_world_camera in metres. Raises ValueError as `umeyama` does."""
    positions = np.array([pose.translation for pose in true])
    alignment = umeyama(np.array([pose.translation for pose in estimated]), positions)
    aligned = [alignment.apply(pose) for pose in estimated]
    distances = np.linalg.norm([pose.translation for pose in aligned] - positions, axis=1)
    turns = [(a.rotation.inv() * b.rotation).magnitude() for a, b in zip(aligned, true, strict=True)]
    ate, path = np.sqrt(np.mean(distances**2)), np.linalg.norm(np.diff(positions, axis=0), axis=1).sum()
    return TrajectoryError(float(ate), float(path), float(100.0 * ate / path), float(np.degrees(np.median(turns))))


def reconstruct(pictures: Sequence[np.ndarray], camera: Intrinsics, threads: int = 1) -> list[dict[int, Pose]]:
    """COLMAP's models, largest first: T_model_camera by the picture's number, in a unit and a frame of its own.

    pictures (H, W, 3) uint8 of one pinhole camera. SIFT on the CPU, all pairs, incremental mapping. One thread and one
    seed give the same models each time. Raises ModuleNotFoundError without pycolmap.
    """
    import pycolmap  # after Pillow and OpenCV: what is loaded later calls the zlib inside it, and crashes writing a PNG

    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value
    pycolmap.set_random_seed(SEED)
    reader = pycolmap.ImageReaderOptions(camera_model="PINHOLE")
    reader.camera_params = f"{camera.fx}, {camera.fy}, {camera.cx + 0.5}, {camera.cy + 0.5}"  # (0, 0) is a corner
    pairs = pycolmap.TwoViewGeometryOptions()
    pairs.ransac.random_seed = SEED
    mapping = pycolmap.IncrementalPipelineOptions(
        num_threads=threads, random_seed=SEED, extract_colors=False,
        ba_refine_focal_length=False, ba_refine_principal_point=False, ba_refine_extra_params=False)
    with TemporaryDirectory() as folder:
        database, images, models = (Path(folder) / name for name in ("features.db", "images", "models"))
        images.mkdir()
        models.mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(images / f"{number:06d}.png")
        pycolmap.extract_features(
            database, images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader, device=pycolmap.Device.cpu,
            extraction_options=pycolmap.FeatureExtractionOptions(num_threads=threads, use_gpu=False))
        pycolmap.match_exhaustive(
            database, verification_options=pairs, device=pycolmap.Device.cpu,
            matching_options=pycolmap.FeatureMatchingOptions(num_threads=threads, use_gpu=False))
        found = pycolmap.incremental_mapping(database, images, models, mapping).values()
    return sorted((_camera_poses(model) for model in found), key=len, reverse=True)


def _camera_poses(model) -> dict[int, Pose]:
    registered = (model.image(k) for k in model.reg_image_ids())
    world = {int(Path(image.name).stem): image.cam_from_world().inverse() for image in registered}
    return {k: Pose.from_quaternion(world[k].translation, world[k].rotation.quat) for k in sorted(world)}


def judge(folder: tyro.conf.Positional[Path], *, json: Path | None = None, count: int = 60, threads: int = 1) -> None:
    """Reconstruct a drive's pictures with COLMAP and compare the cameras that it finds with poses.txt.

    Args:
        folder: an RGB-D folder: rgb/, poses.txt, camera.yaml.
        json: write the figures here, too.
        count: the first frames, this many; neighbours must overlap.
        threads: more than one is faster, and may change the last digits.
    """
    if count < 1:
        raise ValueError(f"the judge needs 1 frame or more, got --count {count}")
    frames = RgbdFolder(folder)
    used = [frames[k] for k in range(min(count, len(frames)))]
    models = reconstruct([frame.rgb for frame in used], frames.intrinsics, threads)
    found = models[0] if models else {}
    figures = {"folder": str(folder), "frames": len(used), "registered": len(found),
               "registered_percent": 100.0 * len(found) / len(used), "models": len(models), "trajectory": None}
    print(f"{folder}: {len(found)} of {len(used)} frames registered ({figures['registered_percent']:.0f} %)"
          f" in the largest of {len(models)} models")
    if len(found) >= FEWEST:
        error = trajectory_error(list(found.values()), [used[k].T_world_camera for k in found])
        figures["trajectory"] = asdict(error)
        print(f"ATE RMSE {error.ate_rmse_m:.4f} m, {error.ate_percent_of_path:.2f} % of {error.path_m:.2f} m; "
              f"median rotation error {error.rotation_median_deg:.2f} degrees")
    if json is not None:
        json.write_text(jsonlib.dumps(figures, indent=2) + "\n")


def main() -> int:
    """Run the command line; what the user can mend is one line on stderr."""
    try:
        tyro.cli(judge, prog="geometry_judge.py")
    except ModuleNotFoundError as error:
        if error.name != "pycolmap":
            raise
        print("error: the judge is COLMAP, and it is not installed: pip install pycolmap", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
