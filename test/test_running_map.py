"""The map of a running camera gets more: another world merged into it; over real DDS."""

from dataclasses import replace
import threading

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from nav_msgs.srv import LoadMap
from rclpy.parameter import Parameter
from scenes import room_world
from std_srvs.srv import Trigger
from test_camera_modes import ask, bench, robot, set_together  # noqa: F401
from test_frame_camera import still

from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.world.anchors import FIELDS
from worldfm_ros.world.cut import cut
from worldfm_ros.world.merge import merge, merge_into
from worldfm_ros.world.storage import open_world, read_world, write_world

AHEAD = np.array([[0.0, 0.5, -0.1], [2.2, 1.7, 2.7]])  # a part of what `still` looks at
RESPONSE = LoadMap.Response


@pytest.fixture(scope="module")
def room():
    return room_world(24, voxel=0.05)


def start(ros, tmp_path, world, **parameters):
    write_world(world, tmp_path / "in" / "shown")
    overrides = {"world": str(tmp_path / "in" / "shown"), "model": "anchors", "width": 64, "height": 48, "rate": 20.0,
                 "always_on": True, "allowed_folders": [str(tmp_path / "in")]} | parameters
    return ros.spin(FrameCamera(namespace="camera", parameter_overrides=[
        Parameter(name, value=value) for name, value in overrides.items()]))


def held(world) -> list[list]:
    """All that a world holds, to be compared."""
    tiles = [[getattr(tile, name).tobytes() for name in FIELDS] for tile in world.anchors.tiles]
    return [tiles, [(keyframe.id, keyframe.rgb.tobytes()) for keyframe in world.keyframes], dict(world.label_names)]


def drawn(bench) -> float:  # noqa: F811
    """The share of the newest image with depth."""
    image = bench.got["depth/image_rect"][-1]
    return float(np.isfinite(np.frombuffer(image.data, np.float32)).mean())


def test_a_world_is_merged_into_the_one_that_is_shown(ros, bench, robot, room, tmp_path):  # noqa: F811
    half = cut(room, AHEAD)
    camera = start(ros, tmp_path, half, save_folder=str(tmp_path / "in" / "kept"))
    write_world(room, tmp_path / "in" / "other")
    robot.make_tf = still
    robot.start()
    ros.wait_for(lambda: len(bench.got["depth/image_rect"]) > 3, "images")
    assert drawn(bench) < 0.6
    generator, lost = camera.session.generator, camera.session.health.accounts.counts["dropped.generate_failed"]
    answer = ask(ros, bench, LoadMap, "merge_map", LoadMap.Request(map_url=f"file://{tmp_path}/in/other"))
    assert answer.result == RESPONSE.RESULT_SUCCESS
    assert camera.session.generator is generator, "nothing was loaded anew"
    ros.wait_for(lambda: drawn(bench) > 0.95, "an image that shows the other world")
    expected = merge([half, read_world(tmp_path / "in" / "other")])
    assert held(camera.session.generator.world) == held(expected)
    assert ask(ros, bench, Trigger, "save_map", Trigger.Request()).success
    assert held(read_world(tmp_path / "in" / "kept")) == held(expected)
    assert camera.session.health.accounts.counts["dropped.generate_failed"] == lost


def test_a_grown_world_that_cannot_be_saved_is_told_by_the_exit_code(ros, bench, room, tmp_path):  # noqa: F811
    kept = tmp_path / "in" / "kept"
    camera = start(ros, tmp_path, cut(room, AHEAD), grow=True, save_folder=str(kept))
    kept.write_text("in the way")
    write_world(room, tmp_path / "in" / "other")
    answer = ask(ros, bench, LoadMap, "merge_map", LoadMap.Request(map_url=f"file://{tmp_path}/in/other"))
    assert answer.result == RESPONSE.RESULT_SUCCESS and camera.exit_code is None
    ended = camera.executor.create_task(camera.close)
    ros.wait_for(ended.done, "the end")
    assert camera.exit_code == 1 and kept.read_text() == "in the way"


def test_what_cannot_be_merged_changes_nothing(ros, bench, room, tmp_path):  # noqa: F811
    camera = start(ros, tmp_path, room, autostart=False)

    def result(folder: str) -> int:
        return ask(ros, bench, LoadMap, "merge_map", LoadMap.Request(map_url=folder)).result

    assert result(str(tmp_path)) == RESPONSE.RESULT_INVALID_MAP_DATA  # it is not configured
    camera.trigger_configure()
    before = held(camera.session.generator.world)
    for name, change in {"frame": {"frame_id": "odom"}, "scale": {"metric": False}, "damaged": {}}.items():
        write_world(replace(room, **change), tmp_path / "in" / name)
    chunk = next((tmp_path / "in" / "damaged" / "anchors").iterdir())
    chunk.write_bytes(chunk.read_bytes()[:-7] + b"careful")
    write_world(room, tmp_path / "out")
    (tmp_path / "in" / "cloud.ply").write_text("ply")
    for folder, reason in [("in/frame", "is in frame 'map' and"), ("in/scale", "only metric worlds"),
                           ("in/damaged", chunk.name), ("out", "is not in the allowed folders"),
                           ("in/cloud.ply", "is no world folder")]:
        bench.warnings.clear()
        assert result(str(tmp_path / folder)) == RESPONSE.RESULT_INVALID_MAP_DATA, folder
        ros.wait_for(lambda reason=reason: any(reason in warning for warning in bench.warnings), f"{folder}: {reason}")
        assert all(warning.startswith("merge_map: ") for warning in bench.warnings)
    for folder in ("", str(tmp_path / "in" / "nowhere")):
        assert result(folder) == RESPONSE.RESULT_MAP_DOES_NOT_EXIST
    assert held(camera.session.generator.world) == before


def test_a_map_that_changes_while_another_is_merged_loses_nothing(room):
    world, other = cut(room, AHEAD), room
    calls = []

    def change(function):
        if calls:  # what was invented meanwhile
            world.anchors.insert([[1.0, 0.0, 1.0]], np.full((1, 3), 9, np.uint8), frames=7, confidence=100)
        calls.append(threading.get_ident())
        return function()

    merge_into(world, other, change)
    assert len(calls) == 2 and (np.concatenate([tile.frames for tile in world.anchors.tiles]) == 7).sum() == 1
    assert len(world.anchors) == len(merge([cut(room, AHEAD), room]).anchors) + 1


def test_a_map_that_fails_half_way_is_as_it_was(room):
    world = cut(room, AHEAD)
    before = held(world)
    with pytest.raises(ValueError, match="only metric worlds"):
        merge_into(world, replace(room, metric=False), lambda function: function())
    assert held(world) == before


def test_a_map_on_the_disk_takes_nothing(room, tmp_path):
    write_world(room, tmp_path / "w")
    with pytest.raises(ValueError, match="set map_memory to 0"):
        merge_into(open_world(tmp_path / "w", 1 << 20), room, lambda function: function())
