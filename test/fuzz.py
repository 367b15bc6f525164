"""Damages bags, worlds and RGB-D data in every way that comes to mind, and looks at what is made of them.

    python test/fuzz.py KIND... [--examples 1000] [--seed 0]       KIND: see INPUTS

Allowed are: what was there before, all of it; less of it, and a word about it; a refusal in one line. Exit code 1 for
an exception that no line explains, for what takes longer than a minute and for anything else that is given silently.
Of text for people (poses.txt, camera.yaml, transforms.json) only damage that leaves no other valid text is done to
files: nobody can tell a digit from another one.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
import json
from pathlib import Path
import shutil
import signal
import sys
from tempfile import TemporaryDirectory

import numpy as np

if __name__ == "__main__":  # run from anywhere, installed or not
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scenes import room_world, see_room

from worldfm_ros.bags.recovery import recover
from worldfm_ros.bags.writer import BagWriter
from worldfm_ros.ending import explained
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.bag import BagFrames
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.rgbd_folder import RgbdFolder, write_rgbd_folder
from worldfm_ros.sources.transforms import TransformsFrames
from worldfm_ros.world.storage import read_world, write_world

PATIENCE = 60  # seconds
TEXTS = (".txt", ".yaml", ".json")
SMALL = Intrinsics(32, 24, 20.0, 20.0, 15.5, 11.5)
FRAMES = [see_room(Pose.looking_at([0.05 * k, 0, 1.2], [0.05 * k + 1, 0.1 * k, 1.0]), SMALL, k) for k in range(6)]
STEP = 10**8  # ns between frames


@dataclass(frozen=True)
class Damage:
    """What is done to one of an input's files."""

    file: int  # counted among its files
    kind: str
    where: float  # 0 to 1: of the file's length
    length: int  # bytes
    byte: int

    def apply(self, folder: Path, whole_words: bool) -> bool:
        """Whether anything has changed. whole_words: text gets damage that no other valid text looks like."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = files[self.file % len(files)]
        before = path.read_bytes()
        data = bytearray(before)
        if self.kind == "gone":
            path.unlink()
            return True
        text = whole_words and path.suffix in TEXTS
        at = int(self.where * len(data))
        end = min(len(data), at + self.length)
        if self.kind == "cut":
            del data[data.rfind(b"\n", 0, at) + 1 if text else at:]
        elif self.kind == "flip":
            data[at:at + 1] = [0xFF] if text else [data[at] ^ (1 << self.byte % 8)] if at < len(data) else []
        elif self.kind == "zero":
            data[at:end] = bytes(end - at)
        elif self.kind == "noise" and not text:
            data[at:end] = np.random.default_rng(self.byte).bytes(end - at)
        elif self.kind == "twice" and not text:
            data[at:at] = data[at:end]
        path.write_bytes(data)
        return bytes(data) != before


KINDS = ("gone", "cut", "flip", "zero", "noise", "twice")
DAMAGES = st.builds(Damage, st.integers(0, 100), st.sampled_from(KINDS), st.floats(0, 0.9999), st.integers(1, 4000),
                    st.integers(0, 255))


# ---------------------------------------------------------------------------- inputs, and what is made of them


class PlainWriter(Writer):
    """As others write: no checksum anywhere."""

    def __init__(self, path: Path, storage: str) -> None:
        super().__init__(path, version=9, storage_plugin=StoragePlugin[storage.upper()])

    def add_topic(self, topic: str, msgtype: str):
        return self.add_connection(topic, msgtype, typestore=get_typestore(Stores.ROS2_JAZZY))


def write_bag(path: Path, storage: str, make_writer: Callable = BagWriter) -> Path:
    """The frames at 10 Hz, by our recorder's writer or another one."""
    from test_clip_sources import COLOR, DEPTH, INFO, STORE, image, transform
    from test_clip_sources import camera_info as room_info

    info = room_info()
    info.width, info.height, info.k = SMALL.width, SMALL.height, SMALL.matrix.ravel()
    with make_writer(path, storage) as bag:
        topics: dict = {}

        def write(topic: str, stamp: int, message) -> None:
            kind = message.__msgtype__
            topics[topic] = topics.get(topic) or bag.add_topic(topic, kind)
            bag.write(topics[topic], stamp, STORE.serialize_cdr(message, kind))

        write("/tf_static", 1, transform(1, "base", "optical", Pose.identity()))
        write(INFO, 1, info)
        for k, frame in enumerate(FRAMES):
            stamp = 10**9 + k * STEP
            write("/tf", stamp, transform(stamp, "map", "base", frame.T_world_camera))
            write(COLOR, stamp + 50, image(stamp, frame.rgb, "rgb8"))
            write(DEPTH, stamp + 60, image(stamp, np.rint(frame.depth * 1000).astype(np.uint16), "16UC1"))
            getattr(bag, "flush", lambda: None)()
    return path


def write_folder(path: Path) -> Path:
    write_rgbd_folder(FRAMES, path)
    return path


