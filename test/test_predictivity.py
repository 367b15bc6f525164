"""Predictivity: the motion that matches tell, ratios to the photographs, and what a small segmenter learns."""

import json
import math
import sys

import numpy as np
import pytest
from scenes import room_frames, write_rgbd_folder
from scipy.spatial.transform import Rotation

from worldfm_ros.evaluation.lessons import School, attend, judged_classes, summary
from worldfm_ros.evaluation.predictivity import (
    Predictivity,
    Sights,
    compare,
    direction_error,
    motion,
    orb_matches,
    rotation_error,
)
from worldfm_ros.evaluation.segmenter import (
    IGNORED,
    Lesson,
    Segmenter,
    agreement,
    balance,
    mean_iou,
    train,
    usual,
)
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.blend import Blend
from worldfm_ros.world.keyframes import Keyframe

CAMERA = Intrinsics.from_hfov(320, 240, math.radians(70))


def moved(points, T_b_a):
    """Pixels of points (N, 3), in a's axes, in both cameras."""
    return CAMERA.project(points), CAMERA.project(T_b_a.apply(points))


@pytest.fixture
def cloud():
    return np.random.default_rng(0).uniform([-2, -1.5, 3], [2, 1.5, 8], (200, 3))


def test_exact_matches_tell_the_motion_and_outliers_do_not_change_it(cloud):
    T_b_a = Pose(Rotation.from_rotvec([0.02, -0.1, 0.03]), np.array([0.3, 0.05, -0.1]))
    a, b = moved(cloud, T_b_a)
    b[:60] += np.random.default_rng(1).uniform(-80, 80, (60, 2))
    told = motion(a, b, CAMERA, CAMERA)
    assert 135 <= told.inliers <= 150
    assert rotation_error(told.rotation, T_b_a) < 0.1 and direction_error(told.direction, T_b_a) < 1.0
    again = motion(a, b, CAMERA, CAMERA)
    assert again.inliers == told.inliers and (again.rotation == told.rotation).all()
    assert motion(a[:5], b[:5], CAMERA, CAMERA).rotation is None


def test_errors_are_degrees():
    turn = Pose(Rotation.from_euler("z", 30, degrees=True), np.array([1.0, 0, 0]))
    assert rotation_error(np.eye(3), turn) == pytest.approx(30.0)
    assert direction_error(np.array([0.0, 1, 0]), turn) == pytest.approx(90.0)


def test_a_turn_on_the_spot_has_no_direction(cloud):
    still = Pose(Rotation.from_rotvec([0, 0.1, 0]), np.zeros(3))
    depth = np.full((240, 320), 4.0, np.float32)
    rgb = np.zeros((240, 320, 3), np.uint8)
    views = [Keyframe(k, rgb, depth, CAMERA, pose) for k, pose in enumerate((Pose.identity(), still.inverse()))]
    figures = compare((np.empty((0, 2)), np.empty((0, 2))), moved(cloud, still), *views)
    assert figures["orb_inliers"] == 0 and figures["tracked"] == 1.0
    assert figures["rotation_error"] < 10 and figures["direction_error"] is None


def textured(shift):
    """A picture whose texture has moved by whole pixels."""
    noise = np.random.default_rng(3).integers(0, 255, (30, 40), np.uint8)
    large = np.kron(noise, np.ones((8, 8), np.uint8))
    return np.repeat(np.roll(large, shift, axis=1)[..., None], 3, -1)


def test_orb_finds_what_has_moved():
    scene = np.ones((240, 320), bool)
    points, others = orb_matches(textured(0), textured(6), scene, scene)
    inner = points[:, 0] < 280
    assert inner.sum() > 50 and np.median((others - points)[inner, 0]) == pytest.approx(6, abs=0.5)
    assert len(orb_matches(np.zeros((240, 320, 3), np.uint8), textured(0), scene, scene)[0]) == 0


def test_what_is_the_photograph_has_the_ratio_one():
    def sights(shift, x):
        camera = Keyframe(0, textured(shift), np.full((240, 320), 4.0, np.float32), CAMERA,
                          Pose(Rotation.identity(), np.array([x, 0.0, 0.0])))
        pictures = {"photograph": textured(shift), "model": textured(shift), "drawing": np.zeros_like(textured(0))}
        return Sights(pictures, np.ones((240, 320), bool), camera)

    predictivity = Predictivity()
    predictivity.add(sights(0, 0.0), sights(8, 0.14))
    figures = predictivity.figures()
    assert figures["pairs"] == 1 and figures["photograph"]["orb_inliers"] > 20
    assert figures["model"]["ratio"]["orb_inliers"] == figures["model"]["ratio"]["tracked"] == 1.0
    assert figures["drawing"]["ratio"]["sift_inliers"] == 0.0 and figures["drawing"]["rotation_error"] is None


def test_eval_tells_it(tmp_path, monkeypatch, capsys):
    from worldfm_ros.cli.main import main

    write_rgbd_folder(tmp_path / "scan", room_frames(24))
    words = f"--hold-out 3 --voxel 0.05 --model anchors --width 80 --height 60 --predictivity --json {tmp_path}/f.json"
    monkeypatch.setattr(sys, "argv", ["worldfm", "eval", str(tmp_path / "scan"), *words.split()])
    assert main() == 0
    figures = json.loads((tmp_path / "f.json").read_text())["predictivity"]
    assert figures["pairs"] == 7 and figures.keys() == {"pairs", "photograph", "model", "baseline", "drawing"}
    assert figures["model"] == figures["baseline"]  # the model is the blend
    assert "7 pairs of neighbouring views" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------ the segmenter


