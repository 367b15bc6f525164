"""The page's web server: streams of pictures with what is known of them, the 3D scene, and the stick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import errno
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
from pathlib import Path
import sys
import threading
from urllib.parse import parse_qs, urlsplit

from worldfm_ros.page.access import Access
from worldfm_ros.page.pictures import Command, Picture, Stream
from worldfm_ros.page.steering import Steering, Stick

STATIC = Path(__file__).with_name("static")
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
BOUNDARY = b"--frame\r\n"
MULTIPART = "multipart/x-mixed-replace; boundary=frame"
NO_IMAGE = b"X-Image: none\r\n"  # is written instead while there is none: a line of the next part's head
REPEAT = 1.0  # seconds after which /stream sends its picture again: only writing shows that a browser has gone
BEAT = 0.2  # seconds after which /live tells the status, with a picture or without
MAX_BODY = 4096  # bytes of a command
NEXT_PORTS = 20  # that are tried when one is taken
POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"


@dataclass(frozen=True)
class Site:
    """What is shown. `streams` by layer; `status()` and `scene()` are asked in the server's threads; the latter gives
    `scene.pack`'s bytes, or nothing where no world is known.
    """

    streams: Mapping[str, Stream]
    status: Callable[[], dict]
    scene: Callable[[], bytes]
    steering: Steering = field(default_factory=Steering)


class PageServer(ThreadingHTTPServer):
    """Serves a site from threads of its own. Raises OSError when neither `port` nor one of the next is free."""

    daemon_threads = True  # a browser that does not let go must not keep the process alive

    def __init__(self, host: str, port: int, site: Site) -> None:
        self.access, self.site = Access(host), site
        self.asked = port
        self._bind(host, port)
        shown = "localhost" if host in ("127.0.0.1", "localhost") else host
        self.url = f"http://{shown}:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="page", daemon=True).start()

    @property
    def moved(self) -> str:
        """That it is on another port than was asked for; empty when it is not."""
        taken = self.asked not in (0, self.server_port)
        return f"port {self.asked} is taken by another program; the page is on {self.server_port}" if taken else ""

    @property
    def warning(self) -> str:
        """That others can reach it; empty when they cannot."""
        return "" if self.access.is_local else (
            f"the page is served on {self.access.host}: whoever reaches this machine there can watch and drive, and "
            "nothing is encrypted; use host 127.0.0.1 (the default) outside of a network that you trust")

    def _bind(self, host: str, port: int) -> None:
        ports = range(port, min(port + NEXT_PORTS, 65536)) if port else (0,)
        for each in ports:
            try:
                return super().__init__((host, each), _Handler)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise OSError(f"cannot serve the page on {host} port {each}: {error.strerror}; "
                                  "choose another host or port") from None
        raise OSError(f"cannot serve the page on {host}: the ports {ports[0]} to {ports[-1]} are all taken by other "
                      "programs; choose another one, or 0 for any")

    def close(self) -> None:
        for stream in self.site.streams.values():
            stream.close()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # OSError: the browser has gone
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0  # seconds that a browser may not take what we send
    protocol_version = "HTTP/1.1"  # commands come one after another on one connection
    disable_nagle_algorithm = True
    server: PageServer

    def do_GET(self) -> None:
        if not self.server.access.may_see(self.headers):
            return self._refuse("the page is not served under that name; use the machine's address")
        url = urlsplit(self.path)
        layer = parse_qs(url.query).get("layer", ["rgb"])[0]
        if url.path == "/status":
            self._send("application/json", json.dumps(self._status()).encode())
        elif url.path == "/scene":
            self._send("application/octet-stream", self.server.site.scene())
        elif url.path in ("/stream", "/live") and layer in self.server.site.streams:
            self._send_stream(self.server.site.streams[layer], url.path == "/live")
        elif (file := STATIC / (url.path.strip("/") or "page.html")).parent == STATIC and file.is_file():
            self._send(KINDS[file.suffix], file.read_bytes().replace(b"{{token}}", self.server.access.token.encode()))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """A command: {"client", "push", "number", and the stick's axes}, or {"release": true}."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            return self._answer(HTTPStatus.BAD_REQUEST, f"a command is JSON of at most {MAX_BODY} bytes")
        body = self.rfile.read(int(length))
        if not self.server.access.may_drive(self.headers):
            return self._refuse("only the page that this server has sent may drive")
        if self.path != "/drive":
            return self._answer(HTTPStatus.NOT_FOUND, "there is nothing to post but /drive")
        try:
            counts = self._drive(json.loads(body))
        except (ValueError, KeyError, TypeError) as error:
            return self._answer(HTTPStatus.BAD_REQUEST, f"not a command: {error}")
        self._send("application/json", json.dumps({"counts": counts}).encode())

    def _drive(self, values: dict) -> bool:
        """Whether it counts. Raises ValueError, KeyError or TypeError for what is no command."""
        if not isinstance(values, dict):
            raise ValueError("expected an object")
        steering = self.server.site.steering
        if values.get("release") is True:
            steering.release()
            return True
        return steering.push(Command(str(values["client"]), int(values["number"])), str(values["push"]),
                             Stick.parse(values))

    def log_message(self, format: str, *args) -> None:
        """Requests are not worth a line on the console."""

    def _status(self) -> dict:
        site = self.server.site
        return site.status() | {"steering": site.steering.state(), "layers": list(site.streams),
                                "watchers": sum(stream.watchers for stream in site.streams.values())}

    def _refuse(self, reason: str) -> None:
        self._answer(HTTPStatus.FORBIDDEN, reason)

    def _answer(self, status: HTTPStatus, text: str) -> None:
        self._send("text/plain; charset=utf-8", f"{text}\n".encode(), status)

    def _send(self, kind: str, body: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send_head(kind, status, {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_head(self, kind: str, status: HTTPStatus, more: Mapping[str, str]) -> None:
        self.send_response(status)
        common = {"Content-Type": kind, "Cache-Control": "no-store", "Content-Security-Policy": POLICY,
                  "X-Content-Type-Options": "nosniff"}
        for name, value in {**common, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_stream(self, stream: Stream, live: bool) -> None:
        """/stream is MJPEG, for any program; /live tells the status with each picture, and between them."""
        self.close_connection = True
        self._send_head(MULTIPART, HTTPStatus.OK, {"Connection": "close"})
        self.wfile.write(BOUNDARY)
        seen = 0
        with stream.watched():
            while not stream.closed:
                picture = stream.wait(seen, BEAT if live else REPEAT)
                self.wfile.write(self._live_part(picture, picture.count != seen) if live else _part(picture))
                seen = picture.count

    def _live_part(self, picture: Picture, is_new: bool) -> bytes:
        shows = picture.shows and {"client": picture.shows.client, "number": picture.shows.number}
        about = self._status() | {"count": picture.count, "shown": picture.stamp, "shows": shows}
        jpeg = picture.jpeg if is_new else b""
        head = f"X-Status: {json.dumps(about)}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg + b"\r\n" + BOUNDARY


def _part(picture: Picture) -> bytes:
    """The boundary goes after the part: browsers show an image only when they have read it."""
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture.jpeg)
    return head + picture.jpeg + b"\r\n" + BOUNDARY if picture.jpeg else NO_IMAGE
