"""Model folders: what is written is what is read, what is wrong is named. Imports from other codes."""

from dataclasses import replace
import hashlib
import json
import math
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

from diffusers import PixArtTransformer2DModel
import pytest
from safetensors.torch import load_file, save_file
from tiny_models import randomized, tiny_kl, tiny_settings, tiny_taesd, tiny_transformer
import torch
from torch import nn

from worldfm_ros import share
from worldfm_ros.cli import model as model_commands
from worldfm_ros.frame_model import checkpoint
from worldfm_ros.frame_model import released as released_module
from worldfm_ros.frame_model.checkpoint import (
    ModelError,
    ModelSettings,
    load_model_folder,
    read_settings,
    save_model_folder,
)
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.released import RELEASED_CONFIG, convert_state_dict, from_pixart, import_released
from worldfm_ros.frame_model.transformer import FrameTransformer, canvas_positions

SPEC = Path(__file__).parents[2] / "shared" / "golden" / "state_dict_spec.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model_folder(folder, tiny_settings(noise="world", source="a test"), tiny_transformer(), tiny_taesd())
    return folder


@pytest.fixture
def folder(stored, tmp_path):
    """A copy to damage."""
    return shutil.copytree(stored, tmp_path / "tiny")


# ---- round trips


@pytest.mark.parametrize("autoencoder", [tiny_kl, tiny_taesd])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_written_is_read(tmp_path, autoencoder, dtype):
    settings = tiny_settings(steps=1, prediction_type="epsilon", t_mid=150, noise="world", sha256="ab", license="MIT")
    transformer, autoencoder = tiny_transformer().to(dtype), autoencoder().to(dtype)
    save_model_folder(tmp_path / "m", settings, transformer, autoencoder)
    model = load_model_folder(tmp_path / "m")
    assert model.settings == settings and model.transformer.settings == transformer.settings
    assert model.transformer.dtype == model.codec.dtype == torch.float32  # on a CPU
    for name, tensor in transformer.state_dict().items():
        assert torch.equal(model.transformer.state_dict()[name], tensor.float())
    for name, tensor in autoencoder.state_dict().items():
        assert torch.equal(model.codec.autoencoder.state_dict()[name], tensor.float())
    assert load_model_folder(tmp_path / "m", dtype=torch.bfloat16).transformer.dtype == torch.bfloat16
    assert (tmp_path / "m" / "README.md").read_text().startswith("# tiny")


def test_diffusers_reads_the_parts(stored):
    theirs = FrameTransformer.from_pretrained(stored / "transformer")
    assert theirs.state_dict().keys() == load_model_folder(stored).transformer.state_dict().keys()


def test_an_existing_folder_is_not_touched(folder):
    before = read_settings(folder)
    with pytest.raises(FileExistsError, match="exists; remove it or choose another name"):
        save_model_folder(folder, tiny_settings(), tiny_transformer(), tiny_taesd())
    assert read_settings(folder) == before


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(checkpoint, "write_card", stop)
    with pytest.raises(KeyboardInterrupt):
        save_model_folder(tmp_path / "m", tiny_settings(), tiny_transformer(), tiny_taesd())
    assert list(tmp_path.iterdir()) == []


# ---- bad input


