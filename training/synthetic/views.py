"""Views of procedural scenes from anywhere: for what learns from single pictures. A film shows one place 16 times.

A scene's light is worked out coarsely, which costs less than its walls: so there are many scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.synthetic.clips import ClipSettings, developed, scene_seed, studio
from training.synthetic.trajectories import look
from worldfm_ros.clips import LENGTH, Clip, RgbdFrame
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.scenes.families import check_families

COARSE = 0.6  # metres between a lightmap's vertices


def rough(width: int, height: int) -> ClipSettings:
    """Pictures of that size in little time: a view is made smaller before anything learns from it."""
    return ClipSettings(width=width, height=height, samples=1, texel=COARSE)


@dataclass(frozen=True)
class SyntheticViews(Sequence[Clip]):
    """`count` albums, each a function of its index: as a clip is stored, but its 16 pictures are no film. They are
    `per_scene` views from all over each of the next scenes of the families in turn; each view has a lens and an
    exposure of its own.

    Different seeds give different scenes. Raises ValueError for settings that make no sense.
    """

    families: tuple[str, ...]
    seed: int
    count: int
    settings: ClipSettings = rough(160, 128)
    per_scene: int = 4

    def __post_init__(self) -> None:
        check_families(*self.families)
        if self.count < 1 or self.per_scene < 1 or LENGTH % self.per_scene:
            raise ValueError(f"there is 1 album or more, and {LENGTH} pictures are so many of each scene, got count "
                             f"{self.count}, {self.per_scene} views a scene")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        """The album at an index. Raises IndexError outside the sequence."""
        if not -self.count <= index < self.count:
            raise IndexError(f"album {index} of {self.count}")
        index %= self.count
        scenes = LENGTH // self.per_scene
        frames = []
        for scene in range(index * scenes, (index + 1) * scenes):
            frames += self._views(scene, len(frames))
        return Clip(f"views-{self.seed}-{index}", tuple(frames))

    def _views(self, scene: int, first: int) -> list[RgbdFrame]:
        seed = scene_seed(self.seed, scene)
        stage = studio(self.families[scene % len(self.families)], seed, self.settings.texel)
        rng, frames = np.random.default_rng([seed, LENGTH]), []
        for index in range(first, first + self.per_scene):
            pose = look(stage.space, rng)
            intrinsics = Intrinsics.from_hfov(self.settings.width, self.settings.height,
                                              rng.uniform(*self.settings.hfov))
            image = stage.caster.render(pose, intrinsics, self.settings.samples)
            frames.append(RgbdFrame(index, developed(image.rgb, self.settings, rng), image.depth, intrinsics, pose))
        return frames
