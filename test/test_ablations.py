"""Ablations: a bench in seconds, arms that differ in one choice, runs that go on, and a report of what was found."""

import json
import signal
import sys

from diffusers import AutoencoderTiny
import numpy as np
from overfit import smooth_picture
import pytest
from scipy.spatial.transform import Rotation
import torch

from training.ablations import __main__ as ablations
from training.ablations import bench as ablation_bench
from training.ablations.arms import ARMS, BASELINE, ablate, find_arms
from training.ablations.bench import (
    Arm,
    Bench,
    BenchSettings,
    Recurring,
    RememberingCodec,
    check_settings,
    figures,
    shared_codec,
)
from training.ablations.report import COLUMNS, seed_by_seed, table
from training.data.loader import PairSettings
from training.data.pairs import Corruption
from training.run.processes import Stopped
from worldfm_ros.clips import LENGTH, Clip, RgbdFrame
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.geometry import Intrinsics, Pose

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
EXACT = PairSettings(batch=2, sizes=((32, 32),), corruption=Corruption.none())


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


def test_an_autoencoder_that_was_stopped_is_trained_to_its_end(tmp_path):
    recurring, once = Recurring(CLIPS, EXACT, 2), [signal.SIGTERM]

    def stopping(first_step):
        for k, batch in enumerate(recurring(first_step)):
            if k == 1 and once:
                signal.raise_signal(once.pop())
            yield batch

    with pytest.raises(Stopped):
        shared_codec(tmp_path / "stopped", SMALL, stopping)
    assert (tmp_path / "stopped" / "vae").is_dir()
    gone_on, whole = (shared_codec(tmp_path / place, SMALL, recurring).autoencoder.state_dict()
                      for place in ("stopped", "whole"))
    assert all(torch.equal(tensor, gone_on[name]) for name, tensor in whole.items())


def test_a_seed_decides_first_weights_and_noise_whatever_was_before(report, monkeypatch):
    bench, begun = Bench.prepare(report, SMALL, CLIPS, HELD_OUT), []

    class Begun(Exception):
        pass

    def begin(stage, batches, *_, **__):
        begun.append((stage, next(batches(0))))
        raise Begun

    monkeypatch.setattr(ablation_bench, "train", begin)
    for before, (arm, seed) in enumerate((("dmd2", 0), ("dmd2", 0), ("plucker", 0), ("plucker", 1))):
        torch.manual_seed(before)
        with pytest.raises(Begun):
            ablation_bench.result(bench, ARMS[arm], seed)
    (first, batch), (second, same), (zero, _), (one, other) = begun
    weights = [stage.networks["discriminator"].layers[0].weight for stage in (first, second)]
    assert torch.equal(*weights) and batch.seeds == same.seeds
    weights = [stage.networks["transformer"].patch_embed.weight for stage in (zero, one)]
    assert not torch.equal(*weights)
    assert torch.equal(batch.target, other.target) and not torch.equal(batch.randn("noise", 2), other.randn("noise", 2))


def test_batches_recur_with_other_random_numbers_unless_they_are_kept():
    recurring = Recurring(CLIPS, EXACT, 3)
    fresh, kept = recurring(0), recurring(0, kept=True)
    fresh, kept = [next(fresh) for _ in range(5)], [next(kept) for _ in range(5)]
    assert torch.equal(fresh[1].target, fresh[4].target) and torch.equal(kept[1].target, kept[4].target)
    assert not torch.equal(fresh[1].rand("time"), fresh[4].rand("time")) and kept[1].seeds == kept[4].seeds
    assert next(recurring(4)).seeds == fresh[4].seeds
    other = recurring(0, seed=1, kept=True)
    other = [next(other) for _ in range(5)]
    assert other[1].seeds == other[4].seeds != kept[1].seeds and torch.equal(other[1].target, kept[1].target)


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


# ---- the command


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["training.ablations", *map(str, arguments)])
    return ablations.main()


@pytest.mark.parametrize("name", ["seeds", "steps", "clips", "held-out"])
def test_nothing_is_rendered_or_written_for_counts_that_make_no_ablation(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "SyntheticClips", lambda *_: pytest.fail("clips were rendered"))
    assert command(monkeypatch, "--out", tmp_path / "out", f"--{name}", 0) == 2
    assert capsys.readouterr().err == f"error: --{name} is a whole number from 1 up, got 0\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("ending", "code", "said"), [
    (Stopped(signal.SIGINT, 5), 130, ("stopped; the same command goes on\n", "")),
    (Stopped(signal.SIGTERM, 5), 143, ("stopped; the same command goes on\n", "")),
    (FloatingPointError("step 5: the loss is nan"), 1, ("", "error: step 5: the loss is nan\n")),
])
def test_the_command_ends_in_one_line(ending, code, said, tmp_path, monkeypatch, capsys):
    def end(*_):
        raise ending

    monkeypatch.setattr(ablations, "SyntheticClips", lambda *_: CLIPS)
    monkeypatch.setattr(ablations, "ablate", end)
    assert command(monkeypatch, "--out", tmp_path) == code
    assert tuple(capsys.readouterr()) == said