@pytest.mark.parametrize("file", [
    "model.json", "transformer/config.json", f"transformer/{WEIGHTS}", "vae/config.json", f"vae/{WEIGHTS}",
])
def test_missing_and_truncated_files_are_named(folder, file):
    whole = (folder / file).read_bytes()
    for content in (whole[:len(whole) // 2], b""):
        (folder / file).write_bytes(content)
        with pytest.raises(ModelError, match=file.rpartition("/")[2]):
            load_model_folder(folder)
    (folder / file).unlink()
    with pytest.raises(ModelError, match=file.rpartition("/")[2]):
        load_model_folder(folder)


def change(file, **entries):
    content = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@pytest.mark.parametrize("file, entries, message", [
    ("model.json", {"format_version": 3}, "format_version 3, this worldfm_ros reads up to 2"),
    ("model.json", {"format_version": None}, "no format_version"),
    ("model.json", {"steps": 0}, "steps is a whole number from 1 up, got 0"),
    ("model.json", {"steps": 2.5}, "steps .* got 2.5"),
    ("model.json", {"t_mid": 1000}, "t_mid .* got 1000"),
    ("model.json", {"prediction_type": "x0"}, "prediction_type .* got 'x0'"),
    ("model.json", {"noise": "blue"}, "noise is one of seeded, world, fresh, got 'blue'"),
    ("model.json", {"sizes": []}, r"sizes is a list of \[height, width\]"),
    ("model.json", {"sizes": [[32, "48"]]}, "sizes is a list"),
    ("model.json", {"sizes": 32}, "sizes is a list"),
    ("model.json", {"sizes": [[40, 32]]}, "sizes are multiples of 16, got 40 x 32"),
    ("model.json", {"flavour": "mild"}, "flavour"),
    ("model.json", {"name": None}, "name"),
    ("transformer/config.json", {"flavour": "mild"}, "unknown fields flavour"),
    ("transformer/config.json", {"heads": None}, "heads"),
    ("transformer/config.json", {"camera_encoding": "gps"}, "camera_encoding is one of .* got 'gps'"),
    ("transformer/config.json", {"_class_name": "UNet"}, "_class_name is FrameTransformer, got 'UNet'"),
    ("transformer/config.json", {"depth": 3}, "missing: blocks.2"),
    ("transformer/config.json", {"depth": 1}, "unknown: blocks.1"),
    ("transformer/config.json", {"latent_channels": 8}, r"patch_embed.weight has shape \(32, 4, 2, 2\), expected"),
    ("vae/config.json", {"_class_name": "VQModel"}, "AutoencoderTiny, GuidedAutoencoder, got 'VQModel'"),
    ("vae/config.json", {"scaling_factor": None}, "scaling_factor is missing"),
    ("vae/config.json", {"scaling_factor": 0}, "scaling_factor is a number above 0, got 0"),
    ("vae/config.json", {"scaling_factor": math.nan}, "scaling_factor is a number above 0, got nan"),
    ("vae/config.json", {"scaling_factor": math.inf}, "scaling_factor is a number above 0, got inf"),
    ("vae/config.json", {"scaling_factor": "1"}, "scaling_factor is a number above 0, got '1'"),
    ("vae/config.json", {"shift_factor": math.nan}, "shift_factor is a number, got nan"),
    ("vae/config.json", {"latent_channels": 8}, "does not fit the network"),
])
def test_wrong_entries_are_named(folder, file, entries, message):
    change(folder / file, **entries)
    with pytest.raises(ModelError, match=message):
        load_model_folder(folder)


@pytest.mark.parametrize("part, name", [("transformer", "blocks.1.mlp.0.weight"), ("vae", "encoder.layers.0.weight")])
def test_damaged_weights_are_named(folder, part, name):
    file = folder / part / WEIGHTS
    tensors = load_file(file)
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[3] = math.nan
    save_file(tensors, file)
    with pytest.raises(ModelError, match=f"{part}/{WEIGHTS} is damaged: {name} holds numbers that are not finite"):
        load_model_folder(folder)


def test_parts_of_different_models_are_refused(tmp_path):
    save_model_folder(tmp_path / "m", tiny_settings(), tiny_transformer(latent_channels=16), tiny_taesd())
    with pytest.raises(ModelError, match="latent_channels are 16, the autoencoder's 4"):
        load_model_folder(tmp_path / "m")


@pytest.mark.parametrize("device, dtype", [
    ("cpu", torch.float8_e4m3fn), ("cpu", torch.int32), ("cuda:7", torch.float32),
])
def test_a_dtype_or_device_that_does_not_run_is_refused(stored, device, dtype):
    with pytest.raises(ModelError, match=rf"{device} cannot run {str(dtype).removeprefix('torch.')}"):
        load_model_folder(stored, device, dtype)


def test_a_gpu_that_is_too_small_is_told_how_much_is_needed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**20, 2**33))
    settings = tiny_settings(sizes=((512, 512),))
    with pytest.raises(ModelError, match=r"needs about 1\.1 GiB on cuda, 0\.0 of 8\.0 GiB are free; use float16"):
        checkpoint.check_memory(torch.device("cuda"), torch.float32, [nn.Linear(4096, 4096)], settings)


# ---- the released checkpoint

SMALL = replace(RELEASED_CONFIG, hidden_size=48, depth=2, heads=2, base_size=4)


