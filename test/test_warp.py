"""Several references warped by the drawn depth: geometry, sharpness, exposure, and the kernel against its rule."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.pyramid import LEVELS, Pyramids, build_pyramid
from worldfm_ros.painting.warp import (
    ANGLE,
    DEPTH,
    MEASURED,
    RESOLUTION,
    RIM,
    Target,
    balance,
    warp_in_numpy,
    warp_references,
)
from worldfm_ros.scenes.apartment import apartment
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.viewpoints import viewpoints
from worldfm_ros.world.keyframes import Keyframe

CAMERA = Intrinsics.from_hfov(64, 48, 1.2)
HERE = Pose.identity()


def texture(height, width, seed=0, blur=1.5):
    """(height, width, 3) uint8, smooth at the scale of pixels."""
    noise = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    return np.clip(128 + (smooth - 0.5) * 100 / smooth.std() / 2, 10, 240).astype(np.uint8)


def wall(camera=CAMERA, pose=HERE, z=2.0, rgb=None, id=0):
    """A keyframe that looks straight at a wall."""
    size = (camera.height, camera.width)
    return Keyframe(id, texture(*size) if rgb is None else rgb, np.full(size, z, np.float32), camera, pose)


def flat(camera=CAMERA, z=2.0):
    return np.full((camera.height, camera.width), z, np.float32)


@pytest.fixture(scope="module")
def apartment_views():
    """A target's depth and pose in an apartment, and three keyframes around it, of other sizes."""
    pose = viewpoints(apartment(0), 0, 12)[4]
    caster = RayCaster(apartment(0), 0.5)
    target = caster.render(pose, CAMERA, 3)
    keyframes = []
    cameras = CAMERA, CAMERA.resized(150, 100), CAMERA.resized(40, 31)
    moves = (0.05, [0.1, 0.0, 0.05]), (0.1, [0.3, 0.1, 0.0]), (-0.3, [-0.4, 0.0, 0.3])
    for k, (camera, (turn, step)) in enumerate(zip(cameras, moves, strict=True)):
        there = pose @ Pose(Rotation.from_rotvec([0.0, turn, 0.02]), step)
        image = caster.render(there, camera, 3)
        depth = image.depth.copy()
        depth[:5] = 0
        keyframes.append(Keyframe(k, image.rgb, depth, camera, there))
    return target.depth, pose, keyframes


def test_a_reference_at_the_target_is_the_picture_itself():
    reference = wall()
    warped = warp_references([reference], Target(flat(), HERE, CAMERA))
    np.testing.assert_array_equal(warped.rgb[0], reference.rgb)
    assert warped.shown.all() and not warped.beyond.any()
    quality = warped.quality[0]
    assert (quality[..., ANGLE] == 0).all() and (quality[..., RESOLUTION] == 128).all()
    assert (quality[..., DEPTH] == 128).all() and (quality[..., [MEASURED, RIM]] == 255).all()


def test_a_plane_is_warped_as_opencv_does_by_its_homography():
    camera = Intrinsics.from_hfov(128, 96, 1.2)
    reference = wall(camera, z=2.0)
    target = Pose(Rotation.from_rotvec([0.0, 0.0, 0.2]), [0.15, -0.1, 0.1])  # a wall stays at one depth
    z = 2.0 - 0.1
    warped = warp_references([reference], Target(flat(camera, z), target, camera))
    R, t = target.rotation.as_matrix(), target.translation
    K = camera.matrix
    H = K @ (R + np.outer(t, [0, 0, 1]) / z) @ np.linalg.inv(K)
    expected = cv2.warpPerspective(reference.rgb, H, (128, 96), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                                   borderMode=cv2.BORDER_REPLICATE)
    shown = warped.shown[0]
    assert 0.6 < shown.mean() < 1.0
    assert np.abs(warped.rgb[0].astype(int) - expected)[shown].max() <= 3


@pytest.mark.parametrize("moving", [False, True])
def test_the_kernel_does_what_the_rule_in_numpy_says(apartment_views, moving):
    depth, pose, keyframes = apartment_views
    depth = depth.copy()
    depth[20:24, 10:30] = 0
    target = Target(depth, pose, CAMERA)
    rng = np.random.default_rng(0)
    moves = rng.normal(0, 2, (len(keyframes), 2, *depth.shape)).astype(np.float32) if moving else None
    ours = warp_references(keyframes, target, moves)
    rule = warp_in_numpy(keyframes, target, ours.gains, moves)
    for name in ("rgb", "shown", "beyond", "quality"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(rule, name), err_msg=name)
    assert 0.2 < ours.shown.mean() < 0.95 and not ours.shown[:, 20:24, 10:30].any()


