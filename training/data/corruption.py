"""What goes wrong between the world and the memory that a frame model is given, to train on (paper 2.4.1, 2.4.2).

The pairs of training are made of good depth and poses. What a robot has is worse: sensors with noise and holes, poses
that are off, reconstructions that are warped, cameras that adapt. A network that was never shown this trusts it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
import math

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from worldfm_ros.clips import RgbdFrame
from worldfm_ros.geometry import Pose

Range = tuple[float, float]
NOISE_PERIOD = 16381  # a prime, so that repeated noise falls differently into each row
WARP_GRID = (4, 3)  # nodes of the smooth scale field across and down a frame
EDGE = 0.05  # relative jump in depth between neighbours that makes an edge


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """Strengths; all of them drawn anew for each sample, and 0 (or 1 for `keep`) means that it does not happen.

    The cloud (anchor shuffling and masking, paper 2.4.1):
    keep: fraction of the reference pixels that become anchors, log-uniform.
    shuffled, shuffle: up to this share of the anchors moves along its ray, by a Gaussian of `shuffle` times the depth.
    missing_frame: probability, for each frame of the reference group, that the cloud is made without it.
    boxes: up to so many boxes of a frame have no depth, each of up to `box` of its width and height.
    border: up to this share of a frame's width and height, on each side, has no depth.
    holes: up to so many ellipses of the drawing are empty, each of up to `hole` of its width and height.
    masked: probability that the whole drawing is empty.
    splats, splat: probability that anchors have a radius, and its range in pixel spacings of the frame they come from.
    voxels, voxel: probability that the cloud is thinned to one anchor a voxel as in a fused world, and the voxel's
    range as a share of the group's mean depth; an anchor's radius is then in the range `voxel_radius`, in voxels.

    far_reference: probability that the reference is any frame of the group, not the closest: a robot's keyframes are
    farther apart than a clip's frames.

    Depth of the reference group:
    sensor: Gaussian noise, metres at 1 m, growing with the square of the depth.
    quantised, step: probability that disparity comes in steps, and the step in metres at 1 m.
    scale, warp: Gaussian relative error of a frame's depth as a whole, and of a smooth field over it.
    flying: up to this share of the pixels at depth edges lie somewhere between the two surfaces.

    Poses of the reference group: Gaussian noise of `position` metres and `rotation` radians, for all frames of a clip
    times the same factor in 0..2.

    Colours of the reference group against the target's:
    exposure, white_balance: Gaussian relative gain of a frame, and of each of its channels.
    image_noise: up to this standard deviation, in grey levels.
    blurred, target_blurred, blur: probabilities that a frame of the group, or the target, is blurred by motion or
    defocus, and the range of its length as a share of the width.
    """

    keep: Range = (0.06, 1.0)
    shuffled: float = 0.1
    shuffle: float = 0.02
    missing_frame: float = 0.1
    boxes: int = 3
    box: float = 0.35
    border: float = 0.12
    holes: int = 2
    hole: float = 0.3
    masked: float = 0.05
    splats: float = 0.6
    splat: Range = (0.4, 1.2)
    voxels: float = 0.4
    voxel: Range = (0.004, 0.015)
    voxel_radius: Range = (0.7, 1.0)
    far_reference: float = 0.35
    sensor: float = 0.003
    quantised: float = 0.4
    step: float = 0.0028
    scale: float = 0.01
    warp: float = 0.006
    flying: float = 0.5
    position: float = 0.005
    rotation: float = math.radians(0.3)
    exposure: float = 0.06
    white_balance: float = 0.02
    image_noise: float = 4.0
    blurred: float = 0.1
    target_blurred: float = 0.02
    blur: Range = (0.004, 0.015)

    @classmethod
    def default(cls) -> Corruption:
        """What the recipes train with."""
        return cls()

    @classmethod
    def none(cls) -> Corruption:
        """The evaluation protocol: the clip's cloud as it is, every pixel one anchor."""
        zeros = {field.name: 0 for field in fields(cls)}
        return cls(**zeros | {name: (0.0, 0.0) for name in ("splat", "voxel", "voxel_radius", "blur")}
                   | {"keep": (1.0, 1.0)})


@dataclass(frozen=True)
class Amounts:
    """How much of each kind of error a sample has, 0..1 (poses 0..2): a robot's sensors are good or bad as a whole."""

    sensor: float
    step: float
    reconstruction: float
    poses: float
    flying: float
    colours: float
    image_noise: float

    @classmethod
    def draw(cls, corruption: Corruption, rng: np.random.Generator) -> Amounts:
        sensor, reconstruction, flying, colours, image_noise = rng.random(5)
        step = float(rng.random() < corruption.quantised)
        return cls(sensor, step, reconstruction, rng.uniform(0, 2), flying, 0.5 + colours, image_noise)


def corrupt_frame(frame: RgbdFrame, corruption: Corruption, amounts: Amounts, rng: np.random.Generator) -> RgbdFrame:
    """A frame of the reference group as a robot would have it: its depth, pose and colours."""
    depth = corrupt_depth(frame.depth, corruption, amounts, rng)
    mask_depth(depth, corruption, rng)
    rgb = corrupt_colors(frame.rgb, corruption, amounts, rng)
    if rng.random() < corruption.blurred:
        rgb = blur(rgb, corruption, rng)
    pose = shake(frame.T_world_camera, corruption, amounts, rng)
    return replace(frame, rgb=rgb, depth=depth, T_world_camera=pose)


