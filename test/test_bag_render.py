"""`worldfm bag render`: a bag of TF alone gets cameras; the same bytes however the work is shared or ends."""

from dataclasses import dataclass, replace
import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scenes import room_poses, room_world
from simulations import read_bag, stamp_of
from tf_bags import START, TENTH, write_tf_bag
import yaml

from worldfm_ros.bags.reader import open_bag
from worldfm_ros.cli.bag import render_bag
from worldfm_ros.cli.rendering import Frames, Where
from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import Pose
from worldfm_ros.progress import Progress
from worldfm_ros.replay import engine, runners
from worldfm_ros.replay.bag_output import NOTE, note_of
from worldfm_ros.replay.cameras import ReplayCamera, read_cameras
from worldfm_ros.replay.engine import Rendering
from worldfm_ros.replay.messages import MessageMaker
from worldfm_ros.replay.parts import pack, unpack
from worldfm_ros.replay.recipe import Job, Model, Painting, Recipe, Scene
from worldfm_ros.replay.runners import InProcesses, OnRay, in_this_process
from worldfm_ros.world.storage import read_world, write_world

RIG = {"cameras": {"left": {"mount": "0 0.1 1 0 0 0", "width": 32, "height": 24},
                   "right": {"mount": "0 -0.1 1 0 0 0", "width": 32, "height": 24, "full_well": 2000.0}}}
