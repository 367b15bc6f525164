"""Pairs and batches for training: the evaluation protocol, each kind of corruption, and an order that cannot drift."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import errno
import multiprocessing
import os
import zlib

from hypothesis import given, settings, strategies
import numpy as np
import pytest
from scenes import see_room
from scipy.spatial.transform import Rotation
import torch

from training.batch import Batch
from training.data.cloud import Density, one_a_voxel, thinned
from training.data.contact_sheet import PAIR_COLUMNS, VIEW_COLUMNS, contact_sheet, pair_cells, view_cells
from training.data.corruption import Amounts, corrupt_depth, corrupt_frame, quantise, with_flying_pixels
from training.data.loader import PairSettings, loader, plan
from training.data.pairs import Corruption, make_pair, painted_over
from worldfm_ros.clips import LENGTH, TARGETS, Clip, unprojected
from worldfm_ros.frame_model.imaging import resize
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.guide import guide
from worldfm_ros.painting.learned import photograph
from worldfm_ros.sources.checks import agreement, problem
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import render

SIZE = (48, 48)
NONE = Corruption.none()
NOTHING_HAPPENS = replace(NONE, target_blurred=1e-12)  # but takes the way of a corrupted pair
FULL = Amounts(*[1.0] * 7)


def room_clip(name="clip", turn=0.0) -> Clip:
    """A slow walk with a turn."""
    angles = turn + np.linspace(0, 0.5, LENGTH)
    eyes = [np.array([0.05 * k - 0.4, 0.02 * k, 1.2]) for k in range(LENGTH)]
    frames = [see_room(Pose.looking_at(eye, eye + [np.cos(a), np.sin(a), -0.2]), index=k)
              for k, (eye, a) in enumerate(zip(eyes, angles, strict=True))]
    return Clip(name, tuple(frames))


CLIP = room_clip()


def same(a, b) -> bool:
    names = ("target", "drawing", "coverage", "reference", "guide")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


# ---- pairs


@pytest.mark.parametrize("target, size", [(1, (48, 48)), (7, (30, 64)), (15, (120, 160))])
def test_without_corruption_a_pair_is_the_evaluation_protocol(target, size):
    pair = make_pair(CLIP, target, size, NONE, 3)
    height, width = size
    asked = Intrinsics.from_hfov(width, height, 1.0)
    photo = photograph(Keyframe.of(CLIP.frames[target]), asked, width, height)
    reference = photograph(Keyframe.of(CLIP.frames[CLIP.closest(target)]), asked, width, height)
    np.testing.assert_array_equal(pair.target, resize(photo.rgb, width, height))
    np.testing.assert_array_equal(pair.reference, resize(reference.rgb, width, height))
    assert pair.target_intrinsics == photo.intrinsics and pair.reference_intrinsics == reference.intrinsics
    pose = CLIP.frames[target].T_world_camera
    drawing = render(AnchorMap.from_cloud(CLIP.anchors()).visible(pose, photo.intrinsics), pose, photo.intrinsics)
    np.testing.assert_array_equal(pair.drawing, drawing.rgb)
    np.testing.assert_array_equal(pair.coverage, drawing.coverage)
    keyframe = Keyframe.of(CLIP.frames[CLIP.closest(target)])
    np.testing.assert_array_equal(pair.guide, guide(drawing, keyframe, pose, photo.intrinsics))
    assert pair.T_world_target is pose and pair.T_world_reference is keyframe.T_world_camera


def test_the_fast_cloud_is_the_clips_cloud_up_to_rounding():
    for target in (1, 7, 15):
        exact, fast = make_pair(CLIP, target, SIZE, NONE, 0), make_pair(CLIP, target, SIZE, NOTHING_HAPPENS, 0)
        assert np.mean(exact.coverage == fast.coverage) > 0.995
        assert np.mean(np.all(exact.drawing == fast.drawing, axis=-1)) > 0.99
        np.testing.assert_array_equal(exact.reference, fast.reference)


def test_a_pair_is_a_function_of_its_arguments():
    pairs = [make_pair(CLIP, 7, SIZE, Corruption.default(), seed) for seed in (5, 5, 6)]
    assert same(pairs[0], pairs[1]) and not same(pairs[0], pairs[2])
    assert [pair.seed for pair in pairs] == [5, 5, 6]


HAND = np.uint8(0)  # black, which the room is nowhere


def clip_with_hand() -> Clip:
    """The robot's own hand is at the same place of every picture, and has no depth."""
    scene = np.ones(CLIP.frames[0].depth.shape, bool)
    scene[35:, 20:50] = False
    frames = (replace(frame, rgb=np.where(scene[..., None], frame.rgb, HAND), depth=frame.depth * scene, scene=scene)
              for frame in CLIP.frames)
    return Clip("hand", tuple(frames))


