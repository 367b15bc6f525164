"""Black borders of pictures: found in every kind of source, hidden there, and of no dark place more than a rim."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import cv2
from hypothesis import given, settings, strategies
import numpy as np
from PIL import Image
import pytest
from scenes import CAMERA, room_frames, see_room, write_rgbd_folder
from test_clip_sources import FRAMES, bag_messages, transforms, write_bag, write_colmap_text

from worldfm_ros.cli.fitting import fitting
from worldfm_ros.painting.warp import Target, warp_references
from worldfm_ros.sources.borders import MIXED, WIDEST, border, find_borders
from worldfm_ros.sources.open import open_frames
from worldfm_ros.world.keyframes import NOT_LENT, Keyframe

RIGHT, BELOW = 2, 1  # pixels
SIZE = (60, 80)


def framed(frame, right=RIGHT, below=BELOW):
    """With a black border, through a JPEG's loss; what it hides is measured, as by multi-view stereo."""
    rgb = np.maximum(frame.rgb, 40)
    rgb[:, rgb.shape[1] - right:], rgb[rgb.shape[0] - below:] = 0, 0
    with BytesIO() as file:
        Image.fromarray(rgb).save(file, "JPEG", quality=97, subsampling=0)
        return replace(frame, rgb=np.array(Image.open(file)))


BORDERED = [framed(frame) for frame in FRAMES]


def as_colmap(path):
    write_colmap_text(write_rgbd_folder(path, BORDERED) / "sparse" / "0")
    (path / "rgb").rename(path / "images")
    return path


FORMS = {
    "rgbd": lambda path: write_rgbd_folder(path, BORDERED),
    "transforms": lambda path: transforms(write_rgbd_folder(path, BORDERED)),
    "colmap": as_colmap,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_source_hides_it_and_says_so(tmp_path, form, capsys):
    frames = open_frames(FORMS[form](tmp_path / "source"))
    height, width = frames[0].depth.shape
    hidden = np.zeros((height, width), bool)
    hidden[:, width - RIGHT - MIXED:], hidden[height - BELOW - MIXED:] = True, True
    for frame, plain in zip(frames, FRAMES, strict=True):
        np.testing.assert_array_equal(frame.scene, ~hidden)
        assert not frame.depth[hidden].any() and frame.intrinsics == frames.camera
        np.testing.assert_allclose(frame.depth[~hidden], plain.depth[~hidden], atol=6e-4)
    fitting(frames)
    assert "black border" in capsys.readouterr().err


def test_a_bag_without_one_and_a_short_source_are_as_they_were(tmp_path):
    bag, short = (open_frames(path) for path in (write_bag(tmp_path / "bag", bag_messages()),
                                                 write_rgbd_folder(tmp_path / "short", BORDERED[:2])))
    for frames in (bag, short):
        assert not frames.borders.masks and not frames.borders.notes
        for position, frame in enumerate(frames):
            stored = frames.read(position)
            assert frame.scene is None and np.array_equal(frame.rgb, stored.rgb)
            assert np.array_equal(frame.depth, stored.depth)


def test_a_picture_that_cannot_be_read_speaks_for_itself_alone(tmp_path):
    folder = write_rgbd_folder(tmp_path / "scan", BORDERED)
    broken = next((folder / "rgb").glob("000003.*"))
    broken.write_bytes(broken.read_bytes()[:80])
    frames = open_frames(folder)
    assert frames[0].scene is not None
    with pytest.raises(ValueError, match=broken.name):
        frames[3]


def test_a_bag_of_which_no_frame_can_be_used_has_none(tmp_path):
    frames = fitting(open_frames(write_bag(tmp_path / "bag", bag_messages(depth_late=30_000_000))))
    assert len(frames) == 0 and not frames.borders.masks


@settings(max_examples=60, deadline=None)
@given(strategies.lists(strategies.tuples(*(strategies.floats(0, 1) for _ in range(4))), min_size=1, max_size=4),
       strategies.integers(0, 60))
def test_a_dark_place_loses_a_rim_at_most(places, level):
    """Whatever is black in all pictures, as at night before a camera that stands still."""
    rgb = np.full((*SIZE, 3), 120, np.uint8)
    for x, y, w, h in places:
        top, left = round(y * SIZE[0]), round(x * SIZE[1])
        rgb[top:top + 1 + round(h * SIZE[0]), left:left + 1 + round(w * SIZE[1])] = level
    found = border([replace(BORDERED[0], rgb=rgb, depth=np.ones(SIZE, np.float32))] * 3)
    away = cv2.distanceTransform(np.pad(np.ones(SIZE, np.uint8), 1), cv2.DIST_C, 3)[1:-1, 1:-1]
    assert not found[away > WIDEST * SIZE[0] + MIXED + 1].any()


@pytest.mark.parametrize("deep", [True, False])
def test_a_wide_black_wall_stays(deep):
    rgb = np.full((*SIZE, 3), 120, np.uint8)
    rgb[:, :12 if deep else 2] = 3
    frame = replace(BORDERED[0], rgb=rgb, depth=np.ones(SIZE, np.float32))
    assert border([frame] * 3).any() != deep
    lit = replace(frame, rgb=np.full((*SIZE, 3), 120, np.uint8))
    assert not find_borders([frame, frame, lit]).masks, "once it was seen lit"


def test_what_a_mask_hides_may_have_a_black_rim():
    rgb, scene = np.full((*SIZE, 3), 120, np.uint8), np.ones(SIZE, bool)
    scene[40:] = False
    rgb[38:] = 0
    frame = replace(BORDERED[0], rgb=rgb, depth=np.ones(SIZE, np.float32), scene=scene)
    found = border([frame] * 3)
    assert found[38:40].all() and not found[:38 - MIXED].any() and not found[40:].any()


def test_a_reference_shows_nothing_of_it():
    frames = [framed(frame) for frame in room_frames(4)]
    masks = find_borders(frames)
    keyframe = Keyframe.of(masks.hidden(frames[1]))
    assert keyframe.rgb.min() > 30 and (keyframe.depth[:, -RIGHT - MIXED:] == NOT_LENT).all()
    there = see_room(frames[1].T_world_camera)
    target = Target(there.depth, frames[1].T_world_camera, CAMERA)
    seen = warp_references([keyframe], target)
    assert not seen.shown[0, :, -RIGHT - MIXED:].any() and seen.shown[0, :-6, :-6].mean() > 0.9
