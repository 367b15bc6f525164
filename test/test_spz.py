"""Gaussian splats of SPZ files: what the library packs gives the same anchors as the PLY, and what lies is refused."""

import gzip
import struct

import numpy as np
from plyfile import PlyData, PlyElement
import pytest

from worldfm_ros.sources.ply import HARMONIC, SPLAT, read_ply
from worldfm_ros.sources.spz import EXTENSIONS, HEADER, MOST, read_spz
from worldfm_ros.world.builders.cloud import CloudSettings, build

gsply = pytest.importorskip("gsply")
STEP = 2.0**-12  # metres, of a position
COUNT = 300


@pytest.fixture(autouse=True)
def compiled_here():
    gsply.use_backend("auto")
    if gsply.active_backend() != "cpp":
        pytest.skip("gsply without its compiled part: numba takes half a minute")


def splats():
    """means, logarithms of the deviations, quaternions, opacities before the sigmoid, first harmonics."""
    rng = np.random.default_rng(0)
    means, scales = rng.uniform(-3, 3, (COUNT, 3)), np.log(rng.uniform(0.01, 0.2, (COUNT, 3)))
    quaternions = rng.normal(size=(COUNT, 4))
    opacities = np.where(np.arange(COUNT) % 3, 4.0, -5.0)  # well on either side of what is a surface
    return [part.astype(np.float32) for part in
            (means, scales, quaternions / np.linalg.norm(quaternions, axis=1)[:, None], opacities,
             rng.uniform(-1.5, 1.5, (COUNT, 3)))]


def write_spz(path, version=3, harmonics=0):
    means, scales, quaternions, opacities, first = splats()
    rest = np.zeros((COUNT, harmonics, 3), np.float32) if harmonics else None
    data = gsply.GSData.from_arrays(means=means, scales=scales, quats=quaternions, opacities=opacities, sh0=first,
                                    shN=rest)
    gsply.write_spz(path, data, version=version)
    return path


def write_ply(path):
    means, scales, _, opacities, first = splats()
    rows = np.zeros(COUNT, [(name, "f4") for name in ("x", "y", "z", *SPLAT)])
    for name, values in zip(rows.dtype.names, [*means.T, *first.T, opacities, *scales.T], strict=True):
        rows[name] = values
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))
    return path


@pytest.mark.parametrize(("version", "harmonics"), [(3, 0), (3, 15), (4, 8)])
def test_the_same_splats_give_the_same_anchors(tmp_path, version, harmonics):
    if version == 4:
        pytest.importorskip("zstandard")
    packed = read_spz(write_spz(tmp_path / "a.spz", version, harmonics))
    plain = read_ply(write_ply(tmp_path / "a.ply"))
    assert len(packed) == len(plain) == COUNT - COUNT // 3 and packed.skipped == plain.skipped
    assert np.abs(packed.points - plain.points).max() <= 0.5 * STEP * 1.01
    level = HARMONIC / (0.15 * 255) * 255  # of a packed colour, in levels
    inside = (plain.colors > 0) & (plain.colors < 255)
    assert np.abs(packed.colors.astype(int) - plain.colors)[inside].max() <= np.ceil(level)
    assert np.abs(np.log(packed.radius / plain.radius)).max() <= 1 / 32 * 1.01
    worlds = [build(discs, "a", CloudSettings(scale=1.0)) for discs in (packed, plain)]
    assert len(worlds[0].anchors) == len(worlds[1].anchors)


def repacked(change):
    """Of a file that is one gzip stream: what `change` makes of its content."""
    return lambda data: gzip.compress(change(gzip.decompress(data)))


def header(**fields):
    def change(content):
        names = ("magic", "version", "count", "degree", "bits", "flags", "rest")
        old = dict(zip(names, HEADER.unpack(content[:HEADER.size]), strict=True))
        return HEADER.pack(*(old | fields).values()) + content[HEADER.size:]

    return repacked(change)


@pytest.mark.parametrize(("change", "words"), [
    (header(magic=b"PGSN"), "header's magic"), (header(version=9), "header's version is 9"),
    (header(version=1), "half floats"), (header(count=0), "number of splats is 0"),
    (header(count=MOST + 1), "SPZ's limit"), (header(count=COUNT + 1), "cut short"), (header(degree=4), "degree"),
    (header(degree=3), "cut short"), (header(bits=30), "fractional bits"),
    (lambda data: data[:len(data) // 2], "cut short"), (lambda data: data[:12], "cut short"),
    (repacked(lambda content: content[:9]), "its header has 9 of 16 bytes"),
    (repacked(lambda content: content + bytes(2 * EXTENSIONS)), "it unpacks to"),
    (lambda data: data + gzip.compress(bytes(1 << 24)), "goes on after the end"),
    (lambda data: data[:40] + b"\xff\xff" + data[42:], "damaged"), (lambda data: b"", "its header has 0 of 16 bytes"),
    (lambda data: b"ply\n" + data, "header's magic")])
def test_what_lies_is_refused_by_name(tmp_path, change, words):
    path = write_spz(tmp_path / "cloud.spz")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=words) as raised:
        read_spz(path)
    assert "cloud.spz" in str(raised.value)


def test_extensions_after_the_splats_are_no_lie(tmp_path):
    path = write_spz(tmp_path / "a.spz")
    path.write_bytes(repacked(lambda content: content + bytes(100))(path.read_bytes()))
    assert len(read_spz(path)) == COUNT - COUNT // 3


@pytest.mark.parametrize(("place", "field", "words"), [
    (32, 1 << 40, "stream 0 of"), (40, 1 << 40, "stream 0 announces"), (16, 1 << 30, "its table"),
    (4, (MOST + 1) << 32 | 4, "SPZ's limit")])
def test_a_table_that_lies_is_refused(tmp_path, place, field, words):
    """Version 4: `field`, 8 bytes at that place."""
    pytest.importorskip("zstandard")
    path = write_spz(tmp_path / "cloud.spz", version=4)
    data = bytearray(path.read_bytes())
    data[place:place + 8] = struct.pack("<Q", field)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words):
        read_spz(path)


def test_a_stream_that_tells_of_more_than_the_splats_is_refused(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    path = write_spz(tmp_path / "cloud.spz", version=4)
    data = path.read_bytes()
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    place = 32 + 16 * data[15]
    data = data[:32] + struct.pack("<Q", len(bomb)) + data[40:place] + bomb + data[place:]
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"stream 0 announces {1 << 26} bytes"):
        read_spz(path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.spz is missing"):
        read_spz(tmp_path / "nowhere.spz")