K = [25.0, 0.0, 15.5, 0.0, 25.0, 11.5, 0.0, 0.0, 1.0]
COUNT = 6  # stamps of the drive


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A world, a TF bag, a camera file and a rig."""
    folder = tmp_path_factory.mktemp("stage")
    write_world(room_world(4, voxel=0.2), folder / "world")
    write_tf_bag(folder / "drive", room_poses(COUNT))
    (folder / "camera.yaml").write_text(yaml.safe_dump({"width": 32, "height": 24, "K": K}))
    (folder / "rig.yaml").write_text(yaml.safe_dump(RIG))
    return folder


@pytest.fixture(scope="module")
def whole(stage, tmp_path_factory):
    """The drive with its camera, rendered at once in this process."""
    return rendered(stage, tmp_path_factory.mktemp("whole") / "bag")


@pytest.fixture(scope="module")
def rigged(stage, tmp_path_factory):
    """The drive with two cameras."""
    return rendered(stage, tmp_path_factory.mktemp("rigged") / "bag", camera="rig.yaml", seed=3)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 2)


def rendered(stage, out, bag="drive", camera="camera.yaml", **options):
    options = {"rate": 10.0, "model": "anchors"} | options
    render_bag(stage / bag, world=stage / "world", camera=stage / camera, out=out, **options)
    return out


def content(path):
    with open_bag(path) as bag:
        return [(c.topic, c.msgtype, recorded, bytes(data)) for c, recorded, data in bag.messages()]


def test_every_tick_has_its_picture_and_the_input_stays(stage, tmp_path, capsys):
    out = rendered(stage, tmp_path / "out")
    bag = read_bag(out)
    due = [START + k * TENTH for k in range(COUNT)]
    for topic in ("image_raw", "camera_info", "depth/image_rect", "depth/camera_info", "segmentation/image_raw",
                  "confidence/image_raw"):
        assert bag.stamps(f"/camera/{topic}") == due
    assert capsys.readouterr().out == f"{out}: {COUNT} of {COUNT} images\n"
    copied = [each for each in content(out) if each[0] in ("/tf", "/tf_static")]
    assert copied == content(stage / "drive")
    assert json.loads(bag.messages["/camera/segmentation/labels"][0].data) == {"1": "x wall", "2": "y wall",
                                                                              "3": "floor"}
    with open_bag(stage / "drive") as a, open_bag(out) as b:
        offered = [{c.topic: c.ext.offered_qos_profiles for c in bag.connections} for bag in (a, b)]
    assert all(offered[1][topic] == profiles for topic, profiles in offered[0].items())
    assert not (tmp_path / "out.unfinished").exists()


def test_every_pose_and_other_rates(stage, tmp_path):
    every = read_bag(rendered(stage, tmp_path / "every", rate=None))
    assert every.stamps("/camera/image_raw") == [START + k * TENTH for k in range(COUNT)]
    fast = read_bag(rendered(stage, tmp_path / "fast", rate=20.0)).stamps("/camera/image_raw")
    assert fast == [START + k * TENTH // 2 for k in range(2 * COUNT - 1)], "between two transforms, too"


def test_a_camera_is_where_its_transforms_multiplied_put_it(stage, rigged):
    bag, note = read_bag(rigged), note_of(rigged)
    generator = load_generator(read_world(stage / "world"), note["model"]["name"], note["seed"], note["preset"])
    for name, camera in zip(("left", "right"), map(ReplayCamera.from_dict, note["cameras"]), strict=True):
        chain = ("map", "odom"), ("odom", "base_link"), ("base_link", f"{name}_link"), (f"{name}_link", camera.frame)
        pictures = []
        for message in bag.messages[f"/{name}/image_raw"]:
            pose, stamp = np.eye(4), stamp_of(message.header)
            for edge in chain:
                samples = dict(bag.transforms[edge])
                pose = pose @ samples.get(stamp, next(iter(samples.values()))).matrix
            taken = camera.sensor().take(generator.generate, [Pose.from_matrix(pose)], stamp)
            pictures.append((taken.frame.rgb.ravel(), message.data))
        assert len(pictures) == COUNT
        assert all(np.mean(here != there) < 1e-3 for here, there in pictures), "but for a pose's last bits"
        assert np.mean(pictures[0][0] != pictures[1][1]) > 0.1, "another pose, another picture"


@dataclass(frozen=True)
class Deadly:
    """Makes messages, and kills its own process the first few times."""

    folder: Path
    deaths: int = 1
    stamp: int = START + 3 * TENTH

    def __call__(self, shot):
        marks = len(list(self.folder.glob("death*")))
        if shot.job.stamp == self.stamp and marks < self.deaths:
            (self.folder / f"death{marks}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return MessageMaker()(shot)


def jobs_of(stage):
    poses = room_poses(COUNT)
    return [Job(f"camera/{k}", 0, START + k * TENTH, (pose,), START + k * TENTH) for k, pose in enumerate(poses)]


def painted(stage, tmp_path, make, runner):
    recipe = Recipe.of(Scene.of(stage / "world"), Model("anchors"), read_cameras(stage / "camera.yaml"))
    rendering = Rendering(tmp_path / "out", Painting(recipe, make), jobs_of(stage))
    rendering.paint(runner, Progress("painting"))
    return [made for _, made in rendering.made()]


def test_processes_one_killed_paint_the_same_bytes(stage, tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    expected = painted(stage, here, MessageMaker(), in_this_process)
    assert painted(stage, there, Deadly(there), InProcesses(2)) == expected
    assert "a worker was killed" in capsys.readouterr().err
    assert len(expected) == COUNT


def test_workers_that_always_die_are_an_error(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(runners, "DEATHS", 2)
    with pytest.raises(RuntimeError, match="2 workers in a row were killed .*--processes fewer"):
        painted(stage, tmp_path, Deadly(tmp_path, deaths=9, stamp=START), InProcesses(1))


def test_a_stopped_command_goes_on_and_the_bag_is_the_same_file(stage, whole, tmp_path, monkeypatch, capsys):
    write, count = engine.write_whole, []

    def stop_after_two(file, data):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(file)
        write(file, data)

    monkeypatch.setattr(engine, "write_whole", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        rendered(stage, tmp_path / "bag")
    assert [path.name for path in tmp_path.iterdir()] == ["bag.unfinished"]
    monkeypatch.setattr(engine, "write_whole", write)
    with pytest.raises(ValueError, match="unfinished work of another rendering"):
        rendered(stage, tmp_path / "bag", seed=1)
    capsys.readouterr()
    rendered(stage, tmp_path / "bag")
    assert "going on: 2 of 3 parts" in capsys.readouterr().err
    for name in ("bag.mcap", "metadata.yaml"):
        assert (whole / name).read_bytes() == (tmp_path / "bag" / name).read_bytes()


def test_a_second_command_for_the_same_output_is_refused_while_the_first_one_lives(stage, whole, tmp_path):
    (tmp_path / "bag.unfinished").mkdir()
    holder = ("import pathlib, sys; from worldfm_ros.files import claim\n"
              "claimed = claim(pathlib.Path(sys.argv[1])); print(flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", holder, tmp_path / "bag.unfinished"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        refused(stage, tmp_path, "another run is writing into", out=tmp_path / "bag")
        other.kill()
        other.wait()
    rendered(stage, tmp_path / "bag")
    assert content(tmp_path / "bag") == content(whole)
    assert not (tmp_path / "bag.unfinished").exists()


def test_the_command_in_two_processes(stage, rigged, tmp_path):
    command = [sys.executable, "-m", "worldfm_ros.cli.main", "bag", "render", stage / "drive", "--world",
               stage / "world", "--camera", stage / "rig.yaml", "--model", "anchors", "--rate", "10", "--seed", "3",
               "--out", tmp_path / "bag", "--processes", "2"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    told = f"{tmp_path / 'bag'}: {2 * COUNT} of {2 * COUNT} images\n"
    assert done.returncode == 0 and done.stdout == told, done.stderr
    assert content(tmp_path / "bag") == content(rigged)


def test_ray_paints_the_same_bytes(stage, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="ray is an extra")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # where Deadly is
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    expected = painted(stage, here, MessageMaker(), in_this_process)
    assert painted(stage, there, Deadly(there), OnRay("auto")) == expected


def test_ray_says_what_a_worker_lacks(stage, tmp_path):
    pytest.importorskip("ray", reason="ray is an extra")
    recipe = Recipe.of(Scene.of(stage / "world"), Model("anchors"), read_cameras(stage / "camera.yaml"))
    painting = Painting(replace(recipe, code_hash="0"), MessageMaker())
    with pytest.raises(ValueError, match="^on a node of the Ray cluster: a worker runs another version of worldfm_ros"):
        Rendering(tmp_path / "out", painting, jobs_of(stage)).paint(OnRay("auto"), Progress("painting"))
    assert not list(tmp_path.iterdir()), "nothing has begun"


def test_without_ray_it_says_what_to_install(stage, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match="pip install ray"):
        rendered(stage, tmp_path / "out", where=Where(ray="auto"))


def test_a_cluster_that_does_not_answer(stage, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # it is not asked for anything
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(stage, tmp_path, f"no Ray cluster answers at {address}", error=ConnectionError,
                where=Where(ray=address))
    for wrong in ("somewhere", "host:port", "ray://:1", "host:99999"):
        refused(stage, tmp_path, "the address of a cluster's head, HOST:PORT", where=Where(ray=wrong))


def test_parts():
    made = [{"a": b"1", "b": b""}, {}, {"a": bytes(1000)}]
    assert unpack(pack(made)) == made
    part = bytearray(pack(made))
    part[-3] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        unpack(bytes(part))


@pytest.mark.parametrize("change, message", [
    ({"code_hash": "0"}, "another version of worldfm_ros"),
    ({"scene": Scene("/nowhere")}, "does not have the world: there is no /nowhere"),
    ({"scene_hash": "0"}, "another world by that name"),
    ({"model_hash": "0"}, "another model by that name"),
])
def test_a_worker_that_is_set_up_otherwise_says_so(stage, change, message):
    recipe = Recipe.of(Scene.of(stage / "world"), Model("anchors"), read_cameras(stage / "camera.yaml"))
    with pytest.raises(ValueError, match=message):
        replace(recipe, **change).check_here()


def test_a_hole_in_tf_costs_the_stamps_in_it(stage, tmp_path, capsys):
    poses = room_poses(30)
    write_tf_bag(tmp_path / "whole", poses)
    with open_bag(tmp_path / "whole") as bag:
        kept = [(c, t, d) for c, t, d in bag.messages() if not START + 5 * TENTH < t < START + 25 * TENTH]
        copy_bag(kept, tmp_path / "holey")
    render_bag(tmp_path / "holey", world=stage / "world", camera=stage / "camera.yaml", model="anchors",
               out=tmp_path / "out", rate=10.0)
    told = capsys.readouterr()
    assert "11 of 30 images" in told.out and "lost: 19 without a pose: gap" in told.err


def copy_bag(messages, path, **compression):
    """Foreign: written by rosbags, in sqlite3."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3)
    if compression:
        writer.set_compression(compression["mode"], CompressionFormat.ZSTD)
    known = {}
    with writer:
        for connection, recorded, data in messages:
            if connection.topic not in known:
                known[connection.topic] = writer.add_connection(
                    connection.topic, connection.msgtype, msgdef=connection.msgdef.data, rihs01=connection.digest,
                    offered_qos_profiles=connection.ext.offered_qos_profiles)
            writer.write(known[connection.topic], recorded, data)


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_packed_bags(stage, tmp_path, mode):
    with open_bag(stage / "drive") as bag:
        copy_bag(list(bag.messages()), tmp_path / "packed", mode=mode)
    render_bag(tmp_path / "packed", world=stage / "world", camera=stage / "camera.yaml", model="anchors",
               out=tmp_path / "out", rate=5.0)
    assert len(read_bag(tmp_path / "out").messages["/camera/image_raw"]) == COUNT // 2


