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
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from geometry_msgs.msg import Twist  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402
from waiting import PATIENCE, wait_for  # noqa: E402

from worldfm_ros.geometry import T_BODY_OPTICAL, Pose  # noqa: E402
from worldfm_ros.nodes.conversions import make_header, to_transform_stamped  # noqa: E402
from worldfm_ros.nodes.shown_images import colours_of, problem_with  # noqa: E402

SECOND = 10**9


def colored(red, green, blue, width=64, height=48, stamp=0, padding=0):
    """An rgb8 image of one colour, its rows `padding` bytes longer than they need to be."""
    rows = np.zeros((height, width * 3 + padding), np.uint8)
    rows[:, :width * 3] = np.tile(np.array([red, green, blue], np.uint8), width)
    return Image(header=make_header(stamp, "camera_optical_frame"), width=width, height=height, encoding="rgb8",
                 step=rows.shape[1], data=rows.tobytes())


def decoded_rgb(jpeg):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


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


def spin(node, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.01)


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


def test_pixels_are_rgb_whatever_the_encoding():
    orange = (240, 130, 20)
    assert (colours_of(colored(*orange, padding=5)) == orange).all()
    bgr = colored(*orange[::-1])
    bgr.encoding = "bgr8"
    assert (colours_of(bgr) == orange).all()
    gray = Image(width=8, height=4, encoding="mono8", step=8, data=bytes([77] * 32))
    assert (colours_of(gray) == 77).all() and colours_of(gray).shape == (4, 8, 3)


def test_layers_have_colours_of_their_own():
    metres = np.linspace(1.0, 5.0, 32, dtype=np.float32).reshape(4, 8)
    depth = Image(width=8, height=4, encoding="32FC1", step=32, data=metres.tobytes())
    shown = colours_of(depth, "depth").astype(int)
    assert shown[0, 1, 0] > shown[0, 1, 2] and shown[-1, -2, 2] > shown[-1, -2, 0]  # near is red, far is blue
    millimetres = Image(width=8, height=4, encoding="16UC1", step=16, data=(1e3 * metres).astype("u2").tobytes())
    np.testing.assert_allclose(colours_of(millimetres, "depth"), shown, atol=12)
    labels = Image(width=2, height=1, encoding="mono16", step=4, is_bigendian=1, data=bytes([0, 0, 0, 3]))
    none, three = colours_of(labels, "labels")[0]
    assert none.max() < 40 < three.max()
    assert colours_of(labels, "confidence") is None and "mono16 images" in problem_with(labels, "confidence")


def test_image_that_cannot_be_shown_says_why():
    depth = Image(width=8, height=4, encoding="32FC1", step=32, data=bytes(128))
    short = Image(width=8, height=4, encoding="rgb8", step=24, data=bytes(95))
    empty = Image(encoding="rgb8")
    assert colours_of(depth) is colours_of(short) is colours_of(empty) is None
    assert "32FC1 images are not shown" in problem_with(depth)
    assert "8 x 4 rgb8, rows of 24 bytes, 95 bytes" in problem_with(short) and "malformed" in problem_with(empty)


def drive(address, token, **command):
    """What the page posts while somebody pushes the stick; whether it counts."""
    body = json.dumps({"client": "a", "push": "1", "number": 1, **command}).encode()
    request = Request(f"http://{address}/drive", body, {"X-Worldfm-Token": token, "Origin": f"http://{address}"})
    with urlopen(request, timeout=PATIENCE) as reply:
        return json.load(reply)["counts"]


def test_the_stick_moves_the_robot_and_a_closed_tab_stops_it(node):
    twists = []
    with viewer("speed:=0.4", "turn:=2.0") as (process, address):
        assert not status(address)["drives"]
        robot = node.create_subscription(Twist, "/cmd_vel", twists.append, 50)
        wait_for(lambda: status(address)["drives"])
        spin(node, 0.3)
        assert not twists  # nobody has taken the stick, and somebody else may drive
        token = re.search(r'worldfm-token" content="(.+?)"', urlopen(f"http://{address}/").read().decode())[1]
        assert drive(address, token, forward=0.5, yaw=-1.0)
        wait_for(lambda: spin(node, 0.02) or twists)
        assert (twists[0].linear.x, twists[0].angular.z) == (0.2, -2.0)
        wait_for(lambda: spin(node, 0.02) or twists[-1].linear.x == twists[-1].angular.z == 0.0)  # nothing more came
        assert status(address)["steering"] == {"engaged": True, "driver": "a", "moving": False, "fly": False}
        assert drive(address, token, push="2", client="b", forward=1.0) and not drive(address, token, forward=1.0)
        drive(address, token, release=True)
        spin(node, 0.3)
        count = len(twists)
        spin(node, 0.3)
        assert len(twists) == count and not status(address)["steering"]["engaged"]
        with pytest.raises(HTTPError, match="403"):
            drive(address, "another", forward=1.0)
        node.destroy_subscription(robot)
        assert stop(process)[0] == 0


