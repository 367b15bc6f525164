"""What `worldfm bench generate` compares: one frame model run in several ways, wasteful to fast, and single tricks."""

from __future__ import annotations

from collections.abc import Callable
import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from diffusers import AutoencoderKL
import torch
from torch import Tensor, nn

from worldfm_ros.bench.models import BenchModel
from worldfm_ros.frame_model.autoencoder import LatentCodec, ready
from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.checkpoint import (
    LoadedModel,
    dtype_name,
)
from worldfm_ros.frame_model.cuda_graphs import Runner
from worldfm_ros.frame_model.imaging import resize
from worldfm_ros.frame_model.noise import DrawnSurface
from worldfm_ros.frame_model.patterns import ConditionTokens, FullAttention, Modulation, ViewEncoding
from worldfm_ros.frame_model.presets import EXACT, FAST, fast_dtype, prepare, runner, with_settings
from worldfm_ros.frame_model.sampling import alphas_cumprod, sample
from worldfm_ros.frame_model.transformer import FrameTransformer
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.learned import LearnedPainter, Photograph, nearest_size, photograph
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

# ---- painters that waste


class NaivePainter(LearnedPainter):
    """What the released inference does in every frame.

    The reference is encoded again, and both latents are samples of their posterior (unless `mode`); every step makes
    the schedule, the modulation and the cameras' matrices anew, embeds all three views, and computes all tokens and
    the variance up to the end. Left out is what our code has no counterpart for: the caption's MLP, permutations and
    copies in every block, the slower renderer.
    """

    mode = False

    def _sampled(self, drawing: AnchorView, reference: Keyframe | None, T_world_camera: Pose,
                 intrinsics: Intrinsics) -> tuple[Tensor, Photograph]:
        settings, codec = self.model.settings, self.model.codec
        height, width = nearest_size(settings.sizes, intrinsics)
        drawn = Photograph(resize(drawing.rgb, width, height), intrinsics.resized(width, height), T_world_camera)
        shown = drawn if reference is None else photograph(reference, intrinsics, width, height)
        cameras = self._cameras(drawn, drawn, shown)
        self.on_stage("prepare")
        reference_latent = self._encode(shown)
        self.on_stage("encode reference")
        anchor_latent = self._encode(drawn)
        self.on_stage("encode drawing")
        noise = self.noise.draw(2, codec.latent_channels, height // codec.downscale, width // codec.downscale,
                                DrawnSurface(drawing.depth, intrinsics, T_world_camera)).to(self.model.device)
        self.on_stage("noise")

        network = self.model.transformer
        forward = partial(all_tokens, network) if network.settings.attention == "full" else network

        def denoise(x: Tensor, t: float) -> Tensor:
            alphas_cumprod.cache_clear()
            prediction = forward(x, t, anchor_latent, reference_latent, cameras)
            self.on_stage("step")
            return prediction[:, :codec.latent_channels]

        latent = sample(denoise, noise[:1], noise[1:], settings.steps, settings.t_mid, settings.prediction_type)
        return latent, drawn

    def _encode(self, picture: Photograph) -> Tensor:
        codec, rgb = self.model.codec, self._on_device(picture)
        if self.mode or not isinstance(codec.autoencoder, AutoencoderKL):
            return codec.encode(rgb)
        latents = codec.autoencoder.encode(rgb.to(codec.dtype)).latent_dist.sample()
        return (latents.float() - codec.shift) * codec.scale


class NaiveModePainter(NaivePainter):
    """Without the random samples: the same picture as the preset `exact`'s, but for float rounding."""

    mode = True


def all_tokens(network: FrameTransformer, x: Tensor, t: float, anchor: Tensor, reference: Tensor,
               cameras: Cameras | None) -> Tensor:
    """The network with full attention, the target's tokens cut out at the very end."""
    views = network.encode_views(cameras, x.shape[-2:])
    tokens = torch.cat([network.embed(latent, i, views) for i, latent in enumerate((x, anchor, reference))], dim=1)
    modulation = network.modulation(t)
    patches = network.final(network.run_blocks(tokens, modulation, views.transforms), modulation.final)
    return network.unpatchify(patches[:, :views.features.shape[2]], views.grid)


class Forgetful(LearnedPainter):
    """Encodes the reference in every frame."""

    def _sampled(self, *given: Any) -> tuple[Tensor, Photograph]:
        self.references.clear()
        return super()._sampled(*given)


class Recomputing(LearnedPainter):
    """Makes the timesteps' modulation in every frame."""

    def _sampled(self, *given: Any) -> tuple[Tensor, Photograph]:
        self._modulations.clear()
        return super()._sampled(*given)


class Rescheduling(LearnedPainter):
    """Makes the noise schedule in every step."""

    def _modulation(self, t: float) -> Modulation:
        alphas_cumprod.cache_clear()
        return super()._modulation(t)


@dataclass(eq=False)
class EveryStep:
    """Computes the conditions again in every step."""

    run: Runner

    def __call__(self, function: Callable, *arguments: Any) -> Any:
        name = getattr(function, "__name__", "")  # a composer is a module, and has none
        if name == "encode_anchor":
            self._again = partial(self.run, function, *arguments)
        if name == "denoise":
            x, modulation, _, views = arguments
            arguments = (x, modulation, self._again(), views)
        return self.run(function, *arguments)

    def forget(self) -> None:
        self.run.forget()


