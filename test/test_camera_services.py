"""Services that change what a camera shows: a calibration, another world; and the one that writes its world."""

import gc
import threading
from weakref import WeakSet

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from nav_msgs.srv import LoadMap
from rclpy.parameter import Parameter
from scenes import room_world
from sensor_msgs.msg import CameraInfo
from sensor_msgs.srv import SetCameraInfo
from std_srvs.srv import Trigger
from test_camera_modes import ask, bench, robot, set_together  # noqa: F401
from test_frame_camera import start_camera

from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World, read_world, write_world

CALIBRATED = {
    "width": 40, "height": 30, "distortion_model": "plumb_bob", "d": [-0.1, 0.02, 0.001, -0.002, 0.0],
    "k": [41.0, 0.0, 19.0, 0.0, 42.0, 15.5, 0.0, 0.0, 1.0], "r": np.eye(3).ravel().tolist(),
    "p": [40.0, 0.0, 19.5, 0.0, 0.0, 40.0, 15.0, 0.0, 0.0, 0.0, 1.0, 0.0],
}


def calibrate(ros, bench, **values):  # noqa: F811
    client = bench.create_client(SetCameraInfo, "/camera/set_camera_info")
    ros.wait_for(client.service_is_ready, "the service")
    future = client.call_async(SetCameraInfo.Request(camera_info=CameraInfo(**CALIBRATED | values)))
    ros.wait_for(future.done, "the answer")
    return future.result()


