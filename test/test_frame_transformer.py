"""The frame transformer: against a slow independent one, its two attention patterns, its options, and bad input."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
import inspect

import frame_oracle
import numpy as np
import pytest
from test_camera_encoding import moved_world, random_cameras
import torch

from worldfm_ros.frame_model.attention import attend
from worldfm_ros.frame_model.camera_encoding import Cameras
from worldfm_ros.frame_model.config import ATTENTION_PATTERNS, CAMERA_ENCODINGS, FrameTransformerConfig
from worldfm_ros.frame_model.transformer import FrameTransformer, canvas_positions

SMALL = FrameTransformerConfig(hidden_size=32, depth=3, heads=2, base_size=4, interpolation=0.5)
LATENT_HW = (4, 10)  # images of 32 x 80


def random_network(config: FrameTransformerConfig, seed=0, dtype=torch.float32) -> FrameTransformer:
    """No weight is zero, so that nothing is silent."""
    network = FrameTransformer.build(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.3 if parameter.ndim < 2 else 1.0 / parameter[0].numel() ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return network if dtype == torch.float32 else network.to(dtype)


def random_inputs(batch=1, latent_hw=LATENT_HW, dtype=torch.float32, seed=1):
    """target, anchor and reference latents."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, batch, 4, *latent_hw, generator=generator).to(dtype).unbind(0)


def cameras_for(config: FrameTransformerConfig, batch=1, views=3, seed=0) -> Cameras | None:
    return None if config.camera_encoding == "none" else random_cameras(batch, views, (32, 80), seed)


def run(network, timestep=20.0, cameras=None, **changes):
    """The network's output for the standard inputs, some of them changed."""
    inputs = dict(zip(("target", "anchor", "reference"), random_inputs(dtype=network.dtype), strict=True))
    with torch.inference_mode():
        return network(timestep=timestep, cameras=cameras or cameras_for(network.settings), **(inputs | changes))


# ---- right


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
@pytest.mark.parametrize("encoding", CAMERA_ENCODINGS)
def test_equals_one_slow_pass_over_all_tokens(encoding, attention, views):
    config = replace(SMALL, camera_encoding=encoding, attention=attention, condition_timestep=3,
                     predicts_variance=views == 2)
    network = random_network(config, dtype=torch.float64)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    latents = torch.stack(random_inputs(batch=2, dtype=torch.float64))[[0, 2] if views == 2 else [0, 1, 2]]
    cameras = cameras_for(config, batch=2, views=views)
    with torch.inference_mode():
        ours = network(latents[0], torch.tensor([2.0, 0.5]), None if views == 2 else latents[1], latents[-1], cameras)
    for b, t in enumerate((2.0, 0.5)):
        seen = cameras and (cameras.w2c[b].numpy(), cameras.K[b].numpy(), cameras.image_hw)
        slow = frame_oracle.transform(state, config, t, latents[:, b].numpy(), seen)
        np.testing.assert_allclose(ours[b].numpy(), slow, rtol=0, atol=2e-6)  # the timestep's sines are float32


@pytest.mark.parametrize("encoding", CAMERA_ENCODINGS)
@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
def test_kept_conditions_equal_recomputed_ones(attention, encoding):
    network = random_network(replace(SMALL, attention=attention, camera_encoding=encoding))
    first, second = cameras_for(network.settings), cameras_for(network.settings)
    if second is not None:  # the robot moved on; the reference stays
        w2c = second.w2c.clone()
        w2c[:, :2] = random_cameras(1, 1, seed=7).w2c
        second = Cameras(w2c, second.K, second.image_hw)
    target, anchor, reference = random_inputs()
    with torch.inference_mode():
        kept = network.encode_reference(reference, network.encode_views(first, LATENT_HW))
        views = network.encode_views(second, LATENT_HW)
        conditions = network.encode_anchor(anchor, kept, views)
        for t in (999, 200):
            incremental = network.denoise(target, network.modulation(t), conditions, views)
            recomputed = network(target, torch.tensor([t]), anchor, reference, second)
            torch.testing.assert_close(incremental, recomputed, rtol=0, atol=1e-5)


