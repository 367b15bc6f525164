"""`worldfm bag remake`: frames of a rendered bag come out again byte for byte; another world is refused."""

import json
import shutil

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from scenes import room_poses, room_world
from tf_bags import START, TENTH, write_tf_bag
import yaml

from worldfm_ros.bags.reader import open_bag
from worldfm_ros.cli.bag import remake_bag, render_bag
from worldfm_ros.replay.bag_output import NOTE, note_of
from worldfm_ros.world.storage import write_world

COUNT = 6
RIG = {"cameras": {"left": {"mount": "0 0.1 1 0 0 0", "width": 32, "height": 24},
                   "right": {"mount": "0 -0.1 1 0 0 0", "width": 32, "height": 24, "full_well": 2000.0}},
       "randomize": {"seed": 7, "noise": {"log_uniform": [500, 20000]}, "jitter_position": {"normal": [0, 0.005]}}}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A world, and a bag of two noisy, shaken cameras with all truth."""
    folder = tmp_path_factory.mktemp("stage")
    write_world(room_world(4, voxel=0.2), folder / "world")
    write_tf_bag(folder / "drive", room_poses(COUNT))
    (folder / "rig.yaml").write_text(yaml.safe_dump(RIG))
    render_bag(folder / "drive", world=folder / "world", camera=folder / "rig.yaml", model="anchors", rate=10.0, seed=3,
               truth=("things", "boxes", "normals", "flow"), out=folder / "bag")
    return folder


def test_every_frame_comes_out_again(stage, capsys):
    remake_bag(stage / "bag", world=stage / "world")
    told = capsys.readouterr().out
    assert told.startswith(f"{stage / 'bag'}: {2 * COUNT} of {2 * COUNT} frames made again, ")
    with open_bag(stage / "bag") as bag:
        painted = sum(c.msgcount for c in bag.connections if not c.topic.startswith("/tf")
                      and not c.topic.endswith(("/labels", "/names")))
    assert f" {painted} messages, byte for byte" in told, "all that the cameras sent"


def test_one_frame_of_a_number_or_a_stamp(stage, capsys):
    remake_bag(stage / "bag", world=stage / "world", index=2 * COUNT - 1)
    assert "1 of 1 frames" in capsys.readouterr().out
    remake_bag(stage / "bag", world=stage / "world", stamp=START + 3 * TENTH)
    assert "2 of 2 frames" in capsys.readouterr().out, "one of each camera"
    remake_bag(stage / "bag", world=stage / "world", every=5)
    assert "3 of 3 frames" in capsys.readouterr().out
    for wrong, match in (({"index": 2 * COUNT}, f"frames 0 to {2 * COUNT - 1}"), ({"index": 1, "every": 2}, "one of"),
                         ({"stamp": START + 1}, f"the nearest is {START}"), ({"every": 0}, "one of")):
        with pytest.raises(ValueError, match=match):
            remake_bag(stage / "bag", world=stage / "world", **wrong)
    with pytest.raises(FileNotFoundError, match="none is missing"):
        remake_bag(stage / "none", world=stage / "world")


def with_note(stage, tmp_path, **changes):
    """The bag with another note."""
    shutil.copytree(stage / "bag", tmp_path / "bag")
    file = tmp_path / "bag" / "metadata.yaml"
    data = yaml.safe_load(file.read_text())
    data["rosbag2_bagfile_information"]["custom_data"][NOTE] = json.dumps(note_of(stage / "bag") | changes)
    file.write_text(yaml.safe_dump(data))
    return tmp_path / "bag"


def test_another_seed_and_a_changed_pixel_are_seen(stage, tmp_path, capsys):
    cameras = note_of(stage / "bag")["cameras"]
    cameras[1]["randomize"]["seed"] = 8
    with pytest.raises(SystemExit) as ended:
        remake_bag(with_note(stage, tmp_path, cameras=cameras), world=stage / "world")
    told = capsys.readouterr()
    assert ended.value.code == 1 and f"{COUNT} of {2 * COUNT} frames" in told.out, "the other camera's are the same"
    assert "right/" in told.err and "image_raw" in told.err and "left/" not in told.err
    with open_bag(stage / "bag") as bag, Writer(tmp_path / "touched", version=9,
                                                 storage_plugin=StoragePlugin.MCAP) as writer:
        known = {c.topic: writer.add_connection(c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest)
                 for c in bag.connections}
        for number, (connection, recorded, data) in enumerate(bag.messages()):
            data = bytearray(data)
            if connection.topic == "/left/image_raw" and number % 2:
                data[-1] ^= 1
            writer.write(known[connection.topic], recorded, bytes(data))
        writer.set_custom_data(NOTE, json.dumps(note_of(stage / "bag")))
    with pytest.raises(SystemExit):
        remake_bag(tmp_path / "touched", world=stage / "world")
    told = capsys.readouterr().err
    assert "left/" in told and ": image_raw came out otherwise" in told and "right/" not in told


def test_what_is_not_the_bags_is_refused(stage, tmp_path):
    write_world(room_world(4, voxel=0.25), tmp_path / "other")
    with pytest.raises(ValueError, match="other is not what the bag was painted of: its hash is .*, the bag names"):
        remake_bag(stage / "bag", world=tmp_path / "other")
    with pytest.raises(ValueError, match="the model 'worldfm-tiny' here is not the bag's: .* names none"):
        remake_bag(stage / "bag", world=stage / "world", model="worldfm-tiny")
    with pytest.raises(ValueError, match="painted without objects; leave out --objects"):
        remake_bag(stage / "bag", world=stage / "world", objects="demo")
    with pytest.raises(ValueError, match="does not tell how it was painted"):
        remake_bag(stage / "drive", world=stage / "world")
    note = note_of(stage / "bag") | {"world": note_of(stage / "bag")["world"] | {"objects": "people.yaml"}}
    with pytest.raises(ValueError, match="painted with people.yaml; give that file as --objects"):
        remake_bag(with_note(stage, tmp_path, world=note["world"]), world=stage / "world")
