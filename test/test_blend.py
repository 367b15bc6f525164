"""The frame model without a network: what it takes from where, seams, holes, and input that says little."""

import cv2
import numpy as np
import pytest
from scenes import room_poses, see_room
from scipy.spatial.transform import Rotation

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.blend import Blend, blend, fill
from worldfm_ros.painting.warp import Target, warp_references
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

CAMERA = Intrinsics.from_hfov(160, 120, 1.2)
HERE = Pose.identity()


def drawing_of(frame, covered=None):
    covered = np.ones(frame.depth.shape, bool) if covered is None else covered
    labels = np.zeros(covered.shape, np.uint16)
    return AnchorView(frame.rgb * covered[..., None], frame.depth * covered, labels, covered)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def wall(level, depth=2.0, pose=HERE, id=0):
    """A keyframe of a wall with a gentle pattern about a grey level."""
    size = (CAMERA.height, CAMERA.width)
    pattern = 20 * np.sin(np.arange(size[1]) / 9.0)[None, :, None] * np.ones((size[0], 1, 3))
    rgb = np.clip(level * (1 + pattern / 128), 0, 255).astype(np.uint8)
    return Keyframe(id, rgb, np.full(size, depth, np.float32) * np.ones(size, np.float32), CAMERA, pose)


def blank(z=2.0, covered=True):
    size = (CAMERA.height, CAMERA.width)
    covered = np.full(size, covered)
    return AnchorView(np.zeros((*size, 3), np.uint8), np.full(size, z, np.float32), np.zeros(size, np.uint16), covered)


def test_more_references_paint_a_room_better_than_one():
    poses = room_poses(24)
    target = see_room(poses[2], CAMERA)
    rng = np.random.default_rng(0)
    keyframes = []
    for k in (1, 3, 4):
        frame = see_room(poses[k], CAMERA)
        noisy = np.clip(frame.rgb + rng.normal(0, 12, frame.rgb.shape), 0, 255).astype(np.uint8)
        keyframes.append(Keyframe(k, noisy, frame.depth, CAMERA, poses[k]))
    covered = np.ones(target.depth.shape, bool)
    covered[30:80, 40:120] = False
    drawing = drawing_of(target, covered)
    drawing.rgb[:] = 0.7 * drawing.rgb
    scores = [psnr(Blend().paint(drawing, keyframes[:k], poses[2], CAMERA), target.rgb) for k in (0, 1, 3)]
    assert scores[0] < scores[1] - 3 and scores[1] < scores[2]


def test_no_seam_is_seen_between_two_exposures():
    """Two keyframes show the halves of a wall and overlap in the middle, one of them a third brighter."""
    left, right = wall(120, id=0), wall(160, id=1)
    left.depth[:, 100:], right.depth[:, :60] = 0.5, 0.5  # hidden there
    drawing = blank()
    drawing.rgb[:] = wall(120).rgb
    painted = Blend().paint(drawing, [left, right], HERE, CAMERA).astype(int)
    steps = np.abs(np.diff(painted, axis=1))
    assert steps.max() <= np.abs(np.diff(wall(120).rgb.astype(int), axis=1)).max() + 2
    np.testing.assert_allclose(painted, wall(120).rgb, atol=4)


def test_the_nearer_ray_counts_more():
    """Of two pictures that do not agree, and are too few pixels to be balanced, the one from nearby wins."""
    near, far = wall(200), wall(100, pose=Pose(Rotation.identity(), [0.9, 0.0, 0.0]), id=1)
    depth = np.full((CAMERA.height, CAMERA.width), 2.0, np.float32)
    for references in ([near, far], [far, near]):
        warped = warp_references(references, Target(depth, HERE, CAMERA))
        warped.rgb[:] = np.array([[200 if r is near else 100] * 3 for r in references], np.uint8)[:, None, None]
        rgb, known = blend(blank().rgb, np.zeros(depth.shape, bool), warped)
        both = warped.shown.all(0) & (warped.quality[..., 4] == 255).all(0)
        assert known[both].all() and both.mean() > 0.3
        assert (rgb[both] > 155).all()


def test_a_board_that_a_reference_looks_past_keeps_the_drawings_colour():
    reference = wall(200, depth=5.0)
    drawing = blank(2.0)
    drawing.rgb[:] = 90
    np.testing.assert_array_equal(Blend().paint(drawing, [reference], HERE, CAMERA), 90)


