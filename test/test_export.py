"""`worldfm export`: what the field's own tools read of it is what was rendered."""

from collections import Counter
import json
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest
from scenes import room_poses, room_world
from simulations import read_bag
from tf_bags import START, TENTH, write_tf_bag
import yaml

from worldfm_ros.cli.bag import render_bag
from worldfm_ros.cli.export import export_dataset
from worldfm_ros.cli.render import render
from worldfm_ros.export.card import semantic
from worldfm_ros.export.export import open_samples
from worldfm_ros.export.samples import Sample
from worldfm_ros.export.splits import Split
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sources.rgbd_folder import write_poses
from worldfm_ros.sources.transforms import TransformsFrames
from worldfm_ros.world.storage import write_world

K = [50.0, 0.0, 39.5, 0.0, 50.0, 29.5, 0.0, 0.0, 1.0]
COUNT = 12
CRATES = {"objects": [
    {"name": f"crate {k}", "label": "crate", "shape": "box", "size": [0.3, 0.3, 1.2], "color": [180, 40, 30],
     "path": [[float(1.2 * np.cos(a)), float(1.2 * np.sin(a))]]} for k, a in enumerate(np.arange(4) * np.pi / 2)]}


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    """A world with crates, rendered as a folder and as a bag from the same poses."""
    folder = tmp_path_factory.mktemp("drives")
    write_world(room_world(6, voxel=0.05), folder / "world")
    poses = room_poses(COUNT)
    write_poses(dict(enumerate(poses)), folder / "poses.txt")
    write_tf_bag(folder / "tf", poses)
    (folder / "camera.yaml").write_text(yaml.safe_dump({"width": 80, "height": 60, "K": K}))
    (folder / "objects.yaml").write_text(yaml.safe_dump(CRATES))
    common = {"camera": folder / "camera.yaml", "model": "anchors", "objects": str(folder / "objects.yaml"),
              "truth": ("boxes",)}
    render(folder / "world", trajectory=(folder / "poses.txt",), out=folder / "folder", **common)
    render_bag(folder / "tf", world=folder / "world", out=folder / "bag", rate=10.0, **common)
    return folder


@pytest.fixture(params=["folder", "bag"])
def source(drives, request):
    return drives / request.param


def exported(source, out, kind, **split):
    export_dataset(source, format=kind, out=out, split=Split(**{"place": 0.3, "parts": (0.6, 0.2, 0.2)} | split))
    return out


def test_both_sources_say_the_same(drives):
    folder, bag = (list(open_samples(drives / name)) for name in ("folder", "bag"))
    assert len(folder) == len(bag) == COUNT
    for a, b in zip(folder, bag, strict=True):
        assert np.array_equal(a.rgb, b.rgb) and np.array_equal(a.labels, b.labels)
        assert np.array_equal(a.instances, b.instances) and np.array_equal(a.confidence, b.confidence)
        assert np.abs(a.depth - b.depth).max() < 6e-4
        assert [box["id"] for box in a.boxes] == [box["id"] for box in b.boxes]
        assert np.allclose(a.T_world_camera.matrix, b.T_world_camera.matrix)
    assert b.stamp == START + (COUNT - 1) * TENTH
    assert open_samples(drives / "bag").labels == open_samples(drives / "folder").labels
    assert {box["id"] for sample in bag for box in sample.boxes} == {1, 2, 3, 4}


def test_boxes_in_a_bag_are_vision_msgs(drives):
    bag = read_bag(drives / "bag")
    for name in ("2d", "3d"):
        assert bag.stamps(f"/camera/detections_{name}") == bag.stamps("/camera/image_raw")
    for sample, flat, solid in zip(open_samples(drives / "bag"), bag.messages["/camera/detections_2d"],
                                   bag.messages["/camera/detections_3d"], strict=True):
        for box, a, b in zip(sample.boxes, flat.detections, solid.detections, strict=True):
            rows, columns = np.where(sample.instances == int(a.id))
            assert a.bbox.center.position.x - (a.bbox.size_x - 1) / 2 == columns.min()
            assert a.bbox.center.position.y + (a.bbox.size_y - 1) / 2 == rows.max()
            assert a.results[0].hypothesis.class_id == str(box["label"])
            assert np.isclose(b.bbox.size.z, 1.2) and solid.header.frame_id == "map"


def test_no_place_is_in_two_splits(source, tmp_path):
    out = exported(source, tmp_path / "out", "tum")
    splits, poses = json.loads((out / "splits.json").read_text()), open_samples(source).poses
    places = {}
    for name, pose in poses.items():
        places.setdefault(splits[name], set()).add(tuple(np.floor(pose.translation[:2] / 0.3)))
    assert set(places) == {"train", "val", "test"}
    assert not places["train"] & places["val"] | places["train"] & places["test"] | places["val"] & places["test"]


