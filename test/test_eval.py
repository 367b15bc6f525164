"""`worldfm eval` and `worldfm render`: the protocols, what they keep apart, and the files that they write."""

from collections import Counter
import json
import pickle
import subprocess
import sys

import cv2
import numpy as np
from PIL import Image
import pytest
from scenes import CAMERA, room_poses, room_world, see_room, write_rgbd_folder
from tiny_models import tiny_settings, tiny_taesd, tiny_transformer

from worldfm_ros.cli.main import main
from worldfm_ros.clips import REFERENCE_GROUP, TARGETS, RgbdFrame
from worldfm_ros.evaluation import evaluate as judge
from worldfm_ros.evaluation.degradation import Degradation
from worldfm_ros.evaluation.evaluate import average, evaluate, paint
from worldfm_ros.evaluation.held_out import ClipViews, Photographs, WorldViews, hold_out, spread, targets
from worldfm_ros.evaluation.scoring import IDENTICAL
from worldfm_ros.frame_model.checkpoint import save_model_folder
from worldfm_ros.generator import load_generator, load_model
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.blend import Blend
from worldfm_ros.sources.rgbd_folder import RgbdFolder, write_camera, write_poses
from worldfm_ros.world.builders.fusion import FusionSettings
from worldfm_ros.world.storage import write_world

FRAMES = 34  # two clips and a rest
SIZE = (48, 44)  # width, height
COARSE = FusionSettings(voxel=0.05)


def folder_of(path, count=FRAMES):
    frames = [see_room(pose, index=i) for i, pose in enumerate(room_poses(72)[:count])]
    return write_rgbd_folder(path, frames)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("scan") / "room")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "room"
    write_world(room_world(24), path)
    return path


def photographs(path, size=SIZE):
    return Photographs(RgbdFolder(path), *size)


def replace_targets(path, positions):
    """The folder with other pictures and other depth in place of some frames."""
    for k in positions:
        cv2.imwrite(str(path / "rgb" / f"{k:06d}.png"), np.full((CAMERA.height, CAMERA.width, 3), 255, np.uint8))
        cv2.imwrite(str(path / "depth" / f"{k:06d}.png"), np.full((CAMERA.height, CAMERA.width), 500, np.uint16))
    return path


class Cheat:
    """A perfect model: it knows the photographs."""

    def __init__(self, views):
        self.known = {tuple(v.photograph.T_world_camera.translation): v.photograph.rgb for v in views}

    def paint(self, drawing, references, T_world_camera, intrinsics):
        return self.known[tuple(T_world_camera.translation)]


class Flicker(Cheat):
    """The photographs with noise that is new in each frame."""

    rng = np.random.default_rng(0)

    def paint(self, *what):
        rgb = super().paint(*what)
        return np.clip(rgb + self.rng.normal(0, 15, rgb.shape), 0, 255).astype(np.uint8)


# ---- photographs


def test_photographs_are_cropped_and_their_camera_with_them(scan):
    folder = RgbdFolder(scan)
    view, scene = Photographs(folder, 24, 30)[3]
    assert view.rgb.shape == (30, 24, 3) and view.intrinsics.width == 24 and scene.all()
    # 48 x 60 pixels around the middle of 80 x 60, at half the size
    assert np.isclose(view.intrinsics.hfov, 2 * np.arctan(24 / 50))
    exact = see_room(view.T_world_camera, view.intrinsics)
    assert np.abs(exact.rgb.astype(int) - view.rgb).mean() < 3
    assert np.abs(exact.depth - view.depth).max() < 0.1


def test_the_mask_goes_with_the_photographs(tmp_path):
    path = folder_of(tmp_path / "masked", 16)
    mask = np.full((CAMERA.height, CAMERA.width), 255, np.uint8)
    mask[30:] = 0
    cv2.imwrite(str(path / "mask.png"), mask)
    scene = Photographs(RgbdFolder(path), 24, 30)[0].scene
    assert scene[:15].all() and not scene[15:].any()


# ---- protocols


def same_references(a, b):
    return len(a.references) > 1 and all(np.array_equal(x.rgb, y.rgb) and np.array_equal(x.depth, y.depth)
                                         for x, y in zip(a.references, b.references, strict=True))


