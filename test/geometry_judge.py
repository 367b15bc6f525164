"""A geometry judge that we did not write: can COLMAP reconstruct the pictures of a drive, and where does it see them?

    python test/geometry_judge.py FOLDER [--json FILE] [--count 60] [--tries 5]

FOLDER is an RGB-D folder, for example one that `worldfm render` wrote; its depth is not read. Pictures that show one
rigid scene are registered, and on the trajectory of poses.txt. COLMAP gets the camera of camera.yaml and keeps it;
everything else is its default. Judge photographs of the same poses beside it: they show what the drive itself allows.
Where a drive hangs on few features, COLMAP's random choices bend one try by centimetres and the next by decimetres; so
it tries several times, and the figure is the try in the middle, ranked by frames registered and then by error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
import json as jsonlib
import math
from pathlib import Path
import sys
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation
import tyro

from worldfm_ros.ending import exit_code
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.rgbd_folder import RgbdFolder

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


@dataclass(frozen=True)
class Try:
    """One reconstruction: the size of its largest model, of how many models, and None where nothing can be aligned."""

    seed: int
    registered: int
    models: int
    trajectory: TrajectoryError | None


def ranked(tries: Sequence[Try]) -> list[Try]:
    """Best first: more frames registered, and with as many the smaller error."""
    return sorted(tries, key=lambda t: (-t.registered, t.trajectory.ate_rmse_m if t.trajectory else math.inf))


def reconstruct(pictures: Sequence[np.ndarray], camera: Intrinsics, seeds: Sequence[int],
                threads: int = 1) -> Iterator[list[dict[int, Pose]]]:
    """COLMAP's models for each seed, largest first: T_model_camera by the picture's number, frame and unit their own.

    pictures (H, W, 3) uint8 of one pinhole camera. SIFT on the CPU, all pairs, incremental mapping; the seeds are the
    mapping's. With one thread a seed gives the same models each time. Raises ModuleNotFoundError without pycolmap.
    """
    import pycolmap  # after Pillow and OpenCV: what is loaded later calls the zlib inside it, and crashes writing a PNG

    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value
    with TemporaryDirectory() as folder:
        database, images, models = (Path(folder) / name for name in ("features.db", "images", "models"))
        images.mkdir()
        models.mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(images / f"{number:06d}.png")
        _match(pycolmap, database, images, camera, threads)
        for seed in seeds:
            pycolmap.set_random_seed(seed)
            found = pycolmap.incremental_mapping(database, images, models, pycolmap.IncrementalPipelineOptions(
                num_threads=threads, random_seed=seed, extract_colors=False,
                ba_refine_focal_length=False, ba_refine_principal_point=False, ba_refine_extra_params=False))
            yield sorted((_camera_poses(model) for model in found.values()), key=len, reverse=True)


def _match(pycolmap, database: Path, images: Path, camera: Intrinsics, threads: int) -> None:
    """Features, and matches between all pairs that one epipolar geometry explains, into the database."""
    pycolmap.set_random_seed(0)
    reader = pycolmap.ImageReaderOptions(camera_model="PINHOLE")
    reader.camera_params = f"{camera.fx}, {camera.fy}, {camera.cx + 0.5}, {camera.cy + 0.5}"  # (0, 0) is a corner
    pairs = pycolmap.TwoViewGeometryOptions()
    pairs.ransac.random_seed = 0
    pycolmap.extract_features(
        database, images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader, device=pycolmap.Device.cpu,
        extraction_options=pycolmap.FeatureExtractionOptions(num_threads=threads, use_gpu=False))
    pycolmap.match_exhaustive(
        database, verification_options=pairs, device=pycolmap.Device.cpu,
        matching_options=pycolmap.FeatureMatchingOptions(num_threads=threads, use_gpu=False))


def _camera_poses(model) -> dict[int, Pose]:
    registered = (model.image(k) for k in model.reg_image_ids())
    world = {int(Path(image.name).stem): image.cam_from_world().inverse() for image in registered}
    return {k: Pose.from_quaternion(world[k].translation, world[k].rotation.quat) for k in sorted(world)}


def judge(folder: tyro.conf.Positional[Path], *, json: Path | None = None, count: int = 60, tries: int = 5,
          threads: int = 1) -> None:
    """Reconstruct a drive's pictures with COLMAP and compare the cameras that it finds with poses.txt.

    Args:
        folder: an RGB-D folder: rgb/, poses.txt, camera.yaml.
        json: write the figures here, too.
        count: the first frames, this many; neighbours must overlap.
        tries: reconstructions, each with a seed of its own; the one in the middle of them counts.
        threads: more than one is faster, and may change the figures.
    """
    if count < 1 or tries < 1:
        raise ValueError(f"the judge needs 1 frame and 1 try or more, got --count {count} and --tries {tries}")
    frames = RgbdFolder(folder)
    used = [frames[k] for k in range(min(count, len(frames)))]
    pictures, true = [frame.rgb for frame in used], [frame.T_world_camera for frame in used]
    made = []
    for seed, models in enumerate(reconstruct(pictures, frames.intrinsics, range(tries), threads)):
        found = models[0] if models else {}
        error = trajectory_error(list(found.values()), [true[k] for k in found]) if len(found) >= FEWEST else None
        made.append(Try(seed, len(found), len(models), error))
    order = ranked(made)
    print(f"{folder}: {len(used)} frames, {tries} tries")
    for name, chosen in (("best", order[0]), ("middle", order[tries // 2]), ("worst", order[-1])):
        print(f"{name:>6}  {describe(chosen, len(used))}")
    if json is not None:
        figures = {"folder": str(folder), "frames": len(used), "middle": asdict(order[tries // 2]),
                   "tries": [asdict(one) for one in made]}
        json.write_text(jsonlib.dumps(figures, indent=2) + "\n")


def describe(one: Try, frames: int) -> str:
    """A try in one line."""
    line = f"{one.registered} frames registered ({100.0 * one.registered / frames:.0f} %), {one.models} models"
    if (error := one.trajectory) is None:
        return line
    return (f"{line}; ATE RMSE {error.ate_rmse_m:.4f} m, {error.ate_percent_of_path:.2f} % of {error.path_m:.2f} m; "
            f"median rotation error {error.rotation_median_deg:.2f} degrees")


def main() -> int:
    """Run the command line."""
    return exit_code(_command)


def _command() -> int | None:
    try:
        return tyro.cli(judge, prog="geometry_judge.py")
    except ModuleNotFoundError as error:
        if error.name != "pycolmap":
            raise
        print("error: the judge is COLMAP, and it is not installed: pip install pycolmap", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
