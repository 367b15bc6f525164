"""A model folder: everything that a frame model needs, safetensors only.

    model.json        how to sample: steps, prediction type, the sizes that the model was made for; where it comes from
    transformer/      FrameTransformer: config.json, diffusion_pytorch_model.safetensors
    vae/              AutoencoderKL or AutoencoderTiny, likewise
    composer/         Composer, likewise, in models that have one: it takes the latents, and the decoder is not used
    README.md         the card, for people
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
import inspect
import json
import math
import os
from pathlib import Path
import shutil
import tempfile

from diffusers import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from worldfm_ros.frame_model.autoencoder import AUTOENCODERS, LatentCodec, ready
from worldfm_ros.frame_model.card import write_card
from worldfm_ros.frame_model.composer import Composer
from worldfm_ros.frame_model.noise import FreshNoise, SeededNoise, WorldNoise
from worldfm_ros.frame_model.sampling import LAST_TIMESTEP, check_prediction_type
from worldfm_ros.frame_model.transformer import FrameTransformer
from worldfm_ros.share import COMPOSER, MODEL_MANIFEST

FORMAT_VERSION = 2  # 1: without a composer
TRANSFORMER, AUTOENCODER, CARD = "transformer", "vae", "README.md"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
WORK_BYTES = 4096  # a pixel: an estimate of what decoding at full resolution keeps at a time
NOISES = {"seeded": SeededNoise, "world": WorldNoise, "fresh": FreshNoise}


class ModelError(ValueError):
    """A model folder or checkpoint that cannot be used, with the file or field and what to do."""


@dataclass(frozen=True)
class ModelSettings:
    """How a model is sampled and where it comes from: the content of model.json. Raises ModelError naming the field.

    steps: network calls a frame: 1, 2 (t = 999, then t_mid), or more (DPM-Solver++). sizes: (height, width) pixels that
    the model was made for. noise: `seeded` (sticks to the screen), `world` (sticks to surfaces) or `fresh`
    (another in every frame, as in the released code).
    """

    name: str
    sizes: tuple[tuple[int, int], ...]
    steps: int = 2
    t_mid: int = 200
    prediction_type: str = "v_prediction"
    noise: str = "seeded"
    source: str = ""
    sha256: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.sizes, list | tuple) or not self.sizes or not all(map(_is_size, self.sizes)):
            raise ModelError(f"sizes is a list of [height, width] in pixels, got {self.sizes!r}")
        object.__setattr__(self, "sizes", tuple((height, width) for height, width in self.sizes))
        if type(self.steps) is not int or self.steps < 1:
            raise ModelError(f"steps is a whole number from 1 up, got {self.steps!r}")
        if type(self.t_mid) is not int or not 0 <= self.t_mid < LAST_TIMESTEP:
            raise ModelError(f"t_mid is a whole number in 0..{LAST_TIMESTEP - 1}, got {self.t_mid!r}")
        check_prediction_type(self.prediction_type)
        if self.noise not in NOISES:
            raise ModelError(f"noise is one of {', '.join(NOISES)}, got {self.noise!r}")


def _is_size(size: object) -> bool:
    return isinstance(size, list | tuple) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


@dataclass(eq=False)
class LoadedModel:
    """A model folder in memory, on one device."""

    settings: ModelSettings
    transformer: FrameTransformer
    codec: LatentCodec
    composer: Composer | None = None

    @property
    def device(self) -> torch.device:
        return self.transformer.device


def save_model_folder(path: str | Path, settings: ModelSettings, transformer: FrameTransformer,
                      autoencoder: ModelMixin, composer: Composer | None = None) -> None:
    """Write a model folder in one go: it is there whole, or not at all. Raises FileExistsError when `path` exists."""
    path = Path(path).absolute()
    if path.exists():
        raise FileExistsError(f"{path} exists; remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        transformer.save_pretrained(temporary / TRANSFORMER)
        autoencoder.save_pretrained(temporary / AUTOENCODER)
        if composer is not None:
            composer.save_pretrained(temporary / COMPOSER)
        manifest = {"format_version": 1 if composer is None else 2, **asdict(settings)}
        (temporary / MODEL_MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        (temporary / CARD).write_text(write_card(asdict(settings), transformer, autoencoder, composer))
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # safetensors writes for its owner alone
                with open(file, "rb") as stream:
                    os.fsync(stream.fileno())
        temporary.chmod(0o755)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_model_folder(path: str | Path, device: torch.device | str = "cpu",
                      dtype: torch.dtype | None = None) -> LoadedModel:
    """Read a model folder onto `device`, ready to run in `dtype` (default: the stored one, but float32 on a CPU that is
    not made for that).

    Raises ModelError: a file is missing, cut short or newer; a tensor is missing, unknown, wrongly shaped or not
    finite; parts do not fit together; the device cannot run the dtype or has too little memory.
    """
    path, device = Path(path), torch.device(device)
    settings = read_settings(path)
    transformer = load_module(FrameTransformer, path / TRANSFORMER)
    autoencoder = load_autoencoder(path / AUTOENCODER)
    composer = load_module(Composer, path / COMPOSER) if (path / COMPOSER).exists() else None
    if dtype is None:
        native = device.type != "cpu" or transformer.dtype == fast_dtype(device)
        dtype = transformer.dtype if native else torch.float32
    check_dtype(device, dtype)
    check_memory(device, dtype, filter(None, (transformer, autoencoder, composer)), settings)
    model = LoadedModel(settings, ready(transformer, device, dtype), LatentCodec(autoencoder, device, dtype),
                        composer and ready(composer, device, dtype))
    _check_fit(path, model)
    return model


def read_settings(path: str | Path) -> ModelSettings:
    """The checked content of a model folder's model.json. Raises ModelError."""
    file = Path(path) / MODEL_MANIFEST
    if not file.exists():
        raise ModelError(f"{path} is no model folder: {file} is missing; `worldfm model import` or training makes one")
    entries = read_json(file)
    version = entries.pop("format_version", None)
    if type(version) is not int:
        raise ModelError(f"{file} has no format_version: cut short?")
    if version > FORMAT_VERSION:
        raise ModelError(f"{file} has format_version {version}, this worldfm_ros reads up to {FORMAT_VERSION}; "
                         "update worldfm_ros")
    try:
        return ModelSettings(**entries)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{file}: {error}") from None


