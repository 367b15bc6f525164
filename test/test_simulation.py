"""End to end: `worldfm sim` in a subprocess, real nodes over real DDS, and the bag read by tools that are not ours."""

from itertools import pairwise
import math
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scenes import room_poses, room_world
from simulations import read_bag, simulate, stamp_of, start
from tiny_models import tiny_taesd, tiny_transformer

from worldfm_ros.frame_model.checkpoint import ModelSettings, save_model_folder
from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import T_BODY_OPTICAL, Intrinsics, Pose
from worldfm_ros.sources.rgbd_folder import write_poses
from worldfm_ros.world.storage import read_world, write_world

pytest.importorskip("rclpy")


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds") / "room"
    write_world(room_world(24), folder)
    return folder


def check_images(bag, least):
    """Every image has a CameraInfo, a depth and labels of the same stamp; stamps rise and none comes twice."""
    stamps = bag.stamps("/camera/image_raw")
    assert len(stamps) >= least
    assert stamps == sorted(set(stamps))
    for topic in ("camera_info", "depth/image_rect", "depth/camera_info", "segmentation/image_raw"):
        assert set(bag.stamps(f"/camera/{topic}")) >= set(stamps[:-1]), topic
    assert {m.header.frame_id for m in bag.messages["/camera/image_raw"]} == {"camera_optical_frame"}


@pytest.fixture(scope="module")
def drive(room, tmp_path_factory):
    """A recorded drive of the demo robot: 6 seconds, 30 images, however busy the machine is."""
    folder = tmp_path_factory.mktemp("drive")
    size = ("width:=96", "height:=64", "rate:=5", "duration:=6")
    output = simulate(folder, f"world:={room}", "model:=anchors", *size, "record:=true", "bag:=b1")
    return folder / "b1", output