@pytest.mark.parametrize("target, size", [(7, (60, 80)), (15, (48, 48)), (4, (90, 120))])
@pytest.mark.parametrize("corruption", [NONE, Corruption.default(), replace(NONE, masked=1.0)])
def test_what_is_not_the_scene_is_painted_over(target, size, corruption):
    clip = clip_with_hand()
    for seed in range(3):
        pair, bare = (make_pair(c, target, size, corruption, seed) for c in (clip, CLIP))
        assert pair.target.sum(-1).min() > 90
        assert np.mean(pair.reference.sum(-1) < 30) < 0.01, "but for what a blur has carried out of it"
        if corruption == NONE:  # the whole room's picture is known: what is painted is close to it
            assert np.abs(pair.target.astype(int) - bare.target).mean() < 2
            changed = np.any(pair.target != bare.target, axis=-1)
            assert 0.02 < changed.mean() < 0.4
            drawn = changed & (pair.guide[..., 6] > 0)
            np.testing.assert_allclose(pair.target[drawn], pair.drawing[drawn].astype(int), atol=8)


def test_a_target_without_any_scene_is_left_alone():
    photo = np.full((4, 4, 3), 9, np.uint8)
    assert painted_over(photo, np.zeros((4, 4), bool), np.zeros((4, 4, 8), np.uint8)) is photo


def test_the_clip_is_left_alone():
    before = [(frame.rgb.copy(), frame.depth.copy()) for frame in CLIP.frames]
    for seed in range(8):
        make_pair(CLIP, TARGETS[seed], SIZE, Corruption.default(), seed)
    for frame, (rgb, depth) in zip(CLIP.frames, before, strict=True):
        np.testing.assert_array_equal(frame.rgb, rgb)
        np.testing.assert_array_equal(frame.depth, depth)


@pytest.mark.parametrize("corruption", [replace(NONE, masked=1.0), replace(NONE, missing_frame=1.0)])
def test_a_masked_drawing_leaves_the_reference_and_no_guide(corruption):
    pair = make_pair(CLIP, 7, SIZE, corruption, 0)
    assert not pair.drawing.any() and not pair.coverage.any() and not pair.guide.any()
    assert pair.reference.any() and pair.target.any()


@pytest.mark.parametrize("strength, changes", [
    (dict(keep=(0.1, 0.1)), "drawing"), (dict(shuffled=1.0, shuffle=0.2), "drawing"),
    (dict(boxes=3, box=0.9), "drawing"), (dict(border=0.4), "drawing"), (dict(holes=3, hole=0.9), "drawing"),
    (dict(voxels=1.0, voxel=(0.1, 0.1)), "drawing"),
    (dict(splats=1.0, splat=(3.0, 3.0)), "drawing"), (dict(sensor=0.1), "drawing"), (dict(warp=0.1), "drawing"),
    (dict(quantised=1.0, step=0.1), "drawing"), (dict(position=0.05), "drawing"), (dict(exposure=0.3), "reference"),
    (dict(white_balance=0.3), "reference"), (dict(image_noise=40.0), "reference"),
    (dict(blurred=1.0, blur=(0.2, 0.2)), "reference"), (dict(target_blurred=1.0, blur=(0.2, 0.2)), "target"),
])  # fmt: skip
def test_each_strength_does_what_it_says_and_the_target_is_exact(strength, changes):
    plain = make_pair(CLIP, 7, SIZE, NOTHING_HAPPENS, 0)
    pairs = [make_pair(CLIP, 7, SIZE, replace(NONE, **strength), seed) for seed in range(3)]
    difference = [np.abs(getattr(pair, changes).astype(int) - getattr(plain, changes)).mean() for pair in pairs]
    assert max(difference) > 0.1
    for pair in pairs:
        assert pair.T_world_target is plain.T_world_target
        assert changes == "target" or np.array_equal(pair.target, plain.target)