def test_custom_types_are_kept(stage, tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("string who\nfloat64 weight", "farm_msgs/msg/Cow"))
    cow = store.types["farm_msgs/msg/Cow"]("Erna", 612.5)
    data = bytes(store.serialize_cdr(cow, "farm_msgs/msg/Cow"))
    with open_bag(stage / "drive") as bag, Writer(tmp_path / "in", version=9,
                                                   storage_plugin=StoragePlugin.MCAP) as writer:
        cows = writer.add_connection("/cows", "farm_msgs/msg/Cow", typestore=store)
        writer.write(cows, START, data)
        known = {c.topic: writer.add_connection(c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest)
                 for c in bag.connections}
        for connection, recorded, message in bag.messages():
            writer.write(known[connection.topic], recorded, message)
    render_bag(tmp_path / "in", world=stage / "world", camera=stage / "camera.yaml", model="anchors",
               out=tmp_path / "out", rate=1.0)
    assert read_bag(tmp_path / "out").messages["/cows"][0].weight == 612.5


def refused(stage, tmp_path, match, bag=None, error=ValueError, **options):
    before = sorted(tmp_path.iterdir())
    options = {"world": stage / "world", "camera": stage / "camera.yaml", "model": "anchors", "rate": 10.0,
               "out": tmp_path / "out"} | options
    with pytest.raises(error, match=match):
        render_bag(bag or stage / "drive", **options)
    assert sorted(tmp_path.iterdir()) == before, "nothing half-written"


