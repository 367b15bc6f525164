"""Recipes: a run is a function that returns all of it; a variant is a copy with changes.

    smoke   seconds on a CPU, for tests            tiny   our shipped model, hours on a few cores
    xl      the paper's network, for a cluster     the functions' docstrings are what `--list` prints

What recipes are built from is imported when one is asked for: it brings torch and diffusers along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.builders import Inputs
    from training.data.loader import PairSettings
    from training.run.loop import RunSettings
    from training.stages.stage import Stage
    from worldfm_ros.sources.sources import KnownClips


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run.

    clips: its source, from what --data names (None: the recipe's own). starts_from: the recipe whose results it starts
    from, unless --start names a folder; needs: what that folder must hold, for people.
    """

    stage: Callable[[Inputs], Stage]
    clips: Callable[[str | None], KnownClips]
    data: PairSettings
    run: RunSettings
    starts_from: str | None = None
    needs: str | None = None

    def start(self, out: Path, given: Path | None) -> Path | None:
        """The folder to start from: `given`, or the earlier recipe's beside `out`. Raises ValueError without one."""
        place = given or (out.parent / self.starts_from if self.starts_from else None)
        if place is None and self.needs:
            raise ValueError(f"this recipe starts from {self.needs}; name the folder with --start")
        if place is not None and not place.is_dir():
            raise ValueError(f"this recipe starts from {self.needs}, but there is no folder {place}"
                             + (f"; make it with `python -m training --recipe {self.starts_from} "
                                f"--out {out.parent / self.starts_from}`, or name another one with --start"
                                if self.starts_from else ""))
        return place


# ---- smoke


def smoke_autoencoder() -> Recipe:
    """an autoencoder of 30 k parameters, 64x64, a few steps"""
    from training import builders as b

    return Recipe(stage=b.autoencoder_stage(b.AutoencoderSettings(), latent_channels=4, widths=(8, 12, 16), blocks=1),
                  clips=b.procedural, data=b.pairs(4, b.SMOKE_SIZES), run=b.smoke_run(2e-3))


def smoke_pretrain() -> Recipe:
    """stage I with a transformer of 100 k parameters, a few steps"""
    from training import builders as b

    return Recipe(stage=b.pretrain_stage("smoke", b.SMOKE_SIZES, b.smoke_transformer), clips=b.procedural,
                  data=b.pairs(4, b.SMOKE_SIZES), run=b.smoke_run(1e-3), starts_from="smoke-autoencoder", needs="a vae")


def smoke_midtrain() -> Recipe:
    """stage II of the same, all its phases in a few steps"""
    from training import builders as b

    return Recipe(stage=b.midtrain_stage("smoke", b.SMOKE_SIZES, b.PROGRESSIVE), clips=b.procedural,
                  data=b.pairs(4, b.SMOKE_SIZES), run=b.smoke_run(1e-3), starts_from="smoke-pretrain", needs="a model")


def smoke_distill() -> Recipe:
    """stage III of the same, the better arm"""
    from training import builders as b

    return Recipe(stage=b.dmd2_stage(b.Dmd2Settings(teacher_steps=4, fake_updates=2, discriminator_width=8)),
                  clips=b.procedural, data=b.pairs(4, b.SMOKE_SIZES), run=b.smoke_run(1e-4),
                  starts_from="smoke-midtrain", needs="a model")


def smoke_distill_dmd() -> Recipe:
    """stage III of the same, the paper's arm with the teacher's pairs"""
    from training import builders as b

    better = smoke_distill()
    return replace(better, stage=b.dmd_stage(b.DmdSettings(teacher_steps=4)), data=replace(better.data, distinct=3))


def smoke_finish() -> Recipe:
    """the student and its decoder together, in pictures"""
    from training import builders as b

    return replace(smoke_distill(), stage=b.finish_stage(b.FinishSettings()), starts_from="smoke-distill")


def smoke_compose() -> Recipe:
    """a composer of 20 k parameters, a few steps"""
    from training import builders as b

    stage = b.compose_stage(b.ComposeSettings(), widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), encoded=4)
    return Recipe(stage=stage, clips=b.procedural, data=b.pairs(4, b.SMOKE_SIZES, several=b.SEVERAL),
                  run=b.smoke_run(1e-3))


def smoke_compose_finish() -> Recipe:
    """the same with a student, a few steps"""
    from training import builders as b

    return Recipe(stage=b.compose_finish_stage(b.ComposeSettings(), ((32, 32),)), clips=b.procedural,
                  data=b.pairs(4, b.SMOKE_SIZES, several=b.SEVERAL), run=b.smoke_run(1e-3),
                  starts_from="smoke-distill", needs="a student's model/ and a composer/")


def smoke_depth() -> Recipe:
    """a depth network of 30 k parameters, a few steps"""
    from training import builders as b

    return Recipe(stage=b.depth_stage(b.DepthLosses(), widths=(8, 12, 16), blocks=(1, 1, 1)), clips=b.procedural,
                  data=b.depths(4, b.SMOKE_SIZES), run=b.smoke_run(1e-3))


# ---- tiny


