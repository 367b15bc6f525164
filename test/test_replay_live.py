"""What `worldfm bag render` writes is what the live camera publishes in lockstep on the same TF: message by message."""

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore
from scenes import room_poses, room_world
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from test_lockstep_nodes import make, no_waiting  # noqa: E402, F401

from worldfm_ros.bags.reader import open_bag  # noqa: E402
from worldfm_ros.bags.writer import BagWriter  # noqa: E402
from worldfm_ros.cli.bag import Frames, render_bag  # noqa: E402
from worldfm_ros.nodes.bag_recorder import BagRecorder  # noqa: E402
from worldfm_ros.nodes.demo_robot import DemoRobot  # noqa: E402
from worldfm_ros.nodes.frame_camera import FrameCamera  # noqa: E402
from worldfm_ros.nodes.graph import recorded_topics  # noqa: E402
from worldfm_ros.sources.rgbd_folder import write_poses  # noqa: E402
from worldfm_ros.world.storage import write_world  # noqa: E402

CAMERA = {"width": 61, "height": 47, "distortion_model": "plumb_bob", "D": [-0.1, 0.01, 0.0, 0.0, 0.0],
          "K": [50.0, 0.0, 30.0, 0.0, 50.0, 23.0, 0.0, 0.0, 1.0],
          "sensor": {"full_well": 3000.0, "exposure_time": 0.02}}
STAMPS = 8
STORE = get_typestore(Stores.ROS2_JAZZY)


def record(ros, folder, frame):
    """A drive in lockstep with a lens, noise and motion blur; returns the bag."""
    write_world(room_world(6, voxel=0.1), folder / "world")
    write_poses(dict(enumerate(room_poses(STAMPS + 2))), folder / "poses.txt")
    (folder / "camera.yaml").write_text(yaml.safe_dump(CAMERA))
    topics = [topic for topic in recorded_topics(["camera"]) if not topic.startswith("odom")]
    recorder = ros.spin(make(BagRecorder, bag=str(folder / "live"), lockstep=True, use_sim_time=True, topics=topics,
                             wait_for=["camera/frame_camera", "demo_robot"]))
    ros.spin(make(FrameCamera, namespace="camera", world=str(folder / "world"), model="anchors", lockstep=True,
                  camera=str(folder / "camera.yaml"), rate=10.0, use_sim_time=True, camera_frame=frame))
    robot = ros.spin(make(DemoRobot, trajectory=str(folder / "poses.txt"), rate=10.0, lockstep=True,
                          real_time_factor=0.0, duration=STAMPS / 10.0, camera_frame=frame,
                          wait_for=["camera/frame_camera", "bag_recorder"]))
    ros.wait_for(lambda: robot.exit_code is not None, "the end of the drive", 60.0)
    ros.close()
    ros._spinning.clear()
    assert recorder.exit_code is None
    return folder / "live"


def tf_alone(source, out):
    with open_bag(source) as bag, BagWriter(out) as writer:
        known = {c.topic: writer.add_topic(c.topic, c.msgtype, c.ext.offered_qos_profiles)
                 for c in bag.connections if c.topic.startswith("/tf")}
        for connection, recorded, data in bag.messages():
            if connection.topic in known:
                writer.write(known[connection.topic], recorded, data)
    return out


def messages(path):
    """By topic and stamp; the gaps of alignment, which Fast CDR leaves as they are, set to 0, and without those that
    DDS may add at the end."""
    found = {}
    with open_bag(path) as bag:
        for connection, recorded, data in bag.messages():
            message = STORE.deserialize_cdr(data, connection.msgtype)
            if hasattr(message, "header"):
                stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                found[connection.topic, stamp] = recorded, bytes(STORE.serialize_cdr(message, connection.msgtype))
                assert 0 <= len(data) - len(found[connection.topic, stamp][1]) < 4
    return found


@pytest.mark.parametrize("frame", ["camera_optical_frame", "eye"])  # of which one aligns the messages' ends
def test_the_same_messages_at_the_same_times(ros, tmp_path, frame):
    live = record(ros, tmp_path, frame)
    render_bag(tf_alone(live, tmp_path / "tf"), world=tmp_path / "world", camera=tmp_path / "camera.yaml",
               model="anchors", out=tmp_path / "out", rate=10.0, frames=Frames(camera_frame=frame))
    live, ours = messages(live), messages(tmp_path / "out")
    images = [stamp for topic, stamp in live if topic == "/camera/image_raw"]
    assert len(images) == STAMPS
    assert live.keys() <= ours.keys()
    for key, (recorded, data) in live.items():
        assert ours[key] == (recorded, data), key
    assert len({bytes(np.frombuffer(data, np.uint8)[-900:]) for (topic, _), (_, data) in ours.items()
                if topic == "/camera/image_raw"}) > 1