def test_a_calibration_is_kept_and_painted_with(ros, bench, robot, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    camera = start_camera(ros, bench, hfov=100.0, gain=3.0)
    robot.start()
    answer = calibrate(ros, bench)
    assert answer.success, answer.status_message
    ros.wait_for(lambda: bench.got["camera_info"] and bench.got["camera_info"][-1].width == 40, "the calibrated camera")
    info = bench.got["camera_info"][-1]
    for name, value in CALIBRATED.items():
        assert np.array_equal(getattr(info, name), value), name
    ros.wait_for(lambda: bench.got["image_raw"][-1].width == 40, "its image")
    assert camera.get_parameter("gain").value == 3.0
    kept = yaml.safe_load((tmp_path / "camera_info" / "camera.yaml").read_text())
    assert kept["camera_name"] == "camera" and kept["camera_matrix"]["data"] == CALIBRATED["k"]
    # again, to where the first one is kept
    assert calibrate(ros, bench, width=50).success
    ros.wait_for(lambda: bench.got["camera_info"][-1].width == 50, "the next calibration")


@pytest.mark.parametrize("values, reason", [
    ({"k": [0.0] * 9}, "K is all 0"), ({"d": [float("nan")] * 5}, "D is a list of finite numbers"),
    ({"d": [0.1] * 3}, "coefficients"), ({"distortion_model": "fisheye"}, "equidistant"), ({"width": 0}, "width"),
    ({"r": [2.0] + [0.0] * 8}, "rotation"),
])
def test_a_calibration_that_will_not_do_changes_nothing(ros, bench, tmp_path, monkeypatch, values, reason):  # noqa: F811
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    camera = start_camera(ros, bench)
    answer = calibrate(ros, bench, **values)
    assert not answer.success and reason in answer.status_message, answer.status_message
    assert not (tmp_path / "camera_info").exists() and not camera.settings.camera_info_url


def test_a_calibration_is_not_written_outside_of_the_allowed_folders(ros, bench, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    start_camera(ros, bench, allowed_folders=[str(tmp_path / "in")])
    answer = calibrate(ros, bench)
    assert not answer.success and "is not in the allowed folders" in answer.status_message
    assert not (tmp_path / "camera_info").exists()


def dot(name):
    return World(name, AnchorMap.from_points(np.zeros((1, 3)), np.zeros((1, 3), np.uint8)), [], 0.1)


def load(ros, bench, url):  # noqa: F811
    return ask(ros, bench, LoadMap, "load_map", LoadMap.Request(map_url=url)).result


def save(ros, bench):  # noqa: F811
    return ask(ros, bench, Trigger, "save_map", Trigger.Request())


def test_nothing_stays_of_the_worlds_and_models_that_others_took_the_place_of(ros, bench, robot, tmp_path):  # noqa: F811
    for name, voxel in ("one", 0.1), ("two", 0.2):
        write_world(room_world(voxel=voxel, name=name), tmp_path / name)
    overrides = {"world": str(tmp_path / "one"), "model": "anchors", "width": 32, "height": 24, "always_on": True}
    camera = ros.spin(FrameCamera(namespace="camera", parameter_overrides=[
        Parameter(name, value=value) for name, value in overrides.items()]))
    robot.start()
    generators, keyframes = WeakSet(), WeakSet()

    def look() -> int:
        """Images of all that has been loaded, then how many threads there are."""
        bench.got["image_raw"].clear()
        ros.wait_for(lambda: len(bench.got["image_raw"]) > 2, "images")
        generators.add(camera.session.generator)
        keyframes.update(camera.session.generator.world.keyframes)
        return threading.active_count()

    def old_are_gone() -> None:
        gc.collect()
        ros.wait_for(lambda: len(generators) == 1, "the end of the old generators")
        newest = camera.session.generator.world.keyframes
        ros.wait_for(lambda: len(keyframes) == len(newest), "the end of the old keyframes")

    threads = look()
    for name in ("two", "one", "two"):
        assert load(ros, bench, str(tmp_path / name)) == LoadMap.Response.RESULT_SUCCESS
        assert look() == threads
        assert ask(ros, bench, Trigger, "reload_model", Trigger.Request()).success
        assert look() == threads
    old_are_gone()
    for transition in (camera.trigger_deactivate, camera.trigger_cleanup, camera.trigger_configure,
                       camera.trigger_activate):
        done = camera.executor.create_task(transition)  # where services would have it done
        ros.wait_for(done.done, "the transition")
    assert look() == threads
    old_are_gone()


def test_worlds_are_loaded_and_saved(ros, bench, tmp_path):  # noqa: F811
    for name in ("one", "two"):
        write_world(dot(name), tmp_path / "in" / name)
    write_world(dot("out"), tmp_path / "out")
    (tmp_path / "in" / "foreign").mkdir()
    (tmp_path / "in" / "foreign" / "thesis.txt").write_text("years of work")
    overrides = {"world": str(tmp_path / "in" / "one"), "model": "anchors", "width": 32, "height": 24,
                 "allowed_folders": [str(tmp_path / "in")], "autostart": False}
    camera = ros.spin(FrameCamera(namespace="camera", parameter_overrides=[
        Parameter(name, value=value) for name, value in overrides.items()]))
    answer = save(ros, bench)
    assert not answer.success and "not configured" in answer.message
    camera.trigger_configure()
    answer = save(ros, bench)
    assert not answer.success and "save_folder is empty" in answer.message
    response = LoadMap.Response
    assert load(ros, bench, f"file://{tmp_path}/in/two") == response.RESULT_SUCCESS
    assert camera.session.generator.world.name == "two"
    assert load(ros, bench, str(tmp_path / "out")) == response.RESULT_INVALID_MAP_DATA
    assert load(ros, bench, str(tmp_path / "in" / "foreign")) == response.RESULT_INVALID_MAP_DATA
    for url in ("", str(tmp_path / "in" / "nowhere")):
        assert load(ros, bench, url) == response.RESULT_MAP_DOES_NOT_EXIST
    assert camera.session.generator.world.name == "two"
    assert "allowed folders" in set_together(ros, bench, save_folder=str(tmp_path / "kept")).reason
    for folder, good in [("kept", True), ("kept", True), ("foreign", False)]:
        assert set_together(ros, bench, save_folder=str(tmp_path / "in" / folder)).successful
        answer = save(ros, bench)
        assert answer.success == good and str(tmp_path / "in" / folder) in answer.message, answer.message
    assert read_world(tmp_path / "in" / "kept").name == "two"
    assert [path.name for path in (tmp_path / "in" / "foreign").iterdir()] == ["thesis.txt"]
