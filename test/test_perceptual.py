"""LPIPS and FID in `worldfm eval`: what is said without their networks, where figures go, and that they are right."""

import hashlib
import json
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
from scenes import room_poses, see_room, write_rgbd_folder
import torch
from torch import nn
import torch.nn.functional as F

from worldfm_ros.cli.main import main
from worldfm_ros.evaluation import perceptual
from worldfm_ros.evaluation.perceptual import FID_VIEWS, LPIPS_SIDE, WEIGHTS, Perceptual, find_perceptual


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Torch's folder of downloaded weights, empty, and no way to download any."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, *_, **__: pytest.fail(f"download of {url}"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def packages(monkeypatch):
    """As if all packages were installed, with a stand-in for LPIPS."""
    monkeypatch.setattr(perceptual, "PACKAGES", ("json",))
    monkeypatch.setattr(perceptual, "Lpips", lambda: mean_difference)


def mean_difference(picture, photograph):
    return float(np.abs(picture.astype(float) - photograph).mean())


class MeanShift:
    """A stand-in for FID: the difference of the sets' mean values."""

    def __init__(self):
        self.pairs = []

    def add(self, picture, photograph):
        self.pairs.append((picture.mean(), photograph.mean()))

    def distance(self):
        return float(abs(np.diff(np.mean(self.pairs, axis=0))[0]))


def save(folder, name, content=b"weights"):
    """A file that is what its name says."""
    file = folder / f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    file.write_bytes(content)
    return file.name


# ---- what is there


def test_the_evaluation_does_not_import_the_packages():
    code = ("import sys, worldfm_ros.evaluation.evaluate, worldfm_ros.cli.eval; "
            "assert not {'torchmetrics', 'torch_fidelity'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_without_packages_and_weights_the_advice_names_all(checkpoints, monkeypatch):
    monkeypatch.setattr(perceptual, "PACKAGES", ("no_such_package",))
    found = find_perceptual(FID_VIEWS)
    assert found.lpips is None and found.frechet is None and "\n" not in found.advice
    for part in ("without lpips and fid", "no_such_package", ".[perceptual]", *WEIGHTS.values(), str(checkpoints)):
        assert part in found.advice


def test_with_packages_alone_the_advice_is_about_files(checkpoints, packages):
    found = find_perceptual(FID_VIEWS)
    assert found.lpips is None and found.frechet is None
    assert all(file in found.advice for file in WEIGHTS.values()) and ".[perceptual]" not in found.advice


def test_a_figure_is_had_as_soon_as_its_file_is_there(checkpoints, packages, monkeypatch):
    monkeypatch.setitem(WEIGHTS, "lpips", save(checkpoints, "alexnet"))
    found = find_perceptual(FID_VIEWS)
    assert found.lpips is mean_difference and found.frechet is None
    assert found.advice.startswith("without fid:") and WEIGHTS["lpips"] not in found.advice
    monkeypatch.setitem(WEIGHTS, "fid", save(checkpoints, "inception"))
    found = find_perceptual(FID_VIEWS)
    assert found.lpips and found.frechet and found.advice is None


def test_fid_of_few_views_is_not_looked_for(checkpoints, packages, monkeypatch):
    monkeypatch.setitem(WEIGHTS, "lpips", save(checkpoints, "alexnet"))
    found = find_perceptual(FID_VIEWS - 1)
    assert found.lpips and found.frechet is None and found.advice is None


def test_a_torchvision_for_another_torch_counts_as_missing(checkpoints, tmp_path, monkeypatch):
    (tmp_path / "site" / "torchvision").mkdir(parents=True)
    broken = "raise RuntimeError('operator torchvision::nms does not exist\\nand more')"
    (tmp_path / "site" / "torchvision" / "__init__.py").write_text(broken)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "site")
    (checkpoints / WEIGHTS["lpips"]).write_bytes(b"not looked at")
    found = find_perceptual(1)
    assert found.lpips is None and "\n" not in found.advice
    assert "torchvision does not import (operator torchvision::nms does not exist)" in found.advice
    assert torch.__version__ in found.advice


