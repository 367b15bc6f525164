"""The live page without ROS: pictures, the stick, who may drive, the server, `worldfm explore`."""

from contextlib import contextmanager
from http.client import HTTPConnection
import json
import re
import socket
import subprocess
import sys
from urllib.request import urlopen

import cv2
import numpy as np
import pytest
from scenes import room_world
from waiting import PATIENCE, wait_for

from worldfm_ros.page.access import TOKEN_HEADER, Access
from worldfm_ros.page.pictures import Command, Stream, confidence_colours, depth_colours, label_colours
from worldfm_ros.page.scene import POINTS, pack
from worldfm_ros.page.server import PageServer, Site
from worldfm_ros.page.steering import Steering, Stick
from worldfm_ros.world.storage import write_world

# ---------------------------------------------------------------------------------------------------------- pictures


def test_a_picture_is_drawn_once_for_all_and_never_for_nobody():
    stream, drawn = Stream(), []

    def draw(value):
        def make():
            drawn.append(value)
            return np.full((8, 8, 3), value, np.uint8)
        return make

    assert stream.wait(0, 0.0).jpeg == b""
    stream.put(draw(10), 1.0)
    stream.put(draw(200), 2.0, Command("a", 7))
    picture = stream.wait(0, 0.0)
    assert stream.wait(0, 0.0) is picture and drawn == [200]
    assert (picture.count, picture.stamp, picture.shows) == (2, 2.0, Command("a", 7))
    assert abs(int(cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), 1)[4, 4, 0]) - 200) < 3
    stream.put(lambda: None, 3.0)
    assert stream.wait(2, 0.0).jpeg == b""  # there is none to show
    stream.close()
    assert stream.wait(3, PATIENCE).count == 3  # does not wait any more


def test_colours_tell_near_from_far_and_none_from_some():
    depth = np.linspace(1, 9, 100, dtype=np.float32).reshape(10, 10)
    depth[0, 0], depth[5, 5] = np.nan, 0
    rgb = depth_colours(depth).astype(int)
    assert rgb[0, 3, 0] > rgb[0, 3, 2] and rgb[-1, -3, 2] > rgb[-1, -3, 0]
    assert rgb[0, 0].tolist() == rgb[5, 5].tolist() and rgb[0, 0].max() < 40
    assert depth_colours(np.zeros((3, 3), np.float32)).max() < 40
    confidence = confidence_colours(np.array([[0, 255]], np.uint8)).astype(int)
    assert confidence[0, 0].sum() < confidence[0, 1].sum()
    colours = label_colours(np.arange(40, dtype=np.uint16)[None])[0]
    assert len(np.unique(colours, axis=0)) == 40


# --------------------------------------------------------------------------------------------------------- the stick


def test_the_last_hand_has_the_stick_and_the_first_does_not_fight_for_it():
    calls = []
    steering = Steering(lambda: calls.append(1))
    assert steering.now() == (Stick(), None) and not steering.engaged
    assert steering.push(Command("a", 1), "p", Stick(forward=1.0))
    assert steering.push(Command("b", 1), "q", Stick(forward=-1.0))
    assert not steering.push(Command("a", 2), "p", Stick(forward=1.0))  # the push that was ended
    assert steering.now() == (Stick(forward=-1.0), Command("b", 1)) and len(calls) == 2
    assert steering.state() == {"engaged": True, "driver": "b", "moving": True, "fly": False}
    assert steering.push(Command("a", 3), "r", Stick(forward=0.5))  # a new push
    assert steering.state()["driver"] == "a"
    steering.release()
    assert steering.state() == {"engaged": False, "driver": None, "moving": False, "fly": False}


def test_who_says_nothing_more_stands_still_and_keeps_the_stick():
    steering = Steering()
    steering.push(Command("a", 1), "p", Stick(forward=1.0, fly=True))
    stick, command = wait_for(lambda: (now := steering.now())[1] is None and now)
    assert stick == Stick(fly=True) and command is None and steering.engaged


@pytest.mark.parametrize("values", [
    {"forward": 1.5}, {"yaw": float("nan")}, {"left": "1"}, {"up": None}, {"pitch": True}])
def test_a_stick_is_from_minus_one_to_one(values):
    with pytest.raises(ValueError, match="number from -1 to 1"):
        Stick.parse(values)


