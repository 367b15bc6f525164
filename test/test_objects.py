"""Things that move: exact masks, proper occlusion, no ghosts, and nothing left of them when they have passed."""

from dataclasses import replace
import math

import numpy as np
import pytest
from scenes import CAMERA, room_world
import yaml

from worldfm_ros.generator import FrameGenerator, load_generator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.objects import shapes
from worldfm_ros.objects.mesh import Mesh, read_mesh
from worldfm_ros.objects.objects import Objects, Placed, load_objects, read_objects
from worldfm_ros.objects.route import Route, State, timed
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World

SECOND = 1_000_000_000
CAMERA_WIDE = Intrinsics.from_hfov(160, 120, math.radians(75))
EYE = Pose.looking_at([-1.6, 0.0, 1.3], [1.0, 0.0, 0.9])
WALKER = """objects:
  - {name: anna, shape: person, label: person, id: 7, path: [[0.6, -1.2], [0.6, 1.2]], speed: 1.0}
"""


@pytest.fixture(scope="module")
def world():
    return room_world(24, voxel=0.04)


@pytest.fixture
def objects(world, tmp_path):
    (tmp_path / "objects.yaml").write_text(WALKER)
    return load_objects(str(tmp_path / "objects.yaml"), world)


def cast(mesh, T_world_camera, intrinsics):
    """Depth (H, W) of the nearest triangle on each pixel centre's ray, inf = none, by another ray caster."""
    o3d = pytest.importorskip("open3d")
    scene = o3d.t.geometry.RaycastingScene()
    vertices = T_world_camera.inverse().apply(mesh.vertices)
    scene.add_triangles(o3d.core.Tensor(vertices.astype(np.float32)), o3d.core.Tensor(mesh.triangles.astype(np.uint32)))
    rays = intrinsics.unproject(np.ones((intrinsics.height, intrinsics.width))).astype(np.float32)
    started = np.concatenate([0.05 * rays, rays], axis=-1)  # from the near plane on
    return scene.cast_rays(o3d.core.Tensor(started))["t_hit"].numpy() + np.float32(0.05)


def placed(mesh, number, label):
    return Placed(mesh, number, label, Pose.identity())


def intersection_over_union(a, b):
    return np.sum(a & b) / np.sum(a | b)


