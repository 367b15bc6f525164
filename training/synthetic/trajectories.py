"""How a camera moves through a scene during a clip: templates and stochastic motion, without touching anything.

A template proposes a motion from a place on the floor; `draw` takes the first proposal that the scene has room for.
Metres, radians, world axes; a motion is 16 frames of a hand-held or robot camera. A robot may be lower than a hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import math

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import LENGTH
from worldfm_ros.geometry import T_BODY_OPTICAL, Pose
from worldfm_ros.scenes.scene import Scene, solid_bounds
from worldfm_ros.scenes.viewpoints import free_floor

CLEARANCE = 0.22  # from a camera to all solids
VIEW_ROOM = 0.6  # this far in front of a camera nothing fills the middle of its view
MAX_STEP, MAX_TURN = 0.15, math.radians(8.0)  # between consecutive frames
MIN_STEP, MIN_TURN = 0.02, math.radians(1.0)  # one of the two, between consecutive frames
MAX_TRAVEL, MAX_TURNED = 2.0, math.radians(100.0)  # along a whole clip
MIN_TRAVEL, MIN_TURNED = 0.3, math.radians(15.0)  # one of the two
REACH = 3.0  # no motion and no view check leaves this distance from its place
HAND_HEIGHTS, ROBOT_HEIGHTS = (0.9, 1.7), (0.3, 1.5)
PROPOSALS, ROUNDS = 8, 200  # proposals of one template from one place; places that are tried
VIEW_RAYS = np.array([[0.0, 0.0, 1.0], *([x, y, 1.0] for x in (-0.4, 0.4) for y in (-0.3, 0.3))])
STEPS = LENGTH - 1


@dataclass(frozen=True, eq=False)
class Motion:
    """positions (16, 3) metres; angles (16, 3) radians: yaw (left), pitch (down) and roll of the camera's body axes."""

    positions: np.ndarray
    angles: np.ndarray

    def poses(self) -> list[Pose]:
        """T_world_camera, optical axes."""
        rotations = Rotation.from_euler("ZYX", self.angles) * T_BODY_OPTICAL.rotation
        return [Pose(rotation, position) for rotation, position in zip(rotations, self.positions, strict=True)]


Template = Callable[[np.ndarray, np.random.Generator], Motion]  # from a place (2,) on the floor


@dataclass(frozen=True, eq=False)
class Space:
    """A scene, the places (N, 2) on its floor where one may stand, and its solids' boxes (P, 2, 3)."""

    scene: Scene
    places: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, scene: Scene) -> Space:
        """Raises ValueError for a scene without free floor at z = 0."""
        return cls(scene, free_floor(scene), np.array([solid_bounds(solid) for solid in scene.primitives]))

    def around(self, place: np.ndarray) -> Scene:
        """The scene with only those solids that a motion from `place` could come near."""
        gap = np.maximum(self.boxes[:, 0, :2] - place, place - self.boxes[:, 1, :2]).max(axis=1)
        near = np.flatnonzero(gap < REACH + CLEARANCE)
        return replace(self.scene, primitives=[self.scene.primitives[k] for k in near])


def draw(space: Space, rng: np.random.Generator, templates: Sequence[Template] | None = None) -> list[Pose]:
    """T_world_camera of 16 frames by one of the templates (default: all of TEMPLATES), drawn by `rng`.

    Raises ValueError when the scene has no room for any of them.
    """
    templates = tuple(TEMPLATES.values()) if templates is None else templates
    for _ in range(ROUNDS):
        template = templates[rng.integers(len(templates))]
        place = space.places[rng.integers(len(space.places))]
        motions = [motion for motion in (template(place, rng) for _ in range(PROPOSALS)) if is_smooth(motion)]
        if not motions:
            continue
        scene = space.around(place)
        room = scene.clearance(np.concatenate([motion.positions for motion in motions])).reshape(-1, LENGTH).min(axis=1)
        for motion in (motions[k] for k in np.flatnonzero(room > CLEARANCE)):
            if has_view(scene, poses := motion.poses()):
                return poses
    names = ", ".join(template.__name__ for template in templates)
    raise ValueError(f"scene {space.scene.name!r} has no room for a camera that moves by {names}; "
                     "allow other templates or leave more free floor")