def test_conditions_do_not_see_the_target_or_its_time_when_cached():
    network = random_network(SMALL)
    blocks = []
    hook = network.blocks[0].mlp.register_forward_hook(lambda module, inputs, output: blocks.append(output))
    run(network, timestep=999)
    run(network, timestep=1, target=random_inputs(seed=8)[0])
    hook.remove()
    (reference1, anchor1, target1), (reference2, anchor2, target2) = blocks[:3], blocks[3:]
    assert torch.equal(reference1, reference2) and torch.equal(anchor1, anchor2) and not torch.equal(target1, target2)


@pytest.mark.parametrize("attention, tokens", [("full", [30, 30, 10]), ("cached", [10, 10, 10, 10, 10, 10, 10])])
def test_only_the_target_leaves_the_last_block(attention, tokens):
    network = random_network(replace(SMALL, attention=attention))
    counted = []
    for block in network.blocks:
        block.mlp.register_forward_hook(lambda module, inputs, output: counted.append(output.shape[1]))
    run(network)
    assert counted == tokens  # of 2 x 5 a view; in `cached` the conditions end with the last block's keys and values


def test_one_set_of_cameras_serves_a_batch():
    network = random_network(SMALL)
    target, anchor, reference = random_inputs(batch=2)
    with torch.inference_mode():
        both = network(target, 5, anchor, reference, cameras_for(SMALL))
        second = network(target[1:], 5, anchor[1:], reference[1:], cameras_for(SMALL))
    torch.testing.assert_close(both[1:], second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("latent_hw", [(2, 2), (2, 14), (12, 6)], ids=str)
def test_any_multiple_of_16_pixels(latent_hw):
    network = random_network(SMALL)
    target, anchor, reference = random_inputs(latent_hw=latent_hw)
    with torch.inference_mode():
        assert network(target, 5, anchor, reference, cameras_for(SMALL)).shape == (1, 4, *latent_hw)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float16, 2e-3)], ids=["float32", "float16"])
@pytest.mark.parametrize("encoding", ["prope", "parametric"])
@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
def test_a_world_10_km_away_changes_nothing(attention, encoding, dtype, tolerance):
    network = random_network(replace(SMALL, camera_encoding=encoding, attention=attention), dtype=dtype)
    cameras = cameras_for(network.settings)
    here = run(network, cameras=cameras).float()
    there = run(network, cameras=moved_world(cameras, shift=(1e4, -7e3, 20.0))).float()
    assert (there - here).abs().max() < tolerance * here.abs().max()


def test_half_precision_is_near_single():
    network = random_network(SMALL)
    exact = run(network)
    assert (run(network.half()).float() - exact).abs().max() < 2e-2 * exact.abs().max()


# ---- nothing is silently dead


def test_bfloat16_attention_on_a_cpu_is_near_the_fused_one():
    q, k, v = (x.bfloat16() for x in torch.randn(3, 2, 4, 50, 24, generator=torch.Generator().manual_seed(0)))
    fused = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    error = (attend(q, k, v).double() - fused).square().mean().sqrt()
    assert error < 2**-7 * fused.square().mean().sqrt()


@pytest.mark.parametrize("change", [
    {"camera_encoding": "none"}, {"attention": "full"}, {"base_size": 5}, {"interpolation": 0.6},
    {"condition_timestep": 9},
], ids=str)
def test_every_option_changes_the_output(change):
    network = random_network(SMALL)
    other = FrameTransformer.build(replace(SMALL, **change)).eval()
    other.load_state_dict(network.state_dict())
    assert (run(other) - run(network)).abs().max() > 1e-3


def test_camera_encodings_differ():
    outputs = []
    for encoding in CAMERA_ENCODINGS:
        network = random_network(replace(SMALL, camera_encoding=encoding))
        shared = random_network(SMALL).state_dict()
        network.load_state_dict(network.state_dict() | shared)
        outputs.append(run(network))
    for i, output in enumerate(outputs):
        for other in outputs[:i]:
            assert (output - other).abs().max() > 1e-2