def shapes(count, seed=0):
    """Pictures of a red box on blue and their classes, 1 and 2, with a border that is not known."""
    random = np.random.default_rng(seed)
    pictures, classes = np.zeros((count, 32, 48, 3), np.uint8), np.full((count, 32, 48), 2, np.uint8)
    pictures[..., 2] = 180
    for picture, truth in zip(pictures, classes, strict=True):
        x, y = random.integers(2, 30), random.integers(2, 16)
        picture[y:y + 12, x:x + 14] = 200, 30, 20
        truth[y:y + 12, x:x + 14] = 1
    classes[:, :1] = IGNORED
    return pictures, classes


def test_a_segmenter_learns_and_the_same_seed_learns_the_same():
    pictures, classes = shapes(16)
    networks = [train(pictures, classes, 3, Lesson(steps=40, batch=4)) for _ in range(2)]
    first, second = (mean_iou(network, *shapes(6, seed=1), judged=[1, 2]) for network in networks)
    assert first == second and first["miou"] > 0.9
    assert mean_iou(Segmenter(3).eval(), *shapes(6, seed=1), judged=[1, 2])["miou"] < 0.7
    with pytest.raises(ValueError, match="nothing to learn"):
        train(pictures, np.full_like(classes, IGNORED), 3)


def test_iou_is_both_over_either_and_what_is_not_known_does_not_count():
    class Told:
        def __call__(self, x):
            import torch

            logits = torch.zeros(len(x), 3, 2, 2)
            logits[:, 1, 0] = logits[:, 2, 1] = 1.0  # the upper row is 1, the lower 2
            return logits

    truth = np.array([[[1, 2], [2, IGNORED]]], np.uint8)
    figures = mean_iou(Told(), np.zeros((1, 2, 2, 3), np.uint8), truth, judged=[0, 1, 2])
    assert figures["iou"] == {1: 0.5, 2: 0.5} and figures["miou"] == 0.5


def test_rare_and_unlearned_classes_are_not_judged():
    judged = np.full((1, 100, 100), 1, np.uint8)
    judged[0, 0, :20], judged[0, 50:], judged[0, 40] = 3, 2, 4
    assert judged_classes(judged, np.array([1, 2, 3])).tolist() == [1, 2]


def test_rare_classes_weigh_more_and_a_pixel_one_on_average():
    classes = np.array([[[1, 1, 1, 1], [1, 1, 1, 1], [1, 3, 3, IGNORED]]], np.uint8)
    weights = balance(classes, 5).numpy()
    assert weights[[0, 2, 4]].tolist() == [0, 0, 0] and weights[3] / weights[1] == pytest.approx(math.sqrt(9 / 2))
    assert weights[classes[classes != IGNORED]].mean() == pytest.approx(1.0)


def test_what_is_usual_at_a_place_is_told_without_looking():
    classes = np.array([[[1, 2]], [[1, IGNORED]], [[2, 2]]], np.uint8)
    assert usual(classes).tolist() == [[1, 2]]
    assert agreement(usual(classes), classes, [1, 2])["iou"] == {1: pytest.approx(2 / 3), 2: pytest.approx(2 / 3)}


def test_seeds_are_compared_one_by_one():
    def mark(miou):
        return {"miou": miou, "iou": {1: miou}}

    exact = [mark(0.4), mark(0.2)]
    figures = summary([mark(0.2), mark(0.2)], exact)
    assert figures["ratio"] == pytest.approx(0.75) and figures["deviation"] == 0.0
    assert summary(exact, exact) == {"miou": pytest.approx(0.3), "deviation": pytest.approx(0.2 / math.sqrt(2)),
                                     "ratio": 1.0, "seeds": [0.4, 0.2], "iou": {1: pytest.approx(0.3)}}
    assert summary(exact[:1], exact[:1])["deviation"] is None
    assert summary(exact, [mark(0.0), mark(0.2)])["ratio"] is None


def test_a_school_has_the_same_views_on_every_side():
    school = School(train="rooms", test="office", scenes=1, tests=1, views=3, observations=6, width=48, height=32,
                    voxel=0.08, texel=0.6)
    figures, lessons = attend(school, Blend(), Lesson(steps=2, batch=2), seeds=2)
    assert {arm.pictures.shape for arm in lessons.values()} == {(3, 32, 48, 3)}
    assert (lessons["generated"].pictures == lessons["blend"].pictures).all()  # the model is the blend
    assert figures["generated"] == figures["blend"] and len(set(figures["exact"]["seeds"])) == 2
    known = (lessons["drawing"].labels != IGNORED) & (lessons["exact"].labels != IGNORED)
    assert (lessons["drawing"].labels == lessons["exact"].labels)[known].mean() > 0.7
    assert 0.0 < figures["blind"]["miou"] < 0.6


@pytest.mark.parametrize("settings, said", [
    ({"train": "office", "test": "office"}, "another one"), ({"train": "none"}, "no family of scenes 'none'"),
    ({"width": 100}, "multiples of 16"), ({"views": 0}, "1 or more")])
def test_a_bad_school_says_why(settings, said):
    with pytest.raises(ValueError, match=said):
        School(**settings)
