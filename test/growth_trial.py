"""By hand: how a world grows. Drives into what is missing, out, and in again, and says what came of it.

    python test/growth_trial.py bedroom APARTMENT --out strip.png     a world folder; its bedroom is removed
    python test/growth_trial.py home --family rooms --seed 2 --out strip.png     another home, without one of its rooms
    python test/growth_trial.py picture --out strip.png               the living room of the apartment, from one picture
"""

from __future__ import annotations

from itertools import pairwise
import math
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro

from worldfm_ros.depth.find import load_completer
from worldfm_ros.generator import load_generator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.growth import GrowingGenerator, GrowthSettings
from worldfm_ros.progress import Progress
from worldfm_ros.scenes import office, rooms
from worldfm_ros.scenes.families import make_scene
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.builders import synthetic
from worldfm_ros.world.cut import cut, inside
from worldfm_ros.world.insertion import InsertionSettings, occupied
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.storage import World, read_world, write_world

BEDROOM = np.array([[-4.6, 0.67, -0.1], [-0.58, 3.6, 2.8]])
CAMERA = Intrinsics.from_hfov(320, 240, math.radians(70))
HEIGHT = 1.1
FACE = 0.07  # metres from a wall's centre line; from there on a room is taken away
PLANS = {"rooms": (rooms.floor_plan, 1), "office": (office.floor_plan, 2)}


def along(points, step=0.08):
    """Poses along a way on the floor, facing ahead; [x, y] points."""
    points = np.array(points, float)
    poses = []
    for a, b in pairwise(points):
        n = max(1, int(np.linalg.norm(b - a) / step))
        poses += [(a + (b - a) * k / n, b - a) for k in range(n)]
    return [Pose.looking_at([*p, HEIGHT], [*(p + d / np.linalg.norm(d)), HEIGHT - 0.08]) for p, d in poses]


def turning(place, yaw):
    """Poses that turn by 70 degrees to the left, from a heading."""
    return [Pose.looking_at([*place, HEIGHT], [*(place + [math.cos(a), math.sin(a)]), HEIGHT - 0.08])
            for a in yaw + np.radians(np.arange(0, 70, 5))]


def last_room(family, seed):
    """The box of the room behind the first door of a procedural home, and the poses from before the door into it."""
    plan_of, number = PLANS[family]
    plan = plan_of(np.random.default_rng([seed, number]))
    if not plan.doors:
        raise SystemExit(f"{family} {seed} has one room")
    door = plan.doors[0]
    middle = (door.low + door.high) / 2
    centre = np.array([door.line, middle] if door.axis == 0 else [middle, door.line])
    ahead = np.eye(2)[door.axis]
    west, south, east, north = next((r.west, r.south, r.east, r.north) for r in plan.rooms.values()
                                    if (np.array([r.west, r.south]) < centre + 0.1 * ahead).all()
                                    and (centre + 0.1 * ahead < [r.east, r.north]).all())
    low, high = np.array([west, south]), np.array([east, north])
    low, high = (np.where(low == plan.outline[0], low - 0.3, low + FACE),
                 np.where(high == plan.outline[1], high + 0.3, high - FACE))
    into = along([centre - 1.1 * ahead, centre + 1.0 * ahead])
    return (np.array([[*low, -0.1], [*high, plan.height + 0.2]]),
            into + turning(centre + 1.0 * ahead, math.atan2(ahead[1], ahead[0])))


def psnr(a, b):
    return 10 * math.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def drive(generator, poses, text):
    return [generator.generate(pose, CAMERA) for pose in Progress(text)(poses)]


def picture_world(caster, pose):
    """A world of one picture of known depth."""
    camera = Intrinsics.from_hfov(640, 480, math.radians(75))
    image = caster.render(pose, camera, samples=2)
    keyframe = Keyframe(0, image.rgb, image.depth, camera, pose)
    mask = image.depth > 0
    points = pose.apply(camera.unproject(image.depth)[mask])
    radius = 0.75 * image.depth[mask] / camera.fx
    return World("one picture", AnchorMap.from_points(points, image.rgb[mask], image.labels[mask], radius), [keyframe],
                 0.012)


def strip(rows, path):
    cv2.imwrite(str(path), np.vstack([np.hstack(row) for row in rows])[..., ::-1])