# ---------------------------------------------------------------------------------------------------- who may drive


@pytest.mark.parametrize("host, sees", [
    ("localhost:8080", True), ("127.0.0.1:8080", True), ("192.168.1.7:8080", True), ("[::1]:8080", True),
    (f"{socket.gethostname()}:8080", True), ("evil.example:8080", False), ("", False)])
def test_the_page_is_shown_under_names_of_this_machine_alone(host, sees):
    assert Access("127.0.0.1").may_see({"Host": host}) is sees


def test_driving_needs_our_origin_and_the_token():
    access, ours = Access("127.0.0.1"), {"Host": "localhost:8080", "Origin": "http://localhost:8080"}
    assert access.may_drive({**ours, TOKEN_HEADER: access.token})
    assert not access.may_drive(ours)
    assert not access.may_drive({**ours, TOKEN_HEADER: access.token[:-1]})
    assert not access.may_drive({**ours, TOKEN_HEADER: "\u00fc"})
    assert not access.may_drive({**ours, TOKEN_HEADER: access.token, "Origin": "http://evil.example"})
    assert not access.may_drive({"Host": "localhost:8080", TOKEN_HEADER: access.token})
    assert access.token != Access("127.0.0.1").token


# ------------------------------------------------------------------------------------------------------- the server


@contextmanager
def page(**site):
    server = PageServer("127.0.0.1", 0, Site(**{
        "streams": {"rgb": Stream(), "depth": Stream()}, "status": lambda: {"topic": "t"}, "scene": lambda: b"scene",
        **site}))
    try:
        yield server, f"localhost:{server.server_port}"
    finally:
        server.close()


def ask(address, path, method="GET", body=None, **headers):
    """Status and body. Headers that are None are left out."""
    connection = HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items() if v is not None})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def post(address, token, body, **headers):
    headers = {"Origin": f"http://{address}", TOKEN_HEADER.replace("-", "_"): token} | headers
    return ask(address, "/drive", "POST", body if isinstance(body, bytes) else json.dumps(body), **headers)


def test_only_our_page_drives():
    push = {"client": "a", "push": "p", "number": 1, "forward": 1.0}
    with page() as (server, address):
        token = re.search(rb'worldfm-token" content="(.+?)"', ask(address, "/")[1])[1].decode()
        for headers in ({"Origin": "http://evil.example"}, {"Origin": None}, {"X_Worldfm_Token": None},
                        {"X_Worldfm_Token": "x"}, {"Host": "evil.example"}):
            assert post(address, token, push, **headers)[0] == 403
        assert not server.site.steering.engaged
        assert ask(address, "/", Host="evil.example")[0] == 403
        assert post(address, token, push) == (200, b'{"counts": true}') and server.site.steering.engaged
        assert post(address, token, {"release": True})[0] == 200 and not server.site.steering.engaged


@pytest.mark.parametrize("body", [b"", b"[1]", b"no json", b"{}", b'{"client": "a"}', b"x" * 5000, b'"a"', b"null",
                                  b'{"client": "a", "push": "p", "number": 1, "forward": 9}'])
def test_what_is_no_command_is_refused_with_a_reason(body):
    with page() as (server, address):
        status, text = post(address, server.access.token, body)
        assert status == 400 and text and not server.site.steering.engaged


def test_files_of_others_are_not_served():
    with page() as (_, address):
        for path in ("/../server.py", "/static/page.html", "/%2e%2e/server.py", "/stream?layer=none", "/nothing"):
            assert ask(address, path)[0] == 404
        for path in ("/", "/page.css", "/live.js", "/space.js", "/stick.js"):
            assert ask(address, path)[0] == 200
        assert ask(address, "/scene") == (200, b"scene")


def read_live(stream):
    """The status and the JPEG of the next part of /live."""
    head = {}
    while line := stream.readline().strip():  # the boundary has no value
        name, _, value = line.decode().partition(": ")
        head[name] = value
    jpeg = stream.read(int(head["Content-Length"]))
    stream.readline()
    return json.loads(head["X-Status"]), jpeg