def test_the_mask_of_a_person_who_crosses_is_exact(world, objects):
    generator, label = load_generator(world), objects.labels["person"]
    seen = 0
    for stamp in range(0, 5 * SECOND, SECOND // 2):
        placed = objects.at(stamp)
        frame = generator.generate(EYE, CAMERA_WIDE, placed)
        exact = cast(placed[0].mesh, EYE, CAMERA_WIDE)
        mask = frame.labels == label
        assert intersection_over_union(mask, np.isfinite(exact)) > 0.95
        assert np.array_equal(mask, frame.instances == 7)
        np.testing.assert_allclose(frame.depth[mask & np.isfinite(exact)], exact[mask & np.isfinite(exact)], rtol=1e-5)
        seen += mask.sum()
    assert seen > 5000


def test_a_sphere_is_where_geometry_says():
    ball = shapes.ellipsoid((1.0, 1.0, 1.0), (200, 0, 0)).at(Pose.planar(3.0, 0.2, 0.0))
    eye = Pose.looking_at([0, 0, 0], [1, 0, 0])
    frame = FrameGenerator(World("void", AnchorMap(), [], 0.1), load_generator(room_world(2)).model).generate(
        eye, CAMERA_WIDE, [placed(ball, 3, 9)])
    rays = CAMERA_WIDE.unproject(np.ones((120, 160))) @ eye.rotation.as_matrix().T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = np.array([3.0, 0.2, 0.0])
    inside = np.linalg.norm(centre - (rays @ centre)[..., None] * rays, axis=-1) < 0.5
    assert intersection_over_union(frame.instances == 3, inside) > 0.97  # a ball of triangles is inside of the ball
    assert frame.rgb[frame.instances == 3][:, 0].mean() > 100 and frame.coverage.sum() == (frame.instances == 3).sum()


def test_when_it_has_passed_the_background_is_the_same(world, objects):
    generator = load_generator(world)
    alone = generator.generate(EYE, CAMERA_WIDE)
    turned = Pose.looking_at([-1.6, 0.0, 1.3], [-1.9, 1.0, 1.3])  # where nobody walks
    away = generator.generate(turned, CAMERA_WIDE, objects.at(SECOND))
    for name in ("rgb", "depth", "labels", "coverage", "instances", "confidence"):
        np.testing.assert_array_equal(getattr(generator.generate(turned, CAMERA_WIDE), name), getattr(away, name))
    present = generator.generate(EYE, CAMERA_WIDE, objects.at(SECOND))
    again = generator.generate(EYE, CAMERA_WIDE, objects.at(SECOND))
    np.testing.assert_array_equal(present.rgb, again.rgb)
    untouched = ~_touched(present.instances)
    np.testing.assert_array_equal(present.rgb[untouched], alone.rgb[untouched])
    np.testing.assert_array_equal(present.depth[untouched], alone.depth[untouched])
    assert (present.rgb != alone.rgb).any(axis=-1).sum() > 500


def _touched(instances):
    """The pixels of objects and those around them, of which an edge may cover a part."""
    padded = np.pad(instances > 0, 1)
    height, width = instances.shape
    return np.any([padded[i:i + height, j:j + width] for i in range(3) for j in range(3)], axis=0)


def test_a_ghost_is_not_painted_over_an_object(world):
    """References show the wall behind it; of that nothing is on it: a box of one colour stays of one colour."""
    wall = shapes.box((0.1, 1.0, 1.0), (255, 0, 255)).at(Pose.planar(0.8, 0.0, 0.0))
    frame = load_generator(world).generate(EYE, CAMERA_WIDE, [placed(wall, 1, 50)])
    inner = ~_touched((frame.instances == 0).astype(np.uint16))
    colors = frame.rgb[inner & (np.abs(frame.depth - np.median(frame.depth[inner])) < 0.3)]
    assert len(colors) > 200 and colors[:, 1].max() == 0 and colors[:, 0].min() > 100


def test_anchors_hide_what_is_behind_them_and_objects_each_other(world):
    generator = load_generator(world)
    behind = shapes.box((0.3, 0.3, 2.0), (255, 0, 0)).at(Pose.planar(2.6, 0.0, 0.0))  # outside of the room
    drawn = generator.generate(EYE, CAMERA_WIDE).coverage
    assert not generator.generate(EYE, CAMERA_WIDE, [placed(behind, 1, 50)]).instances[drawn].any()
    near, far = (placed(shapes.box((0.2, 0.6, 4.0), (0, 255, 0)).at(Pose.planar(x, 0.0, 0.0)), i, 50)
                 for x, i in ((0.3, 1), (1.2, 2)))
    for order in ([near, far], [far, near]):
        frame = generator.generate(EYE, CAMERA_WIDE, order)
        assert frame.instances[60, 80] == 1 and not (frame.instances[40:80] == 2)[:, 75:85].any()


def test_an_object_through_the_near_plane_is_cut():
    slab = shapes.box((4.0, 0.4, 0.1), (90, 90, 90)).at(Pose.planar(0.0, 0.0, 0.0))
    eye = Pose.looking_at([0.0, 0.0, 0.3], [1.0, 0.0, 0.3])
    generator = FrameGenerator(World("void", AnchorMap(), [], 0.1), load_generator(room_world(2)).model)
    frame = generator.generate(eye, CAMERA_WIDE, [placed(slab, 1, 1)])
    exact = cast(slab, eye, CAMERA_WIDE)
    assert intersection_over_union(frame.instances > 0, np.isfinite(exact)) > 0.99


def test_clouds_are_objects_too(tmp_path):
    o3d = pytest.importorskip("open3d")
    mesh = shapes.ellipsoid((0.8, 0.8, 0.8), (30, 60, 90))
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(mesh.vertices))
    cloud.colors = o3d.utility.Vector3dVector(mesh.colors / 255)
    o3d.io.write_point_cloud(str(tmp_path / "ball.ply"), cloud)
    read = read_mesh(tmp_path / "ball.ply")
    assert read.is_cloud and read.vertices[:, 2].min() == 0 and (read.colors == [30, 60, 90]).all()
    generator = FrameGenerator(World("void", AnchorMap(), [], 0.1), load_generator(room_world(2)).model)
    ball = placed(read.at(Pose.planar(2.0, 0.0, 0.0)), 4, 5)
    frame = generator.generate(Pose.looking_at([0, 0, 0.4], [1, 0, 0.4]), CAMERA_WIDE, [ball])
    assert (frame.instances == 4).sum() > 500


def test_a_route_is_a_function_of_the_stamp():
    route = Route.at_speed(np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0]], float), 1.0, True)
    period = round(route.times[-1] * SECOND)
    for stamp in (0, SECOND, 3 * SECOND + 17):
        near, late = route.at(stamp), route.at(stamp + 10_000_000 * period)
        np.testing.assert_array_equal(near.T_world_object.matrix, late.T_world_object.matrix)
    assert route.at(SECOND).T_world_object.translation == pytest.approx([1, 0, 0])
    assert route.at(SECOND).speed == pytest.approx(1.0)
    facing = route.at(SECOND).T_world_object.rotation.apply([1.0, 0.0, 0.0])
    assert facing == pytest.approx([1, 0, 0])
    once = timed([[0, 0, 0, 0, 0], [2, 4, 0, 0, 90]], False)
    assert once.at(-5).T_world_object.translation == pytest.approx([0, 0, 0]) and once.at(-5).speed == 0
    assert once.at(9 * SECOND).T_world_object.rotation.apply([1.0, 0, 0]) == pytest.approx([0, 1, 0], abs=1e-9)
    assert once.at(SECOND).speed == pytest.approx(2.0)


