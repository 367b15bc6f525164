"""A frame model judged by held-out photographs, beside what needs no network: the blend of the warped references, which
is the baseline, and the anchor drawing with its holes inpainted.

Each view is scored by itself, and beside its predecessor for consistency. The figures of a side are means over the
views that have them: a region of fewer than MIN_PIXELS has no PSNR, the first view of a group no predecessor. FID is of
all views at once; it and LPIPS are there where the networks are that they need (`perceptual`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from worldfm_ros.evaluation.consistency import Features, correspondence, epipolar_consistent, find_features, warp_psnr
from worldfm_ros.evaluation.held_out import HeldOutView, HeldOutViews, spread
from worldfm_ros.evaluation.perceptual import WITHOUT_NETWORKS, Perceptual
from worldfm_ros.evaluation.predictivity import Predictivity, Sights
from worldfm_ros.evaluation.scoring import confidence_rank, psnr, sharpness_ratio, ssim_map
from worldfm_ros.generator import FrameModel, prepared_with
from worldfm_ros.painting.blend import Blend, inpaint
from worldfm_ros.painting.painted import Painted

SIDES = ("model", "baseline", "inpainted")
EXAMPLES = 6  # views that are kept to be looked at
MIN_PIXELS = 64  # of a region that is scored


@dataclass(frozen=True, eq=False)
class PaintedView:
    """A view with the pictures of all sides and the photograph, by name, and their features; (H, W, 3) uint8.

    Outside of the scene every picture shows the photograph: what is not judged is equal. confidences (H, W) uint8 by
    name, of those that tell.
    """

    view: HeldOutView
    pictures: dict[str, np.ndarray]
    features: dict[str, Features]
    confidences: dict[str, np.ndarray]

    @property
    def algorithms_see(self) -> Sights:
        """What predictivity compares: model, blend, bare drawing and photograph."""
        pictures = {side: self.pictures[side] for side in ("photograph", "model", "baseline")}
        return Sights(pictures | {"drawing": in_scene(self.view, self.view.drawing.rgb)}, self.view.scene,
                      self.view.photograph)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """figures: JSON-ready; examples: a few views, spread over all."""

    figures: dict
    examples: list[PaintedView]


def evaluate(
    views: HeldOutViews,
    model: FrameModel,
    track: Callable[[Iterable], Iterable] = iter,
    perceptual: Perceptual = WITHOUT_NETWORKS,
    predictivity: Predictivity | None = None,
) -> Evaluation:
    """Paint and score all views. `track` wraps the loop over them (a progress bar); see `find_perceptual`.

    `predictivity` gathers neighbouring views, too: the sides beside the photographs and the bare drawing.
    """
    rows, examples = [], []
    frechet = {side: perceptual.frechet() for side in SIDES} if perceptual.frechet else {}
    kept = spread(len(views), EXAMPLES)
    previous = None
    for number, view in enumerate(track(views)):
        painted = paint(view, model)
        if previous is not None and previous.view.group != view.group:
            previous = None
        rows.append(score(painted, previous, perceptual))
        if predictivity is not None and previous is not None:
            predictivity.add(painted.algorithms_see, previous.algorithms_see)
        for side, distances in frechet.items():
            distances.add(painted.pictures[side], painted.pictures["photograph"])
        if number in kept:
            examples.append(painted)
        previous = painted
    figures = {"views": len(rows), **{side: average([row[side] for row in rows]) for side in (*SIDES, "photograph")}}
    for side in SIDES:
        figures[side]["fid"] = frechet[side].distance() if side in frechet else None
    figures["model"]["revisit_psnr"] = revisit_psnr(examples, model)
    figures["uncovered"] = average([row["uncovered"] for row in rows])
    if predictivity is not None:
        figures["predictivity"] = predictivity.figures()
    return Evaluation(figures | {"per_view": rows}, examples)


def paint(view: HeldOutView, model: FrameModel) -> PaintedView:
    """A view by the model, and by what needs none."""
    truth, drawing = view.photograph, view.drawing
    painted = {"model": painted_by(model, view), "baseline": painted_by(Blend(), view)}
    pictures = {name: side.rgb for name, side in painted.items()} | {
        "inpainted": in_scene(view, inpaint(drawing.rgb, ~drawing.coverage)), "photograph": truth.rgb}
    confidences = {name: side.confidence for name, side in painted.items() if side.confidence is not None}
    features = {name: find_features(picture, view.scene) for name, picture in pictures.items()}
    return PaintedView(view, pictures, features, confidences)


def painted_by(model: FrameModel, view: HeldOutView) -> Painted:
    """The model's picture of a view."""
    truth = view.photograph
    painted = prepared_with(model, view.drawing, view.references, truth.T_world_camera, truth.intrinsics)()
    return Painted(in_scene(view, painted.rgb), painted.confidence)