def test_clip_views_are_the_twelve_targets_with_their_references_closest_first(scan):
    views = list(ClipViews(photographs(scan), Degradation()))
    assert len(views) == len(ClipViews(photographs(scan), Degradation())) == 24
    assert [v.photograph.id for v in views] == [16 * clip + k for clip in range(2) for k in TARGETS]
    for view in views:
        position = view.photograph.id % 16
        distances = [abs(reference.id % 16 - position) for reference in view.references]
        assert distances == sorted(abs(k - position) for k in REFERENCE_GROUP)
        assert len({reference.id for reference in view.references}) == len(REFERENCE_GROUP)
    assert {v.group for v in views} == {"room-000", "room-001"}


def test_targets_do_not_leak_into_their_clip(scan, tmp_path):
    spoiled = replace_targets(folder_of(tmp_path / "room"), [16 * clip + k for clip in range(2) for k in TARGETS])
    for a, b in zip(*(ClipViews(photographs(path), Degradation()) for path in (scan, spoiled)), strict=True):
        assert np.array_equal(a.drawing.rgb, b.drawing.rgb) and same_references(a, b)
        assert not np.array_equal(a.photograph.rgb, b.photograph.rgb)


def test_targets_do_not_leak_into_the_world(scan, tmp_path):
    spoiled = replace_targets(folder_of(tmp_path / "room"), range(0, FRAMES, 8))
    seen = []
    for path in (scan, spoiled):
        pictures = photographs(path)
        world = hold_out(pictures, 8, Degradation(), COARSE)
        seen.append(list(WorldViews(world, pictures, targets(pictures, 8))))
    assert [v.photograph.id for v in seen[0]] == [0, 8, 16, 24, 32]
    for a, b in zip(*seen, strict=True):
        assert a.drawing.coverage.mean() > 0.5
        assert np.array_equal(a.drawing.rgb, b.drawing.rgb) and same_references(a, b)


def test_a_world_is_painted_as_the_generator_paints_it(scan):
    world = room_world(24)
    generator = load_generator(world)
    for view in WorldViews(world, photographs(scan), count=3):
        expected = generator.generate(view.photograph.T_world_camera, view.photograph.intrinsics)
        painted = paint(view, Blend())
        assert np.array_equal(painted.pictures["model"], expected.rgb)
        assert np.array_equal(view.drawing.coverage, expected.coverage)


def test_a_spread_is_even():
    assert spread(10, None) == list(range(10)) == spread(10, 99)
    assert spread(12, 3) == [2, 6, 10] and spread(15, 1) == [7]


# ---- degradation


def test_nothing_is_degraded_by_default(scan):
    frame, anchors = RgbdFolder(scan)[0], room_world(6).anchors
    assert Degradation().frame(frame) is frame and Degradation().anchors(anchors) is anchors


def test_noise_has_the_asked_size_and_belongs_to_the_frame(scan):
    frame = RgbdFolder(scan)[5]
    noise = Degradation(depth_noise=0.02, pose_noise=0.01, seed=3)
    worse, again = noise.frame(frame), noise.frame(RgbdFolder(scan)[5])
    assert np.array_equal(worse.depth, again.depth) and np.array_equal(worse.T_world_camera.matrix,
                                                                      again.T_world_camera.matrix)
    assert np.std(worse.depth - frame.depth) == pytest.approx(0.02, rel=0.1) and worse.depth.dtype == np.float32
    moved = [Degradation(pose_noise=0.01, seed=s).frame(frame).T_world_camera for s in range(200)]
    difference = [frame.T_world_camera.inverse() @ pose for pose in moved]
    assert np.std([d.translation for d in difference]) == pytest.approx(0.01, rel=0.15)
    assert np.std([d.rotation.as_rotvec() for d in difference]) == pytest.approx(0.01, rel=0.15)


def test_thinning_keeps_a_share():
    anchors = room_world(6).anchors
    left = Degradation(thin=0.1).anchors(anchors)
    assert len(left) == pytest.approx(0.1 * len(anchors), rel=0.15)
    rows = {tuple(p) for tile in anchors.tiles for p in tile.world_points}
    assert all(tuple(p) in rows for tile in left.tiles for p in tile.world_points)


