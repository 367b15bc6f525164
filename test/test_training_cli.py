"""`python -m training`: recipes by name, every stage for a few steps, what is refused, stop and resume."""

from dataclasses import replace
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import pytest
from safetensors.torch import load_file
import torch

from training.__main__ import check_out, follow, main
from training.builders import Inputs, procedural
from training.data.shards import write_shards
from training.recipes import RECIPES, find_recipe
from worldfm_ros.frame_model.checkpoint import load_model_folder

ROOT = Path(__file__).parents[1]
CHAIN = ("smoke-autoencoder", "smoke-pretrain", "smoke-midtrain", "smoke-distill")


def command(capsys, monkeypatch, *arguments):
    """Exit code, stdout and stderr of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    code = main()
    return code, *capsys.readouterr()


def train_recipe(name, out):
    recipe = find_recipe(name)
    follow(recipe, name, out, False, None, recipe.start(out, None))
    return out


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Each stage of the smoke recipes, on top of the one before; the folder of the runs."""
    runs = tmp_path_factory.mktemp("runs")
    for name in CHAIN:
        train_recipe(name, runs / name)
    return runs


def test_a_student_and_a_composer_learn_together_and_become_a_model(chain, tmp_path):
    train_recipe("smoke-compose", tmp_path / "smoke-compose")
    start = tmp_path / "start"
    shutil.copytree(chain / "smoke-distill" / "model", start / "model")
    shutil.copytree(tmp_path / "smoke-compose" / "composer", start / "composer")
    recipe, out = find_recipe("smoke-compose-finish"), tmp_path / "out"
    follow(recipe, "smoke-compose-finish", out, False, None, recipe.start(out, start))
    model, student = load_model_folder(out / "model"), load_model_folder(start / "model", dtype=torch.float32)
    assert model.settings.steps == 1 and model.settings.sizes == ((32, 32),)
    assert model.composer.enter.weight.abs().max() > 0
    before, after = (x.transformer.state_dict() for x in (student, model))
    assert any(not torch.equal(before[name], after[name].float().to(before[name].dtype)) for name in before)

    for goes_on_from in (out, out / "model"):
        stage = recipe.stage(Inputs(goes_on_from, tmp_path / "on", 6, lambda count: ()))
        painter = stage.networks["painter"]
        assert torch.equal(painter.composer.enter.weight, model.composer.enter.weight.float())
        assert all(weight.requires_grad for weight in painter.parameters()), "a model folder's weights are frozen"


# ---- recipes


def test_list_prints_a_line_for_each_recipe_without_torch():
    code = ("import sys; sys.argv = ['training', '--list']; from training.__main__ import main; main(); "
            "assert 'torch' not in sys.modules")
    listed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert all(len(line.split()) > 3 and len(line) <= 120 for line in lines)
    kinds = {f"{size}-{stage}" for size in ("smoke", "tiny", "xl")
             for stage in ("autoencoder", "pretrain", "midtrain", "distill")}
    assert kinds <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_whole(name):
    recipe = find_recipe(name)
    assert recipe.starts_from is None or recipe.starts_from in RECIPES
    assert bool(recipe.starts_from) <= bool(recipe.needs)
    assert recipe.run.rate("student", recipe.run.steps - 1) > 0
    multiple = 4 if "depth" in name else 16  # latents are an eighth and patches two of them; a depth network pads
    assert all(side % multiple == 0 for size in recipe.data.sizes for side in size)


