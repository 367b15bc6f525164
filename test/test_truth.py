"""Further truth of a frame, against scenes whose answers are known: a box room, and a box that moves in it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scenes import CAMERA, room_poses, room_world, see_room
import yaml

from worldfm_ros.cli.render import render
from worldfm_ros.generator import FrameGenerator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.objects import shapes
from worldfm_ros.objects.draw import draw_one
from worldfm_ros.objects.mesh import grounded
from worldfm_ros.objects.objects import Placed
from worldfm_ros.painting.blend import Blend
from worldfm_ros.replay.truths import check_truths
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sources.rgbd_folder import write_poses
from worldfm_ros.truth.boxes import Seen, boxes_of
from worldfm_ros.truth.flow import flow_of
from worldfm_ros.truth.normals import normals_of
from worldfm_ros.truth.things import FIRST, Things, is_stuff
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.renderer import render as draw
from worldfm_ros.world.storage import World, write_world

BIG = Intrinsics(160, 120, 100.0, 100.0, 79.5, 59.5)


@pytest.mark.parametrize("pose", room_poses(6)[:3])
def test_normals_are_the_walls(pose):
    frame = see_room(pose, BIG)
    normals = normals_of(frame.depth, BIG) @ pose.rotation.as_matrix().T
    known = np.isfinite(normals).all(axis=-1)
    assert known.mean() > 0.95
    axis = frame.labels.astype(int) - 1  # 0 = an x wall, 1 = a y wall, 2 = floor or ceiling
    points = pose.apply(BIG.unproject(frame.depth))
    truth = np.eye(3)[axis] * -np.sign(np.take_along_axis(points - [0, 0, 1.25], axis[..., None], -1))
    degrees = np.degrees(np.arccos(np.clip((normals * truth).sum(-1)[known], -1, 1)))
    assert np.percentile(degrees, 90) < 1.0, "but at the corners"


def test_flow_is_where_the_same_point_is_seen_next():
    here, later = room_poses(60)[:2]
    frame, camera = see_room(here, BIG), Camera(BIG)
    flow = flow_of(frame.depth, np.zeros(frame.depth.shape, np.uint16), camera, (here, later), {})
    v, u = np.indices(frame.depth.shape)
    target = np.stack([u, v], -1) + flow
    moved = cv2.remap(see_room(later, BIG).depth, target.astype(np.float32), None, cv2.INTER_LINEAR, borderValue=-1)
    expected = later.inverse().apply(here.apply(BIG.unproject(frame.depth)))[..., 2]
    inside = (target > 1).all(-1) & (target[..., 0] < 158) & (target[..., 1] < 118)
    assert inside.mean() > 0.7 and np.median(np.abs(moved - expected)[inside]) < 1e-3
    bent = np.median(np.abs(flow_of(frame.depth, np.zeros(frame.depth.shape, np.uint16), camera, (here, here), {})))
    assert bent < 1e-4, "a camera that stands still sees nothing move"


def placed(x, ident=7, label=4, size=(0.4, 0.6, 1.0)):
    pose = Pose(Pose.planar(0, 0, 0.3).rotation, np.array([x, 0.0, 0.0]))
    return Placed(grounded(shapes.box(size, (200, 30, 30))).at(pose), ident, label, pose)


def test_what_moves_flows_with_its_object():
    pose = Pose.looking_at([0, 0, 0.5], [2, 0, 0.5])
    depth = np.full((120, 160), 2.0, np.float32)
    instances = np.zeros(depth.shape, np.uint16)
    instances[50:70, 70:90] = 7
    motion = Pose(Pose.identity().rotation, np.array([0.0, 0.2, 0.0]))  # to the left
    flow = flow_of(depth, instances, Camera(BIG), (pose, pose), {7: motion})
    assert np.allclose(flow[instances == 7], [-10, 0], atol=1e-3) and np.allclose(flow[instances == 0], 0, atol=1e-3)


def seen_from(pose, objects):
    """Instances of objects, the nearest first where they overlap, as the generator draws them."""
    depth, owners = np.full((120, 160), np.inf, np.float32), np.full((120, 160), -1, np.int32)
    for number, each in enumerate(objects):
        draw_one(each.mesh, pose, BIG, number, (depth, np.zeros((120, 160, 3), np.uint8), owners))
    ids = np.array([each.id for each in objects] + [0], np.uint16)[owners]
    return Seen(ids, None, pose, BIG)


def test_boxes_are_tight_and_know_what_is_hidden():
    pose = Pose.looking_at([0, 0, 0.5], [2, 0, 0.5])
    back, front = placed(2.0), placed(1.2, 8, size=(0.2, 0.2, 2.0))
    alone, = boxes_of(seen_from(pose, [back]), [back])
    both = boxes_of(seen_from(pose, [back, front]), [back, front])
    mask = seen_from(pose, [back]).instances == 7
    rows, columns = np.where(mask)
    assert (alone.left, alone.top) == (columns.min(), rows.min())
    assert (alone.width, alone.height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert alone.occlusion == 0 and alone.truncation == 0 and not alone.ignore
    covered = (mask & (seen_from(pose, [back, front]).instances == 8)).sum() / mask.sum()
    assert [box.id for box in both] == [7, 8]
    assert both[0].occlusion == pytest.approx(covered) and 0.1 < covered < 0.9 and both[1].truncation > 0.1
    assert np.allclose(alone.box.size, [0.4, 0.6, 1.0]) and np.allclose(alone.box.T_world_box.translation, [2, 0, 0.5])
    assert np.allclose(alone.box.T_world_box.rotation.as_rotvec(), [0, 0, 0.3])
    half = np.full((120, 160), 255, np.uint8)
    half[rows, columns] = np.where(np.arange(len(rows)) < 0.6 * len(rows), 0, 255)
    invented, = boxes_of(replace(seen_from(pose, [back]), confidence=half), [back])
    assert invented.ignore and invented.invented == pytest.approx(0.6, abs=0.01)


def test_things_hang_together_and_keep_their_ids():
    random = np.random.default_rng(0)
    cubes = [random.uniform(-0.25, 0.25, (4000, 3)) + [x, 0, 0] for x in (0.0, 1.0, 1.4, 3.0)]
    floor = random.uniform([-2, -2, -0.5], [4, 2, -0.45], (4000, 3))
    points = np.concatenate([*cubes, floor])
    labels = np.repeat([5, 5, 5, 6, 1], 4000)
    anchors = AnchorMap.from_points(points, np.full((len(points), 3), 100, np.uint8), labels, 0.03)
    things = Things.of(World("cubes", anchors, [], 0.05, {1: "floor", 5: "chair", 6: "table"}))
    assert things.names == {FIRST: "chair 1", FIRST + 1: "chair 2", FIRST + 2: "table 1"}, "1.0 and 1.4 touch"
    ids = things.ids(np.array([[[1.2, 0, 0], [0, 0, 0], [3, 0, 0], [0, 0, -0.48], [np.nan] * 3]]),
                     np.array([[5, 5, 6, 1, 5]]))
    assert ids.tolist() == [[FIRST, FIRST + 1, FIRST + 2, 0, 0]]
    pose = Pose.looking_at([0.5, -4, 0], [0.5, 0, 0])
    view = draw(anchors.visible(pose, BIG), pose, BIG)
    instances = things.ids(pose.apply(BIG.unproject(np.where(view.depth > 0, view.depth, np.nan))), view.labels)
    boxes = {box.id: box for box in boxes_of(Seen(instances, None, pose, BIG), [], things)}
    assert np.allclose(boxes[FIRST + 1].box.size, 0.5, atol=0.1) and boxes[FIRST + 1].occlusion < 0.1
    with pytest.raises(ValueError, match="has no labels"):
        Things.of(World("bare", anchors, [], 0.05))
    assert is_stuff("Office floor") and is_stuff("side_wall") and not is_stuff("wallet")


def test_edges_of_depth_are_edges_of_the_picture():
    """Depth and picture are of one pass: where depth jumps, the picture has an edge within a pixel."""
    pose = Pose.looking_at([0, 0, 0.5], [2, 0, 0.5])
    world = room_world(12, voxel=0.03)
    frame = FrameGenerator(world, Blend()).generate(pose, BIG, [placed(1.5)])
    jumps = np.abs(np.diff(frame.depth, axis=1)) > 0.15
    grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0))
    distances = []
    for row, column in np.argwhere(jumps):
        window = slope[row, max(column - 6, 0):column + 8]
        distances.append(abs(np.argmax(window) + max(column - 6, 0) - (column + 0.5)))
    assert len(distances) > 40 and np.median(distances) <= 1.0


def test_the_command_writes_all_of_it(tmp_path):
    write_world(room_world(6, voxel=0.1), tmp_path / "world")
    write_poses(dict(enumerate(room_poses(12)[:2])), tmp_path / "poses.txt")
    K = CAMERA.matrix.ravel().tolist()
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump({"width": 80, "height": 60, "K": K}))
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump({"objects": [
        {"name": "crate", "shape": "box", "size": [0.3, 0.3, 0.6], "path": [[1.0, 0.1], [1.2, 0.1]], "speed": 0.1}]}))
    render(tmp_path / "world", trajectory=(tmp_path / "poses.txt",), camera=tmp_path / "camera.yaml", model="anchors",
           out=tmp_path / "out", objects=str(tmp_path / "objects.yaml"), truth=("boxes", "normals", "flow"))
    flow = cv2.imread(str(tmp_path / "out" / "flow" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert flow.dtype == np.uint16 and flow[..., 0].max() == 1
    last = cv2.imread(str(tmp_path / "out" / "flow" / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert not last.any(), "nothing comes after the last"
    normals = cv2.imread(str(tmp_path / "out" / "normals" / "000000.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    length = np.linalg.norm((normals.astype(float) - 32768) / 32767, axis=-1)
    assert np.median(length) == pytest.approx(1, abs=1e-3)
    assert '"id": 1' in (tmp_path / "out" / "boxes" / "000000.json").read_text()
    with pytest.raises(ValueError, match="--truth is some of things, boxes, normals, flow, got depth"):
        check_truths(["depth"])