def tiny_autoencoder() -> Recipe:
    """our autoencoder: f8, 8 channels, its decoder sees the guide"""
    from training import builders as b

    stage = b.autoencoder_stage(b.TINY_AUTOENCODER, latent_channels=8, widths=(48, 64, 96), blocks=2)
    return Recipe(stage=stage, clips=b.shards, data=b.pairs(16, b.TINY_SIZES, workers=1),
                  run=b.tiny_run(20_000, 1e-3))


def tiny_autoencoder_peer() -> Recipe:
    """for comparison: diffusers' AutoencoderTiny of the same size, latents and budget, without a guide"""
    from training import builders as b

    return replace(tiny_autoencoder(), stage=b.peer_stage(b.TINY_AUTOENCODER, latent_channels=8, width=47))


def tiny_pretrain() -> Recipe:
    """stage I of our network (4 M parameters), from scratch"""
    from training import builders as b

    return Recipe(stage=b.pretrain_stage("worldfm-tiny", b.TINY_SIZES, b.tiny_transformer), clips=b.shards,
                  data=b.pairs(16, b.TINY_SIZES, workers=1), run=b.tiny_run(10_000, 5e-4),
                  starts_from="tiny-autoencoder", needs="a vae")


def tiny_midtrain() -> Recipe:
    """stage II of our network: reference, then drawings, then masked drawings"""
    from training import builders as b

    return Recipe(stage=b.midtrain_stage("worldfm-tiny", b.TINY_SIZES, b.PROGRESSIVE), clips=b.shards,
                  data=b.pairs(16, b.TINY_SIZES, workers=1), run=b.tiny_run(30_000, 5e-4),
                  starts_from="tiny-pretrain", needs="a model")


def tiny_finetune() -> Recipe:
    """stage II's finetune: a short one, on exact synthetic clips or one's own data"""
    from training import builders as b

    return replace(tiny_midtrain(), stage=b.midtrain_stage("worldfm-tiny", b.TINY_SIZES, b.SETTLED),
                   run=b.tiny_run(3_000, 1e-4), starts_from="tiny-midtrain")


def tiny_distill() -> Recipe:
    """stage III of our network, 2 steps: the better arm (DMD2 with two time scales, no pairs)"""
    from training import builders as b

    rates = {"student": 5e-5, "fake_score": 2e-4, "discriminator": 2e-4}
    run = replace(b.tiny_run(5_000, rates), betas=(0.0, 0.999))
    return replace(tiny_midtrain(), stage=b.dmd2_stage(b.Dmd2Settings()), run=run, starts_from="tiny-midtrain")


def tiny_distill_dmd() -> Recipe:
    """stage III of our network, 2 steps: the paper's arm (DMD with the teacher's pairs)"""
    from training import builders as b

    better = tiny_distill()
    pairs = replace(better.data, distinct=1_000)  # 16 000 of the teacher's, 0.5 GB, each used five times
    return replace(better, stage=b.dmd_stage(b.DmdSettings()), data=pairs)


def tiny_midtrain_small() -> Recipe:
    """stage II's finetune at 128 pixels, on worse memories: the teacher of a composer's student"""
    from training import builders as b

    data = b.pairs(16, b.STUDENT_SIZES, workers=1, corruption=b.ROUGH)
    return replace(tiny_finetune(), stage=b.midtrain_stage("worldfm-tiny", b.STUDENT_SIZES, b.SETTLED), data=data,
                   run=b.tiny_run(3_000, 3e-4), starts_from="tiny-midtrain")


def tiny_distill_small() -> Recipe:
    """stage III of the same: a student for a composer"""
    small = tiny_midtrain_small()
    return replace(tiny_distill(), data=small.data, starts_from="tiny-midtrain-small")


def tiny_finish() -> Recipe:
    """our student and its decoder learn together, in pictures: a short last run"""
    from training import builders as b

    return replace(tiny_midtrain(), stage=b.finish_stage(b.FinishSettings()), data=b.pairs(8, b.TINY_SIZES, workers=1),
                   run=b.tiny_run(2_000, 3e-4), starts_from="tiny-distill")


def tiny_decoder() -> Recipe:
    """our student's decoder alone, on worse memories than the others learn from: a long last run"""
    from training import builders as b

    return replace(tiny_finish(), stage=b.finish_stage(b.FinishSettings(decoder_only=True)),
                   data=b.pairs(8, b.TINY_SIZES, workers=1, corruption=b.ROUGH), run=b.tiny_run(6_000, 3e-4),
                   starts_from="tiny-finish", needs="a model")


def tiny_compose() -> Recipe:
    """our composer alone: weights over the drawing and three warped references"""
    from training import builders as b

    return Recipe(stage=b.compose_stage(b.ComposeSettings()), clips=b.shards,
                  data=b.pairs(8, b.COMPOSER_SIZES, workers=1, several=b.SEVERAL),
                  run=replace(b.tiny_run(20_000, 1e-3), warmup=50, checkpoint_every=100, preview_every=200))


