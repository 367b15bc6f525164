"""What `worldfm bench publish` runs: in one process the camera's outputs with given pictures, in another a reader.

    python -m worldfm_ros.nodes.publish_bench publish|listen '{"width": 640, "height": 480, "qos": "reliable", ...}'

Each prints one line of JSON at its end. It has no model, so that what is timed is the way from a frame to DDS, with the
threads that a camera has: one paints, one publishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
import json
import math
import os
import sys
from time import monotonic, perf_counter, sleep
from types import SimpleNamespace

import numpy as np
import rclpy
from rclpy.duration import Duration
from sensor_msgs.msg import Image

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.nodes.camera_outputs import CameraOutputs, OutputSettings, Shot
from worldfm_ros.nodes.conversions import make_header
from worldfm_ros.nodes.qos import preset, send_from_a_thread
from worldfm_ros.nodes.worker import NewestWorker, Publish
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.sensor import Sensor, Taken

TOPIC = "image_raw"
DISCOVERY = 20.0  # seconds
SILENCE = 2.0  # seconds without an image after which a listener has heard all


@dataclass(frozen=True)
class PublishCase:
    """`frames` pictures of a size at `rate` Hz, with a QoS preset."""

    width: int
    height: int
    qos: str
    frames: int = 300
    rate: float = 30.0


def publish(case: PublishCase) -> dict:
    """{"publish_ms": median of the call that publishes, "p95_ms", "generating_ms": median of what publishing takes of
    the thread that paints, "sent"}. No picture gives way to a newer one, as in lockstep.
    """
    send_from_a_thread(os.environ)
    rclpy.init()
    outputs = CameraOutputs(rclpy.create_node("publish_bench"), OutputSettings(qos=case.qos), "map")
    deadline = monotonic() + DISCOVERY
    while not outputs.wanted() and monotonic() < deadline:
        sleep(0.01)
    sleep(0.2)  # both sides know each other
    sensor = Sensor(Camera(Intrinsics.from_hfov(case.width, case.height, 1.2)))
    noise = np.random.default_rng(0).integers(0, 256, (case.height + case.frames, case.width, 3), dtype=np.uint8)
    published, painted, handed = [], [], []  # seconds

    def paint(i: int) -> Publish:
        taken = Taken(SimpleNamespace(rgb=noise[i:i + case.height]), np.empty(0))  # nobody asks for its depth
        shot = Shot(taken, make_header(i + 1, "camera"), Pose.identity(), sensor)
        painted.append(perf_counter())
        return lambda: send(shot)

    def send(shot: Shot) -> None:
        started = perf_counter()
        outputs.publish(shot)
        published.append(perf_counter() - started)

    def is_free() -> None:
        """In the thread that paints, behind a picture: it could begin the next one now."""
        if painted:
            handed.append(perf_counter() - painted.pop())

    worker, begin = NewestWorker(lambda i: partial(paint, i), together=math.inf), monotonic()
    for i in range(case.frames):
        worker.offer(i)
        worker.threads.drawing.do(lambda: worker.threads.painting.do(is_free))
        sleep(max(0.0, begin + (i + 1) / case.rate - monotonic()))
    deadline = monotonic() + DISCOVERY
    while len(published) < case.frames and monotonic() < deadline:
        sleep(0.01)
    outputs.publisher(TOPIC).wait_for_all_acked(Duration(seconds=SILENCE))
    return {"publish_ms": 1e3 * float(np.median(published)), "p95_ms": 1e3 * float(np.percentile(published, 95)),
            "generating_ms": 1e3 * float(np.median(handed)), "sent": len(published)}


def listen(case: PublishCase) -> dict:
    """{"received": how many pictures came}."""
    rclpy.init()
    node, received = rclpy.create_node("listener"), [0]
    last = [monotonic() + DISCOVERY]

    def count(data: bytes) -> None:
        received[0] += 1
        last[0] = monotonic()

    node.create_subscription(Image, TOPIC, count, preset(case.qos), raw=True)
    while received[0] < case.frames and monotonic() < last[0] + SILENCE:
        rclpy.spin_once(node, timeout_sec=0.1)
    return {"received": received[0]}


if __name__ == "__main__":
    role, text = sys.argv[1:3]
    print(json.dumps({"publish": publish, "listen": listen}[role](PublishCase(**json.loads(text)))), flush=True)