def look(space: Space, rng: np.random.Generator) -> Pose:
    """T_world_camera of one view from anywhere, as high as a robot or a hand. Raises ValueError when there is no room.
    """
    for _ in range(PROPOSALS * ROUNDS):
        place = space.places[rng.integers(len(space.places))]
        position = _start(place, rng, (ROBOT_HEIGHTS[0], HAND_HEIGHTS[1]))
        angles = [rng.uniform(0.0, math.tau), _gaze(rng), math.radians(rng.normal(0.0, 2.0))]
        (pose, *_) = Motion(position[None], np.array([angles])).poses()
        scene = space.around(place)
        if scene.clearance(position[None]).min() > CLEARANCE and has_view(scene, [pose]):
            return pose
    raise ValueError(f"scene {space.scene.name!r} has no room for a camera; leave more free floor")


def is_smooth(motion: Motion) -> bool:
    """Whether a motion keeps the limits of steps and turns, between frames and along the clip."""
    steps = np.linalg.norm(np.diff(motion.positions, axis=0), axis=1)
    rotations = Rotation.from_euler("ZYX", motion.angles)
    turns = (rotations[:-1].inv() * rotations[1:]).magnitude()
    return bool(steps.max() < MAX_STEP and turns.max() < MAX_TURN and ((steps > MIN_STEP) | (turns > MIN_TURN)).all()
                and steps.sum() < MAX_TRAVEL and turns.sum() < MAX_TURNED
                and (steps.sum() > MIN_TRAVEL or turns.sum() > MIN_TURNED))


def has_view(scene: Scene, poses: Sequence[Pose]) -> bool:
    """Whether no camera looks at something right in front of it."""
    rays = np.concatenate([0.5 * VIEW_ROOM * VIEW_RAYS, VIEW_ROOM * VIEW_RAYS])
    return bool((scene.clearance(np.concatenate([pose.apply(rays) for pose in poses])) > 0.0).all())


def wander(place: np.ndarray, rng: np.random.Generator) -> Motion:
    """Stochastic motion: position and gaze each follow a smooth random walk of their own."""
    heading = rng.uniform(0.0, math.tau) + _walk(_drift(rng, math.radians(5.0)))
    climb = _drift(rng, 0.15)
    speed = rng.uniform(0.03, 0.11)
    positions = _walk(speed * np.stack([np.cos(heading[1:]), np.sin(heading[1:]), climb], axis=1))
    yaw = rng.uniform(0.0, math.tau) + _walk(math.radians(rng.uniform(-4.0, 4.0)) + _drift(rng, math.radians(1.5)))
    pitch = _gaze(rng) + _walk(_drift(rng, math.radians(1.0)))
    return _held(rng, positions + _start(place, rng, HAND_HEIGHTS), yaw, pitch)


def orbit(place: np.ndarray, rng: np.random.Generator) -> Motion:
    """Around a point that stays in the middle of the view."""
    radius = rng.uniform(0.8, 2.5)
    rate = rng.choice([-1, 1]) * rng.uniform(math.radians(1.5), min(math.radians(6.0), 0.125 / radius))
    yaw = rng.uniform(0.0, math.tau) + rate * np.arange(LENGTH)  # towards the centre
    away = -radius * np.stack([np.cos(yaw), np.sin(yaw), np.zeros(LENGTH)], axis=1)
    start = _start(place, rng, HAND_HEIGHTS)
    pitch = min(math.atan2(start[2] - rng.uniform(0.3, 1.3), radius), math.radians(40.0))
    return _held(rng, start + away - away[0], yaw, pitch)


def dolly(place: np.ndarray, rng: np.random.Generator) -> Motion:
    """Straight on with the gaze fixed: forwards, backwards, sideways or up and down."""
    yaw = rng.uniform(0.0, math.tau)
    ways = [[math.cos(yaw), math.sin(yaw), 0.0], [-math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]]
    way = np.array(ways[rng.choice(3, p=[0.45, 0.45, 0.1])]) * rng.choice([-1, 1]) * rng.uniform(0.025, 0.125)
    return _held(rng, _start(place, rng, HAND_HEIGHTS) + np.arange(LENGTH)[:, None] * way, yaw, _gaze(rng))


