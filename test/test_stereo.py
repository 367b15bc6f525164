"""Stereo pairs, whose disparity is what the depth says, and where a rig's cameras sit."""

from __future__ import annotations

from dataclasses import replace

from boards import Picture, plane
import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.lens import PINHOLE, Equidistant, PlumbBob
from worldfm_ros.sensor.rig import Mounted, surround, with_stereo
from worldfm_ros.sensor.sensor import Sensor

BASELINE = 0.12
SENSOR = Intrinsics(320, 240, 228.0, 228.0, 160.0, 118.0)
PAIR = [("left", "right")]


def rig_of(lenses=(PINHOLE, PINHOLE), turn=(0.0, 0.0, 0.0), right=(0.1, -0.06, 0.5)) -> dict[str, Mounted]:
    """Two cameras that look ahead, 12 cm apart; the right one turned by these radians."""
    mounts = Pose(Rotation.identity(), [0.1, 0.06, 0.5]), Pose(Rotation.from_euler("xyz", turn), right)
    return {name: Mounted(Camera(SENSOR, lens, name=name), mount)
            for name, lens, mount in zip(("left", "right"), lenses, mounts, strict=True)}


def textured(T_world_wall: Pose):
    """A generator: a plane with a pattern that is nowhere like its neighbourhood."""
    waves = np.random.default_rng(3).normal(size=(24, 2)) * 14
    phases = np.random.default_rng(4).uniform(0, 2 * np.pi, 24)

    def generate(T, intrinsics):
        x, y, depth = plane(T, intrinsics, T_world_wall)
        value = np.sin(x[..., None] * waves[:, 0] + y[..., None] * waves[:, 1] + phases).sum(axis=-1)
        rgb = np.repeat(np.clip(127 + 25 * value, 0, 255).astype(np.uint8)[..., None], 3, -1)
        depth = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
        return Picture(rgb, depth, np.ones(depth.shape, np.uint16), depth > 0)

    return generate


BARREL = PlumbBob((-0.2, 0.05, 5e-4, 0, 0))
OFF = (0.01, -0.015, 0.02)
RIGS = {"ideal": rig_of(), "bent": rig_of((BARREL, BARREL)),
        "turned": rig_of((BARREL, PlumbBob((-0.22, 0.06, 0, 5e-4, 0))), OFF),
        "fisheye": rig_of((Equidistant((0.01, -0.01, 0, 0)),) * 2, OFF)}


@pytest.mark.parametrize("kind", RIGS)
def test_disparity_agrees_with_depth(kind):
    """OpenCV's matcher on the rectified pictures finds fx B / Z, with B from P[3]."""
    rig, cameras = RIGS[kind], with_stereo(RIGS[kind], PAIR)
    T_world_base = Pose.planar(0.3, -0.2, 0.4)
    wall = T_world_base @ rig["left"].T_base_optical @ Pose(Rotation.from_rotvec([0.25, 0.35, 0]), [0, 0, 1.6])
    generate, pictures, depth = textured(wall), [], None
    for name in ("left", "right"):
        sensor, T = Sensor(cameras[name]), T_world_base @ rig[name].T_base_optical
        taken = sensor.take(generate, [T], 0)
        pictures.append(cv2.cvtColor(sensor.rectified(taken.frame.rgb), cv2.COLOR_RGB2GRAY))
        depth = taken.depth if name == "left" else depth
    P = cameras["right"].P
    np.testing.assert_allclose(P[:, :3], cameras["left"].P[:, :3], atol=1e-9)
    assert -P[0, 3] / P[0, 0] == pytest.approx(BASELINE) and cameras["left"].P[0, 3] == 0
    matcher = cv2.StereoSGBM_create(0, 64, 7, P1=8 * 49, P2=32 * 49, uniquenessRatio=10)
    disparity = matcher.compute(*pictures).astype(np.float32) / 16
    known = (depth > 0) & (disparity > 0)
    known[:10] = known[-10:] = False
    error = np.abs(disparity[known] - (-P[0, 3] / depth[known]))
    print(f"stereo {kind}: {known.mean():.0%} matched, disparity error median {np.median(error):.3f}, "
          f"95 % {np.quantile(error, 0.95):.3f} px")
    assert known.mean() > 0.5 and np.median(error) < 0.25 and np.quantile(error, 0.95) < 0.5


def test_surround_looks_everywhere():
    mounts = surround(6, 0.2, 1.1)
    axes = np.array([mount.rotation.as_matrix()[:, 0] for mount in mounts])
    np.testing.assert_allclose(np.degrees(np.unwrap(np.arctan2(axes[:, 1], axes[:, 0]))), 60 * np.arange(6), atol=1e-9)
    np.testing.assert_allclose([mount.translation for mount in mounts], 0.2 * axes + [0, 0, 1.1], atol=1e-12)
    down = Mounted(Camera(SENSOR), surround(2, 0.2, 1.1, pitch=0.3)[1]).T_base_optical
    np.testing.assert_allclose(down.rotation.as_matrix()[:, 2], [-np.cos(0.3), 0, -np.sin(0.3)], atol=1e-12)
    for count in (1, 33, 2.0, True):
        with pytest.raises(ValueError, match="2 to 32 cameras"):
            surround(count, 0.2)


def test_a_calibrated_pair_keeps_its_own_projection():
    P = np.array([[220.0, 0, 158, 0], [0, 220, 119, 0], [0, 0, 1, 0]])
    right = P.copy()
    right[0, 3] = -220 * BASELINE
    rig = rig_of()
    rig["left"] = replace(rig["left"], camera=replace(rig["left"].camera, P=P))
    rig["right"] = replace(rig["right"], camera=replace(rig["right"].camera, P=right))
    cameras = with_stereo(rig, PAIR)
    np.testing.assert_array_equal(cameras["left"].P, P)
    np.testing.assert_array_equal(cameras["right"].P, right)
    rig["right"] = replace(rig["right"], T_base_link=Pose(Rotation.identity(), [0.1, -0.2, 0.5]))
    with pytest.raises(ValueError, match="baseline of 0.1200 m, the mounts are 0.2600 m apart"):
        with_stereo(rig, PAIR)


@pytest.mark.parametrize(("rig", "pairs", "message"), [
    (rig_of(), [("right", "left")], "are they exchanged"),
    (rig_of(), [("left", "middle")], "no camera 'middle'"),
    (rig_of(), [("left", "left")], "more than one place"),
    (rig_of(), PAIR * 2, "more than one place"),
    (rig_of((BARREL, Equidistant()), OFF), PAIR, "two of a kind"),
    (rig_of(right=(0.1, 0.0, 0.6)), PAIR, "are they exchanged"),
    (rig_of() | {"right": Mounted(Camera(Intrinsics.from_hfov(640, 480, 1.2)), rig_of()["right"].T_base_link)}, PAIR,
     "the same size"),
])
def test_what_is_no_pair_is_refused(rig, pairs, message):
    with pytest.raises(ValueError, match=message):
        with_stereo(rig, pairs)
