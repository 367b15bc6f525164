"""The training loop with a toy stage: two networks, noise that belongs to samples, everything in milliseconds."""

import copy
import csv
from dataclasses import replace
import itertools
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

from accelerate.utils import DistributedType
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
import torch.nn.functional as F

from training.batch import Batch
from training.run import loop
from training.run.checkpoints import (
    CheckpointError,
    Snapshot,
    latest_checkpoint,
    write_checkpoint,
)
from training.run.loop import RunSettings, train
from training.run.processes import Stopped, processes
from training.stages.learner import Learner, block_matrices
from training.stages.stage import Update
from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.transformer import FrameTransformer

ROOT = Path(__file__).parents[1]
SETTINGS = RunSettings(steps=6, learning_rate={"painter": 1e-2, "critic": 3e-3}, final_rate=0.1, warmup=2, ema=0.9,
                       weight_decay=0.01, checkpoint_every=2, preview_every=3)
WITH_MUON = replace(SETTINGS, muon=2.0)
SIDE, BATCH = 8, 4


class ToyStage:
    """A painter that removes noise and listens to a critic, in an update with two passes; then the critic learns."""

    averaged = ("painter",)

    def __init__(self, width=6):
        self.critic = nn.Conv2d(3, 1, 3, padding=1)
        self.networks = {
            "painter": nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1)),
            "critic": self.critic,
        }
        self.exports = 0

    def to(self, device):
        pass

    def updates(self, batch, step):
        noisy = batch.target + batch.randn(f"noise {step}", 3, SIDE, SIDE)
        painter = self.networks["painter"]
        painted = painter(noisy)
        self.critic.requires_grad_(False)
        judged = self.critic(painted).mean()
        self.critic.requires_grad_(True)
        loss = F.mse_loss(painted, batch.target) + F.mse_loss(painter(batch.drawing), batch.target) - 0.01 * judged
        yield Update("painter", loss, {"judged": judged.detach(), "global_noise": torch.rand(())})
        with torch.no_grad():
            painted = painter(noisy)
        scores = self.networks["critic"](torch.cat([batch.target, painted])).mean(dim=(1, 2, 3))
        real, fake = scores.chunk(2)
        yield Update("critic", F.softplus(-real).mean() + F.softplus(fake).mean(), {})

    def preview(self, networks, batch):
        return {"drawing": batch.drawing, "painted": networks["painter"](batch.drawing), "target": batch.target}

    def export(self, networks, folder):
        (folder / "model").mkdir()
        save_file(networks["painter"].state_dict(), folder / "model" / "painter.safetensors")


class BlockPainter(nn.Module):
    """Pixels through repeated blocks, as a transformer's tokens go."""

    def __init__(self, width):
        super().__init__()
        self.enter, self.leave = nn.Linear(3, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, pictures):
        x = self.enter(pictures.movedim(1, -1))
        for block in self.blocks:
            x = x + F.silu(block(x))
        return self.leave(x).movedim(-1, 1)


class BlockStage(ToyStage):
    """Its painter has blocks, its critic none."""

    def __init__(self, width=6):
        super().__init__()
        self.networks["painter"] = BlockPainter(width)


class LateCritic(ToyStage):
    """Its critic learns from the fourth step on, as the student of DMD2 from its `fake_updates`-th."""

    def updates(self, batch, step):
        return (update for update in super().updates(batch, step) if step >= 3 or update.network == "painter")


