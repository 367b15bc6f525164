"""What ablations have in common: clips, a small autoencoder, a run a seed, and figures of held-out pictures.

Everything is small, in memory and the same for all arms: the clips, the order of batches, the autoencoder, and of a
seed the first weights and the random numbers. The autoencoder has no guide: with one, the decoder would hide what the
transformer gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
import itertools
import json
from pathlib import Path
import time

from diffusers import AutoencoderTiny
import numpy as np
import torch
from torch import Tensor

from training.batch import Batch
from training.data.loader import PairSettings, loader
from training.data.pairs import Corruption
from training.run.loop import RunSettings, train
from training.stages.autoencoder import CALIBRATION_BATCHES, AutoencoderSettings, AutoencoderStage
from training.stages.latent_views import Given, encode_views, sample_latents
from training.stages.midtrain import NOTHING_DRAWN
from training.stages.pretrain import MODEL
from training.stages.stage import Stage
from worldfm_ros.clips import TARGETS
from worldfm_ros.evaluation.scoring import psnr, sharpness_ratio
from worldfm_ros.files import write_whole
from worldfm_ros.frame_model.autoencoder import LatentCodec
from worldfm_ros.frame_model.checkpoint import LoadedModel, load_autoencoder, load_model_folder
from worldfm_ros.frame_model.imaging import to_uint8
from worldfm_ros.frame_model.presets import find_device
from worldfm_ros.sources.sources import ClipSource

FEWEST_PIXELS = 16  # of a picture's disoccluded part, for a figure of it
DRAWS = 3  # samples of a picture, for the diversity of its disoccluded part
RESEED = 0x9E3779B97F4A7C15
MOST_ROUNDS = 2**16  # of the same batches in a run; generators look at the lower 32 bits of a seed alone


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """steps: of a teacher; student_steps: of a student. muon: of a teacher's RunSettings. side: of the square pictures.

    distinct: batches that are made; after the last the first comes again, with new random numbers.
    """

    steps: int = 3000
    muon: float = 2.0
    student_steps: int = 600
    autoencoder_steps: int = 3000
    side: int = 64
    batch: int = 16
    distinct: int = 128
    hidden_size: int = 96
    depth: int = 4
    heads: int = 4
    latent_channels: int = 4
    autoencoder_width: int = 32
    teacher_steps: int = 8

    def network(self) -> dict[str, int]:
        """Fields of a FrameTransformerConfig: a token is a latent pixel."""
        return {"hidden_size": self.hidden_size, "depth": self.depth, "heads": self.heads, "patch_size": 1,
                "latent_channels": self.latent_channels, "base_size": self.side // 8}

    def run(self, steps: int, rates: float | dict[str, float], seed: int, muon: float = 0.0) -> RunSettings:
        return RunSettings(steps=steps, learning_rate=rates, final_rate=0.05, warmup=min(100, steps // 10), ema=0.998,
                           muon=muon, checkpoint_every=500, preview_every=max(500, steps), seed=seed)


class RememberingCodec(LatentCodec):
    """Encodes a picture once: the same ones come again and again, and encoding is most of a small step's work."""

    def __init__(self, codec: LatentCodec) -> None:
        super().__init__(codec.autoencoder, codec.device, codec.dtype)
        self._known: dict[bytes, Tensor] = {}

    def encode(self, rgb: Tensor) -> Tensor:
        names = [blake2b(picture.tobytes(), digest_size=16).digest() for picture in rgb.cpu().numpy()]
        new = {name: k for k, name in enumerate(names) if name not in self._known}
        if new:
            self._known.update(zip(new, super().encode(rgb[list(new.values())]), strict=True))
        return torch.stack([self._known[name] for name in names])


