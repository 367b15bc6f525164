"""`worldfm render`: several trajectories and cameras, folders and videos, stopped and gone on with."""

import json

import cv2
import numpy as np
import pytest
from scenes import room_poses, room_world
import yaml

from worldfm_ros.cli.render import render
from worldfm_ros.cli.rendering import Where
from worldfm_ros.replay import engine
from worldfm_ros.sources.rgbd_folder import RgbdFolder, read_poses, write_poses
from worldfm_ros.world.storage import write_world

RIG = {"all": {"width": 64, "height": 48, "parent_frame": "base_link"},
       "cameras": {"left": {"mount": "0 0.1 1 0 0 0"}, "right": {"mount": "0 -0.1 1 0 0 0.2"}}}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    write_world(room_world(6, voxel=0.1), folder / "world")
    for name, poses in (("a", room_poses(3)), ("b", room_poses(5)[::2])):
        write_poses(dict(enumerate(poses)), folder / f"{name}.txt")
    (folder / "rig.yaml").write_text(yaml.safe_dump(RIG))
    return folder


def rendered(stage, out, trajectories="ab", **options):
    options = {"camera": stage / "rig.yaml", "model": "anchors"} | options
    render(stage / "world", trajectory=tuple(stage / f"{name}.txt" for name in trajectories), out=out, **options)
    return out


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_trajectories_and_cameras_have_folders_each(stage, tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    out = rendered(stage, tmp_path / "here" / "out")
    left, right = (RgbdFolder(out / "b" / name) for name in ("left", "right"))
    assert len(left) == len(right) == 3
    assert [pose.translation.tolist() for pose in left.poses] == [
        pose.translation.tolist() for pose in read_poses(stage / "b.txt").values()]
    for a, b in zip(left.poses, right.poses, strict=True):
        T = a.inverse() @ b
        assert np.allclose(T.translation, [0.2, 0, 0]) and np.isclose(T.rotation.magnitude(), 0.2)
    kinds = {path.name for path in (out / "a" / "left").iterdir()}
    assert kinds == {"rgb", "depth", "segmentation", "confidence", "poses.txt", "camera.yaml", "classes.json"}
    classes = json.loads((out / "a" / "left" / "classes.json").read_text())
    assert classes == {"labels": {"1": "x wall", "2": "y wall", "3": "floor"}, "instances": {}}
    confidence = cv2.imread(str(out / "a" / "left" / "confidence" / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert confidence.shape == (48, 64) and confidence.dtype == np.uint8 and confidence.max() == 255
    monkeypatch.setattr(engine, "CHUNK", 5)
    there = rendered(stage, tmp_path / "there" / "out", where=Where(processes=2))
    assert files(there) == files(out)


def test_videos(stage, tmp_path):
    rendered(stage, tmp_path / "drive.mp4", rate=10.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"drive-{trajectory}-{camera}.mp4" for trajectory in "ab" for camera in ("left", "right")]
    with pytest.raises(FileExistsError, match="drive-a-left.mp4 exists"):
        rendered(stage, tmp_path / "drive.mp4")


def test_what_cannot_be_rendered(stage, tmp_path):
    rig = tmp_path / "rig.yaml"
    rig.write_text(yaml.safe_dump({"cameras": {"a": {}, "b": {"parent_frame": "arm"}}}))
    with pytest.raises(ValueError, match="different parent frames.*bag render"):
        rendered(stage, tmp_path / "out", camera=rig)
    with pytest.raises(ValueError, match="two trajectories have one name"):
        rendered(stage, tmp_path / "out", "aa")
    with pytest.raises(ValueError, match="--ray and --processes"):
        rendered(stage, tmp_path / "out", where=Where(processes=2, ray="auto"))
    assert [path.name for path in tmp_path.iterdir()] == ["rig.yaml"]