def test_the_peer_differs_from_our_autoencoder_in_its_network_alone(tmp_path):
    from diffusers import AutoencoderTiny
    from overfit import minimise, toy_batch

    from training.builders import Inputs

    recipes = [find_recipe(name) for name in ("tiny-autoencoder", "tiny-autoencoder-peer")]
    ours, peer = (recipe.stage(Inputs(None, tmp_path, recipe.run.steps, lambda _: [toy_batch(2)]))
                  for recipe in recipes)
    assert recipes[0] == replace(recipes[1], stage=recipes[0].stage)
    assert peer.settings == ours.settings and peer.latent_channels == ours.latent_channels == 8
    weights = [sum(weight.numel() for weight in stage.networks["autoencoder"].parameters()) for stage in (ours, peer)]
    assert weights[1] == pytest.approx(weights[0], rel=0.01)
    assert isinstance(peer.networks["autoencoder"].autoencoder, AutoencoderTiny) and not peer.guided
    losses = minimise(peer, toy_batch(2, (128, 160)), 2, fresh=False)
    assert losses[1]["autoencoder"] < losses[0]["autoencoder"]
    peer.export(peer.networks, tmp_path)
    assert (tmp_path / "vae/config.json").exists()


def test_xl_is_the_papers_network():
    from training.builders import XL_CONFIG

    assert (XL_CONFIG.hidden_size, XL_CONFIG.depth, XL_CONFIG.heads, XL_CONFIG.patch_size) == (1152, 28, 16, 2)
    assert XL_CONFIG.camera_encoding == "prope" and XL_CONFIG.latent_channels == 4


# ---- what is refused


@pytest.mark.parametrize(("arguments", "message"), [
    (["--recipe", "tiny-midtrian", "--out", "new"], "did you mean tiny-midtrain?"),
    (["--recipe", "what", "--out", "new"], "There are: smoke-autoencoder, smoke-pretrain"),
    (["--recipe", "tiny-midtrain"], "needs --recipe NAME and --out DIR"),
    (["--recipe", "smoke-autoencoder", "--out", "full"], "full exists; go on with --resume, or choose another"),
    (["--recipe", "smoke-autoencoder", "--out", "full", "--resume"], "no run in full to resume"),
    (["--recipe", "smoke-autoencoder", "--out", "new", "--resume"], "no run in new to resume"),
    (["--recipe", "smoke-midtrain", "--out", "new"], "--recipe smoke-pretrain --out smoke-pretrain"),
    (["--recipe", "smoke-midtrain", "--out", "new", "--start", "nowhere"], "there is no folder nowhere"),
    (["--recipe", "xl-pretrain", "--out", "new"], "PixArt-Sigma's diffusers folder (transformer/ and vae/"),
    (["--recipe", "xl-autoencoder", "--out", "new"], "no clips of its own; name a folder of shards"),
    (["--recipe", "smoke-autoencoder", "--out", "new", "--steps", "0"], "steps is a whole number from 1 up, got 0"),
    (["--recipe", "smoke-midtrain", "--out", "new", "--start", "full"], "full/transformer/config.json cannot be read"),
    (["--recipe", "smoke-autoencoder", "--out", "new", "--data", "nowhere"], "nowhere"),
    (["--recipe", "smoke-autoencoder", "--out", "new", "--data", ""], "--data is empty"),
    (["--recipe", "smoke-autoencoder", "--out", "new", "--start", "full"], "smoke-autoencoder starts from nothing"),
])
def test_what_the_user_can_mend_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full/something").mkdir(parents=True)
    code, out, err = command(capsys, monkeypatch, *arguments)
    assert code == 2 and message in err and err.startswith("error: ") and len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_data_that_cannot_be_read_leaves_no_folder(tmp_path, monkeypatch, capsys):
    [shard] = write_clips(tmp_path / "data", 0).glob("*.tar")
    shard.write_bytes(bytes(shard.stat().st_size))
    code, _, err = command(capsys, monkeypatch, "--recipe", "smoke-autoencoder", "--out", tmp_path / "a", "--data",
                           tmp_path / "data")
    assert code == 2 and str(shard) in err and not (tmp_path / "a").exists()


def test_a_folder_with_nothing_but_the_teachers_pairs_is_a_new_one(tmp_path):
    (tmp_path / "pairs").mkdir()
    (tmp_path / ".lock").touch()
    check_out(tmp_path, resume=False)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="exists; go on with --resume"):
        check_out(tmp_path, resume=False)


