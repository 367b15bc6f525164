"""The anchor renderer: equal to its specification, and right by geometry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
import json
from pathlib import Path
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldfm_ros.bench.environment import in_words
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.world import _splat
from worldfm_ros.world.anchors import BLOCK, NEAR, AnchorMap, Anchors, frustum
from worldfm_ros.world.renderer import CHUNK, THREADS, AnchorView, render, render_reference

GOLDEN = Path(__file__).resolve().parents[2] / "shared/golden/open/renderer.safetensors"
CAMERA = Intrinsics(64, 48, 60.0, 55.0, 30.2, 25.7)


def make_tile(points, radius, origin=(0.0, 0.0, 0.0), seed=0) -> Anchors:
    """A tile with random colours, and labels that tell the points apart."""
    points = np.asarray(points, np.float32).reshape(-1, 3)
    rng = np.random.default_rng(seed)
    return Anchors(origin, points, rng.integers(1, 256, points.shape, dtype=np.uint8),
                   np.arange(1, len(points) + 1).astype(np.uint16), np.broadcast_to(np.float32(radius), len(points)))


def make_plane(spacing: float, distance: float, size: float) -> np.ndarray:
    """A square grid of points at z = distance around the optical axis, jittered by 2 % of the spacing."""
    ticks = np.arange(-size / 2, size / 2, spacing)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    grid = grid + np.random.default_rng(1).uniform(-0.02, 0.02, grid.shape) * spacing
    return np.column_stack([grid, np.full(len(grid), distance)])


def assert_equal(a: AnchorView, b: AnchorView) -> None:
    for name in ("rgb", "depth", "labels", "coverage"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype and np.array_equal(x, y), f"{name}: {np.sum(x != y)} of {x.size} values differ"


def same_pixels(a: AnchorView, b: AnchorView) -> float:
    """The share of pixels that show the same point."""
    return float(np.mean((a.labels == b.labels) & (a.coverage == b.coverage)))


@st.composite
def scenes(draw):
    """Tiles around and behind a camera that may be far from zero, of any shape and focal length."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offset = draw(st.sampled_from([0.0, 1e3, 1e6])) * rng.standard_normal(3)
    width, height = draw(st.tuples(st.integers(1, 90), st.integers(1, 70)))
    intrinsics = Intrinsics(width, height, *rng.uniform(4, 200, 2), *rng.uniform(-20, 110, 2))
    pose = Pose(Rotation.from_rotvec(rng.standard_normal(3)), offset + rng.standard_normal(3))
    tiles = []
    for n in draw(st.lists(st.integers(0, 700), max_size=4)):
        origin = offset + rng.uniform(-2, 2, 3)
        radius = draw(st.sampled_from([0.0, 0.01, 1.0])) * rng.choice([0.0, 1e-3, 0.02, 0.1, 1.0], n)
        points = rng.uniform(-4, 4, (n, 3)).round(draw(st.integers(0, 6)))  # rounded: ties
        tiles.append(make_tile(points, radius, origin, seed=n))
    return tiles, pose, intrinsics


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_equals_the_reference(scene):
    assert_equal(render(*scene), render_reference(*scene))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 12), st.integers(-3, 9), st.integers(1, 4), st.integers(0, 5)), max_size=40))
def test_pixel_borders_equal_the_reference(points):
    """Exact halves of pixels, equal depths, radii that end exactly on pixel centres: everything is a power of two."""
    intrinsics = Intrinsics(5, 4, 1.0, 1.0, 0.0, 0.0)
    tile = make_tile([(x / 2 * z, y / 2 * z, z) for x, y, z, _ in points], [r / 2 * z for _, _, z, r in points])
    assert_equal(render([tile], Pose.identity(), intrinsics), render_reference([tile], Pose.identity(), intrinsics))


