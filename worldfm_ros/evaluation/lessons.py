"""Pictures to learn from and pictures to be judged by: the same views of procedural scenes, exact and generated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
import math

import numpy as np

from worldfm_ros.evaluation.degradation import Degradation
from worldfm_ros.evaluation.segmenter import IGNORED, MULTIPLE, Lesson, agreement, mean_iou, train, usual
from worldfm_ros.generator import FrameGenerator, FrameModel
from worldfm_ros.geometry import Intrinsics
from worldfm_ros.painting.blend import Blend
from worldfm_ros.scenes.families import check_families, make_scene
from worldfm_ros.scenes.raycaster import RayCaster
from worldfm_ros.scenes.viewpoints import look_around
from worldfm_ros.world.builders.fusion import FusionSettings, VoxelMeans, fuse
from worldfm_ros.world.renderer import render
from worldfm_ros.world.storage import World

ARMS = ("exact", "generated", "blend", "drawing")  # what a segmenter learns from
RARE = 0.01  # of the judged pixels: classes below that are not judged, and not those that no lesson shows
MAPPED = Intrinsics.from_hfov(240, 180, math.radians(78.0))  # the camera that the map is made with
Track = Callable[[Iterable], Iterable]


@dataclass(frozen=True, kw_only=True)
class School:
    """Which scenes are learned from and judged by, and how.

    train: a family of scenes; test: another, of exact pictures alone. scenes, tests: how many of each.
    views: pictures of a scene. observations: of those that a scene's map is made of.
    voxel: metres between anchors. depth_noise: metres, of the map's depth images, as a depth camera has it.
    texel: metres between the points at which a scene's light is worked out. width, height: pixels, multiples of 16.
    """

    train: str = "apartment"
    test: str = "office"
    scenes: int = 12
    tests: int = 4
    views: int = 30
    observations: int = 48
    voxel: float = 0.025
    depth_noise: float = 0.01
    texel: float = 0.2
    width: int = 128
    height: int = 96

    def __post_init__(self) -> None:
        check_families(self.train, self.test)
        if self.train == self.test:
            raise ValueError(f"the judged family is another one than {self.train!r}, which is learned from")
        if min(self.scenes, self.tests, self.views, self.observations) < 1:
            raise ValueError("scenes, tests, views and observations are 1 or more")
        if self.width % MULTIPLE or self.height % MULTIPLE or min(self.width, self.height) < 2 * MULTIPLE:
            raise ValueError(f"width and height are multiples of {MULTIPLE} from {2 * MULTIPLE} up, "
                             f"got {self.width}x{self.height}")

    @property
    def camera(self) -> Intrinsics:
        return Intrinsics.from_hfov(self.width, self.height, math.radians(75.0))


@dataclass(frozen=True, eq=False)
class Pictures:
    """pictures (N, H, W, 3) uint8; labels (N, H, W) uint8, IGNORED where there is none."""

    pictures: np.ndarray
    labels: np.ndarray


def attend(school: School, model: FrameModel, lesson: Lesson, seeds: int = 3,
           track: Callable[[str], Track] = lambda _: iter) -> tuple[dict, dict[str, Pictures]]:
    """Figures by arm, and what was learned from. `track` names a loop (a progress bar).

    miou: mean over `seeds` segmenters, from lesson.seed up, which see the same pictures; deviation: their standard
    deviation; ratio: mean of the ratios to the exact one of the same seed, None where that has learned nothing. Beside
    the arms `blind`: the most frequent class of each place in the exact lessons, for every picture.
    """
    lessons = lessons_of(school, model, track)
    judged_by = exact_views(school, track)
    classes = judged_classes(judged_by.labels, lessons["exact"].labels)
    count = 1 + max(int(classes.max()), *(int(arm.labels[arm.labels != IGNORED].max(initial=0))
                                          for arm in lessons.values()))
    figures: dict = {"classes": [int(each) for each in classes], "pictures": len(lessons["exact"].pictures),
                     "judged": len(judged_by.pictures),
                     "blind": agreement(usual(lessons["exact"].labels), judged_by.labels, classes)}
    marks: dict[str, list] = {name: [] for name in lessons}
    for seed in range(lesson.seed, lesson.seed + seeds):
        for name, arm in lessons.items():
            network = train(arm.pictures, arm.labels, count, replace(lesson, seed=seed),
                            track(f"seed {seed}: learning from {name}"))
            marks[name].append(mean_iou(network, judged_by.pictures, judged_by.labels, classes))
    return figures | {name: summary(of_arm, marks["exact"]) for name, of_arm in marks.items()}, lessons


def summary(marks: Sequence[dict], exact: Sequence[dict]) -> dict:
    """Mean, spread and ratio of an arm's marks, seed by seed beside those of the exact one."""
    each = np.array([mark["miou"] for mark in marks])
    best = np.array([mark["miou"] for mark in exact])
    return {"miou": float(each.mean()), "deviation": float(each.std(ddof=1)) if len(each) > 1 else None,
            "ratio": float((each / best).mean()) if best.all() else None, "seeds": each.tolist(),
            "iou": {name: float(np.mean([mark["iou"][name] for mark in marks])) for name in marks[0]["iou"]}}


