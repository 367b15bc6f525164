"""What the check of poses against depth says of scans and of the usual wrong readings of them, as a Markdown table.

    python test/fit_variants.py SOURCE...        RGB-D folders, bags, transforms.json; a world folder = its keyframes

Exit code 1 when a scan as it is was not accepted, or a wrong reading was neither refused nor warned of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
import sys

import numpy as np

if __name__ == "__main__":  # run from anywhere, installed or not
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Pose
from worldfm_ros.sources.checks import check_fit
from worldfm_ros.sources.conventions import WRITE
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.sources.open import open_frames
from worldfm_ros.world.storage import MANIFEST, read_world


class Told(PosedFrames):
    """Frames of a source that claim other poses and another unit than the true ones."""

    files = None

    def __init__(self, frames: PosedFrames | Sequence[RgbdFrame], poses: list[Pose] | None = None,
                 factor: float = 1.0) -> None:
        self.path, self.skipped, self.frames, self.factor = Path("scan"), Counter(), frames, factor
        self._poses = poses or (frames.poses if isinstance(frames, PosedFrames)
                                else [frame.T_world_camera for frame in frames])

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, position: int) -> RgbdFrame:
        frame = self.frames[position]
        return replace(frame, depth=frame.depth * np.float32(self.factor), T_world_camera=self._poses[position])

    @property
    def poses(self) -> list[Pose]:
        return self._poses

    @property
    def camera(self):
        return self.frames[0].intrinsics


def with_poses(change: Callable[[list[Pose]], list[Pose]]) -> Callable[[Told], Told]:
    return lambda frames: Told(frames.frames, change(frames.poses))


def written_as(convention: str) -> Callable[[Told], Told]:
    return with_poses(lambda poses: [WRITE[convention](pose) for pose in poses])


def shuffled(poses: list[Pose]) -> list[Pose]:
    return [poses[k] for k in np.random.default_rng(0).permutation(len(poses))]


VARIANTS: dict[str, tuple[Callable[[Told], Told], str]] = {  # what is done to a scan, and the words that name it
    "as it is": (lambda frames: frames, ""),
    "depth x0.5": (lambda frames: Told(frames.frames, frames.poses, 0.5), "--depth-scale 500"),
    "depth x2": (lambda frames: Told(frames.frames, frames.poses, 2.0), "--depth-scale 2000"),
    "depth x5": (lambda frames: Told(frames.frames, frames.poses, 5.0), "--depth-scale 5000"),
    "inverse": (written_as("world-to-camera"), "--poses world-to-camera"),
    "OpenGL": (written_as("opengl"), "--poses opengl"),
    "x forward": (written_as("body"), "--poses body"),
    "shuffled": (with_poses(shuffled), "in their order"),
    "one pose": (with_poses(lambda poses: poses[:1] * len(poses)), "poses never change"),
}


def verdict(frames: Told) -> str:
    """What check_fit says; empty for frames that fit."""
    try:
        return check_fit(frames) or ""
    except ValueError as error:
        return f"refused: {error}"


def open_told(path: Path) -> Told:
    """The frames of a source; of a world folder its keyframes."""
    if not (path / MANIFEST).exists():
        return Told(open_frames(path))
    return Told([RgbdFrame(k, view.rgb, view.depth, view.intrinsics, view.T_world_camera)
                 for k, view in enumerate(read_world(path).keyframes)])


def main(paths: Sequence[str]) -> int:
    """Print the table."""
    print(f"| scan | {' | '.join(VARIANTS)} |\n|{'---|' * (len(VARIANTS) + 1)}")
    wrong = 0
    for path in map(Path, paths):
        frames, cells = open_told(path), []
        for change, named in VARIANTS.values():
            said = verdict(change(frames))
            right = named in said if named else not said
            wrong += not (right or (named and said))
            kind = "accepted" if not said else "refused" if said.startswith("refused") else "warned"
            cells.append(kind + (f", {named}" if named and right else ": " + said[-150:] if said else ""))
        print(f"| {path.name} | {' | '.join(cells)} |", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