def tiny_compose_on() -> Recipe:
    """our composer goes on: on more clips, in larger pictures"""
    from training import builders as b

    first = tiny_compose()
    return replace(first, data=b.pairs(8, b.LARGER_SIZES, workers=1, several=b.SEVERAL),
                   run=replace(first.run, final_rate=0.1), starts_from="tiny-compose", needs="a composer")


def tiny_compose_finish() -> Recipe:
    """our student, in one step at 128 pixels, and our composer learn together"""
    from training import builders as b

    return Recipe(stage=b.compose_finish_stage(b.ComposeSettings(), b.STUDENT_SIZES), clips=b.shards,
                  data=b.pairs(8, b.LARGER_SIZES, workers=1, several=b.SEVERAL),
                  run=replace(b.tiny_run(3_000, 4e-4), warmup=50, checkpoint_every=100, preview_every=200),
                  starts_from="tiny-compose-on", needs="a student's model/ and a composer/")


def tiny_depth() -> Recipe:
    """our depth completer: a picture and what depth is known, to dense depth"""
    from training import builders as b

    return Recipe(stage=b.depth_stage(b.DepthLosses()), clips=b.views, data=b.depths(16, b.DEPTH_SIZES),
                  run=replace(b.tiny_run(12_000, 2e-3), warmup=50, checkpoint_every=100, preview_every=200))


def tiny_depth_on() -> Recipe:
    """our depth completer goes on: on more clips"""

    return replace(tiny_depth(), starts_from="tiny-depth", needs="a depth/")


# ---- xl


def xl_autoencoder() -> Recipe:
    """a larger guided autoencoder for 512x512, where SDXL's, the paper's, is not wanted"""
    from training import builders as b

    settings = b.AutoencoderSettings(crop=256, adversarial_weight=0.05, adversarial_from=50_000)
    return Recipe(stage=b.autoencoder_stage(settings, latent_channels=4, widths=(96, 160, 256), blocks=3),
                  clips=b.named_shards, data=b.pairs(64, b.XL_SIZES, workers=8),
                  run=b.RunSettings(steps=200_000, learning_rate=2e-4, final_rate=0.05, warmup=1000, precision="bf16"))


def xl_pretrain() -> Recipe:
    """stage I of the paper's network, XL/2 at 512x512, from PixArt-Sigma with SDXL's vae (--start)"""
    from training import builders as b

    return Recipe(stage=b.pretrain_stage("worldfm-xl", b.XL_SIZES, b.pixart), clips=b.named_shards,
                  data=b.pairs(64, b.XL_SIZES, workers=8), run=b.xl_run(20_000, 2e-5, accumulate=2),
                  needs="PixArt-Sigma's diffusers folder (transformer/ and vae/, the SDXL autoencoder)")


def xl_midtrain() -> Recipe:
    """stage II of the paper's network, global batch 128"""
    from training import builders as b

    return Recipe(stage=b.midtrain_stage("worldfm-xl", b.XL_SIZES, b.PROGRESSIVE, checkpointed=True),
                  clips=b.named_shards, data=b.pairs(64, b.XL_SIZES, workers=8),
                  run=b.xl_run(100_000, 1e-5, accumulate=2), starts_from="xl-pretrain", needs="a model")


def xl_finetune() -> Recipe:
    """stage II's short finetune of the paper's network: --data with exact synthetic clips"""
    from training import builders as b

    return replace(xl_midtrain(), stage=b.midtrain_stage("worldfm-xl", b.XL_SIZES, b.SETTLED, checkpointed=True),
                   run=b.xl_run(5_000, 1e-5, accumulate=2), starts_from="xl-midtrain")


def xl_distill() -> Recipe:
    """stage III of the paper's network: DMD, 2 steps, t_mid 200, global batch 64"""
    from training import builders as b

    middle = xl_midtrain()
    pairs = replace(middle.data, distinct=5_000)  # 320 000 of the teacher's, 21 GB, each used four times
    return replace(middle, stage=b.dmd_stage(b.DmdSettings(), checkpointed=True), data=pairs,
                   run=b.xl_run(20_000, 1e-6), starts_from="xl-finetune")


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__.replace("_", "-"): recipe for recipe in (
        smoke_autoencoder, smoke_pretrain, smoke_midtrain, smoke_distill, smoke_distill_dmd, smoke_finish,
        smoke_compose, smoke_compose_finish, smoke_depth,
        tiny_autoencoder, tiny_autoencoder_peer, tiny_pretrain, tiny_midtrain, tiny_finetune, tiny_distill,
        tiny_distill_dmd, tiny_midtrain_small, tiny_distill_small, tiny_finish, tiny_decoder, tiny_compose,
        tiny_compose_on, tiny_compose_finish, tiny_depth, tiny_depth_on,
        xl_autoencoder, xl_pretrain, xl_midtrain, xl_finetune, xl_distill,
    )
}


def find_recipe(name: str) -> Recipe:
    """Raises ValueError that lists the names, and says which one may have been meant."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        raise ValueError(f"there is no recipe {name!r}" + (f"; did you mean {near[0]}?" if near else ".")
                         + f" There are: {', '.join(RECIPES)}")
    return RECIPES[name]()