class Recurring:
    """The batches of a run from a step on: `distinct` made ones that come again and again.

    All runs see the same pictures in the same order; their random numbers are those of the run's seed. A batch that
    comes again has other ones, unless they are `kept` (for teacher pairs, which are found by them).
    """

    def __init__(self, clips: ClipSource, settings: PairSettings, distinct: int) -> None:
        self._distinct, self._new = distinct, iter(loader(clips, settings, 0, distinct))
        self._batches: list[Batch] = []  # as many as were needed yet

    def __call__(self, first_step: int, seed: int = 0, kept: bool = False) -> Iterator[Batch]:
        for step in itertools.count(first_step):
            again, place = divmod(step, self._distinct)
            while len(self._batches) <= place:
                self._batches.append(next(self._new))
            batch, shift = self._batches[place], (seed * MOST_ROUNDS + (0 if kept else again)) * RESEED
            yield replace(batch, seeds=tuple((number + shift) % 2**62 for number in batch.seeds))


@dataclass(frozen=True, eq=False)
class Bench:
    """Where arms are trained and judged. judged: the held-out batches, a clip each."""

    out: Path
    settings: BenchSettings
    batches: Recurring
    judged: Sequence[Batch]
    codec: LatentCodec

    @classmethod
    def prepare(cls, out: Path, settings: BenchSettings, clips: ClipSource, held_out: ClipSource) -> Bench:
        """Make the autoencoder, or take the one that is there. Raises ValueError when `out` is of other settings."""
        out.mkdir(parents=True, exist_ok=True)
        check_settings(out / "bench.json", settings)
        sizes = ((settings.side, settings.side),)
        batches = Recurring(clips, PairSettings(batch=settings.batch, sizes=sizes, corruption=Corruption.default()),
                            settings.distinct)
        exact = PairSettings(batch=len(TARGETS), sizes=sizes, corruption=Corruption.none(), seed=1,
                             targets_per_clip=len(TARGETS))
        judged = list(loader(held_out, exact, 0, len(held_out)))
        return cls(out, settings, batches, judged, shared_codec(out / "autoencoder", settings, batches))

    def folder(self, arm: str, seed: int) -> Path:
        return self.out / "runs" / f"{arm}-{seed}"

    def model(self, arm: str, seed: int) -> LoadedModel:
        """What an arm's run left, on the GPU if there is one."""
        return replace(load_model_folder(self.folder(arm, seed) / MODEL, find_device(None)), codec=self.codec)

    def results(self) -> list[dict]:
        """Of all arms and seeds that are finished."""
        return [json.loads(file.read_text()) for file in sorted((self.out / "runs").glob("*.json"))]


def check_settings(file: Path, settings: BenchSettings) -> None:
    """Runs of different settings do not belong into one table. Raises ValueError."""
    if not file.exists():
        write_whole(file, json.dumps(asdict(settings), indent=2).encode())
    elif (found := json.loads(file.read_text())) != asdict(settings):
        changed = {name: (found.get(name), value) for name, value in asdict(settings).items()
                   if found.get(name) != value}
        raise ValueError(f"{file.parent} holds arms of other settings (there, here): {changed}; "
                         "use the same settings, or another --out")


def shared_codec(out: Path, settings: BenchSettings, batches: Recurring) -> LatentCodec:
    """Trained to the end, which takes no time when it is: a stopped run has left a `vae` too, half trained."""
    torch.manual_seed(0)
    widths = (settings.autoencoder_width,) * 4
    autoencoder = AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths,
                                  num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
                                  latent_channels=settings.latent_channels)
    stage = AutoencoderStage(AutoencoderSettings(latent_noise=0.1), autoencoder,
                             itertools.islice(batches(0), CALIBRATION_BATCHES))
    train(stage, batches, settings.run(settings.autoencoder_steps, 2e-3, 0), out, resume=True)
    return RememberingCodec(LatentCodec(load_autoencoder(out / "vae"), find_device(None)))


