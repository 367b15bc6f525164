"""Domain randomisation: values are of their distributions, follow from the seed alone, and leave all truth as it is."""

import json

import numpy as np
import pytest
from scenes import room_poses, room_world
from scipy import stats
from simulations import read_bag
from tf_bags import write_tf_bag
import yaml

from worldfm_ros.cli.bag import render_bag
from worldfm_ros.generator import FrameGenerator
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.nodes.rig import read_rig
from worldfm_ros.painting.blend import Blend
from worldfm_ros.replay.cameras import ReplayCamera, read_cameras
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.camera_file import read_randomization
from worldfm_ros.sensor.distribution import distribution_of
from worldfm_ros.sensor.randomize import gains, jittered, randomization_of
from worldfm_ros.sensor.sensor import Sensor
from worldfm_ros.world.storage import write_world

SECOND = 10**9
BLOCK = {"seed": 7, "exposure": {"uniform": [-1, 1]}, "temperature": {"normal": [6500, 800]},
         "tone": {"uniform": [0.8, 1.25]}, "noise": {"log_uniform": [500, 20000]}, "blur": {"uniform": [0, 1.2]},
         "fog": {"uniform": [0, 0.1]}, "hour": {"uniform": [6, 20]}, "distractors": {"integers": [0, 4]}}
JITTER = {"jitter_position": {"normal": [0, 0.01]}, "jitter_rotation": {"normal": [0, 0.01]}}
DISTRIBUTIONS = {
    "exposure": stats.uniform(-1, 2), "temperature": stats.norm(6500, 800), "tone": stats.uniform(0.8, 0.45),
    "noise": stats.loguniform(500, 20000), "blur": stats.uniform(0, 1.2), "fog": stats.uniform(0, 0.1),
    "hour": stats.uniform(6, 14), "jitter_position_x": stats.norm(0, 0.01), "jitter_rotation_z": stats.norm(0, 0.01)}
CAMERA = Camera(Intrinsics(80, 60, 50.0, 50.0, 39.5, 29.5), name="eye")
TRUTH = ("depth", "labels", "coverage", "instances")


@pytest.fixture(scope="module")
def generate():
    return FrameGenerator(room_world(6, voxel=0.1), Blend()).generate