@pytest.mark.parametrize("radius", [0.0, 0.03, 0.3])
def test_matches_brute_force(radius):
    """The rule written a third time, pixel by pixel in float64; float32 may turn a near tie."""
    rng = np.random.default_rng(3)
    points = rng.uniform([-1, -1, -0.5], [1, 1, 3], (150, 3)).astype(np.float32)
    tile, K = make_tile(points, radius), Intrinsics(24, 18, 20.0, 22.0, 11.0, 9.5)
    winner = np.zeros((K.height, K.width), int)
    for row in range(K.height):
        for column in range(K.width):
            best = np.inf
            for label, (x, y, z) in enumerate(points.astype(float), start=1):
                if z <= NEAR:
                    continue
                u, v, r = K.fx * x / z + K.cx, K.fy * y / z + K.cy, np.sqrt(K.fx * K.fy) * radius / z
                squared = (column - u) ** 2 + (row - v) ** 2
                if squared <= r * r or (round(u), round(v)) == (column, row):
                    key = z + (min(radius, radius * squared / (r * r)) if radius else 0.0)
                    if key < best:
                        best, winner[row, column] = key, label
    view = render([tile], Pose.identity(), K)
    assert np.mean(view.labels == winner) > 0.995
    same = (view.labels == winner) & (winner > 0)
    assert np.array_equal(view.coverage, view.labels > 0)
    np.testing.assert_allclose(view.depth[same], points[winner[same] - 1, 2], rtol=1e-6)
    np.testing.assert_array_equal(view.rgb[same], tile.colors[winner[same] - 1])
    assert not view.rgb[~view.coverage].any() and not view.depth[~view.coverage].any()


def test_nothing_to_draw():
    behind = make_tile([[0, 0, -1], [0, 0, 0], [0, 0, NEAR / 2], [50, 0, 1]], 0.01)
    for tiles in ([], [make_tile([], 0.0)], [behind]):
        for draw in (render, render_reference):
            view = draw(tiles, Pose.identity(), CAMERA)
            assert view.rgb.shape == (48, 64, 3) and not any(image.any() for image in astuple(view))


def test_one_pixel_image():
    tile = make_tile([[0, 0, 2], [0, 0, 1]], 0.0)
    view = render([tile], Pose.identity(), Intrinsics(1, 1, 1.0, 1.0, 0.0, 0.0))
    assert view.depth == [[1.0]] and view.labels == [[2]] and view.coverage.all()


def test_equal_keys_go_to_the_first_point():
    first, second = make_tile([[0, 0, 1]], 0.1, seed=1), make_tile([[0, 0, 1]], 0.1, seed=2)
    for tiles in ([first, second], [second, first]):
        view = render(tiles, Pose.identity(), CAMERA)
        assert np.array_equal(view.rgb[view.coverage][0], tiles[0].colors[0])


@pytest.mark.parametrize("distance", [0.3, 1.0, 8.0])
@pytest.mark.parametrize("tilt", [0.0, 0.9])
def test_a_sampled_plane_has_no_holes(distance, tilt):
    """Radius 0.75 x spacing closes a plane near and far; its depth is the ray's, within the slope of one splat."""
    spacing = 0.01
    points = make_plane(spacing, 0.0, size=1.0 if distance < 1 else 4.0)
    if distance > 1:
        points = points[np.abs(points[:, 0]) < 1.5]
    turn = Rotation.from_rotvec([tilt, 0.0, 0.0])
    tile = make_tile(turn.apply(points) + [0, 0, distance], 0.75 * spacing)
    wide, tele = Intrinsics(200, 150, 300.0, 290.0, 96.0, 80.0), Intrinsics(100, 80, 900.0, 880.0, 48.0, 41.0)
    K = wide if distance < 2 else tele
    view = render([tile], Pose.identity(), K)
    assert view.coverage.all()
    normal, rays = turn.apply([0, 0, 1]), K.unproject(np.ones((K.height, K.width)))
    truth = normal[2] * distance / (rays @ normal)
    assert np.abs(view.depth - truth).max() < 1.5 * spacing


def test_neighbouring_splats_meet_half_way():
    """On a plane that faces the camera each pixel shows the nearest point of the plane (a Voronoi diagram)."""
    points = make_plane(0.05, 1.0, size=1.2)
    view = render([make_tile(points, 0.75 * 0.05)], Pose.identity(), CAMERA)
    pixels = CAMERA.project(points)
    grid = np.stack(np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height)), -1).reshape(-1, 1, 2)
    nearest = np.argmin(np.sum((grid - pixels) ** 2, axis=-1), axis=1).reshape(view.labels.shape) + 1
    assert np.mean(view.labels[view.coverage] == nearest[view.coverage]) > 0.99