def in_scene(view: HeldOutView, picture: np.ndarray) -> np.ndarray:
    """The picture, and the photograph outside of the scene."""
    return np.where(view.scene[..., None], picture, view.photograph.rgb)


def score(painted: PaintedView, previous: PaintedView | None, perceptual: Perceptual) -> dict:
    """A view's figures: of each side, and of the photograph beside the one before; None = not to be had here."""
    view = painted.view
    uncovered = float(np.mean(~view.drawing.coverage[view.scene]))
    row = {"group": view.group, "frame": int(view.photograph.id), "uncovered": uncovered}
    between = neighbours(painted, previous)
    truth = between["photograph"]["warp_psnr"]
    for side in SIDES:
        ours = between[side]["warp_psnr"]
        excess = None if truth is None or ours is None else truth - ours
        lpips = perceptual.lpips and perceptual.lpips(painted.pictures[side], painted.pictures["photograph"])
        told = painted.confidences.get(side)
        row[side] = likeness(view, painted.pictures[side]) | {"lpips": lpips} | between[side] | {
            "warp_excess": excess, "confidence_rank": None if told is None else confidence_rank(
                told, painted.pictures[side], view.photograph.rgb, view.scene)}
    return row | {"photograph": between["photograph"]}


def likeness(view: HeldOutView, picture: np.ndarray) -> dict:
    """PSNR and SSIM of all pixels, those that the drawing covers and the rest; sharpness of all."""
    photograph, covered = view.photograph.rgb, view.drawing.coverage
    similarity = ssim_map(picture, photograph)
    figures: dict = {}
    for name, region in (("all", view.scene), ("seen", view.scene & covered), ("disoccluded", view.scene & ~covered)):
        large = np.count_nonzero(region) >= MIN_PIXELS
        figures[name] = {"psnr": psnr(picture, photograph, region) if large else None,
                         "ssim": float(similarity[region].mean()) if large else None}
    return figures | {"sharpness_ratio": sharpness_ratio(picture, photograph, view.scene)}


def neighbours(painted: PaintedView, previous: PaintedView | None) -> dict[str, dict]:
    """By name: the consistency of a picture with the one of the view before."""
    if previous is None:
        return dict.fromkeys(painted.pictures, {"warp_psnr": None, "tsed": None})
    now, before = painted.view.photograph, previous.view.photograph
    where = correspondence(now, before)
    figures = {}
    for name, picture in painted.pictures.items():
        consistent = epipolar_consistent(painted.features[name], previous.features[name], now, before)
        figures[name] = {"warp_psnr": warp_psnr(picture, previous.pictures[name], where),
                         "tsed": None if consistent is None else float(consistent)}
    return figures


def revisit_psnr(seen: Sequence[PaintedView], model: FrameModel) -> float | None:
    """dB between what was painted on the way and what the model paints when it returns there."""
    return average([psnr(painted_by(model, painted.view).rgb, painted.pictures["model"]) for painted in seen])


def average(rows: Sequence) -> dict | float | None:
    """The mean of figures, nested alike in each row; of those that are None, the mean of the others."""
    if rows and isinstance(rows[0], dict):
        return {name: average([row[name] for row in rows]) for name in rows[0]}
    known = [row for row in rows if row is not None]
    return float(np.mean(known)) if known else None
