"""What evaluation takes away from a map to see what a frame model makes of it: anchors, and exactness."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Pose
from worldfm_ros.world.anchors import AnchorMap


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How the map is made worse; the photographs that it is judged by, their poses and depth stay.

    thin: the share of the anchors that is kept.
    depth_noise: metres, standard deviation, Gaussian, of each depth pixel that the map is made of.
    pose_noise: standard deviation of the map's camera poses: metres along each axis, and as many radians about it.
    seed: of what is drawn here, and of the frame model's noise.
    """

    thin: float = 1.0
    depth_noise: float = 0.0
    pose_noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.thin <= 1.0:
            raise ValueError(f"thin is the share of the anchors that is kept, above 0 and at most 1, got {self.thin}")
        if not (0.0 <= self.depth_noise < np.inf and 0.0 <= self.pose_noise < np.inf):
            raise ValueError(f"noise is metres, 0 or more, got depth {self.depth_noise}, pose {self.pose_noise}")
        if self.seed < 0:
            raise ValueError(f"a seed is 0 or more, got {self.seed}")

    @property
    def of_frames(self) -> bool:
        """Whether it changes the frames that a map is made of."""
        return self.depth_noise > 0 or self.pose_noise > 0

    def frame(self, frame: RgbdFrame) -> RgbdFrame:
        """A frame as it goes into the map; the same frame gets the same noise."""
        if not self.of_frames:
            return frame
        rng = np.random.default_rng([self.seed, frame.index])
        shift, turn = rng.normal(0.0, self.pose_noise, (2, 3))
        noisy = frame.depth + rng.normal(0.0, self.depth_noise, frame.depth.shape).astype(np.float32)
        pose = frame.T_world_camera @ Pose(Rotation.from_rotvec(turn), shift)
        depth = np.where(frame.depth > 0, np.maximum(noisy, 0), np.float32(0))
        return replace(frame, depth=depth, T_world_camera=pose)

    def anchors(self, anchors: AnchorMap) -> AnchorMap:
        """The anchors that are left."""
        if self.thin == 1.0:
            return anchors
        rng = np.random.default_rng(self.seed)
        left = AnchorMap()
        for tile in anchors.tiles:
            left.insert_tile(tile.select(rng.random(len(tile)) < self.thin))
        return left
