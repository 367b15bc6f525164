"""Held-out views: cameras that the map was not made of, what it shows of them, and their photographs.

Two protocols: `ClipViews` cuts a sequence into clips, four frames of which show the other twelve (the paper's);
`WorldViews` looks into a world, which `hold_out` makes of the frames that are not targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from worldfm_ros.clips import LENGTH, REFERENCE_GROUP, TARGETS, Clip, RgbdFrame, cut
from worldfm_ros.evaluation.degradation import Degradation
from worldfm_ros.frame_model.imaging import crop_to_aspect, resize
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.sources.frames import PosedFrames
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.builders.fusion import FusionSettings, fuse
from worldfm_ros.world.builders.tsdf import TsdfSurface
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.reference import ReferenceChooser
from worldfm_ros.world.renderer import AnchorView, render
from worldfm_ros.world.storage import World


@dataclass(frozen=True, eq=False)
class HeldOutView:
    """One camera: the truth, and what a frame model is given.

    photograph: rgb and true depth at the size of the evaluation. scene (H, W) bool: the pixels that count.
    group: views of one group follow each other in time and look into one map. references: the best first.
    """

    group: str
    photograph: Keyframe
    scene: np.ndarray
    drawing: AnchorView
    references: tuple[Keyframe, ...]


class Truth(NamedTuple):
    """What a camera really saw: the photograph with its depth, and scene (H, W) bool, the pixels that count."""

    photograph: Keyframe
    scene: np.ndarray


class HeldOutViews(Protocol):
    """Views, one after the other as they are asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[HeldOutView]: ...