def test_200_frames_are_of_their_distributions():
    randomization = randomization_of(BLOCK | JITTER)
    frames = [randomization.values("eye", k * SECOND // 10) for k in range(200)]
    for name, distribution in DISTRIBUTIONS.items():
        assert stats.kstest([frame[name] for frame in frames], distribution.cdf).pvalue > 0.01, name
    counts = np.bincount([int(frame["distractors"]) for frame in frames], minlength=5)
    assert len(counts) == 5 and stats.chisquare(counts).pvalue > 0.01
    names = list(DISTRIBUTIONS)
    values = np.array([[frame[name] for name in names] for frame in frames])
    assert np.abs(np.corrcoef(values.T) - np.eye(len(names))).max() < 0.25, "independent of each other"


def test_a_value_follows_from_seed_camera_and_stamp_alone():
    block = randomization_of(BLOCK)
    assert block.values("eye", 5) == block.values("eye", 5)
    alone = randomization_of({"seed": 7, "fog": BLOCK["fog"]})
    assert alone.values("eye", 5)["fog"] == block.values("eye", 5)["fog"]
    others = (block.values("eye", 6), block.values("other", 5), randomization_of(BLOCK | {"seed": 8}).values("eye", 5))
    assert all(other["fog"] != block.values("eye", 5)["fog"] for other in others)
    assert randomization_of(block.to_dict()) == block


def test_truth_is_byte_for_byte_that_of_the_run_without(generate):
    plain, varied = Sensor(CAMERA), Sensor(CAMERA, randomization=randomization_of(BLOCK))
    changed = 0
    for k, pose in enumerate(room_poses(12) * 2):
        a, b, again = (sensor.take(generate, [pose], k * SECOND) for sensor in (plain, varied, varied))
        for name in TRUTH:
            assert getattr(a.frame, name).tobytes() == getattr(b.frame, name).tobytes(), name
        assert a.depth.tobytes() == b.depth.tobytes()
        assert b.frame.rgb.tobytes() == again.frame.rgb.tobytes(), "the same seed, the same bytes"
        hidden = b.frame.confidence != a.frame.confidence
        assert not hidden.any() or (b.frame.confidence[hidden] == 0).all()
        assert hidden.any() <= (b.values["distractors"] > 0)
        changed += np.abs(a.frame.rgb.astype(int) - b.frame.rgb).mean() > 2
    assert changed > 20


def test_the_truth_of_a_shaken_camera_is_what_it_sees(generate):
    shaken = Sensor(CAMERA, randomization=randomization_of(BLOCK | JITTER))
    pose = room_poses(3)[0]
    taken = shaken.take(generate, [pose], 3)
    still = Sensor(CAMERA).take(generate, [jittered(pose, taken.values)], 3)
    moved = Sensor(CAMERA).take(generate, [pose], 3)
    for name in TRUTH:
        assert getattr(taken.frame, name).tobytes() == getattr(still.frame, name).tobytes()
    assert moved.frame.depth.tobytes() != still.frame.depth.tobytes()


def only(generate, name, value, pose=None):
    sensor = Sensor(CAMERA, randomization=randomization_of({name: value}))
    return sensor.take(generate, [pose or room_poses(3)[0]], 1).frame


def test_each_does_what_it_says(generate):
    plain = Sensor(CAMERA).take(generate, [room_poses(3)[0]], 1).frame.rgb.astype(float)
    assert np.array_equal(only(generate, "exposure", 0.0).rgb, plain), "nothing is lost on the way to light and back"
    assert only(generate, "exposure", 1.0).rgb.mean() > plain.mean() > only(generate, "exposure", -1.0).rgb.mean()
    assert only(generate, "tone", 2.0).rgb.mean() < plain.mean()
    assert only(generate, "blur", 3.0).rgb.std() < plain.std() > only(generate, "fog", 0.8).rgb.std()
    warm, cold = (only(generate, "temperature", kelvin).rgb.mean((0, 1)) for kelvin in (3500.0, 12000.0))
    assert warm[0] - warm[2] > cold[0] - cold[2]
    assert gains({"hour": 13.0}).sum() > gains({"hour": 19.0}).sum() > 0
    noisy = only(generate, "noise", 200.0).rgb - plain
    assert 2 < noisy.std() < 30 and abs(noisy.mean()) < 2
    assert (only(generate, "distractors", 5.0).rgb != plain).any(axis=-1).mean() > 0.05


@pytest.mark.parametrize("block, message", [
    ([], "randomize is a mapping"), ({"exposur": 1}, "did you mean 'exposure'"), ({"seed": -1}, "seed is a whole"),
    ({"fog": {"uniform": [0, 2]}}, "randomize.fog: it is from 0 to 1"), ({"fog": {"uniform": [1]}}, "two numbers"),
    ({"fog": {"beta": [1, 2]}}, "a distribution is one of uniform"), ({"fog": {"uniform": [0.2, 0.1]}}, "lower number"),
    ({"noise": {"log_uniform": [0, 5]}}, "above 0"),
    ({"fog": "much"}, "a number, or"), ({"fog": {"uniform": 3}}, "list")])
def test_wrong_blocks(block, message):
    with pytest.raises(ValueError, match=message):
        randomization_of(block)


def test_a_number_is_always_that():
    assert distribution_of(3).draw(np.random.default_rng(0)) == 3.0


def test_camera_files_and_rigs_have_it_and_a_bag_tells_the_values(tmp_path):
    write_world(room_world(6, voxel=0.1), tmp_path / "world")
    write_tf_bag(tmp_path / "tf", room_poses(4))
    K = [50.0, 0.0, 39.5, 0.0, 50.0, 29.5, 0.0, 0.0, 1.0]
    base = {"width": 80, "height": 60, "K": K}
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump(base | {"randomize": BLOCK}))
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump({"cameras": {"a": {}, "b": {}}, "randomize": BLOCK}))
    for name in ("camera", "plain"):
        render_bag(tmp_path / "tf", world=tmp_path / "world", camera=tmp_path / f"{name}.yaml", model="anchors",
                   out=tmp_path / name, rate=10.0)
    varied, plain = read_bag(tmp_path / "camera"), read_bag(tmp_path / "plain")
    told = [json.loads(message.data) for message in varied.messages["/camera/randomization"]]
    assert [each["stamp"] for each in told] == varied.stamps("/camera/image_raw")
    camera, = read_cameras(tmp_path / "camera.yaml")
    assert told[2]["values"] == camera.randomization.values("camera_optical_frame", told[2]["stamp"])
    assert ReplayCamera.from_dict(camera.to_dict()).randomization == camera.randomization
    for topic in ("depth/image_rect", "segmentation/image_raw"):
        pairs = zip(varied.messages[f"/camera/{topic}"], plain.messages[f"/camera/{topic}"], strict=True)
        assert all(a.data.tobytes() == b.data.tobytes() for a, b in pairs)
    assert "/camera/randomization" not in plain.messages
    rig = read_rig(tmp_path / "rig.yaml")
    assert read_randomization(rig["a"]["randomize"]) == randomization_of(BLOCK)
    a, b = read_cameras(tmp_path / "rig.yaml")
    assert a.randomization.values(a.frame, 1) != b.randomization.values(b.frame, 1)
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump(base | {"randomize": {"fog": 3}}))
    with pytest.raises(ValueError, match="camera.yaml: randomize.fog"):
        read_cameras(tmp_path / "camera.yaml")
