"""Bags on disk: readable by other people's tools at any moment, whatever happens to the writer."""

from collections import Counter
from contextlib import contextmanager
from itertools import islice
import os
from pathlib import Path
import resource
import shutil
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.typesys import Stores, get_typestore
import yaml

from worldfm_ros.bags.recovery import recover
from worldfm_ros.bags.salvage import salvage
from worldfm_ros.bags.splitting import Split
from worldfm_ros.bags.writer import BALLAST, DISK_ERRORS, BagWriter

STORAGES = ["mcap", "sqlite3"]
DOCTOR = Path(sys.executable).with_name("rosbag-doctor")
FOREVER = QosTime(9223372036, 854775807)
LATCHED = Qos(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, FOREVER, FOREVER,
              QosLiveliness.AUTOMATIC, FOREVER, False)
TYPES = get_typestore(Stores.ROS2_JAZZY)
START = 1_700_000_000 * 10**9
STEP = 10**8


def image_bytes(number, side=200):
    """A serialised rgb8 image whose pixels and stamp tell its number."""
    types = TYPES.types
    stamp = types["builtin_interfaces/msg/Time"](sec=1_700_000_000 + number, nanosec=0)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera_optical_frame")
    image = types["sensor_msgs/msg/Image"](header, side, side, "rgb8", 0, side * 3,
                                           np.full(side * side * 3, number % 251, np.uint8))
    return bytes(TYPES.serialize_cdr(image, "sensor_msgs/msg/Image"))


def write_images(bag, connection, numbers):
    for number in numbers:
        bag.write(connection, START + number * STEP, image_bytes(number))


def numbers_in(bag):
    """The image numbers that rosbags reads; they must be whole, in order, and as many as the metadata says."""
    with AnyReader([bag]) as reader:
        messages = [(stamp, reader.deserialize(data, c.msgtype)) for c, stamp, data in reader.messages()]
    numbers = [(stamp - START) // STEP for stamp, _ in messages]
    for number, (_, image) in zip(numbers, messages, strict=True):
        assert image.header.stamp.sec - 1_700_000_000 == number
        assert (image.data == number % 251).all()
    return numbers


def message_count(bag):
    with AnyReader([bag]) as reader:
        return reader.message_count


def mcap_numbers(bag):
    """The image numbers that the mcap library decodes."""
    with next(bag.glob("*.mcap")).open("rb") as file:
        return [image.header.stamp.sec - 1_700_000_000
                for *_, image in make_reader(file, decoder_factories=[DecoderFactory()]).iter_decoded_messages()]


def has_index(bag):
    with next(bag.glob("*.mcap")).open("rb") as file:
        return make_reader(file).get_summary() is not None


def check_with_doctor(bag):
    result = subprocess.run([DOCTOR, bag], capture_output=True, text=True)
    assert result.returncode == 0 and "PASS" in result.stdout, result.stdout + result.stderr


@contextmanager
def file_size_limit(limit):
    """As a disk that is full when a file reaches `limit` bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 8 MB."""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path]).returncode:
        pytest.skip("mounting a small file system needs root")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("storage", STORAGES)
def test_other_readers_open_the_bag(tmp_path, storage):
    path = tmp_path / "missing" / "parent" / "bag"
    with BagWriter(path, storage) as bag:
        images = bag.add_topic("/camera/image_raw", "sensor_msgs/msg/Image")
        static = bag.add_topic("/tf_static", "tf2_msgs/msg/TFMessage", [LATCHED])
        transforms = TYPES.types["tf2_msgs/msg/TFMessage"]([])
        bag.write(static, START, bytes(TYPES.serialize_cdr(transforms, "tf2_msgs/msg/TFMessage")))
        write_images(bag, images, range(1, 30))

    with AnyReader([path]) as reader:
        topics = {c.topic: c for c in reader.connections}
        assert {topic: c.msgcount for topic, c in topics.items()} == {"/camera/image_raw": 29, "/tf_static": 1}
        assert topics["/tf_static"].ext.offered_qos_profiles == [LATCHED]
        assert (reader.start_time, reader.end_time) == (START, START + 29 * STEP + 1)
    assert {file.name for file in path.iterdir()} == {"metadata.yaml", "bag.mcap" if storage == "mcap" else "bag.db3"}
    check_with_doctor(path)


