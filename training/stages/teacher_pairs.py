"""Noise/image pairs of the teacher's deterministic sampler, for DMD's regression loss (Yin et al. 2024; paper 2.5).

A sample's noise and conditions follow from its seed and batch, so a pair is kept as the teacher's latent under the
seed. What is missing is computed when it is asked for. A run whose batches come again (PairSettings.distinct) fills the
folder the first time round and reads it from then on; so does one that is resumed.

    FOLDER/pairs.json                 which teacher, how many steps
    FOLDER/<digest>.safetensors       the latents of one batch by seed, written in one go
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
import torch
from torch import Tensor

from training.batch import Batch
from training.stages.latent_views import solve
from training.stages.pretrain import LatentViews
from worldfm_ros.files import write_whole
from worldfm_ros.frame_model.checkpoint import LoadedModel

MANIFEST = "pairs.json"
NOISE = "pair noise"


class TeacherPairs:
    """The pairs of one teacher, sampled in `steps` DPM-Solver++ steps, in a folder that several processes may share.

    Raises ValueError when the folder holds another teacher's pairs or a damaged file.
    """

    def __init__(self, folder: str | Path, teacher: LoadedModel, steps: int) -> None:
        self.folder, self.teacher, self.steps = Path(folder), teacher, steps
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_manifest()
        self._files: dict[str, Path] = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            self._files.update(dict.fromkeys(_seeds_in(file), file))

    def __len__(self) -> int:
        return len(self._files)

    def latents(self, batch: Batch, views: LatentViews) -> Tensor:
        """(B, C, h, w) float32 on the batch's device: the teacher's pictures from `noise(batch)`, stored or made now.

        Raises ValueError when a stored pair has another size than the batch.
        """
        if any(str(seed) not in self._files for seed in batch.seeds):
            self._store(batch, self._sample(batch, views))
        found = torch.stack([self._read(str(seed)) for seed in batch.seeds])
        if found.shape != views.reference.shape:
            raise ValueError(f"{self.folder} holds latents {tuple(found.shape)} for these seeds, the batch's are "
                             f"{tuple(views.reference.shape)}; a sample keeps its size, or takes another folder")
        return found.to(batch.target.device)

    @staticmethod
    def noise(batch: Batch, views: LatentViews) -> Tensor:
        """The pairs' other halves: (B, C, h, w) unit Gaussian, by the samples' seeds alone."""
        return batch.randn(NOISE, *views.reference.shape[1:])

    def _sample(self, batch: Batch, views: LatentViews) -> Tensor:
        return solve(self.teacher.transformer, self.noise(batch, views), views, self.steps)

    def _store(self, batch: Batch, latents: Tensor) -> None:
        names = [str(seed) for seed in batch.seeds]
        file = self.folder / f"{hashlib.sha256(' '.join(names).encode()).hexdigest()[:24]}.safetensors"
        write_whole(file, save({name: latent.cpu() for name, latent in zip(names, latents.contiguous(), strict=True)}))
        self._files.update(dict.fromkeys(names, file))

    def _read(self, seed: str) -> Tensor:
        with safe_open(self._files[seed], "pt") as tensors:
            return tensors.get_tensor(seed)

    def _check_manifest(self) -> None:
        expected = {"teacher_sha256": fingerprint(self.teacher), "steps": self.steps}
        file = self.folder / MANIFEST
        if not file.exists():
            write_whole(file, (json.dumps(expected, indent=2) + "\n").encode())
        elif (found := json.loads(file.read_text())) != expected:
            raise ValueError(f"{self.folder} holds pairs of another teacher or sampler: expected {expected}, "
                             f"got {found}; remove the folder or name another one")


def fingerprint(model: LoadedModel) -> str:
    """sha256 of a model's weights, transformer and autoencoder."""
    digest = hashlib.sha256()
    for module in (model.transformer, model.codec.autoencoder):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _seeds_in(file: Path) -> list[str]:
    try:
        with safe_open(file, "pt") as tensors:
            return list(tensors.keys())
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}); remove it, its pairs are computed again") from None
