"""The viewer as a browser meets it: a process fed over DDS, read over HTTP."""

from contextlib import contextmanager
import json
import math
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from worldfm_ros.geometry import T_BODY_OPTICAL, Pose  # noqa: E402
from worldfm_ros.nodes.conversions import make_header, to_transform_stamped  # noqa: E402
from worldfm_ros.nodes.viewer import LatestImage, describe_pose, problem_with, to_jpeg  # noqa: E402

PATIENCE = 30.0  # seconds for anything that must happen at all
SECOND = 10**9


def colored(red, green, blue, width=64, height=48, stamp=0, padding=0):
    """An rgb8 image of one colour, its rows `padding` bytes longer than they need to be."""
    rows = np.zeros((height, width * 3 + padding), np.uint8)
    rows[:, :width * 3] = np.tile(np.array([red, green, blue], np.uint8), width)
    return Image(header=make_header(stamp, "camera_optical_frame"), width=width, height=height, encoding="rgb8",
                 step=rows.shape[1], data=rows.tobytes())


def decoded_rgb(jpeg):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def wait_for(value):
    """The first true value that `value()` gives."""
    end = time.monotonic() + PATIENCE
    while not (found := value()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def node():
    rclpy.init()
    node = rclpy.create_node("fake_camera")
    yield node
    node.destroy_node()
    rclpy.shutdown()


def start(*parameters):
    return subprocess.Popen([sys.executable, "-m", "worldfm_ros.nodes.viewer", "--ros-args",
                             *(word for parameter in parameters for word in ("-p", parameter))],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextmanager
def viewer(*parameters):
    """A viewer process and its address, host:port."""
    process = start("port:=0", *parameters)
    try:
        address = None
        while address is None:
            line = process.stdout.readline()
            assert line, "the viewer ended"
            address = re.search(r"http://(localhost:\d+)", line)
        yield process, address[1]
    finally:
        process.kill()
        process.communicate()


def stop(process, number=signal.SIGINT):
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def status(address):
    with urlopen(f"http://{address}/status", timeout=PATIENCE) as reply:
        return json.load(reply)


def read_part(stream):
    """One JPEG of a multipart/x-mixed-replace stream."""
    while not (line := stream.readline()).lower().startswith(b"content-length"):
        assert line, "the stream ended"
    size = int(line.split(b":")[1])
    stream.readline()
    return stream.read(size)


def thread_count(process):
    with open(f"/proc/{process.pid}/status") as file:
        return int(re.search(r"Threads:\s*(\d+)", file.read())[1])


def test_jpeg_shows_the_colours_whatever_the_encoding():
    orange = (240, 130, 20)
    assert np.abs(decoded_rgb(to_jpeg(colored(*orange, padding=5))).astype(int) - orange).max() < 6
    bgr = colored(*orange[::-1])
    bgr.encoding = "bgr8"
    assert np.abs(decoded_rgb(to_jpeg(bgr)).astype(int) - orange).max() < 6
    gray = Image(width=8, height=4, encoding="mono8", step=8, data=bytes([77] * 32))
    assert np.abs(decoded_rgb(to_jpeg(gray)).astype(int) - 77).max() < 3


def test_image_that_cannot_be_shown_says_why():
    depth = Image(width=8, height=4, encoding="32FC1", step=32, data=bytes(128))
    short = Image(width=8, height=4, encoding="rgb8", step=24, data=bytes(95))
    empty = Image(encoding="rgb8")
    assert to_jpeg(depth) == to_jpeg(short) == to_jpeg(empty) == b""
    assert "32FC1 images are not shown" in problem_with(depth)
    assert "8 x 4 rgb8, rows of 24 bytes, 95 bytes" in problem_with(short) and "malformed" in problem_with(empty)


def test_latest_image_is_compressed_once_and_only_when_asked():
    latest = LatestImage()
    assert latest.wait_for_jpeg(0, timeout=0.0) == (0, b"")
    latest.put(colored(255, 0, 0))
    latest.put(colored(0, 0, 255))
    count, jpeg = latest.wait_for_jpeg(0, timeout=PATIENCE)
    assert count == 2 and (decoded_rgb(jpeg)[20, 20] == (0, 0, 254)).all()
    assert latest.wait_for_jpeg(1, timeout=PATIENCE)[1] is jpeg
    latest.close()
    assert latest.wait_for_jpeg(2, timeout=PATIENCE)[0] == 2  # does not wait any more


@pytest.mark.parametrize("yaw", [-170.0, -90.0, 0.0, 30.0])
def test_yaw_is_where_the_camera_looks(yaw):
    pose = describe_pose(Pose.planar(1.0, -2.0, math.radians(yaw)) @ T_BODY_OPTICAL)
    assert pose == pytest.approx({"x": 1.0, "y": -2.0, "z": 0.0, "yaw": yaw})


def test_page_stream_and_pose(node):
    images = node.create_publisher(Image, "/camera/image_raw", 5)
    transforms = node.create_publisher(TFMessage, "/tf", 10)
    static = node.create_publisher(TFMessage, "/tf_static",
                                   QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    static.publish(TFMessage(transforms=[to_transform_stamped(T_BODY_OPTICAL, "base_link", "camera_optical_frame", 0)]))
    with viewer() as (process, address):
        page = urlopen(f"http://{address}/", timeout=PATIENCE).read().decode()
        assert "waiting for images on" in page and not re.search(r"(src|href)=.https?:", page)
        assert status(address) == {"topic": "/camera/image_raw", "image": None}
        wait_for(lambda: images.get_subscription_count() and transforms.get_subscription_count())

        for k in range(3):  # the robot goes 1 m a second along x, and looks along y
            pose = Pose.planar(float(k), 0.0, math.pi / 2)
            transforms.publish(TFMessage(transforms=[to_transform_stamped(pose, "map", "base_link", k * SECOND)]))
        stream = urlopen(f"http://{address}/stream", timeout=PATIENCE)
        wait_for(lambda: images.publish(colored(200, 40, 90, stamp=1_500_000_000)) or status(address)["image"])
        shown = wait_for(lambda: (s := status(address))["pose"] and s)
        assert shown["image"] == {"width": 64, "height": 48, "encoding": "rgb8"} and shown["stamp"] == 1.5
        assert shown["pose"] == pytest.approx({"x": 1.5, "y": 0.0, "z": 0.0, "yaw": 90.0}) and not shown["problem"]
        assert np.abs(decoded_rgb(read_part(stream)).astype(int) - (200, 40, 90)).max() < 6
        images.publish(colored(10, 220, 30, stamp=7 * SECOND))
        wait_for(lambda: np.abs(decoded_rgb(read_part(stream)).astype(int) - (10, 220, 30)).max() < 6)
        late = status(address)
        assert late["pose"] is None and "7.0" in late["problem"]  # no TF at that stamp: says so, shows no old pose
        wait_for(lambda: status(address)["stale"])
        assert status(address)["rate"] == 0.0

        code, output = stop(process)  # with the stream still open
        assert code == 0 and "Traceback" not in output


def test_browsers_that_leave_cost_nothing(node):
    images = node.create_publisher(Image, "/camera/image_raw", 5)
    with viewer() as (process, address):
        wait_for(images.get_subscription_count)

        wait_for(lambda: images.publish(colored(1, 2, 3)) or status(address)["image"])
        streams = [urlopen(f"http://{address}/stream", timeout=PATIENCE) for _ in range(5)]
        for stream in streams:
            assert read_part(stream)
        served = thread_count(process)
        for stream in streams:
            stream.close()
        wait_for(lambda: images.publish(colored(1, 2, 3)) or thread_count(process) <= served - len(streams))
        code, output = stop(process, signal.SIGTERM)
        assert code == 0 and "Traceback" not in output and "Exception" not in output


def test_browsers_that_leave_before_the_first_image_cost_nothing_either(node):
    with viewer() as (process, address):
        streams = [urlopen(f"http://{address}/stream", timeout=PATIENCE) for _ in range(5)]
        for stream in streams:
            assert stream.readline() == b"--frame\r\n"
        serving = thread_count(process)
        for stream in streams:
            stream.close()
        wait_for(lambda: thread_count(process) <= serving - len(streams))


def test_the_stream_stays_whole_while_there_is_nothing_to_show(node):
    images = node.create_publisher(Image, "/camera/image_raw", 5)
    with viewer() as (process, address):
        wait_for(images.get_subscription_count)
        stream = urlopen(f"http://{address}/stream", timeout=PATIENCE)
        assert stream.readline() == b"--frame\r\n" and stream.readline() == b"X-Image: none\r\n"
        wait_for(lambda: images.publish(colored(200, 40, 90)) or status(address)["image"])
        assert np.abs(decoded_rgb(read_part(stream)).astype(int) - (200, 40, 90)).max() < 6


def test_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(f"port:={port}")
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "Traceback" not in output
    assert re.search(rf"error: .*port {port}.*taken.*parameters .*port .*port:=\d+", output)