def released_shapes(hidden, depth, caption=4096, captions=300, positions=1024):
    """Names and shapes of the authors' tensors, for a network of that width and depth."""
    shapes = {"pos_embed": (1, positions, hidden), "y_embedder.y_embedding": (captions, caption)}
    linear = {"t_embedder.mlp.0": (hidden, 256), "t_embedder.mlp.2": (hidden, hidden),
              "t_block.1": (6 * hidden, hidden),
              "y_embedder.y_proj.fc1": (hidden, caption), "y_embedder.y_proj.fc2": (hidden, hidden),
              "plucker_proj.0": (hidden, 6), "plucker_proj.2": (hidden, hidden), "final_layer.linear": (32, hidden),
              "x_embedder.proj": (hidden, 4, 2, 2)}
    for i in range(depth):
        shapes[f"blocks.{i}.scale_shift_table"] = (6, hidden)
        sizes = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "cross_attn.q_linear": (1, 1), "cross_attn.kv_linear": (2, 1),
                 "cross_attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        linear |= {f"blocks.{i}.{name}": (rows * hidden, columns * hidden) for name, (rows, columns) in sizes.items()}
    shapes["final_layer.scale_shift_table"] = (2, hidden)
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def released_tensors(shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).mul_(0.1).to(dtype) for name, shape in shapes.items()}


def ignorable(name):
    return name == "pos_embed" or name.startswith(("y_embedder.", "plucker_proj.")) or ".cross_attn." in name


@pytest.mark.skipif(not SPEC.exists(), reason=f"{SPEC} is not there")
def test_our_list_of_names_is_the_released_one():
    spec = json.loads(SPEC.read_text())
    assert {name: tuple(entry["shape"]) for name, entry in spec.items()} == released_shapes(1152, 28)
    needed = {name for name in spec if not ignorable(name)}
    assert needed == {name for name, entry in spec.items() if entry["used_by_released_inference"]}
    assert len(needed) == 263


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """(tensors, autoencoder folder)"""
    vae = tmp_path_factory.mktemp("vae")
    tiny_kl().save_pretrained(vae)
    return released_tensors(released_shapes(48, 2, caption=8, captions=3, positions=16)), vae


@pytest.mark.parametrize("key", [None, "state_dict"])
@pytest.mark.parametrize("keep_ignorable", [True, False])
def test_released_checkpoint_is_imported(released, tmp_path, key, keep_ignorable):
    tensors, vae = released
    kept = {name: tensor.half() for name, tensor in tensors.items() if keep_ignorable or not ignorable(name)}
    pth = tmp_path / "worldfm_1-step.pth"
    torch.save({key: kept, "epoch": 3} if key else kept, pth)
    import_released(pth, vae, tmp_path / "out", config=SMALL)
    model = load_model_folder(tmp_path / "out")
    sha256 = hashlib.sha256(pth.read_bytes()).hexdigest()
    assert model.settings == ModelSettings("out", ((64, 64),), steps=1, prediction_type="v_prediction", source=pth.name,
                                           sha256=sha256, license=model.settings.license)
    assert model.transformer.settings == SMALL
    stored = load_file(tmp_path / "out" / "transformer" / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}  # as in the file
    by_channel = kept["final_layer.linear.weight"].view(2, 2, 8, 48)
    assert torch.equal(stored["final.linear.weight"].view(2, 2, 4, 48), by_channel[:, :, :4])
    assert torch.equal(stored["blocks.1.attention.qkv.bias"], kept["blocks.1.attn.qkv.bias"])
    assert len(stored) == 263 - 26 * 9


def test_cutting_the_variance_channels_changes_nothing(released):
    tensors, _ = released
    whole = FrameTransformer.build(replace(SMALL, predicts_variance=True))
    whole.load_state_dict(convert_state_dict(tensors, whole.settings))
    cut = FrameTransformer.build(SMALL)
    cut.load_state_dict(convert_state_dict(tensors, SMALL))
    latents = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    with torch.no_grad():
        prediction, both = (network(latents[0], 999, latents[1], latents[2]) for network in (cut, whole))
    torch.testing.assert_close(prediction, both[:, :4], atol=1e-6, rtol=1e-5)
    assert prediction.std() > 0.1


def test_wrong_tensors_are_refused_by_name(released):
    tensors, _ = released
    without = {name: tensor for name, tensor in tensors.items() if name != "blocks.1.mlp.fc2.bias"}
    with pytest.raises(ModelError, match=r"missing: blocks\.1\.mlp\.fc2\.bias$"):
        convert_state_dict(without, SMALL)
    with pytest.raises(ModelError, match=r"missing: blocks\.1\.mlp\.fc2\.bias; unknown: blocks\.1\.mlp\.fc2\.bais$"):
        convert_state_dict(without | {"blocks.1.mlp.fc2.bais": tensors["blocks.1.mlp.fc2.bias"]}, SMALL)
    with pytest.raises(ModelError, match=r"t_block\.1\.weight has shape \(288, 47\), expected \(288, 48\)$"):
        convert_state_dict(tensors | {"t_block.1.weight": torch.zeros(288, 47)}, SMALL)
    with pytest.raises(ModelError, match=r"final_layer\.linear\.bias has shape \(16,\), expected \(32,\)"):
        convert_state_dict(tensors | {"final_layer.linear.bias": torch.zeros(16)}, SMALL)
    with pytest.raises(ModelError, match=r"final_layer\.linear\.bias holds torch\.int64"):
        convert_state_dict(tensors | {"final_layer.linear.bias": torch.zeros(32, dtype=torch.int64)}, SMALL)
    with pytest.raises(ModelError, match=r"unknown: ema\.pos_embed, module\.x$"):
        convert_state_dict(tensors | {"module.x": torch.zeros(1), "ema.pos_embed": torch.zeros(1)}, SMALL)
    with pytest.raises(ModelError, match=r"unknown: blocks\.2\."):
        convert_state_dict(released_tensors(released_shapes(48, 3, 8, 3, 16)), SMALL)