def test_mcap_decodes_what_was_written(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        write_images(bag, bag.add_topic("/image", "sensor_msgs/msg/Image"), range(20))
    assert mcap_numbers(tmp_path / "bag") == numbers_in(tmp_path / "bag") == list(range(20))
    assert has_index(tmp_path / "bag")


@pytest.mark.parametrize("storage", STORAGES)
def test_the_bag_is_complete_after_every_flush(tmp_path, storage):
    with BagWriter(tmp_path / "bag", storage) as bag:
        images = bag.add_topic("/image", "sensor_msgs/msg/Image")
        for end in (0, 1, 8, 25):
            write_images(bag, images, range(sum(bag.counts.values()), end))
            bag.flush()
            copy = shutil.copytree(tmp_path / "bag", tmp_path / f"after_{end}")
            assert numbers_in(copy) == list(range(end))
            if storage == "mcap" and end:
                assert mcap_numbers(copy) == list(range(end))


def test_what_is_there_is_never_overwritten(tmp_path):
    (tmp_path / "bag").mkdir()
    (tmp_path / "file").write_text("mine")
    for name in ("bag", "file"):
        with pytest.raises(FileExistsError, match=f"{name} exists.*never overwritten"):
            BagWriter(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_wrong_storage_and_type_are_named(tmp_path):
    with pytest.raises(ValueError, match="one of .*mcap.*got 'rosbag1'"):
        BagWriter(tmp_path / "bag", "rosbag1")
    with BagWriter(tmp_path / "bag") as bag, pytest.raises(ValueError, match="'my_msgs/msg/Thing' has no known"):
        bag.add_topic("/thing", "my_msgs/msg/Thing")


def fill(bag):
    """Write images of 120 kB until the disk refuses."""
    images = bag.add_topic("/image", "sensor_msgs/msg/Image")
    with pytest.raises(DISK_ERRORS):
        write_images(bag, images, range(1000))
    bag.abort()


@pytest.mark.parametrize("storage", STORAGES)
def test_full_disk_keeps_what_was_written(small_disk, storage):
    bag = BagWriter(small_disk / "bag", storage)
    bag.open()
    fill(bag)
    numbers = numbers_in(small_disk / "bag")
    assert len(numbers) > 20 and numbers == list(range(len(numbers)))
    assert message_count(small_disk / "bag") == sum(bag.counts.values()) == len(numbers)
    if storage == "mcap":
        assert mcap_numbers(small_disk / "bag") == numbers and has_index(small_disk / "bag")
    check_with_doctor(small_disk / "bag")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("limit", [2_500_000, 3_000_000, 5_242_880])
def test_failed_write_keeps_what_was_flushed(tmp_path, storage, limit):
    bag = BagWriter(tmp_path / "bag", storage)
    bag.open()
    with file_size_limit(limit):
        fill(bag)
    numbers = numbers_in(tmp_path / "bag")
    assert numbers == list(range(len(numbers))) and message_count(tmp_path / "bag") == len(numbers)
    if storage == "mcap":
        assert len(numbers) > 15 and mcap_numbers(tmp_path / "bag") == numbers
    if numbers:
        check_with_doctor(tmp_path / "bag")


def test_without_room_for_the_index_the_bag_is_still_readable(tmp_path):
    bag = BagWriter(tmp_path / "bag")
    bag.open()
    images = bag.add_topic("/image", "sensor_msgs/msg/Image")
    write_images(bag, images, range(12))
    bag.flush()
    with file_size_limit(bag.storage.path.stat().st_size), pytest.raises(OSError):
        bag.close()
    assert not has_index(tmp_path / "bag") and not (tmp_path / "bag" / BALLAST).exists()
    assert mcap_numbers(tmp_path / "bag") == numbers_in(tmp_path / "bag") == list(range(12))


@pytest.mark.parametrize("storage", STORAGES)
def test_killed_writer_leaves_a_bag(tmp_path, storage):
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_bag import BagWriter, write_images\n"
        "bag = BagWriter(sys.argv[2], sys.argv[3]); bag.open()\n"
        "images = bag.add_topic('/image', 'sensor_msgs/msg/Image')\n"
        "write_images(bag, images, range(60)); bag.flush(); write_images(bag, images, range(60, 64))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "bag"
    result = subprocess.run([sys.executable, "-c", script, Path(__file__).parent, path, storage])
    assert result.returncode == -signal.SIGKILL
    numbers, before = numbers_in(path), files_of(path)
    assert numbers == list(range(60))
    assert recover(path, tmp_path / "recovered") == {"/image": 60}
    assert numbers_in(tmp_path / "recovered") == numbers and message_count(tmp_path / "recovered") == 60
    assert files_of(path) == before
    check_with_doctor(tmp_path / "recovered")


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("seed", range(6))
def test_recover_keeps_every_whole_record_of_a_torn_file(tmp_path, seed):
    with BagWriter(tmp_path / "bag") as bag:
        images = bag.add_topic("/image", "sensor_msgs/msg/Image")
        write_images(bag, images, range(40))
        bag.flush()
        torn = shutil.copytree(tmp_path / "bag", tmp_path / "torn")
    file = next(torn.glob("*.mcap"))
    os.truncate(file, np.random.default_rng(seed).integers(1_200_000, file.stat().st_size))
    before = files_of(torn)
    count = recover(torn, tmp_path / "recovered").total()
    assert 0 < count < 40 and numbers_in(tmp_path / "recovered") == list(range(count))
    assert files_of(torn) == before
    check_with_doctor(tmp_path / "recovered")


def test_recover_forgets_a_half_written_commit(tmp_path):
    """A journal beside the database says what the pages held before the commit; the source keeps both."""
    with BagWriter(tmp_path / "bag", "sqlite3") as bag:
        images = bag.add_topic("/image", "sensor_msgs/msg/Image")
        write_images(bag, images, range(20))
        bag.flush()
        bag.storage.conn.execute("PRAGMA cache_spill=ON")  # lets sqlite write pages, and their journal, before a commit
        bag.storage.conn.execute("PRAGMA cache_size=2")
        write_images(bag, images, range(20, 30))
        torn = shutil.copytree(tmp_path / "bag", tmp_path / "torn")
    before = files_of(torn)
    assert "bag.db3-journal" in before
    assert recover(torn, tmp_path / "recovered") == {"/image": 20}
    assert numbers_in(tmp_path / "recovered") == list(range(20)) and files_of(torn) == before
    assert {path.name for path in tmp_path.iterdir()} == {"bag", "torn", "recovered"}


def test_recover_leaves_the_source_alone_when_the_target_exists(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        write_images(bag, bag.add_topic("/image", "sensor_msgs/msg/Image"), range(5))
    os.truncate(tmp_path / "bag" / "bag.mcap", 300_000)
    before = files_of(tmp_path / "bag")
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="there exists and is never overwritten"):
        recover(tmp_path / "bag", tmp_path / "there")
    assert files_of(tmp_path / "bag") == before


@pytest.mark.parametrize("content", [None, "", "rosbag2_bagfile_information: {}", "{"])
def test_recover_does_not_need_metadata(tmp_path, content):
    with BagWriter(tmp_path / "bag") as bag:
        write_images(bag, bag.add_topic("/image", "sensor_msgs/msg/Image"), range(5))
    metadata = tmp_path / "bag" / "metadata.yaml"
    metadata.unlink() if content is None else metadata.write_text(content)
    assert recover(tmp_path / "bag", tmp_path / "out") == {"/image": 5}
    assert numbers_in(tmp_path / "out") == list(range(5))
    assert recover(tmp_path / "bag" / "bag.mcap", tmp_path / "again") == {"/image": 5}


def test_recover_keeps_what_lies_around_garbage(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        write_images(bag, bag.add_topic("/image", "sensor_msgs/msg/Image"), range(80))
    file = tmp_path / "bag" / "bag.mcap"
    with file.open("rb") as stream:
        chunks = make_reader(stream).get_summary().chunk_indexes
    with file.open("r+b") as stream:
        stream.seek(chunks[2].chunk_start_offset + 9 + 24)  # the chunk's checksum
        stream.write(b"\1\2\3\4")
    lost = Counter()
    recover(tmp_path / "bag", tmp_path / "out", lost)
    numbers = numbers_in(tmp_path / "out")
    assert 10 < len(numbers) < 80 and numbers[0] == 0 and numbers[-1] == 79 and lost == {"records that are damaged": 1}


def test_recover_refuses_what_is_no_bag(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no bag"):
        recover(tmp_path, tmp_path / "out")


def small_bag(path, storage):
    with BagWriter(path, storage) as bag:
        images = bag.add_topic("/image", "sensor_msgs/msg/Image")
        for number in range(12):
            bag.write(images, START + number * STEP, image_bytes(number, side=24))
            bag.flush()
    return path


@pytest.fixture(scope="module", params=STORAGES)
def whole(request, tmp_path_factory):
    """A bag, and its messages by time."""
    path = small_bag(tmp_path_factory.mktemp("whole") / "bag", request.param)
    with AnyReader([path]) as reader:
        return path, {stamp: bytes(data) for _, stamp, data in reader.messages()}


@given(st.sampled_from(["cut", "flip", "zero", "no metadata"]), st.floats(0, 0.999), st.integers(1, 4000))
@settings(max_examples=12)
def test_recover_gives_messages_or_a_line_whatever_the_damage(whole, kind, where, length):
    """Never a traceback; of an mcap, whose chunks have checksums, nothing but messages that were written."""
    path, messages = whole
    with TemporaryDirectory() as folder:
        bag = Path(shutil.copytree(path, Path(folder) / "bag"))
        file = next(file for file in bag.iterdir() if file.suffix in (".mcap", ".db3"))
        damage(file, kind, where, length)
        lost = Counter()
        try:
            count = recover(bag, Path(folder) / "out", lost).total()
        except ValueError as error:
            assert "nothing can be read" in str(error)
            return
        with AnyReader([Path(folder) / "out"]) as reader:
            found = {stamp: bytes(data) for _, stamp, data in reader.messages()}
        assert len(found) == count
        if file.suffix == ".mcap":
            assert found.items() <= messages.items()
            assert len(found) == len(messages) or lost or kind == "cut"


def damage(file, kind, where, length):
    data = bytearray(file.read_bytes())
    at = int(where * len(data))
    if kind == "cut":
        del data[at:]
    elif kind == "flip":
        data[at] ^= 1 << length % 8
    elif kind == "zero":
        data[at:at + length] = bytes(len(data[at:at + length]))
    else:
        (file.parent / "metadata.yaml").unlink()
    file.write_bytes(data)


# ---- compressed and split

def test_chunks_are_compressed_and_read_by_others(tmp_path):
    sizes = {}
    for compression in ("none", "zstd"):
        path = tmp_path / compression
        with BagWriter(path, "mcap", compression) as bag:
            write_images(bag, bag.add_topic("/camera/image_raw", "sensor_msgs/msg/Image"), range(40))
        assert numbers_in(path) == mcap_numbers(path) == list(range(40))
        check_with_doctor(path)
        sizes[compression] = bag.size
    assert sizes["zstd"] < sizes["none"] / 10, "pictures of one value"
    with pytest.raises(ValueError, match="none for sqlite3; got 'zstd' for sqlite3"):
        BagWriter(tmp_path / "b", "sqlite3", "zstd")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("text", ["2MB", "1s"])
def test_a_bag_that_is_split_is_one_bag(tmp_path, storage, text):
    path = tmp_path / "bag"
    with BagWriter(path, storage, split=Split.parse(text)) as bag:
        images = bag.add_topic("/camera/image_raw", "sensor_msgs/msg/Image")
        write_images(bag, images, range(20))
        static = bag.add_topic("/tf_static", "tf2_msgs/msg/TFMessage", [LATCHED])
        empty = bytes(TYPES.serialize_cdr(TYPES.types["tf2_msgs/msg/TFMessage"]([]), "tf2_msgs/msg/TFMessage"))
        bag.write(static, START + 20 * STEP, empty)
        write_images(bag, images, range(21, 50))
    information = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    files = information["relative_file_paths"]
    suffix = "mcap" if storage == "mcap" else "db3"
    assert len(files) > 2 and files == [f"bag_{i}.{suffix}" for i in range(len(files))]
    assert {file.name for file in path.iterdir()} == {"metadata.yaml", *files}
    assert sum(file["message_count"] for file in information["files"]) == information["message_count"] == 50
    with AnyReader([path]) as reader:
        stamps = [stamp for _, stamp, _ in reader.messages()]
        assert stamps == [START + i * STEP for i in range(50)]
        assert {c.topic: c.msgcount for c in reader.connections} == {"/camera/image_raw": 49, "/tf_static": 1}
    for file, entry in zip(files, information["files"], strict=True):  # each file is complete alone
        with AnyReader([path / file]) as reader:
            assert reader.message_count == entry["message_count"] > 0
    if text == "1s":
        assert all(entry["duration"]["nanoseconds"] < 10**9 for entry in information["files"])


def test_a_split_bag_on_a_full_disk_keeps_all_files(small_disk):
    path = small_disk / "bag"
    bag = BagWriter(path, "mcap", split=Split.parse("1MB"))
    bag.open()
    images = bag.add_topic("/camera/image_raw", "sensor_msgs/msg/Image")
    with pytest.raises(OSError):
        write_images(bag, images, range(10_000))
    bag.abort()
    numbers = numbers_in(path)
    assert numbers == list(range(len(numbers))) and len(numbers) > 20 and len(list(path.glob("*.mcap"))) > 2
    assert message_count(path) == len(numbers)


@pytest.mark.parametrize("text", ["2", "GB", "-1GB", "0s", "1 lightyear", "1GB 2GB"])
def test_a_bad_split_says_how_it_is_written(text):
    with pytest.raises(ValueError, match="such as 2GB, 500MiB, 60s or 10min"):
        Split.parse(text)


def test_rows_that_come_again_are_read_once(tmp_path):
    """Of a damaged tree, two of whose branches are the same: it gave the first rows again until the disk was full."""
    with BagWriter(tmp_path / "bag", "sqlite3") as bag:
        topic = bag.add_topic("/clock", "rosgraph_msgs/msg/Clock")
        for k in range(40):
            bag.write(topic, k, bytes(1000))
    file = next((tmp_path / "bag").glob("*.db3"))
    data, pages = bytearray(file.read_bytes()), 0
    for page in range(4096, len(data), 4096):
        count = int.from_bytes(data[page + 3:page + 5], "big")
        if data[page] == 5 and 2 < count < 100:  # an inner page of a table: its cells begin with the branch's page
            first, last = (page + int.from_bytes(data[page + 12 + 2 * k:][:2], "big") for k in (0, count - 1))
            data[last:last + 4] = data[first:first + 4]
            pages += 1
    assert pages == 1
    file.write_bytes(data)
    lost: Counter[str] = Counter()
    rows = list(islice(salvage(file, lost), 100))
    assert 30 < len(rows) <= 40 and lost["stretches of rows that are damaged"]