def test_a_drive_becomes_a_bag_of_images(drive):
    path, output = drive
    bag = read_bag(path)
    check_images(bag, least=30)
    stamps = bag.stamps("/camera/image_raw")
    assert set(bag.stamps("/camera/confidence/image_raw")) >= set(stamps[:-1]), "of a model that tells it"
    assert len(stamps) == 30 and set(np.diff(stamps)) == {10**9 // 5} and len(bag.messages["/odom"]) == 301
    assert bag.known(stamps) == stamps
    assert "/camera/image_raw: 30 asked, 30 published, 0 lost, 30 in the bag" in output
    assert "[WARN]" not in output and "[ERROR]" not in output, "a good run has nothing to complain about"
    moved = [bag.camera_pose(s)[:3, 3] for s in bag.known(stamps)]
    assert np.linalg.norm(np.max(moved, 0) - np.min(moved, 0)) > 0.3, "the robot drives"
    images = list(bag.images().values())
    assert all(image.std() > 5 for image in images) and np.any(images[0] != images[-1])


def test_the_picture_shows_the_pose_of_its_stamp(drive, room):
    """Byte for byte what the generator paints for the pose that /tf has at the image's stamp."""
    path, _ = drive
    bag = read_bag(path)
    generator = load_generator(read_world(room))
    camera = Intrinsics.from_hfov(96, 64, math.radians(70))
    images = bag.images()
    compared = bag.known(images)[::5]
    assert compared
    for stamp in compared:
        frame = generator.generate(Pose.from_matrix(bag.camera_pose(stamp)), camera)
        different = np.any(frame.rgb != images[stamp], axis=2).mean()
        assert different < 0.01, "but for rounding of the pose in the last bit"


@pytest.mark.parametrize("model", ["random", "worldfm-tiny"])
def test_a_network_paints_through_the_node(model, room, tmp_path, ros):
    """What the node publishes is what the generator paints in this process: a folder, and the default model."""
    from rclpy.node import Node
    from sensor_msgs.msg import Image

    watcher, seen = Node("watcher"), []
    watcher.create_subscription(Image, "/camera/image_raw", lambda image: seen.append(image.header.stamp), 10)
    ros.spin(watcher)
    settings = ModelSettings("random", sizes=((64, 96),))
    save_model_folder(tmp_path / "random", settings, tiny_transformer(), tiny_taesd())
    size = ("width:=96", "height:=64", "rate:=2")
    named = () if model == "worldfm-tiny" else (f"model:={model}",)
    process = start(tmp_path, f"world:={room}", *named, *size, "record:=true", "bag:=b3")
    ros.wait_for(lambda: len(seen) >= 5, "images", 240.0)  # a busy machine paints a picture in seconds
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    bag = read_bag(tmp_path / "b3")
    check_images(bag, least=2)
    generator = load_generator(read_world(room), str(tmp_path / "random") if named else "worldfm-tiny")
    images = bag.images()
    compared = bag.known(images)
    assert compared
    for stamp in compared:
        pose = Pose.from_matrix(bag.camera_pose(stamp))
        frame = generator.generate(pose, Intrinsics.from_hfov(96, 64, math.radians(70)))
        assert np.mean(np.abs(frame.rgb.astype(int) - images[stamp]) > 2) < 0.01, "but for rounding of the pose"


def test_the_buffer_agrees_with_scipy_on_the_recorded_tf(drive):
    from worldfm_ros.nodes.tf_buffer import TransformBuffer

    bag = read_bag(drive[0])
    buffer = TransformBuffer()
    for (parent, child), samples in bag.transforms.items():
        for stamp, pose in samples:
            buffer.insert(parent, child, stamp, pose.translation, pose.quaternion, static=len(samples) == 1)
    stamps = np.array([s for s, _ in bag.transforms["odom", "base_link"]])
    for stamp in np.random.default_rng(0).integers(max(stamps[0], stamps[-1] - 9 * 10**9), stamps[-1], 1000):
        pose = buffer.lookup("map", "camera_optical_frame", int(stamp))
        np.testing.assert_allclose(pose.matrix, bag.camera_pose(int(stamp)), atol=1e-9)


def test_the_bag_opens_with_other_peoples_tools(drive):
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    path, _ = drive
    with open(next(path.glob("*.mcap")), "rb") as stream:
        decoded = [
            m
            for _, channel, _, m in make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages()
            if channel.topic == "/camera/image_raw"
        ]
    assert [stamp_of(m.header) for m in decoded] == read_bag(path).stamps("/camera/image_raw")
    assert decoded[0].encoding == "rgb8" and decoded[0].step == 96 * 3 and len(decoded[0].data) == 96 * 64 * 3
    doctor = subprocess.run([Path(sys.executable).with_name("rosbag-doctor"), path], capture_output=True, text=True)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_a_trajectory_is_played_exactly(room, tmp_path):
    """Every pose is in TF, in order, and the camera shows each of them. The first is that of the start."""
    poses = dict(enumerate(room_poses(12)))
    write_poses(poses, tmp_path / "poses.txt")
    size = ("width:=96", "height:=64", "rate:=4", "duration:=3")
    simulate(tmp_path, f"world:={room}", "model:=anchors", *size, "trajectory:=poses.txt", "record:=true", "bag:=b2")
    bag = read_bag(tmp_path / "b2")
    played = [bag.camera_pose(stamp) for stamp, _ in bag.transforms["odom", "base_link"]]
    unique = [played[0]] + [b for a, b in pairwise(played) if np.abs(a - b).max() > 1e-9]
    np.testing.assert_allclose(unique, [pose.matrix for pose in poses.values()], atol=1e-9)
    shown = [index_of(bag.camera_pose(stamp), poses) for stamp in bag.known(bag.images())]
    assert shown == [*range(1, 12), 11], "the last one holds"


def index_of(matrix, poses):
    """The index of the pose that is this one, but for rounding."""
    (index,) = (index for index, pose in poses.items() if np.abs(pose.matrix - matrix).max() < 1e-9)
    return index


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_simulation_with_a_whole_bag(room, tmp_path, stop):
    process = start(
        tmp_path, f"world:={room}", "model:=anchors", "width:=64", "height:=48", "record:=true", "bag:=b",
        "namespace:=front/eye",
    )
    wait_for_bag(tmp_path / "b", 200_000)
    process.send_signal(stop)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "Traceback" not in output and "killed" not in output
    stamps = read_bag(tmp_path / "b").stamps("/front/eye/image_raw")
    assert len(stamps) > 2 and stamps == sorted(set(stamps))


def wait_for_bag(path, size):
    end = time.monotonic() + 240
    while sum(p.stat().st_size for p in path.glob("*.mcap")) < size:
        assert time.monotonic() < end, "the recording does not grow"
        time.sleep(0.1)


def test_nodes_do_not_outlive_a_killed_simulation(room, tmp_path):
    process = start(tmp_path, f"world:={room}", "model:=anchors", "width:=64", "height:=48", "record:=true", "bag:=b")
    wait_for_bag(tmp_path / "b", 100_000)
    process.kill()
    process.wait()
    end = time.monotonic() + 120
    while any(str(tmp_path) == os.readlink(p / "cwd") for p in Path("/proc").glob("[0-9]*") if readable(p / "cwd")):
        assert time.monotonic() < end, "a node is still running"
        time.sleep(0.1)
    assert read_bag(tmp_path / "b").stamps("/camera/image_raw")


def readable(link):
    try:
        os.readlink(link)
    except OSError:
        return False
    return True


@pytest.mark.skipif(
    not shutil.which("mount") or os.geteuid() != 0, reason="a small disk is made by mounting one, as root"
)
def test_a_full_disk_ends_the_simulation_with_a_readable_bag(room, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        output = simulate(tmp_path, f"world:={room}", "model:=anchors", "duration:=60", "record:=true",
                          f"bag:={disk}/b", code=1)
        assert "No space left" in output
        assert read_bag(disk / "b").stamps("/camera/image_raw")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize(
    "argument, message",
    [
        ("world:=atlantis", "there is no world folder 'atlantis'"),
        ("widht:=3", "did you mean 'width'?"),
        ("model:=dalle", "there is no model 'dalle'"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(room, tmp_path, argument, message):
    output = simulate(tmp_path, f"world:={room}", argument, code=2)
    assert message in output and "Traceback" not in output


SLOWED = """
import sys
from worldfm_ros.cli import sim
command = sim.command
def slowed(node):
    words = command(node)
    i = words.index("-m")
    return words if node.executable != "frame_camera" else [*words[:i], sys.argv[1], "0.2", *words[i + 2:]]
sim.command = slowed
sys.exit(sim.simulate(sys.argv[2:]))
"""


def test_a_real_time_recording_that_lost_images_is_a_failure(room, tmp_path):
    """A model that takes 200 ms, at 30 Hz in real time. What is lost is said, by reason, and the figures balance."""
    arguments = ("viewer:=false", f"world:={room}", "model:=anchors", "width:=96", "height:=64", "rate:=30",
                 "duration:=3", "lockstep:=false", "record:=true", "bag:=b")
    slow_camera = Path(__file__).with_name("slow_camera.py")
    process = subprocess.run([sys.executable, "-c", SLOWED, slow_camera, *arguments], cwd=tmp_path, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
    output = process.stdout
    assert process.returncode == 3, output
    assert re.search(r"takes \d+ ms a frame here: about \S+ of the 30 Hz asked; lockstep:=true loses none", output)
    for subject in ("images", "/camera/image_raw"):
        account = rf"{subject}: (\d+) asked, (\d+) published, (\d+) lost \((.*?)\)(?:, (\d+) unfinished)?"
        line = re.search(account, output)
        asked, published, lost, unfinished = (int(line[i] or 0) for i in (1, 2, 3, 5))
        assert asked == published + lost + unfinished and published > 0
        assert lost == sum(int(reason.split()[0]) for reason in line[4].split(", ")) and "overruns" in line[4]
    bag = read_bag(tmp_path / "b")
    in_bag = int(re.search(r"/camera/image_raw: .* (\d+) in the bag", output)[1])
    assert in_bag <= published and in_bag <= len(bag.stamps("/camera/image_raw"))
    assert re.search(r"recording is incomplete: \d+ of \d+ asked images of /camera/image_raw are in the bag: ", output)
    assert "error: bag_recorder ended with exit code 3" in output
    assert "is not known" not in output, "no noise of the start"


def test_the_optical_frame_is_mounted_as_rep_103_says(drive):
    bag = read_bag(drive[0])
    np.testing.assert_allclose(
        bag.transforms["camera_link", "camera_optical_frame"][0][1].matrix, T_BODY_OPTICAL.matrix, atol=1e-12
    )