def test_a_near_surface_hides_a_far_one():
    near = make_tile(make_plane(0.01, 1.0, size=1.4), 0.0075)
    far = make_tile(make_plane(0.03, 1.5, size=2.5), 0.0225, seed=5)
    both = render([far, near], Pose.identity(), CAMERA)
    assert both.coverage.all() and both.depth.max() < 1.01
    assert_equal(both, render([near], Pose.identity(), CAMERA))


def test_moving_camera_and_points_together_changes_nothing():
    rng = np.random.default_rng(7)
    points, radius = rng.uniform([-2, -2, 0.5], [2, 2, 6], (3000, 3)), rng.uniform(0, 0.05, 3000)
    view = render([make_tile(points, radius)], Pose.identity(), CAMERA)
    T = Pose(Rotation.from_rotvec([0.3, -1.0, 2.0]), [0.5, -1.0, 0.2])
    assert same_pixels(view, render([make_tile(T.apply(points), radius)], T, CAMERA)) > 0.995
    shift = np.array([1e6, -1e6, 300.0])
    shifted = render([make_tile(points, radius, origin=shift)], Pose(Rotation.identity(), shift), CAMERA)
    assert_equal(view, shifted)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_does_not_matter(random):
    rng = np.random.default_rng(11)
    tile = make_tile(rng.uniform([-1, -1, 0.5], [1, 1, 3], (2000, 3)), rng.uniform(0, 0.08, 2000))
    order = random.sample(range(2000), 2000)
    cut = random.randrange(2000)
    parts = [tile.select(order[:cut]), tile.select(order[cut:])]
    assert_equal(render([tile], Pose.identity(), CAMERA), render(parts, Pose.identity(), CAMERA))


def test_threads_do_not_matter():
    """1, 2 or 3 workers, and two callers at once: the same bytes."""
    n = 5 * CHUNK + 17
    rng = np.random.default_rng(13)
    points = rng.uniform([-2, -2, 0.2], [2, 2, 6], (n, 3))
    colors, radius = rng.integers(0, 256, (n, 3), dtype=np.uint8), rng.uniform(0, 0.03, n)
    world = AnchorMap.from_points(points, colors, np.arange(n), radius)
    tiles = world.visible(Pose.identity(), CAMERA)
    alone = render(tiles, Pose.identity(), CAMERA, threads=1)
    for threads in (2, 3):
        assert_equal(alone, render(tiles, Pose.identity(), CAMERA, threads=threads))
    with ThreadPoolExecutor(2) as pool:
        views = list(pool.map(lambda _: render(tiles, Pose.identity(), CAMERA, threads=2), range(6)))
    for view in views:
        assert_equal(alone, view)
    assert not np.shares_memory(views[0].depth, views[1].depth)


def test_culled_tiles_do_not_matter():
    rng = np.random.default_rng(17)
    points = rng.uniform(-12, 12, (20000, 3))
    world = AnchorMap.from_points(points, rng.integers(0, 256, (20000, 3), dtype=np.uint8), np.arange(20000), 0.02)
    for _ in range(10):
        pose = Pose(Rotation.random(random_state=rng.integers(1 << 30)), rng.uniform(-6, 6, 3))
        assert_equal(render(world.tiles, pose, CAMERA), render(world.visible(pose, CAMERA), pose, CAMERA))


