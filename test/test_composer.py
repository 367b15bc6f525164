"""The composer: an untrained one is the blend; weights; sizes; the compiled kernel beside torch; its folder."""

from dataclasses import replace
from itertools import product
import json
import shutil

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny_models import randomized, tiny_model
import torch

from worldfm_ros.clips import RgbdFrame, unprojected
from worldfm_ros.frame_model.checkpoint import ModelError, load_model_folder, load_module, save_model_folder
from worldfm_ros.frame_model.composer import PIXELS, Candidates, Composer, Inputs, compose, composer_size
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting import composed
from worldfm_ros.painting.align import Moves
from worldfm_ros.painting.blend import Blend
from worldfm_ros.painting.composed import Memory, View, applied, inputs_of, remember, unknown
from worldfm_ros.painting.learned import LearnedPainter
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView, render

SMALL = {"widths": (8, 8, 16, 16), "blocks": (1, 1, 1, 1), "encoded": 4}


def memory(height=48, width=64, references=3, seed=0):
    """Smooth pictures of noise; each reference shows about two thirds; weights are those of a blend."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (1 + references, height, width, 3), np.uint8)
    shown = rng.random((references, height, width)) < 0.66
    weight = shown * rng.random((references, height, width)) + 1e-3 * shown
    weight = weight / np.maximum(weight.sum(0), 1e-9)
    facts = rng.integers(0, 256, (references, height, width, 7), np.uint8) * shown[..., None]
    facts[..., 0], facts[..., 1] = 255 * shown, np.rint(255 * weight)
    pictures[1:][~shown] = 0
    drawn = 255 * (rng.random((height, width, 1)) < 0.8)
    surface = np.concatenate([drawn, rng.integers(0, 256, (height, width, 1))], -1).astype(np.uint8)
    return Memory(pictures, surface, facts.astype(np.uint8))


def candidates(kept: Memory) -> Candidates:
    def tensor(x):
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, -3)))[None]
    return Candidates.of(tensor(kept.pictures), tensor(kept.surface), tensor(kept.facts))


def trained(**options):
    return randomized(Composer(**SMALL | options), seed=3)


@torch.no_grad()
def test_an_untrained_composer_is_the_blend():
    seen = candidates(memory())
    picture, weights = compose(Composer(**SMALL)(seen), seen)
    shown = (seen.facts[:, :, 0].sum(1) > 0)[:, None].expand(-1, 3, -1, -1)
    error = (picture - seen.blend()).abs()[shown]
    assert error.mean() < 2 / 127.5 and error.max() < 0.06  # of noise, the hardest pictures there are
    assert weights[:, -1][seen.facts[:, :, 0].sum(1) > 0].max() < 0.02


@torch.no_grad()
@pytest.mark.parametrize("references", [0, 1, 2, 3])
def test_weights_sum_to_one_and_nothing_is_taken_from_what_is_not_shown(references):
    seen = candidates(memory(references=references))
    picture, weights = compose(trained()(seen), seen)
    assert picture.shape == (1, 3, 48, 64) and weights.shape == (1, 2 + references, 48, 64)
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 48, 64))
    assert (weights[:, 1:-1][seen.facts[:, :, 0] == 0] == 0).all()


def test_more_references_than_places_and_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="up to 2 references, got 3"):
        Composer(**SMALL, references=2)(candidates(memory()))
    with pytest.raises(ValueError, match="takes no latents"):
        Composer(**SMALL)(candidates(memory()), torch.zeros(1, 8, 6, 8))
    with pytest.raises(ValueError, match="up to 2 references, got 3"):
        inputs_of(memory(), 2)


@torch.no_grad()
def test_no_latents_are_latents_of_nothing():
    composer, seen = trained(latent_channels=8), candidates(memory())
    nothing, something = composer(seen).logits, composer(seen, torch.randn(1, 8, 6, 8)).logits
    torch.testing.assert_close(nothing, composer(seen, torch.zeros(1, 8, 6, 8)).logits)
    assert not torch.allclose(nothing, something)


@torch.no_grad()
@pytest.mark.parametrize("height, width, references", [(1, 1, 1), (17, 9, 2), (48, 64, 3), (33, 70, 0)])
def test_the_compiled_inputs_are_those_of_the_candidates(height, width, references):
    kept = memory(height, width, references)
    seen = candidates(kept)
    wanted, compiled = Inputs.of(seen, 3), [inputs_of(kept, 3, threads) for threads in (1, 2)]
    assert (compiled[0].count, compiled[0].size) == (wanted.count, wanted.size)
    for name in ("references", "drawing", "prior", "painted"):
        made = [getattr(inputs, name) for inputs in compiled]
        assert torch.equal(*made), name
        torch.testing.assert_close(made[0], getattr(wanted, name), atol=2e-5, rtol=1e-4)
    assert unknown(kept) == pytest.approx(float(seen.unknown()), abs=1e-6)


@torch.no_grad()
def test_the_transformer_is_asked_only_where_something_is_unknown():
    model = replace(tiny_model(), composer=trained(latent_channels=4))
    camera = Intrinsics.from_hfov(64, 48, 1.2)
    target, drawing, references = wall_with_a_step(camera)
    painter = LearnedPainter(model)
    stages = []
    painter.on_stage = stages.append
    painter.paint(drawing, references, target, camera)
    assert not any(stage.startswith("step") for stage in stages)
    aside = Pose(Rotation.identity(), np.array([0.9, 0.0, 0.0]))
    less = render(AnchorMap.from_cloud(unprojected(frames_of(camera)[:1])).visible(aside, camera), aside, camera)
    painter.paint(less, references, aside, camera)
    assert "step" in stages
    stages.clear()
    painter.enough = 0.0  # always
    painter.paint(drawing, references, target, camera)
    assert "step" in stages


@torch.no_grad()
def test_latents_change_nothing_before_they_are_trained():
    seen, alone = candidates(memory()), trained()
    both = Composer(**SMALL, latent_channels=8).eval()
    both.load_state_dict(both.state_dict() | alone.state_dict())
    logits = both(seen, torch.randn(1, 8, 6, 8)).logits
    assert torch.equal(logits, alone(seen).logits)


def test_the_composer_works_at_a_fixed_size():
    assert composer_size(480, 640) == (144, 192) and composer_size(240, 320) == (144, 192)
    assert composer_size(17, 9) == (17, 9) and composer_size(1, 1) == (1, 1)
    for height, width in ((2160, 4096), (200, 1600), (1080, 1920)):
        small = composer_size(height, width)
        assert small[0] * small[1] == pytest.approx(PIXELS, rel=0.02)
        assert small[1] / small[0] == pytest.approx(width / height, rel=0.02)


@torch.no_grad()
@pytest.mark.parametrize("height, width, references",
                         [(1, 1, 1), (17, 9, 2), (30, 240, 3), (300, 400, 3), (480, 640, 1), (40, 50, 0)])
def test_the_kernel_does_what_torch_does_at_any_size(height, width, references):
    kept, composer = memory(height, width, references), trained()
    seen = candidates(kept)
    decision = composer(seen.resized(composer_size(height, width)))
    wanted, weights = compose(decision, seen)
    shown = np.concatenate([kept.surface[None, ..., 0], kept.facts[..., 0]])
    made = [applied(decision, kept.pictures, shown, threads) for threads in (1, 2)]
    assert np.array_equal(made[0].rgb, made[1].rgb) and np.array_equal(made[0].confidence, made[1].confidence)
    wanted = (127.5 * wanted[0].permute(1, 2, 0) + 127.5).clamp(0, 255).numpy()
    assert np.abs(made[0].rgb - wanted).max() < 1.01
    seen_there = weights[0, :1] * (seen.surface[:, 0] > 0.5) + weights[0, 1:-1].sum(0)
    assert (made[0].confidence <= np.ceil(255 * seen_there[0].numpy() + 1e-3)).all()


@pytest.mark.parametrize("height, width", [(480, 640), (250, 333), (600, 480)])
def test_the_memory_at_the_composers_size_is_the_cameras_reduced(height, width):
    camera = Intrinsics.from_hfov(width, height, 1.2)
    target, drawing, references = wall_with_a_step(camera)
    small = candidates(View.of(drawing, references, target, camera).memory)
    wanted = candidates(remember(drawing, references, target, camera)).resized(composer_size(height, width))
    assert small.size == wanted.size
    assert (small.blend() - wanted.blend()).abs().mean() < 0.02
    for name, tolerance in (("drawing", 0.03), ("references", 0.03), ("surface", 0.03), ("facts", 0.02)):
        assert (getattr(small, name) - getattr(wanted, name)).abs().mean() < tolerance, name


@torch.no_grad()
def test_a_composer_comes_back_from_its_folder(tmp_path):
    composer, seen = trained(latent_channels=4), candidates(memory())
    composer.save_pretrained(tmp_path / "composer")
    again = load_module(Composer, tmp_path / "composer")
    latents = torch.randn(1, 4, 6, 8)
    ours, theirs = (network(seen, latents) for network in (composer, again))
    assert all(torch.equal(getattr(ours, name), getattr(theirs, name))
               for name in ("logits", "painted", "residual", "detail", "doubt"))


@torch.no_grad()
def test_every_input_matters():
    composer, seen = trained(), candidates(memory())
    before = composer(seen).logits
    for name, channel in product(("drawing", "references", "surface", "facts"), (0, 1)):
        changed = {field: getattr(seen, field).clone() for field in ("drawing", "references", "surface", "facts")}
        part = changed[name].flatten(0, -4) if changed[name].ndim > 4 else changed[name]
        part[:, channel] = part[:, channel] * 0.5
        assert not torch.equal(composer(Candidates(**changed)).logits, before), (name, channel)


def frames_of(camera):
    """A wall with a step, seen twice."""
    height, width = camera.height, camera.width
    few = np.random.default_rng(0).integers(60, 200, (12, 16, 3), np.uint8)
    rgb = cv2.resize(few, (width, height), interpolation=cv2.INTER_NEAREST)
    depth = np.where(np.arange(width) < 0.47 * width, 2.0, 2.6).astype(np.float32)[None].repeat(height, 0)
    return [RgbdFrame(k, rgb, depth, camera, Pose(Rotation.identity(), np.array([0.1 * k, 0.0, 0.0])))
            for k in range(2)]


def wall_with_a_step(camera):
    """The pose of a target, what is drawn of the wall, and two keyframes; anchors are of one of them."""
    frames = frames_of(camera)
    target = Pose(Rotation.identity(), np.array([0.04, 0.02, 0.0]))
    drawing = render(AnchorMap.from_cloud(unprojected(frames[:1])).visible(target, camera), target, camera)
    return target, drawing, [Keyframe.of(frame) for frame in frames]


def test_the_blend_of_what_is_remembered_is_the_blend_of_what_was_moved(monkeypatch):
    """A wall with a step, seen by two keyframes from beside the target; anchors of one of them."""
    nowhere = Moves(np.zeros((1, 1, 2), np.float32), (0.0, 0.0))
    monkeypatch.setattr(composed, "find_moves", lambda references, target, gains: nowhere)
    camera = Intrinsics.from_hfov(64, 48, 1.2)
    target, drawing, references = wall_with_a_step(camera)
    wanted = Blend().paint(drawing, references, target, camera).astype(float)
    seen = candidates(remember(drawing, references, target, camera))
    made = 127.5 * seen.blend()[0].permute(1, 2, 0).numpy() + 127.5
    assert np.abs(made - wanted).max() < 3 and np.abs(made - wanted).mean() < 0.6
    painter = LearnedPainter(replace(tiny_model(), composer=Composer(**SMALL, latent_channels=4).eval()))
    untrained = painter.compose(drawing, references, target, camera)
    assert np.abs(untrained.rgb - wanted).mean() < 2
    assert np.array_equal(untrained.rgb, painter.paint(drawing, references, target, camera))
    nothing = painter.compose(AnchorView.empty(camera), references, target, camera)
    assert (nothing.rgb < 3).all() and not nothing.confidence.any()


def test_a_model_folder_with_a_composer_comes_back(tmp_path):
    model = replace(tiny_model(), composer=trained(latent_channels=4))
    save_model_folder(tmp_path / "m", model.settings, model.transformer, model.codec.autoencoder, model.composer)
    assert json.loads((tmp_path / "m" / "model.json").read_text())["format_version"] == 2
    again = load_model_folder(tmp_path / "m")
    assert all(torch.equal(a, b) for a, b in zip(model.composer.state_dict().values(),
                                                 again.composer.state_dict().values(), strict=True))
    shutil.rmtree(tmp_path / "m" / "composer")
    Composer(**SMALL, latent_channels=5).save_pretrained(tmp_path / "m" / "composer")
    with pytest.raises(ModelError, match="takes latents of 5 channels, the autoencoder's have 4"):
        load_model_folder(tmp_path / "m")
