"""The frame transformer's options: one frozen, validated dataclass, the same fields that its config.json holds."""

from __future__ import annotations

from dataclasses import dataclass

CAMERA_ENCODINGS = ("none", "prope", "plucker", "parametric")
ATTENTION_PATTERNS = ("full", "cached")
LATENT_SCALE = 8  # image pixels per latent pixel
TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class FrameTransformerConfig:
    """What a FrameTransformer is made of. Raises ValueError that names the field, with what was expected and what came.

    camera_encoding: how camera poses reach the network (paper 2.4.1); `none` is what the released inference runs.
    attention: `full`, every token sees every token (released); `cached`, the reference sees itself, the anchor drawing
        itself and the reference, the target everything, so that the conditions' keys and values can be kept.
    base_size, interpolation: scale of the positional table (released rule: image_size / 16 and image_size / 512).
    predicts_variance: twice the output channels; the second half is a log-variance that sampling does not use.
    condition_timestep: `cached` modulates the anchor's and the reference's tokens at this timestep.
    """

    hidden_size: int
    depth: int
    heads: int
    patch_size: int = 2
    latent_channels: int = 4
    mlp_ratio: float = 4.0
    camera_encoding: str = "prope"
    attention: str = "cached"
    base_size: int = 16
    interpolation: float = 1.0
    predicts_variance: bool = False
    condition_timestep: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "depth", "heads", "patch_size", "latent_channels", "base_size"):
            value = getattr(self, name)
            _check(type(value) is int and value >= 1, self, name, "a whole number from 1 up")
        for name in ("mlp_ratio", "interpolation"):
            value = getattr(self, name)
            _check(type(value) in (int, float) and 0 < value < float("inf"), self, name, "a positive number")
        _check(self.hidden_size % 4 == 0, self, "hidden_size", "a multiple of 4 (sine and cosine of x and y)")
        _check(self.hidden_size % self.heads == 0, self, "hidden_size", f"a multiple of heads = {self.heads}")
        for name, known in (("camera_encoding", CAMERA_ENCODINGS), ("attention", ATTENTION_PATTERNS)):
            _check(getattr(self, name) in known, self, name, f"one of {', '.join(known)}")
        _check(self.camera_encoding != "prope" or self.head_dim % 8 == 0, self, "hidden_size",
               f"heads = {self.heads} times a multiple of 8 with prope (here {self.head_dim} a head)")
        _check(type(self.predicts_variance) is bool, self, "predicts_variance", "true or false")
        _check(type(self.condition_timestep) is int and 0 <= self.condition_timestep < TRAIN_TIMESTEPS,
               self, "condition_timestep", f"a whole number in 0..{TRAIN_TIMESTEPS - 1}")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads

    @property
    def mlp_size(self) -> int:
        return round(self.hidden_size * self.mlp_ratio)

    @property
    def out_channels(self) -> int:
        return self.latent_channels * (2 if self.predicts_variance else 1)


def _check(fine: bool, config: FrameTransformerConfig, name: str, expected: str) -> None:
    if not fine:
        raise ValueError(f"{name} is {expected}, got {getattr(config, name)!r}")
