"""The report on a world: what it holds, where it was seen from, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worldfm_ros.report.plots import Plan, floor_plan, shares
from worldfm_ros.report.sheet import Section
from worldfm_ros.world.cells import PLACE
from worldfm_ros.world.storage import World

CELL = 0.05  # metres, of the plan
MOST = 1200  # cells along a side: a larger world has larger ones
KEYFRAMES = 24  # shown
BAND = (0.1, 2.0)  # metres above the lowest anchors: walls and furniture
DARK = 0.55  # of the anchors' colours, so that what is drawn over them can be seen
FEW = 12  # keyframes; fewer hardly show a world


def plan_of(world: World) -> Plan | None:
    """The world from above, without what is higher than its cameras; None for a world without anchors."""
    if not len(world.anchors):
        return None
    points = np.concatenate([tile.world_points for tile in world.anchors.tiles])
    colours = np.concatenate([tile.colors for tile in world.anchors.tiles])
    top = max((keyframe.T_world_camera.translation[2] for keyframe in world.keyframes), default=points[:, 2].max())
    below = points[:, 2] <= top
    points, colours = points[below], colours[below]
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    cell = max(CELL, 1.5 * world.spacing, float((high - low).max()) / MOST)
    columns, rows = (np.floor((points[:, :2] - low) / cell)).astype(int).T
    order = np.argsort(points[:, 2], kind="stable")  # the highest is written last
    picture = np.zeros((rows.max() + 1, columns.max() + 1, 4), np.uint8)
    picture[rows[order], columns[order], :3] = DARK * colours[order]
    picture[rows, columns, 3] = 255
    height, width = picture.shape[:2]
    extent = float(low[0]), float(low[0] + width * cell), float(low[1]), float(low[1] + height * cell)
    return Plan(picture, extent, world.label_names)


def world_section(world: World, path: str) -> Section:
    """What is in a world."""
    section = Section(f"World {world.name}")
    bounds = world.anchors.bounds
    section.facts({
        "folder": path, "anchors": f"{len(world.anchors):,}", "keyframes": len(world.keyframes),
        "spacing": f"{world.spacing:.4g} {'m' if world.metric else '(scale unknown)'}",
        "bounds": "none" if bounds is None else " to ".join(", ".join(f"{v:.2f}" for v in corner) for corner in bounds),
        "labels": len(world.label_names) or "none", "frame": world.frame_id})
    _checks(section, world)
    section.show_checks()
    plan = plan_of(world)
    if plan and world.keyframes:
        places = np.array([keyframe.T_world_camera.translation for keyframe in world.keyframes])
        forward = np.array([keyframe.T_world_camera.rotation.apply([0.0, 0.0, 1.0]) for keyframe in world.keyframes])

        def draw(axes) -> None:
            axes.quiver(*places[:, :2].T, *forward[:, :2].T, color="#6ea8fe", scale=28, width=0.0028)

        section.plot(floor_plan(draw, "from above: anchors, and where the keyframes look", plan))
        section.plot(floor_plan(lambda axes: _coverage(axes, world), "keyframes that show the anchors of a place"))
    if counts := label_counts(world):
        section.plot(shares(counts, "labels of the anchors"))
    chosen = np.linspace(0, len(world.keyframes) - 1, min(KEYFRAMES, len(world.keyframes))).round().astype(int)
    if len(chosen):
        section.heading("Keyframes")
        section.pictures((f"keyframe {world.keyframes[k].id}", world.keyframes[k].rgb) for k in chosen)
    return section


def label_counts(world: World) -> dict[str, int]:
    """Anchors by the name of their label."""
    counts = np.zeros(2**16, int)
    for tile in world.anchors.tiles:
        counts += np.bincount(tile.labels, minlength=len(counts))
    return named(counts, world.label_names)


def named(counts: np.ndarray, names: Mapping[int, str]) -> dict[str, int]:
    """Counts of labels, without those of none, by name."""
    return {names.get(int(label), f"label {label}"): int(counts[label]) for label in np.flatnonzero(counts) if label}


def _checks(section: Section, world: World) -> None:
    section.check("metric", world.metric, "metres" if world.metric else "the scale is not known: speeds mean nothing")
    section.check("keyframes", len(world.keyframes) >= FEW, f"{len(world.keyframes)}, {FEW} or more show a room")
    known = [np.mean(keyframe.depth > 0) for keyframe in world.keyframes]
    section.check("keyframes have depth", bool(known) and min(known) > 0.1,
                  f"{min(known):.0%} to {max(known):.0%} of their pixels" if known else "none")
    sizes = {(keyframe.intrinsics.width, keyframe.intrinsics.height) for keyframe in world.keyframes}
    centred = all(abs(k.cx / k.width - 0.5) < 0.15 and abs(k.cy / k.height - 0.5) < 0.15
                  for k in (keyframe.intrinsics for keyframe in world.keyframes))
    section.check("calibration", centred, f"{len(sizes)} size(s) of picture, principal points "
                  + ("near the middle" if centred else "far from the middle: is K of another size?"))


def _coverage(axes, world: World) -> None:
    """How many keyframes confirm the anchors above each place."""
    points = np.concatenate([tile.world_points for tile in world.anchors.tiles])
    points = points[np.random.default_rng(0).permutation(len(points))[:60_000]]
    seen = np.zeros(len(points))
    for keyframe in world.keyframes:
        pixels, z, inside = keyframe.lookup(points)
        columns, rows = np.rint(np.where(inside[:, None], pixels, 0)).astype(int).T
        seen += inside & (np.abs(keyframe.depth[rows, columns] - z) < 0.05 * np.maximum(z, 1e-3))
    low = points[:, :2].min(0)
    cells = np.floor((points[:, :2] - low) / PLACE).astype(int)
    shape = cells.max(0) + 1
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, tuple(cells.T), seen)
    np.add.at(count, tuple(cells.T), 1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    extent = (low[0], low[0] + shape[0] * PLACE, low[1], low[1] + shape[1] * PLACE)
    picture = axes.imshow(mean.T, extent=extent, origin="lower", cmap="viridis", interpolation="nearest")
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.8)
    bar.ax.tick_params(colors="#c8ced4", labelsize=8)
