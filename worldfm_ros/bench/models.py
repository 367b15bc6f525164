"""What `worldfm bench generate` measures: a model folder, or a network of some size with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers import AutoencoderKL, AutoencoderTiny, ModelMixin
import torch
from torch import Tensor, nn

from worldfm_ros.frame_model.autoencoder import LatentCodec, ready
from worldfm_ros.frame_model.checkpoint import (
    LoadedModel,
    ModelSettings,
    check_dtype,
    check_memory,
    load_autoencoder,
    load_model_folder,
)
from worldfm_ros.frame_model.config import LATENT_SCALE, FrameTransformerConfig
from worldfm_ros.frame_model.presets import TINY_AUTOENCODER
from worldfm_ros.frame_model.released import RELEASED_CONFIG
from worldfm_ros.frame_model.transformer import FrameTransformer
from worldfm_ros.share import find_model


@dataclass(frozen=True)
class ModelSize:
    """What a model of random weights is made of, and the pixels a side that it is meant for.

    The tiny autoencoder is the one that the preset `fast` may use.
    """

    side: int
    transformer: FrameTransformerConfig
    autoencoder: Callable[[], ModelMixin]
    tiny_autoencoder: Callable[[], ModelMixin] | None = None


def sdxl_autoencoder() -> AutoencoderKL:
    """As large as the released one (83.7 M parameters)."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2,
        block_out_channels=(128, 256, 512, 512), scaling_factor=0.13025, force_upcast=False,
    )


def small_autoencoder() -> AutoencoderTiny:
    return AutoencoderTiny(encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4)


SIZES = {
    "tiny": ModelSize(256, FrameTransformerConfig(hidden_size=256, depth=8, heads=4, attention="full",
                                                  predicts_variance=True), small_autoencoder),
    "xl": ModelSize(512, replace(RELEASED_CONFIG, predicts_variance=True), sdxl_autoencoder, AutoencoderTiny),
}


COMPOSED = (256, 256)  # pixels asked of a model with a composer, which makes pictures of any size


@dataclass(frozen=True, eq=False)
class BenchModel:
    """A model as it was trained, the small autoencoder that may replace its own, and the frame that is asked of it."""

    name: str
    model: LoadedModel
    tiny_codec: LatentCodec | None
    width: int
    height: int
    random: bool


@dataclass(frozen=True)
class Request:
    """What the user asked for; None: what the model is meant for."""

    width: int | None = None
    height: int | None = None
    steps: int | None = None


def find_size(name: str) -> ModelSize:
    if name not in SIZES:
        raise ValueError(f"size is one of {', '.join(SIZES)}, got {name!r}")
    return SIZES[name]


def random_model(name: str, size: ModelSize, request: Request, device: torch.device) -> BenchModel:
    """Random weights in float32 on a CPU, and in float16, as the released model runs, elsewhere. Raises ValueError."""
    width, height = request.width or size.side, request.height or size.side
    multiple = LATENT_SCALE * size.transformer.patch_size
    if width % multiple or height % multiple:
        raise ValueError(f"width and height are multiples of {multiple}, got {width} x {height}")
    steps = 2 if request.steps is None else request.steps
    settings = ModelSettings(f"{name} (random weights)", ((height, width),), steps)
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    check_dtype(device, dtype)
    torch.manual_seed(0)
    transformer = randomized(FrameTransformer.build(size.transformer))
    autoencoders = [build and balanced(build()) for build in (size.autoencoder, size.tiny_autoencoder)]
    check_memory(device, dtype, [transformer, autoencoders[0]], settings)
    codec, tiny = (part and LatentCodec(part, device, dtype) for part in autoencoders)
    return BenchModel(name, LoadedModel(settings, ready(transformer, device, dtype), codec), tiny, width, height, True)


def trained_model(name: str | Path, request: Request, device: torch.device) -> BenchModel:
    """A model folder. At other sizes than its own it runs at the nearest of them. Raises ValueError."""
    path = find_model(name)
    model = load_model_folder(path, device)
    model = replace(model, settings=replace(model.settings, steps=request.steps or model.settings.steps))
    folder = path / TINY_AUTOENCODER
    tiny = LatentCodec(load_autoencoder(folder), device, model.transformer.dtype) if folder.is_dir() else None
    height, width = model.settings.sizes[0] if model.composer is None else COMPOSED
    return BenchModel(model.settings.name, model, tiny, request.width or width, request.height or height, False)


@torch.no_grad()
def randomized(network: FrameTransformer) -> FrameTransformer:
    """Fresh weights are the zero function. Here nothing is zero, so that an error anywhere reaches the picture."""
    for parameter in network.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
        parameter.normal_(std=scale)
    return network


@torch.no_grad()
def balanced(autoencoder: ModelMixin) -> ModelMixin:
    """torch's initial weights, but for the last layers: latents of unit variance, pictures that span [-1, 1]."""
    noise = torch.rand(1, 3, 64, 64) * 2.0 - 1.0
    rescale(autoencoder.encoder, LatentCodec(autoencoder).encode(noise), 1.0)
    rescale(autoencoder.decoder, LatentCodec(autoencoder).decode(torch.randn(1, 4, 8, 8)), 0.5)
    return autoencoder


def rescale(coder: nn.Module, output: Tensor, deviation: float) -> None:
    """Make the last convolution's output that much stronger."""
    last = [module for module in coder.modules() if isinstance(module, nn.Conv2d)][-1]
    last.weight *= deviation / output.std()