def test_reference_poses_are_off_by_as_much_as_asked():
    corruption = replace(NONE, position=0.01, rotation=0.02)
    true = CLIP.frames[CLIP.closest(7)].T_world_camera
    off = [true.inverse() @ make_pair(CLIP, 7, (8, 8), corruption, seed).T_world_reference for seed in range(120)]
    rms = np.sqrt(4 / 3)  # of a factor that is uniform in 0..2
    assert np.std([pose.translation for pose in off]) == pytest.approx(0.01 * rms, rel=0.2)
    assert np.std([pose.rotation.as_rotvec() for pose in off]) == pytest.approx(0.02 * rms, rel=0.2)


def test_sensor_noise_grows_with_the_square_of_the_depth():
    rng = np.random.default_rng(0)
    for z in (1.0, 3.0):
        noise = corrupt_depth(np.full((200, 200), z, np.float32), replace(NONE, sensor=0.01), FULL, rng) - z
        assert noise.std() == pytest.approx(0.01 * z**2, rel=0.1)


@given(strategies.floats(0.3, 10), strategies.floats(0.001, 0.01))
def test_quantised_depth_is_within_half_a_step(z, step):
    (quantised,) = quantise(np.array([z], np.float32), step)
    assert abs(1 / quantised - 1 / z) * 1.0 <= 0.5 * step + 1e-5
    assert quantise(np.zeros(1, np.float32), step)[0] == 0


def test_flying_pixels_lie_between_the_two_surfaces_of_an_edge():
    depth = np.full((20, 30), 1.0, np.float32)
    depth[:, 15:] = 2.0
    flown = with_flying_pixels(depth, 1.0, np.random.default_rng(0))
    rows, columns = np.nonzero(flown != depth)
    assert len(rows) > 10 and set(columns) <= {14, 15} and np.all((flown >= 1) & (flown <= 2))


@pytest.mark.parametrize("stride", [2, 3])
def test_a_thinned_frame_sees_some_of_the_same_points(stride):
    frame = CLIP.frames[0]
    some, every = unprojected([thinned(frame, stride, np.random.default_rng(1))]), unprojected([frame])
    distance = np.abs(some.points[:, None] - every.points).sum(-1)
    assert len(some) == pytest.approx(len(every) / stride**2, rel=0.1) and distance.min(1).max() < 1e-6
    np.testing.assert_array_equal(some.colors, every.colors[distance.argmin(1)])


def test_density_keeps_the_share_that_was_asked_for():
    rng = np.random.default_rng(0)
    for keep in (1.0, 0.5, 0.25, 0.2, 0.1):
        density = Density.draw(replace(NONE, keep=(keep, keep)), rng)
        assert density.fraction / density.stride**2 == pytest.approx(keep)


@given(strategies.integers(0, 2**32), strategies.floats(0.05, 0.5))
@settings(max_examples=20)
def test_one_anchor_is_left_in_a_voxel(seed, voxel):
    points = np.random.default_rng(seed).uniform(-2, 2, (500, 3)).astype(np.float32)
    cells = [tuple(c) for c in np.floor(points * np.float32(1 / voxel)).astype(int)]
    kept = [cells[k] for k in one_a_voxel(points, voxel)]
    assert len(set(kept)) == len(kept) >= 0.98 * len(set(cells))


def test_a_corrupted_frame_is_still_a_frame():
    for seed in range(10):
        frame = corrupt_frame(CLIP.frames[0], Corruption.default(), FULL, np.random.default_rng(seed))
        assert frame.depth.dtype == np.float32 and np.isfinite(frame.depth).all() and frame.depth.min() >= 0
        assert frame.rgb.dtype == np.uint8 and frame.rgb.shape == CLIP.frames[0].rgb.shape


# ---- which clips are good