def test_a_worse_map_scores_worse(scan):
    def scores(**how):
        figures = evaluate(ClipViews(photographs(scan), Degradation(**how), 1), Blend()).figures
        return {side: figures[side]["all"]["psnr"] for side in ("baseline", "inpainted")}

    exact = scores()
    for how in ({"thin": 0.1}, {"depth_noise": 0.2}, {"pose_noise": 0.05}):
        worse = scores(**how)
        assert worse["inpainted"] < exact["inpainted"] - 1.0, how
        assert worse["baseline"] < exact["baseline"], how


# ---- figures


def test_a_perfect_model_has_perfect_figures(scan):
    views = ClipViews(photographs(scan), Degradation())
    figures = evaluate(views, Cheat(views)).figures
    model = figures["model"]
    assert model["all"] == {"psnr": IDENTICAL, "ssim": pytest.approx(1.0)} == model["seen"]
    assert model["sharpness_ratio"] == 1.0 and model["warp_excess"] == 0.0 and model["revisit_psnr"] == IDENTICAL
    assert model["warp_psnr"] == figures["photograph"]["warp_psnr"] > 35
    assert figures["baseline"]["all"]["psnr"] < 60


def test_a_revisit_costs_one_picture_of_the_model(scan, monkeypatch):
    """No baseline, no features: the figure looks at the model's picture alone."""
    views, calls = ClipViews(photographs(scan), Degradation(), 1), Counter()
    for name in ("inpaint", "find_features"):
        function = getattr(judge, name)
        monkeypatch.setattr(judge, name, lambda *given, f=function, n=name: calls.update([n]) or f(*given))
    evaluate(views, Cheat(views))
    assert calls == {"inpaint": 12, "find_features": 48}


def test_flicker_shows_in_jitter_and_in_revisits(scan):
    views = ClipViews(photographs(scan), Degradation())
    model = evaluate(views, Flicker(views)).figures["model"]
    assert model["warp_excess"] > 10 and model["revisit_psnr"] < 25 and model["sharpness_ratio"] > 1.5


def test_regions_add_up(scan):
    """The squared errors of seen and disoccluded pixels are those of all."""
    figures = evaluate(ClipViews(photographs(scan), Degradation(thin=0.3)), Blend()).figures
    assert figures["views"] == 24 == len(figures["per_view"])
    for row in figures["per_view"]:
        whole, seen, hidden = (10 ** (-row["baseline"][name]["psnr"] / 10) for name in ("all", "seen", "disoccluded"))
        assert whole == pytest.approx((1 - row["uncovered"]) * seen + row["uncovered"] * hidden)