def test_a_run_is_not_gone_on_with_when_its_data_or_start_has_changed(tmp_path, chain, monkeypatch, capsys):
    data, start = write_clips(tmp_path / "data", 0), shutil.copytree(chain / "smoke-autoencoder", tmp_path / "start")
    arguments = ("--recipe", "smoke-pretrain", "--steps", "1", "--data", data, "--start", start, "--out",
                 tmp_path / "a")
    assert command(capsys, monkeypatch, *arguments)[0] == 0
    assert command(capsys, monkeypatch, *arguments, "--resume")[0] == 0
    config = start / "vae/config.json"
    config.write_text(config.read_text() + "\n")
    shutil.rmtree(data)
    write_clips(data, 1)
    code, _, err = command(capsys, monkeypatch, *arguments, "--resume")
    assert code == 2 and "clips: " in err and "start_sha256: " in err and "data: " not in err


def write_clips(folder, number):
    """One of the procedural clips as shards."""
    write_shards(procedural(None)[number:number + 1], folder)
    return folder


def test_numbers_that_blow_up_are_exit_code_1(tmp_path, monkeypatch, capsys):
    calm = find_recipe("smoke-autoencoder")
    wild = replace(calm, run=replace(calm.run, learning_rate=1e25, warmup=0, clip_norm=float("inf")))
    monkeypatch.setitem(RECIPES, "smoke-wild", lambda: wild)
    code, _, err = command(capsys, monkeypatch, "--recipe", "smoke-wild", "--out", tmp_path / "a")
    assert code == 1 and "the loss of autoencoder is" in err


# ---- runs


def test_the_whole_chain_trains_and_each_stage_leaves_what_the_next_one_loads(chain):
    from worldfm_ros.frame_model.checkpoint import load_autoencoder, load_model_folder

    load_autoencoder(chain / "smoke-autoencoder/vae")
    steps = [load_model_folder(chain / name / "model").settings.steps for name in CHAIN[1:]]
    assert steps[-1] == 2 and min(steps[:-1]) > 2
    assert all((chain / name / "losses.png").exists() for name in CHAIN)


@pytest.mark.parametrize("name", ["smoke-distill-dmd", "smoke-finish"])
def test_other_endings_of_the_chain(chain, name):
    train_recipe(name, chain / name)
    assert (chain / name / "model/model.json").exists()


def test_the_scale_of_latents_is_the_same_in_a_run_that_was_resumed(chain, tmp_path, monkeypatch, capsys):
    whole = chain / "smoke-autoencoder"
    out = shutil.copytree(whole, tmp_path / "a")
    shutil.rmtree(out / "checkpoints/step-00000006")
    code, _, err = command(capsys, monkeypatch, "--recipe", "smoke-autoencoder", "--out", out, "--resume")
    assert code == 0, err
    assert (out / "vae/config.json").read_text() == (whole / "vae/config.json").read_text()


STOPPED = """
import os, signal, sys
from training.__main__ import main
from training.run.logbook import Pace

def tell(pace, step, losses):
    if step == 2:
        os.kill(os.getpid(), signal.SIGTERM)

Pace.tell = tell
sys.exit(main())
"""


def test_sigterm_saves_and_resume_ends_at_the_same_bits(chain, monkeypatch, capsys):
    """A run stopped by SIGTERM and gone on with in another process, against one that was left alone."""
    whole, out = chain / "smoke-midtrain", chain / "stopped"
    arguments = ("--recipe", "smoke-midtrain", "--start", str(chain / "smoke-pretrain"), "--out", str(out))
    stopped = subprocess.run([sys.executable, "-c", STOPPED, *arguments], cwd=ROOT, text=True, capture_output=True,
                             env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert "stopped by SIGTERM after step 2; go on with --resume" in stopped.stdout
    assert (out / "model").exists(), "what was learned so far can be looked at"
    code, told, errors = command(capsys, monkeypatch, *arguments, "--resume")
    assert code == 0, errors
    assert f"done: {out} holds" in told and "model/" in told
    assert (out / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    weights, expected = (load_file(run / "model/transformer/diffusion_pytorch_model.safetensors")
                         for run in (out, whole))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
