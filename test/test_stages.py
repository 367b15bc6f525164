"""Autoencoder, stages I and II: each learns, moves all its weights, shows what its schedule says, and exports."""

from dataclasses import replace
import math

from diffusers import PixArtTransformer2DModel
from overfit import minimise, overfitted_teacher, psnr, reseeded, toy_batch
import pytest
from scenes import room_poses, see_room
from tiny_models import tiny_taesd, tiny_transformer
import torch

from training.stages.autoencoder import AutoencoderSettings, AutoencoderStage, random_crop, training_pictures
from training.stages.latent_views import encode_views
from training.stages.midtrain import JOINT, NO_DRAWINGS, SETTLED, Injection, MidtrainSettings, MidtrainStage
from training.stages.pretrain import DenoisingSettings, PretrainStage, load_pixart, load_transformer
from worldfm_ros.frame_model import sampling
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import load_autoencoder, load_model_folder
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder
from worldfm_ros.frame_model.transformer import FrameTransformer
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.painting.learned import LearnedPainter
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView

SIZES = ((32, 32),)


def tiny_guided(seed=0):
    torch.manual_seed(seed)
    return GuidedAutoencoder(latent_channels=4, widths=(8, 12, 16), blocks=1)


def fresh_transformer(**changes):
    torch.manual_seed(0)
    return FrameTransformer.build(FrameTransformerConfig(
        **{"hidden_size": 32, "depth": 2, "heads": 2, "base_size": 4, "patch_size": 1} | changes))


def midtrain(injection=JOINT, steps=100, codec=None, **changes):
    settings = MidtrainSettings(name="toy", sizes=SIZES, steps=steps, injection=injection, preview_steps=3)
    return MidtrainStage(settings, fresh_transformer(**changes), codec or LatentCodec(tiny_guided()))


def pretrain(codec=None, **changes):
    settings = DenoisingSettings(name="toy", sizes=SIZES, preview_steps=3)
    return PretrainStage(settings, fresh_transformer(**changes), codec or LatentCodec(tiny_guided()))


# ---- the autoencoder stage


def test_pictures_to_reconstruct_are_chosen_by_sample():
    batch = toy_batch(40)
    wanted, guide = training_pictures(batch, AutoencoderSettings(drawings=0.3, references=0.3, guide_dropout=0.5))
    kinds = {"drawing": 0, "reference": 0, "guided": 0, "masked": 0}
    for k in range(40):
        masked = bool((guide[k] == -1).all())
        if torch.equal(wanted[k], batch.target[k]):
            kinds["masked" if masked else "guided"] += 1
            assert masked or torch.equal(guide[k], batch.guide[k])
        else:
            kind = "drawing" if torch.equal(wanted[k], batch.drawing[k]) else "reference"
            assert masked and torch.equal(wanted[k], getattr(batch, kind)[k])
            kinds[kind] += 1
    assert min(kinds.values()) >= 3, kinds


def test_crops_of_picture_and_guide_are_of_the_same_place():
    batch = toy_batch(6)
    settings = AutoencoderSettings(crop=16, drawings=0.0, references=0.0, guide_dropout=0.0)
    wanted, guide = training_pictures(batch, settings)
    assert wanted.shape == (6, 3, 16, 16) and guide.shape == (6, 8, 16, 16)
    covered = guide[:, 6:7] > 0  # the toy guide's first channels are the drawing, which is the target where it covers
    assert torch.equal(guide[:, :3].masked_select(covered), wanted.masked_select(covered))
    crops = random_crop(batch.target[:1].expand(6, -1, -1, -1), batch, 16)
    assert all(not torch.equal(crop, crops[0]) for crop in crops[1:])
    with pytest.raises(ValueError, match="40 pixels does not fit into pictures of 32x32"):
        random_crop(batch.target, batch, 40)