def test_full_size_names_and_shapes(released):
    """All 441, without the numbers."""
    tensors = {name: torch.empty(shape, device="meta") for name, shape in released_shapes(1152, 28).items()}
    assert len(tensors) == 441
    converted = convert_state_dict(tensors, RELEASED_CONFIG)
    assert sum(tensor.numel() for tensor in converted.values()) == needed_numbers(1152, 28)
    for name in ("blocks.27.attn.proj.bias", "x_embedder.proj.weight", "final_layer.scale_shift_table"):
        rest = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(ModelError, match=f"missing: {re.escape(name)}$"):
            convert_state_dict(rest, RELEASED_CONFIG)
        with pytest.raises(ModelError, match=f"missing: {re.escape(name)}; unknown: module.{re.escape(name)}$"):
            convert_state_dict(rest | {f"module.{name}": tensors[name]}, RELEASED_CONFIG)
        with pytest.raises(ModelError, match=rf": {re.escape(name)} has shape \(3,\), expected"):
            convert_state_dict(rest | {name: torch.empty(3, device="meta")}, RELEASED_CONFIG)


def needed_numbers(hidden, depth):
    """How many numbers the network has when the log-variance's 16 rows are cut off."""
    shapes = released_shapes(hidden, depth).items()
    return sum(math.prod(shape) for name, shape in shapes if not ignorable(name)) - 16 * (hidden + 1)


def test_plucker_weights_are_used_when_asked_for(released):
    tensors, _ = released
    plucker = replace(SMALL, camera_encoding="plucker")
    converted = convert_state_dict(tensors, plucker)
    assert torch.equal(converted["camera_encoder.projector.2.weight"], tensors["plucker_proj.2.weight"])
    with pytest.raises(ModelError, match=r"missing: plucker_proj\.0\.bias"):
        convert_state_dict({name: tensor for name, tensor in tensors.items() if name != "plucker_proj.0.bias"}, plucker)


class Trap:
    def __reduce__(self):
        return os.system, ("touch trapped",)


