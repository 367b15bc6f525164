"""Synthetic clips: how their cameras move, and that a clip is exact and a function of its arguments."""

from __future__ import annotations

import math
import subprocess
import sys

from hypothesis import given, settings, strategies
import numpy as np
import pytest

from training.synthetic import trajectories
from training.synthetic.__main__ import main
from training.synthetic.clips import ClipSettings, SyntheticClips, studio, synthetic_clip
from training.synthetic.trajectories import CLEARANCE, TEMPLATES, Space, draw, look
from training.synthetic.views import SyntheticViews
from worldfm_ros.clips import LENGTH, REFERENCE_GROUP, TARGETS, cut
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.scene import Box, Light, Material, Scene
from worldfm_ros.sources.rgbd_folder import RgbdFolder

SMALL = ClipSettings(width=40, height=32, samples=1, texel=0.8)


def room(width: float = 5.0, furniture: int = 12) -> Scene:
    """A square room with low boxes in it."""
    rng = np.random.default_rng(2)
    grey, half = Material.hex("#909090"), width / 2.0
    walls = [Box((half * x, half * y, 1.25), (0.1 if x else width, 0.1 if y else width, 2.5), grey, 2)
             for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    things = [Box((*rng.uniform(-half, half, 2), 0.4), tuple(rng.uniform(0.2, 0.8, 3)), grey, 3, rng.uniform(0.0, 3.0))
              for _ in range(furniture)]
    levels = [Box((0.0, 0.0, z), (width, width, 0.1), grey, 1) for z in (-0.05, 2.55)]
    return Scene("room", [*walls, *levels, *things], [Light((0.0, 0.0, 2.0), (2.0, 2.0, 2.0))], (0.2, 0.2, 0.2),
                 {1: "floor", 2: "wall", 3: "box"})


@pytest.fixture(scope="module")
def space() -> Space:
    return Space.of(room())


def steps_and_turns(poses) -> tuple[np.ndarray, np.ndarray]:
    """Metres and degrees between consecutive cameras, from their matrices alone."""
    T = np.array([pose.matrix for pose in poses])
    relative = np.linalg.inv(T[:-1]) @ T[1:]
    cosine = (np.trace(relative[:, :3, :3], axis1=1, axis2=2) - 1.0) / 2.0
    return np.linalg.norm(relative[:, :3, 3], axis=1), np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


@pytest.mark.parametrize("name", TEMPLATES)
@given(seed=strategies.integers(0, 10**6))
@settings(max_examples=15)
def test_cameras_keep_clear_and_move_like_a_hand_or_a_robot(space, name, seed):
    poses = draw(space, np.random.default_rng(seed), [TEMPLATES[name]])
    assert len(poses) == LENGTH
    positions = np.array([pose.translation for pose in poses])
    assert space.scene.clearance(positions).min() > 0.2  # the whole scene, not only what is near
    for pose in poses:
        R = pose.rotation.as_matrix()
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) > 0 and R[2, 1] < -0.6  # the picture is upright: its down is the world's, tilted
    steps, turns = steps_and_turns(poses)
    assert steps.max() < 0.15 and turns.max() < 8.0
    assert ((steps > 0.02) | (turns > 1.0)).all()
    assert steps.sum() < 2.0 and turns.sum() < 100.0
    assert steps.sum() > 0.3 or turns.sum() > 15.0
    ahead = np.array([pose.apply([0.0, 0.0, 0.6]) for pose in poses])
    assert space.scene.clearance(ahead).min() > 0.0


