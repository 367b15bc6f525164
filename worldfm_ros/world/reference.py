"""Which keyframes lend their appearance: those that show what a camera sees, from nearly where it sees it.

The drawn surface is sampled. A keyframe whose depth confirms a sample is worth the more there, the smaller the angle is
between its ray and the camera's: what is wrong about poses and depth shifts its pixels by that much. The first is worth
most in all; each next one adds most to the best that is there already, and where nobody adds much, it is the one of
those left that is worth most (greedy facility location). So the second shows what is hidden from the first.

Painted keyframes come while one drives, and what is seen already shall not look otherwise for it: they count where no
photograph shows a sample, the same from anywhere, and are chosen for what they add alone.

The choice follows the pose and the map alone: the same pose always has the same references. From one frame of a drive
to the next few of them change, mostly those at the largest angles, which count least in the blend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import FRONT, Keyframe
from worldfm_ros.world.selection import SelectionSettings, confirms

SAMPLES = 14  # rows and columns of samples over the picture
SETTINGS = SelectionSettings(relative_tolerance=0.05)  # measured depth is less exact than the released panoramas'
REFERENCES = 3  # chosen for a view
CANDIDATES = 12  # of the nearest photographs that show anything, whose worth is compared, and as many painted ones:
# depth is read of these alone
NEARBY = 0.03  # radians between the rays to a sample; below, it makes no difference
NEW = 0.1  # of what the chosen are worth; who adds less than this adds nothing


class ReferenceChooser:
    """Chooses among keyframes, of which there may be more from one call to the next."""

    def __init__(self, keyframes: Sequence[Keyframe]) -> None:
        self._keyframes, self._cameras = keyframes, _Cameras.of(())
        self._state: tuple[int, Keyframe | None] = (0, None)

    def choose(self, depth: np.ndarray, T_world_camera: Pose, intrinsics: Intrinsics,
               count: int = REFERENCES) -> tuple[Keyframe, ...]:
        """At most `count` references for a camera that sees depth (H, W), metres along z, 0 = none; the best first.
        None when no keyframe shows anything that it sees.

        Raises ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError(f"the number of references is 1 or more, got {count}")
        points = sampled(depth, T_world_camera, intrinsics)
        if not len(points):
            return ()
        state = len(self._keyframes), self._keyframes[-1] if len(self._keyframes) else None
        if state[0] != self._state[0] or state[1] is not self._state[1]:  # a full map drops one for each that comes
            self._cameras, self._state = _Cameras.of(tuple(self._keyframes)), state
        keyframes, worth = self._candidates(points, T_world_camera.translation, max(count, CANDIDATES))
        photograph = np.array([not keyframe.painted for keyframe in keyframes], bool)
        worth[~photograph] = (worth[~photograph] > 0) & ~(worth[photograph] > 0).any(0)
        return tuple(keyframes[k] for k in complementary(worth, photograph, count))

    def _candidates(self, points: np.ndarray, eye: np.ndarray, most: int) -> tuple[list[Keyframe], np.ndarray]:
        """Keyframes that show something, at most so many photographs and so many painted ones, and what they are worth
        at each point (C, N)."""
        nearness = self._cameras.nearness(points, eye)
        total, keyframes, worth = nearness.sum(1), [], [np.zeros((0, len(points)))]
        left = {False: most, True: most}
        for k in np.argsort(-total, kind="stable"):
            painted = self._keyframes[k].painted
            if total[k] <= 0 or not any(left.values()):
                break
            if left[painted] and (confirmed := confirms([self._keyframes[k]], points, eye, SETTINGS)).any():
                left[painted] -= 1
                keyframes.append(self._keyframes[k])
                worth.append(confirmed * nearness[k])
        return keyframes, np.concatenate(worth)


@dataclass(frozen=True, eq=False)
class _Cameras:
    """Of V keyframes: eye (V, 3), rotation (V, 3, 3) world to camera, focal, center and size (V, 2)."""

    eye: np.ndarray
    rotation: np.ndarray
    focal: np.ndarray
    center: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, keyframes: Sequence[Keyframe]) -> _Cameras:
        lenses = [keyframe.intrinsics for keyframe in keyframes]
        poses = [keyframe.T_world_camera for keyframe in keyframes]
        pairs = ([(c.fx, c.fy) for c in lenses], [(c.cx, c.cy) for c in lenses], [(c.width, c.height) for c in lenses])
        return cls(np.array([pose.translation for pose in poses]).reshape(-1, 3),
                   np.array([pose.rotation.as_matrix().T for pose in poses]).reshape(-1, 3, 3),
                   *(np.array(values, float).reshape(-1, 2) for values in pairs))

    def nearness(self, points: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """(V, N): by the angle between the rays to points (N, 3) from here and from `eye`, 1 where there is none, half
        at NEARBY; 0 of points that are not in the picture. What is in between is not looked at."""
        rays, ours = points - self.eye[:, None], points - eye
        seen = rays @ self.rotation.swapaxes(1, 2)
        front = seen[..., 2] > FRONT
        pixels = (self.focal[:, None] * seen[..., :2] / np.where(front, seen[..., 2], 1)[..., None]
                  + self.center[:, None])
        inside = front & ((pixels >= -0.5) & (pixels < self.size[:, None] - 0.5)).all(-1)
        lengths = np.linalg.norm(rays, axis=-1) * np.linalg.norm(ours, axis=-1)
        cosine = (rays * ours).sum(-1) / np.maximum(lengths, FRONT**2)
        chord = np.sqrt(np.maximum(2 - 2 * cosine, 0))  # of unit rays: the angle, as long as it is small
        return np.where(inside, NEARBY / (NEARBY + chord), 0)


def sampled(depth: np.ndarray, T_world_camera: Pose, intrinsics: Intrinsics) -> np.ndarray:
    """(N, 3): the world points of a depth image (H, W), 0 = none, at the middles of SAMPLES x SAMPLES parts of it."""
    rows, columns = (np.unique((np.arange(SAMPLES) + 0.5) * side / SAMPLES).astype(int) for side in depth.shape)
    z = depth[np.ix_(rows, columns)]
    x = (columns - intrinsics.cx) / intrinsics.fx * z
    y = (rows[:, None] - intrinsics.cy) / intrinsics.fy * z
    return T_world_camera.apply(np.stack([x, y, z], axis=-1)[z > 0].astype(np.float64))


def complementary(worth: np.ndarray, photograph: np.ndarray, count: int) -> list[int]:
    """The numbers of at most `count` of C candidates, best first, given their worth (C, N) at each sample. Who is no
    photograph (C,) bool must add something."""
    chosen: list[int] = []
    best, total = np.zeros(worth.shape[1]), worth.sum(1) * photograph
    for _ in range(min(count, len(worth))):
        added = np.maximum(worth - best, 0).sum(1)
        value = added if added.max() > NEW * best.sum() else total.copy()
        value[chosen] = 0
        if not value.any():
            break
        chosen.append(int(np.argmax(value)))
        best = np.maximum(best, worth[chosen[-1]])
    return chosen
