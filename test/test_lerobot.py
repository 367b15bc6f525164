"""`worldfm export --format lerobot`: LeRobot's own reader gives back the pictures, poses and motion, split by place."""

from dataclasses import dataclass, field
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scenes import room_poses, room_world
from tf_bags import write_tf_bag
import yaml

from worldfm_ros.cli.bag import render_bag
from worldfm_ros.cli.export import export_dataset
from worldfm_ros.cli.render import render
from worldfm_ros.export.export import open_samples
from worldfm_ros.export.lerobot import lerobot_dataset, moments_of, stretches_of
from worldfm_ros.export.splits import Split
from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.sources.rgbd_folder import write_poses
from worldfm_ros.world.storage import write_world

SECOND, TENTH = 10**9, 10**8  # ns
COUNT = 12
RIG = {"cameras": {"left": {"mount": "0 0.1 1 0 0 0", "width": 32, "height": 24},
                   "right": {"mount": "0 -0.1 1 0 0 0", "width": 40, "height": 24}}}


def on_an_arc(k):
    """T_world_camera of a robot that drives 0.5 m/s and turns 0.4 rad/s, at the k-th tenth of a second."""
    yaw = 0.04 * k
    return Pose.planar(1.25 * np.sin(yaw), 1.25 * (1 - np.cos(yaw)), yaw) @ T_BODY_OPTICAL


@dataclass
class Drives:
    """Poses alone, by name."""

    poses: dict[str, Pose]
    drives: dict[str, tuple[str, str]]
    facts: dict = field(default_factory=dict)


def drive(ticks, cameras=("front",)):
    return Drives({f"{camera}_{SECOND + k * TENTH}": on_an_arc(k) for camera in cameras for k in ticks},
                  {camera: ("drive", camera) for camera in cameras})


def test_the_action_is_the_velocity_of_the_body():
    samples = drive(range(5))
    stretch, = stretches_of(moments_of(samples, dict.fromkeys(samples.poses, "train")), TENTH)
    # along the chord of the arc, not along the arc itself
    chord = 0.5 * np.sinc(0.04 / 2 / np.pi)
    assert np.allclose([velocity for _, velocity in stretch], [chord, 0, 0, 0, 0, 0.4])
    assert np.allclose(stretch[2][0].T_world_body.matrix, (on_an_arc(2) @ T_BODY_OPTICAL.inverse()).matrix)