def test_foreign_files_are_refused(released, tmp_path, monkeypatch):
    tensors, vae = released
    monkeypatch.chdir(tmp_path)
    pth = tmp_path / "worldfm_2-step.pth"
    for content, message in [({"a": Trap()}, "no checkpoint of tensors alone"), ([1, 2], "holds list"),
                             ({"state_dict": 5}, "expected a dict of tensors"), ({"epoch": 5}, "not tensors: epoch")]:
        torch.save(content, pth)
        with pytest.raises(ModelError, match=message):
            import_released(pth, vae, tmp_path / "out", config=SMALL)
    assert not (tmp_path / "trapped").exists()
    torch.save(tensors, pth)
    for damaged in (pth.read_bytes()[:-5000], b"", b"hello"):
        pth.write_bytes(damaged)
        with pytest.raises(ModelError, match="cut short"):
            import_released(pth, vae, tmp_path / "out", config=SMALL)
    with pytest.raises(FileNotFoundError):
        import_released(tmp_path / "no_1-step.pth", vae, tmp_path / "out", config=SMALL)
    with pytest.raises(ModelError, match="does not tell the number of steps"):
        import_released(tmp_path / "model.pth", vae, tmp_path / "out", config=SMALL)
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        import_released(pth, tmp_path / "nowhere", tmp_path / "out", config=SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif("WORLDFM_FULL_IMPORT" not in os.environ, reason="takes 3 GB; set WORLDFM_FULL_IMPORT=1 to run it")
def test_full_size_import(tmp_path):
    tensors = released_tensors(released_shapes(1152, 28), torch.float16)
    assert len(tensors) == 441
    pth, vae = tmp_path / "worldfm_2-step.pth", tmp_path / "vae"
    torch.save(tensors, pth)
    del tensors
    tiny_kl().save_pretrained(vae)
    code = ("import re, sys, time; from worldfm_ros.frame_model.released import import_released; "
            "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 2**20; "
            "base, start = peak(), time.monotonic(); import_released(*sys.argv[1:]); "
            "print(f'{time.monotonic() - start:.1f} s, peak {peak():.2f} GiB, of which libraries {base:.2f}')")
    subprocess.run([sys.executable, "-c", code, pth, vae, tmp_path / "out"], check=True)
    pth.unlink()
    model = load_model_folder(tmp_path / "out", dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.transformer.parameters()) == needed_numbers(1152, 28)
    shutil.rmtree(tmp_path / "out")


# ---- the commands


def test_model_commands(released, stored, tmp_path, monkeypatch, capsys):
    tensors, vae = released
    monkeypatch.setattr(share, "models_directory", lambda: stored.parent)
    model_commands.list_models()
    assert re.search(r"^anchors .*\ntiny +48x32, 32x32, 2 steps, 0\.04 M parameters$", capsys.readouterr().out, re.M)
    model_commands.info("tiny", json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["network"]["hidden_size"] == 32 and facts["autoencoder"] == "AutoencoderTiny"
    assert facts["noise"] == "world"
    model_commands.info(str(stored))
    assert "source: a test" in capsys.readouterr().out
    torch.save(tensors, tmp_path / "worldfm_2-step.pth")
    with pytest.raises(ModelError, match=r"blocks\.27\.mlp\.fc2\.weight"):
        model_commands.import_checkpoint(tmp_path / "worldfm_2-step.pth", vae, tmp_path / "out")
    monkeypatch.setattr(released_module.import_released, "__defaults__", (None, SMALL))
    model_commands.import_checkpoint(tmp_path / "worldfm_2-step.pth", vae, tmp_path / "out")
    printed = capsys.readouterr().out
    assert re.search(r"out: 2 steps, v_prediction, sha256 of worldfm_2-step\.pth [0-9a-f]{64}$", printed)


# ---- PixArt


def tiny_pixart(**changes):
    return PixArtTransformer2DModel(num_attention_heads=2, attention_head_dim=24, cross_attention_dim=48,
                                    caption_channels=8, **changes)


def test_pixart_computes_the_same_where_it_has_no_text():
    """The views stacked into one tall picture are PixArt's tokens in our order; its cross-attention is silenced."""
    config = FrameTransformerConfig(hidden_size=48, depth=2, heads=2, camera_encoding="none", attention="full")
    pixart = randomized(tiny_pixart(num_layers=2, sample_size=16))
    model = from_pixart(pixart, config).eval()
    with torch.no_grad():
        for block in pixart.transformer_blocks:
            block.attn2.to_out[0].weight.zero_()
            block.attn2.to_out[0].bias.zero_()
    positions = canvas_positions(config, 4, 6, 3, torch.device("cpu"), torch.float32)
    pixart.pos_embed = PatchesAt(pixart.pos_embed.proj, positions)
    views = [torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    timestep = torch.tensor([999, 200])
    with torch.no_grad():
        theirs = pixart(torch.cat(views, dim=2), torch.zeros(2, 1, 8), timestep, return_dict=False)[0]
        ours = model(views[0], timestep, views[1], views[2])
    torch.testing.assert_close(ours, theirs[:, :4, :8], atol=1e-5, rtol=1e-5)
    assert ours.std() > 0.1


class PatchesAt(nn.Module):
    """A patch embedding with positions of our own."""

    def __init__(self, proj, positions):
        super().__init__()
        self.proj, self.positions = proj, positions

    def forward(self, x):
        return self.proj(x).flatten(2).mT + self.positions.flatten(1, 2)


@pytest.mark.parametrize("camera_encoding", ["prope", "plucker", "parametric"])
def test_pixart_leaves_the_camera_encoder_silent(camera_encoding):
    pixart = tiny_pixart(num_layers=1, sample_size=128)  # of 1024 pixels: it also embeds the picture's size
    model = from_pixart(pixart, FrameTransformerConfig(48, 1, 2, camera_encoding=camera_encoding))
    ends = [module[-1] for module in model.camera_encoder.children()]
    assert len(ends) == (camera_encoding != "prope") and not any(end.weight.any() for end in ends)
    with pytest.raises(ModelError, match=r"pos_embed\.proj\.weight has shape \(48, 4, 2, 2\), expected \(48, 4, 4, 4"):
        from_pixart(pixart, FrameTransformerConfig(48, 1, 2, patch_size=4))
