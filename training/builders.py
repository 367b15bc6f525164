"""What recipes are built from: runs of three sizes, data, and stages that start from what an earlier run left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
import hashlib
import math
from pathlib import Path

from diffusers import AutoencoderTiny
import torch

from training.batch import Batch
from training.data.depths import DepthSettings
from training.data.loader import PairSettings
from training.data.pairs import Corruption
from training.data.several import Several
from training.data.shards import ShardedClips
from training.run.loop import RunSettings
from training.stages.autoencoder import CALIBRATION_BATCHES, AutoencoderSettings, AutoencoderStage
from training.stages.compose import COMPOSER, ComposeSettings, ComposeStage
from training.stages.compose_finish import ComposeFinishStage
from training.stages.depth import DEPTH, DepthLosses, DepthStage
from training.stages.distill import DmdSettings, DmdStage
from training.stages.dmd2 import Dmd2Settings, Dmd2Stage
from training.stages.finish import FinishSettings, FinishStage
from training.stages.midtrain import PROGRESSIVE, SETTLED, Injection, MidtrainSettings, MidtrainStage
from training.stages.pretrain import DenoisingSettings, PretrainStage, load_pixart, load_transformer
from training.stages.stage import Stage
from training.synthetic.clips import ClipSettings, SyntheticClips
from worldfm_ros.clips import Clip
from worldfm_ros.depth.network import DepthNetwork
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import (
    AUTOENCODER,
    TRANSFORMER,
    LoadedModel,
    load_autoencoder,
    load_model_folder,
    load_module,
)
from worldfm_ros.frame_model.composer import Composer
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder
from worldfm_ros.frame_model.released import RELEASED_CONFIG
from worldfm_ros.frame_model.transformer import FrameTransformer
from worldfm_ros.share import MODEL_MANIFEST

__all__ = ["PROGRESSIVE", "SETTLED", "AutoencoderSettings", "ComposeSettings", "DepthLosses", "Dmd2Settings",
           "DmdSettings", "FinishSettings", "RunSettings"]

Sizes = tuple[tuple[int, int], ...]  # (height, width) pixels
SMOKE_SIZES: Sizes = ((64, 64),)
TINY_SIZES: Sizes = ((256, 256), (240, 320), (192, 256))
COMPOSER_SIZES: Sizes = ((144, 192), (160, 160), (192, 256), (256, 256))  # at first; then, larger
LARGER_SIZES: Sizes = ((144, 192), (240, 320), (256, 256), (384, 480))
STUDENT_SIZES: Sizes = ((96, 128), (128, 128))  # of small views that a composer's student decides on
XL_SIZES: Sizes = ((512, 512),)
DEPTH_SIZES: Sizes = ((72, 96), (84, 84), (96, 72))
TINY_AUTOENCODER = AutoencoderSettings(crop=128, guide_dropout=0.2, latent_noise=0.6)
SHARDS = "data/tiny"  # where clips are looked for without --data
XL_CONFIG = replace(RELEASED_CONFIG, camera_encoding="prope")  # as the paper trains it (2.4.1)


@dataclass(frozen=True)
class Inputs:
    """What a run's stage is made from. start: the folder of weights to start from (None: from nothing); out: the run's
    own folder; steps: its length; first: so many of its first batches, whole whatever the number of processes."""

    start: Path | None
    out: Path
    steps: int
    first: Callable[[int], Iterable[Batch]]


StageMaker = Callable[[Inputs], Stage]
TransformerMaker = Callable[[Path, LatentCodec], FrameTransformer]  # from the folder to start from


# ---- runs


def smoke_run(learning_rate: float) -> RunSettings:
    return RunSettings(steps=6, learning_rate=learning_rate, warmup=2, ema=0.9, checkpoint_every=2, preview_every=3)


def tiny_run(steps: int, learning_rate: float | dict[str, float]) -> RunSettings:
    return RunSettings(steps=steps, learning_rate=learning_rate, final_rate=0.05, warmup=200, weight_decay=0.01,
                       precision="bf16", checkpoint_every=500, preview_every=500)


def xl_run(steps: int, learning_rate: float, accumulate: int = 1) -> RunSettings:
    return RunSettings(steps=steps, learning_rate=learning_rate, warmup=1000, weight_decay=0.03, ema=0.9999,
                       accumulate=accumulate, precision="bf16")


# ---- data


USUAL = Corruption.default()
# poses and exposure wander from frame to frame (Sensors): what is off by chance in each frame is little
SEVERAL = Several(references=3, corruption=replace(USUAL, position=0.001, rotation=math.radians(0.05), exposure=0.01,
                                                   white_balance=0.01))
ROUGH = Corruption(sensor=0.006, scale=0.02, warp=0.01, position=0.01, rotation=math.radians(0.6))  # up to twice as bad


def pairs(batch: int, sizes: Sizes, workers: int = 0, corruption: Corruption = USUAL,
          several: Several | None = None) -> PairSettings:
    return PairSettings(batch=batch, sizes=sizes, corruption=corruption, workers=workers, several=several)


def depths(batch: int, sizes: Sizes, workers: int = 0) -> DepthSettings:
    return DepthSettings(batch=batch, sizes=sizes, corruption=USUAL, workers=workers, targets_per_clip=2)


def shards(data: str | None) -> ShardedClips:
    """The films of tar shards, in a folder or at an address, or in several: their names with commas between them.
    Raises ValueError for shards of single views."""
    films = views(data)
    if not films.films:
        raise ValueError(f"{data or SHARDS} holds views of many scenes (--views-per-scene), and this recipe learns "
                         "from films: build shards without; the depth recipes take both")
    return films


def views(data: str | None) -> ShardedClips:
    """The clips of tar shards, or what is stored like them: for recipes that learn from single pictures."""
    return ShardedClips(SHARDS if data is None else data.split(","))


def named_shards(data: str | None) -> ShardedClips:
    """As above, of a recipe whose data is never here by itself. Raises ValueError when none is named."""
    if data is None:
        raise ValueError("this recipe has no clips of its own; name a folder of shards, or their address, with --data")
    return shards(data)


def procedural(data: str | None) -> ShardedClips | MadeClips:
    """Two small procedural clips, unless shards are named."""
    return _procedural() if data is None else shards(data)


class MadeClips(Sequence[Clip]):
    """Procedural clips, made once and kept."""

    def __init__(self, clips: SyntheticClips) -> None:
        self._clips = tuple(clips)
        self.fingerprint = repr(clips)  # what they are made from

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> Clip:
        return self._clips[number]


@lru_cache
def _procedural() -> MadeClips:
    settings = ClipSettings(width=64, height=64, samples=1, texel=0.6)
    return MadeClips(SyntheticClips(("rooms",), seed=0, count=2, settings=settings))


# ---- stages


def autoencoder_stage(settings: AutoencoderSettings, **network) -> StageMaker:
    """Of a new GuidedAutoencoder, whose fields `network` are."""
    return lambda inputs: AutoencoderStage(settings, GuidedAutoencoder(**network),
                                           inputs.first(CALIBRATION_BATCHES))


def peer_stage(settings: AutoencoderSettings, latent_channels: int, width: int) -> StageMaker:
    """Of a new AutoencoderTiny, `width` channels throughout, in diffusers' own arrangement of blocks."""
    widths = (width,) * 4
    return lambda inputs: AutoencoderStage(settings, AutoencoderTiny(
        latent_channels=latent_channels, encoder_block_out_channels=widths, decoder_block_out_channels=widths),
        inputs.first(CALIBRATION_BATCHES))


