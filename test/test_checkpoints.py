"""Checkpoints by themselves: what was written comes back, damage is seen, a kill leaves a whole one."""

import json
import os
from pathlib import Path
import random
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch

from training.run.checkpoints import (
    CheckpointError,
    Snapshot,
    damage,
    latest_checkpoint,
    random_state,
    read_checkpoint,
    set_random_state,
    write_checkpoint,
)

ROOT = Path(__file__).parents[1]


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    weights = {"p": torch.randn(3, 2), "q": torch.ones(())}
    snapshot = Snapshot(7, {"a": {"b": (1, 2)}, "path": Path("x")}, {"w": weights}, {"generators": [random_state()]})
    place = write_checkpoint(tmp_path, snapshot)
    back = read_checkpoint(place, snapshot.config)
    assert back.step == 7 and back.config == {"a": {"b": [1, 2]}, "path": "x"}
    assert all(torch.equal(back.tensors["w"][name], snapshot.tensors["w"][name]) for name in "pq")
    expected = torch.rand(3), np.random.rand(), random.random()
    np.random.rand(), random.random(), torch.rand(3)
    set_random_state(back.state["generators"][0])
    now = torch.rand(3), np.random.rand(), random.random()
    assert torch.equal(now[0], expected[0]) and now[1:] == expected[1:]


def test_every_damage_is_seen(tmp_path):
    def fresh(step):
        return write_checkpoint(tmp_path / str(step), Snapshot(step, {}, {"w": {"p": torch.ones(64)}}, {}))

    changed, cut, missing, torn = (fresh(step) for step in range(4))
    content = bytearray((changed / "w.safetensors").read_bytes())
    content[-1] ^= 1
    (changed / "w.safetensors").write_bytes(content)
    os.truncate(cut / "w.safetensors", 100)
    (missing / "state.json").unlink()
    (torn / "checkpoint.json").write_text((torn / "checkpoint.json").read_text()[:40])
    assert [damage(place) is None for place in (fresh(9), changed, cut, missing, torn)] == [True] + 4 * [False]
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="no checkpoint .* is whole"):
        latest_checkpoint(cut.parent)


def with_manifest(place, edit):
    """Edit a checkpoint's manifest, which then agrees with the files as they are."""
    manifest = json.loads((place / "checkpoint.json").read_text())
    for name, facts in manifest["files"].items():
        content = (place / name).read_bytes()
        facts |= {"bytes": len(content), "crc32": zlib.crc32(content)}
    edit(manifest)
    (place / "checkpoint.json").write_text(json.dumps(manifest))


def cut(place):
    os.truncate(place / "w.safetensors", 200)
    with_manifest(place, lambda manifest: None)


def tear(place):
    (place / "state.json").write_text("{")
    with_manifest(place, lambda manifest: None)


@pytest.mark.parametrize(("harm", "message"), [
    (cut, "w.safetensors cannot be read"),
    (tear, "state.json cannot be read"),
    (lambda place: with_manifest(place, lambda manifest: manifest["files"].clear()), "checkpoint.json is damaged"),
    (lambda place: with_manifest(place, lambda manifest: manifest.pop("step")), "checkpoint.json is damaged"),
    (lambda place: with_manifest(place, lambda manifest: manifest.pop("config")), "checkpoint.json is damaged"),
    (lambda place: with_manifest(place, lambda manifest: manifest.update(step=-3)), "checkpoint.json is of step -3"),
    (lambda place: with_manifest(place, lambda manifest: manifest.update(step=99)), "checkpoint.json is of step 99"),
])
def test_damage_that_checksums_do_not_show_is_seen_too(tmp_path, harm, message):
    for step in (1, 2):
        place = write_checkpoint(tmp_path, Snapshot(step, {}, {"w": {"p": torch.ones(64)}}, {}))
    harm(place)
    with pytest.warns(UserWarning, match=message):
        assert latest_checkpoint(tmp_path).name == "step-00000001"


def test_what_is_no_checkpoint_is_passed_over(tmp_path, recwarn):
    place = write_checkpoint(tmp_path, Snapshot(1, {}, {}, {}))
    (tmp_path / "step-99999999").mkdir()
    (tmp_path / "step-zzz").touch()
    assert latest_checkpoint(tmp_path) == place and not recwarn


KILLER = """
import itertools, os, signal, sys, time
from pathlib import Path
import torch
from training.run.checkpoints import Snapshot, latest_checkpoint, read_checkpoint, write_checkpoint

torch.set_num_threads(1)
folder, told, tell = Path(sys.argv[1]), *os.pipe()

def write_for_ever(step):
    for step in itertools.count(step):
        weights = torch.full((500_000,), float(step))
        write_checkpoint(folder, Snapshot(step, {}, {"weights": {"x": weights}, "average": {"x": weights}}, {}))
        os.write(tell, b"%08d" % step)

step = 0
for attempt in range(8):
    child = os.fork()
    if child == 0:
        write_for_ever(step + 1)
    written = int(os.read(told, 8))       # it is at the next one now
    writing = False
    while not writing:                    # held there, it cannot finish before the kill
        os.kill(child, signal.SIGCONT)
        time.sleep(0.001 * (attempt + 1))
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        writing = any(folder.glob(".step-*"))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    last = latest_checkpoint(folder)      # warnings are errors here
    snapshot = read_checkpoint(last, {})
    step = snapshot.step
    assert step >= written, (step, written)
    assert all((kept["x"] == step).all() for kept in snapshot.tensors.values())
    told, tell = os.pipe()
"""


def test_sigkill_while_writing_leaves_a_whole_checkpoint(tmp_path):
    done = subprocess.run([sys.executable, "-W", "error::UserWarning:training", "-c", KILLER, tmp_path], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
