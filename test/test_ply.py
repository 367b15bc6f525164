"""Point clouds and Gaussian splats of PLY files: read, refused, made a world of, and exported again."""

import io
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement
import pytest

from worldfm_ros.sources import ply_text
from worldfm_ros.sources.ply import FAINT, HARMONIC, SPLAT, read_ply, vertices
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.builders.cloud import CloudSettings, build, usual_spacing
from worldfm_ros.world.export import export_anchors

COLORED = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]


def write(path: Path, rows: np.ndarray, text=False) -> Path:
    PlyData([PlyElement.describe(rows, "vertex")], text=text).write(str(path))
    return path


def points(count=50, kinds=COLORED, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, kinds)
    for name in rows.dtype.names:
        rows[name] = rng.integers(0, 256, count) if rows.dtype[name].kind == "u" else rng.normal(0, 2, count)
    return rows


def gaussians(count=40) -> np.ndarray:
    kinds = [(name, "f4") for name in ("x", "y", "z", "nx", "ny", "nz", *SPLAT, "rot_0", "rot_1", "rot_2", "rot_3")]
    rows = points(count, kinds)
    for k in range(3):
        rows[f"scale_{k}"] = np.log([0.02, 0.05, 0.001][k])
    rows["opacity"] = 4.0
    return rows


@pytest.mark.parametrize("text", [False, True])
def test_a_cloud_is_read_as_it_is(tmp_path, text):
    rows = points()
    read = read_ply(write(tmp_path / "a.ply", rows, text))
    assert np.allclose(read.points, np.stack([rows[n] for n in "xyz"], 1), atol=1e-5) and read.radius is None
    assert np.array_equal(read.colors, np.stack([rows[n] for n in ("red", "green", "blue")], 1)) and not read.skipped


def test_colours_between_0_and_1_and_points_that_are_not_finite(tmp_path):
    rows = points(6, [*((n, "f8") for n in "xyz"), *((n, "f4") for n in ("r", "g", "b"))])
    for name in "rgb":
        rows[name] = 0.5
    rows["y"][2], rows["z"][4] = np.nan, np.inf
    read = read_ply(write(tmp_path / "a.ply", rows))
    assert len(read) == 4 and (read.colors == 128).all() and dict(read.skipped) == {
        "coordinates that are not finite": 2}


def test_splats_become_discs_of_their_colour_and_size(tmp_path):
    rows = gaussians()
    for k in range(3):
        rows[f"f_dc_{k}"] = (0.25 * k) / HARMONIC
    rows["opacity"][:5] = -6.0
    rows["f_dc_1"][5], rows["scale_0"][6] = np.nan, np.inf
    for k in range(3):
        rows[f"scale_{k}"][7] = -np.inf
    read = read_ply(write(tmp_path / "a.ply", rows))
    assert len(read) == 32 and read.skipped["splats of size 0"] == 1
    assert read.skipped[f"splats fainter than {FAINT:g}, or without a colour"] == 6
    assert (read.colors == [128, 191, 255]).all()
    assert np.allclose(read.radius, 1.5 * np.sqrt(0.02 * 0.05), rtol=1e-5)


@pytest.mark.parametrize(("change", "words"), [
    (lambda data: b"plx" + data[3:], "no PLY file"), (lambda data: data[:-20], "the file holds"),
    (lambda data: data.replace(b"vertex 50", b"vertex 999999999999"), "its header announces"),
    (lambda data: data.replace(b"property float z\n", b"property nonsense z\n"), "damaged or no PLY"),
    (lambda data: data.replace(b"vertex 50", b"vertex 0"), "holds no usable point"),
    (lambda data: data.replace(b"element vertex", b"element corner"), "vertex"),
    (lambda data: b"\x1f\x8b" + data, "SPZ"), (lambda data: b"", "no PLY file")])
def test_what_is_no_point_cloud_is_refused_by_name(tmp_path, change, words):
    path = write(tmp_path / "cloud.ply", points())
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=words) as raised:
        read_ply(path)
    assert "cloud.ply" in str(raised.value)


def test_text_that_announces_too_much_is_refused(tmp_path):
    path = write(tmp_path / "a.ply", points(), text=True)
    path.write_text(path.read_text().replace("vertex 50", "vertex 1000000000"))
    with pytest.raises(ValueError, match="its header announces"):
        read_ply(path)


TEXT = ("ply\nformat ascii 1.0\ncomment by hand\nelement camera 2\nproperty list uchar int ids\nelement vertex 3\n"
        "property double x\nproperty float y\nproperty float z\nproperty uchar red\nproperty uchar green\n"
        "property uchar blue\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n2 5 7\n1 0\n"
        "0.1 -2e-3 3 0 127 255\n4 nan 6 1 2 3\n  7 8\t9.25 4 5 6\n3 0 1 2\n")


@pytest.mark.parametrize("piece", [7, 40, 1 << 22])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_is_read_in_pieces_as_plyfile_reads_it(tmp_path, monkeypatch, piece, end):
    monkeypatch.setattr(ply_text, "PIECE", piece)
    path = tmp_path / "a.ply"
    path.write_bytes(TEXT.replace("\n", end).encode())
    theirs, ours = PlyData.read(path)["vertex"], vertices(path, iter)
    for name, column in ours.items():
        assert column.dtype == theirs[name].dtype and np.array_equal(column, theirs[name], equal_nan=name == "y")
    assert read_ply(path).skipped == {"coordinates that are not finite": 1}


