"""A sensor's RGB-D images, from topics into a camera's map: measured anchors (docs/growth.md). Each place and direction
is inserted once; what cannot be used is counted by its reason."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
import traceback
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.conversions import stamp_to_ns
from worldfm_ros.nodes.health import ADVICE
from worldfm_ros.nodes.offered import Subscription
from worldfm_ros.nodes.tf_buffer import TransformBuffer, TransformError, TransformListener
from worldfm_ros.nodes.tf_history import seconds
from worldfm_ros.sources.bag_images import decode_color
from worldfm_ros.sources.bag_topics import Topics
from worldfm_ros.sources.rgbd_camera import SLOP, RgbdCamera
from worldfm_ros.world.cells import Cell, cell_of
from worldfm_ros.world.insertion import InsertionSettings, View, insert
from worldfm_ros.world.storage import World

COMPRESSED = ("compressed", "compressedDepth")  # how image_transport names the topics of such images
PREFIX = "rgbd."  # before what became of the images, in the camera's diagnostics
INSERTED, ANCHORS = f"{PREFIX}inserted", f"{PREFIX}anchors"
SAME_PLACE, BUSY = "same_place", "busy"  # no news: most images of a sensor at 30 Hz
DEPTH = 8  # messages that wait for their partner


class Pairs:
    """Colour and depth messages of the same time, within SLOP. Colour that gets no depth is told."""

    def __init__(self, paired: Callable[[Any, Any], None], alone: Callable[[Any], None]) -> None:
        self._paired, self._alone = paired, alone
        self.restart()

    def restart(self) -> None:
        """Nothing waits any more."""
        self._colors: deque[Any] = deque()
        self._depths: deque[Any] = deque(maxlen=DEPTH)

    def color(self, message: Any) -> None:
        self._colors.append(message)
        self._match()
        if len(self._colors) > DEPTH:
            self._alone(self._colors.popleft())

    def depth(self, message: Any) -> None:
        self._depths.append(message)
        self._match()

    def _match(self) -> None:
        for color in list(self._colors):
            stamp = stamp_to_ns(color.header.stamp)
            offsets = [stamp_to_ns(depth.header.stamp) - stamp for depth in self._depths]
            near = min(range(len(offsets)), key=lambda k: abs(offsets[k]), default=None)
            if near is not None and abs(offsets[near]) <= SLOP:
                depth = self._depths[near]
                del self._depths[near]
                self._colors.remove(color)
                self._paired(color, depth)


class Unusable(ValueError):
    """An image that is not inserted, and why: a reason to count, and a text."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class RgbdTopics:
    """Takes the images of a CameraSession's `insert_` topics while it is active.

    counts: how many were inserted, their anchors, and how many were not, by reason, each name with PREFIX.
    """

    def __init__(self, node, session, topics: Topics, counts: Counter[str]) -> None:
        self._session, self._topics, self._counts = session, topics, counts
        self._settings = InsertionSettings(max_anchors=session.settings.max_anchors)
        self._info: CameraInfo | None = None
        self._generator, self._cells, self._busy = None, set(), False  # the places that it has got images from
        self.pairs = Pairs(self._on_pair, lambda color: self._skip("no_depth_at_its_time", color, "it has no depth"))
        # of its own: what waits in the camera's are images that are asked for
        self._listener = TransformListener(node, TransformBuffer(), self.pairs.restart)
        for topic, callback in (topics.color, self.pairs.color), (topics.depth, self.pairs.depth):
            kind = CompressedImage if topic.rsplit("/", 1)[-1] in COMPRESSED else Image
            Subscription(node, kind, topic, callback, DEPTH)
        Subscription(node, CameraInfo, topics.camera_info, self._on_info, 1)

    def close(self) -> None:
        """Hear of no jumps any more."""
        self._listener.close()

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_pair(self, color, depth) -> None:
        """Ask where they are from."""
        session, frame = self._session, color.header.frame_id
        if self._info is None:
            self._skip("no_camera_info", color, f"nothing has come of {self._topics.camera_info}")
        elif frame != depth.header.frame_id:
            self._skip("frames_differ", color, f"its frame is {frame!r}, its depth's {depth.header.frame_id!r}; depth "
                                               "must be registered to the colour's camera")
        else:
            self._listener.request(session.map_frame, frame, stamp_to_ns(color.header.stamp),
                                   session.settings.tf_timeout, partial(self._on_pose, color, depth, self._info))

    def _on_pose(self, color, depth, info: CameraInfo, outcome: Pose | TransformError) -> None:
        if isinstance(outcome, TransformError):
            self._skip(outcome.reason, color, f"{outcome}. {ADVICE[outcome.reason]}")
            return
        if self._generator is not self._session.generator:
            self._generator, self._cells = self._session.generator, set()
        cell = cell_of(outcome)
        if cell in self._cells or self._busy:
            self._counts[PREFIX + (SAME_PLACE if cell in self._cells else BUSY)] += 1
            return
        self._busy = True
        self._cells.add(cell)
        self._session.do(partial(self._insert, self._generator.world, cell, (color, depth, info), outcome))

    def _insert(self, world: World, cell: Cell, messages: tuple[Any, Any, CameraInfo], pose: Pose) -> None:
        """In the thread that draws."""
        try:
            if len(world.anchors) >= self._settings.max_anchors:
                raise Unusable("map_full", f"the map has {len(world.anchors)} anchors, {self._settings.max_anchors} "
                                           "are the most")
            told = insert(world, view_of(*messages, self._topics, pose), self._settings)
            self._counts.update({INSERTED: 1, ANCHORS: told.anchors})
            return
        except Unusable as error:
            self._skip(error.reason, messages[0], str(error))
        except Exception:  # whatever is in somebody's images: the next one may be well
            self._skip("failed", messages[0], traceback.format_exc())
        finally:
            self._busy = False
        self._cells.discard(cell)

    def _skip(self, reason: str, color, text: str) -> None:
        self._counts[PREFIX + reason] += 1
        what = f"the image of time {seconds(stamp_to_ns(color.header.stamp))} of {self._topics.color}"
        self._session.health.warn(PREFIX + reason, f"{what} is not inserted: {text}")


