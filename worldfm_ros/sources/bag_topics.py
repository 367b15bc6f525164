"""Which topic of a bag is what: told by the user, else by what is in the messages, and only then by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldfm_ros.sources.bag_images import COLORS

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
POINTS = "sensor_msgs/msg/PointCloud2"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TRANSFORMS = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
DEPTH_ENCODINGS = ("16UC1", "32FC1")
NO_PHOTOGRAPH = ("segmentation", "instances", "labels", "mask", "confidence", "infra", "/ir/")


@dataclass(frozen=True)
class Topics:
    """The topics that a bag's frames are made of; what is None is found by what its messages are.

    depth is registered to the colour's camera, which camera_info tells of, or a LiDAR's points, where no depth pictures
    are. Of transforms those of tf's namespace count.
    """

    color: str | None = None
    depth: str | None = None
    camera_info: str | None = None
    tf: str | None = None


def find_topics(types: Mapping[str, str], asked: Topics, path: Path,
                first: Callable[[str], Any] = lambda topic: None) -> Topics:
    """The topics to use, of those in a bag by name and type. first: a topic's first message, None for none.

    Raises ValueError listing them when it is not clear.
    """
    pictures = [topic for topic, kind in types.items() if kind in IMAGES]
    infos = [topic for topic, kind in types.items() if kind == CAMERA_INFO]
    roles = {topic: role(topic, first(topic)) for topic in pictures} if None in (asked.color,
                                                                                             asked.depth) else {}
    kinds = {kind: _originals([topic for topic, is_kind in roles.items() if is_kind == kind])
             for kind in ("color", "grey", "depth")}
    color = asked.color or _only("color", kinds["color"] or kinds["grey"], path)
    clouds = [topic for topic, kind in types.items() if kind == POINTS]
    depth = asked.depth or _only("depth", kinds["depth"] or clouds, path)
    info = asked.camera_info or _only("camera_info", _beside(infos, color) or infos, path)
    found = Topics(color, depth, info, asked.tf)
    missing = {color, depth, info, *filter(None, [asked.tf])} - set(types)
    if missing:
        raise ValueError(f"{path} has no topic {', '.join(sorted(missing))}; it has {', '.join(sorted(types))}")
    return found


def role(topic: str, message: Any) -> str:
    """color, grey, depth or other: by a message's encoding; by the topic's name where there is no message."""
    name = topic.lower()
    if message is None:
        return "depth" if "depth" in name else "color"
    encoding = getattr(message, "encoding", None)
    if encoding is None:
        said = str(message.format).lower()
        deep = "compresseddepth" in said or said.startswith(("16uc1", "32fc1")) or "compresseddepth" in name
        encoding = "16UC1" if deep or ("depth" in name and "png" in said) else "rgb8"
    if encoding in DEPTH_ENCODINGS or (encoding == "mono16" and "depth" in name):
        return "depth"
    if encoding not in COLORS or any(word in name for word in NO_PHOTOGRAPH):
        return "other"
    return "grey" if encoding == "mono8" else "color"


def transform_topics(types: Mapping[str, str], color: str, asked: str | None, path: Path) -> set[str]:
    """The topics whose transforms are one tree: those of one namespace, by default the colour topic's.

    Raises ValueError when several robots' are there and nothing decides.
    """
    known = [topic for topic, kind in types.items() if kind in TRANSFORMS]
    if asked is not None:
        return {topic for topic in known if _namespace(topic) == _namespace(asked)}
    chosen: set[str] = set()
    for last in ("tf", "tf_static"):
        topics = [topic for topic in known if topic.rsplit("/", 1)[-1] == last]
        if len({_namespace(topic) for topic in topics}) > 1:
            above = [topic for topic in topics if color.startswith(_namespace(topic) + "/") and _namespace(topic)]
            if not above and last == "tf_static" and chosen:
                above = [topic for topic in topics if _namespace(topic) in {_namespace(topic) for topic in chosen}]
            topics = [max(above, key=len)] if above else topics
            if not above:
                raise ValueError(f"{path}: {', '.join(sorted(topics))} may be of several robots, and the namespace of "
                                 f"{color} does not tell which one carries it; name the one to use with --tf-topic")
        chosen.update(topics)
    return chosen


def picture_camera(info: Any, topic: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K (3, 3), the lens's coefficients and R (3, 3), which turns the camera's axes to the picture's, of a topic's
    pictures: rectified ones have P and R and no distortion, others K and D. ROS 1's names are known, too."""
    K, D, R, P = (np.array(getattr(info, name if hasattr(info, name) else name.upper()), np.float64)
                  for name in ("k", "d", "r", "p"))
    K, R, P = K.reshape(3, 3), R.reshape(3, 3), P.reshape(3, 4)
    if "rect" not in topic.lower():
        return K, D, np.eye(3)
    return P[:, :3] if P[0, 0] > 0 else K, np.zeros(0), R if abs(np.linalg.det(R) - 1) < 1e-3 else np.eye(3)


def _namespace(topic: str) -> str:
    return topic.rsplit("/", 1)[0]


def _originals(topics: Sequence[str]) -> list[str]:
    """Without the compressed copies of topics that are there themselves."""
    return [topic for topic in topics if _namespace(topic) not in topics]


def _beside(infos: Sequence[str], color: str) -> list[str]:
    """The camera infos of the innermost folder that the colour topic is in, too."""
    above = [info for info in infos if color.startswith(_namespace(info) + "/")]
    return [info for info in above if len(info) == max(map(len, above))]


def _only(what: str, topics: Sequence[str], path: Path) -> str:
    if len(topics) != 1:
        raise ValueError(f"{path}: expected one {what} topic, got {list(topics) or 'none'}; name the one to use with "
                         f"--{what.replace('_', '-')}-topic (depth must be registered to the colour's camera)")
    return topics[0]