def test_a_seed_gives_one_motion_and_another_seed_another(space):
    first, again, other = (draw(space, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert all((a.matrix == b.matrix).all() for a, b in zip(first, again, strict=True))
    assert not np.allclose(first[0].matrix, other[0].matrix)


def test_templates_do_what_they_are_named_after(space):
    for seed in range(5):
        cameras = {name: draw(space, np.random.default_rng(seed), [f]) for name, f in TEMPLATES.items()}
        positions = {name: np.array([p.translation for p in poses]) for name, poses in cameras.items()}
        gaze = {name: np.array([p.rotation.apply([0.0, 0.0, 1.0]) for p in poses]) for name, poses in cameras.items()}
        assert np.ptp(positions["turn"], axis=0).max() < 0.4
        assert 0.25 < positions["robot"][:, 2].min() and positions["robot"][:, 2].max() < 1.55
        assert np.ptp(positions["robot"][:, 2]) < 0.02
        ahead = (np.diff(positions["corridor"], axis=0)[:, :2] * gaze["corridor"][1:, :2]).sum(axis=1)
        assert (ahead > 0.0).all()
        level = gaze["orbit"][:, :2]  # the lines of sight meet in one point: least squares, then the misses
        across = np.stack([-level[:, 1], level[:, 0]], axis=1) / np.linalg.norm(level, axis=1, keepdims=True)
        offsets = (across * positions["orbit"][:, :2]).sum(axis=1)
        centre, *_ = np.linalg.lstsq(across, offsets, rcond=None)
        assert np.abs(across @ centre - offsets).max() < 0.1


def test_no_room_is_said_with_the_scene_and_the_templates():
    closet = Space.of(room(width=0.9, furniture=0))
    with pytest.raises(ValueError, match="'room' has no room .* corridor"):
        draw(closet, np.random.default_rng(0), [trajectories.corridor])


def test_a_clip_is_exact():
    clip = synthetic_clip("rooms", 3, SMALL)
    scene = studio("rooms", 3, SMALL.texel).space.scene
    assert len(clip.frames) == LENGTH and sorted((*REFERENCE_GROUP, *TARGETS)) == list(range(LENGTH))
    for frame in clip.frames[::5]:
        assert frame.rgb.shape == (32, 40, 3) and frame.rgb.dtype == np.uint8
        assert frame.depth.dtype == np.float32 and frame.labels.dtype == np.uint16
        seen = frame.depth > 0
        points = frame.T_world_camera.apply(frame.intrinsics.unproject(frame.depth))[seen]
        off = np.abs(scene.clearance(points))  # of elliptic solids only a bound
        assert seen.mean() > 0.9 and np.mean(off < 1e-4) > 0.9 and off.max() < 0.2  # points lie on surfaces
        assert set(np.unique(frame.labels[seen])) <= set(scene.label_names)
    assert 50.0 <= math.degrees(clip.frames[0].intrinsics.hfov) <= 100.0


def test_one_scene_serves_consecutive_clips_and_every_index_is_repeatable(monkeypatch):
    baked = []
    monkeypatch.setattr("training.synthetic.clips.RayCaster", lambda *args: baked.append(args) or RayCaster(*args))
    studio.cache_clear()
    clips = SyntheticClips(("rooms",), seed=1, count=5, settings=SMALL, clips_per_scene=3)
    names = [clip.name for clip in clips]
    assert len(baked) == 2 and len(set(names)) == 5
    assert len({name.split("-")[1] for name in names}) == 2
    studio.cache_clear()
    for index in (4, 1):  # another order, another process
        again, clip = SyntheticClips(("rooms",), 1, 5, SMALL, 3)[index], clips[index]
        assert again.name == names[index]
        for a, b in zip(again.frames, clip.frames, strict=True):
            np.testing.assert_array_equal(a.rgb, b.rgb)
            np.testing.assert_array_equal(a.depth, b.depth)
    assert clips[-1].name == names[4]
    with pytest.raises(IndexError):
        clips[5]


def test_a_view_keeps_clear_of_things(space):
    poses = [look(space, np.random.default_rng(seed)) for seed in range(30)]
    eyes = np.stack([pose.translation for pose in poses])
    assert space.scene.clearance(eyes).min() > CLEARANCE and np.ptp(eyes, axis=0).min() > 0.8
    walled = Space(space.scene, np.array([space.scene.primitives[0].centre[:2]]), space.boxes)
    with pytest.raises(ValueError, match="no room"):
        look(walled, np.random.default_rng(0))


def test_an_album_shows_several_scenes_from_all_over_and_is_repeatable():
    studio.cache_clear()
    albums = SyntheticViews(("rooms",), seed=1, count=2, settings=SMALL, per_scene=8)
    album = albums[1]
    assert [frame.index for frame in album.frames] == list(range(LENGTH)) and len(albums) == 2
    assert len({frame.intrinsics.fx for frame in album.frames}) == LENGTH
    eyes = np.stack([frame.T_world_camera.translation for frame in album.frames[:8]])
    assert np.linalg.norm(eyes[:, None] - eyes, axis=-1).max() > 2.0  # no film goes as far
    assert all((frame.depth > 0).mean() > 0.5 for frame in album.frames)
    studio.cache_clear()
    for a, b in zip(SyntheticViews(("rooms",), 1, 9, SMALL, 8)[1].frames, album.frames, strict=True):
        np.testing.assert_array_equal(a.rgb, b.rgb)
        np.testing.assert_array_equal(a.depth, b.depth)
    with pytest.raises(IndexError):
        albums[2]
    with pytest.raises(ValueError, match="5 views a scene"):
        SyntheticViews(("rooms",), 1, 2, SMALL, 5)


def test_photometry_differs_between_clips_and_not_within_one():
    plain = ClipSettings(width=40, height=32, samples=1, texel=0.8, stops=0.0, tint=0.0)
    gains = []
    for take in range(4):
        clip, neutral = (synthetic_clip("rooms", 3, s, take) for s in (SMALL, plain))
        mapped = {}
        for a, b in zip(clip.frames, neutral.frames, strict=True):
            np.testing.assert_array_equal(a.depth, b.depth)
            for channel in range(3):
                for before, after in zip(b.rgb[..., channel].ravel(), a.rgb[..., channel].ravel(), strict=True):
                    assert mapped.setdefault((channel, int(before)), int(after)) == after  # one curve for all frames
        gains.append(np.mean([f.rgb.mean() for f in clip.frames]) / np.mean([f.rgb.mean() for f in neutral.frames]))
    assert np.ptp(gains) > 0.05 and 0.6 < min(gains) and max(gains) < 1.5


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="castle.*rooms"):
        synthetic_clip("castle", 0)
    with pytest.raises(ValueError, match="rooms"):
        SyntheticClips(("castle",), 0, 4)
    with pytest.raises(ValueError, match="at least 1"):
        SyntheticClips(("rooms",), 0, 0)


def test_the_bench_prints_a_table_and_refuses_what_is_not_there():
    command = [sys.executable, "-m", "training.synthetic", "bench", "--families"]
    done = subprocess.run([*command, "rooms", "--texel", "2"], capture_output=True, text=True, check=True)
    assert "frames/s" in done.stdout and "numba" in done.stdout
    refused = subprocess.run([*command, "castle"], capture_output=True, text=True)
    assert refused.returncode == 2 and "castle" in refused.stderr and "rooms" in refused.stderr


def test_a_filmed_scene_is_an_rgbd_folder_of_whole_clips(tmp_path, monkeypatch, capsys):
    words = ["training.synthetic", "film", "rooms", "--seed", "3", "--clips", "1", "--out", str(tmp_path / "film")]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0
    (clip,) = cut(RgbdFolder(tmp_path / "film"), "film")
    assert clip.frames[0].rgb.shape == (256, 320, 3) and all((frame.depth > 0).any() for frame in clip.frames)
    assert main() == 2 and "exists; choose another name" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*words[:5], "--clips", "0", "--out", str(tmp_path / "none")])
    assert main() == 2 and "clips is 1 or more, got 0" in capsys.readouterr().err