def test_what_cannot_be_rendered_is_refused(stage, whole, tmp_path):
    refused(stage, tmp_path, "'eye' .*is not known: frames that transforms have named: .*base_link.*--camera-frame",
            frames=Frames(camera_frame="eye"))
    refused(stage, tmp_path, "never says where .* in the world's frame 'earth'", frames=Frames(map_frame="earth"))
    refused(stage, tmp_path, "the rate is frames a second", rate=0.0)
    refused(stage, tmp_path, "there is no model 'best'", model="best")
    refused(stage, tmp_path, "is no world folder", world=stage)
    refused(stage, tmp_path, "is missing", bag=stage / "none", error=FileNotFoundError)
    refused(stage, tmp_path, "there is no folder", out=tmp_path / "a" / "b", error=FileNotFoundError)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"width": 32, "height": "24", "K": K}))
    refused(stage, tmp_path, "height is a whole number of pixels", camera=wrong)
    wrong.write_text(yaml.safe_dump({"cameras": {"a": {"world": "other"}}}))
    refused(stage, tmp_path, "world is said on the command line", camera=wrong)
    refused(stage, tmp_path, "exists and is never overwritten", error=FileExistsError, out=whole)
    refused(stage, tmp_path, "has /camera/camera_info.* already", bag=whole, out=tmp_path / "again")


def test_bags_without_tf_or_cut_short_are_refused(stage, tmp_path):
    whole = (stage / "drive" / "drive.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[:len(whole) // 2])
    refused(stage, tmp_path, "worldfm bag recover", bag=tmp_path / "cut.mcap")
    with open_bag(stage / "drive") as bag:
        copy_bag([m for m in bag.messages() if m[0].topic == "/tf"], tmp_path / "moving")
        copy_bag([m for m in bag.messages() if m[0].topic == "/tf_static"], tmp_path / "static")
    refused(stage, tmp_path, "never says where 'camera_optical_frame'", bag=tmp_path / "moving")
    refused(stage, tmp_path, "no transform in it moves|never says where", bag=tmp_path / "static")
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(tmp_path / "talk", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        chatter = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        writer.write(chatter, 1, bytes(store.serialize_cdr(store.types["std_msgs/msg/String"]("x"),
                                                           "std_msgs/msg/String")))
    refused(stage, tmp_path, "has no TF: .*It has /chatter", bag=tmp_path / "talk")


def test_the_note_is_beside_the_checksums(whole):
    custom = yaml.safe_load((whole / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["custom_data"]
    assert NOTE in custom and "worldfm_ros.crc32:/camera/image_raw" in custom