def shake(pose: Pose, corruption: Corruption, amounts: Amounts, rng: np.random.Generator) -> Pose:
    """The pose with noise, about the camera itself."""
    turn, shift = rng.standard_normal((2, 3)) * amounts.poses
    return pose @ Pose(Rotation.from_rotvec(turn * corruption.rotation), shift * corruption.position)


# ---- depth (H, W) float32, metres, 0 = none


def corrupt_depth(depth: np.ndarray, corruption: Corruption, amounts: Amounts, rng: np.random.Generator) -> np.ndarray:
    """A new depth image with flying pixels, the smooth errors of a reconstruction and the rough ones of a sensor."""
    depth = with_flying_pixels(depth, corruption.flying * amounts.flying, rng)
    overall = 1.0 + rng.normal(0.0, corruption.scale * amounts.reconstruction)
    nodes = rng.normal(overall, corruption.warp * amounts.reconstruction, WARP_GRID[::-1]).astype(np.float32)
    depth *= cv2.resize(nodes, depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
    noise = repeated(rng.standard_normal(NOISE_PERIOD, np.float32), depth.shape)
    depth += depth * depth * (noise * np.float32(corruption.sensor * amounts.sensor))
    if corruption.step and amounts.step:
        depth = quantise(depth, corruption.step)
    return np.maximum(depth, 0, out=depth)


def quantise(depth: np.ndarray, step: float) -> np.ndarray:
    """Disparity in whole steps: `step` metres at 1 m, growing with the square of the depth."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.rint(np.float32(1 / step) / depth)
        return np.where((depth > 0) & (steps > 0), np.float32(1 / step) / steps, np.float32(0))


def with_flying_pixels(depth: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A copy in which this share of the pixels left or right of a depth edge lies between both surfaces."""
    depth = np.array(depth)
    left, right = depth[:, :-1], depth[:, 1:]
    edges = np.flatnonzero(np.abs(right - left) > EDGE * np.minimum(left, right))
    edges = edges[rng.random(len(edges), np.float32) < share]
    rows, columns = np.divmod(edges, left.shape[1])
    left, right = left[rows, columns], right[rows, columns]
    mixed = left + rng.random(len(rows), np.float32) * (right - left)
    mixed[(left == 0) | (right == 0)] = 0  # a surface ends where nothing was measured: its rim is lost
    depth[rows, columns + rng.integers(0, 2, len(rows))] = mixed
    return depth


def mask_depth(depth: np.ndarray, corruption: Corruption, rng: np.random.Generator) -> None:
    """Take the depth of borders and boxes away, in place."""
    height, width = depth.shape
    top, bottom, left, right = np.rint(rng.random(4) * rng.random() * corruption.border * np.array([height] * 2
                                                                                                   + [width] * 2))
    depth[:int(top)] = 0
    depth[height - int(bottom):] = 0
    depth[:, :int(left)] = 0
    depth[:, width - int(right):] = 0
    for _ in range(rng.integers(0, corruption.boxes + 1)):
        size = rng.random(2) * corruption.box * [height, width]
        y, x = (rng.random(2) * ([height, width] - size)).astype(int)
        depth[y:y + int(size[0]), x:x + int(size[1])] = 0


# ---- colours (H, W, 3) uint8


def corrupt_colors(rgb: np.ndarray, corruption: Corruption, amounts: Amounts, rng: np.random.Generator) -> np.ndarray:
    """Another exposure and white balance, and sensor noise."""
    gains = 1.0 + amounts.colours * (rng.normal(0.0, corruption.exposure)
                                     + rng.normal(0.0, corruption.white_balance, 3))
    table = np.clip(np.rint(np.arange(256)[:, None] * gains), 0, 255).astype(np.uint8)
    rgb = cv2.LUT(np.ascontiguousarray(rgb), table[:, None])
    sigma = corruption.image_noise * amounts.image_noise
    if sigma < 0.5:  # less than rounding
        return rgb
    noise = repeated((rng.standard_normal(NOISE_PERIOD, np.float32) * sigma).astype(np.int16), rgb.shape)
    return cv2.add(rgb, noise, dtype=cv2.CV_8U)


def blur(rgb: np.ndarray, corruption: Corruption, rng: np.random.Generator) -> np.ndarray:
    """Along a line (motion) or in a disc (defocus)."""
    length = rng.uniform(*corruption.blur) * rgb.shape[1]
    size = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    if rng.random() < 0.5:
        angle = rng.uniform(0, math.pi)
        half = length / 2 * np.array([math.cos(angle), math.sin(angle)])
        start, end = (tuple(int(round(c)) for c in middle + sign * half) for sign in (-1, 1))
        cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA)
    else:
        cv2.circle(kernel, (middle, middle), max(1, round(length / 2)), 1.0, -1, cv2.LINE_AA)
    return cv2.filter2D(rgb, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def repeated(noise: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A few random numbers over and over: to draw one for each pixel would take longer than all the rest."""
    return np.resize(noise, shape)

