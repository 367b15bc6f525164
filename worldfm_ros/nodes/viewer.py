"""viewer: the live image, its rate and the camera's pose on a small web page, http://localhost:8080."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import errno
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import math
from pathlib import Path
import sys
import threading
from time import monotonic

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.conversions import stamp_to_ns
from worldfm_ros.nodes.offered import Subscription
from worldfm_ros.nodes.parameters import declare_parameters, describe
from worldfm_ros.nodes.runner import run
from worldfm_ros.nodes.tf_buffer import TransformBuffer, TransformError, TransformListener

PAGE = Path(__file__).with_name("viewer.html")
BOUNDARY = b"--frame\r\n"
JPEG_QUALITY = 85
RATE_WINDOW = 20  # images that the rate is measured over
STALE = 2.0  # seconds without a new image
REPEAT = 1.0  # seconds after which the last image is sent again: only writing shows that a browser has gone
NO_IMAGE = b"X-Image: none\r\n"  # is written instead while there is none: a line of the next part's head
CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}  # of the encodings that are shown


@dataclass(frozen=True)
class ViewerParameters:
    port: int = describe(8080, "port of the web page; 0 takes any free one", minimum=0, maximum=65535)
    host: str = describe("127.0.0.1", "address that the page is served on; 0.0.0.0 shows it to the whole network")
    image: str = describe("camera/image_raw", "image topic: rgb8, bgr8 or mono8")
    map_frame: str = describe("map", "frame that the pose is told in")
    camera_frame: str = describe("", "optical frame whose pose is told; empty = the frame of the image")


class LatestImage:
    """The newest image and the rate of the last ones. Thread-safe; compressed once for all browsers, never for none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._compressing = threading.Lock()
        self._image: Image | None = None
        self._jpeg: tuple[int, bytes] = 0, b""
        self._arrivals: deque[float] = deque(maxlen=RATE_WINDOW)
        self._count = 0
        self.closed = False

    def put(self, image: Image) -> None:
        with self._changed:
            self._image = image
            self._count += 1
            self._arrivals.append(monotonic())
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody who waits go."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def get(self) -> tuple[Image | None, float, float]:
        """The image, its age in seconds, and the rate in Hz (0 when it has stopped)."""
        with self._changed:
            if self._image is None:
                return None, 0.0, 0.0
            age = monotonic() - self._arrivals[-1]
            span = self._arrivals[-1] - self._arrivals[0]
            return self._image, age, (len(self._arrivals) - 1) / span if span and age < STALE else 0.0

    def wait_for_jpeg(self, seen: int, timeout: float) -> tuple[int, bytes]:
        """The number of the newest image and its JPEG, once it is another than `seen` or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._count != seen, timeout)
            count, image = self._count, self._image
        with self._compressing:
            if image is not None and self._jpeg[0] < count:
                self._jpeg = count, to_jpeg(image)
            return self._jpeg


def problem_with(image: Image) -> str:
    """Why the image cannot be shown; empty when it can."""
    if image.encoding not in CHANNELS:
        return f"{image.encoding} images are not shown, only {', '.join(CHANNELS)}"
    least = image.width * CHANNELS[image.encoding]
    if not least or image.step < least or len(image.data) != image.step * image.height or not image.height:
        return (f"the image is malformed: {image.width} x {image.height} {image.encoding}, rows of {image.step} bytes, "
                f"{len(image.data)} bytes")
    return ""


def to_jpeg(image: Image) -> bytes:
    """A sensor_msgs/Image as JPEG; empty when it cannot be shown."""
    if problem_with(image):
        return b""
    channels = CHANNELS[image.encoding]
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    pixels = rows[:, :image.width * channels].reshape(image.height, image.width, channels)
    if image.encoding == "rgb8":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def describe_pose(T_map_camera: Pose) -> dict[str, float]:
    """Position in metres, and the heading of the optical axis about the map's z in degrees (0 = along x)."""
    x, y, z = T_map_camera.translation
    forward = T_map_camera.rotation.apply([0.0, 0.0, 1.0])
    return {"x": x, "y": y, "z": z, "yaw": math.degrees(math.atan2(forward[1], forward[0]))}


class Viewer(Node):
    """Raises OSError when the port is taken."""

    def __init__(self) -> None:
        super().__init__("viewer")
        self._parameters = declare_parameters(self, ViewerParameters)
        self._latest = LatestImage()
        self._buffer = TransformBuffer()
        self._listener = TransformListener(self, self._buffer)
        self._topic = self.resolve_topic_name(self._parameters.image)
        self._server = start_server(self._parameters.host, self._parameters.port, self._latest, self.status)
        Subscription(self, Image, self._topic, self._latest.put, 5)
        self.url = f"http://{self._parameters.host.replace('127.0.0.1', 'localhost')}:{self._server.server_port}"
        self.get_logger().info(f"showing {self._topic} on {self.url}")

    def status(self) -> dict:
        """What the page shows beside the image."""
        image, age, rate = self._latest.get()
        if image is None:
            return {"topic": self._topic, "image": None}
        stamp = stamp_to_ns(image.header.stamp)
        pose, problem = None, problem_with(image)
        try:
            frame = self._parameters.camera_frame or image.header.frame_id
            pose = describe_pose(self._buffer.lookup(self._parameters.map_frame, frame, stamp))
        except TransformError as error:
            problem = problem or str(error)
        return {
            "topic": self._topic, "image": {"width": image.width, "height": image.height, "encoding": image.encoding},
            "stamp": stamp / 1e9, "rate": rate, "age": age, "stale": age > STALE, "pose": pose, "problem": problem,
        }

    def close(self) -> None:
        self._latest.close()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a browser that does not let go must not keep the process alive

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # OSError: the browser has gone
            super().handle_error(request, client_address)


def start_server(host: str, port: int, latest: LatestImage, status) -> ThreadingHTTPServer:
    """Serve the page, /stream (MJPEG) and /status (JSON of `status()`) from threads. Raises OSError when it cannot."""
    handler = type("_BoundHandler", (_Handler,), {"latest": latest, "status": staticmethod(status)})
    try:
        server = _Server((host, port), handler)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "it is taken by another program" if taken else error.strerror
        raise OSError(f"cannot serve the page on {host} port {port}: {reason}; choose others with the parameters "
                      f"host and port (in a simulation: port:={port + 1 if port < 65535 else 0})") from None
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="viewer", daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0  # seconds that a browser may not take what we send
    latest: LatestImage
    status = staticmethod(dict)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._send("text/html; charset=utf-8", PAGE.read_bytes())
        elif path == "/status":
            self._send("application/json", json.dumps(self.status()).encode())
        elif path == "/stream":
            self._send_stream()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args) -> None:
        """Requests are not worth a line on the console."""

    def _send(self, kind: str, body: bytes) -> None:
        self._send_head(kind)
        self.wfile.write(body)

    def _send_head(self, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def _send_stream(self) -> None:
        self._send_head("multipart/x-mixed-replace; boundary=frame")
        self.wfile.write(BOUNDARY)
        seen = 0
        while not self.latest.closed:
            seen, jpeg = self.latest.wait_for_jpeg(seen, REPEAT)
            # the boundary goes after the part: browsers show an image only when they have read it
            head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            self.wfile.write(head + jpeg + b"\r\n" + BOUNDARY if jpeg else NO_IMAGE)


def main(args=None) -> int:
    return run(Viewer, args)


if __name__ == "__main__":
    sys.exit(main())
