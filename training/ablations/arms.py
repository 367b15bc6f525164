"""The arms: the paper's choices and their alternatives."""

from __future__ import annotations

from pathlib import Path

from training.ablations.bench import Arm, Bench, BenchSettings, StageMaker, result
from training.ablations.report import write_report
from training.stages.distill import DmdSettings, DmdStage
from training.stages.dmd2 import Dmd2Settings, Dmd2Stage
from training.stages.midtrain import JOINT, NO_DRAWINGS, PROGRESSIVE, Injection, MidtrainSettings, MidtrainStage
from worldfm_ros.frame_model.config import FrameTransformerConfig
from worldfm_ros.frame_model.transformer import FrameTransformer
from worldfm_ros.sources.sources import ClipSource

BASELINE = "prope"
STUDENT_RATES = {"student": 1e-4, "fake_score": 3e-4, "discriminator": 3e-4}
DMD2_LENGTH = 2.3  # steps of DMD2 that cost one of DMD: 17 network passes against 7.4, a backward pass counted as two


# ---- arms


def middle_trained(injection: Injection = PROGRESSIVE, **network) -> StageMaker:
    """Stage II from scratch, with these options of the network."""
    def stage(bench: Bench, seed: int) -> MidtrainStage:
        side, settings = bench.settings.side, bench.settings
        transformer = FrameTransformer.build(FrameTransformerConfig(**settings.network() | network))
        return MidtrainStage(MidtrainSettings(name="ablation", sizes=((side, side),), steps=settings.steps,
                                              injection=injection, sampling_steps=settings.teacher_steps),
                             transformer, bench.codec)
    return stage


def dmd(**options) -> StageMaker:
    """Stage III, the paper's arm, from the baseline of the same seed."""
    def stage(bench: Bench, seed: int) -> DmdStage:
        settings = DmdSettings(teacher_steps=bench.settings.teacher_steps, **options)
        return DmdStage(bench.model(BASELINE, seed), settings, bench.folder("teacher-pairs", seed))
    return stage


def dmd2(**options) -> StageMaker:
    """Stage III, the better arm, from the baseline of the same seed."""
    def stage(bench: Bench, seed: int) -> Dmd2Stage:
        settings = Dmd2Settings(teacher_steps=bench.settings.teacher_steps, **options)
        return Dmd2Stage(bench.model(BASELINE, seed), settings)
    return stage


def teacher_arm(name: str, varies: str, stage: StageMaker, **options) -> Arm:
    return Arm(name=name, varies=varies, stage=stage, steps=lambda settings: settings.steps, rates=2e-3,
               **{"baseline": BASELINE} | options)


def student_arm(name: str, varies: str, stage: StageMaker, length: float = 1.0, **options) -> Arm:
    return Arm(name=name, varies=varies, stage=stage, steps=lambda settings: round(length * settings.student_steps),
               rates=STUDENT_RATES, teacher=BASELINE, **{"baseline": "dmd"} | options)


ARMS = {arm.name: arm for arm in (
    teacher_arm(BASELINE, "PRoPE, cached attention, progressive injection: the teacher", middle_trained(), baseline=""),
    teacher_arm("plucker", "Pluecker rays instead of PRoPE", middle_trained(camera_encoding="plucker")),
    teacher_arm("parametric", "pose parameters instead of PRoPE", middle_trained(camera_encoding="parametric")),
    teacher_arm("no-cameras", "no camera encoding", middle_trained(camera_encoding="none")),
    teacher_arm("no-anchors", "never shown a drawing", middle_trained(NO_DRAWINGS), draws=False),
    teacher_arm("full-attention", "full attention instead of cached", middle_trained(attention="full")),
    teacher_arm("joint", "drawing and reference together from the start", middle_trained(JOINT)),
    student_arm("dmd", "DMD with pairs, 2 steps, t_mid 200", dmd(), baseline=BASELINE, kept_seeds=True),
    student_arm("dmd-1-step", "DMD with pairs, 1 step", dmd(steps=1), kept_seeds=True),
    *(student_arm(f"dmd-t{t_mid}", f"DMD with pairs, 2 steps, t_mid {t_mid}", dmd(t_mid=t_mid), kept_seeds=True)
      for t_mid in (100, 400, 600)),
    student_arm("dmd2", "DMD2, 2 steps, t_mid 200, as much compute", dmd2(), DMD2_LENGTH),
    student_arm("dmd2-1-step", "DMD2, 1 step", dmd2(steps=1), DMD2_LENGTH, baseline="dmd2"),
    student_arm("dmd2-no-gan", "DMD2 without the adversarial loss", dmd2(gan_weight=0.0), DMD2_LENGTH, baseline="dmd2"),
)}


def find_arms(names: list[str]) -> list[Arm]:
    """The arms of these names (all for none), teachers first. Raises ValueError listing the arms."""
    if unknown := set(names) - set(ARMS):
        raise ValueError(f"there is no arm {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
    wanted = [ARMS[name] for name in names] or list(ARMS.values())
    teachers = {arm.teacher for arm in wanted if arm.teacher}
    return [arm for arm in ARMS.values() if arm in wanted or arm.name in teachers]


# ---- the command


def ablate(out: Path, arms: list[Arm], seeds: int, settings: BenchSettings, clips: ClipSource,
           held_out: ClipSource) -> None:
    """Train and judge the arms, seed by seed, and report after each on all that are finished."""
    bench = Bench.prepare(out, settings, clips, held_out)
    for seed in range(seeds):
        for arm in arms:
            found = result(bench, arm, seed)
            print(f"{arm.name}, seed {seed}: {found['psnr']:.2f} dB", flush=True)
            write_report(out, list(ARMS.values()), bench.results())
