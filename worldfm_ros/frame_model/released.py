"""Other codes' tensor names -> ours: the authors' released checkpoints; diffusers' PixArt, where training starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
from pathlib import Path
import pickle
import re
import zipfile

from diffusers import PixArtTransformer2DModel
import torch
from torch import Tensor

from worldfm_ros.frame_model.checkpoint import (
    ModelError,
    ModelSettings,
    check_tensors,
    load_autoencoder,
    save_model_folder,
    shapes,
)
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.transformer import FrameTransformer

# The authors' XL/2 network as their inference runs it: no camera reaches it, and every token sees every token.
RELEASED_CONFIG = FrameTransformerConfig(
    hidden_size=1152, depth=28, heads=16, camera_encoding="none", attention="full", base_size=32, interpolation=1.0
)
FINAL = "final.linear."  # rows: (patch row, patch column, channel); prediction, then log-variance


@dataclass(frozen=True)
class Naming:
    """How another code names our tensors: our module (or table) -> theirs; several of theirs are joined along dim 0."""

    blocks: str
    outside: Mapping[str, tuple[str, ...]]
    in_block: Mapping[str, tuple[str, ...]]
    unused: re.Pattern  # tensors of theirs that our network has no use for

    def sources(self, name: str) -> tuple[str, ...]:
        """Their names of our tensor; none when they have no such thing."""
        block = re.match(r"blocks\.(\d+)\.(.+)", name)
        if block is None:
            return self._look_up(self.outside, name)
        return tuple(f"{self.blocks}.{block[1]}.{source}" for source in self._look_up(self.in_block, block[2]))

    @staticmethod
    def _look_up(table: Mapping[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
        module, _, leaf = name.rpartition(".")
        return table[name] if name in table else tuple(f"{source}.{leaf}" for source in table.get(module, ()))


AUTHORS = Naming(
    blocks="blocks",
    outside={
        "patch_embed": ("x_embedder.proj",),
        "time_embed.0": ("t_embedder.mlp.0",),
        "time_embed.2": ("t_embedder.mlp.2",),
        "time_modulation": ("t_block.1",),
        "camera_encoder.projector.0": ("plucker_proj.0",),
        "camera_encoder.projector.2": ("plucker_proj.2",),
        "final.scale_shift_table": ("final_layer.scale_shift_table",),
        "final.linear": ("final_layer.linear",),
    },
    in_block={
        "scale_shift_table": ("scale_shift_table",),
        "attention.qkv": ("attn.qkv",),
        "attention.proj": ("attn.proj",),
        "mlp.0": ("mlp.fc1",),
        "mlp.2": ("mlp.fc2",),
    },
    unused=re.compile(r"pos_embed|y_embedder\..+|blocks\.\d+\.cross_attn\..+|plucker_proj\..+"),
)

PIXART = Naming(
    blocks="transformer_blocks",
    outside={
        "patch_embed": ("pos_embed.proj",),
        "time_embed.0": ("adaln_single.emb.timestep_embedder.linear_1",),
        "time_embed.2": ("adaln_single.emb.timestep_embedder.linear_2",),
        "time_modulation": ("adaln_single.linear",),
        "final.scale_shift_table": ("scale_shift_table",),
        "final.linear": ("proj_out",),
    },
    in_block={
        "scale_shift_table": ("scale_shift_table",),
        "attention.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        "attention.proj": ("attn1.to_out.0",),
        "mlp.0": ("ff.net.0.proj",),
        "mlp.2": ("ff.net.2",),
    },
    unused=re.compile(r"caption_projection\..+|transformer_blocks\.\d+\.attn2\..+"
                      r"|adaln_single\.emb\.(resolution|aspect_ratio)_embedder\..+"),
)


def convert_state_dict(tensors: Mapping[str, Tensor], config: FrameTransformerConfig,
                       file: str | Path = "the released state dict") -> dict[str, Tensor]:
    """The authors' tensors under our names, in their dtype.

    What their inference never uses (positions, captions, cross-attention; the ray projector when config has no Plücker
    rays) may be there or not. The log-variance channels are cut off, exactly, unless config.predicts_variance.
    Raises ModelError that names every missing, unknown and wrongly shaped tensor.
    """
    return _convert(tensors, AUTHORS, config, file)


def from_pixart(pixart: PixArtTransformer2DModel, config: FrameTransformerConfig) -> FrameTransformer:
    """A frame transformer that starts from PixArt's image prior; only the camera encoder is new.

    Raises ModelError when config's sizes are not PixArt's.
    """
    model = FrameTransformer.build(config)
    model.load_state_dict(model.state_dict() | _convert(pixart.state_dict(), PIXART, config, "the PixArt transformer"))
    return model


def _convert(tensors: Mapping[str, Tensor], naming: Naming, config: FrameTransformerConfig,
             file: str | Path) -> dict[str, Tensor]:
    """Our tensors for which they have a source; `file` is for the error."""
    with torch.device("meta"):
        ours = shapes(FrameTransformer.build(config))
    sources = {name: found for name in ours if (found := naming.sources(name))}
    expected = {source: _source_shape(name, ours[name], len(found), config)
                for name, found in sources.items() for source in found}
    used = {name: tensor for name, tensor in tensors.items() if name in expected or not naming.unused.fullmatch(name)}
    check_tensors(file, used, expected)
    converted = {name: torch.cat([used[source] for source in found]) if len(found) > 1 else used[found[0]]
                 for name, found in sources.items()}
    if not config.predicts_variance:
        converted |= {name: drop_variance(rows, config) for name, rows in converted.items() if name.startswith(FINAL)}
    return converted


def _source_shape(name: str, shape: tuple[int, ...], parts: int, config: FrameTransformerConfig) -> tuple[int, ...]:
    """The shape of each of the `parts` tensors that our tensor comes from."""
    rows = config.patch_size**2 * 2 * config.latent_channels if name.startswith(FINAL) else shape[0]
    return (rows // parts, *shape[1:])


def drop_variance(rows: Tensor, config: FrameTransformerConfig) -> Tensor:  # (p p 2C, ...) -> (p p C, ...)
    """The rows of the final layer that make the prediction."""
    by_channel = rows.unflatten(0, (config.patch_size**2, 2, config.latent_channels))
    return by_channel[:, 0].flatten(0, 1).contiguous()


def import_released(pth: str | Path, vae: str | Path, out: str | Path, steps: int | None = None,
                    config: FrameTransformerConfig = RELEASED_CONFIG) -> ModelSettings:
    """Turn the authors' checkpoint and autoencoder folder into a model folder.

    steps: the network calls that the checkpoint was distilled for; by default its name tells (`worldfm_2-step.pth`).
    Raises ModelError for a file that is not such a checkpoint, FileExistsError when `out` exists.
    """
    pth, out = Path(pth), Path(out)
    steps = steps_in_name(pth) if steps is None else steps
    if out.exists():
        raise FileExistsError(f"{out} exists; remove it or choose another name")
    autoencoder = load_autoencoder(vae)
    converted = convert_state_dict(read_pth(pth), config, pth)
    with torch.device("meta"):
        model = FrameTransformer.build(config)
    model.load_state_dict(converted, strict=True, assign=True)
    side = 16 * config.base_size  # the released rule: base_size = image_size / 16
    settings = ModelSettings(
        name=out.name, sizes=((side, side),), steps=steps, source=pth.name, sha256=sha256(pth),
        license="that of the released weights; see where they came from",
    )
    save_model_folder(out, settings, model, autoencoder)
    return settings


def steps_in_name(pth: Path) -> int:
    found = re.search(r"(\d+)-step", pth.name)
    if found is None:
        raise ModelError(f"the name {pth.name} does not tell the number of steps, as worldfm_2-step.pth does; "
                         "give --steps")
    return int(found[1])


def read_pth(pth: str | Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint, under its key `state_dict` if it has one; nothing in the file is executed.

    Raises ModelError, FileNotFoundError.
    """
    try:
        # mapped: tensors that nobody uses are never read. Files from before torch 1.6 are no archives, they cannot be
        checkpoint = torch.load(pth, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(pth))
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{pth} is no checkpoint of tensors alone, or is cut short: {reason}") from None
    tensors = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(tensors, dict):
        raise ModelError(f"{pth} holds {type(checkpoint).__name__}, "
                         "expected a dict of tensors, or one under the key state_dict")
    foreign = [str(name) for name, value in tensors.items() if not isinstance(value, Tensor)]
    if foreign:
        raise ModelError(f"{pth}: these entries are not tensors: {', '.join(foreign)}")
    return tensors


def sha256(file: str | Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
