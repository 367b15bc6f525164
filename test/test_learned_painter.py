"""The learned frame model as the generator uses it: any size, the bytes that are promised, references encoded once."""

import hashlib
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
from scenes import room_poses, see_room
from tiny_models import randomized, tiny_model, tiny_settings, tiny_taesd, tiny_transformer
import torch

from worldfm_ros import share
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import LoadedModel, save_model_folder
from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.painting import learned
from worldfm_ros.painting.guide import guide
from worldfm_ros.painting.learned import (
    EncodedReferences,
    LearnedPainter,
    PaintError,
    Photograph,
    load_painter,
    nearest_size,
)
from worldfm_ros.share import find_model
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

POSES = room_poses()
CAMERA = Intrinsics.from_hfov(48, 32, 1.2)


def draw(pose, camera=CAMERA):
    """A drawing of the room with a hole in it."""
    frame = see_room(pose, camera)
    hole = np.zeros(frame.depth.shape, bool)
    hole[:camera.height // 3, :camera.width // 4] = True
    for image in (frame.rgb, frame.depth, frame.labels):
        image[hole] = 0
    return AnchorView(frame.rgb, frame.depth, frame.labels, ~hole)


def keyframe(i, id=None):
    frame = see_room(POSES[i])
    return Keyframe(i if id is None else id, frame.rgb, frame.depth, frame.intrinsics, frame.T_world_camera)


def paint(painter, i=0, reference=None, camera=CAMERA):
    return painter.paint(draw(POSES[i], camera), [] if reference is None else [reference], POSES[i], camera)


@pytest.mark.parametrize("attention", ["full", "cached"])
@pytest.mark.parametrize("camera_encoding", ["none", "prope", "plucker", "parametric"])
@pytest.mark.parametrize("noise", ["seeded", "world"])
def test_a_frame_depends_on_what_is_given_and_on_nothing_else(attention, camera_encoding, noise):
    model = tiny_model(tiny_settings(noise=noise), attention=attention, camera_encoding=camera_encoding)
    if camera_encoding in ("plucker", "parametric"):
        assert model.transformer.camera_encoder.projector[2].weight.any()
    painter = LearnedPainter(model, seed=1)
    first = paint(painter, 0, keyframe(0))
    assert first.shape == (32, 48, 3) and first.dtype == np.uint8 and first.std() > 5
    for i, reference in ((1, keyframe(1)), (2, None), (3, keyframe(0))):  # other frames in between leave no trace
        assert (paint(painter, i, reference) != first).any()
    assert np.array_equal(paint(painter, 0, keyframe(0)), first)
    assert np.array_equal(paint(LearnedPainter(model, seed=1), 0, keyframe(0)), first)
    assert (paint(LearnedPainter(model, seed=2), 0, keyframe(0)) != first).any()
    assert (paint(painter, 0, keyframe(1)) != first).any()


@pytest.mark.parametrize("settings", [{"steps": 1}, {"steps": 4}, {"prediction_type": "epsilon"}, {"t_mid": 500}])
def test_sampling_settings_are_used(settings):
    usual, other = (LearnedPainter(tiny_model(tiny_settings(**changes))) for changes in ({}, settings))
    assert (paint(usual, 0, keyframe(0)) != paint(other, 0, keyframe(0))).any()


def test_a_network_with_variance_channels_paints_with_the_others():
    painter = LearnedPainter(tiny_model(predicts_variance=True))
    assert paint(painter, 0, keyframe(0)).std() > 5


@pytest.mark.parametrize("size", [(48, 32), (97, 61), (20, 90), (1, 1), (640, 480)])
def test_any_size_may_be_asked(size):
    camera = Intrinsics.from_hfov(*size, 1.0)
    assert paint(LearnedPainter(tiny_model()), 0, keyframe(0), camera).shape == (size[1], size[0], 3)


def guided_model(**changes):
    autoencoder = randomized(GuidedAutoencoder(4, (8, 12, 16), blocks=1), seed=2)
    return LoadedModel(tiny_settings(**changes), tiny_transformer(), LatentCodec(autoencoder))


@pytest.mark.parametrize("size", [(48, 32), (96, 64), (97, 61), (321, 241), (848, 480), (640, 360), (800, 600),
                                  (1920, 1080), (20, 90), (7, 5), (1, 1)])
def test_a_guided_model_paints_any_size(size):
    camera = Intrinsics.from_hfov(*size, 1.0)
    assert paint(LearnedPainter(guided_model()), 0, keyframe(0), camera).shape == (size[1], size[0], 3)


def test_the_guide_keeps_its_channels_when_it_is_resized():
    painter, camera = LearnedPainter(guided_model()), Intrinsics.from_hfov(122, 81, 1.0)
    drawn = Photograph(np.zeros((32, 48, 3), np.uint8), camera.resized(48, 32), POSES[0])
    known = guide(draw(POSES[0], camera), keyframe(0), POSES[0], camera)
    resized = painter._guide(draw(POSES[0], camera), keyframe(0), drawn, camera)[0].numpy()
    assert resized.shape == (8, 32, 48)
    for channel, level in zip(resized, np.moveaxis(known, 2, 0), strict=True):
        np.testing.assert_allclose(channel, resize_area(level) / 127.5 - 1, atol=1 / 127)


def resize_area(image):
    """Each pixel's mean over the area that it covers, by integrals: (81, 122) -> (32, 48)."""
    for axis, new in ((0, 32), (1, 48)):
        image = np.moveaxis(image, axis, 0)
        edges = np.linspace(0, len(image), new + 1)
        sums = np.concatenate([np.zeros_like(image[:1], float), np.cumsum(image, 0, dtype=float)])
        below = np.minimum(edges.astype(int), len(image) - 1)
        integral = sums[below] + (edges - below)[:, None] * image[below]
        image = np.moveaxis(np.diff(integral, axis=0) / (len(image) / new), 0, axis)
    return image


def test_size_of_the_nearest_aspect():
    sizes = ((256, 256), (192, 320), (512, 512))
    assert nearest_size(sizes, Intrinsics.from_hfov(640, 600, 1.0)) == (512, 512)
    assert nearest_size(sizes, Intrinsics.from_hfov(300, 300, 1.0)) == (256, 256)
    assert nearest_size(sizes, Intrinsics.from_hfov(1280, 720, 1.0)) == (192, 320)


@pytest.mark.parametrize("attention", ["full", "cached"])
@pytest.mark.parametrize("camera_encoding", ["none", "prope", "plucker", "parametric"])
def test_a_reference_is_encoded_once_and_still_right_when_the_camera_moves(monkeypatch, attention, camera_encoding):
    model = tiny_model(attention=attention, camera_encoding=camera_encoding)
    encoded = []
    encode = model.transformer.encode_reference
    monkeypatch.setattr(model.transformer, "encode_reference", lambda *given: encoded.append(1) or encode(*given))
    painter, reference = LearnedPainter(model), keyframe(0)
    frames = [paint(painter, i, reference) for i in range(3)]
    assert len(encoded) == 1
    for i, frame in enumerate(frames):
        assert np.array_equal(paint(LearnedPainter(model), i, reference), frame)
    encoded.clear()
    paint(painter, 0, reference, Intrinsics.from_hfov(40, 40, 1.2))  # cropped otherwise
    paint(painter, 0, keyframe(1, id=0))  # another map's keyframe 0
    assert len(encoded) == 2


def test_the_least_recently_used_references_leave():
    painter = LearnedPainter(tiny_model())
    paint(painter, 0, keyframe(0))
    (entry,) = painter.references._kept.values()
    size = learned.bytes_of(entry[1])
    assert size == 2 * 2 * 6 * 32 * 4  # blocks, keys and values, tokens, width, float32
    references, keyframes = EncodedReferences(limit=2 * size), [keyframe(i) for i in range(3)]
    references.put(keyframes[0], (1,), entry[1])
    references.put(keyframes[1], (1,), entry[1])
    assert references.get(keyframes[0], (1,)) is entry[1]
    references.put(keyframes[2], (1,), entry[1])
    assert [references.get(k, (1,)) is not None for k in keyframes] == [True, False, True]


def test_without_a_reference_the_drawing_is_the_reference():
    """The same as a keyframe that shows the drawing from the target's own pose."""
    painter, drawing = LearnedPainter(tiny_model()), draw(POSES[0])
    posing = Keyframe(0, drawing.rgb, drawing.depth, CAMERA, POSES[0])
    assert np.array_equal(paint(painter, 0, None), paint(painter, 0, posing))


def test_an_empty_drawing_is_painted():
    painter = LearnedPainter(tiny_model(tiny_settings(noise="world")))
    assert painter.paint(AnchorView.empty(CAMERA), [], POSES[0], CAMERA).shape == (32, 48, 3)


def test_the_frame_after_memory_ran_out_is_as_ever(monkeypatch):
    painter = LearnedPainter(tiny_model())
    before = paint(painter, 0, keyframe(0))
    with monkeypatch.context() as patch:
        def fail(*_):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore about it")
        patch.setattr(painter.model.codec, "decode", fail)
        with pytest.raises(PaintError, match="no memory left for a 48x32 frame: CUDA out of memory. Tried to allocate"):
            paint(painter, 1, keyframe(1))
    assert not painter.references._kept
    assert np.array_equal(paint(painter, 0, keyframe(0)), before)


def test_overflow_is_an_error_and_no_picture(monkeypatch):
    painter = LearnedPainter(tiny_model())
    monkeypatch.setattr(painter.model.codec, "decode", lambda latents, guide: latents * torch.inf)
    with pytest.raises(PaintError, match="not finite: the weights are damaged"):
        paint(painter, 0, keyframe(0))


@pytest.mark.parametrize("dtype, advice", [(torch.float16, "float16 overflowed; use bfloat16 or float32"),
                                           (torch.bfloat16, "bfloat16 overflowed; use float32")])
def test_overflow_never_advises_what_is_in_use(dtype, advice):
    model = tiny_model()
    model.transformer.to(dtype)
    painter = LearnedPainter(model)
    with pytest.raises(PaintError, match=f"{advice}$"):
        painter._to_host(torch.full((1, 3, 32, 48), torch.nan), CAMERA)


# ---- model folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model_folder(folder, tiny_settings(noise="world"), tiny_transformer(), tiny_taesd())
    return folder


def test_models_are_found_by_name_or_folder(folder, monkeypatch):
    assert find_model(folder) == folder
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_model("~/tiny") == folder
    monkeypatch.setattr(share, "models_directory", lambda: folder.parent)
    assert find_model("tiny") == folder
    with pytest.raises(ValueError, match=r"no model 'huge': .* one of anchors \(no network\), tiny$"):
        find_model("huge")


def digest(folder):
    painter = load_painter(folder, seed=3, device="cpu")
    return hashlib.sha256(paint(painter, 0, keyframe(0)).tobytes() + paint(painter, 4, None).tobytes()).hexdigest()


def test_fresh_processes_with_as_many_threads_paint_the_same_bytes(folder):
    """The promise of docs/frame_model.md, whatever was painted before with another number of threads."""
    code = ("import sys, torch, test_learned_painter as t\n"
            "for n in map(int, sys.argv[2:]): torch.set_num_threads(n); print(n, t.digest(sys.argv[1]))")
    counts = sorted({1, 2, torch.get_num_threads()})
    painted = [subprocess.run([sys.executable, "-c", code, str(folder), *map(str, order)], check=True,
                              cwd=Path(__file__).parent, capture_output=True, text=True).stdout.split()
               for order in (counts, counts[::-1])]
    first, second = (dict(zip(words[::2], words[1::2], strict=True)) for words in painted)
    assert len(first) == len(counts) and first == second
    assert first[str(torch.get_num_threads())] == digest(folder)