def turn(place: np.ndarray, rng: np.random.Generator) -> Motion:
    """On the spot, about an axis up to 0.15 m behind the camera."""
    rate = rng.choice([-1, 1]) * math.radians(rng.uniform(1.5, 6.0))
    yaw = rng.uniform(0.0, math.tau) + rate * np.arange(LENGTH)
    arm = rng.uniform(0.0, 0.15) * np.stack([np.cos(yaw), np.sin(yaw), np.zeros(LENGTH)], axis=1)
    return _held(rng, _start(place, rng, HAND_HEIGHTS) + arm, yaw, _gaze(rng))


def corridor(place: np.ndarray, rng: np.random.Generator) -> Motion:
    """Walking ahead, almost straight, looking where one goes."""
    xy, yaw = _drive(rng, rng.uniform(0.06, 0.125), math.radians(rng.uniform(-1.5, 1.5)))
    bob = 0.012 * np.sin(rng.uniform(0.0, math.tau) + np.arange(LENGTH) * rng.uniform(0.8, 1.4))
    return _held(rng, np.column_stack([xy, bob]) + _start(place, rng, HAND_HEIGHTS), yaw, _gaze(rng))


def robot(place: np.ndarray, rng: np.random.Generator) -> Motion:
    """A differential drive on an arc, its camera fixed 0.3 to 1.5 m above the floor; it hardly shakes."""
    xy, yaw = _drive(rng, rng.uniform(0.025, 0.125), math.radians(rng.uniform(-5.0, 5.0)))
    positions = np.column_stack([xy, np.zeros(LENGTH)]) + _start(place, rng, ROBOT_HEIGHTS)
    return _held(rng, positions, yaw, math.radians(rng.uniform(-5.0, 18.0)), shake=0.2)


TEMPLATES: dict[str, Template] = {f.__name__: f for f in (wander, orbit, dolly, turn, corridor, robot)}


def _start(place: np.ndarray, rng: np.random.Generator, heights: tuple[float, float]) -> np.ndarray:
    return np.array([*place, rng.uniform(*heights)])


def _gaze(rng: np.random.Generator) -> float:
    """A pitch: mostly a little downwards, where floor and furniture are."""
    return float(np.clip(rng.normal(math.radians(8.0), math.radians(11.0)), math.radians(-25.0), math.radians(40.0)))


def _drift(rng: np.random.Generator, scale: float) -> np.ndarray:
    """(15,) changes that vary smoothly in time, of standard deviation `scale`."""
    return scale * 2.6 * ndimage.gaussian_filter1d(rng.normal(size=STEPS + 24), 4.0)[12:-12]


def _walk(changes: np.ndarray) -> np.ndarray:
    """(16, ...) from 0 on by the 15 changes."""
    return np.concatenate([np.zeros_like(changes[:1]), np.cumsum(changes, axis=0)])


def _drive(rng: np.random.Generator, speed: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """xy (16, 2) from (0, 0), and yaw (16,) which is also the heading, for a speed and a turn a frame."""
    yaw = rng.uniform(0.0, math.tau) + _walk(rate + _drift(rng, math.radians(0.4)))
    chord = 0.5 * (yaw[1:] + yaw[:-1])
    return _walk((speed * (1.0 + _drift(rng, 0.05)) * np.stack([np.cos(chord), np.sin(chord)])).T), yaw


def _held(rng: np.random.Generator, positions: np.ndarray, yaw: np.ndarray | float, pitch: np.ndarray | float,
          shake: float = 1.0) -> Motion:
    """With the unsteadiness of a hand, times `shake`: 4 mm, 0.5 degrees, and a camera that is not quite level."""
    wobble = ndimage.gaussian_filter1d(rng.normal(size=(LENGTH, 6)), 1.5, axis=0, mode="nearest") * 2.2 * shake
    roll = math.radians(rng.normal(0.0, 2.0 * shake))
    angles = np.stack([np.broadcast_to(angle, LENGTH) for angle in (yaw, pitch, roll)], axis=1)
    return Motion(positions + 0.004 * wobble[:, :3], angles + math.radians(0.5) * wobble[:, 3:])
