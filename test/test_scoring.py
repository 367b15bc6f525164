"""Image and consistency metrics against independent code, and on pictures whose figures are known."""

import cv2
import numpy as np
import pytest
from scenes import CAMERA, room_poses, see_room
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from worldfm_ros.evaluation.consistency import (
    correspondence,
    epipolar_consistent,
    epipolar_distance,
    find_features,
    fundamental,
    match,
    warp_psnr,
)
from worldfm_ros.evaluation.scoring import IDENTICAL, confidence_rank, psnr, sharpness_ratio, ssim_map
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world.keyframes import Keyframe

RNG = np.random.default_rng(0)
PHOTOGRAPH = cv2.GaussianBlur(RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8), (0, 0), 1.0)
PICTURE = np.clip(PHOTOGRAPH + RNG.normal(0, 12, PHOTOGRAPH.shape), 0, 255).astype(np.uint8)
EVERYWHERE = np.ones(PHOTOGRAPH.shape[:2], bool)


def keyframe(pose, camera=CAMERA):
    frame = see_room(pose, camera)
    return Keyframe(0, frame.rgb, frame.depth, camera, pose)


def noisy(rgb, seed, sigma=20):
    return np.clip(rgb + np.random.default_rng(seed).normal(0, sigma, rgb.shape), 0, 255).astype(np.uint8)


# ---- one picture


def test_psnr_is_scikit_images_and_of_a_mask_that_of_its_pixels():
    assert psnr(PICTURE, PHOTOGRAPH) == pytest.approx(peak_signal_noise_ratio(PHOTOGRAPH, PICTURE))
    mask = EVERYWHERE.copy()
    mask[10:20, 5:] = False
    spoiled = np.where(mask[..., None], PICTURE, 0).astype(np.uint8)
    assert psnr(spoiled, PHOTOGRAPH, mask) == pytest.approx(
        peak_signal_noise_ratio(PHOTOGRAPH[mask], PICTURE[mask]), abs=1e-9
    )


def test_psnr_at_its_ends():
    one_level = PHOTOGRAPH.copy()
    one_level[0, 0, 0] ^= 1
    assert psnr(one_level, PHOTOGRAPH) < psnr(PHOTOGRAPH, PHOTOGRAPH) == IDENTICAL
    with pytest.raises(ValueError, match="no pixel"):
        psnr(PICTURE, PHOTOGRAPH, ~EVERYWHERE)


def test_ssim_map_is_scikit_images_inside_the_border():
    ours = ssim_map(PICTURE, PHOTOGRAPH)
    theirs = structural_similarity(
        PICTURE, PHOTOGRAPH, channel_axis=-1, data_range=255, gaussian_weights=True, use_sample_covariance=False
    )
    assert ours.shape == PICTURE.shape[:2]
    assert ours[5:-5, 5:-5].mean() == pytest.approx(theirs, abs=1e-6)


def test_ssim_of_a_pixel_is_the_formula_of_wang_et_al():
    offsets = np.arange(-5, 6)
    window = np.exp(-np.add.outer(offsets**2, offsets**2) / (2 * 1.5**2))
    window = (window / window.sum())[..., None]
    x, y = (image[15:26, 25:36].astype(float) for image in (PICTURE, PHOTOGRAPH))
    mx, my = ((window * a).sum((0, 1)) for a in (x, y))
    vx, vy, cov = ((window * a * b).sum((0, 1)) - m for a, b, m in ((x, x, mx**2), (y, y, my**2), (x, y, mx * my)))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert ssim_map(PICTURE, PHOTOGRAPH)[20, 30] == pytest.approx(expected, abs=1e-4)


def test_ssim_needs_room_for_its_window():
    with pytest.raises(ValueError, match="11x11"):
        ssim_map(PICTURE[:10], PHOTOGRAPH[:10])


def test_sharpness_tells_blur_from_noise():
    blurred = cv2.GaussianBlur(PHOTOGRAPH, (0, 0), 1.0)
    assert sharpness_ratio(PHOTOGRAPH, PHOTOGRAPH, EVERYWHERE) == 1.0
    assert sharpness_ratio(blurred, PHOTOGRAPH, EVERYWHERE) < 0.5
    assert sharpness_ratio(PICTURE, PHOTOGRAPH, EVERYWHERE) > 1.2
    assert sharpness_ratio(PICTURE, np.full_like(PHOTOGRAPH, 90), EVERYWHERE) is None


# ---- jitter


def test_exact_frames_do_not_jitter_and_noisy_ones_do_by_as_much_as_their_noise():
    here, there = (keyframe(pose) for pose in room_poses(24)[:2])
    where = correspondence(here, there)
    assert 0.3 < where.visible.mean() < 1.0
    assert warp_psnr(here.rgb, there.rgb, where) > 40
    jitter = warp_psnr(noisy(here.rgb, 1), noisy(there.rgb, 2), where)
    # two independent noises of sigma 20, one of them smoothed by the interpolation
    assert 20 * np.log10(255 / (20 * np.sqrt(2))) - 0.5 < jitter < 20 * np.log10(255 / 20)


def test_a_pixel_is_visible_where_both_views_measured_the_same_surface():
    here, there = (keyframe(pose) for pose in room_poses(24)[:2])
    where = correspondence(here, there)
    depth = there.depth.copy()
    depth[:, :40], depth[:, 40:50] = 0.3, 0.0  # something in front, and nothing measured
    hidden = correspondence(here, Keyframe(0, there.rgb, depth, CAMERA, there.T_world_camera))
    free = np.rint(where.pixels[..., 0]) >= 50
    assert np.array_equal(hidden.visible, where.visible & free) and (where.visible & ~free).any()