@pytest.mark.parametrize("content", [b"", b"half a file"])
def test_a_broken_file_is_an_error(content, checkpoints, packages):
    file = checkpoints / WEIGHTS["lpips"]
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file.name} is broken: .* not with 7be5be79"):
        find_perceptual(1)


# ---- in the command


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    frames = [see_room(pose, index=i) for i, pose in enumerate(room_poses(72)[:16])]
    return write_rgbd_folder(tmp_path_factory.mktemp("scan") / "room", frames)


def evaluate(scan, tmp_path, monkeypatch):
    """The exit code of `worldfm eval`, and its figures."""
    words = ["--clips", "16", "--model", "anchors", "--width", "48", "--height", "32", "--thin", "0.3"]
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["worldfm", "eval", str(scan), *words, "--json", str(file)])
    code = main()
    return code, json.loads(file.read_text()) if file.exists() else None


def rows_of(table):
    return {line.split()[0] for line in table.splitlines() if line.split()}


def test_figures_reach_the_json_and_the_table(scan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(perceptual, "find_perceptual", lambda views: Perceptual(mean_difference, MeanShift))
    code, figures = evaluate(scan, tmp_path, monkeypatch)
    said = capsys.readouterr()
    assert code == 0 and "without" not in said.err and {"lpips", "fid"} <= rows_of(said.out)
    for side in ("model", "baseline", "inpainted"):
        values = [row[side]["lpips"] for row in figures["per_view"]]
        assert len(set(values)) == 12 and figures[side]["lpips"] == pytest.approx(np.mean(values))
        assert f"{figures[side]['lpips']:.3f}" in said.out and f"{figures[side]['fid']:.3f}" in said.out
    assert figures["model"]["fid"] == figures["baseline"]["fid"], "the model is the blend"
    assert figures["model"]["fid"] != figures["inpainted"]["fid"]


def test_without_networks_the_figures_are_null_and_the_command_says_so_once(
    scan, checkpoints, tmp_path, monkeypatch, capsys
):
    code, figures = evaluate(scan, tmp_path, monkeypatch)
    said = capsys.readouterr()
    assert code == 0 and said.err.count("without lpips:") == 1 and "without" not in said.out
    assert not {"lpips", "fid"} & rows_of(said.out)
    for side in ("model", "baseline", "inpainted"):
        assert figures[side]["lpips"] is None and figures[side]["fid"] is None


def test_a_broken_file_ends_the_command_before_the_work(scan, checkpoints, packages, tmp_path, monkeypatch, capsys):
    (checkpoints / WEIGHTS["lpips"]).write_bytes(b"half a file")
    assert evaluate(scan, tmp_path, monkeypatch) == (2, None)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "is broken" in lines[0]


# ---- the real networks, with random weights


@pytest.fixture
def networks(checkpoints, monkeypatch):
    """torchmetrics with random weights in place of trained ones; their hash is not what the names say."""
    missing = perceptual.find_broken_package()
    if missing:
        pytest.skip(f"{missing}; the perceptual extra is needed")
    monkeypatch.setattr(perceptual, "check_hash", lambda file: None)
    torch.manual_seed(0)
    torch.save(random_alexnet(), checkpoints / WEIGHTS["lpips"])
    torch.save(random_inception(monkeypatch), checkpoints / WEIGHTS["fid"])
    found = find_perceptual(FID_VIEWS)
    assert found.advice is None
    return found


def random_alexnet():
    """AlexNet's weights; the classifier, which LPIPS has no use for, is one zero that is repeated."""
    from torchvision.models import AlexNet_Weights, alexnet

    assert AlexNet_Weights.DEFAULT.url.endswith("/" + WEIGHTS["lpips"])
    with torch.device("meta"):
        shapes = alexnet(weights=None).state_dict()
    return {name: torch.randn(tensor.shape) * (2 / tensor[0].numel()) ** 0.5 if name.startswith("features")
            else torch.zeros(1).expand(tensor.shape) for name, tensor in shapes.items()}


def random_inception(monkeypatch):
    """Inception's weights, of a size that lets signals through."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    assert module.URL_INCEPTION_V3.endswith("/" + WEIGHTS["fid"])
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    return network.state_dict()


SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's means and deviations, for [-1, 1]


def lpips_by_hand(picture, photograph, weights):
    """The formula of the paper (eq. 1), with the layers of AlexNet spelled out."""
    import torchmetrics

    file = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    linear = [weight.flatten() for weight in torch.load(file, map_location="cpu").values()]
    layers = [(0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False)]
    features = []
    for image in (picture, photograph):
        x = torch.tensor(image, dtype=torch.float64).permute(2, 0, 1)[None] / 127.5 - 1
        x = (x - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
        outputs = []
        for number, stride, padding, pooled in layers:
            kernel, bias = (weights[f"features.{number}.{name}"].double() for name in ("weight", "bias"))
            x = F.relu(F.conv2d(F.max_pool2d(x, 3, 2) if pooled else x, kernel, bias, stride, padding))
            outputs.append(x[0] / (x[0].square().sum(dim=0) + 1e-8).sqrt())
        features.append(outputs)
    return sum(float((w[:, None, None] * (a - b).square()).sum(dim=0).mean())
               for w, a, b in zip(linear, *features, strict=True))


def test_lpips_is_the_papers_formula_and_grows_with_noise(networks, checkpoints):
    rng = np.random.default_rng(0)
    photograph = see_room(room_poses()[0]).rgb
    noise = rng.normal(size=photograph.shape)
    noisy = [np.clip(photograph + sigma * noise, 0, 255).astype(np.uint8) for sigma in (0, 10, 40)]
    values = [networks.lpips(picture, photograph) for picture in noisy]
    assert values[0] == 0 < values[1] < values[2]
    weights = torch.load(checkpoints / WEIGHTS["lpips"])
    assert values[1:] == pytest.approx([lpips_by_hand(picture, photograph, weights) for picture in noisy[1:]], rel=1e-3)


def test_lpips_needs_pictures_that_its_layers_leave_something_of(networks):
    small, large = (np.zeros((side, 64, 3), np.uint8) for side in (LPIPS_SIDE - 1, LPIPS_SIDE))
    assert networks.lpips(small, small) is None and networks.lpips(large, large) == 0


def test_fid_is_the_distance_of_two_gaussians(networks):
    rng = np.random.default_rng(0)
    photographs = [see_room(pose).rgb for pose in room_poses(6)]
    noisy = [np.clip(rgb + rng.normal(0, 40, rgb.shape), 0, 255).astype(np.uint8) for rgb in photographs]
    distances = {}
    for name, pictures in (("same", photographs), ("noisy", noisy)):
        frechet = networks.frechet()
        for picture, photograph in zip(pictures, photographs, strict=True):
            frechet.add(picture, photograph)
        distances[name] = frechet.distance()
    features = [torch.cat([frechet.metric.inception(perceptual.batch(rgb)) for rgb in pictures]).double()
                for pictures in (photographs, noisy)]
    means, centred = [x.mean(dim=0) for x in features], [x - x.mean(dim=0) for x in features]
    # tr sqrt(A'A B'B) is the sum of the singular values of AB'
    spread = sum(x.square().sum() for x in centred) - 2 * torch.linalg.matrix_norm(centred[0] @ centred[1].T, "nuc")
    expected = float((means[0] - means[1]).square().sum() + spread / (len(noisy) - 1))
    assert distances["noisy"] == pytest.approx(expected, rel=1e-3)
    assert abs(distances["same"]) < 1e-3 * expected