@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
@pytest.mark.parametrize("encoding", CAMERA_ENCODINGS)
def test_every_input_changes_the_output(encoding, attention):
    network = random_network(replace(SMALL, camera_encoding=encoding, attention=attention))
    base = run(network)
    changed = [run(network, timestep=21.0)]
    changed += [run(network, **{name: random_inputs(seed=4)[0]}) for name in ("target", "anchor", "reference")]
    cameras = cameras_for(network.settings)
    if cameras is not None:
        for view in range(3):
            w2c, K = cameras.w2c.clone(), cameras.K.clone()
            w2c[:, view] = random_cameras(1, 1, seed=3).w2c[:, 0]
            K[:, view, 0, 0] *= 1.2
            changed.append(run(network, cameras=Cameras(w2c, cameras.K, cameras.image_hw)))
            changed.append(run(network, cameras=Cameras(cameras.w2c, K, cameras.image_hw)))
    for output in changed:
        assert (output - base).abs().max() > 1e-4


@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
@pytest.mark.parametrize("encoding", CAMERA_ENCODINGS)
def test_every_weight_is_trained_and_checkpointing_gives_the_same_gradients(encoding, attention):
    network = random_network(replace(SMALL, camera_encoding=encoding, attention=attention)).train()
    target, anchor, reference = random_inputs()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            network.enable_gradient_checkpointing()
        network.zero_grad()
        network(target, 30, anchor, reference, cameras_for(network.settings)).square().sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in network.named_parameters()})
    for name, plain in gradients[0].items():
        assert plain.abs().max() > 0, name
        torch.testing.assert_close(gradients[1][name], plain)


def test_gradient_checkpointing_recomputes_blocks():
    network = random_network(SMALL).train()
    network.enable_gradient_checkpointing()
    calls = []
    network.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    target, anchor, reference = random_inputs()
    loss = network(target, 30, anchor, reference, cameras_for(SMALL)).square().sum()
    before = len(calls)
    loss.backward()
    assert len(calls) > before


def test_training_goes_on_after_inference_has_filled_the_tables():
    canvas_positions.cache_clear()
    network = random_network(SMALL)
    run(network)
    target, anchor, reference = random_inputs()
    network(target, 30, anchor, reference, cameras_for(SMALL)).sum().backward()


# ---- initial weights, saving, compiling


@pytest.mark.parametrize("encoding", CAMERA_ENCODINGS)
def test_a_new_network_predicts_zero_and_its_blocks_are_the_identity(encoding):
    torch.manual_seed(0)
    network = FrameTransformer.build(replace(SMALL, camera_encoding=encoding))
    assert torch.equal(run(network), torch.zeros(1, 4, *LATENT_HW))
    x = torch.randn(1, 10, 32)
    views = network.encode_views(cameras_for(network.settings), LATENT_HW)
    assert torch.equal(network.run_blocks(x, network.modulation(500), views.transforms.views(0, 1)), x)
    positions = canvas_positions(network.settings, 2, 5, 3, torch.device("cpu"), torch.float32)
    assert torch.equal(views.features.expand_as(positions), positions)


@pytest.mark.parametrize("encoding", CAMERA_ENCODINGS)
def test_save_and_load(tmp_path, encoding):
    network = random_network(replace(SMALL, camera_encoding=encoding, predicts_variance=True))
    network.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    loaded = FrameTransformer.from_pretrained(tmp_path)
    assert loaded.settings == network.settings
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in network.state_dict().items())
    torch.testing.assert_close(run(loaded), run(network), rtol=0, atol=1e-5)  # mapped files are aligned differently
    full = FrameTransformer.from_pretrained(tmp_path, attention="full")  # the same weights under the other pattern
    assert full.settings == replace(network.settings, attention="full")


def test_the_constructor_mirrors_the_config():
    parameters = list(inspect.signature(FrameTransformer.__init__).parameters.values())[1:]
    assert [(p.name, p.default) for p in parameters] == [
        (f.name, p.default if f.name in ("hidden_size", "depth", "heads") else f.default)
        for f, p in zip(fields(FrameTransformerConfig), parameters, strict=True)
    ]
    network = FrameTransformer.build(SMALL)
    assert {name: network.config[name] for name in asdict(SMALL)} == asdict(SMALL)


def test_the_positional_table_is_kept_for_few_grids_and_not_saved():
    assert canvas_positions.cache_info().maxsize <= 16
    assert not any("position" in name for name in FrameTransformer.build(SMALL).state_dict())