class AllTokens(FullAttention):
    """Computes the last block for the conditions too."""

    def denoise(self, network: FrameTransformer, tokens: Tensor, modulation: Modulation, conditions: ConditionTokens,
                views: ViewEncoding) -> Tensor:
        everything = torch.cat([tokens, conditions.tokens], dim=1)
        return network.run_blocks(everything, modulation, views.transforms)[:, :tokens.shape[1]]


# ---- arms and tricks


@dataclass(frozen=True, eq=False)
class Trick:
    """A painter that differs from an arm in one thing: it lacks a trick, or, if that `changes` the picture, has it."""

    name: str
    arm: str
    painter: LearnedPainter
    changes: bool = False


def make_arms(bench: BenchModel, seed: int = 0) -> dict[str, LearnedPainter]:
    """The four arms. They share the transformer's weights where the dtype is the same."""
    device, trained = bench.model.device, bench.model
    exact = prepare(replace(trained, codec=copied(trained.codec)), EXACT)
    cached = replace(exact, transformer=with_settings(exact.transformer, attention="cached"))
    fast = prepare(in_dtype(replace(trained, codec=bench.tiny_codec or trained.codec), fast_dtype(device)), FAST)
    return always_asked({
        "naive": NaivePainter(trained, seed),
        "exact": LearnedPainter(exact, seed, runner(EXACT, device)),
        "cached": LearnedPainter(cached, seed, runner(EXACT, device)),
        "fast": LearnedPainter(fast, seed, runner(FAST, device)),
    })


def always_asked(painters: dict[str, LearnedPainter]) -> dict[str, LearnedPainter]:
    """The same, whose transformer runs in every frame: it is what is measured."""
    for painter in painters.values():
        painter.enough = 0.0
    return painters


def make_tricks(bench: BenchModel, arms: dict[str, LearnedPainter], seed: int = 0) -> list[Trick]:
    """Every trick of the presets: an arm without it, or, where the picture may change, `exact` with it."""
    device, trained = bench.model.device, bench.model
    exact, cached = arms["exact"].model, arms["cached"].model

    def plain(model: LoadedModel, painter: type[LearnedPainter] = LearnedPainter) -> LearnedPainter:
        return painter(model, seed, runner(EXACT, device))

    tricks = [
        Trick("reference encoded once a keyframe", "exact", plain(exact, Forgetful)),
        Trick("modulation of the timesteps kept", "exact", plain(exact, Recomputing)),
        Trick("noise schedule kept", "exact", plain(exact, Rescheduling)),
        Trick("autoencoder in channels_last", "exact", plain(replace(exact, codec=trained.codec))),
        Trick("conditions kept over the steps", "cached",
              LearnedPainter(cached, seed, EveryStep(runner(EXACT, device)))),
    ]
    if trained.transformer.settings.predicts_variance:
        tricks.append(Trick("no variance channels", "exact", plain(replace(exact, transformer=trained.transformer))))
    if trained.transformer.settings.attention == "full":
        wasteful = copy.copy(exact.transformer)
        wasteful.pattern = AllTokens()
        tricks.append(Trick("last block for the target alone", "exact", plain(replace(exact, transformer=wasteful))))
        tricks.append(Trick("cached attention", "exact", plain(cached), changes=True))
    if dtype := fast_dtype(device):
        tricks.append(Trick(dtype_name(dtype), "exact", plain(in_dtype(exact, dtype)), changes=True))
    if bench.tiny_codec:
        smaller = prepare(replace(exact, codec=bench.tiny_codec), EXACT)
        tricks.append(Trick("tiny autoencoder", "exact", plain(smaller), changes=True))
    if device.type == "cuda":
        tricks.append(Trick("CUDA graphs", "exact", LearnedPainter(exact, seed)))
        compiled = LearnedPainter(exact, seed, runner(replace(EXACT, compiled=True), device))
        tricks.append(Trick("torch.compile", "exact", compiled, changes=True))
    always_asked({trick.name: trick.painter for trick in tricks})
    if trained.composer is not None:
        tricks.append(Trick("transformer only for what is unknown", "exact", plain(exact), changes=True))
    return tricks


def copied(codec: LatentCodec) -> LatentCodec:
    """A codec on weights of its own."""
    return LatentCodec(copy.deepcopy(codec.autoencoder), codec.device, codec.dtype)


def in_dtype(model: LoadedModel, dtype: torch.dtype | None) -> LoadedModel:
    """The model on weights of its own in a dtype; None for its own."""
    dtype = dtype or model.transformer.dtype
    codec = LatentCodec(copy.deepcopy(model.codec.autoencoder), model.device, dtype)
    return replace(model, transformer=ready(copy.deepcopy(model.transformer), model.device, dtype), codec=codec,
                   composer=model.composer and ready(copy.deepcopy(model.composer), model.device, dtype))


def weights_bytes(model: LoadedModel) -> int:
    modules: tuple[nn.Module | None, ...] = (model.transformer, model.codec.autoencoder, model.composer)
    return sum(parameter.nbytes for module in filter(None, modules) for parameter in module.parameters())
