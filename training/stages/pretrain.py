"""Stage I: the frame transformer as a model of single images (paper 2.3).

The target is denoised with nothing to look at: no drawing, an empty reference, and no motion between the two. At full
size it starts from PixArt-Sigma's weights, small networks from scratch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers import PixArtTransformer2DModel
import torch
from torch import Tensor, nn

from training.batch import Batch
from training.stages.losses import add_noise, denoising_loss, sample_timesteps
from training.stages.stage import Update
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.checkpoint import (
    CONFIG,
    TRANSFORMER,
    ModelError,
    ModelSettings,
    load_module,
    read_json,
    save_model_folder,
)
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.released import from_pixart
from worldfm_ros.frame_model.sampling import check_prediction_type, sample_multistep
from worldfm_ros.frame_model.transformer import FrameTransformer

MODEL = "model"  # in a stage's output folder: the model folder
FURTHER = "trained further from "


@dataclass(frozen=True, kw_only=True)
class DenoisingSettings:
    """What stages I and II have in common. Raises ValueError naming the field.

    name, sizes, sampling_steps: of the exported model folder; sizes are (height, width) pixels.
    timestep_bias: t = floor(1000 u^(1 / bias)); 1 is uniform, more favours high noise (paper 2.4.1).
    """

    name: str
    sizes: tuple[tuple[int, int], ...]
    prediction_type: str = "v_prediction"
    timestep_bias: float = 1.0
    sampling_steps: int = 20
    preview_steps: int = 8

    def __post_init__(self) -> None:
        check_prediction_type(self.prediction_type)
        sample_timesteps(torch.zeros(1), self.timestep_bias)  # refuses a wrong bias
        for name in ("sampling_steps", "preview_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is a whole number from 1 up, got {getattr(self, name)}")

    def model_settings(self) -> ModelSettings:
        return ModelSettings(self.name, self.sizes, steps=self.sampling_steps, prediction_type=self.prediction_type)


@dataclass(frozen=True, eq=False)
class LatentViews:
    """What the network is shown beside the noisy target: latents (B, C, h, w), and the cameras of all views.

    No anchor: two views. cameras: None for a network that uses none.
    """

    anchor: Tensor | None
    reference: Tensor
    cameras: Cameras | None

    def predict(self, network: nn.Module, x: Tensor, t: Tensor | float) -> Tensor:
        """The prediction (B, C, h, w) float32 at noisy latents x and timesteps (B,), or one for all; a predicted
        variance is cut off."""
        return network(x, t, self.anchor, self.reference, self.cameras)[:, :x.shape[1]].float()


class DenoisingStage(ABC):
    """A frame transformer that learns to denoise the latents of targets; what it is shown, subclasses say.

    Network "transformer", averaged; the codec is frozen, and encodes on the fly.
    """

    averaged = ("transformer",)

    def __init__(self, settings: DenoisingSettings, transformer: FrameTransformer, codec: LatentCodec) -> None:
        if transformer.settings.latent_channels != codec.latent_channels:
            raise ValueError(f"the transformer takes {transformer.settings.latent_channels} latent channels, the "
                             f"autoencoder has {codec.latent_channels}; choose a config that fits the autoencoder")
        self.settings, self.codec = settings, codec
        self.uses_cameras = transformer.settings.camera_encoding != "none"
        self.networks: dict[str, nn.Module] = {"transformer": transformer.train()}

    def to(self, device) -> None:
        self.codec.autoencoder.to(device)

    @abstractmethod
    def views(self, batch: Batch, step: int) -> LatentViews:
        """What the network is shown of a batch at a step of the run."""

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        settings = self.settings
        with torch.no_grad():
            x0, views = self.codec.encode(batch.target), self.views(batch, step)
        t = sample_timesteps(batch.rand("timestep"), settings.timestep_bias)
        noise = batch.randn("noise", *x0.shape[1:])
        prediction = views.predict(self.networks["transformer"], add_noise(x0, noise, t), t)
        loss, log = denoising_loss(prediction, x0, noise, t, settings.prediction_type)
        yield Update("transformer", loss, log)

    @torch.no_grad()
    def paint(self, network: nn.Module, batch: Batch, views: LatentViews, steps: int) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] that a network paints, always from the same noise."""
        noise = batch.randn("painting noise", *views.reference.shape[1:])
        latents = sample_multistep(lambda x, t: views.predict(network, x, t), noise, steps,
                                   self.settings.prediction_type)
        return self.codec.decode(latents, batch.guide if self.codec.guided else None).clamp(-1.0, 1.0)

    def export(self, networks: Mapping[str, nn.Module], folder: Path) -> None:
        """folder/model, a model folder. Raises FileExistsError when it is there already."""
        save_model_folder(folder / MODEL, self.settings.model_settings(), networks["transformer"],
                          self.codec.autoencoder)


class PretrainStage(DenoisingStage):
    """Stage I."""

    def views(self, batch: Batch, step: int) -> LatentViews:
        height, width = (side // self.codec.downscale for side in batch.target.shape[-2:])
        nothing = batch.target.new_zeros(len(batch), self.codec.latent_channels, height, width)
        return LatentViews(None, nothing, still_cameras(batch) if self.uses_cameras else None)

    @torch.no_grad()
    def preview(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        painted = self.paint(networks["transformer"], batch, self.views(batch, 0), self.settings.preview_steps)
        return {"painted": painted, "target": batch.target}


def still_cameras(batch: Batch) -> Cameras:
    """[target, reference] that both stand where the target does: with nothing to see, there is no motion."""
    cameras = batch.cameras
    return Cameras(cameras.w2c[:, [0, 0]], cameras.K[:, [0, 0]], cameras.image_hw).recentred()


# ---- what training starts from


def load_transformer(model_folder: str | Path) -> FrameTransformer:
    """The transformer of a model folder in float32, to be trained on. Raises ModelError."""
    return load_module(FrameTransformer, Path(model_folder) / TRANSFORMER).float()


def load_pixart(folder: str | Path, config: FrameTransformerConfig) -> FrameTransformer:
    """A frame transformer with the weights of a diffusers PixArt folder (its `transformer`), in float32.

    Raises ModelError when it is another network's folder, or config's sizes are not PixArt's.
    """
    config_file = Path(folder) / CONFIG
    if (found := read_json(config_file).get("_class_name")) != PixArtTransformer2DModel.__name__:
        raise ModelError(f"{config_file}: _class_name is PixArtTransformer2DModel, got {found!r}; "
                         "start from PixArt-Sigma's diffusers folder")
    pixart = PixArtTransformer2DModel.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    return from_pixart(pixart, config)


def trained_further(settings: ModelSettings, **changes) -> ModelSettings:
    """The settings of what is trained from a model with these. What is told of that model does not hold for it."""
    source = settings.source
    if not source.startswith(FURTHER):
        source = f"{FURTHER}{settings.name}" + (f", {source}" if source else "")
    return replace(settings, source=source, sha256="", **changes)