def test_a_picture_comes_with_what_is_known_of_it_and_silence_is_told_too():
    with page() as (server, address):
        rgb = server.site.streams["rgb"]
        stream = urlopen(f"http://{address}/live", timeout=PATIENCE)
        status, jpeg = read_live(stream)
        assert not jpeg and status["topic"] == "t" and status["layers"] == ["rgb", "depth"] and status["watchers"] == 1
        rgb.put(lambda: np.zeros((4, 4, 3), np.uint8), 1.5, Command("a", 3))
        while not jpeg:
            status, jpeg = read_live(stream)
        assert status["shows"] == {"client": "a", "number": 3} and status["shown"] == 1.5
        assert not read_live(stream)[1]  # the same picture is not sent again
        stream.close()
        wait_for(lambda: not rgb.watchers)


def test_port_taken_is_said_and_so_is_an_open_door():
    with page() as (server, _):
        port = server.server_port
        other = PageServer("127.0.0.1", port, server.site)
        assert other.server_port > port and f"port {port} is taken" in other.moved and not other.warning
        other.server_close()
        assert not server.moved
        opened = PageServer("0.0.0.0", 0, server.site)
        assert "watch and drive" in opened.warning
        opened.server_close()
        with pytest.raises(OSError, match="cannot serve the page on 203.0.113.1"):
            PageServer("203.0.113.1", 0, server.site)


# -------------------------------------------------------------------------------------------------- a whole explorer


def test_the_packed_scene_can_be_read_back():
    world = room_world()
    data = pack(world)
    size = int(np.frombuffer(data, "<u4", 1)[0])
    head = json.loads(data[4:4 + size])
    points = np.frombuffer(data, "<f4", 3 * head["points"], 4 + size).reshape(-1, 3)
    colours = np.frombuffer(data, np.uint8, 3 * head["points"], 4 + size + points.nbytes).reshape(-1, 3)
    assert len(data) == 4 + size + points.nbytes + colours.nbytes and size % 4 == 0
    assert head["points"] == min(POINTS, len(world.anchors)) and len(head["keyframes"]) == len(world.keyframes)
    low, high = world.anchors.bounds
    assert (points.min(0) >= low - 1e-5).all() and (points.max(0) <= high + 1e-5).all() and len(np.unique(colours)) > 1


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore") / "room"
    write_world(room_world(), folder)
    command = [sys.executable, "-m", "worldfm_ros.cli.main", "explore", str(folder), "--model", "anchors"]
    process = subprocess.Popen([*command, "--width", "96", "--height", "72", "--port", "0"], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    line = process.stdout.readline()
    assert "through anchors" in line, line + process.stdout.read()
    yield re.search(r"http://(localhost:\d+)", line)[1]
    process.terminate()
    assert process.communicate(timeout=PATIENCE)[0] == "" and process.returncode == 0


def test_explore_shows_what_the_stick_leads_to(explored):
    token = re.search(rb'worldfm-token" content="(.+?)"', ask(explored, "/")[1])[1].decode()
    stream = urlopen(f"http://{explored}/live", timeout=PATIENCE)
    first, before = read_live(stream)
    assert before and first["drives"] and first["flies"]

    def push(**stick):
        push.number += 1
        assert post(explored, token, {"client": "a", "push": "p", "number": push.number, **stick})[0] == 200
        return read_live(stream)

    push.number = 0

    def after(moved, **stick):
        """The first picture of a place that has moved."""
        return wait_for(lambda: (part := push(**stick))[1] and moved(part[0]) and part)

    turned, jpeg = after(lambda s: abs(s["camera"]["yaw"] - first["camera"]["yaw"]) > 3, yaw=1.0)
    assert jpeg != before and turned["shows"]["client"] == "a" and 0 < turned["shows"]["number"] <= push.number
    assert turned["camera"]["at"] == pytest.approx(first["camera"]["at"], abs=0.05)
    flown, _ = after(lambda s: s["camera"]["at"][2] > first["camera"]["at"][2] + 0.2, up=1.0, fly=True)
    assert flown["robot"] is None and flown["steering"]["fly"]
    back, _ = after(lambda s: s["robot"], forward=0.1)
    assert back["camera"]["at"][2] == pytest.approx(first["camera"]["at"][2])
    for layer in ("depth", "labels", "reference", "anchors"):
        with urlopen(f"http://{explored}/live?layer={layer}", timeout=PATIENCE) as other:
            assert read_live(other)[1]
