"""The frame model with a network: encode the anchor drawing and the reference, sample, decode (paper 2.2, figure 3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.checkpoint import NOISES, LoadedModel, dtype_name
from worldfm_ros.frame_model.composer import ENOUGH, Inputs
from worldfm_ros.frame_model.cuda_graphs import Eager, Runner
from worldfm_ros.frame_model.imaging import crop_to_aspect, resize, to_uint8, to_unit
from worldfm_ros.frame_model.noise import DrawnSurface
from worldfm_ros.frame_model.patterns import Conditions, ConditionTokens, Modulation, ViewEncoding
from worldfm_ros.frame_model.presets import EXACT, Preset, find_device, find_preset, load_model, runner
from worldfm_ros.frame_model.sampling import sample
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.composed import View, applied, inputs_of, unknown
from worldfm_ros.painting.guide import guide
from worldfm_ros.painting.painted import Painted
from worldfm_ros.painting.torch_renderer import TorchRenderer
from worldfm_ros.share import find_model
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView, render

REFERENCE_BYTES = 1 << 30  # of keyframes that stay encoded


class PaintError(RuntimeError):
    """A frame that could not be painted; the next one may well be."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture (H, W, 3) uint8, and its camera at a size that the model was made for, to which it is resampled when it
    is looked at."""

    rgb: np.ndarray
    intrinsics: Intrinsics
    T_world_camera: Pose


class LearnedPainter:
    """A FrameModel that runs a model folder. A frame depends on its arguments alone; docs/frame_model.md, "The same
    bytes", says what that promises.

    Whatever size is asked for, the model runs at the one of its own sizes whose aspect is nearest: drawing and K are
    stretched to it, and the reference is cropped to the asked aspect and stretched likewise. Its latents are decoded
    and the picture resampled; or a composer makes the picture, of the asked size: of what drawing and references show,
    and of the latents where at least `enough` of it is shown by neither. Where less is, no latents are sampled.
    Without a reference keyframe the drawing takes its place: it is true as far as it goes, while another picture (a
    black one, say) would be appearance to copy from.

    `on_stage` is called with the name of each stage of a frame that has ended.
    """

    def __init__(self, model: LoadedModel, seed: int = 0, run: Runner | None = None) -> None:
        self.model = model
        self.run = run or Eager()
        self.on_stage: Callable[[str], None] = lambda stage: None
        on_gpu = model.device.type == "cuda"
        self.draw = TorchRenderer(model.device).render if on_gpu else render  # the anchors, where the network is
        self.noise = NOISES[model.settings.noise](seed)
        self.references = EncodedReferences(REFERENCE_BYTES)
        self._modulations: dict[float, Modulation] = {}
        self.enough = ENOUGH

    def paint(self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
              intrinsics: Intrinsics) -> np.ndarray:
        """(H, W, 3) uint8. Raises as `compose` does."""
        return self.compose(drawing, references, T_world_camera, intrinsics).rgb

    def compose(self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
                intrinsics: Intrinsics) -> Painted:
        """The picture, and how far it can be trusted, if there is a composer. The transformer was made for one
        reference, and is given the first; a composer takes several.

        Raises PaintError when memory runs out or numbers overflow; the painter stays usable.
        """
        return self.prepare(drawing, references, T_world_camera, intrinsics)()

    def prepare(self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
                intrinsics: Intrinsics) -> Callable[[], Painted]:
        """`compose` in two parts: a composer's references are brought to the view now, and networks run when what is
        returned does."""
        reference = references[0] if references else None
        if self.model.composer is None:
            decoded = partial(self._decoded_view, drawing, reference, T_world_camera, intrinsics)
            return partial(self._ended, intrinsics, decoded)
        count = self.model.composer.config.references
        view = View.of(drawing, references[:count], T_world_camera, intrinsics)
        inputs = inputs_of(view.memory, count)
        self.on_stage("warp")
        asked = unknown(view.memory) >= self.enough
        sampled = partial(self._sampled, drawing, reference, T_world_camera, intrinsics) if asked else None
        return partial(self._ended, intrinsics, partial(self._composed, sampled, view, inputs))

    @torch.inference_mode()
    def _ended(self, intrinsics: Intrinsics, paint: Callable[[], Painted]) -> Painted:
        try:
            return paint()
        except torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0]
        # not in the except block, where the traceback still holds on to this frame's tensors
        self.references.clear()
        self.run.forget()
        torch.cuda.empty_cache()
        raise PaintError(f"no memory left for a {intrinsics.width}x{intrinsics.height} frame: {reason}; the frame is "
                         "dropped and kept references are freed; float16, the preset `fast` or a smaller model "
                         "needs less")

    def _decoded_view(self, drawing: AnchorView, reference: Keyframe | None, T_world_camera: Pose,
                      intrinsics: Intrinsics) -> Painted:
        latent, drawn = self._sampled(drawing, reference, T_world_camera, intrinsics)
        return Painted(self._decoded(latent, self._guide(drawing, reference, drawn, intrinsics), intrinsics))

    def _sampled(self, drawing: AnchorView, reference: Keyframe | None, T_world_camera: Pose,
                 intrinsics: Intrinsics) -> tuple[Tensor, Photograph]:
        """Latents (1, C, h, w) of the view, and the drawing that they are of."""
        codec, settings = self.model.codec, self.model.settings
        height, width = nearest_size(settings.sizes, intrinsics)
        drawn = Photograph(resize(drawing.rgb, width, height), intrinsics.resized(width, height), T_world_camera)
        shown = drawn if reference is None else photograph(reference, intrinsics, width, height)

        # what the network is told: cameras, the reference (kept), the drawing
        latent_hw = (height // codec.downscale, width // codec.downscale)
        views = self.model.transformer.encode_views(self._cameras(drawn, drawn, shown), latent_hw)
        self.on_stage("prepare")
        conditions = self._conditions(drawn, shown, reference, intrinsics, views)

        # noise to latent
        surface = DrawnSurface(drawing.depth, intrinsics, T_world_camera)
        noise = self.noise.draw(2, codec.latent_channels, *latent_hw, surface).to(self.model.device)
        self.on_stage("noise")
        latent = sample(lambda x, t: self._denoise(x, t, conditions, views), noise[:1], noise[1:],
                        settings.steps, settings.t_mid, settings.prediction_type)
        return latent, drawn

    def _decoded(self, latent: Tensor, known: Tensor | None, intrinsics: Intrinsics) -> np.ndarray:
        rgb = self.run(self.model.codec.decode, latent, known)
        self.on_stage("decode")
        return self._to_host(rgb, intrinsics)

    def _composed(self, sampled: Callable[[], tuple[Tensor, Photograph]] | None, view: View, inputs: Inputs) -> Painted:
        latent = sampled()[0] if sampled else None
        inputs = inputs.map(lambda x: x.to(self.model.device))
        decision = self.run(self.model.composer.decide_on, inputs, latent)
        if not torch.isfinite(decision.residual).all():
            raise PaintError(f"the picture holds numbers that are not finite: {self._overflow()}")
        self.on_stage("compose")
        painted = applied(decision.map(Tensor.cpu), view.pictures, view.shown)
        self.on_stage("apply")
        return painted

    def _conditions(self, drawn: Photograph, shown: Photograph, reference: Keyframe | None, intrinsics: Intrinsics,
                    views: ViewEncoding) -> Conditions:
        """What the drawing and the picture `shown` of a reference keyframe tell the network; the latter is kept."""
        transformer, codec = self.model.transformer, self.model.codec
        sizes = (*drawn.rgb.shape[:2], intrinsics.width, intrinsics.height)
        encoded = self.references.get(reference, sizes)
        if encoded is None:
            encoded = transformer.encode_reference(codec.encode(self._on_device(shown)), views)
            self.references.put(reference, sizes, encoded)
            self.on_stage("encode reference")
        conditions = self.run(transformer.encode_anchor, self.run(codec.encode, self._on_device(drawn)), encoded, views)
        self.on_stage("encode drawing")
        return conditions

    def _guide(self, drawing: AnchorView, reference: Keyframe | None, drawn: Photograph,
               intrinsics: Intrinsics) -> Tensor | None:
        """(1, 8, h, w) in [-1, 1]: what geometry alone knows of the target, for an autoencoder that wants to know."""
        if not self.model.codec.guided:
            return None
        known = guide(drawing, reference, drawn.T_world_camera, intrinsics)
        height, width = drawn.rgb.shape[:2]
        if known.shape[:2] != (height, width):
            halves = known[..., :4], known[..., 4:]  # OpenCV averages areas of 4 channels at most
            known = np.dstack([cv2.resize(half, (width, height), interpolation=cv2.INTER_AREA) for half in halves])
        self.on_stage("guide")
        return to_unit(known).to(self.model.device)

    def _denoise(self, x: Tensor, t: float, conditions: Conditions, views: ViewEncoding) -> Tensor:
        """The prediction for noisy latents (1, C, h, w); the variance, if there is one, is cut off."""
        prediction = self.run(self.model.transformer.denoise, x, self._modulation(t), conditions, views)
        self.on_stage("step")
        return prediction[:, :self.model.codec.latent_channels]

    def _to_host(self, rgb: Tensor, intrinsics: Intrinsics) -> np.ndarray:
        """(H, W, 3) uint8 at the asked size. Raises PaintError for a picture that is not finite."""
        if not torch.isfinite(rgb).all():
            raise PaintError(f"the picture holds numbers that are not finite: {self._overflow()}")
        picture = resize(to_uint8(rgb), intrinsics.width, intrinsics.height)
        self.on_stage("to host")
        return picture

    def _overflow(self) -> str:
        """What has probably happened in this dtype, and what to do."""
        dtype = self.model.transformer.dtype
        if dtype == torch.float32:
            return "the weights are damaged or were trained badly; restore the model's files or use another model"
        larger = "float32" if dtype == torch.bfloat16 else "bfloat16 or float32"  # bfloat16's range is float32's
        return f"{dtype_name(dtype)} overflowed; use {larger}"

    def _on_device(self, picture: Photograph) -> Tensor:  # (1, 3, H, W) in [-1, 1]
        camera = picture.intrinsics
        return to_unit(resize(picture.rgb, camera.width, camera.height)).to(self.model.device)

    def _cameras(self, *pictures: Photograph) -> Cameras | None:
        """Relative to the reference (the last), so that what was encoded of it holds in every frame."""
        if self.model.transformer.settings.camera_encoding == "none":
            return None
        return Cameras.from_poses([p.T_world_camera for p in pictures], [p.intrinsics for p in pictures]).recentred()

    def _modulation(self, t: float) -> Modulation:
        """What timestep t does to the network, computed once: a sampler uses few timesteps and always the same."""
        if t not in self._modulations:
            self._modulations[t] = self.model.transformer.modulation(t)
        return self._modulations[t]


class EncodedReferences:
    """Keyframes as the network sees them, each encoded once. The least recently used leave beyond `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[tuple, tuple[Keyframe, Conditions]] = OrderedDict()

    def get(self, keyframe: Keyframe | None, sizes: tuple[int, ...]) -> Conditions | None:
        """What was put for this very keyframe, brought to these sizes; None if nothing was, or no longer."""
        kept = None if keyframe is None else self._kept.get((keyframe.id, sizes))
        if kept is None or kept[0] is not keyframe:  # another map may use the same id
            return None
        self._kept.move_to_end((keyframe.id, sizes))
        return kept[1]

    def put(self, keyframe: Keyframe | None, sizes: tuple[int, ...], conditions: Conditions) -> None:
        if keyframe is None:
            return
        self._kept[keyframe.id, sizes] = (keyframe, conditions)
        while len(self._kept) > 1 and sum(bytes_of(conditions) for _, conditions in self._kept.values()) > self.limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        self._kept.clear()


def bytes_of(conditions: Conditions) -> int:
    tensors = [conditions.tokens] if isinstance(conditions, ConditionTokens) else conditions.keys_values
    return sum(tensor.nbytes for tensor in tensors)


def nearest_size(sizes: tuple[tuple[int, int], ...], intrinsics: Intrinsics) -> tuple[int, int]:
    """The (height, width) of `sizes` that has the camera's aspect most nearly, then its number of pixels."""
    def mismatch(size: tuple[int, int]) -> tuple[float, float]:
        height, width = size
        aspect = math.log(width / height) - math.log(intrinsics.width / intrinsics.height)
        area = math.log(width * height) - math.log(intrinsics.width * intrinsics.height)
        return round(abs(aspect), 6), abs(area)
    return min(sizes, key=mismatch)


def photograph(keyframe: Keyframe, camera: Intrinsics, width: int, height: int) -> Photograph:
    """The part of a keyframe that has the camera's aspect, at the model's size: stretched just as the drawing is."""
    rgb, intrinsics = crop_to_aspect(keyframe.rgb, keyframe.intrinsics, camera.width, camera.height)
    return Photograph(rgb, intrinsics.resized(width, height), keyframe.T_world_camera)


def load_painter(name: str | Path, seed: int = 0, device: str | None = None, dtype: torch.dtype | None = None,
                 preset: str | Preset = EXACT) -> LearnedPainter:
    """A painter over an installed model or a model folder, on the GPU if there is one. Raises ValueError."""
    preset, place = find_preset(preset), find_device(device)
    return LearnedPainter(load_model(find_model(name), preset, place, dtype), seed, runner(preset, place))
