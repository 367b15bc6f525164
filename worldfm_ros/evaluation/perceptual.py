"""LPIPS and FID: how far pictures are from photographs in the features of trained networks.

torchmetrics computes them. Its networks' weights are never fetched here: `find_perceptual` looks whether packages and
files are there, and says what is wanting. Pictures are (H, W, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
import hashlib
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

FID_VIEWS = 64  # and more; of fewer the covariance of the 2048 features says little
LPIPS_SIDE = 31  # pixels, the smallest picture that AlexNet's layers leave something of
PACKAGES = ("torchvision", "torch_fidelity", "torchmetrics.image")  # in this order: the later import the earlier
# What torchvision's AlexNet_Weights and torch-fidelity's InceptionV3 call their files. The end is the SHA-256's start.
WEIGHTS = {"lpips": "alexnet-owt-7be5be79.pth", "fid": "weights-inception-2015-12-05-6726825d.pth"}


class Lpips:
    """LPIPS with AlexNet, version 0.1 (Zhang et al., The unreasonable effectiveness of deep features, 2018)."""

    def __init__(self) -> None:
        from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

        self.metric = LearnedPerceptualImagePatchSimilarity(net_type="alex")

    def __call__(self, picture: np.ndarray, photograph: np.ndarray) -> float | None:
        """0 for equal pictures, more the less alike they look; None for pictures smaller than LPIPS_SIDE."""
        if min(picture.shape[:2]) < LPIPS_SIDE:
            return None
        signed = (batch(image) / 127.5 - 1.0 for image in (picture, photograph))
        return float(self.metric(*signed))


class FrechetDistance:
    """FID with Inception's 2048 features (Heusel et al., GANs trained by a two time-scale update rule, 2017).

    Pictures are resized as in the original, without antialiasing, so that figures compare with published ones.
    """

    def __init__(self, weights: Path) -> None:
        from torchmetrics.image import FrechetInceptionDistance

        self.metric = FrechetInceptionDistance(feature_extractor_weights_path=str(weights), antialias=False)

    def add(self, picture: np.ndarray, photograph: np.ndarray) -> None:
        self.metric.update(batch(picture), real=False)
        self.metric.update(batch(photograph), real=True)

    def distance(self) -> float:
        """Between all pictures and all photographs so far, two or more; 0 for the same sets."""
        return float(self.metric.compute())


@dataclass(frozen=True)
class Perceptual:
    """The figures that can be had.

    lpips: of a picture and its photograph. frechet: makes an empty FrechetDistance. Each is None where it is not to be
    had; advice: one line that says what is wanting for those, None where nothing is.
    """

    lpips: Callable[[np.ndarray, np.ndarray], float | None] | None = None
    frechet: Callable[[], FrechetDistance] | None = None
    advice: str | None = None


WITHOUT_NETWORKS = Perceptual()


def find_perceptual(views: int) -> Perceptual:
    """What can be had for so many views; below FID_VIEWS no FID is looked for.

    Raises ValueError for a file of weights that is broken.
    """
    wanted = [figure for figure in WEIGHTS if figure == "lpips" or views >= FID_VIEWS]
    folder = Path(torch.hub.get_dir(), "checkpoints")
    package = find_broken_package()
    absent = [figure for figure in wanted if not (folder / WEIGHTS[figure]).is_file()]
    ready = [] if package else [figure for figure in wanted if figure not in absent]
    for figure in ready:
        check_hash(folder / WEIGHTS[figure])
    return Perceptual(
        lpips=Lpips() if "lpips" in ready else None,
        frechet=partial(FrechetDistance, folder / WEIGHTS["fid"]) if "fid" in ready else None,
        advice=advise([figure for figure in wanted if figure not in ready], package,
                      [WEIGHTS[figure] for figure in absent], folder),
    )


def find_broken_package() -> str | None:
    """The first of PACKAGES that is not installed or does not import, and why.

    A torchvision that was built for another torch is as good as not installed; it raises whatever it stumbles upon.
    """
    for name in PACKAGES:
        try:
            import_module(name)
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            return f"{name} does not import ({str(error).partition(chr(10))[0]})"
    return None


def check_hash(file: Path) -> None:
    """Raise ValueError for a file whose SHA-256 does not begin as its name says."""
    expected = file.stem.rpartition("-")[2]
    with file.open("rb") as content:
        digest = hashlib.sha256()
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    if not digest.hexdigest().startswith(expected):
        raise ValueError(f"{file} is broken: its SHA-256 begins with {digest.hexdigest()[:len(expected)]}, not with "
                         f"{expected} as its name says; fetch it again, or delete it to go without")


def advise(figures: Sequence[str], package: str | None, files: Sequence[str], folder: Path) -> str | None:
    """One line: which figures are left out, and what would bring them."""
    if not figures:
        return None
    reasons = []
    if package:
        reasons.append(f"{package}: pip install '.[perceptual]', with the torchvision for torch {torch.__version__}")
    if files:
        reasons.append(f"there is no {' and no '.join(files)} in {folder}")
    return f"without {' and '.join(figures)}: {'; '.join(reasons)} (docs/evaluation.md tells more)"


def batch(image: np.ndarray) -> torch.Tensor:
    """(1, 3, H, W) uint8 of an (H, W, 3) picture."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