@pytest.mark.parametrize("encoding", CAMERA_ENCODINGS)
@pytest.mark.parametrize("attention", ATTENTION_PATTERNS)
def test_what_runs_every_frame_is_one_graph(attention, encoding):
    network = random_network(replace(SMALL, attention=attention, camera_encoding=encoding))
    target, anchor, reference = random_inputs()

    @torch.compile(fullgraph=True, backend="eager")
    def frame(target, anchor, kept, views, modulation):
        return network.denoise(target, modulation, network.encode_anchor(anchor, kept, views), views)

    with torch.no_grad():
        views = network.encode_views(cameras_for(network.settings), LATENT_HW)
        kept = network.encode_reference(reference, views)
        compiled = frame(target, anchor, kept, views, network.modulation(20))
    torch.testing.assert_close(compiled, run(network))


# ---- bad input


@pytest.mark.parametrize("change, message", [
    ({"hidden_size": 33}, "hidden_size is a multiple of 4 .* got 33"),
    ({"heads": 3}, "hidden_size is a multiple of heads = 3, got 32"),
    ({"heads": 8}, r"hidden_size is heads = 8 times a multiple of 8 with prope \(here 4 a head\), got 32"),
    ({"depth": 0}, "depth is a whole number from 1 up, got 0"),
    ({"depth": True}, "depth is a whole number"),
    ({"patch_size": 2.0}, "patch_size is a whole number"),
    ({"mlp_ratio": float("nan")}, "mlp_ratio is a positive number, got nan"),
    ({"interpolation": 0}, "interpolation is a positive number, got 0"),
    ({"camera_encoding": "PRoPE"}, "camera_encoding is one of none, prope, plucker, parametric, got 'PRoPE'"),
    ({"attention": "sparse"}, "attention is one of full, cached, got 'sparse'"),
    ({"predicts_variance": 1}, "predicts_variance is true or false, got 1"),
    ({"condition_timestep": 1000}, r"condition_timestep is a whole number in 0..999, got 1000"),
], ids=str)
def test_bad_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
    with pytest.raises(ValueError, match=message):
        FrameTransformer(**(asdict(SMALL) | change))


@pytest.mark.parametrize("encoding, changes, message", [
    ("prope", {"cameras": "missing"}, "camera_encoding prope needs cameras, got none"),
    ("plucker", {"cameras": "missing"}, "camera_encoding plucker needs cameras, got none"),
    ("none", {"cameras": random_cameras(1, 3)}, "camera_encoding none, which would not use them"),
    ("prope", {"cameras": random_cameras(1, 2)}, "3 views are given and cameras for 2"),
    ("prope", {"cameras": random_cameras(1, 3), "anchor": None}, "2 views are given and cameras for 3"),
    ("prope", {"cameras": random_cameras(2, 3)}, "cameras are for a batch of 2, latents for 1"),
    ("none", {"target": torch.zeros(1, 4, 5, 10)}, r"multiples of 16, got 40 x 80 \(latents 5 x 10\)"),
    ("none", {"anchor": torch.zeros(1, 4, 4, 8)}, r"latents are \(B, 4, 4, 10\), got \(1, 4, 4, 8\) for view 1"),
    ("none", {"reference": torch.zeros(1, 3, 4, 10)}, r"got \(1, 3, 4, 10\) for view 2"),
    ("none", {"reference": torch.zeros(2, 4, 4, 10)}, r"all views have the same batch size, got \[1, 1, 2\]"),
], ids=lambda value: value[:30] if isinstance(value, str) else "")
def test_inputs_that_do_not_fit_are_refused(encoding, changes, message):
    network = random_network(replace(SMALL, camera_encoding=encoding))
    target, anchor, reference = random_inputs()
    inputs = {"target": target, "anchor": anchor, "reference": reference, "cameras": None} | changes
    if inputs["cameras"] == "missing":
        inputs["cameras"] = None
    with pytest.raises(ValueError, match=message):
        network(timestep=1, **inputs)


def test_an_anchor_drawing_that_was_not_announced_is_refused():
    network = random_network(replace(SMALL, camera_encoding="none"))
    target, anchor, reference = random_inputs()
    for views, given in ((2, anchor), (3, None)):
        encoded = network.encode_views(None, LATENT_HW, views)
        with pytest.raises(ValueError, match=f"views were encoded for {views} and the anchor drawing"):
            network.encode_anchor(given, network.encode_reference(reference, encoded), encoded)