@pytest.mark.parametrize(("old", "new", "words"), [
    ("4 nan 6 1 2 3\n  7 8", "4 nan 6 1 2 3 7\n 8", "expected 6 numbers for vertex 2, got '4 nan 6 1 2 3 7'"),
    ("4 nan 6 1 2 3\n", "\n", "vertex 2, got ''"), ("4 nan", "4 four", "vertex 2, got '4 four 6 1 2 3'"),
    ("  7 8\t9.25 4 5 6\n3 0 1 2\n", "", "cut short"),
    ("127", "256", "green: expected whole numbers from 0 to 255, got 256"), ("127", "1.5", "green"),
    ("127", "nan", "green")])
def test_a_wrong_line_of_text_is_named(tmp_path, old, new, words):
    path = tmp_path / "a.ply"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError, match=words) as raised:
        read_ply(path)
    assert "a.ply" in str(raised.value)


@pytest.mark.parametrize(("names", "words"), [(("red", "green", "blue"), "no colour"), (("z",), "has no z")])
def test_what_is_missing_is_named(tmp_path, names, words):
    rows = points()[[name for name, _ in COLORED if name not in names]]
    with pytest.raises(ValueError, match=words):
        read_ply(write(tmp_path / "a.ply", np.array(rows.tolist(), [k for k in COLORED if k[0] not in names])))
    with pytest.raises(FileNotFoundError, match="missing"):
        read_ply(tmp_path / "none.ply")


@pytest.mark.parametrize(("up", "axis"), [("z", [0, 0, 1]), ("-z", [0, 0, -1]), ("y", [0, 1, 0]), ("-y", [0, -1, 0]),
                                         ("x", [1, 0, 0]), ("-x", [-1, 0, 0])])
def test_what_points_upwards_in_the_file_does_so_in_the_world(tmp_path, up, axis):
    rows = points(2)
    for k, name in enumerate("xyz"):
        rows[name] = [0, axis[k]]
    world = build(read_ply(write(tmp_path / "a.ply", rows)), "a", CloudSettings(up=up, scale=2.0))
    found = np.concatenate([tile.world_points for tile in world.anchors.tiles])
    assert np.allclose(found[np.argmax(found[:, 2])], [0, 0, 2]) and world.metric


def test_a_cloud_without_sizes_gets_those_that_close_it(tmp_path):
    rows = points(400)
    grid = np.arange(400)
    rows["x"], rows["y"], rows["z"] = 0.1 * (grid % 20), 0.1 * (grid // 20), 0
    world = build(read_ply(write(tmp_path / "a.ply", rows)), "a")
    assert world.spacing == pytest.approx(0.1, rel=1e-3) and not world.metric and not world.keyframes
    assert np.allclose(world.anchors.tiles[0].radius, 0.1 / np.sqrt(2), rtol=1e-3)
    assert usual_spacing(np.zeros((1, 3))) == 0


def test_haze_is_left_out_and_counted(tmp_path):
    rows = gaussians()
    for k in range(3):
        rows[f"scale_{k}"][:10] = 2.0
    discs = read_ply(write(tmp_path / "a.ply", rows))
    assert len(build(discs, "a").anchors) == 30 and discs.skipped["splats larger than 0.5 m"] == 10
    with pytest.raises(ValueError, match="raise --largest"):
        build(discs, "a", CloudSettings(scale=100.0))


@pytest.mark.parametrize("settings", [{"scale": -1.0}, {"scale": 0.0},
                                      {"scale": float("nan")}, {"up": "north"}, {"largest": 0.0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="got"):
        CloudSettings(**settings)


def a_map() -> AnchorMap:
    rng = np.random.default_rng(0)
    return AnchorMap.from_points(rng.uniform(-6, 6, (500, 3)), rng.integers(0, 256, (500, 3), np.uint8),
                                 rng.integers(0, 9, 500), rng.uniform(0, 0.1, 500))


def test_what_is_exported_as_ply_comes_back(tmp_path):
    anchors = a_map()
    export_anchors(anchors, tmp_path / "a.ply")
    again = build(read_ply(tmp_path / "a.ply"), "a", CloudSettings(scale=1.0)).anchors
    for ours, theirs in zip(anchors.tiles, again.tiles, strict=True):
        assert np.allclose(ours.points, theirs.points, atol=1e-5)
        for name in ("colors", "labels", "radius"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_open3d_reads_what_is_exported(tmp_path):
    open3d = pytest.importorskip("open3d")
    anchors = a_map()
    points, colors = (np.concatenate([getattr(tile, name) for tile in anchors.tiles])
                      for name in ("world_points", "colors"))
    for suffix in (".ply", ".pcd"):
        export_anchors(anchors, tmp_path / f"a{suffix}")
        cloud = open3d.io.read_point_cloud(str(tmp_path / f"a{suffix}"))
        assert np.allclose(np.asarray(cloud.points), points, atol=1e-5), suffix
        assert np.allclose(np.asarray(cloud.colors) * 255, colors, atol=0.51), suffix


def test_other_formats_are_refused_and_an_empty_map_is_exported(tmp_path):
    with pytest.raises(ValueError, match=r"\.ply or \.pcd"):
        export_anchors(a_map(), tmp_path / "a.las")
    export_anchors(AnchorMap(), tmp_path / "a.ply")
    assert len(PlyData.read(io.BytesIO((tmp_path / "a.ply").read_bytes()))["vertex"]) == 0