def test_the_bytes_do_not_depend_on_the_number_of_threads(apartment_views):
    depth, pose, keyframes = apartment_views
    one, two, five = (warp_references(keyframes, Target(depth, pose, CAMERA), threads=threads) for threads in (1, 2, 5))
    for other in (two, five):
        for name in ("rgb", "shown", "beyond", "quality", "gains"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def test_a_finer_reference_is_averaged_and_a_coarser_one_stays_smooth():
    fine = CAMERA.resized(256, 192)
    stripes = np.zeros((192, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    warped = warp_references([wall(fine, rgb=stripes)], Target(flat(), HERE, CAMERA))
    np.testing.assert_allclose(warped.rgb[0].astype(int), 100, atol=2)
    assert (warped.quality[..., RESOLUTION] == 128 + 2 * 32).all()
    ramp = np.repeat(np.repeat(np.linspace(0, 250, 16).astype(np.uint8)[None, :, None], 12, 0), 3, 2)
    coarse = wall(CAMERA.resized(16, 12), rgb=ramp)
    enlarged = warp_references([coarse], Target(flat(), HERE, CAMERA)).rgb[0].astype(int)
    assert (np.diff(enlarged[24, 8:-8, 0]) >= 0).all() and np.diff(enlarged[24, :, 0]).max() < 10


def test_quality_tells_angle_and_depth():
    """From half a metre aside, the middle of a wall at 2 m is seen under atan(1 / 4)."""
    aside = Pose(Rotation.identity(), [0.5, 0.0, 0.0])
    reference = wall(pose=aside, z=2.04)
    quality = warp_references([reference], Target(flat(), HERE, CAMERA)).quality[0, 24, 32].astype(float)
    assert quality[ANGLE] / 255 == pytest.approx(2 * np.sin(np.arctan(0.25) / 2), abs=0.006)
    assert (quality[DEPTH] - 128) / 127 * 0.1 == pytest.approx(0.02, abs=0.001)


def test_what_is_hidden_is_not_shown_and_what_lies_behind_is_beyond():
    depth = flat()
    depth[:, :20], depth[:, 44:] = 1.0, 4.0
    reference = Keyframe(0, texture(48, 64), depth, CAMERA, HERE)
    warped = warp_references([reference], Target(flat(), HERE, CAMERA))
    assert not warped.shown[0, :, :20].any() and warped.shown[0, :, 20:].all()
    np.testing.assert_array_equal(warped.beyond[0], depth == 4.0)
    rims = warped.quality[0, 24, :, RIM].astype(int)
    assert (rims[:20] == 0).all() and 0 < rims[20] < 200 and (rims[24:] == 255).all()
    assert not warped.rgb[0, :, :20].any()


@pytest.mark.parametrize("gain", [(1.25, 1.25, 1.25), (0.8, 1.0, 1.2)], ids=["exposure", "white balance"])
def test_another_exposure_is_found_and_taken_back(gain):
    camera = Intrinsics.from_hfov(160, 120, 1.2)
    rgb = texture(120, 160)
    other = np.clip(rgb / np.array(gain), 0, 255).astype(np.uint8)
    first, second = wall(camera, rgb=rgb), wall(camera, rgb=other, id=1)
    warped = warp_references([first, second], Target(flat(camera), HERE, camera))
    np.testing.assert_allclose(warped.gains, [np.ones(3), gain], rtol=0.03)
    assert np.abs(warped.rgb[1].astype(int) - rgb).mean() < 3


def test_an_exposure_is_passed_on_and_never_beyond_reason():
    """The third reference overlaps with the second one alone; the fourth shows another light altogether."""
    camera = Intrinsics.from_hfov(160, 120, 1.2)
    rgb = texture(120, 160)
    depths = [flat(camera) for _ in range(4)]
    depths[0][:, 80:] = depths[1][:, :40] = depths[2][:, :90] = 0.5  # something in front, so not shown
    references = [Keyframe(k, np.clip(rgb / gain, 0, 255).astype(np.uint8), depths[k], camera, HERE)
                  for k, gain in enumerate((1.0, 0.8, 1.3, 9.0))]
    gains = balance(references, Target(flat(camera), HERE, camera))
    np.testing.assert_allclose(gains[:3], np.repeat([[1.0], [0.8], [1.3]], 3, 1), rtol=0.04)
    assert gains.min() >= 0.5 and gains.max() <= 2.0


@pytest.mark.parametrize("size", [(1, 1), (17, 9), (512, 64), (64, 512)])
def test_any_size_of_picture_is_filled(size):
    camera = Intrinsics.from_hfov(*size, 0.8)
    references = [wall(camera), wall(id=1), wall(CAMERA.resized(200, 150), id=2), wall(CAMERA.resized(3, 2), id=3)]
    warped = warp_references(references, Target(flat(camera), HERE, camera))
    assert warped.rgb.shape == (4, size[1], size[0], 3) and warped.quality.shape == (4, size[1], size[0], 5)
    assert warped.shown[0].all()
    np.testing.assert_array_equal(warped.rgb[0], references[0].rgb)


def test_a_large_picture_is_filled():
    camera = Intrinsics.from_hfov(4096, 2160, 1.0)
    warped = warp_references([wall()], Target(flat(camera), HERE, camera))
    assert warped.shown.mean() > 0.5 and warped.rgb.shape == (1, 2160, 4096, 3)


def test_references_that_say_little():
    """None; one that looks away; one without depth, which might show everything."""
    none = warp_references([], Target(flat(), HERE, CAMERA))
    assert none.rgb.shape == (0, 48, 64, 3) and none.gains.shape == (0, 3)
    away = Pose(Rotation.from_rotvec([0.0, np.pi, 0.0]), [0.0, 0.0, 0.0])
    blind = Keyframe(1, texture(48, 64), np.zeros((48, 64), np.float32), CAMERA, HERE)
    warped = warp_references([wall(pose=away), blind], Target(flat(), HERE, CAMERA))
    assert not warped.shown[0].any() and not warped.rgb[0].any() and not warped.quality[0].any()
    assert warped.shown[1].all() and not warped.quality[1, ..., MEASURED].any()
    nowhere = warp_references([wall(), blind], Target(np.zeros((48, 64), np.float32), HERE, CAMERA))
    assert not nowhere.shown.any()


def test_a_depth_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"64x48 camera.*\(48, 64\) float32.*got \(48, 65\) float32"):
        warp_references([wall()], Target(np.ones((48, 65), np.float32), HERE, CAMERA))
    with pytest.raises(ValueError, match="float64"):
        warp_references([wall()], Target(np.ones((48, 64)), HERE, CAMERA))


def test_a_pyramid_keeps_the_picture_and_its_mean():
    rgb = texture(60, 83)
    pyramid = build_pyramid(rgb)
    np.testing.assert_array_equal(pyramid.level(0), rgb)
    assert 8 < len(pyramid.levels) <= LEVELS and pyramid.level(2).shape == (30, 42, 3)
    for number in range(1, 8):
        np.testing.assert_allclose(pyramid.level(number).mean((0, 1)), rgb.mean((0, 1)), atol=3)
    assert len(build_pyramid(rgb[:1, :1]).levels) == 1


def test_a_pyramid_leaves_with_its_keyframe():
    kept, keyframes = Pyramids(), [wall(id=k) for k in range(3)]
    for keyframe in keyframes:
        kept.of(keyframe)
    del keyframe, keyframes[1:]
    assert len(kept) == 1 and kept.of(keyframes[0]).level(0).shape == keyframes[0].rgb.shape


def test_pyramids_are_kept_until_there_are_too_many():
    keyframes = [wall(id=k) for k in range(4)]
    size = build_pyramid(keyframes[0].rgb).pixels.nbytes
    kept = Pyramids(limit=2 * size)
    first = kept.of(keyframes[0])
    assert kept.of(keyframes[0]) is first
    kept.of(keyframes[1])
    kept.of(keyframes[0])
    kept.of(keyframes[2])  # the second leaves
    assert kept.of(keyframes[0]) is first
    assert len(kept) == 2
    np.testing.assert_array_equal(kept.of(keyframes[1]).level(0), keyframes[1].rgb)
