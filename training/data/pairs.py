"""Pairs for training, made of a clip as the paper makes them (2.4.1, training data).

The reference group's cloud is drawn at the target, and the temporally closest frame of the group is the reference.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.batch import Pair
from training.data.cloud import Density, cloud, thinned
from training.data.corruption import Amounts, Corruption, blur, corrupt_frame
from worldfm_ros.clips import REFERENCE_GROUP, Clip, RgbdFrame
from worldfm_ros.frame_model.imaging import crop_to_aspect, resize
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.guide import guide, nearest_drawn
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView, render

__all__ = ["Corruption", "make_pair"]


def make_pair(clip: Clip, target: int, size: tuple[int, int], corruption: Corruption, seed: int) -> Pair:
    """The pair of a target position (0..15) at size (height, width). The same arguments give the same bytes.

    Photographs are cropped to the size's aspect and resized, K with them; the drawing is drawn at that size. Depth,
    pose and colours of the reference group are those that a robot would have; the target's pose is exact. What the
    target shows that is not the scene, say the robot's own hand, is painted over: no network shall learn to paint it.
    """
    rng = np.random.default_rng(seed)
    view = clip.frames[target]
    photo, intrinsics = picture(view.rgb, view.intrinsics, size)
    if corruption == Corruption.none():
        reference = Keyframe.of(clip.frames[clip.closest(target)])
        tiles = AnchorMap.from_cloud(clip.anchors()).visible(view.T_world_camera, intrinsics)
        drawing = render(tiles, view.T_world_camera, intrinsics, 1)
    else:
        reference, drawing = remember(clip, target, intrinsics, corruption, rng)
    guided = guide(drawing, reference, view.T_world_camera, intrinsics)
    if view.scene is not None:
        scene, _ = picture(np.uint8(128) * view.scene, view.intrinsics, size)
        photo = painted_over(photo, scene == 128, guided)  # its rim, where resampling mixes or overshoots, is not it
    if rng.random() < corruption.target_blurred:
        photo = blur(photo, corruption, rng)
    shown, reference_intrinsics = picture(reference.rgb, reference.intrinsics, size)
    return Pair(photo, drawing.rgb, drawing.coverage, shown, guided, view.T_world_camera, reference.T_world_camera,
                intrinsics, reference_intrinsics, seed)


def picture(rgb: np.ndarray, intrinsics: Intrinsics, size: tuple[int, int]) -> tuple[np.ndarray, Intrinsics]:
    """The centred part of a photograph that has the size's aspect, at that size (height, width), and its camera."""
    height, width = size
    rgb, intrinsics = crop_to_aspect(rgb, intrinsics, width, height)
    return resize(rgb, width, height), intrinsics.resized(width, height)


def painted_over(photo: np.ndarray, scene: np.ndarray, guided: np.ndarray) -> np.ndarray:
    """The photograph (H, W, 3) with other colours outside of `scene` (H, W) bool: those of the drawing's surface, and
    where there is none the nearest colour that is known. The photograph itself if nothing is.

    The warped reference is not asked: of a thing that moves with the camera it shows that thing in the same place.
    """
    drawn = guided[..., 6] > 0
    known = scene | drawn
    if scene.all() or not known.any():
        return photo
    return np.where(scene[..., None], photo, guided[..., :3])[nearest_drawn(known)]


def remember(clip: Clip, target: int, intrinsics: Intrinsics, corruption: Corruption,
             rng: np.random.Generator) -> tuple[Keyframe, AnchorView]:
    """The reference and the drawing at the target, from the reference group as a robot would have it."""
    T_world_target = clip.frames[target].T_world_camera
    amounts, density = Amounts.draw(corruption, rng), Density.draw(corruption, rng)
    shown = int(rng.choice(REFERENCE_GROUP)) if rng.random() < corruption.far_reference else clip.closest(target)
    reference, group = None, []
    for position in REFERENCE_GROUP:
        frame = clip.frames[position]
        if position == shown:  # as large as it is, the others only as far as the cloud needs them
            reference = corrupt_frame(frame, corruption, amounts, rng)
            frame = thinned(reference, density.stride, rng)
        else:
            frame = corrupt_frame(thinned(frame, density.stride, rng), corruption, amounts, rng)
        if rng.random() >= corruption.missing_frame:
            group.append(frame)
    return Keyframe.of(reference), _draw(group, density, T_world_target, intrinsics, corruption, rng)


def _draw(group: list[RgbdFrame], density: Density, T_world_target: Pose, intrinsics: Intrinsics,
          corruption: Corruption, rng: np.random.Generator) -> AnchorView:
    if not group or rng.random() < corruption.masked:
        return AnchorView.empty(intrinsics)
    anchors = cloud(group, density.fraction, T_world_target.translation, corruption, rng)
    drawing = render([anchors], T_world_target, intrinsics, threads=1)
    return with_holes(drawing, corruption, rng)


def with_holes(drawing: AnchorView, corruption: Corruption, rng: np.random.Generator) -> AnchorView:
    """The drawing without what lies in some ellipses: places that nobody ever saw."""
    kept = drawing.coverage.astype(np.uint8)
    extent = np.array(kept.shape[::-1])
    for _ in range(rng.integers(0, corruption.holes + 1)):
        center, axes = rng.random(2) * extent, rng.random(2) * extent * corruption.hole
        cv2.ellipse(kept, (tuple(center), tuple(axes), rng.uniform(0, 180)), 0, cv2.FILLED)
    kept = kept > 0
    return AnchorView(drawing.rgb * kept[..., None], drawing.depth * kept, drawing.labels * kept, kept)
