"""Pairs with several references, and the composer's stage that learns from them."""

from dataclasses import replace
import shutil

import numpy as np
from safetensors.torch import load_file
import torch

from training.__main__ import follow
from training.batch import Batch
from training.data.corruption import Corruption
from training.data.loader import loader
from training.data.pairs import make_pair
from training.data.sensors import Camera, Drift, Sensors, bled, shaded
from training.data.several import Several, make_pair_of_several, memory_of
from training.recipes import find_recipe
from training.stages.compose import ComposeSettings, ComposeStage, doubt_loss, psnr
from training.stages.losses import sharpness_loss, similarity_loss
from training.synthetic.clips import ClipSettings, synthetic_clip
from worldfm_ros.clips import REFERENCE_GROUP
from worldfm_ros.frame_model.composer import Composer

CLIP = synthetic_clip("rooms", 3, ClipSettings(width=96, height=72, samples=1, texel=0.6))
EXACT = Several(sensors=Sensors(clean=1.0, masked=0.0, near=1.0))
SIZE = (72, 96)


def test_an_exact_memory_is_the_papers_and_its_blend_is_near_the_truth():
    pair = make_pair_of_several(CLIP, 7, SIZE, EXACT, memory_of(CLIP, EXACT, 0), 1)
    plain = make_pair(CLIP, 7, SIZE, EXACT.corruption.none(), 1)
    assert np.array_equal(pair.target, plain.target)
    assert np.mean(pair.coverage != plain.coverage) < 0.01
    batch = Batch.collate([pair])
    assert psnr(batch.candidates.blend(), batch.target)[0] > psnr(batch.drawing, batch.target)[0]


def test_pairs_are_a_function_of_their_arguments():
    several = Several()
    pairs = [make_pair_of_several(CLIP, 7, (48, 64), several, memory_of(CLIP, several, memory), seed)
             for memory, seed in ((5, 1), (5, 1), (6, 1), (5, 2))]
    bytes_of = [(pair.target.tobytes(), pair.memory.pictures.tobytes(), pair.memory.facts.tobytes()) for pair in pairs]
    assert bytes_of[0] == bytes_of[1] and len(set(bytes_of)) == 3


def test_processes_share_a_batch_as_one_makes_it():
    data = replace(find_recipe("smoke-compose").data, targets_per_clip=4)
    whole = next(iter(loader([CLIP, CLIP], data, 0, 1)))
    parts = [next(iter(loader([CLIP, CLIP], data, 0, 1, rank, 2))) for rank in range(2)]
    assert torch.equal(whole.candidates.facts, torch.cat([part.candidates.facts for part in parts]))
    assert torch.equal(whole.target, torch.cat([part.target for part in parts]))


def test_a_depth_cameras_border_is_the_same_in_every_frame():
    camera, rng = Camera((0.0,) * 4, (0.1, 0.0, 0.05, 0.0), 0.0, 0.0, 0.0, 0, 0.0), np.random.default_rng(0)
    for k in REFERENCE_GROUP:
        depth = camera.measured(CLIP.frames[k].depth, rng)
        assert not depth[:10].any() and not depth[:, :5].any()
        assert np.array_equal(depth[10:, 5:], CLIP.frames[k].depth[10:, 5:])


def test_near_surfaces_bleed_and_cast_shadows_on_what_is_behind():
    depth = np.full((9, 20), 3.0, np.float32)
    depth[:, :8], depth[4, 15] = 1.0, 0.0
    grown = bled(depth, 2)
    assert (grown[:, :10] == 1.0).all() and (grown[:, 11:14] == 3.0).all() and grown[4, 15] == 0.0
    shade = shaded(depth, 3)
    assert shade[:, 8:11].all() and not shade[:, :8].any() and not shade[:, 12:].any()


def test_what_wanders_is_off_by_more_the_more_time_is_between():
    def apart(positions):
        drifts = [Drift.draw(Sensors(drift_position=0.1, drift_rotation=0.01), np.random.default_rng(seed))
                  for seed in range(200)]
        between = [(d.poses[positions[0]].inverse() @ d.poses[positions[1]], d.gains) for d in drifts]
        return (np.mean([np.linalg.norm(pose.translation) for pose, _ in between]),
                np.mean([pose.rotation.magnitude() for pose, _ in between]),
                np.mean([abs(gains[positions[0]] - gains[positions[1]]) for _, gains in between]))

    near, far = apart((6, 7)), apart((1, 14))
    assert all(2 < b / a < 6 for a, b in zip(near, far, strict=True)), (near, far)  # sqrt(13)


def test_a_drifting_camera_is_off_from_its_nearest_reference_by_least():
    """The photograph stays; where the camera is believed to be has drifted, and the references' poses with it."""
    several = Several(corruption=Corruption.none(), sensors=Sensors(clean=0.0, near=1.0, drift_position=0.05))
    kept = memory_of(CLIP, several, 3)
    pair = make_pair_of_several(CLIP, 6, (48, 64), several, kept, 0)
    believed = CLIP.frames[6].T_world_camera @ kept.drift.poses[6]
    np.testing.assert_allclose(pair.T_world_target.translation, believed.translation)
    error = believed.inverse() @ kept.keyframes[5].T_world_camera
    truth = CLIP.frames[6].T_world_camera.inverse() @ CLIP.frames[5].T_world_camera
    step = kept.drift.poses[6].inverse() @ kept.drift.poses[5]
    assert 0 < np.linalg.norm(error.translation - truth.translation) < 3 * np.linalg.norm(step.translation)


def test_losses_ask_for_the_truth_and_for_its_sharpness():
    torch.manual_seed(0)
    truth = torch.rand(1, 3, 48, 48) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    other = torch.rand(1, 3, 48, 48) * 2 - 1
    assert similarity_loss(truth, truth) < 1e-6 < similarity_loss(blurred, truth)
    assert sharpness_loss(truth, truth) == 0
    assert sharpness_loss(other, truth) < 0.2 * sharpness_loss(blurred, truth)  # of the same strength, elsewhere
    known = (blurred - truth).abs().mean(1, keepdim=True).add(0.01).log()
    assert doubt_loss(known, blurred, truth) < 1e-6


def test_a_composer_learns_to_be_better_than_the_blend():
    torch.manual_seed(0)
    several = Several(sensors=Sensors(clean=0.0, near=0.0))
    batch = Batch.collate([make_pair_of_several(CLIP, target, (48, 64), several, memory_of(CLIP, several, 4), target)
                           for target in (3, 7, 11)])
    stage = ComposeStage(Composer(widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), encoded=4), ComposeSettings())
    optimizer = torch.optim.Adam(stage.networks["composer"].parameters(), 5e-3)
    gained = []
    for step in range(40):
        (update,) = stage.updates(batch, step)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        gained.append(float(update.log["gained"]))
    assert abs(gained[0]) < 0.3 and gained[-1] > gained[0] + 0.5


def test_a_run_resumes_where_it_was(tmp_path):
    recipe, out = find_recipe("smoke-compose"), tmp_path / "run"
    follow(recipe, "smoke-compose", out, False, None, None)
    whole = load_file(out / "composer" / "diffusion_pytorch_model.safetensors")
    shutil.rmtree(out / "checkpoints" / "step-00000006")
    follow(recipe, "smoke-compose", out, True, None, None)
    again = load_file(out / "composer" / "diffusion_pytorch_model.safetensors")
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)