def write_transforms(path: Path) -> Path:
    write_rgbd_folder(FRAMES, path)
    frames = [{"file_path": f"rgb/{f.index:06d}.png", "depth_file_path": f"depth/{f.index:06d}.png",
               "transform_matrix": (f.T_world_camera.matrix @ np.diag([1.0, -1, -1, 1])).tolist()} for f in FRAMES]
    facts = {"w": SMALL.width, "h": SMALL.height, "fl_x": SMALL.fx, "fl_y": SMALL.fy, "cx": SMALL.cx + 0.5,
             "cy": SMALL.cy + 0.5, "frames": frames}
    (path / "transforms.json").write_text(json.dumps(facts))
    for name in ("poses.txt", "camera.yaml"):
        (path / name).unlink()
    return path


def write_small_world(path: Path) -> Path:
    world = room_world(4, voxel=0.2)
    write_world(world, path)
    return path


Content = tuple[list, list[str]]  # what was read, in order, and what was said of it


def read_frames(frames: PosedFrames) -> Content:
    said = [*frames.notes, *(f"{count} {reason}" for reason, count in (frames.skipped + frames.ignored).items())]
    return [(f.rgb.tobytes(), f.depth.tobytes(), f.T_world_camera.matrix.round(9).tobytes(), f.intrinsics)
            for f in frames], said


def read_bag(path: Path) -> Content:
    return read_frames(BagFrames(path))


def read_recovered(path: Path) -> Content:
    """What `worldfm bag recover` makes of it."""
    lost: Counter[str] = Counter()
    out = path.with_name("recovered")
    shutil.rmtree(out, ignore_errors=True)
    notes: list[str] = []
    recover(path, out, lost, notes)
    frames, said = read_frames(BagFrames(out))
    return frames, [*said, *lost, *notes]


def read_whole_world(path: Path) -> Content:
    world = read_world(path)
    anchors = [tuple(getattr(tile, name).tobytes() for name in ("origin", "points", "colors", "labels", "radius"))
               for tile in world.anchors.tiles]
    views = [(view.id, view.rgb.tobytes(), view.depth.tobytes(), view.intrinsics, view.T_world_camera.matrix.tobytes())
             for view in world.keyframes]
    facts = (world.name, world.spacing, tuple(world.label_names.items()), world.frame_id, world.metric)
    return [facts, *anchors, *views], []


@dataclass(frozen=True)
class Input:
    write: Callable[[Path], Path]
    read: tuple[Callable[[Path], Content], ...]
    whole_words: bool = False  # its text is for people: nobody can tell a digit from another one


INPUTS = {
    "mcap": Input(lambda path: write_bag(path, "mcap"), (read_bag, read_recovered)),
    "sqlite3": Input(lambda path: write_bag(path, "sqlite3"), (read_bag, read_recovered)),
    "world": Input(write_small_world, (read_whole_world,)),
    "plain-mcap": Input(lambda path: write_bag(path, "mcap", PlainWriter), (read_bag, read_recovered)),
    "plain-sqlite3": Input(lambda path: write_bag(path, "sqlite3", PlainWriter), (read_bag, read_recovered)),
    "folder": Input(write_folder, (lambda path: read_frames(RgbdFolder(path)),), True),
    "transforms": Input(write_transforms, (lambda path: read_frames(TransformsFrames(path)),), True),
}


# ---------------------------------------------------------------------------- one example


def examine(kind: str, whole: Path, truth: list, damage: Damage) -> list[str]:
    """What became of it: same, less (and a word about it), refused, untouched, for each way to read. AssertionError for
    what is not allowed."""
    found = []
    for read in INPUTS[kind].read:
        with TemporaryDirectory() as folder:
            path = Path(shutil.copytree(whole, Path(folder) / "input"))
            if not damage.apply(path, INPUTS[kind].whole_words):
                return ["untouched"]
            found.append(outcome(read, path, truth))
    return found


def outcome(read: Callable[[Path], Content], path: Path, truth: list) -> str:
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(PATIENCE)
    try:
        content, said = read(path)
    except Exception as error:  # noqa: BLE001  which kinds are lines is what is asked
        assert "fault of worldfm_ros" not in explained(error), explained(error)
        return "refused"
    finally:
        signal.alarm(0)
    if content == truth:
        return "same"
    assert said, f"silently other: {len(content)} of {len(truth)}"
    return "less" if all(part in truth for part in content) else "other, and a word about it"


def _too_long(number, frame) -> None:
    raise AssertionError(f"takes longer than {PATIENCE} s")


def fuzz(kind: str, examples: int, number: int = 0) -> Counter[str]:
    """So many damaged inputs of a kind; what became of them. Raises AssertionError with the smallest damage found."""
    outcomes: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        whole = INPUTS[kind].write(Path(folder) / "whole")
        truth, said = INPUTS[kind].read[0](whole)
        assert all("no checksums" in word for word in said), said

        @seed(number)
        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(DAMAGES)
        def damaged(damage: Damage) -> None:
            outcomes.update(examine(kind, whole, truth, damage))

        damaged()
    return outcomes


def main() -> int:
    """Fuzz some kinds and print what became of their inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", default=list(INPUTS))
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked, failed = parser.parse_args(), 0
    for kind in asked.kinds:
        try:
            outcomes = fuzz(kind, asked.examples, asked.seed)
            counts = ", ".join(f"{count} {what}" for what, count in outcomes.most_common())
            print(f"{kind}: {asked.examples} damaged: {counts}", flush=True)
        except AssertionError as error:
            failed = 1
            print(f"{kind}: NOT ALLOWED: {error} {' '.join(getattr(error, '__notes__', []))}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