def view_of(color, depth, info: CameraInfo, topics: Topics, pose: Pose) -> View:
    """Messages as a measured view; `pose` is that of the colour's frame. Raises Unusable."""
    camera = attempt("bad_camera_info", RgbdCamera, info, topics.color, topics.depth)
    rgb = attempt("bad_color", decode_color, color)
    z = attempt("bad_depth", camera.depth, depth)
    frame = attempt("sizes_differ", camera.frame, 0, rgb, z, pose @ camera.T_optical_picture, "one camera")
    measured = frame.depth > 0
    if not measured.any():
        raise Unusable("no_depth", "none of its pixels has a depth: all are 0 or NaN")
    return View(frame.rgb, frame.depth, measured.astype(np.float32), measured, frame.intrinsics, frame.T_world_camera,
                measured=True)


def attempt(reason: str, function: Callable[..., Any], *given: Any) -> Any:
    """What the function returns. Raises Unusable with its text where it raises ValueError."""
    try:
        return function(*given)
    except ValueError as error:
        raise Unusable(reason, str(error)) from None


def topics_of(settings) -> Topics | None:
    """The topics of a CameraParameters, the camera info beside the colour's; None where nothing is inserted."""
    color = settings.insert_color_topic
    if not color:
        return None
    base = color.rsplit("/", 1)[0] if color.rsplit("/", 1)[-1] in COMPRESSED else color
    beside = "/".join([*base.split("/")[:-1], "camera_info"])
    return Topics(color, settings.insert_depth_topic, settings.insert_camera_info_topic or beside)