def lessons_of(school: School, model: FrameModel, track: Callable[[str], Track]) -> dict[str, Pictures]:
    """By arm: the same views, with the labels that each has: exact ones, or the drawing's."""
    taken: dict[str, list] = {name: [] for name in ARMS}
    for seed in track("drawing the scenes to learn from")(range(school.scenes)):
        caster = RayCaster(make_scene(school.train, seed), school.texel)
        world = mapped(school, caster, seed)
        generators = {"generated": FrameGenerator(world, model), "blend": FrameGenerator(world, Blend())}
        for frame in look_around(caster, seed + 1000, school.views, school.camera):
            pose = frame.T_world_camera
            drawing = render(world.anchors.visible(pose, school.camera), pose, school.camera)
            ours = np.where(drawing.coverage, drawing.labels, IGNORED)
            taken["exact"].append((frame.rgb, frame.labels))
            taken["drawing"].append((drawing.rgb, ours))
            for name, generator in generators.items():
                taken[name].append((generator.generate(pose, school.camera).rgb, ours))
    return {name: _stacked(pairs) for name, pairs in taken.items()}


def mapped(school: School, caster: RayCaster, seed: int) -> World:
    """A scene as a robot would have mapped it: with a depth camera's noise."""
    degradation = Degradation(depth_noise=school.depth_noise, seed=seed)
    settings = FusionSettings(voxel=school.voxel)
    frames = [degradation.frame(frame) for frame in look_around(caster, seed, school.observations, MAPPED)]
    return fuse(frames, school.train, VoxelMeans(school.voxel), settings)


def exact_views(school: School, track: Callable[[str], Track]) -> Pictures:
    """Exact pictures of the other family."""
    casters = (RayCaster(make_scene(school.test, seed), school.texel)
               for seed in track("drawing the scenes to be judged by")(range(school.tests)))
    return _stacked([(frame.rgb, frame.labels) for seed, caster in enumerate(casters)
                     for frame in look_around(caster, seed, school.views, school.camera)])


def judged_classes(judged: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """The classes of the judged labels that are not rare there and that the lessons show."""
    counts = np.bincount(judged.ravel(), minlength=256)[:IGNORED]
    common = np.flatnonzero(counts > RARE * counts.sum())
    return np.intersect1d(common, np.unique(learned))


def _stacked(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Pictures:
    """Pictures and labels; label 0, none, is ignored."""
    labels = np.stack([labels for _, labels in pairs])
    return Pictures(np.stack([rgb for rgb, _ in pairs]), np.where(labels == 0, IGNORED, labels).astype(np.uint8))


def sheet(lessons: dict[str, Pictures], count: int = 6) -> np.ndarray:
    """(H, W, 3) a row of some pictures for each arm."""
    chosen = np.linspace(0, len(lessons["exact"].pictures) - 1, count).round().astype(int)
    return np.concatenate([np.concatenate(list(arm.pictures[chosen]), axis=1) for arm in lessons.values()])