def test_the_bytes_do_not_depend_on_the_number_of_threads():
    references = [wall(120), wall(130, pose=Pose(Rotation.identity(), [0.2, 0.0, 0.0]), id=1)]
    depth = np.full((CAMERA.height, CAMERA.width), 2.0, np.float32)
    warped = warp_references(references, Target(depth, HERE, CAMERA))
    drawn = np.random.default_rng(0).random(depth.shape) < 0.5
    one, three = (blend(blank().rgb, drawn, warped, threads) for threads in (1, 3))
    for a, b in zip(one, three, strict=True):
        assert a.tobytes() == b.tobytes()


def test_holes_are_filled_from_what_is_around():
    rgb = np.zeros((60, 80, 3), np.uint8)
    rgb[:, :30], rgb[:, 50:] = 40, 200
    holes = np.zeros((60, 80), bool)
    holes[:, 30:50] = True
    filled = fill(rgb, holes)
    np.testing.assert_array_equal(filled[~holes], rgb[~holes])
    line = filled[30, 28:52, 0].astype(int)
    assert (np.diff(line) >= 0).all() and 40 <= line.min() and line.max() <= 200 and 90 < line[12] < 160
    assert filled is not rgb and not rgb[holes].any()


@pytest.mark.parametrize("size", [(1, 1), (17, 9), (640, 80), (80, 640)])
def test_any_size_and_any_number_of_references_give_a_picture(size):
    camera = Intrinsics.from_hfov(*size, 0.9)
    pose = room_poses(12)[0]
    target = see_room(pose, camera)
    covered = np.zeros(target.depth.shape, bool)
    covered[:1 + size[1] // 2] = True
    sizes = (camera, camera.resized(2 * size[0] + 1, 3 * size[1]), camera.resized(1, 1))
    keyframes = [Keyframe(k, f.rgb, f.depth, f.intrinsics, pose)
                 for k, f in enumerate(see_room(pose, c) for c in sizes)]
    blind = Keyframe(9, keyframes[0].rgb, np.zeros_like(keyframes[0].depth), camera, pose)
    away = Keyframe(10, keyframes[0].rgb, keyframes[0].depth, camera,
                    pose @ Pose(Rotation.from_rotvec([0.0, np.pi, 0.0]), np.zeros(3)))
    for references in ([], keyframes[:1], keyframes, [blind], [away], [away, blind, keyframes[1]]):
        painted = Blend().paint(drawing_of(target, covered), references, pose, camera)
        assert painted.shape == (size[1], size[0], 3) and painted.dtype == np.uint8
    np.testing.assert_allclose(Blend().paint(drawing_of(target, covered), [blind], pose, camera).astype(int),
                               target.rgb, atol=2)


def test_nothing_drawn_is_black():
    empty = AnchorView.empty(CAMERA)
    assert not Blend().paint(empty, [wall(100)], HERE, CAMERA).any()


def test_a_picture_is_as_sharp_as_its_photograph_at_any_size():
    """The Laplacian of what is painted from one sharp photograph at its own, half and twice its size."""
    rng = np.random.default_rng(0)
    fine = CAMERA.resized(320, 240)
    sharp = cv2.resize(rng.integers(0, 255, (60, 80, 3)).astype(np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    reference = Keyframe(0, sharp, np.full((240, 320), 2.0, np.float32), fine, HERE)
    for width in (160, 320, 640):
        camera = CAMERA.resized(width, 3 * width // 4)
        size = (camera.height, camera.width)
        drawing = AnchorView(np.zeros((*size, 3), np.uint8), np.full(size, 2.0, np.float32), np.zeros(size, np.uint16),
                             np.ones(size, bool))
        moved = Pose(Rotation.from_rotvec([0.0, 0.0, 0.01]), [0.01, 0.007, 0.0])
        painted = Blend().paint(drawing, [reference], moved, camera)[8:-8, 8:-8]
        true = cv2.resize(sharp, (camera.width, camera.height), interpolation=cv2.INTER_AREA if width < 320 else
                          cv2.INTER_CUBIC)[8:-8, 8:-8]
        ratio = cv2.Laplacian(painted, cv2.CV_32F).var() / cv2.Laplacian(true, cv2.CV_32F).var()
        assert 0.7 < ratio < 1.3, width
