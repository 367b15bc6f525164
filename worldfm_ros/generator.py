"""A camera pose becomes a picture: draw the anchors, choose references, let a frame model paint (paper 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.objects.draw import populate
from worldfm_ros.objects.objects import NOTHING, Objects, Placed, load_objects
from worldfm_ros.painting.blend import Blend
from worldfm_ros.painting.painted import Painted
from worldfm_ros.threads import before_torch
from worldfm_ros.world.anchors import Anchors
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.reference import ReferenceChooser
from worldfm_ros.world.renderer import AnchorView, render
from worldfm_ros.world.storage import World


@dataclass(frozen=True, eq=False)
class Frame:
    """What the camera sees from one pose.

    rgb (H, W, 3) uint8; depth (H, W) float32, metres along z, 0 = none; labels (H, W) uint16, 0 = none;
    coverage (H, W) bool: the pixels that anchors or objects cover, where depth and labels are known;
    instances (H, W) uint16: the ids of the objects that move, 0 = the static world;
    reference_id: the keyframe that lent most of its appearance, None when no keyframe sees the view; reference_ids: all
    that the frame model was given, best first; confidence (H, W) uint8: 255 = seen by drawing or references, which
    agree, 0 = invented; None of a frame model that cannot tell.
    """

    rgb: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    coverage: np.ndarray
    instances: np.ndarray
    reference_id: int | None
    reference_ids: tuple[int, ...] = ()
    confidence: np.ndarray | None = None


class FrameModel(Protocol):
    """Paints a target camera's view: x_tgt from the anchor drawing, the references and their cameras (paper 2.2)."""

    def paint(
        self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose, intrinsics: Intrinsics
    ) -> np.ndarray:
        """(H, W, 3) uint8. The references are sorted, the best first; there may be none."""
        ...


@runtime_checkable
class ComposingModel(FrameModel, Protocol):
    """A FrameModel that tells how far its picture can be trusted."""

    def compose(
        self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose, intrinsics: Intrinsics
    ) -> Painted:
        """The picture that `paint` returns, and the confidence."""
        ...


@runtime_checkable
class PreparingModel(FrameModel, Protocol):
    """A FrameModel whose work is in two parts: what geometry alone can do, and a network's. Two frames' parts may be
    done at once, in two threads."""

    def prepare(
        self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose, intrinsics: Intrinsics
    ) -> Callable[[], Painted]:
        """The first part. What is returned does the second, and returns what `compose` does."""
        ...


@runtime_checkable
class DrawingModel(FrameModel, Protocol):
    """A FrameModel that has a renderer of its own, for where its network is."""

    def draw(self, tiles: Sequence[Anchors], T_world_camera: Pose, intrinsics: Intrinsics) -> AnchorView:
        """As world.renderer.render, and the same images."""
        ...


class FrameGenerator:
    """A world seen through a frame model. Frames are independent (docs/frame_model.md, The same bytes)."""

    def __init__(self, world: World, model: FrameModel, objects: Objects = NOTHING) -> None:
        """`objects` name the world's labels that they have; where they are is said for each frame."""
        self.world, self.objects = objects.named(world), objects
        self.model = model
        self._draw = model.draw if isinstance(model, DrawingModel) else render
        self._references = ReferenceChooser(world.keyframes)

    def generate(self, T_world_camera: Pose, intrinsics: Intrinsics, objects: Sequence[Placed] = ()) -> Frame:
        """The view of a camera at T_world_camera (optical axes), with what moves where it is then (`Objects.at`)."""
        return self.prepare(T_world_camera, intrinsics, objects)()

    def prepare(self, T_world_camera: Pose, intrinsics: Intrinsics,
                objects: Sequence[Placed] = ()) -> Callable[[], Frame]:
        """`generate` in two parts, of which two frames' may be done at once, in two threads: what is returned paints
        the frame."""
        # explicit memory: the anchors, drawn from the target pose
        tiles = self.world.anchors.visible(T_world_camera, intrinsics)
        anchors = self._draw(tiles, T_world_camera, intrinsics)
        # implicit memory: the keyframes that show what is seen from there, from nearby
        references = self._references.choose(anchors.depth, T_world_camera, intrinsics)
        drawing = populate(anchors, objects, T_world_camera, intrinsics)
        # the picture
        paint = prepared_with(self.model, drawing, references, T_world_camera, intrinsics)
        ids = tuple(reference.id for reference in references)

        def frame() -> Frame:
            painted = paint()
            return Frame(painted.rgb, drawing.depth, drawing.labels, drawing.coverage, drawing.instances,
                         ids[0] if ids else None, ids, painted.confidence)

        return frame


def prepared_with(model: FrameModel, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
                  intrinsics: Intrinsics) -> Callable[[], Painted]:
    """What paints with a model, and tells the confidence if it knows one. The model's first part is done, if it has
    two."""
    given = drawing, references, T_world_camera, intrinsics
    if isinstance(model, PreparingModel):
        return model.prepare(*given)
    if isinstance(model, ComposingModel):
        return partial(model.compose, *given)
    return lambda: Painted(model.paint(*given))


def load_model(name: str, seed: int = 0, preset: str = "exact") -> FrameModel:
    """The frame model of that name or folder; `anchors` is the one without a network.

    `seed` is the noise's; `preset` (exact, fast) says whether a network's picture may change for speed. Raises
    ValueError listing the models or presets that there are.
    """
    if name == "anchors" and preset == "exact":
        return Blend()
    threads = before_torch()
    import torch  # which takes seconds

    from worldfm_ros.painting.learned import find_preset, load_painter

    if threads is not None:
        torch.set_num_threads(threads)
    if name == "anchors":
        find_preset(preset)
        return Blend()
    return load_painter(name, seed, preset=preset)


def load_generator(world: World, model: str = "anchors", seed: int = 0, preset: str = "exact",
                   objects: str = "") -> FrameGenerator:
    """A generator over `world` with that frame model, and the objects of a file (`load_objects`). Raises ValueError as
    they do."""
    return FrameGenerator(world, load_model(model, seed, preset), load_objects(objects, world))