def test_an_episode_ends_where_the_split_changes_and_at_a_hole():
    samples = drive([0, 1, 2, 3, 6, 7, 8, 9])
    splits = {name: "test" if k > 5 else "train" for k, name in enumerate(samples.poses)}
    episodes = list(stretches_of(moments_of(samples, splits), TENTH))
    assert [[(moment.time - SECOND) // TENTH for moment, _ in episode] for episode in episodes] == [
        [0, 1, 2, 3], [6, 7], [8, 9]]
    turns = [velocity[5] for episode in episodes for _, velocity in episode]
    assert np.allclose(turns, 0.4), "over the hole as well"


def test_pictures_of_one_time_share_a_split_and_a_time_that_lacks_one_is_left_out():
    samples = drive(range(4), ("left", "right"))
    del samples.poses[f"right_{SECOND + 2 * TENTH}"]
    splits = {name: "train" if name.startswith("left") else "val" for name in samples.poses}
    moments = moments_of(samples, splits)
    assert [list(moment.pictures) for moment in moments] == [["left", "right"]] * 3
    assert splits.keys() == {name for moment in moments for name in moment.pictures.values()}
    assert set(splits.values()) == {"train"}, "the first camera's"


def test_a_single_picture_shows_no_motion():
    samples = drive([0])
    with pytest.raises(ValueError, match="an action leads from one picture to the next, and drive has not two times"):
        moments_of(samples, dict.fromkeys(samples.poses, "train"))


def test_a_lerobot_of_the_old_format_is_refused(monkeypatch):
    for name in ("lerobot", "lerobot.datasets"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    old = ModuleType("lerobot.datasets.lerobot_dataset")
    old.LeRobotDataset = SimpleNamespace()
    monkeypatch.setitem(sys.modules, old.__name__, old)
    with pytest.raises(ImportError, match="version 2, which today's does not read: pip install 'lerobot>=0.4'"):
        lerobot_dataset()


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    """A rig's pictures as a bag, and as a folder of two trajectories."""
    folder = tmp_path_factory.mktemp("drives")
    write_world(room_world(4, voxel=0.2), folder / "world")
    poses = room_poses(COUNT)
    for name, part in (("a", poses), ("b", poses[::-1][:COUNT // 2])):
        write_poses(dict(enumerate(part)), folder / f"{name}.txt")
    write_tf_bag(folder / "tf", poses)
    (folder / "rig.yaml").write_text(yaml.safe_dump(RIG))
    common = {"camera": folder / "rig.yaml", "model": "anchors"}
    render(folder / "world", trajectory=(folder / "a.txt", folder / "b.txt"), out=folder / "folder", **common)
    render_bag(folder / "tf", world=folder / "world", out=folder / "bag", rate=10.0, **common)
    return folder


def test_drives_and_cameras_of_a_source(drives):
    assert open_samples(drives / "bag").drives == {"left": ("bag", "left"), "right": ("bag", "right")}
    assert open_samples(drives / "folder").drives == {f"{name}_{camera}": (name, camera) for name in "ab"
                                                      for camera in ("left", "right")}


@pytest.mark.parametrize("kind, rate, lengths", [("bag", 10, [COUNT]), ("folder", 30, [COUNT, COUNT // 2])])
def test_lerobot_reads_what_was_rendered(drives, tmp_path, kind, rate, lengths):
    lerobot = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="lerobot is an extra", exc_type=Exception)
    split = Split(place=0.3, parts=(0.6, 0.2, 0.2))
    export_dataset(drives / kind, format="lerobot", out=tmp_path / "out", split=split)
    samples, splits = open_samples(drives / kind), json.loads((tmp_path / "out" / "splits.json").read_text())
    data = lerobot.LeRobotDataset("any/name", root=tmp_path / "out")
    assert len(data) == sum(lengths) and data.fps == rate and len(splits) == len(samples)
    ranges = {name: range(*map(int, text.split(":"))) for name, text in data.meta.info["splits"].items()}
    assert set(ranges) == {"train", "val", "test"} and sum(map(len, ranges.values())) == data.num_episodes
    places, seen = {}, set()
    for k in range(len(data)):
        frame = data[k]
        stamp = int(frame["observation.stamp"][0]) * SECOND + int(frame["observation.stamp"][1])
        split = next(name for name, episodes in ranges.items() if int(frame["episode_index"]) in episodes)
        position = frame["observation.state"][:3].numpy()
        name = min((name for name in samples.poses if "left" in name),
                   key=lambda name: np.abs(samples.poses[name].translation - position).max()
                   + abs(time_of(name) - stamp))
        assert splits[name] == split and name not in seen
        seen.add(name)
        places.setdefault(split, set()).add(tuple(np.floor(samples.poses[name].translation[:2] / 0.3)))
        for camera in ("left", "right"):
            shown = (frame[f"observation.images.{camera}"].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            assert np.array_equal(shown, samples.rgb(name.replace("left", camera)))
        assert frame["task"] == "drive through room" and np.isfinite(frame["action"].numpy()).all()
        assert abs(float(frame["timestamp"]) - int(frame["frame_index"]) / rate) < 1e-4
    assert not places["train"] & places["val"] | places["train"] & places["test"] | places["val"] & places["test"]


def time_of(name):
    """ns; of a folder's picture by its number."""
    stamp = int(name.rpartition("_")[2])
    return stamp if stamp >= SECOND else round(stamp * SECOND / 30)