StageMaker = Callable[[Bench, int], Stage]  # for a seed


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One line of the table. varies: what it changes, for people. stage: makes it.

    rates: learning rates. steps: of its run. baseline: the arm that it is compared with, "" for none. teacher: the arm
    that it is distilled from, "" for none. draws: whether its network is shown the drawing when it is judged.
    kept_seeds: whether batches come again with the same random numbers.
    """

    name: str
    varies: str
    stage: StageMaker
    steps: Callable[[BenchSettings], int]
    rates: float | dict[str, float]
    baseline: str = ""
    teacher: str = ""
    draws: bool = True
    kept_seeds: bool = False


def result(bench: Bench, arm: Arm, seed: int) -> dict:
    """An arm's figures with one seed: those of an earlier call, or a run's, gone on with where it was stopped."""
    file = bench.folder(arm.name, seed).with_suffix(".json")
    if not file.exists():
        start, muon = time.monotonic(), 0.0 if arm.teacher else bench.settings.muon
        settings = bench.settings.run(arm.steps(bench.settings), arm.rates, seed, muon)
        torch.manual_seed(seed)  # the first weights
        stage = arm.stage(bench, seed)
        train(stage, lambda step: bench.batches(step, seed, arm.kept_seeds), settings, bench.folder(arm.name, seed),
              resume=True)
        seconds = time.monotonic() - start
        found = {"arm": arm.name, "seed": seed, "steps": settings.steps, "seconds": seconds,
                 **figures(bench.model(arm.name, seed), bench.judged, arm.draws)}
        write_whole(file, json.dumps(found, indent=2).encode())
    return json.loads(file.read_text())


def figures(model: LoadedModel, batches: Sequence[Batch], draws: bool) -> dict[str, float]:
    """Means over held-out pictures.

    psnr: dB. disoccluded: dB where no anchor is drawn. without_drawing: psnr when the drawing is empty. sharpness: the
    variance of the Laplacian over the truth's. diversity: standard deviation of grey levels between samples of a
    picture, where no anchor is drawn.
    """
    found: dict[str, list[float]] = {name: [] for name in
                                     ("psnr", "disoccluded", "without_drawing", "sharpness", "diversity")}
    for batch in batches:
        empty = replace(batch, drawing=torch.full_like(batch.drawing, NOTHING_DRAWN))
        samples = [paint(model, batch if draws else empty, draw) for draw in range(DRAWS)]
        hidden, truths = paint(model, empty, 0), pictures(batch.target)
        for k, truth in enumerate(truths):
            holes, everywhere = ~batch.coverage[k, 0].numpy(), np.ones(truth.shape[:2], bool)
            found["psnr"].append(psnr(samples[0][k], truth))
            found["without_drawing"].append(psnr(hidden[k], truth))
            ratio = sharpness_ratio(samples[0][k], truth, everywhere)
            found["sharpness"] += [] if ratio is None else [ratio]
            if holes.sum() >= FEWEST_PIXELS:
                found["disoccluded"].append(psnr(samples[0][k], truth, holes))
                found["diversity"].append(float(np.stack([s[k] for s in samples]).std(axis=0)[holes].mean()))
    return {name: float(np.mean(values)) for name, values in found.items() if values}


@torch.no_grad()
def paint(model: LoadedModel, batch: Batch, draw: int) -> list[np.ndarray]:
    """(H, W, 3) uint8 pictures, sampled as the model folder says; draw: which noise."""
    batch = batch.to(model.device)
    views = encode_views(batch, model.codec, model.transformer.settings.camera_encoding != "none")
    given = Given(batch, views, f"of draw {draw}")
    latents = sample_latents(model.transformer, given.noise("noise"), given.noise("noise at t_mid"), views,
                             model.settings.steps, model.settings.t_mid)
    return pictures(model.codec.decode(latents))


def pictures(rgb: Tensor) -> list[np.ndarray]:  # (B, 3, H, W) -> B of (H, W, 3) uint8
    return [to_uint8(picture[None]) for picture in rgb]