class Photographs:
    """Posed frames as photographs of one size: centre-cropped to its aspect, resampled, K with them."""

    def __init__(self, frames: PosedFrames, width: int, height: int) -> None:
        self.frames, self.width, self.height = frames, width, height

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, position: int) -> Truth:
        return self.photograph(self.frames[position])

    def photograph(self, frame: RgbdFrame) -> Truth:
        """Raises ValueError for a frame that shows nothing of the scene."""
        rgb, intrinsics = crop_to_aspect(frame.rgb, frame.intrinsics, self.width, self.height)
        scene = np.ones(frame.depth.shape, bool) if frame.scene is None else frame.scene
        scene = self._nearest(scene.astype(np.uint8), frame.intrinsics) == 1
        if not scene.any():
            raise ValueError(f"{self.frames.path}: the mask leaves no pixel of frame {frame.index} (0 = not the scene)")
        keyframe = Keyframe(frame.index, resize(rgb, self.width, self.height),
                            self._nearest(frame.depth, frame.intrinsics),
                            intrinsics.resized(self.width, self.height), frame.T_world_camera)
        return Truth(keyframe, scene)

    def _nearest(self, image: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        cropped, _ = crop_to_aspect(image, intrinsics, self.width, self.height)
        return cv2.resize(cropped, (self.width, self.height), interpolation=cv2.INTER_NEAREST_EXACT)


class ClipViews:
    """The paper's protocol (2.4.1): each clip's four reference frames make a cloud, its other twelve are the targets.

    The cloud and the references have the photographs' own size; what is drawn has the asked one. `count`: at most so
    many clips, spread evenly. Raises ValueError for sequences that are too short or have no depth.
    """

    def __init__(self, photographs: Photographs, degradation: Degradation, count: int | None = None) -> None:
        photographs.frames.require_depth()
        clips = len(photographs) // LENGTH
        if not clips:
            raise ValueError(f"{photographs.frames.path} has {len(photographs)} frames; a clip has {LENGTH}")
        self.photographs, self.degradation = photographs, degradation
        self.chosen = spread(clips, count)
        references = (LENGTH * clip + position for clip in self.chosen for position in REFERENCE_GROUP)
        if not any(photographs.frames[frame].depth.any() for frame in references):
            raise ValueError(f"none of the reference frames (of each {LENGTH} frames {REFERENCE_GROUP}) in "
                             f"{photographs.frames.path} has depth; a cloud of anchors needs depth images")

    def __len__(self) -> int:
        return len(self.chosen) * len(TARGETS)

    def __iter__(self) -> Iterator[HeldOutView]:
        frames = self.photographs.frames
        for number, clip in enumerate(cut(frames, frames.name)):
            if number in self.chosen:
                yield from self._views(clip)

    def _views(self, clip: Clip) -> Iterator[HeldOutView]:
        observed = Clip(clip.name, tuple(self.degradation.frame(frame) for frame in clip.frames))
        anchors = self.degradation.anchors(AnchorMap.from_cloud(observed.anchors()))
        keyframes = {position: Keyframe.of(observed.frames[position]) for position in REFERENCE_GROUP}
        for position in TARGETS:
            photograph, scene = self.photographs.photograph(clip.frames[position])
            references = tuple(keyframes[k] for k in clip.by_closeness(position))
            yield HeldOutView(clip.name, photograph, scene, draw(anchors, photograph), references)


class WorldViews:
    """A world seen from the cameras of posed frames; the references are chosen as FrameGenerator does.

    `positions`: of the frames; by default all, of which at most `count`, spread evenly, are kept.
    """

    def __init__(self, world: World, photographs: Photographs, positions: Sequence[int] | None = None,
                 count: int | None = None) -> None:
        positions = range(len(photographs)) if positions is None else positions
        self.world, self.photographs = world, photographs
        self.positions = [positions[k] for k in spread(len(positions), count)]

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[HeldOutView]:
        chooser = ReferenceChooser(self.world.keyframes)
        for position in self.positions:
            photograph, scene = self.photographs[position]
            drawing = draw(self.world.anchors, photograph)
            references = chooser.choose(drawing.depth, photograph.T_world_camera, photograph.intrinsics)
            yield HeldOutView(self.world.name, photograph, scene, drawing, references)


def targets(photographs: Photographs, every: int) -> range:
    """The positions 0, every, 2 every ... of what is held out. Raises ValueError when that is none or all."""
    if not 2 <= every <= len(photographs):
        raise ValueError(f"hold out every 2nd to {len(photographs)}th of the {len(photographs)} frames of "
                         f"{photographs.frames.path}, got {every}")
    return range(0, len(photographs), every)


def hold_out(photographs: Photographs, every: int, degradation: Degradation,
             settings: FusionSettings = FusionSettings(), track: Callable[[Iterable], Iterable] = iter) -> World:
    """The world of all frames that are no targets, fused as `worldfm world build rgbd` does.

    Raises ValueError when no frame is left, or there is no depth.
    """
    frames, held_out = photographs.frames, targets(photographs, every)
    frames.require_depth()
    others = _Observed(frames, [k for k in range(len(frames)) if k not in held_out], degradation)
    world = fuse(others, frames.name, TsdfSurface(settings), settings, track=track)
    world.anchors = degradation.anchors(world.anchors)
    return world


@dataclass(frozen=True, eq=False)
class _Observed(Sequence[RgbdFrame]):
    """Some frames as they go into the map, read when asked for."""

    frames: PosedFrames
    positions: list[int]
    degradation: Degradation

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, k: int) -> RgbdFrame:
        return self.degradation.frame(self.frames[self.positions[k]])


def draw(anchors: AnchorMap, view: Keyframe) -> AnchorView:
    """The anchors as the camera of a photograph sees them."""
    return render(anchors.visible(view.T_world_camera, view.intrinsics), view.T_world_camera, view.intrinsics)


def spread(total: int, count: int | None) -> list[int]:
    """At most `count` of 0 ... total - 1, evenly spread: the middles of equal parts. Raises ValueError below 1."""
    if count is None:
        return list(range(total))
    if count < 1:
        raise ValueError(f"count is 1 or more, got {count}")
    count = min(count, total)
    return [(2 * k + 1) * total // (2 * count) for k in range(count)]
