"""A node's process: how it starts, stops and fails."""

from __future__ import annotations

import os
from pathlib import Path
import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

SCRIPT = '''
import atexit, ctypes, sys, time
from rclpy.node import Node
from worldfm_ros.nodes import runner
from worldfm_ros.nodes.runner import leave, run

class Example(Node):
    exit_code = None

    def __init__(self):
        super().__init__("example")
        mode = sys.argv[1]
        if mode == "refuses":
            raise ValueError("there is no world")
        if mode == "names a bad topic":
            self.resolve_topic_name("bad topic")
        if mode == "slow to start":
            print("ready", flush=True)
            time.sleep(60)
        self.create_timer(0.05, self.tick)
        self.ready = False

    def tick(self):
        if sys.argv[1] in ("finishes", "leaves"):
            self.exit_code = 3
        elif sys.argv[1] == "fails later":
            {}["a key"]
        elif not self.ready:
            print("ready", flush=True)
            self.ready = True

    def destroy_node(self):
        if sys.argv[1] == "hangs in the middleware":
            ctypes.PyDLL(None).pause()  # in C, and Python's lock is held
        super().destroy_node()

    def close(self):
        print("closing", flush=True)
        if sys.argv[1] == "slow to close":
            time.sleep(1)
        print("closed", flush=True)

if sys.argv[1] == "hangs in the middleware":
    runner.TEAR_DOWN = 1
code = run(Example, sys.argv)
if sys.argv[1] == "leaves":
    atexit.register(print, "the long way out")
    sys.stdout.write("the last words")
    leave(code)
sys.exit(code)
'''


def start(mode: str, *words: str, **variables: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | variables
    return subprocess.Popen([sys.executable, "-c", SCRIPT, mode, *words], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["runs", "slow to start"])
def test_a_stop_signal_ends_it_cleanly(mode, number):
    process = start(mode)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert out == ("closing\nclosed\n" if mode == "runs" else "")


def test_a_second_signal_does_not_break_the_clean_up():
    process = start("slow to close")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "closing\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "closed\n", "")


def test_a_middleware_that_hangs_does_not_keep_the_process():
    process = start("hangs in the middleware")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (-signal.SIGALRM, "closing\nclosed\n")


def test_a_node_that_cannot_start_says_why_in_one_line():
    process = start("refuses")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (2, "", "error: there is no world\n")


def test_a_node_that_fails_later_is_closed_and_says_so_in_one_line():
    out, err = (process := start("fails later")).communicate(timeout=20)
    assert (process.returncode, out) == (1, "closing\nclosed\n")
    assert len(err.splitlines()) == 1 and "KeyError" in err and "fault of worldfm_ros" in err
    out, err = (process := start("fails later", WORLDFM_DEBUG="1")).communicate(timeout=20)
    assert process.returncode == 1 and "Traceback" in err and err.splitlines()[-1].startswith("error: KeyError")


@pytest.mark.parametrize("mode, words, variables, message", [
    ("runs", (), {"ROS_DOMAIN_ID": "abc"}, "ROS_DOMAIN_ID is not an integral number"),
    ("runs", ("--bogus",), {}, r"unknown ROS arguments: \['--bogus'\]"),
    ("runs", ("-p", "camera_frame:="), {}, "-p camera_frame:="),
    ("runs", ("-p", "use_sim_time:=maybe"), {}, "use_sim_time.*maybe"),
    ("names a bad topic", (), {}, "topic name must not contain"),
])
def test_what_rclpy_refuses_is_said_in_one_line_too(mode, words, variables, message):
    out, err = (process := start(mode, "--ros-args", *words, **variables)).communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert re.search(rf"^error: .*{message}[^\n]*\n\Z", err, re.MULTILINE), err  # rcl may have logged something before
    assert "Traceback" not in err and "/src/" not in err


def test_leaving_flushes_what_was_said_and_takes_the_short_way():
    out, err = (process := start("leaves")).communicate(timeout=20)
    assert (process.returncode, out, err) == (3, "closing\nclosed\nthe last words", "")


def test_a_node_can_end_itself():
    process = start("finishes")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (3, "closing\nclosed\n", "")