def compose_stage(settings: ComposeSettings, **network) -> StageMaker:
    """Of a new Composer, whose fields `network` are, or of the one that an earlier run left."""

    def stage(inputs: Inputs) -> ComposeStage:
        if inputs.start is not None:
            return ComposeStage(load_module(Composer, model_folder(inputs.start) / COMPOSER).float().train(), settings)
        return ComposeStage(Composer(**network), settings)

    return stage


def compose_finish_stage(settings: ComposeSettings, sizes: Sizes) -> StageMaker:
    """Of a student, start/model, and its composer, or else start/composer, which then learns to take its latents."""

    def stage(inputs: Inputs) -> ComposeFinishStage:
        student = trained_model(inputs.start)
        composer = student.composer or load_module(Composer, inputs.start / COMPOSER)
        composer = with_latents(composer.float(), student.codec.latent_channels)
        return ComposeFinishStage(student, composer, sizes, settings)

    return stage


def with_latents(composer: Composer, channels: int) -> Composer:
    """The same composer, which takes latents that do not matter yet."""
    if composer.config.latent_channels == channels:
        return composer
    fields = {name: value for name, value in composer.config.items() if not name.startswith("_")}
    other = Composer(**fields | {"latent_channels": channels})
    other.load_state_dict(other.state_dict() | composer.state_dict())
    return other