def trial(kind: tyro.conf.Positional[Literal["bedroom", "home", "picture"]],
          world: tyro.conf.Positional[Path | None] = None, *, out: Path, model: str = "worldfm-tiny",
          completer: str = "smooth", least: float = 0.2, save: Path | None = None,
          family: Literal["rooms", "office"] = "rooms", seed: int = 2) -> None:
    """Args:
        kind: bedroom, home or picture.
        world: the apartment's world folder, for `bedroom`; of a home it is rendered if it is left out.
        out: PNG of pictures: before, truth, first pass, return.
        model: frame model.
        completer: smooth, or a depth model.
        least: confidence of the depth that is inserted.
        save: write the grown world here.
        family: of procedural homes, for `home`.
        seed: which home.
    """
    caster = RayCaster(make_scene(*((family, seed) if kind == "home" else ("apartment",))))
    box = BEDROOM
    if kind != "picture":
        whole = read_world(world) if world else synthetic.build(family, seed, Progress("rendering the home"))
        if kind == "home":
            box, into = last_room(family, seed)
        else:
            into = along([[0.9, 2.0], [-1.5, 1.95]]) + turning(np.array([-1.5, 1.95]), math.pi)
        start, same = cut(whole, box), cut(whole, box)
    else:
        whole, pose = None, Pose.looking_at([0.4, -0.2, 1.2], [-2.2, -1.9, 1.0])
        start, same = picture_world(caster, pose), picture_world(caster, pose)
        into = along([[0.4, -0.2], [-0.2, -0.55], [-0.9, -0.4], [-1.9, -0.35]])
    before = drive(load_generator(same, model), into, "without growth")
    generator = GrowingGenerator(load_generator(start, model), load_completer(completer), GrowthSettings(
        insertion=InsertionSettings(least_confidence=least)))
    scan = len(start.anchors)
    first = drive(generator, into, "in")
    drive(generator, into[::-1], "out")
    second = drive(generator, into, "in again")
    third = drive(generator, into, "once more")
    for name, a, b in (("return against first pass", first, second), ("third against second", second, third)):
        values = [psnr(x.rgb, y.rgb) for x, y in zip(a, b, strict=True)]
        if all(np.array_equal(x.rgb, y.rgb) for x, y in zip(a, b, strict=True)):
            print(f"{name}: identical")
            continue
        print(f"{name}: PSNR median {np.median(values):.1f}, least {min(values):.1f} dB, "
              f"{np.mean(np.array(values) >= 35):.0%} of {len(values)} frames at 35 dB or more")
    truth = [caster.render(pose, CAMERA) for pose in into]
    errors, covered, missing = [], [], []
    for t, f, b in zip(truth, third, before, strict=True):
        new = f.coverage & ~b.coverage & (t.depth > 0)
        missing.append((~b.coverage).sum())
        covered.append((f.coverage & ~b.coverage).sum())
        errors.append(np.abs(f.depth[new] / t.depth[new] - 1))
    errors = np.concatenate(errors)
    print(f"of the pictures {np.sum(missing) / (CAMERA.width * CAMERA.height * len(into)):.0%} was missing at first; "
          f"{np.sum(covered) / np.sum(missing):.0%} of that is in the map now")
    print(f"depth there: median error {np.median(errors):.1%}, within 10 %: {np.mean(errors < 0.1):.0%}")
    for name, frames in (("without growth", before), ("first pass", first), ("third pass", third)):
        values = [psnr(t.rgb, f.rgb) for t, f in zip(truth, frames, strict=True)]
        print(f"{name}: PSNR to the truth {np.mean(values):.1f} dB")
    if whole is not None:
        points = np.concatenate([tile.world_points for tile in whole.anchors.tiles])
        points = points[inside(points, box)]
        found = occupied(start.anchors, np.unique(np.rint(points / 0.1).astype(int), axis=0), 0.1)
        print(f"of the room's surface, in cells of 10 cm, {found.mean():.0%} was made")
    grown = sum(entry.anchors for entry in generator.history)
    print(f"{len(generator.history)} keyframes, {grown} anchors beside {scan}; contradicted pixels "
          f"{sum(entry.contradicted for entry in generator.history)}")
    step = max(1, len(into) // 6)
    strip([[frame.rgb for frame in row[::step]][:6] for row in (before, truth, first, second)], out)
    if save:
        write_world(start, save)


if __name__ == "__main__":
    tyro.cli(trial)