@st.composite
def blocky_scenes(draw):
    """A map of many small blocks about a camera of any shape, with splats of up to the size of the image; the camera is
    among the anchors or outside of them, or anchors graze the borders of its view and the nearest distance drawn."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offset = draw(st.sampled_from([0.0, 1e3, 1e6])) * rng.standard_normal(3)
    intrinsics = Intrinsics(*draw(st.tuples(st.integers(1, 90), st.integers(1, 70))),
                            *rng.choice([8.0, 40.0, 300.0], 2) * rng.uniform(0.5, 2, 2), *rng.uniform(-20, 110, 2))
    pose = Pose(Rotation.random(random_state=rng.integers(1 << 30)),
                offset + rng.standard_normal(3) * draw(st.sampled_from([0.1, 1.0, 12.0])))
    clusters = draw(st.integers(2, 8))
    centers = rng.uniform(-6, 6, (clusters, 3)) + offset
    if draw(st.booleans()):  # on the pixels just inside and outside of the image, and at NEAR
        u, v = (rng.choice([-0.5, size - 0.5, rng.uniform(0, size)], clusters) + rng.choice([0, 1e-4, -1e-4], clusters)
                for size in (intrinsics.width, intrinsics.height))
        z = rng.choice([NEAR, NEAR + 1e-6, 1.0, 5.0], clusters)
        x, y = (u - intrinsics.cx) / intrinsics.fx, (v - intrinsics.cy) / intrinsics.fy
        centers = pose.apply(np.stack([x * z, y * z, z], axis=1))
    size = draw(st.sampled_from([0.0, 1e-3, 0.1]))
    points = np.repeat(centers, BLOCK, axis=0) + size * rng.uniform(-1, 1, (clusters * BLOCK, 3))
    largest = draw(st.sampled_from([0.0, 0.003, 0.05, 1.0]))
    radius = np.where(rng.random(len(points)) < 0.02, largest, 0.1 * largest)
    colors = rng.integers(1, 256, points.shape, dtype=np.uint8)
    return AnchorMap.from_points(points, colors, np.arange(len(points)) + 1, radius), pose, intrinsics


@settings(max_examples=60, deadline=None)
@given(blocky_scenes())
def test_culling_blocks_and_tiles_changes_nothing(scene):
    world, pose, intrinsics = scene
    truth = render_reference(world.tiles, pose, intrinsics)
    assert_equal(render(world.tiles, pose, intrinsics), truth)
    seen = render(world.visible(pose, intrinsics), pose, intrinsics)  # the order of tiles decides between equal keys
    assert_equal(seen, render_reference(world.visible(pose, intrinsics), pose, intrinsics))
    np.testing.assert_array_equal(seen.depth > 0, truth.coverage)


@pytest.mark.parametrize("focal", [(60.0, 60.0), (20.0, 180.0), (180.0, 20.0)])
def test_splats_reach_into_the_image_from_outside(focal):
    """A block of splats whose centres are `pixels` beyond a border is drawn while a splat reaches the border."""
    K, radius, z = Intrinsics(40, 30, *focal, 20.0, 15.0), 0.1, 2.0
    reach = np.sqrt(K.fx * K.fy) * radius / z
    for pixels in (0.3 * reach, 0.98 * reach, 1.05 * reach):
        for u, v in ((-pixels, 15), (39 + pixels, 15), (20, -pixels), (20, 29 + pixels)):
            point = [(u - K.cx) / K.fx * z, (v - K.cy) / K.fy * z, z]
            world = AnchorMap.from_points(np.repeat([point], BLOCK, 0), np.ones((BLOCK, 3), np.uint8), radius=radius)
            view = render(world.visible(Pose.identity(), K), Pose.identity(), K)
            assert view.coverage.any() == (pixels < reach)


@pytest.mark.parametrize("distance", [0.0, 100.0])
def test_culling_allows_for_rounding(distance):
    """Points on the image's border, give or take float32 rounding, in tiles near and far from the camera."""
    rng = np.random.default_rng(29)
    n, K = 400, Intrinsics(2000, 1500, 1500.0, 1500.0, 999.5, 749.5)
    for border in (0, 1):
        pixels = np.column_stack([rng.choice([-0.5, K.width - 0.5], n), rng.choice([-0.5, K.height - 0.5], n)])
        pixels[:, border] = rng.uniform(0, 1000, n)
        z = rng.uniform(NEAR, 4 * NEAR, n) if distance == 0 else rng.uniform(1, 200, n)
        points = np.column_stack([(pixels - [K.cx, K.cy]) / K.fx * z[:, None], z])
        pose = Pose(Rotation.random(random_state=rng.integers(1 << 30)), rng.standard_normal(3))
        origin = pose.translation + distance * rng.standard_normal(3)
        tile = make_tile(np.repeat(pose.apply(points) - origin, BLOCK, axis=0), 0.0, origin)
        view = render([tile], pose, K)
        tile.blocks[:, 3:6] = np.inf  # nothing is culled
        everything = render([tile], pose, K)
        assert 0 < everything.coverage.sum() < n
        assert_equal(view, everything)


