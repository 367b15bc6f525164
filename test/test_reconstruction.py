"""`python -m training.reconstruction`: figures against an independent computation, fair samples, the command itself."""

from collections import Counter
import json
import os
from pathlib import Path
import subprocess
import sys

from hypothesis import given, settings, strategies
import numpy as np
from overfit import toy_pair
import pytest
from scipy.ndimage import gaussian_filter
from tiny_models import randomized, tiny_kl, tiny_taesd
import torch

from training.data.pairs import Corruption, make_pair
from training.data.shards import write_shards
from training.reconstruction import chosen_targets, main, reconstruction_figures
from training.synthetic.clips import ClipSettings, synthetic_clip
from worldfm_ros.clips import TARGETS
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.guided_autoencoder import GuidedAutoencoder
from worldfm_ros.sources.rgbd_folder import write_rgbd_folder

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 64, 48
SIZE = ("--width", str(WIDTH), "--height", str(HEIGHT))


def tiny_guided():
    return randomized(GuidedAutoencoder(latent_channels=4, widths=(8, 12, 16), blocks=1), seed=3)


def psnr(picture, truth):
    return 10 * np.log10(255**2 / np.mean((picture.astype(float) - truth) ** 2))


def ssim(picture, truth):
    """Wang et al. 2004, with their window, mean over pixels and channels."""
    def mean(x):
        return gaussian_filter(x, sigma=(1.5, 1.5, 0), truncate=3.5)

    x, y = picture.astype(float), truth.astype(float)
    mx, my, c1, c2 = mean(x), mean(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    return np.mean((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))


def unit(rgb):
    return torch.from_numpy(rgb).permute(2, 0, 1)[None] / 127.5 - 1.0


@torch.no_grad()
def decoded(autoencoder, rgb, *guide):
    """(H, W, 3) uint8, through the network alone."""
    latents = autoencoder.encode(unit(rgb)).latents
    sample = autoencoder.decode(latents, *map(unit, guide)).sample[0].permute(1, 2, 0)
    return (127.5 * sample + 128).clamp(0, 255).to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def clip():
    return synthetic_clip("rooms", 0, ClipSettings(width=WIDTH, height=HEIGHT, samples=1, texel=0.8))


@pytest.fixture(scope="module")
def place(tmp_path_factory, clip):
    """An RGB-D folder and shards of one clip, a run with our autoencoder, a folder with a peer."""
    place = tmp_path_factory.mktemp("reconstruction")
    write_rgbd_folder(clip.frames, place / "room")
    write_shards([clip], place / "shards")
    tiny_guided().save_pretrained(place / "ours/vae")
    tiny_taesd().save_pretrained(place / "peer")
    return place


def test_figures_are_those_of_an_independent_computation(place, clip):
    """Every target of the only clip, at its own size, so that the photographs themselves are the truth."""
    command = [sys.executable, "-m", "training.reconstruction", "ours", "peer", "--data", "room", *SIZE, "--json"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours, peer = found["figures"]
    assert found["size"] == [HEIGHT, WIDTH] and [row["autoencoder"] for row in (ours, peer)] == ["ours", "peer"]
    assert {(row["source"], row["pictures"], row["latent_channels"]) for row in (ours, peer)} == {("room", 12, 4)}
    truths = [clip.frames[k].rgb for k in TARGETS]
    guides = [make_pair(clip, k, (HEIGHT, WIDTH), Corruption.none(), 0).guide for k in TARGETS]
    for row, network in ((ours, tiny_guided()), (peer, tiny_taesd())):
        pictures = [decoded(network, truth) for truth in truths]
        assert row["parameters"] == sum(weight.numel() for weight in network.parameters())
        assert row["psnr"] == pytest.approx(np.mean(list(map(psnr, pictures, truths))), abs=1e-2)
        assert row["ssim"] == pytest.approx(np.mean(list(map(ssim, pictures, truths))), abs=1e-3)
        assert row["milliseconds"] > 0
    pictures = [decoded(tiny_guided(), *of_one) for of_one in zip(truths, guides, strict=True)]
    assert ours["psnr_guided"] == pytest.approx(np.mean(list(map(psnr, pictures, truths))), abs=0.05)
    assert ours["ssim_guided"] == pytest.approx(np.mean(list(map(ssim, pictures, truths))), abs=0.005)
    assert peer["psnr_guided"] is None and peer["ssim_guided"] is None


def test_a_guide_that_shows_the_target_helps_and_any_autoencoder_is_measured():
    fresh = GuidedAutoencoder(latent_channels=4, widths=(8, 12, 16), blocks=1)  # paints the guide, knows no more
    codecs = [LatentCodec(autoencoder) for autoencoder in (fresh, tiny_taesd(), tiny_kl())]
    ours, *others = reconstruction_figures(codecs, (toy_pair(seed) for seed in range(3)))
    assert ours.psnr_guided > ours.psnr + 1 and ours.ssim_guided > ours.ssim
    assert all(other.psnr_guided is None and 0 < other.psnr < 40 for other in others)
    with pytest.raises(ValueError, match="at least one picture"):
        reconstruction_figures(codecs, [])


@given(strategies.integers(1, 300), strategies.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_targets_are_spread_over_clips_and_positions(clips, count):
    targets = chosen_targets(clips, count)
    assert len(set(targets)) == len(targets) == min(count, clips * len(TARGETS))
    assert targets == sorted(targets, key=lambda target: target[0]), "a clip is read once"
    assert {position for _, position in targets} <= set(TARGETS)
    in_clips = Counter(clip for clip, _ in targets)
    at_positions = Counter(position for _, position in targets)
    assert max(in_clips) < clips and max(in_clips.values()) - min(in_clips[k] for k in range(clips)) <= 1
    assert max(at_positions.values()) - min(at_positions[position] for position in TARGETS) <= 1


def printed(capsys, monkeypatch, *arguments):
    """Exit code, stdout and stderr of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["training.reconstruction", *map(str, arguments)])
    return main(), *capsys.readouterr()


def test_the_table_has_a_line_for_each_autoencoder_and_source(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    code, out, _ = printed(capsys, monkeypatch, "ours/vae", "peer", "--data", "room", "shards", *SIZE, "--count", 2)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and f"reconstruction, {WIDTH}x{HEIGHT}" in out
    rows = [line[0] for line in lines if line and line[0] in ("ours/vae", "peer", "room,", "shards,")]
    assert rows == ["room,", "ours/vae", "peer", "shards,", "ours/vae", "peer"]
    assert all(line[-3:-1] == ["-", "-"] for line in lines if line[:1] == ["peer"])
    assert not any("-" in line for line in lines if line[:1] == ["ours/vae"])


@pytest.mark.parametrize(("arguments", "message"), [
    (("room", "--data", "room"), "room holds no autoencoder: expected a run or a model folder with vae/"),
    (("nowhere", "--data", "room"), "nowhere holds no autoencoder"),
    (("ours", "--data", "peer"), "peer is no source of posed frames"),
    (("ours", "--data", "room", "--width", 60), "multiples of 8, got 256 x 60"),
    (("ours", "--data", "room", "--count", 0), "count is 1 picture or more, got 0"),
    (("ours", "--data", "shards", "--stride", 0), "stride is 1 frame or more, got 0"),
    (("--data", "room"), "name at least one folder of an autoencoder"),
    (("ours", "--data", "room", "--stride", 2), "needs 31 frames; there are 16"),
])
def test_what_the_user_can_mend_is_one_line(place, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(place)
    code, out, err = printed(capsys, monkeypatch, *arguments)
    assert code == 2 and not out and err.startswith("error: ") and message in err and len(err.splitlines()) == 1