def test_a_good_clip_has_no_problem_and_its_views_agree():
    assert problem(CLIP) is None
    assert agreement(CLIP.frames[0], CLIP.frames[13]) > 0.95


OPENGL = Pose(Rotation.from_matrix(np.diag([1.0, -1.0, -1.0])), np.zeros(3))


@pytest.mark.parametrize("convention", [Pose.inverse, lambda pose: pose @ OPENGL])
def test_poses_of_another_convention_are_found(convention):
    frames = tuple(replace(frame, T_world_camera=convention(frame.T_world_camera)) for frame in CLIP.frames)
    assert "poses do not match" in problem(Clip("wrong", frames))


def test_what_is_missing_in_a_clip_is_found():
    blind = Clip("blind", tuple(replace(frame, depth=0 * frame.depth) for frame in CLIP.frames))
    assert "has depth" in problem(blind)
    cut = Clip("cut", tuple(replace(frame, depth=frame.depth[1:]) for frame in CLIP.frames))
    assert "differ in size" in problem(cut)
    shifts = [Pose(Rotation.identity(), [0.0, 0.0, 100.0 * k]) for k in range(LENGTH)]
    apart = [replace(f, T_world_camera=shift @ f.T_world_camera) for shift, f in zip(shifts, CLIP.frames, strict=True)]
    assert "same place" in problem(Clip("apart", tuple(apart)))


# ---- batches

SOURCE = [room_clip(f"clip {k}", turn=float(k)) for k in range(5)]
SETTINGS = PairSettings(batch=8, sizes=((24, 24), (16, 32)), corruption=Corruption.default(), seed=4)


def assert_equal(a, b):
    for name in ("target", "drawing", "coverage", "reference", "guide"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert a.seeds == b.seeds and torch.equal(a.cameras.w2c, b.cameras.w2c) and torch.equal(a.cameras.K, b.cameras.K)


@pytest.fixture(scope="module")
def batches():
    return list(loader(SOURCE, SETTINGS, 0, 5))


def test_batches_are_those_of_the_plan(batches):
    assert len(batches) == 5 and {batch.target.shape for batch in batches} == {(8, 3, 24, 24), (8, 3, 16, 32)}
    size, samples = plan(len(SOURCE), SETTINGS, 3)
    for k, sample in enumerate(samples):
        pair = make_pair(SOURCE[sample.clip], sample.target, size, SETTINGS.corruption, sample.seed)
        target = torch.from_numpy(pair.target).permute(2, 0, 1).float() / 127.5 - 1
        assert torch.equal(batches[3].target[k], target) and batches[3].seeds[k] == sample.seed


def test_a_signal_to_the_whole_job_does_not_reach_the_workers():
    others = set(multiprocessing.active_children())
    batches = iter(loader(SOURCE, replace(SETTINGS, workers=1), 0, 2))
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - others
    assert os.getpgid(worker.pid) == worker.pid != os.getpgrp()
    next(batches)


def test_workers_make_the_same_batches(batches):
    for alone, shared in zip(batches, loader(SOURCE, replace(SETTINGS, workers=2), 0, 5), strict=True):
        assert_equal(alone, shared)


def test_a_resumed_loader_goes_on_with_the_same_batches(batches):
    for whole, resumed in zip(batches[3:], loader(SOURCE, SETTINGS, 3, 5), strict=True):
        assert_equal(whole, resumed)


def test_the_shares_of_two_processes_are_the_batch_of_one(batches):
    shares = [list(loader(SOURCE, SETTINGS, 0, 5, rank, 2)) for rank in range(2)]
    for whole, first, second in zip(batches, *shares, strict=True):
        assert whole.seeds == first.seeds + second.seeds
        for name in ("target", "drawing", "coverage", "reference", "guide"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(first, name), getattr(second, name)]))


@given(clips=strategies.integers(1, 40), batch=strategies.integers(1, 20), per_clip=strategies.integers(1, 12),
       seed=strategies.integers(0, 1000))