def test_objects_on_frames_are_where_the_lookup_says(world, tmp_path):
    (tmp_path / "o.yaml").write_text("objects: [{shape: robot, frame: r2/base_link}, {shape: forklift, frame: gone}]")
    objects = load_objects(str(tmp_path / "o.yaml"), world)
    assert objects.frames == ["r2/base_link", "gone"]
    placed = objects.at(0, {"r2/base_link": State(Pose.planar(1.0, 2.0, 0.0))}.get)
    assert [item.id for item in placed] == [1] and placed[0].mesh.vertices.mean(0)[:2] == pytest.approx([1, 2], abs=0.1)
    assert objects.named(world).label_names.items() >= world.label_names.items()


def test_labels_of_the_world_are_shared(world, tmp_path):
    (tmp_path / "o.yaml").write_text("objects: [{shape: person, label: floor, path: [[0, 0]]},"
                                     " {shape: person, label: who, path: [[0, 1]]}]")
    objects = load_objects(str(tmp_path / "o.yaml"), world)
    assert objects.labels == {"floor": 3, "who": 4}


def test_the_demo_is_a_person_of_the_apartment(world):
    objects = load_objects("demo", world)
    heights = np.ptp(objects.at(3 * SECOND)[0].mesh.vertices[:, 2])
    assert 1.6 < heights < 1.9 and list(objects.labels) == ["person"]


@pytest.mark.parametrize("entry, message", [
    ({}, "one of frame, path and waypoints, got none"),
    ({"frame": "a", "path": [[0, 0]]}, "got frame, path"),
    ({"path": [[0, "x"]]}, "finite numbers"),
    ({"path": [[0, math.nan]]}, "finite numbers"),
    ({"path": []}, "path is a list"),
    ({"path": [[0, 0]], "speed": 0}, "speed is metres per second"),
    ({"path": [[0, 0]], "id": 0}, "id is a whole number from 1 to 65535"),
    ({"path": [[0, 0]], "shape": "dragon"}, "shape is person"),
    ({"path": [[0, 0]], "shape": "box"}, "needs a size"),
    ({"path": [[0, 0]], "shape": "box", "size": [1, 1, 0]}, "three extents"),
    ({"path": [[0, 0]], "shape": "missing.ply"}, "missing.ply does not exist"),
    ({"path": [[0, 0]], "color": [0, 0, 300]}, "0 to 255"),
    ({"path": [[0, 0]], "colour": [0, 0, 0]}, "did you mean 'color'"),
    ({"waypoints": [[1, 0, 0], [0, 1, 1]]}, "begin with 0 and rise"),
    ({"waypoints": [[0, 0, 0, 0, 5], [1, 1, 1]]}, "all waypoints have a yaw"),
    ({"path": [[0, 0]], "repeat": "yes please"}, "repeat is true or false"),
])
def test_what_is_wrong_is_named(entry, message, tmp_path):
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump({"objects": [{"name": "bob", "shape": "person"} | entry]}))
    with pytest.raises(ValueError, match=f"{file}: object bob: .*{message}"):
        read_objects(file)


@pytest.mark.parametrize("text", ["", "objects: 3", "[1, 2]", "objects: [1]", "{", "objects: [{id: 2, shape: person, "
                                  "path: [[0, 0]]}, {id: 2, shape: person, path: [[0, 0]]}]"])
def test_other_files_are_refused(text, tmp_path):
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(ValueError, match="o.yaml"):
        read_objects(tmp_path / "o.yaml")
    with pytest.raises(ValueError, match="there is no objects file .*none.yaml"):
        read_objects(tmp_path / "none.yaml")


def test_a_size_stretches_a_shape():
    mesh = shapes.robot((1, 2, 3)).stretched((1.0, 2.0, 3.0))
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([1, 2, 3])
    flat = replace(mesh, vertices=mesh.vertices * [1, 1, 0])
    with pytest.raises(ValueError, match="no extent"):
        flat.stretched((1, 1, 1))


def test_nothing_moves_by_default(world):
    assert not Objects().at(0) and load_generator(world).objects.items == ()
    frame = load_generator(world).generate(EYE, CAMERA)
    assert frame.instances.dtype == np.uint16 and not frame.instances.any()
    assert isinstance(shapes.person((1, 2, 3), 0.0, 0.0, shapes.STANDING), Mesh)
