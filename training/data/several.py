"""Pairs with several references: the memory of a clip as a robot with real sensors has it, seen from its targets.

All pairs that a batch takes from a clip share one memory: to make it costs more than to look into it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.batch import Pair
from training.data.cloud import Density, cloud, thinned
from training.data.corruption import Amounts, Corruption, blur, corrupt_frame
from training.data.pairs import painted_over, picture, with_holes
from training.data.sensors import Camera, Drift, Sensors
from worldfm_ros.clips import REFERENCE_GROUP, Clip, RgbdFrame
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.composed import Memory, remember
from worldfm_ros.world.anchors import Anchors
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView, render


@dataclass(frozen=True, kw_only=True)
class Several:
    """How pairs of up to `references` references are made: what the cameras do, and what else goes wrong."""

    references: int = 3
    corruption: Corruption = Corruption.default()
    sensors: Sensors = Sensors()


@dataclass(frozen=True, eq=False)
class ClipMemory:
    """What a robot keeps of a clip: its reference group by position, and their cloud; None = no anchor at all.

    camera: that has made them, and drift: how it went astray; None = they are exact.
    """

    keyframes: dict[int, Keyframe]
    anchors: Anchors | None
    camera: Camera | None = None
    drift: Drift | None = None

    def believed(self, T_world_camera: Pose, position: int) -> Pose:
        """The pose estimate of a camera at that position of the clip."""
        return T_world_camera if self.drift is None else T_world_camera @ self.drift.poses[position]

    def shot(self, rgb: np.ndarray, position: int, rng: np.random.Generator) -> np.ndarray:
        """A picture (H, W, 3) uint8 as the camera delivers it there."""
        return rgb if self.camera is None else self.camera.picture(rgb, self.drift.gains[position], rng)


def memory_of(clip: Clip, settings: Several, seed: int) -> ClipMemory:
    """The same arguments give the same memory."""
    rng = np.random.default_rng(seed)
    origin = clip.frames[REFERENCE_GROUP[1]].T_world_camera.translation
    if rng.random() < settings.sensors.clean:
        exact = {k: clip.frames[k] for k in REFERENCE_GROUP}
        anchors = cloud(list(exact.values()), 1.0, origin, Corruption.none(), rng)
        return ClipMemory({k: Keyframe.of(frame) for k, frame in exact.items()}, anchors)
    corruption = settings.corruption
    camera, drift = Camera.draw(settings.sensors, rng), Drift.draw(settings.sensors, rng)
    group = seen_by(camera, drift, clip, settings, rng)
    density = Density.draw(corruption, rng)
    kept = [thinned(frame, density.stride, rng) for frame in group.values() if rng.random() >= corruption.missing_frame]
    anchors = cloud(kept, density.fraction, origin, corruption, rng) if kept else None
    return ClipMemory({k: Keyframe.of(frame) for k, frame in group.items()}, anchors, camera, drift)


def seen_by(camera: Camera, drift: Drift, clip: Clip, settings: Several,
            rng: np.random.Generator) -> dict[int, RgbdFrame]:
    """The reference group as that camera, with its pose estimate, delivers it."""
    corruption, group = settings.corruption, {}
    amounts = Amounts.draw(corruption, rng)
    for position in REFERENCE_GROUP:
        frame = clip.frames[position]
        frame = replace(frame, depth=camera.measured(frame.depth, rng),
                        T_world_camera=frame.T_world_camera @ drift.poses[position])
        frame = corrupt_frame(frame, corruption, amounts, rng)
        group[position] = replace(frame, rgb=camera.picture(frame.rgb, drift.gains[position], rng))
    return group


def make_pair_of_several(clip: Clip, target: int, size: tuple[int, int], settings: Several, kept: ClipMemory,
                         seed: int) -> Pair:
    """The pair of a target position (0..15), seen in a memory. The same arguments give the same bytes."""
    rng = np.random.default_rng(seed)
    view, corruption = clip.frames[target], settings.corruption
    photo, intrinsics = picture(kept.shot(view.rgb, target, rng), view.intrinsics, size)
    T_world_target = kept.believed(view.T_world_camera, target)
    drawing = drawn(kept, T_world_target, intrinsics, corruption, rng)
    references = [kept.keyframes[k] for k in ordered(target, settings, rng)]
    memory = remember(drawing, references, T_world_target, intrinsics)
    guided = guide_of(memory)
    if view.scene is not None:
        scene, _ = picture(np.uint8(128) * view.scene, view.intrinsics, size)
        photo = painted_over(photo, scene == 128, guided)
    if kept.camera is not None and rng.random() < corruption.target_blurred:
        photo = blur(photo, corruption, rng)
    best = references[0]
    shown, reference_intrinsics = picture(best.rgb, best.intrinsics, size)
    return Pair(photo, drawing.rgb, drawing.coverage, shown, guided, T_world_target, best.T_world_camera,
                intrinsics, reference_intrinsics, seed, filled(memory, settings.references))


def drawn(kept: ClipMemory, T_world_target: Pose, intrinsics: Intrinsics, corruption: Corruption,
          rng: np.random.Generator) -> AnchorView:
    """The memory's cloud seen from the target; holes and masks are where nobody ever was."""
    if kept.anchors is None:
        return AnchorView.empty(intrinsics)
    if kept.camera is None:
        return render([kept.anchors], T_world_target, intrinsics, threads=1)
    if rng.random() < corruption.masked:
        return AnchorView.empty(intrinsics)
    return with_holes(render([kept.anchors], T_world_target, intrinsics, threads=1), corruption, rng)


def ordered(target: int, settings: Several, rng: np.random.Generator) -> list[int]:
    """Positions in the reference group, best first: at least one, at most as many as there are references."""
    if rng.random() < settings.sensors.near:
        order = sorted(REFERENCE_GROUP, key=lambda k: abs(k - target))
    else:
        order = rng.permutation(REFERENCE_GROUP).tolist()
    return [int(k) for rank, k in enumerate(order[:settings.references])
            if rank == 0 or rng.random() >= settings.sensors.masked]


def filled(memory: Memory, count: int) -> Memory:
    """With places for `count` references; those behind the given ones show nothing."""
    room = ((0, count - len(memory.facts)), (0, 0), (0, 0), (0, 0))
    return Memory(np.pad(memory.pictures, room), memory.surface, np.pad(memory.facts, room))


def guide_of(memory: Memory) -> np.ndarray:
    """(H, W, 8) uint8: painting.guide's, of the first reference."""
    shown, drawn_here = memory.facts[0, ..., :1], memory.surface[..., :1]
    guess = np.where((drawn_here == 0) & (shown > 0), memory.pictures[1], memory.pictures[0])
    return np.concatenate([guess, memory.pictures[1], drawn_here, shown], axis=-1)
