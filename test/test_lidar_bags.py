"""Bags whose depth is a LiDAR's: points at their own time and place become sparse depth of the camera."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_clip_sources import FRAMES, SECOND, T, bag_messages, header, transform, write_bag

from worldfm_ros.geometry import Pose
from worldfm_ros.sources.bag import BagFrames, Topics
from worldfm_ros.sources.bag_points import points_of, sparse_depth
from worldfm_ros.sources.conventions import Conventions, with_conventions
from worldfm_ros.world.builders.fusion import FusionSettings
from worldfm_ros.world.builders.rgbd import build

POINTS = "/lidar/points"
MOUNT = Pose(Rotation.from_euler("y", 0.2), [0.0, 0.1, 0.0])  # of the camera, as in bag_messages
LIDAR = Pose(Rotation.from_euler("zyx", [0.4, -0.1, 0.05]), [0.1, -0.2, 0.3])  # on the base
LATE = 30_000_000  # nanoseconds


def cloud(stamp, points, step=20, kind=7, order="<", frame="lidar"):
    field = T["sensor_msgs/msg/PointField"]
    size = 4 if kind == 7 else 8
    rows = np.zeros((len(points), step), np.uint8)
    for k in range(3):
        rows[:, k * size:(k + 1) * size] = points[:, k].astype(f"{order}f{size}").view(np.uint8).reshape(-1, size)
    fields = [field(name, k * size, kind, 1) for k, name in enumerate("xyz")]
    return T["sensor_msgs/msg/PointCloud2"](header(stamp, frame), 1, len(points), fields, order == ">", step,
                                            step * len(points), rows.ravel(), False)


def base_at(place):
    """T_map_base between frames; the last one stands still."""
    before, after = (FRAMES[min(int(place) + k, len(FRAMES) - 1)].T_world_camera @ MOUNT.inverse() for k in (0, 1))
    return before.interpolate(after, place - int(place))


def lidar_messages(**options):
    """bag_messages with points in place of depth, measured a little later from a base that has moved on."""
    yield from (message for message in bag_messages() if "depth" not in message[0])
    yield "/tf_static", 0, transform(0, "base", "lidar", LIDAR)
    for k, frame in enumerate(FRAMES[:-1]):
        T_world_lidar = base_at(k + 0.3) @ LIDAR
        points = frame.T_world_camera.apply(frame.intrinsics.unproject(frame.depth)[frame.depth > 0])[::3]
        stamp = SECOND + k * SECOND // 10 + LATE
        yield POINTS, stamp, cloud(stamp, T_world_lidar.inverse().apply(points), **options)


def test_points_are_depth_where_they_were_measured(tmp_path):
    frames = BagFrames(write_bag(tmp_path / "bag", lidar_messages()))
    assert len(frames) >= len(FRAMES) - 1 and frames.sparse and frames.topics.depth == POINTS
    for k in range(5):
        frame, truth = frames[k], FRAMES[k]
        measured = frame.depth > 0
        assert 0.2 < measured.mean() < 0.4
        assert np.abs(frame.depth[measured] - truth.depth[measured]).max() < 1e-3
    read_otherwise = with_conventions(frames, Conventions(poses="camera-to-world"))
    assert read_otherwise.sparse


def test_a_world_is_made_of_them(tmp_path):
    frames = BagFrames(write_bag(tmp_path / "bag", lidar_messages()))
    world = build(frames, FusionSettings(voxel=0.05))
    points = np.concatenate([tile.world_points for tile in world.anchors.tiles])
    truth = np.concatenate([f.T_world_camera.apply(f.intrinsics.unproject(f.depth)[f.depth > 0]) for f in FRAMES])
    assert len(points) > 200
    assert (points.min(0) >= truth.min(0) - 0.05).all() and (points.max(0) <= truth.max(0) + 0.05).all()


@pytest.mark.parametrize(("step", "kind", "order"), [(12, 7, "<"), (32, 8, "<"), (16, 7, ">")])
def test_clouds_of_any_layout_are_read(step, kind, order):
    points = np.random.default_rng(0).normal(0, 3, (50, 3))
    points[7] = np.nan
    read = points_of(cloud(0, points, step, kind, order))
    assert np.allclose(read, np.delete(points, 7, 0), atol=1e-5)


def test_what_is_no_cloud_is_refused():
    bad = cloud(0, np.ones((4, 3)))
    bad.data = bad.data[:30]
    with pytest.raises(ValueError, match="has 30 bytes"):
        points_of(bad)
    bad.fields = bad.fields[:2]
    with pytest.raises(ValueError, match="none called z"):
        points_of(bad)
    with pytest.raises(ValueError, match="datatype 7 or 8"):
        wrong = cloud(0, np.ones((4, 3)))
        wrong.fields[1].datatype = 2
        points_of(wrong)
    assert len(points_of(cloud(0, np.empty((0, 3))))) == 0


def test_the_nearest_point_of_a_pixel_counts_and_none_from_behind():
    camera = FRAMES[0].intrinsics
    depth = sparse_depth(np.array([[0, 0, 2.0], [0, 0, 1.5], [0, 0, -1.0], [99, 0, 1.0]]), Pose.identity(), camera)
    assert np.count_nonzero(depth) == 1 and depth.max() == 1.5


def test_a_lidar_that_tf_does_not_know_is_told(tmp_path):
    bag = write_bag(tmp_path / "bag", lidar_messages(frame="nowhere"))
    with pytest.raises(ValueError, match="TF does not say where nowhere"):
        BagFrames(bag)


def test_depth_pictures_come_first_and_the_topic_may_be_named(tmp_path):
    bag = write_bag(tmp_path / "bag", [*bag_messages(), *(m for m in lidar_messages() if m[0] == POINTS),
                                       ("/tf_static", 0, transform(0, "base", "lidar", LIDAR))])
    assert not BagFrames(bag).sparse and BagFrames(bag, Topics(depth=POINTS)).sparse
