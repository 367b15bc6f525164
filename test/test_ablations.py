"""Ablations: a bench in seconds, arms that differ in one choice, runs that go on, and a report of what was found."""

import json

from diffusers import AutoencoderTiny
import numpy as np
from overfit import smooth_picture
import pytest
from scipy.spatial.transform import Rotation
import torch

from training.ablation_bench import (
    Arm,
    Bench,
    BenchSettings,
    Recurring,
    RememberingCodec,
    check_settings,
    figures,
)
from training.ablation_report import COLUMNS, seed_by_seed, table
from training.ablations import ARMS, BASELINE, ablate, find_arms
from training.data.loader import PairSettings
from training.data.pairs import Corruption
from worldfm_ros.clips import LENGTH, Clip
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.rgbd_folder import RgbdFrame

SMALL = BenchSettings(steps=3, student_steps=2, autoencoder_steps=3, side=32, batch=2, distinct=2, hidden_size=32,
                      depth=1, heads=2, autoencoder_width=8, teacher_steps=3)


def wall_clip(seed):
    """A camera that moves along a flat wall, two metres away."""
    random = np.random.default_rng(seed)
    camera = Intrinsics(32, 32, 28.0, 28.0, 15.5, 15.5)
    wall, depth = smooth_picture(random, (32, 64)), np.full((32, 32), 2.0, np.float32)
    frames = [RgbdFrame(k, np.ascontiguousarray(wall[:, 2 * k:2 * k + 32]), depth, camera,
                        Pose(Rotation.identity(), np.array([2 * k * 2.0 / 28.0, 0.0, 0.0])))
              for k in range(LENGTH)]
    return Clip(f"wall-{seed}", tuple(frames))


CLIPS, HELD_OUT = [wall_clip(0), wall_clip(1)], [wall_clip(2)]


def test_every_arm_differs_from_its_baseline_and_the_issues_table_is_there():
    assert {"plucker", "parametric", "no-cameras", "no-anchors", "full-attention", "joint", "dmd", "dmd-1-step",
            "dmd-t100", "dmd-t400", "dmd-t600", "dmd2"} < set(ARMS)
    assert ARMS[BASELINE].baseline == ""
    assert all(arm.baseline in ARMS and arm.baseline != arm.name for arm in ARMS.values() if arm.name != BASELINE)


def test_arms_come_with_their_teacher_and_unknown_ones_are_refused():
    assert [arm.name for arm in find_arms(["dmd2"])] == [BASELINE, "dmd2"]
    assert find_arms([]) == list(ARMS.values())
    with pytest.raises(ValueError, match="no arm ropes; there are prope, plucker"):
        find_arms(["ropes"])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The baseline and a student of it, one seed."""
    out = tmp_path_factory.mktemp("ablations")
    ablate(out, find_arms(["dmd"]), 1, SMALL, CLIPS, HELD_OUT)
    return out


def test_arms_are_trained_judged_and_reported(report):
    found = {result["arm"]: result for result in json.loads((report / "ablations.json").read_text())["results"]}
    assert {arm: result["steps"] for arm, result in found.items()} == {BASELINE: 3, "dmd": 2}
    for result in found.values():
        assert np.isfinite([result[name] for name in COLUMNS]).all() and 0 < result["psnr"] < 60
    lines = (report / "ablations.md").read_text().splitlines()
    assert len(lines) == 2 + 2 and len({line.count("|") for line in lines}) == 1
    assert (report / "ablations.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_arm_is_kept_and_a_missing_one_is_judged_again(report):
    kept, again = (report / "runs" / f"{name}-0.json" for name in (BASELINE, "dmd"))
    first = json.loads(again.read_text())
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"psnr": 12.5}))
    again.unlink()
    ablate(report, find_arms(["dmd"]), 1, SMALL, CLIPS, HELD_OUT)
    found = {result["arm"]: result for result in json.loads((report / "ablations.json").read_text())["results"]}
    assert found[BASELINE]["psnr"] == 12.5
    assert found["dmd"] | {"seconds": 0} == first | {"seconds": 0}  # from the run that was there


def test_arms_of_other_settings_are_refused(tmp_path):
    check_settings(tmp_path / "bench.json", SMALL)
    with pytest.raises(ValueError, match=r"other settings .*'steps': \(3, 3000\)"):
        check_settings(tmp_path / "bench.json", BenchSettings())


def test_batches_recur_with_other_random_numbers_unless_they_are_kept():
    settings = PairSettings(batch=2, sizes=((32, 32),), corruption=Corruption.none())
    recurring = Recurring(CLIPS, settings, 3)
    fresh, kept = recurring(0), recurring(0, kept=True)
    fresh, kept = [next(fresh) for _ in range(5)], [next(kept) for _ in range(5)]
    assert torch.equal(fresh[1].target, fresh[4].target) and torch.equal(kept[1].target, kept[4].target)
    assert fresh[1].seeds != fresh[4].seeds and kept[1].seeds == kept[4].seeds
    assert next(recurring(4)).seeds == fresh[4].seeds


def test_a_remembered_picture_has_the_latents_that_encoding_gives():
    class Counting(AutoencoderTiny):
        seen = 0

        def encode(self, x, *rest):
            Counting.seen += len(x)
            return super().encode(x, *rest)

    plain = LatentCodec(Counting(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4))
    remembering, pictures = RememberingCodec(plain), torch.rand(3, 3, 16, 16)
    wanted, Counting.seen = plain.encode(pictures), 0
    for order in ([0, 1], [1, 2, 0], [2, 2]):
        torch.testing.assert_close(remembering.encode(pictures[order]), wanted[order], rtol=1e-4, atol=1e-5)
    assert Counting.seen == 3, "each picture once"


def test_gains_are_taken_seed_by_seed():
    arms = [Arm(name=name, varies="", stage=None, steps=None, rates=0, baseline=base) for name, base in
            (("a", ""), ("b", "a"))]
    results = [{"arm": name, "seed": seed, "psnr": psnr, "steps": 1, "seconds": 60} for name, seed, psnr in
               (("a", 0, 20.0), ("a", 1, 24.0), ("b", 1, 25.0), ("b", 0, 21.5), ("b", 2, 99.0))]
    assert seed_by_seed(arms[1], results) == [1.0, 1.5]
    assert "| +1.25 ± 0.35 | a |" in table(arms, results)


def test_figures_of_holes_need_holes_and_a_network_may_go_without_drawings(report):
    bench = Bench.prepare(report, SMALL, CLIPS, HELD_OUT)
    model, batch = bench.model(BASELINE, 0), bench.judged[0]
    found = figures(model, [batch], draws=False)
    assert (~batch.coverage).any() and set(found) == set(COLUMNS)
    assert found["psnr"] == found["without_drawing"]
    batch.coverage.fill_(True)
    assert set(COLUMNS) - set(figures(model, [batch], draws=True)) == {"disoccluded", "diversity"}