def depth_stage(settings: DepthLosses, **network) -> StageMaker:
    """Of a new DepthNetwork, whose fields `network` are, or of the one that an earlier run left."""

    def stage(inputs: Inputs) -> DepthStage:
        if inputs.start is not None:
            return DepthStage(load_module(DepthNetwork, inputs.start / DEPTH).float().train(), settings)
        return DepthStage(DepthNetwork(**network), settings)

    return stage


def pretrain_stage(name: str, sizes: Sizes, transformer: TransformerMaker) -> StageMaker:
    def stage(inputs: Inputs) -> PretrainStage:
        codec = frozen_codec(inputs.start)
        return PretrainStage(DenoisingSettings(name=name, sizes=sizes), transformer(inputs.start, codec), codec)

    return stage


def midtrain_stage(name: str, sizes: Sizes, injection: Injection, checkpointed: bool = False) -> StageMaker:
    """checkpointed: activations are computed again for the gradients, not kept."""

    def stage(inputs: Inputs) -> MidtrainStage:
        settings = MidtrainSettings(name=name, sizes=sizes, steps=inputs.steps, injection=injection)
        transformer = load_transformer(model_folder(inputs.start))
        if checkpointed:
            transformer.enable_gradient_checkpointing()
        return MidtrainStage(settings, transformer, frozen_codec(inputs.start))

    return stage


def dmd_stage(settings: DmdSettings, checkpointed: bool = False) -> StageMaker:
    """The teacher's pairs are kept in the run's folder."""
    return lambda inputs: DmdStage(trained_model(inputs.start, checkpointed), settings, inputs.out / "pairs")


def dmd2_stage(settings: Dmd2Settings, checkpointed: bool = False) -> StageMaker:
    return lambda inputs: Dmd2Stage(trained_model(inputs.start, checkpointed), settings)


def finish_stage(settings: FinishSettings) -> StageMaker:
    return lambda inputs: FinishStage(trained_model(inputs.start), settings)


# ---- networks to start from


def smoke_transformer(start: Path, codec: LatentCodec) -> FrameTransformer:
    return from_scratch(codec, hidden_size=48, depth=2, heads=2, base_size=4)


def tiny_transformer(start: Path, codec: LatentCodec) -> FrameTransformer:
    return from_scratch(codec, hidden_size=192, depth=8, heads=3)


def from_scratch(codec: LatentCodec, **fields) -> FrameTransformer:
    return FrameTransformer.build(FrameTransformerConfig(latent_channels=codec.latent_channels, **fields))


def pixart(start: Path, codec: LatentCodec) -> FrameTransformer:
    transformer = load_pixart(start / "transformer", XL_CONFIG)
    transformer.enable_gradient_checkpointing()
    return transformer


def model_folder(start: Path) -> Path:
    """A run's folder holds its model folder; or it is one itself."""
    return start / "model" if (start / "model").is_dir() else start


def fingerprint(start: Path) -> str:
    """Tells what a run starts from: a sha256 (hexadecimal) over the files of a folder's networks."""
    place, digest = model_folder(start), hashlib.sha256()
    folders = (place / TRANSFORMER, place / AUTOENCODER, start / COMPOSER, start / DEPTH)
    networks = (file for folder in folders for file in sorted(folder.rglob("*")))
    for file in filter(Path.is_file, (place / MODEL_MANIFEST, *networks)):
        digest.update(str(file.relative_to(start)).encode())
        with open(file, "rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()


def frozen_codec(start: Path) -> LatentCodec:
    return LatentCodec(load_autoencoder(model_folder(start) / "vae"))


def trained_model(start: Path, checkpointed: bool = False) -> LoadedModel:
    """A teacher, or a student to be finished, in float32."""
    model = load_model_folder(model_folder(start), dtype=torch.float32)
    if checkpointed:
        model.transformer.enable_gradient_checkpointing()
    return model
