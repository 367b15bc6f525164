"""Clips of procedural scenes, made on the fly: exact colour, depth, labels and poses from the CPU ray caster.

A scene's light is worked out once (seconds) and serves several clips; a clip then costs 16 pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
import math

import numpy as np

from training.synthetic.trajectories import Space, draw
from worldfm_ros.clips import Clip, RgbdFrame
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.scenes.families import check_families, make_scene
from worldfm_ros.scenes.raycaster import RayCaster

KEPT_SCENES = 2


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How clips are filmed; each clip draws its field of view, exposure and white balance from these ranges."""

    width: int = 320
    height: int = 256
    hfov: tuple[float, float] = (math.radians(50.0), math.radians(100.0))
    stops: float = 0.7  # exposure, up to so many stops darker or brighter
    tint: float = 0.2  # white balance, up to so many stops more or less red, and blue, than green
    samples: int = 2  # a pixel's colour is the mean of samples x samples rays
    texel: float = 0.15  # metres between a lightmap's vertices


@dataclass(frozen=True, eq=False)
class Studio:
    """A scene that is ready for filming: where a camera may be, and its light worked out."""

    space: Space
    caster: RayCaster


@lru_cache(maxsize=KEPT_SCENES)
def studio(family: str, seed: int, texel: float) -> Studio:
    """Scene `seed` of a family. The last few are kept. Raises ValueError for a family that does not exist."""
    scene = make_scene(family, seed)
    return Studio(Space.of(scene), RayCaster(scene, texel))


def synthetic_clip(family: str, seed: int, settings: ClipSettings | None = None, take: int = 0) -> Clip:
    """Clip number `take` of scene `seed` of a family: a function of its arguments.

    Raises ValueError for a family that does not exist.
    """
    settings = settings or ClipSettings()
    rng = np.random.default_rng([seed, take])
    stage = studio(family, seed, settings.texel)
    poses = draw(stage.space, rng)
    intrinsics = Intrinsics.from_hfov(settings.width, settings.height, rng.uniform(*settings.hfov))
    curves = _development(settings, rng)
    frames = []
    for index, pose in enumerate(poses):
        image = stage.caster.render(pose, intrinsics, settings.samples)
        frames.append(RgbdFrame(index, _through(curves, image.rgb), image.depth, intrinsics, pose, image.labels))
    return Clip(f"{family}-{seed}-{take}", tuple(frames))


def developed(rgb: np.ndarray, settings: ClipSettings, rng: np.random.Generator) -> np.ndarray:
    """A picture (H, W, 3) uint8 with an exposure and white balance of its own."""
    return _through(_development(settings, rng), rgb)


def _through(curves: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    return np.take_along_axis(curves, rgb.reshape(-1, 3).astype(np.intp), axis=0).reshape(rgb.shape)


def _development(settings: ClipSettings, rng: np.random.Generator) -> np.ndarray:
    """(256, 3) uint8: each channel's tone curve for a clip's exposure and white balance.

    Gain g maps linear light x to g x / (1 + (g - 1) x): black and white stay, so that no detail is clipped.
    """
    exposure = rng.uniform(-settings.stops, settings.stops)
    red, blue = rng.uniform(-settings.tint, settings.tint, 2)
    gain = 2.0 ** (exposure + np.array([red, 0.0, blue]))
    linear = (np.arange(256) / 255.0)[:, None] ** 2.2
    return np.rint(255.0 * (gain * linear / (1.0 + (gain - 1.0) * linear)) ** (1.0 / 2.2)).astype(np.uint8)


@dataclass(frozen=True)
class SyntheticClips(Sequence[Clip]):
    """`count` clips, each a function of its index: scenes of the families in turn, `clips_per_scene` clips each.

    Read them in order: an index of another scene than the last few works out that scene's light anew. Different seeds
    give different scenes. Raises ValueError for settings that make no sense.
    """

    families: tuple[str, ...]
    seed: int
    count: int
    settings: ClipSettings = ClipSettings()
    clips_per_scene: int = 8

    def __post_init__(self) -> None:
        check_families(*self.families)
        if self.count < 1 or self.clips_per_scene < 1:
            raise ValueError(f"count and clips_per_scene are at least 1, got {self.count} and {self.clips_per_scene}")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        """The clip at an index. Raises IndexError outside the sequence."""
        if not -self.count <= index < self.count:
            raise IndexError(f"clip {index} of {self.count}")
        scene, take = divmod(index % self.count, self.clips_per_scene)
        family = self.families[scene % len(self.families)]
        return synthetic_clip(family, scene_seed(self.seed, scene), self.settings, take)


def scene_seed(seed: int, number: int) -> int:
    """The seed of a source's scene of that number: other seeds, other scenes."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)
