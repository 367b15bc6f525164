"""Compare this code with numbers recorded from the released implementation.

    python test/parity.py FOLDER        one line a case; exit status 1 when one misses its tolerance

FOLDER holds safetensors files, named by what they test (net_*, sampler*, prope*, ...), each with its sizes and options
as JSON in the metadata key `config`. Nothing is assumed about sizes, head dims or the number of views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
import json
from pathlib import Path
import sys

import numpy as np
from safetensors import SafetensorError, safe_open
import torch
from torch import Tensor

if __name__ == "__main__":  # run from anywhere, installed or not
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from worldfm_ros.frame_model import imaging, sampling
from worldfm_ros.frame_model.camera_encoding import (
    Cameras,
    PropeTransforms,
    normalize_intrinsics,
    plucker_rays,
    projection_matrices,
    prope_attention,
)
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.released import convert_state_dict
from worldfm_ros.frame_model.transformer import FrameTransformer
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sources.panorama import Panorama, filled
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.builders import panorama as panoramas
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import render
from worldfm_ros.world.selection import SelectionSettings, select_by_depth

NETWORK_TOLERANCE = 2e-5
NOT_COVERED = {
    "renderer": {"softmin": "a released option that its pipeline never uses", "fast_fp16": "shows its error"},
}
ENCODINGS = {"nopose": "none", "prope": "prope", "plucker": "plucker"}
SELECTION_NAMES = {  # the release's options -> ours
    "sample_grid": "grid", "center_grid": "center_grid", "center_frac": "center_fraction",
    "eps_rel": "relative_tolerance", "eps_abs": "absolute_tolerance", "px_radius": "pixel_radius",
    "use_distance_weight": "use_distance", "dist_min_m": "distance_near", "dist_max_m": "distance_far",
    "weight_near": "weight_near", "weight_far": "weight_far",
}


@dataclass(frozen=True)
class Comparison:
    """One case: the largest deviation found and the largest allowed."""

    case: str
    deviation: float
    tolerance: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        return self.deviation <= self.tolerance  # a NaN does not pass

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "MISS"
        return f"{verdict} {self.case:32s} {self.deviation:9.2e}  allowed {self.tolerance:.2g} {self.unit}".rstrip()


class Golden:
    """A recorded file: tensors by name, and its config."""

    def __init__(self, path: Path) -> None:
        self.path, self.stem = path, path.stem
        self._file = safe_open(path, "pt")
        self.names = list(self._file.keys())
        self.config = json.loads(self._file.metadata()["config"])

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    def array(self, name: str) -> np.ndarray:
        return self[name].numpy()

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): self[name] for name in self.names if name.startswith(prefix)}


def compare(case: str, ours, recorded, tolerance: float, unit: str = "") -> Comparison:
    """The largest absolute difference; infinite when the shapes differ."""
    ours, recorded = (np.asarray(x, dtype=np.float64) for x in (ours, recorded))
    same = ours.shape == recorded.shape
    return Comparison(case, float(np.abs(ours - recorded).max()) if same else float("inf"), tolerance, unit)


# ---- the network


def network_config(golden: Golden, camera_encoding: str) -> FrameTransformerConfig:
    c = golden.config
    if c["out_channels"] != 2 * c["in_channels"] or c.get("qk_norm"):
        raise ValueError(f"expected twice as many output as input channels and no q/k norm, got {c}")
    return FrameTransformerConfig(
        hidden_size=c["hidden"], depth=c["depth"], heads=c["heads"], patch_size=c["patch_size"],
        latent_channels=c["in_channels"], mlp_ratio=c["mlp_ratio"], camera_encoding=camera_encoding, attention="full",
        base_size=c["base_size"], interpolation=c["pe_interpolation"], predicts_variance=True,
    )


def load_network(golden: Golden, config: FrameTransformerConfig) -> FrameTransformer:
    network = FrameTransformer.build(config).eval()
    network.load_state_dict(convert_state_dict(golden.under("weights."), config), strict=True)
    return network


def cameras_of(golden: Golden, views: list[int], encoding: str) -> Cameras | None:
    if encoding == "none":
        return None
    return Cameras(golden["in.w2c"][:, views], golden["in.K"][:, views], golden["in.image_hw"][0].tolist())


def check_network(golden: Golden, folder: Path) -> Iterator[Comparison]:
    for mode in golden.under("out."):
        encoding = ENCODINGS[mode.removeprefix("two_")]
        two = mode.startswith("two_")
        network = load_network(golden, network_config(golden, encoding))
        cameras = cameras_of(golden, [0, 2] if two else [0, 1, 2], encoding)
        anchor = None if two else golden["in.cond1"]
        prediction = network(golden["in.z_t"], golden["in.timestep"], anchor, golden["in.cond2"], cameras)
        yield compare(f"{golden.stem} {mode}", prediction, golden[f"out.{mode}"], NETWORK_TOLERANCE)


def check_sampler(golden: Golden, folder: Path) -> Iterator[Comparison]:
    yield compare(f"{golden.stem} alphas_cumprod", sampling.alphas_cumprod(), golden["alphas_cumprod"], 1e-12)
    weights = Golden(folder / f"{golden.config['network']}.safetensors")
    for name in (name for name in golden.names if name.endswith(".x0")):
        mode, steps = name.split(".")[0], int(name.split(".")[1].removeprefix("steps"))
        encoding = ENCODINGS[mode]
        network = load_network(weights, replace(network_config(weights, encoding), predicts_variance=False))
        views = network.encode_views(cameras_of(golden, [0, 1, 2], encoding), golden["in.z_T"].shape[-2:])
        reference = network.encode_reference(golden["in.cond2"], views)
        conditions = network.encode_anchor(golden["in.cond1"], reference, views)
        denoise = partial(network.denoise, conditions=conditions, views=views)
        x0 = sample(denoise, golden, steps)
        scale = 1.0 if steps <= 2 else golden[name].abs().max().item()
        yield compare(f"{golden.stem} {mode} {steps} step{'s' * (steps > 1)}", x0 / scale, golden[name] / scale,
                      5e-5 if steps <= 2 else 1e-4, "" if steps <= 2 else "relative")


def sample(denoise: sampling.Denoise, golden: Golden, steps: int) -> Tensor:
    noise = golden["in.z_T"]
    if steps == 1:
        return sampling.sample_one_step(denoise, noise)
    if steps == 2:
        return sampling.sample_two_step(denoise, noise, golden["in.noise_mid"], golden.config["mid_t"])
    return sampling.sample_multistep(denoise, noise, steps, "epsilon")


# ---- cameras


def check_prope(golden: Golden, folder: Path) -> Iterator[Comparison]:
    for case, c in golden.config.items():
        K = normalize_intrinsics(golden[f"{case}.K"].double(), (c["H"], c["W"])) if c["use_K"] else None
        P = projection_matrices(golden[f"{case}.w2c"].double(), K)
        transforms = PropeTransforms.prepare(P, (c["h"], c["w"]), c["head_dim"], "cpu", torch.float32)
        attended = prope_attention(golden[f"{case}.q"], golden[f"{case}.k"], golden[f"{case}.v"], transforms)
        yield compare(f"{golden.stem} {case}", attended, golden[f"{case}.out"], NETWORK_TOLERANCE)


def check_plucker(golden: Golden, folder: Path) -> Iterator[Comparison]:
    for case, c in golden.config.items():
        w2c, K = golden[f"{case}.w2c"].double(), golden[f"{case}.K"].double()
        rays = plucker_rays(w2c, K, (c["H"], c["W"]), (c["h"], c["w"]))
        yield compare(f"{golden.stem} {case}", rays, golden[f"{case}.rays"], 1e-5)


# ---- the world


def camera(K: np.ndarray, c2w: np.ndarray, height: int, width: int) -> tuple[Intrinsics, Pose]:
    return Intrinsics.from_matrix(width, height, K), Pose.from_matrix(c2w)


def check_renderer(golden: Golden, folder: Path) -> Iterator[Comparison]:
    for case, c in golden.config.items():
        intrinsics, pose = camera(golden.array(f"{case}.K"), golden.array(f"{case}.c2w"), c["H"], c["W"])
        colors = (golden.array(f"{case}.points_rgb") * 255.0).astype(np.uint8)
        view = render(AnchorMap.from_points(golden.array(f"{case}.points_xyz"), colors).tiles, pose, intrinsics)
        yield compare(f"{golden.stem} {case} depth", view.depth, golden[f"{case}.fast.depth"], 1e-4)
        yield compare(f"{golden.stem} {case} colour", view.rgb, golden[f"{case}.fast.rgb_u8"], 1, "levels")


def check_selection(golden: Golden, folder: Path) -> Iterator[Comparison]:
    keyframes = []
    for i, depth in enumerate(golden.array("depth_views")):
        view = camera(golden.array("K_views")[i], golden.array("c2w_views")[i], *depth.shape)
        keyframes.append(Keyframe(i, np.zeros((*depth.shape, 3), np.uint8), depth, *view))
    for case, recorded in golden.config["results"].items():
        depth = golden.array("empty.depth_cur" if case == "empty" else "depth_cur")
        intrinsics, pose = camera(golden.array("K_cur"), golden.array("c2w_cur"), *depth.shape)
        settings = selection_settings(golden.config["base"] | recorded["overrides"])
        ours = select_by_depth(keyframes, depth, pose, intrinsics, settings)
        hits = recorded.get("hits_per_view", [0] * len(keyframes))
        yield compare(f"{golden.stem} {case} hits", ours.hits, hits, 2, "a view")
        yield compare(f"{golden.stem} {case} index", ours.index, recorded["index"], 0)


def selection_settings(options: dict) -> SelectionSettings:
    renamed = {ours: options[theirs] for theirs, ours in SELECTION_NAMES.items()}
    renamed["max_angle"] = np.radians(options["max_view_angle_deg"])
    if options["uniform_sampling"]:
        renamed["center_grid"] = 0
    return SelectionSettings(**renamed)


# ---- images


def check_imageproc(golden: Golden, folder: Path) -> Iterator[Comparison]:
    size = golden.config["target"]
    for image in sorted({name.split(".")[0] for name in golden.names if name.startswith("img")}):
        rgb = golden[f"{image}.u8"]
        drawing, reference = imaging.released_drawing(rgb, size), imaging.released_reference(rgb, size)
        yield compare(f"{golden.stem} {image} drawing", drawing, golden[f"{image}.cond1_tensor"], 1e-5)
        yield compare(f"{golden.stem} {image} reference", reference, golden[f"{image}.cond2_tensor"], 2 / 255)
    yield compare(f"{golden.stem} output", imaging.to_uint8(golden["decoded"]), golden["decoded.u8"], 0, "levels")


# ---- panoramas


def check_panorama(golden: Golden, folder: Path) -> Iterator[Comparison]:
    distance = filled(golden.array("depth_raw"))
    yield compare(f"{golden.stem} filled", distance, golden["depth_filled"], 1e-5)
    points = (panoramas.directions(*distance.shape) * distance[..., None]).reshape(-1, 3)
    x, y, z = points.T  # forward, left, up; the release has forward, down, left
    yield compare(f"{golden.stem} points", np.stack([x, -z, y], axis=1), golden["points_xyz"], 1e-4)
    released = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # its axes to ours
    images, K = golden.array("cond_images"), golden.array("cond_K")
    view = Intrinsics.from_matrix(*images.shape[1:3], K)
    crops = [panoramas.crop(Panorama(golden.array("pano_rgb"), distance), pose, view, number).rgb
             for number, pose in enumerate(panoramas.reference_poses())]
    axes = [pose.rotation.as_matrix() for pose in panoramas.reference_poses()]
    yield compare(f"{golden.stem} axes", np.stack(axes), released @ golden.array("cond_c2w")[:, :3, :3], 1e-5)
    yield compare(f"{golden.stem} crops", np.stack(crops), images, 1, "levels")


CHECKS = {
    "net": check_network, "sampler": check_sampler, "prope": check_prope, "plucker": check_plucker,
    "renderer": check_renderer, "selection": check_selection, "imageproc": check_imageproc,
    "panorama": check_panorama,
}


def kind_of(path: Path) -> str:
    """What a file tests: its name up to the first underscore. Raises ValueError for a kind that nobody knows."""
    kind = path.stem.split("_")[0]
    if kind not in CHECKS and kind not in NOT_COVERED:
        raise ValueError(f"{path.name}: file names begin with one of {', '.join([*CHECKS, *NOT_COVERED])}")
    return kind


@torch.inference_mode()
def check_file(path: Path) -> list[Comparison]:
    """Every comparison in a file of a kind in CHECKS."""
    return list(CHECKS[kind_of(path)](Golden(path), path.parent))


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not (files := sorted(Path(arguments[0]).glob("*.safetensors"))):
        print("usage: python test/parity.py FOLDER   (with *.safetensors files in it)", file=sys.stderr)
        return 2
    missed = 0
    for path in files:
        kind = kind_of(path)
        for part, reason in NOT_COVERED.get(kind, {}).items():
            print(f"--   {path.stem} {part}: not covered, {reason}")
        if kind not in CHECKS:
            continue
        try:
            for comparison in check_file(path):
                print(comparison)
                missed += not comparison.passed
        except (ValueError, KeyError, RuntimeError, SafetensorError) as error:  # the other files still have their say
            print(f"MISS {path.stem}: {error}")
            missed += 1
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
