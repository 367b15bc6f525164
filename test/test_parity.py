"""Parity with numbers recorded from the released implementation, by the functions of `python test/parity.py FOLDER`."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import subprocess
import sys

import frame_oracle
import numpy as np
import parity
import pytest
from safetensors.numpy import load_file, save_file
from test_camera_encoding import random_cameras
from test_frame_transformer import random_inputs, random_network

from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.released import AUTHORS

FOLDER = Path(__file__).parents[2] / "shared/golden/open"
FILES = sorted(FOLDER.glob("*.safetensors"))


@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.stem if path else "absent")
def test_parity(path):
    if path is None:
        pytest.skip("the recorded numbers (../shared/golden/open) are not here")
    if (kind := parity.kind_of(path)) not in parity.CHECKS:
        pytest.skip(f"not covered: {parity.NOT_COVERED[kind]['all']}")
    missed = [str(comparison) for comparison in parity.check_file(path) if not comparison.passed]
    assert not missed, "\n".join(missed)


def write(path: Path, tensors: dict, config: dict) -> None:
    contiguous = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in tensors.items()}
    save_file(contiguous, path, {"config": json.dumps(config)})


def write_network(path: Path) -> None:
    """A network file of the recorded form: images of 32 x 80, head dim 40; the outputs are the slow transformer's."""
    config = FrameTransformerConfig(hidden_size=80, depth=2, heads=2, camera_encoding="plucker", attention="full",
                                    base_size=3, interpolation=0.25, predicts_variance=True)
    network = random_network(config)
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    tensors = {f"weights.{AUTHORS.sources(name)[0]}": value for name, value in state.items()}
    tensors["weights.pos_embed"] = np.zeros((1, 4, 80))
    latents = [x.double().numpy() for x in random_inputs(batch=2)]
    cameras = random_cameras(2, 3, (32, 80))
    w2c, K = (x.float().double().numpy() for x in (cameras.w2c, cameras.K))  # as the file will hold them
    tensors |= dict(zip(("in.z_t", "in.cond1", "in.cond2"), latents, strict=True))
    tensors |= {"in.timestep": np.array([2.0, 3.0]), "in.K": K, "in.w2c": w2c, "in.image_hw": np.array([[32, 80]] * 2)}
    for mode in ("nopose", "prope", "plucker", "two_nopose", "two_prope"):
        views = [0, 2] if mode.startswith("two_") else [0, 1, 2]
        plain = replace(config, camera_encoding=parity.ENCODINGS[mode.removeprefix("two_")])
        tensors[f"out.{mode}"] = np.stack([
            frame_oracle.transform(state, plain, t, np.stack([latents[view][b] for view in views]),
                                   (w2c[b, views], K[b, views], (32, 80)))
            for b, t in enumerate((2.0, 3.0))
        ])
    write(path, tensors, {"H": 32, "W": 80, "B": 2, "hidden": 80, "heads": 2, "depth": 2, "patch_size": 2,
                          "in_channels": 4, "out_channels": 8, "mlp_ratio": 4, "base_size": 3,
                          "pe_interpolation": 0.25, "qk_norm": False})


def write_prope(path: Path) -> None:
    """A camera attention file with four views of 2 x 3 tokens."""
    cameras, rng = random_cameras(1, 4, (64, 96)), np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 1, 1, 24, 40))
    P = [frame_oracle.normalized_projection(*camera, (64, 96))
         for camera in zip(cameras.w2c[0].numpy(), cameras.K[0].numpy(), strict=True)]
    matrices = [frame_oracle.token_matrices(P[view], row, column, 40)
                for view in range(4) for row in range(2) for column in range(3)]
    attended = frame_oracle.attend(q[0, 0], k[0, 0], v[0, 0], matrices, np.ones((24, 24), bool))[None, None]
    tensors = {"q": q, "k": k, "v": v, "K": cameras.K, "w2c": cameras.w2c, "out": attended}
    config = {"B": 1, "V": 4, "h": 2, "w": 3, "heads": 1, "head_dim": 40, "H": 64, "W": 96, "use_K": True}
    write(path, {f"wide.{name}": value for name, value in tensors.items()}, {"wide": config})


def parity_command(folder: Path) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, parity.__file__, str(folder)], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_other_files_of_the_same_form_pass_and_a_miss_is_told(tmp_path):
    write_network(tmp_path / "net_wide.safetensors")
    write_prope(tmp_path / "prope_wide.safetensors")
    status, lines = parity_command(tmp_path)
    assert status == 0 and len(lines) == 6 and all(line.startswith("ok ") for line in lines), lines

    changed = load_file(tmp_path / "prope_wide.safetensors")
    changed["wide.out"][0, 0, 5, 7] += 1e-3
    config = parity.Golden(tmp_path / "prope_wide.safetensors").config
    write(tmp_path / "prope_wide.safetensors", changed, config)
    (tmp_path / "net_wide.safetensors").write_bytes(b"cut short")
    status, lines = parity_command(tmp_path)
    assert status == 1
    assert [line.split()[:2] for line in lines] == [["MISS", "net_wide:"], ["MISS", "prope_wide"]], lines


def test_a_deviation_is_a_miss():
    assert not parity.compare("case", [1.0, float("nan")], [1.0, 1.0], 1e-3).passed
    assert not parity.compare("case", [1.0, 1.1], [1.0, 1.0], 1e-3).passed
    assert not parity.compare("case", [1.0], [1.0, 1.0], 1e-3).passed
    assert parity.compare("case", [1.0, 1.0005], [1.0, 1.0], 1e-3).passed


def test_unknown_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="file names begin with one of net, sampler, prope"):
        parity.kind_of(tmp_path / "mystery.safetensors")
