"""What geometry knows of a view: the reference warped by the drawn depth, and the best guess made of it."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.guide import find_surface, guide, warp
from worldfm_ros.scenes.apartment import apartment
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.viewpoints import viewpoints
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView, render

CAMERA = Intrinsics.from_hfov(64, 48, 1.2)


@pytest.fixture(scope="module")
def scene():
    """A ray caster, a pose in an apartment, and another a little to the side of it."""
    pose = viewpoints(apartment(0), 0, 12)[4]
    return RayCaster(apartment(0), 0.5), pose, pose @ Pose(Rotation.from_rotvec([0.0, 0.05, 0.0]), [0.1, 0.0, 0.05])


def seen(caster, pose, camera=CAMERA):
    image = caster.render(pose, camera, 3)
    return Keyframe(0, image.rgb, image.depth, camera, pose)


def drawn(keyframe, coverage):
    hidden = ~coverage
    rgb, depth = keyframe.rgb.copy(), keyframe.depth.copy()
    rgb[hidden], depth[hidden] = 0, 0
    return AnchorView(rgb, depth, np.zeros(depth.shape, np.uint16), coverage)


def test_a_reference_at_the_target_is_the_picture_itself(scene):
    caster, pose, _ = scene
    there = seen(caster, pose)
    warped = warp(there, there.depth, pose, CAMERA)
    assert warped.shown.all()
    np.testing.assert_allclose(warped.rgb.astype(int), there.rgb, atol=1)


def test_a_reference_beside_the_target_is_brought_to_it(scene):
    caster, pose, aside = scene
    target, reference = seen(caster, pose), seen(caster, aside, CAMERA.resized(128, 96))
    warped = warp(reference, target.depth, pose, CAMERA)
    error = np.abs(warped.rgb.astype(float) - target.rgb).mean(-1)[warped.shown]
    unwarped = np.abs(reference.rgb[::2, ::2].astype(float) - target.rgb).mean(-1)
    assert warped.shown.mean() > 0.7
    assert np.median(error) < 0.3 * np.median(unwarped)


def test_what_something_nearer_hides_in_the_reference_is_not_shown():
    """A wall at 2 m, and a board at 1 m that hides its left half from the reference."""
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, :32] = 1.0
    reference = Keyframe(0, np.zeros((48, 64, 3), np.uint8), depth, CAMERA, Pose.identity())
    warped = warp(reference, np.full((48, 64), 2.0, np.float32), Pose.identity(), CAMERA)
    assert not warped.shown[:, :32].any() and warped.shown[:, 32:].all()


def test_places_without_depth_and_behind_the_reference_are_not_shown():
    reference = Keyframe(0, np.full((48, 64, 3), 9, np.uint8), np.zeros((48, 64), np.float32), CAMERA, Pose.identity())
    turned = Pose(Rotation.from_rotvec([0.0, np.pi, 0.0]), [0.0, 0.0, 0.0])
    assert not warp(reference, np.ones((48, 64), np.float32), turned, CAMERA).shown.any()
    half = np.ones((48, 64), np.float32)
    half[:24] = 0
    shown = warp(reference, half, Pose.identity(), CAMERA).shown
    assert not shown[:24].any() and shown[24:].all()


@pytest.mark.parametrize("edge, shown", [(47.49, True), (np.nextafter(47.5, 0), False), (47.51, False)])
def test_the_picture_ends_half_a_pixel_beyond_its_last_row(edge, shown):
    """Also where float32 rounds the last place inside to the first one outside (once an index error)."""
    camera = Intrinsics(64, 48, 50.0, 50.0, 31.5, 23.5)
    reference = Keyframe(0, np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), np.float32), camera, Pose.identity())
    target = Pose(Rotation.identity(), [0.0, (edge - 47) / 50.0, 0.0])
    rows = warp(reference, np.ones((48, 64), np.float32), target, camera).shown
    assert (rows[-1] == shown).all() and rows[:-1].all()


def test_the_best_guess_is_the_drawing_then_the_reference_then_the_nearest_colour(scene):
    caster, pose, _ = scene
    there = seen(caster, pose)
    coverage = np.ones((48, 64), bool)
    coverage[10:20, 10:30] = False
    drawing = drawn(there, coverage)
    marked = Keyframe(0, 255 - there.rgb, there.depth, CAMERA, pose)
    known = guide(drawing, marked, pose, CAMERA)
    assert known.shape == (48, 64, 8) and known.dtype == np.uint8
    surface = find_surface(drawing).drawn
    assert surface[coverage].mean() > 0.95 and not surface[~coverage].any()
    np.testing.assert_array_equal(known[surface][:, :3], there.rgb[surface])
    np.testing.assert_array_equal(known[..., 6], np.where(surface, 255, 0))
    filled = ~surface & (known[..., 7] > 0)
    np.testing.assert_array_equal(known[filled][:, :3], known[filled][:, 3:6])
    alone = guide(drawing, None, pose, CAMERA)
    assert not alone[..., 3:6].any() and not alone[..., 7].any()
    assert (alone[14, 10:13, :3] == there.rgb[14, 9]).all(), "the rim's colour goes into the hole"


def anchors_at(depth):
    """A drawing with anchors where depth is not 0; their colour tells the depth."""
    rgb = np.repeat(np.rint(50 * depth)[..., None], 3, axis=2).astype(np.uint8)
    return AnchorView(rgb, depth.astype(np.float32), np.zeros(depth.shape, np.uint16), depth > 0)


def test_what_shows_through_the_gaps_of_a_sparse_surface_does_not_count():
    """A board at 1 m with every other pixel of a chequer missing, the wall at 4 m behind it seen through the gaps."""
    depth = np.full((48, 64), 4.0)
    board = np.s_[8:40, 8:40]
    depth[board] = np.where(np.indices((32, 32)).sum(0) % 2, 4.0, 1.0)
    surface = find_surface(anchors_at(depth))
    inside = np.s_[10:38, 10:38]
    np.testing.assert_array_equal(surface.drawn[inside], depth[inside] == 1.0)
    np.testing.assert_allclose(surface.depth[inside], 1.0, rtol=1e-4)
    np.testing.assert_allclose(surface.depth[:, 44:], 4.0, rtol=1e-4)
    assert surface.drawn[:, 44:].all()


def test_noise_of_depth_is_smoothed_and_edges_stay():
    rng = np.random.default_rng(0)
    true = np.full((48, 64), 2.0)
    true[:, 32:] = 3.0
    noisy = true * (1 + 0.01 * rng.standard_normal(true.shape))
    found = find_surface(anchors_at(noisy)).depth
    assert np.abs(found - true)[:, :30].std() < 0.4 * np.abs(noisy - true)[:, :30].std()
    np.testing.assert_allclose(found[4:-4], true[4:-4], rtol=0.03)


def test_a_reference_of_finer_pixels_is_averaged_not_picked_from():
    """One-pixel stripes of a picture four times as large are grey from here, not some of the stripes."""
    fine = CAMERA.resized(256, 192)
    stripes = np.zeros((192, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    reference = Keyframe(0, stripes, np.full((192, 256), 2.0, np.float32), fine, Pose.identity())
    warped = warp(reference, np.full((48, 64), 2.0, np.float32), Pose.identity(), CAMERA)
    assert warped.shown.all()
    np.testing.assert_allclose(warped.rgb.astype(int), 100, atol=2)


def test_a_surface_that_the_reference_looks_through_is_not_its_place():
    """Anchors draw a wall at 2 m; on its left the reference sees 5 m far, so that a board stands there which it missed.

    Its colour says nothing of the board: it would be a ghost. Specks of the same are noise, and a hole may be 5 m deep.
    """
    far = np.full((48, 64), 2.0, np.float32)
    far[:, :24] = 5.0
    far[::8, 40::8] = 5.0
    reference = Keyframe(0, np.full((48, 64, 3), 200, np.uint8), far, CAMERA, Pose.identity())
    depth = np.full((48, 64), 2.0)
    depth[:8, :8] = 0
    known = guide(anchors_at(depth), reference, Pose.identity(), CAMERA)
    expected = np.ones((48, 64), bool)
    expected[:, :24] = depth[:, :24] == 0
    np.testing.assert_array_equal(known[..., 7] > 0, expected)
    assert (known[expected][:, 3:6] == 200).all() and not known[~expected][:, 3:6].any()
    assert (known[:8, :8, :3] == 200).all() and (known[~expected][:, :3] == 100).all()


def test_an_empty_drawing_guides_nowhere():
    empty = render(AnchorMap().tiles, Pose.identity(), CAMERA)
    reference = Keyframe(0, np.full((48, 64, 3), 9, np.uint8), np.ones((48, 64), np.float32), CAMERA, Pose.identity())
    assert not guide(empty, reference, Pose.identity(), CAMERA).any()
