"""`worldfm render`: worlds along trajectories, without ROS: pictures with depth, labels and poses, or videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tyro

from worldfm_ros.cli.rendering import Where, check_rate
from worldfm_ros.geometry import Pose
from worldfm_ros.progress import Progress
from worldfm_ros.replay.cameras import ReplayCamera, read_cameras
from worldfm_ros.replay.engine import Rendering, check_new
from worldfm_ros.replay.files_output import VIDEOS, FolderFiles, Videos, group_of, job_name, video_frame, write_folders
from worldfm_ros.replay.recipe import Job, Model, Painting, Recipe, Scene, followed
from worldfm_ros.replay.truths import check_truths
from worldfm_ros.sensor.motion import along
from worldfm_ros.sources.rgbd_folder import read_poses


def render(
    world: tyro.conf.Positional[Path],
    *,
    trajectory: tuple[Path, ...],
    camera: Path,
    model: str,
    out: Path,
    rate: float = 30.0,
    seed: int = 0,
    preset: str = "exact",
    objects: str = "",
    truth: tuple[str, ...] = (),
    where: tyro.conf.OmitArgPrefixes[Where] = Where(),
) -> None:
    """Draw a world from every pose of trajectories, into RGB-D folders or videos.

    The camera has the lens of its file, and takes its pictures as the file's key `sensor` says (docs/sensors.md):
    noise, exposure, vignette, motion blur and rolling shutter, for which pose follows pose at `rate`. Several
    trajectories or cameras make a folder each, OUT/TRAJECTORY/CAMERA, or videos. A command that was stopped goes on
    where it was.

    Args:
        world: the world folder.
        trajectory: files of lines `index tx ty tz qx qy qz qw`, camera-to-world, optical axes; of a rig's first camera.
        camera: a camera.yaml, a ROS camera_info file, or the YAML of a rig.
        model: `anchors` (no network), the name of an installed model, or a model folder.
        out: FILE.mp4, or a folder (rgb/%06d.png, depth, segmentation, instances, confidence, poses.txt, camera.yaml),
            which must not exist.
        rate: frames a second of a video, and poses a second for what moves while a picture is taken.
        seed: of the model's noise.
        preset: exact, or fast: what may be done to a network for speed.
        objects: what moves: an objects.yaml (docs/objects.md), or demo; pose number n is at n / rate seconds.
        truth: of a folder, what else: things boxes normals flow (docs/datasets.md).
    """
    check_rate(rate)
    is_video = check_kind(out)
    cameras = read_cameras(camera)
    truths = check_truths(truth)
    jobs = followed(list(jobs_of({path.stem: read_poses(path) for path in trajectory}, cameras, rate)))
    if len({path.stem for path in trajectory}) < len(trajectory):
        raise ValueError("two trajectories have one name, and their pictures would have, too; rename one")
    recipe = Recipe.of(Scene.of(world, objects, "things" in truths), Model(model, seed, preset), cameras)
    painting = Painting(recipe, video_frame if is_video else FolderFiles(truths))
    rendering = Rendering(out, painting, jobs, f"{out.suffix} {rate} {truths}")
    if is_video:
        for path in Videos(rate).paths(out, sorted({group_of(job) for job in jobs})).values():
            check_new(path)
    rendering.paint(where.runner, Progress(f"painting with {model}"))
    if is_video:
        Videos(rate).write(rendering)
    else:
        write_folders(rendering)
    print(f"{out}: {len(jobs)} frames")


def jobs_of(trajectories: Mapping[str, Mapping[int, Pose]], cameras: Sequence[ReplayCamera],
            rate: float) -> Iterator[Job]:
    """A picture of each camera from each pose, trajectory by trajectory; the noise of each follows from its index.

    Raises ValueError for cameras that are mounted on different frames.
    """
    if len({camera.parent for camera in cameras}) > 1:
        raise ValueError("the cameras of this rig have different parent frames, and only TF could tell how they move; "
                         "use `worldfm bag render`")
    for name, poses in trajectories.items():
        for place, camera in enumerate(cameras):
            T_first_camera = cameras[0].T_parent_optical.inverse() @ camera.T_parent_optical if place else None
            path = [pose @ T_first_camera if T_first_camera else pose for pose in poses.values()]
            offsets = camera.sensor().offsets
            group = "/".join([name] * (len(trajectories) > 1) + [camera.namespace] * (len(cameras) > 1))
            for step, index in enumerate(poses):
                about = tuple(along(path, step + offset * rate) for offset in offsets)
                yield Job(job_name(group, index), place, index, about, round(step / rate * 1e9))


def check_kind(out: Path) -> bool:
    """Whether a video is asked for. Raises ValueError for another kind of file."""
    if out.suffix and out.suffix not in VIDEOS:
        raise ValueError(f"cannot write {out}: name a folder, or a video that ends in {', '.join(VIDEOS)}")
    return out.suffix in VIDEOS