def load_autoencoder(folder: str | Path) -> ModelMixin:
    """The autoencoder of a diffusers folder, in the stored dtype. Raises ModelError."""
    file = Path(folder) / CONFIG
    config = read_json(file)
    name = config.get("_class_name")
    if name not in AUTOENCODERS:
        raise ModelError(f"{file}: _class_name is one of {', '.join(AUTOENCODERS)}, got {name!r}")
    if "scaling_factor" not in config:  # diffusers would fill in that of another autoencoder
        raise ModelError(f"{file}: scaling_factor is missing; it is part of the autoencoder (SDXL's is 0.13025)")
    scale, shift = config["scaling_factor"], config.get("shift_factor")
    if not (_is_number(scale) and scale > 0):
        raise ModelError(f"{file}: scaling_factor is a number above 0, got {scale!r}")
    if shift is not None and not _is_number(shift):
        raise ModelError(f"{file}: shift_factor is a number, got {shift!r}")
    return load_module(AUTOENCODERS[name], folder)


def load_module(cls: type[ModelMixin], folder: str | Path) -> ModelMixin:
    """A diffusers module from config.json and safetensors, in the stored dtype, every tensor accounted for.

    `from_pretrained` reads the same files, but warns where this raises ModelError.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    if config.get("_class_name") != cls.__name__:
        raise ModelError(f"{folder / CONFIG}: _class_name is {cls.__name__}, got {config.get('_class_name')!r}")
    fields = inspect.signature(cls.__init__).parameters
    unknown = {name for name in config if name not in fields and not name.startswith("_")}
    if cls is FrameTransformer and unknown:  # diffusers' own classes write fields that they do not read
        raise ModelError(f"{folder / CONFIG}: unknown fields {', '.join(sorted(unknown))}; "
                         "was it written by a newer worldfm_ros?")
    try:
        with torch.device("meta"):  # names and shapes alone; the tensors are put in from the file
            module = cls(**{name: value for name, value in config.items() if name in fields})
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from None
    tensors = read_tensors(folder / WEIGHTS)
    check_tensors(folder / WEIGHTS, tensors, shapes(module))
    check_finite(folder / WEIGHTS, tensors)
    module.load_state_dict(tensors, strict=True, assign=True)
    assert not any(buffer.is_meta for buffer in module.buffers()), "a buffer that is not stored cannot be restored"
    return module.eval()


def read_json(file: Path) -> dict:
    """A JSON object. Raises ModelError."""
    try:
        content = json.loads(file.read_text())
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}; restore the file or name another folder") from None
    except ValueError as error:
        raise ModelError(f"{file} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{file} is damaged: a JSON object is expected, got {type(content).__name__}")
    return content


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped from it. Raises ModelError."""
    if not file.is_file():
        raise ModelError(f"{file} is missing; restore the file (only safetensors are read)")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ModelError(f"{file} is damaged or cut short ({file.stat().st_size} bytes): {error}") from None


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def check_tensors(file: str | Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelError that lists every missing, unknown and wrongly shaped tensor, if there is one."""
    problems = []
    if missing := sorted(expected.keys() - tensors.keys()):
        problems.append(f"missing: {', '.join(missing)}")
    if unknown := sorted(tensors.keys() - expected.keys()):
        problems.append(f"unknown: {', '.join(unknown)}")
    for name in sorted(expected.keys() & tensors.keys()):
        tensor, shape = tensors[name], tuple(expected[name])
        if tuple(tensor.shape) != shape:
            problems.append(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
        if not tensor.is_floating_point():
            problems.append(f"{name} holds {tensor.dtype}, expected floating point")
    if problems:
        raise ModelError(f"{file} does not fit the network: " + "; ".join(problems))


def check_finite(file: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ModelError naming the first tensor that holds infinities or NaN: no frame could be painted with it."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{file} is damaged: {name} holds numbers that are not finite; restore the file")


def check_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """Raise ModelError unless the device is there and can run the operations of a frame model in `dtype`."""
    try:
        x = torch.zeros(1, 8, 8, 8, device=device, dtype=dtype)
        x = F.group_norm(F.conv2d(x, x.expand(8, 8, 8, 8)), 2).flatten(2)
        F.scaled_dot_product_attention(F.layer_norm(x, x.shape[-1:]), x, x)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: a torch without CUDA
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{device} cannot run {dtype_name(dtype)}: {reason}; choose another dtype or device") from None


def fast_dtype(device: torch.device) -> torch.dtype | None:
    """The smaller dtype that makes the device faster; None when none does. From what it is, so always the same."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        can = torch.cpu.get_capabilities()
        return torch.bfloat16 if can.get("avx512_bf16") or can.get("amx_bf16") else None
    return None


def check_memory(device: torch.device, dtype: torch.dtype, modules: Iterable[nn.Module],
                 settings: ModelSettings) -> None:
    """Raise ModelError when a GPU's free memory will not hold the weights and the work on the largest size."""
    if device.type != "cuda":
        return
    weights = sum(parameter.numel() for module in modules for parameter in module.parameters()) * dtype.itemsize
    needed = weights + WORK_BYTES * max(height * width for height, width in settings.sizes)
    free, total = torch.cuda.mem_get_info(device)
    if needed > free:
        raise ModelError(f"{settings.name} in {dtype_name(dtype)} needs about {needed / 2**30:.1f} GiB on {device}, "
                         f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB are free; "
                         "use float16, the preset `fast` or a smaller model")


def _check_fit(path: Path, model: LoadedModel) -> None:
    """Raise ModelError when transformer, autoencoder and sizes do not belong together."""
    transformer, codec = model.transformer.settings, model.codec
    if transformer.latent_channels != codec.latent_channels:
        raise ModelError(f"{path}: the transformer's latent_channels are {transformer.latent_channels}, "
                         f"the autoencoder's {codec.latent_channels}; they belong to different models")
    if model.composer is not None and model.composer.config.latent_channels != codec.latent_channels:
        raise ModelError(f"{path}: the composer takes latents of {model.composer.config.latent_channels} channels, the "
                         f"autoencoder's have {codec.latent_channels}; they belong to different models")
    multiple = codec.downscale * transformer.patch_size
    for height, width in model.settings.sizes:
        if height % multiple or width % multiple:
            raise ModelError(f"{path / MODEL_MANIFEST}: sizes are multiples of {multiple}, got {height} x {width}")