@pytest.mark.parametrize("changes", [
    {"crop": 12}, {"guide_dropout": 1.5}, {"drawings": 0.6, "references": 0.6},
    {"latent_noise": -1.0}, {"adversarial_weight": math.nan},
])
def test_autoencoder_settings_that_make_no_sense(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        AutoencoderSettings(**changes)


@pytest.mark.parametrize("make", [tiny_guided, tiny_taesd])
def test_an_autoencoder_learns_with_all_its_weights(make):
    autoencoder, batch = make().train(), toy_batch(2)
    before = {name: parameter.detach().clone() for name, parameter in autoencoder.named_parameters()}
    stage = AutoencoderStage(AutoencoderSettings(guide_dropout=0.0, drawings=0.0, references=0.0), autoencoder, ())
    losses = [step["autoencoder"] for step in minimise(stage, batch, 8, rate=2e-3, fresh=False)]
    assert losses[-1] < losses[0]
    assert not [name for name, parameter in autoencoder.named_parameters() if torch.equal(parameter, before[name])]


def test_a_discriminator_plays_from_its_step_on_and_no_gradient_leaks_into_it():
    settings = AutoencoderSettings(adversarial_weight=0.1, adversarial_from=2)
    stage = AutoencoderStage(settings, tiny_guided(), ())
    batch, discriminator = toy_batch(2), stage.networks["discriminator"]
    for step in range(4):
        updates = stage.updates(batch, step)
        update = next(updates)
        update.loss.backward()
        assert all(parameter.grad is None and parameter.requires_grad for parameter in discriminator.parameters())
        assert ("adversarial" in update.log) == (step >= 2)
        for own in updates:
            assert own.network == "discriminator" and step >= 2
            stage.networks["autoencoder"].zero_grad()
            own.loss.backward()
            assert all(parameter.grad is not None for parameter in discriminator.parameters())
            assert all(parameter.grad is None for parameter in stage.networks["autoencoder"].parameters())
            discriminator.zero_grad()
        assert (step >= 2) == ("adversarial" in update.log)


@pytest.mark.parametrize("make", [tiny_guided, tiny_taesd])
def test_exported_latents_have_mean_zero_and_deviation_one(tmp_path, make):
    batch = toy_batch()
    stage = AutoencoderStage(AutoencoderSettings(), make(), [batch])
    minimise(stage, batch, 3, fresh=False)
    stage.export(stage.networks, tmp_path)
    codec = LatentCodec(load_autoencoder(tmp_path / "vae"))
    latents = codec.encode(batch.target)
    assert latents.mean().item() == pytest.approx(0, abs=3e-3) and latents.std().item() == pytest.approx(1, abs=3e-3)
    decoded, _ = stage.networks["autoencoder"](batch.target)
    torch.testing.assert_close(codec.decode(latents), decoded, rtol=1e-3, atol=1e-4)
    columns = stage.preview(stage.networks, batch)
    assert ("with guide" in columns) == codec.guided
    assert all(column.shape == batch.target.shape and column.abs().max() <= 1 for column in columns.values())


# ---- stages I and II


def test_injection_is_progressive():
    injection = Injection(reference_only=0.2, joint_from=0.4, masking_from=0.7, masking_full=0.9, masked=0.3)
    progress = [0.0, 0.19, 0.3, 0.4, 0.7, 0.8, 0.9, 1.0]
    assert [injection.with_drawings(p) for p in progress] == pytest.approx([0, 0, 0.5, 1, 1, 1, 1, 1])
    assert [injection.masked_drawings(p) for p in progress] == pytest.approx([0, 0, 0, 0, 0, 0.15, 0.3, 0.3])
    assert JOINT.with_drawings(0.0) == SETTLED.with_drawings(0.0) == 1 and JOINT.masked_drawings(0.0) == 0
    assert SETTLED.masked_drawings(0.0) == Injection().masked and NO_DRAWINGS.masked_drawings(0.0) == 1
    for wrong in ({"reference_only": 0.5}, {"masking_full": 0.1}, {"masked": 2.0}, {"joint_from": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Injection(**wrong)


def test_the_network_is_shown_what_the_schedule_says():
    """Reference alone, then some steps with drawings, then all, then black pictures in place of some drawings."""
    injection = Injection(reference_only=0.25, joint_from=0.5, masking_from=0.5, masking_full=0.75, masked=0.5)
    stage, batch = midtrain(injection, steps=80), toy_batch(8)
    drawing, black = (stage.codec.encode(x) for x in (batch.drawing, torch.full_like(batch.drawing, -1.0)))
    reference = stage.codec.encode(batch.reference)
    masked = []
    for step in range(80):
        views = stage.views(reseeded(batch, step), step)
        torch.testing.assert_close(views.reference, reference)
        assert views.cameras.views == (2 if views.anchor is None else 3)
        masked.append(None)
        if views.anchor is not None:
            is_black = [torch.allclose(one, other, atol=1e-5) for one, other in zip(views.anchor, black, strict=True)]
            assert all(hidden or torch.allclose(one, other, atol=1e-5)
                       for hidden, one, other in zip(is_black, views.anchor, drawing, strict=True))
            masked[-1] = sum(is_black)
    shown = [count is not None for count in masked]
    assert not any(shown[:20]) and all(shown[40:])
    assert sum(shown[20:30]) < sum(shown[30:40])
    assert not any(masked[k] for k in range(41) if shown[k])
    assert sum(masked[60:]) == pytest.approx(0.5 * 8 * 20, abs=20)


@pytest.mark.parametrize("encoding", ["none", "prope", "plucker", "parametric"])
@pytest.mark.parametrize("injection", [JOINT, Injection(reference_only=1.0, joint_from=1.0)])
def test_stage_two_learns_with_all_its_weights(encoding, injection):
    stage = midtrain(injection, camera_encoding=encoding)
    check_learning(stage)


@pytest.mark.parametrize("encoding", ["none", "prope"])
@pytest.mark.parametrize("attention", ["full", "cached"])
def test_stage_one_learns_with_all_its_weights(encoding, attention):
    check_learning(pretrain(camera_encoding=encoding, attention=attention))


def check_learning(stage):
    network, batch = stage.networks["transformer"], toy_batch(2)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    codec = {name: tensor.clone() for name, tensor in stage.codec.autoencoder.state_dict().items()}
    losses = [step["transformer"] for step in minimise(stage, batch, 6, rate=3e-3, fresh=False)]
    assert losses[-1] < losses[0]
    assert not [name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])]
    assert all(torch.equal(tensor, codec[name]) for name, tensor in stage.codec.autoencoder.state_dict().items())
    assert all(column.shape == batch.target.shape and column.abs().max() <= 1
               for column in stage.preview(stage.networks, batch).values())


def test_stage_one_sees_neither_conditions_nor_motion():
    stage, batch = pretrain(), toy_batch(2)
    stage.networks["transformer"] = tiny_transformer()
    other = replace(batch, drawing=-batch.drawing, reference=-batch.reference, guide=-batch.guide,
                    cameras=toy_batch(2, first_seed=7).cameras)
    shown, not_shown, other_target = (next(stage.updates(seen, 0)).loss.item()
                                      for seen in (batch, other, replace(batch, target=-batch.target)))
    assert not_shown == pytest.approx(shown, rel=1e-5) != other_target


@pytest.mark.parametrize("make", [
    lambda: midtrain(SETTLED), pretrain,
    lambda: AutoencoderStage(AutoencoderSettings(crop=16, gradient_weight=0.5), tiny_guided(), ()),
])
def test_a_batch_is_the_mean_of_its_halves(make):
    """So that two processes compute what one does: no sample depends on the others, no choice on the process."""
    stage = make()
    minimise(stage, toy_batch(), 2, fresh=False)
    for step in (0, 3):
        whole, first, second = (next(stage.updates(batch, step)).loss.item()
                                for batch in (toy_batch(4), toy_batch(2), toy_batch(2, first_seed=2)))
        assert whole == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize("prediction_type", sampling.PREDICTION_TYPES)
def test_an_exported_model_paints(tmp_path, prediction_type):
    settings = MidtrainSettings(name="toy", sizes=SIZES, steps=10, injection=SETTLED, sampling_steps=3,
                                prediction_type=prediction_type)
    stage = MidtrainStage(settings, fresh_transformer(), LatentCodec(tiny_guided()))
    minimise(stage, toy_batch(2), 3)
    stage.export(stage.networks, tmp_path)
    model = load_model_folder(tmp_path / "model")
    assert (model.settings.steps, model.settings.prediction_type, model.settings.sizes) == (3, prediction_type, SIZES)
    poses, camera = room_poses(), Intrinsics.from_hfov(32, 32, 1.2)
    seen, known = see_room(poses[0], camera), see_room(poses[1], camera)
    drawing = AnchorView(seen.rgb, seen.depth, seen.labels, seen.depth > 0)
    reference = Keyframe(0, known.rgb, known.depth, known.intrinsics, known.T_world_camera)
    picture = LearnedPainter(model).paint(drawing, [reference], poses[0], camera)
    assert picture.shape == (32, 32, 3) and picture.std() > 1
    started = load_transformer(tmp_path / "model")
    assert all(parameter.requires_grad for parameter in started.parameters())
    torch.testing.assert_close(started.state_dict(), stage.networks["transformer"].state_dict())


def test_stage_one_starts_from_a_pixart_folder(tmp_path):
    pixart = PixArtTransformer2DModel(num_attention_heads=2, attention_head_dim=24, cross_attention_dim=48,
                                      caption_channels=8, num_layers=2, sample_size=16)
    pixart.save_pretrained(tmp_path)
    config = FrameTransformerConfig(hidden_size=48, depth=2, heads=2)
    transformer = load_pixart(tmp_path, config)
    assert torch.equal(transformer.patch_embed.weight, pixart.pos_embed.proj.weight)
    stage = PretrainStage(DenoisingSettings(name="toy", sizes=SIZES), transformer, LatentCodec(tiny_taesd()))
    assert len(minimise(stage, toy_batch(2), 2)) == 2


def test_stage_one_does_not_start_from_a_frame_transformer(tmp_path):
    """(diffusers would warn of each of its tensors, then make up PixArt's.)"""
    transformer = fresh_transformer()
    transformer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="_class_name is PixArtTransformer2DModel, got 'FrameTransformer'"):
        load_pixart(tmp_path, transformer.settings)
    with pytest.raises(ValueError, match="config.json cannot be read"):
        load_pixart(tmp_path / "nowhere", transformer.settings)


def test_parts_and_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="takes 8 latent channels, the autoencoder has 4"):
        midtrain(latent_channels=8)
    for wrong in ({"timestep_bias": 0.0}, {"sampling_steps": 0}, {"prediction_type": "x0"}):
        with pytest.raises(ValueError, match="positive|sampling_steps|prediction_type"):
            DenoisingSettings(name="toy", sizes=SIZES, **wrong)
    with pytest.raises(ValueError, match="steps is a whole number"):
        MidtrainSettings(name="toy", sizes=SIZES, steps=0)


def test_a_clip_is_learned_by_heart():
    """Everything together, autoencoder and transformer: 30 dB from latents alone, from noise that was never seen."""
    known = overfitted_teacher()
    views = encode_views(known.batch, known.model.codec, uses_cameras=True)
    for trial in (10**6, 10**6 + 1):
        painted = known.stage.paint(known.model.transformer, reseeded(known.batch, trial), views, steps=8)
        assert psnr(painted, known.batch.target) >= 30.0
