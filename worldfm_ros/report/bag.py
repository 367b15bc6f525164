"""The report on a bag: what is in it, how evenly it came, whether each picture has its pose, and what it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldfm_ros.bags.reader import BadMessage, Bag, nanoseconds, open_bag
from worldfm_ros.report.plots import Plan, floor_plan, histograms, over_time, shares
from worldfm_ros.report.sheet import Section
from worldfm_ros.report.world import named
from worldfm_ros.sources.bag_images import DEPTHS, decode_color, pixel_rows
from worldfm_ros.sources.bag_topics import CAMERA_INFO, IMAGES, TRANSFORMS
from worldfm_ros.sources.tf_tree import STATIC, TfTree
from worldfm_ros.tf.history import TransformError, frames_of, pose_of

SECOND = 10**9
PICTURES = 12  # of each colour topic
LABELS = ("segmentation", "labels")  # words of the topics whose mono16 or 16UC1 pixels are labels
LABEL_IMAGES = 60  # of a topic at most, that the histogram is of
JITTER = 0.25  # of the period; an interval that is off by more counts as uneven
HOLE = 1.5  # periods; a longer interval is a hole


@dataclass
class Topic:
    """What came on one topic: times of recording and header stamps, ns; stamps are 0 where there is no header."""

    kind: str
    recorded: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    frames: Counter[str] = field(default_factory=Counter)  # frame_id
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # width, height
    bad: int = 0


@dataclass
class Contents:
    """One reading of a bag."""

    topics: dict[str, Topic] = field(default_factory=dict)
    tree: TfTree = field(default_factory=TfTree)
    pictures: dict[str, list[tuple[str, np.ndarray]]] = field(default_factory=dict)
    infos: dict[str, list[tuple]] = field(default_factory=dict)  # (width, height, K), each once
    labels: np.ndarray = field(default_factory=lambda: np.zeros(2**16, int))
    refused: Counter[str] = field(default_factory=Counter)  # transforms, by reason


def bag_section(path: Path, plan: Plan | None) -> Section:
    """`plan`: of the world that was driven in, where it is known. Raises ValueError for what is no bag."""
    with open_bag(path) as bag:
        contents = read(bag)
    section = Section(f"Bag {path.name}")
    times = [time for topic in contents.topics.values() for time in topic.recorded]
    if not times:
        raise ValueError(f"{path} holds no message")
    start = min(times)
    section.facts({"path": path, "duration": f"{(max(times) - start) / SECOND:.2f} s", "messages": f"{len(times):,}"})
    section.table(("topic", "type", "messages", "rate", "jitter", "latency"), [
        (name, topic.kind.rsplit("/", 1)[-1], len(topic.recorded), *_pace(topic))
        for name, topic in sorted(contents.topics.items())])
    _check_stamps(section, contents)
    _check_transforms(section, contents)
    _check_cameras(section, contents)
    section.show_checks()
    _plots(section, contents, start, plan)
    for name, pictures in contents.pictures.items():
        section.heading(f"Contact sheet of {name}")
        section.pictures(pictures)
    return section


def read(bag: Bag) -> Contents:
    """Everything that the report is made of, in one reading; of the pictures a few are kept."""
    contents = Contents()
    wanted = {c.topic: set(np.linspace(0, max(0, (c.msgcount or 1) - 1), PICTURES).round().astype(int))
              for c in bag.connections}
    for connection, recorded, raw in bag.messages():
        topic = contents.topics.setdefault(connection.topic, Topic(connection.msgtype))
        number = len(topic.recorded)
        topic.recorded.append(recorded)
        try:
            message = bag.deserialize(raw, connection.msgtype)
        except BadMessage:
            topic.bad += 1
            topic.stamps.append(0)
            continue
        header = getattr(message, "header", None)
        topic.stamps.append(nanoseconds(header.stamp) if header else 0)
        if header:
            topic.frames[header.frame_id.lstrip("/")] += 1
        if connection.msgtype in IMAGES:
            _take_picture(contents, connection.topic, message, number, wanted[connection.topic])
        elif connection.msgtype in TRANSFORMS:
            _take_transforms(contents, connection.topic, message)
        elif connection.msgtype == CAMERA_INFO:
            facts = message.width, message.height, tuple(np.ravel(getattr(message, "k", getattr(message, "K", ()))))
            seen = contents.infos.setdefault(connection.topic, [])
            if facts not in seen:
                seen.append(facts)
    return contents


def _take_picture(contents: Contents, name: str, message: Any, number: int, wanted: set[int]) -> None:
    if hasattr(message, "width"):
        contents.topics[name].sizes[message.width, message.height] += 1
    if getattr(message, "encoding", "") in DEPTHS or "compressedDepth" in name:
        if any(word in name for word in LABELS) and number < LABEL_IMAGES and message.encoding != "32FC1":
            contents.labels += np.bincount(pixel_rows(message, np.uint16, 1).ravel(), minlength=len(contents.labels))
        return
    if number in wanted and "confidence" not in name:
        try:
            contents.pictures.setdefault(name, []).append((f"{number}", decode_color(message)))
        except ValueError:
            contents.topics[name].bad += 1


def _take_transforms(contents: Contents, name: str, message: Any) -> None:
    for transform in message.transforms:
        parent, child = frames_of(transform)
        try:
            pose = pose_of(transform)
        except TransformError as error:
            contents.refused[f"{child}: {error.reason}"] += 1
            continue
        static = name.endswith("static")
        contents.tree.add(STATIC if static else nanoseconds(transform.header.stamp), parent, child, pose)


def _times(topic: Topic) -> np.ndarray:
    """Stamps where the topic has them, else times of recording; ns."""
    return np.array(topic.stamps if any(topic.stamps) else topic.recorded, np.int64)


def _pace(topic: Topic) -> tuple[str, str, str]:
    """Rate, jitter (standard deviation of the intervals) and latency (recording after stamp, median), in words."""
    steps = np.diff(_times(topic)) / 1e6
    rate = f"{1e3 / steps.mean():.2f} Hz" if len(steps) and steps.mean() > 0 else ""
    jitter = f"{steps.std():.2f} ms" if len(steps) > 1 else ""
    late = _latency(topic)
    return rate, jitter, f"{np.median(late):.1f} ms" if len(late) and (late >= 0).all() else ""


def _latency(topic: Topic) -> np.ndarray:
    """Milliseconds between stamp and recording, of messages with a stamp; of another clock they mean nothing."""
    pairs = [(recorded - stamp) / 1e6 for recorded, stamp in zip(topic.recorded, topic.stamps, strict=True) if stamp]
    return np.array(pairs)


def _check_stamps(section: Section, contents: Contents) -> None:
    for name, topic in contents.topics.items():
        if topic.bad:
            section.check(f"{name} can be read", False, f"{topic.bad} of {len(topic.recorded)} messages cannot")
        if topic.kind not in IMAGES:
            continue
        steps = np.diff(_times(topic))
        if not len(steps):
            continue
        period = np.median(steps)
        holes, back = int((steps > HOLE * period).sum()), int((steps <= 0).sum())
        uneven = int((np.abs(steps - period) > JITTER * period).sum())
        section.check(f"stamps of {name}", not (holes or back),
                      f"{back} not after the one before, {holes} holes, {uneven} of {len(steps)} intervals uneven")


def _check_transforms(section: Section, contents: Contents) -> None:
    for name, topic in _images(contents):
        unknown: Counter[str] = Counter()
        roots = set()
        for stamp in topic.stamps:
            try:
                roots.add(contents.tree.from_root(next(iter(topic.frames), ""), stamp)[0])
            except TransformError as error:
                unknown[error.reason] += 1
        frame = next(iter(topic.frames), "no frame")
        moves = contents.tree.moves(frame)
        found = (f"{len(topic.stamps) - unknown.total()} of {len(topic.stamps)} stamps of {frame} have a pose"
                 + (f" in {', '.join(sorted(roots))}" if roots else "")
                 + "".join(f", {count} {reason}" for reason, count in unknown.items())
                 + ("" if moves else "; the frame does not move"))
        section.check(f"TF of {name}", not unknown and moves, found)
    if contents.refused:
        found = ", ".join(f"{count} of {reason}" for reason, count in contents.refused.items())
        section.check("transforms", False, found)


def _check_cameras(section: Section, contents: Contents) -> None:
    for name, topic in _images(contents):
        beside = name.rpartition("/")[0]
        above = beside.rpartition("/")[0]
        folders = (beside, above, above.rpartition("/")[0])
        info = next((f"{each}/camera_info" for each in folders if f"{each}/camera_info" in contents.infos), None)
        if info is None:
            section.check(f"calibration of {name}", False, "there is no camera_info beside it")
            continue
        lacking = set(topic.stamps) - set(contents.topics[info].stamps)
        facts = contents.infos[info]
        (width, height, K) = facts[0]
        fits = topic.sizes.keys() <= {(width, height)}  # a compressed picture does not tell its size
        sane = K[0] > 0 and K[4] > 0 and 0 < K[2] < width and 0 < K[5] < height
        section.check(f"calibration of {name}", not lacking and len(facts) == 1 and fits and sane,
                      f"{width}x{height}, fx {K[0]:.1f}, fy {K[4]:.1f}, c {K[2]:.1f}, {K[5]:.1f}"
                      + (f"; {len(facts)} different ones" if len(facts) > 1 else "")
                      + ("" if fits else f"; pictures are {', '.join(f'{w}x{h}' for w, h in topic.sizes)}")
                      + ("" if sane else "; K is no camera's")
                      + (f"; {len(lacking)} pictures without one of their stamp" if lacking else ""))


def _images(contents: Contents) -> list[tuple[str, Topic]]:
    """The topics of pictures; compressed copies of topics that are there themselves are left out."""
    return [(name, topic) for name, topic in contents.topics.items()
            if topic.kind in IMAGES and topic.frames and name.rpartition("/")[0] not in contents.topics]


def _plots(section: Section, contents: Contents, start: int, plan: Plan | None) -> None:
    images = {name: topic for name, topic in contents.topics.items() if topic.kind in IMAGES and len(topic.stamps) > 2}
    if images:
        section.plot(over_time({name: ((_times(topic)[1:] - _times(topic)[0]) / SECOND, SECOND / np.maximum(
            np.diff(_times(topic)), 1)) for name, topic in images.items()}, "Hz", "rate, by stamps"))
        section.plot(histograms({name: np.diff(_times(topic)) / 1e6 for name, topic in images.items()},
                                "ms between two stamps", "jitter"))
        late = {name: _latency(topic) for name, topic in images.items()}
        if all(len(each) and each.min() >= 0 and np.median(each) < 60_000 for each in late.values()):
            section.plot(histograms(late, "ms from stamp to recording", "latency"))
        else:
            section.text("No latency: the bag was recorded by another clock than its stamps are of.")
    for name, topic in _images(contents)[:1]:
        if (places := _places(contents.tree, topic)) is not None:
            section.plot(floor_plan(_path(places), f"where the camera of {name} was", plan))
    if contents.labels[1:].any():
        section.plot(shares(named(contents.labels, plan.label_names if plan else {}), "pixels by label"))


def _places(tree: TfTree, topic: Topic) -> np.ndarray | None:
    """(N, 2) x and y of a topic's frame, where they are known."""
    places = []
    for stamp in topic.stamps:
        try:
            places.append(tree.from_root(next(iter(topic.frames), ""), stamp)[1].translation[:2])
        except TransformError:
            continue
    return np.array(places) if places else None


def _path(places: np.ndarray) -> Callable:
    def draw(axes) -> None:
        axes.plot(*places.T, color="#5fca8b", linewidth=1.6)
        axes.plot(*places[0], "o", color="#5fca8b", markersize=7)
        axes.plot(*places[-1], "s", color="#e57373", markersize=6)

    return draw