def test_cards_and_checksums(source, tmp_path):
    out = exported(source, tmp_path / "out", "nerfstudio")
    card = (out / "README.md").read_text()
    assert f"{COUNT} pictures in the format nerfstudio" in card and "Painted by the model `anchors`" in card
    done = subprocess.run(["sha256sum", "--strict", "-c", "checksums.sha256"], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK") == sum(f.is_file() for f in out.rglob("*")) - 1
    assert cv2.imread(str(out / "card.jpg")).shape == (120, 320, 3)


def test_nerfstudio_is_read_by_our_own_reader(source, tmp_path):
    out = exported(source, tmp_path / "out", "nerfstudio")
    frames, samples = TransformsFrames(out), list(open_samples(source))
    assert len(frames) == COUNT
    for frame, sample in zip(frames, samples, strict=True):
        assert np.array_equal(frame.rgb, sample.rgb)
        assert np.allclose(frame.T_world_camera.matrix, sample.T_world_camera.matrix, atol=1e-6)
        assert np.allclose(frame.intrinsics.matrix, sample.camera.picture.matrix)
        assert np.abs(frame.depth - sample.depth).max() < 1e-3
    listed = json.loads((out / "transforms.json").read_text())
    assert sum(len(listed[f"{name}_filenames"]) for name in ("train", "val", "test")) == COUNT
    mask = cv2.imread(str(next((out / "masks").iterdir())), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) <= {0, 255}


def test_nerfstudio_with_pycolmap(drives, tmp_path):
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is no dependency")
    out = exported(drives / "bag", tmp_path / "out", "nerfstudio")
    frame = json.loads((out / "transforms.json").read_text())["frames"][0]
    camera = pycolmap.Camera(model="OPENCV", width=frame["w"], height=frame["h"], params=[
        frame[name] for name in ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")])
    point = np.array([0.2, -0.1, 1.5])
    sample = next(iter(open_samples(drives / "bag")))
    assert np.allclose(camera.img_from_cam(point), sample.camera.picture.project(point) + 0.5)


def test_tum(source, tmp_path):
    out = exported(source, tmp_path / "out", "tum")
    sequence, = (path for path in out.iterdir() if path.is_dir())
    truth = np.loadtxt(sequence / "groundtruth.txt")
    samples = list(open_samples(source))
    assert np.allclose(truth[:, 1:4], [sample.T_world_camera.translation for sample in samples], atol=1e-8)
    depth = [line.split() for line in (sequence / "depth.txt").read_text().splitlines()[1:]]
    image = cv2.imread(str(sequence / depth[3][1]), cv2.IMREAD_UNCHANGED)
    assert np.abs(image / 5000 - samples[3].depth).max() < 6e-4 and len(depth) == COUNT


def test_tum_with_evo(drives, tmp_path):
    pytest.importorskip("evo", reason="evo is no dependency")
    out = exported(drives / "bag", tmp_path / "out", "tum")
    truth = str(out / "camera" / "groundtruth.txt")
    done = subprocess.run([Path(sys.executable).with_name("evo_ape"), "tum", truth, truth, "-a"], capture_output=True,
                          text=True)
    assert done.returncode == 0 and "rmse\t0.000" in done.stdout, done.stderr


def instances_of(source):
    """(class, box) of each instance that an export should have, by picture."""
    found = {}
    samples = open_samples(source)
    for sample in samples:
        for ident in np.unique(sample.instances[sample.instances > 0]):
            mask = (sample.instances == ident) & ~sample.invented
            whole = sample.instances == ident
            thick = cv2.erode(mask.astype(np.uint8), np.ones((3, 3)), borderValue=0).any()
            if thick and 2 * mask.sum() >= whole.sum():
                rows, columns = np.where(mask)
                found.setdefault(sample.name, []).append(
                    ("crate", (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1), mask))
    return found


def test_coco_with_pycocotools(source, tmp_path):
    pytest.importorskip("datumaro", reason="datumaro is an extra")
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools comes with datumaro")
    out = exported(source, tmp_path / "out", "coco")
    expected, found = instances_of(source), Counter()
    for file in sorted((out / "annotations").glob("*.json")):
        data = coco.COCO(str(file))
        for image in data.imgs.values():
            name = image["file_name"].removesuffix(".png")
            notes = [note for note in data.loadAnns(data.getAnnIds(image["id"])) if not note["iscrowd"]]
            found[name] = len(notes)
            for note, (_, box, mask) in zip(sorted(notes, key=lambda n: n["bbox"]),
                                            sorted(expected.get(name, []), key=lambda e: e[1]), strict=True):
                assert np.allclose(note["bbox"], box, atol=1) and data.cats[note["category_id"]]["name"] == "crate"
                drawn = data.annToMask(note).astype(bool)  # of polygons, as COCO has it
                assert (drawn & mask).sum() > 0.8 * (drawn | mask).sum()
            assert (out / "images" / file.stem.partition("_")[2] / image["file_name"]).exists()
    assert found.total() == sum(map(len, expected.values())) > 4 and len(found) == COUNT


@pytest.mark.parametrize("kind, read_as", [("kitti", "kitti_detection"), ("yolo", "yolo"),
                                           ("voc", "voc_detection")])
def test_datumaro_reads_its_own(drives, tmp_path, kind, read_as):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is an extra")
    out = exported(drives / "bag", tmp_path / "out", kind)
    expected = instances_of(drives / "bag")
    read = datumaro.Dataset.import_from(str(out), read_as)
    boxes = {item.id: [a for a in item.annotations if a.type == datumaro.AnnotationType.bbox] for item in read}
    assert sum(map(len, boxes.values())) == sum(map(len, expected.values()))
    for name, listed in expected.items():
        assert np.allclose(sorted(box.get_bbox() for box in boxes[name]), sorted(box for _, box, _ in listed), atol=1.1)


def test_kitti_splits_that_lack_classes_are_read_as_one(drives, tmp_path):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is an extra")
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(drives / "folder"), str(source)], check=True)
    classes = json.loads((source / "classes.json").read_text())
    (source / "classes.json").write_text(json.dumps(classes | {"labels": classes["labels"] | {"9": "box"}}))
    for number, file in enumerate(sorted((source / "segmentation").iterdir())):
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), np.where((labels == 4) & (number % 2 == 0), 9, labels).astype(np.uint16))
    out = exported(source, tmp_path / "out", "kitti")
    read = datumaro.Dataset.import_from(str(out), "kitti_detection")
    names = read.categories()[datumaro.AnnotationType.label]
    found = Counter(names[a.label].name for item in read for a in item.annotations)
    assert set(found) == {"crate", "box"} and found.total() == sum(map(len, instances_of(source).values()))