class Flipped(ToyStage):
    """Its loss is not a number from a step on."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def updates(self, batch, step):
        for update in super().updates(batch, step):
            yield replace(update, loss=update.loss * float("nan")) if step >= self.step else update


def toy_batch(number, size=BATCH, first=0):
    """Samples first..first + size of batch `number`: pictures from their seeds."""
    seeds = tuple(1000 * number + first + k for k in range(size))
    pictures = [torch.rand(20, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in seeds]
    target, drawing, reference, guide, _ = torch.stack(pictures).split((3, 3, 3, 8, 3), dim=1)
    cameras = Cameras(torch.eye(4).repeat(size, 3, 1, 1), torch.eye(3).repeat(size, 3, 1, 1), (SIDE, SIDE))
    return Batch(target, drawing, torch.ones(size, 1, SIDE, SIDE, dtype=torch.bool), reference, guide, cameras, seeds)


def toy_batches(step):
    return map(toy_batch, itertools.count(step))


def new_stage(kind=ToyStage, *arguments):
    torch.manual_seed(5)
    return kind(*arguments)


def run(out, settings=SETTINGS, stage=None, batches=toy_batches, resume=False, config=None):
    train(stage or new_stage(), batches, settings, out, resume, config)
    return out


def checkpoint_names(out):
    return sorted(place.name for place in (out / "checkpoints").iterdir())


def tensors(place):
    return {file.name: load_file(file) for file in sorted(place.glob("*.safetensors"))}


def assert_same_run(a, b):
    """The same numbers to the last bit: every row of the metrics, the last checkpoint, the exported weights."""
    assert (a / "metrics.csv").read_text() == (b / "metrics.csv").read_text()
    last_a, last_b = (latest_checkpoint(out / "checkpoints") for out in (a, b))
    assert last_a.name == last_b.name
    for file, kept in tensors(last_a).items():
        other = load_file(last_b / file)
        assert kept.keys() == other.keys()
        assert all(torch.equal(kept[name], other[name]) for name in kept), file
    assert (last_a / "state.json").read_text() == (last_b / "state.json").read_text()
    assert (a / "model/painter.safetensors").read_bytes() == (b / "model/painter.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "whole")


# ---- what a run leaves


def test_a_run_leaves_what_people_look_at(whole_run):
    made = {str(path.relative_to(whole_run)) for path in whole_run.rglob("*") if path.is_file()}
    assert {"metrics.csv", "losses.png", "model/painter.safetensors", "samples/step-00000003.png",
            "samples/step-00000006.png"} <= made
    assert any(name.startswith("tensorboard/") for name in made)
    assert {name for name in made if Path(name).name.startswith(".")} == {".lock", ".exported"}
    assert checkpoint_names(whole_run) == ["step-00000004", "step-00000006"]
    rows = list(csv.DictReader((whole_run / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"painter/loss", "painter/judged", "painter/gradient_norm", "critic/loss"} <= rows[0].keys()


def test_rates_rise_then_fall_and_are_a_networks_own(whole_run):
    rows = list(csv.DictReader((whole_run / "metrics.csv").open()))
    painter = [float(row["painter/learning_rate"]) for row in rows]
    assert painter[:2] == [0.005, 0.01] and painter[-1] == pytest.approx(0.001)
    assert painter[2:] == sorted(painter[2:], reverse=True)
    critic = [float(row["critic/learning_rate"]) for row in rows]
    assert critic == pytest.approx([0.3 * rate for rate in painter])


def test_the_average_is_exported_and_is_the_weights_moving_mean(tmp_path):
    stage = new_stage()
    weights = [[p.detach().clone() for p in stage.networks["painter"].parameters()]]
    recorded = stage.updates

    def updates(batch, step):
        yield from recorded(batch, step)
        weights.append([p.detach().clone() for p in stage.networks["painter"].parameters()])

    stage.updates = updates
    run(tmp_path / "a", stage=stage)
    expected = [p.clone() for p in weights[0]]
    for step, now in enumerate(weights[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [decay * mean + (1 - decay) * p for mean, p in zip(expected, now, strict=True)]
    exported = load_file(tmp_path / "a/model/painter.safetensors")
    for mean, name in zip(expected, stage.networks["painter"].state_dict(), strict=True):
        torch.testing.assert_close(exported[name], mean)


def test_only_what_is_averaged_is_exported_and_shown_and_always_of_the_first_batch(tmp_path):
    stage, asked, given = new_stage(), [], []
    preview, export = stage.preview, stage.export
    stage.preview = lambda networks, batch: given.append((*networks, *batch.seeds)) or preview(networks, batch)
    stage.export = lambda networks, folder: given.append((*networks,)) or export(networks, folder)
    run(tmp_path / "a", stage=stage, batches=lambda step: asked.append(step) or toy_batches(step))
    assert asked == [0, 0], "read once for pictures, once to learn"
    assert set(given) == {("painter",), ("painter", 0, 1, 2, 3)} and len(given) == 5


# ---- Muon


@pytest.fixture(scope="module")
def muon_run(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "muon", WITH_MUON, new_stage(BlockStage))


@pytest.mark.parametrize("muon", [-0.5, float("nan"), float("inf"), "2", None])
def test_a_muon_that_is_no_multiple_is_refused(muon):
    with pytest.raises(ValueError, match="muon is a finite number from 0 up, got"):
        replace(SETTINGS, muon=muon)


def test_the_matrices_of_a_frame_transformer_are_its_blocks_linear_layers():
    network = FrameTransformer(hidden_size=16, depth=2, heads=2)
    names = {weight: name for name, weight in network.named_parameters()}
    layers = ("attention.qkv", "attention.proj", "mlp.0", "mlp.2")
    assert [names[weight] for weight in block_matrices(network)] == [f"blocks.{k}.{layer}.weight" for k in (0, 1)
                                                                     for layer in layers]
    network.blocks[0].requires_grad_(False)
    assert [names[weight] for weight in block_matrices(network)] == [f"blocks.1.{layer}.weight" for layer in layers]
    assert block_matrices(new_stage().networks["painter"]) == []


def test_muons_steps_are_orthogonal_matrices_as_large_as_its_rate_says(tmp_path):
    """A step is rate * 0.2 sqrt(width) times a matrix with singular values near 1 (arXiv 2502.16982, 2.2)."""
    width, changes = 6, []
    for muon in (2.0, 4.0):
        stage = new_stage(BlockStage, width)
        before = copy.deepcopy(stage.networks["painter"])
        run(tmp_path / str(muon), replace(WITH_MUON, steps=1, warmup=0, weight_decay=0.0, muon=muon), stage)
        changes.append([now - then for now, then in zip(stage.networks["painter"].parameters(), before.parameters(),
                                                        strict=True)])
        for now, then in zip(stage.networks["painter"].blocks, before.blocks, strict=True):
            values = torch.linalg.svdvals(now.weight - then.weight) / (1e-2 * muon * 0.2 * width**0.5)
            assert values[0] < 1.3 and values.median() > 0.5, values
    for (name, _), slow, fast in zip(before.named_parameters(), *changes, strict=True):
        factor = 2.0 if name in ("blocks.0.weight", "blocks.1.weight") else 1.0  # AdamW's parameters have its rate
        torch.testing.assert_close(fast, factor * slow, rtol=1e-3, atol=1e-7, msg=name)


def test_a_run_with_muon_resumes_to_the_last_bit(tmp_path, muon_run):
    kept = tensors(latest_checkpoint(muon_run / "checkpoints"))
    assert kept.keys() == {f"{what}.safetensors" for what in ("painter.weights", "painter.optimizer", "painter.average",
                                                              "critic.weights", "critic.optimizer")}
    moments = kept["painter.optimizer.safetensors"]
    assert {name for name in moments if name.startswith("blocks.0.weight")} == {"blocks.0.weight.momentum_buffer"}
    assert {"enter.weight.exp_avg", "blocks.0.bias.exp_avg"} <= moments.keys()
    with pytest.raises(Stopped):
        run(tmp_path / "a", WITH_MUON, new_stage(BlockStage), stop_after(3))
    assert_same_run(run(tmp_path / "a", WITH_MUON, new_stage(BlockStage), resume=True), muon_run)


def test_a_network_without_blocks_learns_as_if_there_were_no_muon(tmp_path, whole_run):
    assert_same_run(run(tmp_path / "a", WITH_MUON), whole_run)


def test_a_run_goes_on_with_the_muon_it_began_with(muon_run):
    with pytest.raises(CheckpointError, match=r"run\.muon: 2\.0 then, 3\.0 now"):
        run(muon_run, replace(WITH_MUON, muon=3.0), new_stage(BlockStage), resume=True)


def test_muon_is_refused_where_matrices_are_in_pieces(tmp_path, monkeypatch):
    sharding = SimpleNamespace(distributed_type=DistributedType.FSDP, is_fsdp2=True)
    monkeypatch.setattr("training.run.loop.Accelerator", lambda **_: sharding)  # accelerate itself shards on GPUs alone
    with pytest.raises(ValueError, match=r"set muon = 0, or launch without --use_fsdp \(DDP\)"):
        run(tmp_path / "a", WITH_MUON)


# ---- accumulation


def test_accumulated_batches_are_one_large_batch(tmp_path):
    def halves(step):
        return (toy_batch(number, 2, first) for number in itertools.count(step) for first in (0, 2))

    stages = [new_stage(), new_stage()]
    run(tmp_path / "whole", stage=stages[0])
    run(tmp_path / "halves", replace(SETTINGS, accumulate=2), stages[1], halves)
    painters = [stage.networks["painter"].parameters() for stage in stages]
    for a, b in zip(*painters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_loss_that_reaches_another_networks_weights_is_an_error(tmp_path):
    class Leaky(ToyStage):
        def updates(self, batch, step):
            yield Update("painter", self.critic(self.networks["painter"](batch.drawing)).mean(), {})
            yield Update("critic", self.networks["critic"](batch.target).mean(), {})

    with pytest.raises(ValueError, match="another network's loss reaches the weights of critic"):
        run(tmp_path / "a", stage=new_stage(Leaky))


def test_batches_that_end_early_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="batches ended in step 4 of 6"):
        run(tmp_path / "a", batches=lambda step: itertools.islice(toy_batches(step), 3))


# ---- resume


def stop_after(step, number=signal.SIGTERM):
    """Batches during whose step `step` this process gets a signal."""
    def batches(first):
        for k in itertools.count(first):
            if k + 1 == step:
                os.kill(os.getpid(), number)
            yield toy_batch(k)
    return batches


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 3), (signal.SIGINT, 5)])
def test_a_signal_saves_and_a_resumed_run_is_the_same_to_the_last_bit(tmp_path, whole_run, number, step):
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="go on with --resume") as stopped:
        run(tmp_path / "a", batches=stop_after(step, number))
    assert (stopped.value.number, stopped.value.step) == (number, step)
    assert signal.getsignal(number) is before
    assert checkpoint_names(tmp_path / "a")[-1] == f"step-{step:08d}"
    assert_same_run(run(tmp_path / "a", resume=True), whole_run)


def test_a_checkpoint_before_a_networks_first_update_changes_nothing(tmp_path):
    whole = run(tmp_path / "whole", replace(SETTINGS, checkpoint_every=6), new_stage(LateCritic))
    kept = run(tmp_path / "kept", replace(SETTINGS, checkpoint_every=1), new_stage(LateCritic))
    assert_same_run(kept, whole)
    with pytest.raises(Stopped):
        run(tmp_path / "a", stage=new_stage(LateCritic), batches=stop_after(2))
    assert_same_run(run(tmp_path / "a", stage=new_stage(LateCritic), resume=True), whole)


def test_rows_after_the_checkpoint_are_dropped_and_a_torn_row_too(tmp_path, whole_run):
    out = shutil.copytree(whole_run, tmp_path / "a")
    shutil.rmtree(out / "checkpoints/step-00000006")
    shutil.rmtree(out / "model")
    with open(out / "metrics.csv", "a") as stream:
        stream.write("7,0.12")
    assert_same_run(run(out, resume=True), whole_run)


def test_damaged_checkpoints_are_skipped_with_a_warning(tmp_path, whole_run):
    out = shutil.copytree(whole_run, tmp_path / "a")
    weights = out / "checkpoints/step-00000006/painter.weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    (out / "checkpoints/.step-00000007.abc").mkdir()
    (out / "checkpoints/step-00000008").mkdir()
    (out / "checkpoints/step-zzz").touch()
    with pytest.warns(UserWarning) as warned:
        assert latest_checkpoint(out / "checkpoints").name == "step-00000004"
        assert_same_run(run(out, resume=True), whole_run)
    assert all("painter.weights.safetensors has" in str(warning.message) for warning in warned)
    assert checkpoint_names(out) == ["step-00000004", "step-00000006", "step-00000008", "step-zzz"]


def test_a_checkpoint_that_lacks_a_network_or_is_of_later_steps_is_one_error(tmp_path, whole_run):
    manifest = json.loads((latest_checkpoint(whole_run / "checkpoints") / "checkpoint.json").read_text())
    for step, message in ((7, "step 7 of a run of 6; remove it"), (5, "has no 'painter'; remove it")):
        out = tmp_path / str(step)
        write_checkpoint(out / "checkpoints", Snapshot(step, manifest["config"], {}, {"optimizers": {}}))
        with pytest.raises(CheckpointError, match=message):
            run(out, resume=True)


def test_another_config_is_refused_with_the_fields_that_differ(whole_run):
    with pytest.raises(CheckpointError, match=r"run\.weight_decay: 0\.01 then, 0\.2 now") as error:
        run(whole_run, replace(SETTINGS, weight_decay=0.2, steps=9), resume=True)
    assert "run.steps: 6 then, 9 now" in str(error.value) and "betas" not in str(error.value)
    with pytest.raises(CheckpointError, match="pairs.batch: absent then, 16 now"):
        run(whole_run, resume=True, config={"pairs": {"batch": 16}})


def test_how_often_to_save_and_look_may_change(whole_run):
    run(whole_run, replace(SETTINGS, checkpoint_every=1, preview_every=1), resume=True)


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path, whole_run):
    (tmp_path / "a/checkpoints").mkdir(parents=True)
    assert_same_run(run(tmp_path / "a", resume=True), whole_run)


def test_a_second_run_into_the_same_folder_is_refused_while_the_first_one_lives(tmp_path, whole_run):
    out = shutil.copytree(whole_run, tmp_path / "a")
    holder = ("import pathlib, sys; from training.run.processes import sole_writer\n"
              "with sole_writer(pathlib.Path(sys.argv[1])): print(flush=True), input()")
    with subprocess.Popen([sys.executable, "-c", holder, out], cwd=ROOT, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match=f"another run is writing into {out}"):
            run(out, resume=True)
        other.kill()
        other.wait()
        assert_same_run(run(out, resume=True), whole_run)


def test_data_that_cannot_be_read_ends_a_run_before_it_leaves_a_trace(tmp_path):
    def unreadable(step):
        raise ValueError("clip 3 is damaged")
        yield

    with pytest.raises(ValueError, match="clip 3"):
        run(tmp_path / "a", batches=unreadable)
    with pytest.raises(ValueError, match="no batches"):
        run(tmp_path / "a", batches=lambda step: [])
    assert not (tmp_path / "a").exists()


# ---- numbers that are not finite, disks that are full


def test_nan_names_step_and_network_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="step 4: the loss of painter is nan.*step-00000002"):
        run(tmp_path / "a", stage=new_stage(Flipped, 3))
    assert checkpoint_names(tmp_path / "a") == ["step-00000002"]
    kept = tensors(tmp_path / "a/checkpoints/step-00000002")
    assert all(x.isfinite().all() for file in kept.values() for x in file.values())
    assert len((tmp_path / "a/metrics.csv").read_text().splitlines()) == 4


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    stage = new_stage()
    recorded = stage.updates

    def updates(batch, step):
        yield from recorded(batch, step)
        if step == 3:
            with torch.no_grad():
                stage.networks["painter"][0].bias.fill_(float("inf"))

    stage.updates = updates
    with pytest.raises(FloatingPointError, match="step 4: painter.weights is not finite"):
        run(tmp_path / "a", stage=stage)
    assert checkpoint_names(tmp_path / "a") == ["step-00000002"]
    good = load_file(tmp_path / "a/checkpoints/step-00000002/painter.average.safetensors")
    assert all(torch.equal(good[name], x) for name, x in load_file(tmp_path / "a/model/painter.safetensors").items())


class NoRoom(ToyStage):
    """Its exports fail from the second one on, as on a full disk."""

    def export(self, networks, folder):
        super().export(networks, folder)
        self.exports += 1
        if self.exports > 1:
            raise SafetensorError("No space left on device")


def test_an_export_that_fails_keeps_the_checkpoint_and_the_old_one_and_is_made_up_for(tmp_path, whole_run):
    out, settings = tmp_path / "a", replace(SETTINGS, checkpoint_every=5)
    with pytest.raises(OSError, match="step 6 cannot be exported to .*a: No space .* --resume"):
        run(out, settings, new_stage(NoRoom))
    assert checkpoint_names(out)[-1] == "step-00000006" and not list(out.glob(".export.*"))
    old = (out / "model/painter.safetensors").read_bytes()
    assert old != (whole_run / "model/painter.safetensors").read_bytes()
    (out / ".export.killed/new").mkdir(parents=True)
    assert_same_run(run(out, settings, resume=True), whole_run)
    assert not list(out.glob(".export.*"))
    (out / "model/README.md").touch()
    run(out, settings, resume=True)
    assert (out / "model/README.md").exists(), "a finished run is left as it is"


def test_what_the_logbook_cannot_write_is_one_line_that_names_it(tmp_path):
    (tmp_path / "a/losses.png").mkdir(parents=True)
    with pytest.raises(OSError, match=r"a/losses\.png cannot be written: Is a directory; make room") as error:
        run(tmp_path / "a")
    assert len(str(error.value).splitlines()) == 1
    assert checkpoint_names(tmp_path / "a") == ["step-00000002"]
    (tmp_path / "a/metrics.csv").write_bytes(b"\xc5\xff\n")
    with pytest.raises(ValueError, match=r"a/metrics\.csv is damaged"):
        run(tmp_path / "a", resume=True)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting a small disk takes root")
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        small, large = (Snapshot(step, {}, {"weights": {"x": torch.ones(n)}}, {})
                        for step, n in ((1, 100_000), (2, 200_000)))
        write_checkpoint(disk / "checkpoints", small)
        with pytest.raises(CheckpointError, match="step 2 cannot be written.*--resume"):
            write_checkpoint(disk / "checkpoints", large)
        assert checkpoint_names(disk) == ["step-00000001"]
        assert latest_checkpoint(disk / "checkpoints").name == "step-00000001"
    finally:
        subprocess.run(["umount", disk], check=True)


# ---- processes


class Sharding:
    """Instead of accelerate, which shards on GPUs alone."""

    @staticmethod
    def prepare(network, optimizer):
        fully_shard(network, mesh=init_device_mesh("cpu", (2,)))
        return network, Unsharded.wrapped(torch.optim.AdamW(network.parameters(), optimizer.defaults["lr"]))


class Unsharded:
    @classmethod
    def prepare(cls, network, optimizer):
        return network, cls.wrapped(optimizer)

    @staticmethod
    def wrapped(optimizer):
        return SimpleNamespace(optimizer=optimizer, step=optimizer.step, zero_grad=optimizer.zero_grad)


def learner_on(preparing):
    network = new_stage().networks["painter"]
    return Learner(preparing, network, [(torch.optim.AdamW(network.parameters(), lr=1e-2), 1.0)], decay=0.9)


def assert_close(kept, others):
    assert kept.keys() == others.keys()
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, others[name], rtol=1e-4, atol=1e-6, msg=name)


def assert_close_run(a, b, tolerance):
    rows, others = (list(csv.DictReader((out / "metrics.csv").open())) for out in (a, b))
    for name in ("painter/loss", "painter/gradient_norm", "painter/judged", "critic/loss"):
        np.testing.assert_allclose([float(row[name]) for row in rows], [float(row[name]) for row in others],
                                   rtol=tolerance, atol=0.1 * tolerance, err_msg=name)
    kept, expected = (load_file(out / "model/painter.safetensors") for out in (a, b))
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, expected[name], rtol=10 * tolerance, atol=tolerance, msg=name)


def sharding_script():
    """FSDP 2: a network in pieces, one half of each batch on each process, against the whole of it."""
    rank, sharded, plain = processes().process_index, learner_on(Sharding), learner_on(Unsharded)

    def learn(learner, number, pictures):
        learner.network(pictures).square().mean().backward()
        norm = learner.clip(0.1)
        learner.step(1e-2, number)
        return norm

    def both_learn(number):
        pictures = toy_batch(number).target
        norms = learn(sharded, number, pictures[2 * rank:][:2]), learn(plain, number, pictures)
        torch.testing.assert_close(*norms, rtol=1e-4, atol=0)

    for number in range(3):
        both_learn(number)
    kept = [plain.state()]
    torch.distributed.broadcast_object_list(kept)  # as every process reads it from the disk
    sharded = learner_on(Sharding)
    sharded.load_state(*copy.deepcopy(kept[0]))
    both_learn(3)
    (pieces, groups), (whole, expected) = sharded.state(), plain.state()
    averages = sharded.averaged().state_dict(), plain.averaged().state_dict()
    if rank == 0:
        assert json.dumps(groups) == json.dumps(expected)
        for what, tensors in whole.items():
            assert_close(pieces[what], tensors)
        assert_close(*averages)


def parallel_script(out):
    """Run as a script by two processes: the same global batch, half of it each."""
    mine = processes()
    share = BATCH // mine.num_processes

    def batches(step):
        return (toy_batch(number, share, share * mine.process_index) for number in itertools.count(step))

    run(Path(out), batches=batches)
    run(Path(f"{out}-muon"), WITH_MUON, new_stage(BlockStage), batches)


def test_two_processes_are_one_with_the_doubled_batch(tmp_path, whole_run, muon_run):
    """With Muon and without. And a network in pieces is the whole one (sharding_script)."""
    out = tmp_path / "two"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", __file__, out]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    with_muon = tmp_path / "two-muon", muon_run, WITH_MUON, BlockStage, 1e-3  # its step is rounded to bfloat16
    for folder, expected, settings, kind, tolerance in ((out, whole_run, SETTINGS, ToyStage, 1e-5), with_muon):
        assert_close_run(folder, expected, tolerance)
        state = json.loads((latest_checkpoint(folder / "checkpoints") / "state.json").read_text())
        assert len(state["generators"]) == 2
        shutil.rmtree(folder / "checkpoints/step-00000006")
        run(folder, settings, new_stage(kind), resume=True)  # one process goes on where two were
        assert_close_run(folder, expected, tolerance)


if __name__ == "__main__":
    parallel_script(sys.argv[1])
    sharding_script()


@pytest.mark.parametrize("faster, precision", [(torch.bfloat16, "bf16"), (torch.float16, "no"), (None, "no")])
def test_bf16_is_for_devices_that_are_faster_with_it(tmp_path, monkeypatch, faster, precision):
    monkeypatch.setattr(loop, "fast_dtype", lambda device: faster)
    asked = []
    monkeypatch.setattr(loop, "Accelerator", lambda **options: asked.append(options["mixed_precision"]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop.Run(ToyStage(), replace(SETTINGS, precision="bf16"), tmp_path, {"run": {}})
    assert asked == [precision]
