"""Pairs with several references: the memory of a clip as a robot with real sensors has it, seen from a target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.batch import Pair
from training.data.cloud import Density, cloud, thinned
from training.data.corruption import Amounts, Corruption, blur, corrupt_frame
from training.data.pairs import painted_over, picture, with_holes
from training.data.sensors import Camera, Sensors, drifted
from worldfm_ros.clips import REFERENCE_GROUP, Clip, RgbdFrame
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.painting.composed import Memory, remember
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView, render


def make_pair_of_several(clip: Clip, target: int, size: tuple[int, int], corruption: Corruption, sensors: Sensors,
                         count: int, seed: int) -> Pair:
    """The pair of a target position (0..15) with up to `count` references. The same arguments give the same bytes."""
    rng = np.random.default_rng(seed)
    view, order = clip.frames[target], ordered(target, count, sensors, rng)
    if rng.random() < sensors.clean:
        camera, group = None, {k: clip.frames[k] for k in REFERENCE_GROUP}
    else:
        camera = Camera.draw(sensors, rng)
        group = seen_by(camera, clip, corruption, sensors, rng)
    shot = view.rgb if camera is None else camera.picture(view.rgb, 1.0, rng)
    photo, intrinsics = picture(shot, view.intrinsics, size)
    if camera is None:
        anchors = cloud(list(group.values()), 1.0, view.T_world_camera.translation, Corruption.none(), rng)
        drawing = render([anchors], view.T_world_camera, intrinsics, threads=1)
    else:
        drawing = drawn(list(group.values()), view, intrinsics, corruption, rng)
    references = [Keyframe.of(group[k]) for k in order]
    memory = remember(drawing, references, view.T_world_camera, intrinsics)
    guided = guide_of(memory)
    if view.scene is not None:
        scene, _ = picture(np.uint8(128) * view.scene, view.intrinsics, size)
        photo = painted_over(photo, scene == 128, guided)
    if camera is not None and rng.random() < corruption.target_blurred:
        photo = blur(photo, corruption, rng)
    shown, reference_intrinsics = picture(references[0].rgb, references[0].intrinsics, size)
    return Pair(photo, drawing.rgb, drawing.coverage, shown, guided, view.T_world_camera,
                references[0].T_world_camera, intrinsics, reference_intrinsics, seed, filled(memory, count))


def ordered(target: int, count: int, sensors: Sensors, rng: np.random.Generator) -> list[int]:
    """Positions in the reference group, best first: at least one, at most `count`."""
    if rng.random() < sensors.near:
        order = sorted(REFERENCE_GROUP, key=lambda k: abs(k - target))
    else:
        order = rng.permutation(REFERENCE_GROUP).tolist()
    return [int(k) for rank, k in enumerate(order[:count]) if rank == 0 or rng.random() >= sensors.masked]


def seen_by(camera: Camera, clip: Clip, corruption: Corruption, sensors: Sensors,
            rng: np.random.Generator) -> dict[int, RgbdFrame]:
    """The reference group as that camera, with its pose estimate, delivers it."""
    amounts, gain, group = Amounts.draw(corruption, rng), 1.0, {}
    frames = drifted([clip.frames[k] for k in REFERENCE_GROUP], sensors, rng)
    for position, frame in zip(REFERENCE_GROUP, frames, strict=True):
        gain *= 1.0 + float(rng.normal(0.0, sensors.exposure))
        frame = RgbdFrame(frame.index, frame.rgb, camera.measured(frame.depth, rng), frame.intrinsics,
                          frame.T_world_camera)
        frame = corrupt_frame(frame, corruption, amounts, rng)
        group[position] = RgbdFrame(frame.index, camera.picture(frame.rgb, gain, rng), frame.depth, frame.intrinsics,
                                    frame.T_world_camera)
    return group


def drawn(group: Sequence[RgbdFrame], view: RgbdFrame, intrinsics: Intrinsics, corruption: Corruption,
          rng: np.random.Generator) -> AnchorView:
    """The group's cloud, thinned and disordered, seen from the target."""
    density = Density.draw(corruption, rng)
    kept = [thinned(frame, density.stride, rng) for frame in group if rng.random() >= corruption.missing_frame]
    if not kept or rng.random() < corruption.masked:
        return AnchorView.empty(intrinsics)
    anchors = cloud(kept, density.fraction, view.T_world_camera.translation, corruption, rng)
    return with_holes(render([anchors], view.T_world_camera, intrinsics, threads=1), corruption, rng)


def filled(memory: Memory, count: int) -> Memory:
    """With places for `count` references; those behind the given ones show nothing."""
    room = ((0, count - len(memory.facts)), (0, 0), (0, 0), (0, 0))
    return Memory(np.pad(memory.pictures, room), memory.surface, np.pad(memory.facts, room))


def guide_of(memory: Memory) -> np.ndarray:
    """(H, W, 8) uint8: painting.guide's, of the first reference."""
    shown, drawn_here = memory.facts[0, ..., :1], memory.surface[..., :1]
    guess = np.where((drawn_here == 0) & (shown > 0), memory.pictures[1], memory.pictures[0])
    return np.concatenate([guess, memory.pictures[1], drawn_here, shown], axis=-1)
