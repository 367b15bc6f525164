"""Shards: a round trip, webdataset reads them, builds go on where they stopped, and nothing gets lost in silence."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
import errno
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import threading

import numpy as np
from PIL import Image
import pytest
from scenes import see_room, write_rgbd_folder
import webdataset

from training import builders
from training.data import shards as shards_module
from training.data.__main__ import main
from training.data.corruption import Corruption
from training.data.pairs import make_pair
from training.data.shard_index import INDEX, UNFINISHED, VIEWS, read_index
from training.data.shards import ShardedClips, write_shards
from training.data.stored_clip import decode, encode
from worldfm_ros import files
from worldfm_ros.clips import LENGTH, Clip
from worldfm_ros.geometry import Pose
from worldfm_ros.sources.checks import problem, whole

ROOT = Path(__file__).parents[1]


def clip_of(number: int) -> Clip:
    eyes = [np.array([0.02 * k - 0.3, 0.1 * number, 1.2]) for k in range(LENGTH)]
    poses = [Pose.looking_at(eye, eye + [1.0, 0.02 * k, -0.2]) for k, eye in enumerate(eyes)]
    return Clip(f"room/{number}", tuple(see_room(pose, index=k) for k, pose in enumerate(poses)))


CLIPS = [clip_of(number) for number in range(5)]


def assert_same(stored: Clip, clip: Clip) -> None:
    """Up to what JPEG and millimetres lose."""
    assert stored.name == clip.name and len(stored.frames) == LENGTH
    for a, b in zip(stored.frames, clip.frames, strict=True):
        assert (a.index, a.intrinsics) == (b.index, b.intrinsics)
        np.testing.assert_allclose(a.T_world_camera.matrix, b.T_world_camera.matrix, atol=1e-12)
        assert np.abs(a.depth - b.depth).max() < 0.00051 and a.depth.dtype == np.float32
        assert np.abs(a.rgb.astype(int) - b.rgb).mean() < 3
        np.testing.assert_array_equal(a.labels, b.labels)


@pytest.fixture
def shards(tmp_path) -> Path:
    write_shards(CLIPS, tmp_path / "shards", clips_per_shard=2)
    return tmp_path / "shards"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ---- what is written


def test_clips_come_back_in_any_order_as_they_were(shards):
    stored = ShardedClips(shards)
    assert len(stored) == len(CLIPS)
    for number in (4, 0, 3, 1, 2, -1):
        assert_same(stored[number], CLIPS[number])
    with pytest.raises(IndexError):
        stored[5]


def test_a_pair_can_be_made_of_a_stored_clip(shards):
    made = [make_pair(clips[2], 7, (40, 40), Corruption.default(), 1) for clips in (CLIPS, ShardedClips(shards))]
    assert np.abs(made[0].target.astype(int) - made[1].target).mean() < 3
    assert made[0].T_world_reference.translation == pytest.approx(made[1].T_world_reference.translation)


def test_webdataset_reads_them(shards):
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == len(CLIPS) and len({sample["__key__"] for sample in samples}) == len(CLIPS)
    for sample, clip in zip(samples, CLIPS, strict=True):
        assert json.loads(sample["json"])["name"] == clip.name
        assert_same(decode(sample, "sample"), clip)


def test_clips_without_labels_and_with_far_depth_are_stored():
    far = tuple(replace(frame, labels=None, depth=np.where(frame.depth > 1.5, np.float32(80), frame.depth))
                for frame in CLIPS[0].frames)
    stored = decode(encode(Clip("far", far)), "clip").frames[3]
    assert stored.labels is None
    np.testing.assert_array_equal(stored.depth > 0, far[3].depth < 80)


def test_what_is_not_the_scene_is_stored(shards):
    hand = np.ones((60, 80), bool)
    hand[40:, 20:50] = False
    frames = [replace(frame, scene=hand) for frame in CLIPS[0].frames]
    frames[2] = replace(frames[2], scene=np.ones_like(hand))
    stored = decode(encode(Clip("hand", tuple(frames))), "clip")
    np.testing.assert_array_equal(stored.frames[1].scene, hand)
    assert stored.frames[2].scene is None and ShardedClips(shards)[0].frames[1].scene is None


def test_several_folders_are_one_source(shards, tmp_path):
    write_shards(CLIPS[:1], tmp_path / "more")
    both = ShardedClips([shards, tmp_path / "more"])
    assert [clip.name for clip in both] == [clip.name for clip in [*CLIPS, CLIPS[0]]]


def test_a_clip_of_fewer_frames_is_refused():
    with pytest.raises(ValueError, match="16 frames, got 3"):
        Clip("short", CLIPS[0].frames[:3])


def test_views_of_many_scenes_are_no_films(shards, tmp_path):
    for fault, match in ((problem, "none of the 1 clips is good"), (whole, None)):
        away = [replace(frame, T_world_camera=Pose.looking_at(place := np.array([90.0 * k, 0, 1]), place + [1, 0, 0]))
                for k, frame in enumerate(CLIPS[0].frames)]
        place = tmp_path / fault.__name__
        with pytest.raises(ValueError, match=match) if match else nullcontext():
            write_shards([Clip("views", tuple(away))], place, source={VIEWS: 4}, fault=fault)
    assert ShardedClips(shards).films and not ShardedClips([shards, place]).films
    assert len(builders.views(str(place))) == 1
    with pytest.raises(ValueError, match="learns from films"):
        builders.shards(f"{shards},{place}")


# ---- building


class Stopped(Exception):
    pass


class StopsAt(list):
    """Clips of which one stops the build."""

    def __init__(self, clips, at):
        super().__init__(clips)
        self.at = at

    def __getitem__(self, number):
        if number == self.at:
            raise Stopped
        return super().__getitem__(number)


@pytest.mark.parametrize("at", [0, 1, 2, 4])
def test_a_build_that_was_stopped_goes_on_and_gives_the_same_bytes(shards, tmp_path, at):
    with pytest.raises(Stopped):
        write_shards(StopsAt(CLIPS, at), tmp_path / "again", 2)
    whole = at // 2
    assert len(list((tmp_path / "again").glob("*.tar"))) == whole
    if whole:
        with pytest.raises(ValueError, match="not finished"):
            ShardedClips(tmp_path / "again")
    write_shards(CLIPS, tmp_path / "again", 2)
    assert files_of(tmp_path / "again") == files_of(shards)


def test_clips_that_are_in_whole_shards_are_not_read_again(tmp_path):
    with pytest.raises(Stopped):
        write_shards(StopsAt(CLIPS, 3), tmp_path, 2)
    write_shards(StopsAt(CLIPS, 1), tmp_path, 2)
    before = files_of(tmp_path)
    write_shards(StopsAt(CLIPS, 4), tmp_path, 2)  # finished: none is read
    assert files_of(tmp_path) == before


def test_a_build_that_was_stopped_at_its_very_end_is_finished(shards):
    (shards / UNFINISHED).write_bytes((shards / INDEX).read_bytes())
    with pytest.raises(ValueError, match="not finished"):
        ShardedClips(shards)
    write_shards(StopsAt(CLIPS, 0), shards, 2)
    assert len(ShardedClips(shards)) == len(CLIPS)


@pytest.mark.parametrize("finished", [True, False])
def test_a_build_does_not_go_on_with_damaged_shards(shards, finished):
    if not finished:
        (shards / INDEX).rename(shards / UNFINISHED)
    flip_a_bit(shards / "shard-000001.tar")
    with pytest.raises(ValueError, match="shard-000001.tar is damaged or missing; remove .*shards and build again"):
        write_shards(CLIPS, shards, 2)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "poses.txt").write_text("0 0 0 0 0 0 0 1")
    with pytest.raises(ValueError, match="is no folder of shards, it holds poses.txt; name a new folder"):
        write_shards(CLIPS, tmp_path)


@pytest.mark.parametrize("count", [0, -1])
def test_a_shard_holds_a_clip_or_more(tmp_path, count):
    with pytest.raises(ValueError, match=f"clips_per_shard {count}"):
        write_shards(CLIPS, tmp_path / "none", count)


def test_a_build_from_something_else_is_refused(shards):
    with pytest.raises(ValueError, match="another build"):
        write_shards(CLIPS[:3], shards, 2)
    with pytest.raises(ValueError, match="another build"):
        write_shards(CLIPS, shards, 2, {"sources": ["elsewhere"]})


def test_clips_with_a_problem_are_left_out_and_counted(tmp_path):
    blind = Clip("blind", tuple(replace(frame, depth=0 * frame.depth) for frame in CLIPS[1].frames))

    class Unreadable(list):
        def __getitem__(self, number):
            if number in (2, 3):
                raise ValueError(f"{number:06d}.png is not a readable image")
            if number == 4:
                raise FileNotFoundError("000004.png is missing")
            return super().__getitem__(number)

    index = write_shards(Unreadable([CLIPS[0], blind, *CLIPS[2:], CLIPS[0]]), tmp_path, 2)
    assert index.clips == 2
    assert sorted(index.skipped.items()) == [
        ("a file is missing, first: 000004.png is missing", 1),
        ("a frame cannot be used, first: 000002.png is not a readable image", 2),
        ("less than 5% of a reference frame has depth", 1)]
    assert read_index(tmp_path) == index
    assert [clip.name for clip in ShardedClips(tmp_path)] == [CLIPS[0].name] * 2


def test_no_good_clip_at_all_is_an_error(tmp_path):
    blind = Clip("blind", tuple(replace(frame, depth=0 * frame.depth) for frame in CLIPS[1].frames))
    with pytest.raises(ValueError, match="none of the 1 clips"):
        write_shards([blind], tmp_path)
    assert not (tmp_path / INDEX).exists()


def test_a_full_disk_keeps_whole_shards_and_the_build_goes_on_later(shards, tmp_path, monkeypatch):
    folder, room = tmp_path / "small", [3]

    def fsync(descriptor):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left on device while writing .* whole shards are kept"):
            write_shards(CLIPS, folder, 2)
    left = {path.name for path in folder.iterdir()}
    assert "shard-000000.tar" in left and UNFINISHED in left and not any(name.endswith(".part") for name in left)
    write_shards(CLIPS, folder, 2)
    assert files_of(folder) == files_of(shards)


# ---- damage


def test_a_shard_that_was_cut_short_or_lost_is_an_error(shards):
    path = shards / "shard-000001.tar"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"shard-000001.tar is cut short or missing: \d+ bytes"):
        ShardedClips(shards)
    path.unlink()
    with pytest.raises(ValueError, match="missing: 0 bytes"):
        ShardedClips(shards)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_changed_byte_is_found_by_verify_and_when_a_clip_is_read(shards):
    flip_a_bit(shards / "shard-000001.tar")
    clips = ShardedClips(shards)
    assert_same(clips[1], CLIPS[1])
    for read in (clips.verify, lambda: clips[2], lambda: clips[3]):
        with pytest.raises(ValueError, match="shard-000001.tar is damaged"):
            read()


def test_a_shard_is_compared_with_its_checksum_once(shards, monkeypatch):
    compared = []
    monkeypatch.setattr(shards_module, "is_whole", lambda path, shard: compared.append(path.name) or True)
    clips = ShardedClips(shards)
    for number in (0, 1, 0, 2, 3, 1):
        clips[number]
    assert compared == ["shard-000000.tar", "shard-000001.tar"]


def test_clips_have_a_fingerprint(shards, tmp_path):
    write_shards(CLIPS, tmp_path / "same", 2)
    write_shards(CLIPS[:4], tmp_path / "fewer", 2)
    same, fewer = ShardedClips(tmp_path / "same"), ShardedClips(tmp_path / "fewer")
    assert ShardedClips(shards).fingerprint == same.fingerprint != fewer.fingerprint
    assert len({same.fingerprint, fewer.fingerprint, ShardedClips([shards, tmp_path / "fewer"]).fingerprint}) == 3


def test_a_clip_whose_bytes_are_gone_names_its_shard(shards):
    path = shards / "shard-000000.tar"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match="shard-000000.tar is damaged"):
        ShardedClips(shards)[1]


def test_a_picture_that_cannot_be_decoded_names_its_clip():
    files = encode(CLIPS[0]) | {"03.depth.png": b"no picture"}
    clip = decode(files, "shard-000007.tar clip 1")
    assert clip.frames[2].depth.any()
    with pytest.raises(ValueError, match="shard-000007.tar clip 1: 03.depth.png is missing or no picture"):
        _ = clip.frames[3]


@pytest.mark.parametrize("change", [
    lambda facts: facts.clear(), lambda facts: facts.update(frames={"a": 1}), lambda facts: facts["frames"].pop(),
    lambda facts: facts["frames"][3].pop("camera"), lambda facts: facts["frames"][3].update(camera=[80, 60, 50.0]),
    lambda facts: facts["frames"][3]["pose"].__setitem__(0, float("nan")),
    lambda facts: facts["frames"][3].update(pose=5), lambda facts: facts["frames"][3]["camera"].__setitem__(2, 0),
])  # fmt: skip
def test_facts_of_a_clip_that_are_wrong_name_the_clip(change):
    files = encode(CLIPS[0])
    facts = json.loads(files["json"])
    change(facts)
    with pytest.raises(ValueError, match="shard-000007.tar clip 2 is no clip"):
        decode(files | {"json": json.dumps(facts).encode()}, "shard-000007.tar clip 2")


@pytest.mark.parametrize("text", [
    b"", b"[]", b"{}", b'{"format": 1, "clips": 0, "source": {}, "shards": [], "skipped": {}}', b"\xff\xfe\x80",
])  # fmt: skip
def test_an_index_that_is_none_is_an_error(shards, text):
    (shards / INDEX).write_bytes(text)
    with pytest.raises(ValueError, match=f"{INDEX} is no index of shards"):
        ShardedClips(shards)


@pytest.mark.parametrize("change", [
    dict(name="../shard-000000.tar"), dict(name=5), dict(bytes="x"), dict(sha256="?"), dict(sha256=None),
    dict(spans=["a", None]), dict(spans=[[5, 10**9], [7, 9]]), dict(spans=None), dict(read="far"),
])  # fmt: skip
def test_an_index_with_damaged_fields_is_an_error(shards, change):
    facts = json.loads((shards / INDEX).read_bytes())
    facts["shards"][0].update(change)
    (shards / INDEX).write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=f"{INDEX} is no index of shards"):
        ShardedClips(shards)


def test_spans_that_are_no_archives_are_told_in_one_line(shards):
    facts = json.loads((shards / INDEX).read_bytes())
    facts["shards"][0]["spans"][0] = [700, 5000]
    (shards / INDEX).write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="shard-000000.tar clip 0") as told:
        ShardedClips(shards)[0]
    assert len(str(told.value).splitlines()) == 1


def test_a_folder_without_index_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is no folder of shards"):
        ShardedClips(tmp_path)


# ---- remote


def test_remote_shards_are_copied_once(shards, tmp_path):
    remote = ShardedClips(shards.as_uri(), cache=tmp_path / "cache")
    assert_same(remote[2], CLIPS[2])
    copies = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert copies == ["shard-000001.tar"]
    shutil.rmtree(shards)
    assert_same(remote[3], CLIPS[3])
    with pytest.raises(ValueError, match="cannot be read"):
        remote[0]


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset reads http with curl")
def test_shards_are_read_over_http(shards, tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(shards)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert_same(ShardedClips(url, cache=tmp_path / "cache")[4], CLIPS[4])
        with pytest.raises(ValueError, match="cannot be read"):
            ShardedClips(f"{url}/nowhere", cache=tmp_path / "cache")
    finally:
        server.shutdown()
        server.server_close()


def test_a_copy_of_a_remote_shard_that_was_damaged_is_made_again(shards, tmp_path):
    assert_same(ShardedClips(shards.as_uri(), cache=tmp_path / "cache")[2], CLIPS[2])
    (copy,) = (tmp_path / "cache").rglob("*.tar")
    flip_a_bit(copy)
    assert_same(ShardedClips(shards.as_uri(), cache=tmp_path / "cache")[2], CLIPS[2])


def test_a_damaged_remote_shard_is_not_kept(shards, tmp_path):
    path = shards / "shard-000000.tar"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match="is damaged"):
        ShardedClips(shards.as_uri(), cache=tmp_path / "cache")[0]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


# ---- the command


def test_the_command_builds_shards_and_a_contact_sheet(tmp_path, monkeypatch, capsys):
    frames = [replace(frame, index=16 * n + k) for n in range(2) for k, frame in enumerate(CLIPS[n].frames)]
    source = write_rgbd_folder(tmp_path / "scan", [*frames, replace(frames[0], index=32)])
    command = [sys.executable, "-m", "training.data", "build", str(source), "--out", str(tmp_path / "out"), "--json"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    facts = json.loads(built.stdout)
    assert facts["clips"] == 2 and sum(facts["frames left out"].values()) == 1
    assert Image.open(facts["contact sheet"]).size[0] > 900
    code, told, _ = run(monkeypatch, capsys, "info", tmp_path / "out", "--verify", "--json")
    assert code == 0 and json.loads(told)["clips"] == 2
    assert_same(ShardedClips(tmp_path / "out")[1], Clip("scan-0001", tuple(
        replace(frame, labels=None) for frame in frames[16:])))


def test_views_are_built_with_a_sheet_of_their_own(tmp_path, monkeypatch, capsys):
    code, told, _ = run(monkeypatch, capsys, "build", "--synthetic", "rooms", "--count", "1", "--views-per-scene", "16",
                        "--width", "40", "--height", "32", "--out", tmp_path / "views", "--json")
    facts = json.loads(told)
    assert code == 0 and facts["clips"] == 1 and facts["made from"][VIEWS] == 16
    assert Image.open(facts["contact sheet"]).size[0] == 4 * 42 and not ShardedClips(tmp_path / "views").films


def test_a_source_that_changed_is_no_longer_the_same_build(tmp_path, monkeypatch, capsys):
    source = write_rgbd_folder(tmp_path / "scan", CLIPS[0].frames)
    command = ("build", source, "--out", tmp_path / "out")
    assert run(monkeypatch, capsys, *command)[0] == run(monkeypatch, capsys, *command)[0] == 0
    os.utime(source / "rgb" / "000003.png", (1, 1))
    code, _, told = run(monkeypatch, capsys, *command)
    assert code == 2 and "holds clips of another build" in told


def test_shards_are_not_put_into_their_source(tmp_path, monkeypatch, capsys):
    source = write_rgbd_folder(tmp_path / "scan", CLIPS[0].frames)
    before = sorted(source.rglob("*"))
    code, _, told = run(monkeypatch, capsys, "build", source, "--out", source)
    assert code == 2 and "is no folder of shards" in told and sorted(source.rglob("*")) == before


@pytest.mark.parametrize("arguments, message", [
    (("build", "--out", "", "--synthetic", "rooms"), "--out is a folder"),
    (("build", "nowhere", "--out", "out"), "nowhere does not exist"),
    (("build", "--out", "out"), "nothing to build from"),
    (("build", "--out", "out", "--synthetic", "jungle"), "no family of scenes"),
    (("build", "--out", "out", "--views-per-scene", "4"), "of synthetic scenes alone"),
    (("info", "nowhere"), "no folder of shards"),
])  # fmt: skip
def test_the_command_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, told = run(monkeypatch, capsys, *arguments)
    assert code == 2 and told.startswith("error: ") and len(told.splitlines()) == 1 and message in told


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python -m training.data`, in this process."""
    monkeypatch.setattr(sys, "argv", ["training.data", *map(str, arguments)])
    code = main()
    return code, *capsys.readouterr()