def test_yolo_with_supervision(drives, tmp_path):
    pytest.importorskip("datumaro", reason="datumaro is an extra")
    supervision = pytest.importorskip("supervision", reason="supervision is no dependency")
    out = exported(drives / "bag", tmp_path / "out", "yolo")
    total = pictures = 0
    for split in ("train", "val", "test"):
        data = supervision.DetectionDataset.from_yolo(str(out / "images" / split), str(out / "labels" / split),
                                                      str(out / "data.yaml"))
        pictures += len(data)
        total += sum(len(detections) for _, _, detections in data)
    assert pictures == COUNT and total == sum(map(len, instances_of(drives / "bag").values()))


def test_what_is_invented_is_ignored(tmp_path):
    labels, confidence = np.full((4, 6), 3, np.uint16), np.full((4, 6), 255, np.uint8)
    confidence[:2] = 0
    sample = Sample("a", "a", 0, Camera(Intrinsics(6, 4, 5.0, 5.0, 2.5, 1.5)), Pose.identity(),
                    np.zeros((4, 6, 3), np.uint8), labels=labels, confidence=confidence)
    assert semantic(sample).tolist() == [[255] * 6] * 2 + [[3] * 6] * 2


def test_what_cannot_be_exported(drives, tmp_path, monkeypatch):
    def refused(match, error=ValueError, source=drives / "folder", kind="tum", **split):
        with pytest.raises(error, match=match):
            exported(source, tmp_path / "out", kind, **split)
        assert not [path for path in tmp_path.iterdir() if path.name != "bare"], "nothing half-written"

    refused("is missing", FileNotFoundError, drives / "none")
    refused("is no folder of pictures", source=drives / "world")
    refused("has no camera: no topic image_raw", source=drives / "tf")
    refused("--place is the side of a square", place=0.0)
    refused("--parts are of train, val, test", parts=(1.0, 1.0, 0.0))
    monkeypatch.setitem(sys.modules, "datumaro", None)
    refused("pip install datumaro", ImportError, kind="coco")
    monkeypatch.setitem(sys.modules, "lerobot", None)
    refused("written by lerobot, which does not import .*pip install 'lerobot>=0.4'", ImportError, kind="lerobot")


def test_a_format_of_labels_needs_labels(drives, tmp_path):
    pytest.importorskip("datumaro", reason="datumaro is an extra")
    bare = tmp_path / "bare"
    subprocess.run(["cp", "-r", str(drives / "folder"), str(bare)], check=True)
    (bare / "classes.json").unlink()
    with pytest.raises(ValueError, match="is of labels, and the source has none"):
        exported(bare, tmp_path / "out", "coco")
    subprocess.run(["cp", str(drives / "folder" / "classes.json"), str(bare)], check=True)
    subprocess.run(["rm", "-r", str(bare / "instances")], check=True)
    with pytest.raises(ValueError, match="--truth things"):
        exported(bare, tmp_path / "out", "coco")
    with pytest.raises(ValueError, match="datumaro has no format 'foo'; it has .*coco"):
        exported(bare, tmp_path / "out", "foo")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]
