"""Presets: what may be done to a model for speed. `exact` keeps the picture, `fast` may change it.

Whatever the preset, a frame computes only what it needs: keyframes stay encoded, the timesteps' modulation is kept, the
last block works for the target alone, the variance channels are not computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import logging
from pathlib import Path

import torch

from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import LoadedModel, ModelError, fast_dtype, load_autoencoder, load_model_folder
from worldfm_ros.frame_model.cuda_graphs import CudaGraphs, Eager, Runner
from worldfm_ros.frame_model.released import FINAL, drop_variance
from worldfm_ros.frame_model.transformer import FrameTransformer

TINY_AUTOENCODER = "vae_tiny"  # in a model folder: a small autoencoder of the same latents, e.g. TAESD's
DEVICES = ("cpu", "cuda", "mps", "xpu")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """What speed may cost. Each of these changes the picture; `worldfm bench generate` tells by how much.

    low_precision: bfloat16, where the device is faster with it.
    cached_attention: conditions do not see the target, also in a network that was trained with full attention.
    tiny_autoencoder: the model folder's vae_tiny/ in place of its vae/, when it has one.
    compiled: on a GPU, kernels fused by torch.compile, which takes a minute or two at the first frame.
    """

    name: str
    low_precision: bool = False
    cached_attention: bool = False
    tiny_autoencoder: bool = False
    compiled: bool = False


EXACT = Preset("exact")
FAST = Preset("fast", low_precision=True, cached_attention=True, tiny_autoencoder=True, compiled=True)
PRESETS = {preset.name: preset for preset in (EXACT, FAST)}


def find_preset(name: str | Preset) -> Preset:
    """The preset of that name. Raises ValueError listing the presets."""
    if isinstance(name, Preset):
        return name
    if name not in PRESETS:
        raise ValueError(f"preset is one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of that name; for None the GPU if there is one, else the CPU. Raises ValueError for no device name."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise ValueError(f"device is one of {', '.join(DEVICES)}, with a number as in cuda:1 if need be, got {name!r}")
    return device


def load_model(path: str | Path, preset: Preset, device: torch.device, dtype: torch.dtype | None = None) -> LoadedModel:
    """A model folder on a device, made ready for a preset; `dtype` beats the preset's. Raises ModelError."""
    if dtype is None and preset.low_precision:
        dtype = fast_dtype(device)
    model = load_model_folder(path, device, dtype)
    folder = Path(path) / TINY_AUTOENCODER
    if preset.tiny_autoencoder and folder.is_dir():
        tiny = LatentCodec(load_autoencoder(folder), device, model.transformer.dtype)
        codec = model.codec
        if (tiny.latent_channels, tiny.downscale) != (codec.latent_channels, codec.downscale):
            raise ModelError(f"{folder} has latents of {tiny.latent_channels} channels, 1/{tiny.downscale} as wide; "
                             f"the model's have {codec.latent_channels}, 1/{codec.downscale} as wide: "
                             "they belong to different models")
        model.codec = tiny
    if preset.cached_attention and model.transformer.settings.attention == "full":
        log.warning("%s was trained with full attention; the preset %s runs it with cached attention, which changes "
                    "its pictures: `worldfm bench generate --model %s` tells by how much",
                    model.settings.name, preset.name, path)
    return prepare(model, preset)


def prepare(model: LoadedModel, preset: Preset) -> LoadedModel:
    """The model with the network that the preset runs, sharing its weights; convolutions' memory is re-ordered."""
    changes = {"attention": "cached"} if preset.cached_attention else {}
    transformer = with_settings(model.transformer, predicts_variance=False, **changes)
    for module in filter(None, (model.codec.autoencoder, model.composer)):
        torch.nn.Module.to(module, memory_format=torch.channels_last)  # the same sums, in another order
    return replace(model, transformer=transformer)


def with_settings(transformer: FrameTransformer, **changes) -> FrameTransformer:
    """A network with other settings on the same weights, which are shared; variance channels can be left out."""
    settings = replace(transformer.settings, **changes)
    if settings == transformer.settings:
        return transformer
    state = transformer.state_dict()
    if transformer.settings.predicts_variance and not settings.predicts_variance:
        state |= {name: drop_variance(rows, settings) for name, rows in state.items() if name.startswith(FINAL)}
    with torch.device("meta"):
        other = FrameTransformer.build(settings)
    other.load_state_dict(state, assign=True)
    return other.eval().requires_grad_(False)


def runner(preset: Preset, device: torch.device) -> Runner:
    """What calls the network's functions: recorded graphs on a GPU, plainly elsewhere."""
    return CudaGraphs(device, preset.compiled) if device.type == "cuda" else Eager()