def test_most_blocks_outside_the_view_are_culled():
    rng = np.random.default_rng(23)
    n = 200_000
    world = AnchorMap.from_points(rng.uniform(-4, 4, (n, 3)), np.zeros((n, 3), np.uint8), radius=0.01)
    kept = inside = 0
    for tile in world.tiles:
        P = np.column_stack([CAMERA.matrix, CAMERA.matrix @ tile.origin]).astype(np.float32)
        planes = frustum(CAMERA)
        kept += BLOCK * sum(not _splat._outside(box, planes, *_splat._planes(planes, P)) for box in tile.blocks)
        points = tile.world_points[tile.world_points[:, 2] > NEAR]
        inside += np.sum(np.all(np.abs(CAMERA.project(points) - [31.5, 23.5]) < [32, 24], axis=1))
    assert inside <= kept < n / 5


def test_read_only_points_are_drawn():
    tile = make_tile([[0, 0, 1]], 0.0)
    for array in (tile.points, tile.colors, tile.labels, tile.radius):
        array.flags.writeable = False
    assert render([tile], Pose.identity(), CAMERA).coverage.sum() == 1


@pytest.mark.skipif(not GOLDEN.exists(), reason=f"no golden cases at {GOLDEN}")
@pytest.mark.parametrize("draw", [render, render_reference])
def test_golden_parity(draw):
    """Radius 0 is the released renderer: nearest point wins, one pixel a point."""
    from safetensors import safe_open
    with safe_open(GOLDEN, "numpy") as file:
        cases = json.loads(file.metadata()["config"])
        data = {key: file.get_tensor(key) for key in file.keys()}
    assert cases
    for name, config in cases.items():
        points = data[f"{name}.points_xyz"].astype(np.float32)
        colors = (data[f"{name}.points_rgb"] * 255).astype(np.uint8)
        tile = Anchors(np.zeros(3), points, colors, np.zeros(len(points), np.uint16), np.zeros(len(points), np.float32))
        intrinsics = Intrinsics.from_matrix(config["W"], config["H"], data[f"{name}.K"])
        view = draw([tile], Pose.from_matrix(data[f"{name}.c2w"]), intrinsics)
        truth = data[f"{name}.fast.depth"]
        assert np.array_equal(view.coverage, truth > 0)
        np.testing.assert_allclose(view.depth, truth, atol=1e-4)
        assert np.abs(view.rgb.astype(int) - data[f"{name}.fast.rgb_u8"]).max() <= 1


def test_bench_writes_its_contract(tmp_path):
    pytest.importorskip("open3d")
    file = tmp_path / "render.json"
    code = "import sys; from worldfm_ros.cli.main import main; assert main() == 0; assert 'torch' not in sys.modules"
    told = subprocess.run([sys.executable, "-c", code, "bench", "render", "--json", str(file), "--repeats", "1",
                           "--points", "20000", "--in-map", "60000"], check=True, capture_output=True, text=True).stdout
    report = json.loads(file.read_text())
    cases, machine = report["cases"], report["environment"]
    assert " ".join(in_words(machine).split()) in " ".join(told.split())
    assert machine["threads"] == THREADS and machine["cpu"] and machine["isa"]
    for case in cases:
        assert case.keys() == {"name", "points", "visible", "width", "height", "ms", "open3d_ms", "open3d_sorted_ms",
                               "speedup", "agree", "threads"}
        assert case["speedup"] == pytest.approx(case["open3d_ms"] / case["ms"])
        assert 0 < case["visible"] <= case["points"] and case["agree"] > 0.99
    (large,) = report["large"]
    assert large["points"] == 60000 and 0 < large["tiles_mb"] < large["budget_mb"] and large["stored_ms"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["render.json"]