def test_layers_are_taken_while_somebody_looks(node):
    depth = node.create_publisher(Image, "/camera/depth/image_rect", 5)
    with viewer() as (_, address):
        spin(node, 0.5)
        assert not depth.get_subscription_count()
        stream = urlopen(f"http://{address}/stream?layer=depth", timeout=PATIENCE)
        wait_for(depth.get_subscription_count)
        metres = np.full((4, 8), 2.0, np.float32)
        depth.publish(Image(width=8, height=4, encoding="32FC1", step=32, data=metres.tobytes()))
        assert decoded_rgb(read_part(stream)).shape == (4, 8, 3)
        stream.close()
        wait_for(lambda: not depth.get_subscription_count())


def test_diagnostics_are_told(node):
    diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 5)
    values = {"published": "7", "dropped.gap": "2", "overruns": "0", "mean_generate_ms": "31.5",
              "mean_wait_tf_ms": "1.0"}
    of_ours = DiagnosticStatus(name="/camera/frame_camera: images", values=[
        KeyValue(key=key, value=value) for key, value in values.items()])
    of_another = DiagnosticStatus(name="/rear/frame_camera: images", values=[KeyValue(key="published", value="99")])
    with viewer() as (_, address):
        wait_for(diagnostics.get_subscription_count)
        wait_for(lambda: diagnostics.publish(DiagnosticArray(status=[of_ours, of_another]))
                 or "stages" in status(address))
        told = status(address)
        assert told["published"] == 7 and told["lost"] == {"gap": 2}
        assert told["stages"] == {"wait_tf": 1.0, "generate": 31.5, "publish": 0.0}


def test_page_stream_and_pose(node):
    images = node.create_publisher(Image, "/camera/image_raw", 5)
    transforms = node.create_publisher(TFMessage, "/tf", 10)
    static = node.create_publisher(TFMessage, "/tf_static",
                                   QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    static.publish(TFMessage(transforms=[to_transform_stamped(T_BODY_OPTICAL, "base_link", "camera_optical_frame", 0)]))
    with viewer() as (process, address):
        page = urlopen(f"http://{address}/", timeout=PATIENCE).read().decode()
        assert "live camera image" in page and not re.search(r"(src|href)=.https?:", page)
        told = status(address)
        assert told["topic"] == "/camera/image_raw" and told["image"] is None
        wait_for(lambda: images.get_subscription_count() and transforms.get_subscription_count())

        def drive_by():  # the robot goes 1 m a second along x, and looks along y
            for k in range(3):
                pose = Pose.planar(float(k), 0.0, math.pi / 2)
                transforms.publish(TFMessage(transforms=[to_transform_stamped(pose, "map", "base_link", k * SECOND)]))

        stream = urlopen(f"http://{address}/stream", timeout=PATIENCE)
        wait_for(lambda: images.publish(colored(200, 40, 90, stamp=1_500_000_000)) or status(address)["image"])
        # again and again: a viewer of the test before may still count as the one that listens
        shown = wait_for(lambda: drive_by() or (s := status(address))["camera"] and s)
        assert shown["image"] == {"width": 64, "height": 48, "encoding": "rgb8"} and shown["stamp"] == 1.5
        assert shown["camera"]["at"] == pytest.approx([1.5, 0.0, 0.0]) and not shown["problem"]
        assert shown["camera"]["yaw"] == pytest.approx(90.0)
        assert shown["robot"] == pytest.approx([1.5, 0, math.pi / 2, 0])
        assert np.abs(decoded_rgb(read_part(stream)).astype(int) - (200, 40, 90)).max() < 6
        images.publish(colored(10, 220, 30, stamp=7 * SECOND))
        wait_for(lambda: np.abs(decoded_rgb(read_part(stream)).astype(int) - (10, 220, 30)).max() < 6)
        late = status(address)
        assert late["camera"] is None and "7.0" in late["problem"]  # no TF at that stamp: says so, shows no old pose
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


def test_a_taken_port_gives_way_to_the_next_and_is_said_aloud():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(f"port:={port}")
        lines = iter(process.stdout.readline, "")
        text = next(line for line in lines if "taken" in line)
        where = int(re.search(r"localhost:(\d+)", next(line for line in lines if "http" in line))[1])
        assert re.search(rf"port {port} is taken.*the page is on {where}", text) and where > port
        assert status(f"localhost:{where}")["image"] is None
        stop(process)