def test_pixels_outside_the_scene_do_not_count(tmp_path):
    path = folder_of(tmp_path / "masked", 16)
    mask = np.full((CAMERA.height, CAMERA.width), 255, np.uint8)
    mask[:, 40:] = 0
    cv2.imwrite(str(path / "mask.png"), mask)
    views = ClipViews(photographs(path), Degradation())

    class HalfCheat(Cheat):
        def paint(self, *what):
            rgb = super().paint(*what).copy()
            rgb[:, rgb.shape[1] // 2:] = 255
            return rgb

    model = evaluate(views, HalfCheat(views)).figures["model"]
    assert model["all"] == {"psnr": IDENTICAL, "ssim": pytest.approx(1.0)} and model["sharpness_ratio"] == 1.0


def test_a_network_is_scored_alike(scan, tmp_path):
    save_model_folder(tmp_path / "random", tiny_settings(), tiny_transformer(), tiny_taesd())
    views = ClipViews(photographs(scan), Degradation(), 1)
    figures = evaluate(views, load_model(str(tmp_path / "random"), seed=3)).figures
    assert figures["baseline"] == evaluate(views, load_model("anchors")).figures["baseline"]
    assert figures["model"]["revisit_psnr"] == IDENTICAL and figures["model"]["all"]["psnr"] < 25


def test_a_mask_must_leave_something(tmp_path):
    path = folder_of(tmp_path / "masked", 16)
    cv2.imwrite(str(path / "mask.png"), np.zeros((CAMERA.height, CAMERA.width), np.uint8))
    with pytest.raises(ValueError, match="leaves no pixel"):
        photographs(path)


def test_averages_leave_out_what_is_not_there():
    assert average([{"a": {"b": 1.0}, "c": None}, {"a": {"b": None}, "c": None}]) == {"a": {"b": 1.0}, "c": None}


# ---- the commands


def worldfm(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["worldfm", *map(str, words)])
    return main()


def check_contract(figures, views):
    assert figures["views"] == views
    for side in ("model", "baseline", "inpainted"):
        for region in ("all", "seen", "disoccluded"):
            assert set(figures[side][region]) == {"psnr", "ssim"}
        assert 5 < figures[side]["all"]["psnr"] < 60 and 0 < figures[side]["all"]["ssim"] <= 1
        assert figures[side]["sharpness_ratio"] > 0 and figures[side]["warp_psnr"] > 10


def test_clips_from_the_command_line(scan, tmp_path):
    command = [sys.executable, "-m", "worldfm_ros.cli.main", "eval", scan, "--clips", "16", "--model", "anchors",
               "--width", "64", "--height", "48", "--thin", "0.5", "--json", tmp_path / "figures.json", "--montage",
               tmp_path / "views.png"]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    check_contract(figures, 24)
    assert figures["settings"]["thin"] == 0.5 and figures["settings"]["source"] == str(scan)
    assert "24 views" in result.stdout and f"{figures['model']['all']['psnr']:.3f}" in result.stdout
    with Image.open(tmp_path / "views.png") as montage:
        assert montage.width > 4 * 64 and montage.height > 6 * 48
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures.json", "views.png"]


def test_hold_out_and_views_from_the_command_line(scan, world, tmp_path, monkeypatch):
    words = ["--model", "anchors", "--width", "64", "--height", "48", "--json", tmp_path / "figures.json"]
    assert worldfm(monkeypatch, "eval", scan, "--hold-out", "8", "--voxel", "0.05", *words) == 0
    check_contract(json.loads((tmp_path / "figures.json").read_text()), 5)
    assert worldfm(monkeypatch, "eval", world, "--views", scan, "--count", "6", *words) == 0
    check_contract(json.loads((tmp_path / "figures.json").read_text()), 6)


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "give one of --clips 16, --hold-out 8 and --views FOLDER; got none"),
        (["--clips", "16", "--hold-out", "8"], "got --clips and --hold-out"),
        (["--clips", "12"], "a clip has 16 frames"),
        (["--hold-out", "1"], "hold out every 2nd"),
        (["--hold-out", "99"], "hold out every 2nd"),
        (["--clips", "16", "--width", "8"], "16 pixels wide"),
        (["--clips", "16", "--width", "99999"], "image width is between"),
        (["--clips", "16", "--count", "0"], "count is 1 or more"),
        (["--clips", "16", "--model", "dalle"], "there is no model 'dalle'"),
        (["--clips", "16", "--preset", "turbo"], "preset is one of exact, fast, got 'turbo'"),
        (["--clips", "16", "--montage", "/nowhere/x.png"], "there is no folder /nowhere"),
        (["--clips", "16", "--json", "/nowhere/x.json"], "there is no folder /nowhere"),
        (["--hold-out", "8", "--voxel", "0"], "voxel size"),
        (["--clips", "16", "--noise", "fresh"], "for a model with a network; got 'fresh' for anchors"),
        (["--views", "/nowhere"], "/nowhere does not exist"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(words, message, scan, tmp_path, monkeypatch, capsys):
    default = ["--model", "anchors", "--json", tmp_path / "figures.json"]
    assert worldfm(monkeypatch, "eval", scan, *default, *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not any(tmp_path.iterdir())


def test_noise_that_is_fresh_in_every_frame_makes_no_frame_twice(scan, tmp_path, monkeypatch):
    folder, revisits = tmp_path / "random", {}
    save_model_folder(folder, tiny_settings(), tiny_transformer(), tiny_taesd())
    for noise in ("seeded", "world", "fresh"):
        words = ["--clips", "16", "--model", folder, "--width", "48", "--height", "32", "--noise", noise]
        assert worldfm(monkeypatch, "eval", scan, *words, "--json", tmp_path / f"{noise}.json") == 0
        revisits[noise] = json.loads((tmp_path / f"{noise}.json").read_text())["model"]["revisit_psnr"]
    assert revisits["seeded"] == revisits["world"] == 120 and revisits["fresh"] < 60


def test_folders_that_cannot_be_evaluated(scan, world, tmp_path, monkeypatch, capsys):
    short, flat, broken, dark = (folder_of(tmp_path / name, count) for name, count in
                                 (("short", 15), ("flat", 16), ("broken", 16), ("dark", 16)))
    for file in (dark / "depth").iterdir():
        cv2.imwrite(str(file), np.zeros((CAMERA.height, CAMERA.width), np.uint16))
    for file in (flat / "depth").iterdir():
        file.unlink()
    (flat / "depth").rmdir()
    (broken / "depth" / "000005.png").unlink()
    words = ["--model", "anchors", "--json", tmp_path / "figures.json"]
    for path, more, message in ((short, ["--clips", "16"], "15 frames"), (flat, ["--clips", "16"], "no depth/ folder"),
                                (flat, ["--hold-out", "4"], "no depth/ folder"),
                                (broken, ["--clips", "16"], "000005.png is missing"),
                                (dark, ["--clips", "16"], "none of the reference frames"),
                                (dark, ["--hold-out", "4"], "none of the 12 frames has usable depth"),
                                (scan, ["--views", scan], "is no world folder"),
                                (world, ["--views", scan, "--pose-noise", "0.1"], "can only be thinned")):
        assert worldfm(monkeypatch, "eval", path, *words, *more) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "figures.json").exists()


# ---- worldfm render


@pytest.fixture
def drive(tmp_path, world):
    poses = {3 * i: pose for i, pose in enumerate(room_poses(24)[:4])}
    write_poses(poses, tmp_path / "poses.txt")
    write_camera(Intrinsics.from_hfov(64, 48, 1.2), tmp_path / "camera.yaml")
    return ["render", world, "--trajectory", tmp_path / "poses.txt", "--camera", tmp_path / "camera.yaml",
            "--model", "anchors"]


def test_a_rendered_folder_holds_the_generators_frames(drive, tmp_path, monkeypatch):
    assert worldfm(monkeypatch, *drive, "--out", tmp_path / "drive") == 0
    folder, generator = RgbdFolder(tmp_path / "drive"), load_generator(room_world(24))
    assert [frame.index for frame in folder] == [0, 3, 6, 9]
    for frame in folder:
        expected = generator.generate(frame.T_world_camera, frame.intrinsics)
        assert np.array_equal(frame.rgb, expected.rgb)
        assert np.abs(frame.depth - expected.depth).max() <= 0.0005 + 1e-6


def test_a_rendered_video_has_the_frames(drive, tmp_path, monkeypatch):
    assert worldfm(monkeypatch, *drive, "--out", tmp_path / "drive.mp4", "--rate", "10") == 0
    video = cv2.VideoCapture(str(tmp_path / "drive.mp4"))
    frames = [video.read() for _ in range(5)]
    assert [ok for ok, _ in frames] == [True] * 4 + [False] and frames[0][1].shape == (48, 64, 3)
    assert video.get(cv2.CAP_PROP_FPS) == 10


def test_a_video_that_the_disk_has_no_room_for_is_an_error(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    camera, depth = Intrinsics.from_hfov(64, 48, 1.2), np.zeros((48, 64), np.float32)
    frames = [RgbdFrame(i, rgb, depth, camera, Pose.identity()) for i, rgb in enumerate(pictures)]
    code = """
import pickle, resource, sys
from worldfm_ros.replay.files_output import write_video
from worldfm_ros.geometry import Intrinsics, Pose
frames = pickle.load(sys.stdin.buffer)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
write_video((f.rgb for f in frames), frames[0].intrinsics, 10, __import__("pathlib").Path(sys.argv[1]))
"""
    for limit, ok in ((10_000, False), (10_000_000, True)):
        result = subprocess.run([sys.executable, "-c", code, tmp_path / "drive.mp4", str(limit)],
                                input=pickle.dumps(frames), capture_output=True)
        assert (result.returncode == 0) is ok, result.stderr.decode()
        assert ok or b"of 20 frames can be read back; is the disk full?" in result.stderr
        assert [file.name for file in tmp_path.iterdir()] == ["drive.mp4"] * ok


def test_render_refuses_before_the_work(drive, tmp_path, monkeypatch, capsys):
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.iterdir())
    for out, message in (("there", "exists"), ("no/drive", "there is no folder"), ("a.avi", "ends in .mp4")):
        assert worldfm(monkeypatch, *drive, "--out", tmp_path / out) == 2
        assert message in capsys.readouterr().err
    for wrong in (["--model", "dalle"], ["--preset", "turbo"]):
        assert worldfm(monkeypatch, *drive, "--out", tmp_path / "new", *wrong) == 2
    assert sorted(tmp_path.iterdir()) == before