@settings(max_examples=40)
def test_every_epoch_uses_every_clip_once(clips, batch, per_clip, seed):
    asked = PairSettings(batch=batch, sizes=(SIZE,), corruption=NONE, seed=seed, targets_per_clip=per_clip)
    used, seeds = [], []
    while len(used) < 3 * clips:
        size, samples = plan(clips, asked, len(seeds) // batch)
        assert size == SIZE and len(samples) == batch and {s.target for s in samples} <= set(TARGETS)
        groups = [samples[k:k + per_clip] for k in range(0, batch, per_clip)]
        assert all(len({s.clip for s in group}) == 1 for group in groups)
        assert all(len({s.target for s in group}) == len(group) for group in groups)
        used += [group[0].clip for group in groups]
        seeds += [sample.seed for sample in samples]
    assert len(set(seeds)) == len(seeds)
    for epoch in range(3):
        assert Counter(used[epoch * clips:(epoch + 1) * clips]) == Counter(range(clips))


@pytest.mark.parametrize("change, message", [
    (dict(batch=0), "at least one pair"), (dict(sizes=()), "one size"), (dict(workers=-1), "not negative"),
    (dict(targets_per_clip=13), "12 targets"), (dict(distinct=0), "1 step or more"),
])  # fmt: skip
def test_settings_that_make_no_batch_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **change)


def test_distinct_steps_come_again_with_their_seeds():
    again = replace(SETTINGS, distinct=3)
    plans = [plan(len(SOURCE), again, step) for step in range(9)]
    assert plans[:3] == plans[3:6] == plans[6:] == [plan(len(SOURCE), SETTINGS, step) for step in range(3)]
    seeds = [sample.seed for _, samples in plans[:3] for sample in samples]
    assert len(set(seeds)) == 3 * SETTINGS.batch
    batches = list(loader(SOURCE, replace(again, batch=1, sizes=((8, 8),)), 0, 4))
    assert_equal(batches[0], batches[3])


def test_uneven_shares_and_empty_sources_are_refused():
    with pytest.raises(ValueError, match="evenly"):
        loader(SOURCE, SETTINGS, 0, 1, 0, 3)
    with pytest.raises(ValueError, match="no clips"):
        loader([], SETTINGS, 0, 1)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error, message", [
    (ValueError("shard-000003.tar is damaged"), "shard-000003.tar is damaged"),
    (OSError(errno.EIO, "Input/output error", "shard-000003.tar"), "Input/output error: 'shard-000003.tar'"),
])  # fmt: skip
def test_a_clip_that_fails_stops_the_loader_with_one_line(workers, error, message):
    class Broken(list):
        def __getitem__(self, number):
            raise error

    with pytest.raises(ValueError) as told:
        next(iter(loader(Broken(SOURCE), replace(SETTINGS, workers=workers), 0, 2)))
    assert str(told.value).endswith(message) and len(str(told.value).splitlines()) == 1


def test_a_loader_draws_nothing_from_the_global_generator():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    next(iter(loader(SOURCE, replace(SETTINGS, batch=1, sizes=((8, 8),)), 0, 1)))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_samples_random_numbers_never_change():
    """Stored teacher pairs are found by seeds: their noise must be the same for ever."""
    pair = replace(make_pair(CLIP, 1, (8, 8), NONE, 0), seed=(1 << 61) + 12345)
    drawn = Batch.collate([pair]).randn("pair noise", 2)
    mixed = (pair.seed * 0x9E3779B97F4A7C15 + zlib.crc32(b"pair noise")) % 2**32
    assert torch.equal(drawn[0], torch.randn(2, generator=torch.Generator().manual_seed(mixed)))


def test_a_contact_sheet_has_a_row_for_each_pair():
    pairs = [pair_cells(make_pair(CLIP, target, SIZE, NONE, 0)) for target in (1, 2)]
    one, two = contact_sheet(pairs[:1], PAIR_COLUMNS), contact_sheet(pairs, PAIR_COLUMNS)
    assert two.shape[0] - one.shape[0] >= SIZE[0] and two.shape[1] >= len(PAIR_COLUMNS) * SIZE[1]
    views = contact_sheet([[cell for frame in CLIP.frames[:2] for cell in view_cells(frame)]], VIEW_COLUMNS)
    assert views.shape[1] >= len(VIEW_COLUMNS) * CLIP.frames[0].rgb.shape[1]
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], PAIR_COLUMNS)