def test_a_pixel_goes_where_its_point_is_seen():
    here, there = (keyframe(pose) for pose in room_poses(24)[:2])
    point = here.T_world_camera.apply(here.intrinsics.unproject(here.depth)[20, 30])
    expected = there.intrinsics.project(there.T_world_camera.inverse().apply(point))
    assert np.allclose(correspondence(here, there).pixels[20, 30], expected, atol=1e-3)


def test_views_that_share_nothing_have_no_jitter():
    here, away = (keyframe(room_poses(24)[k]) for k in (0, 12))
    assert warp_psnr(here.rgb, away.rgb, correspondence(here, away)) is None


# ---- epipolar geometry

WIDE = Intrinsics.from_hfov(256, 192, 1.2)
LEFT = Pose.looking_at([0, -3, 1], [0, 0, 1])
RIGHT = Pose.looking_at([0.4, -3, 1.1], [0.1, 0, 1])


def wall(pose, seed=0):
    """A view of a wall y = 0 with random blots, as a Keyframe."""
    blots = np.random.default_rng(seed).integers(0, 256, (60, 80), dtype=np.uint8)
    texture = cv2.resize(blots, None, fx=10, fy=10, interpolation=cv2.INTER_CUBIC)
    rays = WIDE.unproject(np.ones((WIDE.height, WIDE.width))) @ pose.rotation.as_matrix().T
    depth = -pose.translation[1] / rays[..., 1]
    points = pose.translation + rays * depth[..., None]
    u, v = (points[..., 0] + 4) * 100, (4 - points[..., 2]) * 100
    grey = cv2.remap(texture, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
    return Keyframe(0, np.repeat(grey[..., None], 3, axis=2), depth.astype(np.float32), WIDE, pose)


def features(view):
    return find_features(view.rgb, np.ones(view.rgb.shape[:2], bool))


def test_points_lie_on_their_epipolar_lines_and_distances_are_pixels():
    points = np.random.default_rng(3).uniform([-1, -1, 0], [1, 1, 2], (50, 3))
    a, b = (WIDE.project(pose.inverse().apply(points)) for pose in (LEFT, RIGHT))
    F = fundamental(RIGHT.inverse() @ LEFT, WIDE, WIDE)
    assert epipolar_distance(a, b, F).max() < 1e-9
    lines = np.column_stack([a, np.ones(50)]) @ F.T
    normals = lines[:, :2] / np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
    moved = epipolar_distance(a, b + 3.0 * normals, F)
    back = np.column_stack([b + 3.0 * normals, np.ones(50)]) @ F
    in_a = np.abs(np.sum(np.column_stack([a, np.ones(50)]) * back, 1)) / np.linalg.norm(back[:, :2], axis=1)
    assert np.allclose(moved, (3.0 + in_a) / 2)


def test_pictures_of_one_wall_match_and_are_consistent():
    left, right = wall(LEFT), wall(RIGHT)
    points, _ = match(features(left), features(right))
    assert len(points) > 30
    assert epipolar_consistent(features(left), features(right), left, right) is True


@pytest.mark.parametrize("shown", [wall(RIGHT, seed=1), wall(Pose.looking_at([0.4, -3, 1.4], [0.1, 0, 1.3]))],
                         ids=["another wall", "seen from elsewhere"])
def test_a_picture_of_something_else_is_not_consistent(shown):
    assert epipolar_consistent(features(wall(LEFT)), features(shown), wall(LEFT), wall(RIGHT)) is False


def test_pictures_without_detail_are_not_consistent():
    left, right = wall(LEFT), wall(RIGHT)
    grey = find_features(np.full_like(left.rgb, 127), np.ones(left.rgb.shape[:2], bool))
    assert epipolar_consistent(grey, features(right), left, right) is False


def test_cameras_at_one_place_have_no_epipolar_geometry():
    left = wall(LEFT)
    assert epipolar_consistent(features(left), features(left), left, left) is None


def test_features_lie_in_the_mask():
    view = wall(LEFT)
    mask = np.zeros(view.rgb.shape[:2], bool)
    mask[:, :100] = True
    assert (find_features(view.rgb, mask).points[:, 0] < 101).all() and len(find_features(view.rgb, mask).points) > 10


def test_confidence_is_ranked_by_the_error_that_there_is():
    rng = np.random.default_rng(0)
    photograph = rng.integers(60, 180, (60, 80, 3), np.uint8)
    strength = np.linspace(0, 60, 80)[None, :, None]
    picture = np.clip(photograph + strength * rng.choice([-1, 1], photograph.shape), 0, 255).astype(np.uint8)
    everywhere = np.ones((60, 80), bool)
    honest = np.broadcast_to((255 - 3 * np.linspace(0, 60, 80)).astype(np.uint8), (60, 80))
    assert confidence_rank(honest, picture, photograph, everywhere) > 0.9
    assert confidence_rank(honest[:, ::-1], picture, photograph, everywhere) < -0.9
    assert abs(confidence_rank(rng.integers(0, 256, (60, 80), np.uint8), picture, photograph, everywhere)) < 0.15
    assert confidence_rank(np.full((60, 80), 255, np.uint8), picture, photograph, everywhere) is None
