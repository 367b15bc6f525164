"""Camera files in all forms: what one writes another reads, and what is wrong with one is named."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
import yaml

from worldfm_ros.geometry import Intrinsics
from worldfm_ros.sensor.camera import Camera, Roi, hfov_warning
from worldfm_ros.sensor.camera_file import camera_info_yaml, camera_url, camera_yaml, read_camera_file, write_yaml
from worldfm_ros.sensor.lens import Equidistant, PlumbBob, RationalPolynomial

SENSOR = Intrinsics(640, 480, 501.5, 502.5, 322.25, 238.75)
R = Rotation.from_rotvec([0.01, -0.02, 0.005]).as_matrix()
P = np.array([[480.0, 0, 320, -57.6], [0, 480, 240, 0], [0, 0, 1, 0]])
CAMERAS = [Camera(SENSOR, name="plain"), Camera(SENSOR, PlumbBob((-0.3, 0.1, 1e-3, 2e-3, 0.01)), R, P, name="right"),
           Camera(SENSOR, RationalPolynomial((0.5, 0.1, 1e-3, 2e-3, 0.01, 0.9, 0.2, 0.03)), name="k4a"),
           Camera(SENSOR, Equidistant((0.1, 0.01, -0.01, 1e-3)), name="fish")]
# as `ros2 topic echo --once /camera/camera_info` prints it
ECHOED = """header:
  stamp: {sec: 1, nanosec: 2}
  frame_id: camera_optical_frame
height: 480
width: 640
distortion_model: plumb_bob
d: [-0.3, 0.1, 0.001, 0.002, 0.01]
k: [501.5, 0.0, 322.25, 0.0, 502.5, 238.75, 0.0, 0.0, 1.0]
r: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
p: [501.5, 0.0, 322.25, 0.0, 0.0, 502.5, 238.75, 0.0, 0.0, 0.0, 1.0, 0.0]
binning_x: 2
binning_y: 0
roi: {x_offset: 20, y_offset: 10, height: 400, width: 600, do_rectify: true}
---
"""


def assert_same(a: Camera, b: Camera) -> None:
    assert (a.sensor, a.lens, a.binning, a.roi, a.name) == (b.sensor, b.lens, b.binning, b.roi, b.name)
    np.testing.assert_array_equal(a.R, b.R)
    np.testing.assert_array_equal(a.P, b.P)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
@pytest.mark.parametrize("form", [camera_yaml, camera_info_yaml])
def test_what_is_written_is_read(camera, form, tmp_path):
    write_yaml(form(camera), tmp_path / "camera.yaml")
    again = read_camera_file(tmp_path / "camera.yaml")
    assert again.lens.bends == camera.lens.bends
    assert_same(again, camera if camera.lens.bends else Camera(SENSOR, PlumbBob((0.0,) * 5), name=camera.name))


def test_binning_and_roi_are_kept(tmp_path):
    camera = Camera(SENSOR, binning=(2, 4), roi=Roi(10, 20, 300, 200), lens=PlumbBob((0.0,) * 5))
    write_yaml(camera_yaml(camera), tmp_path / "camera.yaml")
    assert_same(read_camera_file(tmp_path / "camera.yaml"), camera)


def test_an_echoed_message_is_a_camera_file(tmp_path):
    (tmp_path / "camera.yaml").write_text(ECHOED)
    camera = read_camera_file(tmp_path / "camera.yaml")
    assert (camera.binning, camera.roi) == ((2, 1), Roi(20, 10, 600, 400))
    # image_geometry: fx / binning, (cx - x_offset) / binning, and no half pixel
    assert camera.picture == Intrinsics(300, 400, 250.75, 502.5, 151.125, 228.75)


def changed(path, value):
    """A good ROS camera_info file with one value changed; None takes it out."""
    data = camera_info_yaml(CAMERAS[1])
    *folders, key = path.split(".")
    place = data
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return data


@pytest.mark.parametrize(("path", "value", "message"), [
    ("image_width", None, "; width missing"),
    ("image_width", "640", "whole number"),
    ("image_width", 0, "between 1 and 8192"),
    ("image_width", 640.5, "whole number"),
    ("camera_matrix", None, "; K missing"),
    ("camera_matrix", [1, 2, 3], "camera_matrix is {rows, cols, data}"),
    ("camera_matrix.data", [1.0] * 8, "camera_matrix is 3x3, got rows 3, cols 3 and 8 numbers"),
    ("camera_matrix.rows", 9, "camera_matrix is 3x3, got rows 9"),
    ("camera_matrix.data", [0.0] * 9, "never calibrated"),
    ("camera_matrix.data", [500.0, 3.0, 320.0, 0, 500, 240, 0, 0, 1], "K is"),
    ("camera_matrix.data", [-500.0, 0, 320.0, 0, 500, 240, 0, 0, 1], "focal lengths"),
    ("camera_matrix.data", [float("inf"), 0, 320.0, 0, 500, 240, 0, 0, 1], "finite"),
    ("camera_matrix.data", ["a"] * 9, "K is a list of finite numbers"),
    ("distortion_coefficients.data", [0.1] * 4, "distortion_coefficients is 1x4, got rows 1, cols 5"),
    ("distortion_coefficients", {"rows": 1, "cols": 6, "data": [0.1] * 6}, "plumb_bob has 4 or 5 coefficients, got 6"),
    ("distortion_coefficients", {"rows": 5, "cols": 1, "data": [0.1] * 5}, "distortion_coefficients is 1x5"),
    ("distortion_model", "brown", "distortion_model 'brown'"),
    ("rectification_matrix.data", [1.0] * 9, "R is a rotation"),
    ("projection_matrix.data", [1.0] * 9, "projection_matrix is 3x4"),
    ("projection_matrix.data", [float("nan")] * 12, "finite"),
    ("binning_x", -1, "binning"),
    ("binning_x", 2.5, "binning"),
    ("roi", {"x_offset": 600, "width": 100, "height": 100}, "roi is a window"),
    ("roi", {"x_offset": 5}, "roi is a window"),
    ("roi", {"width": 1.5, "height": 3}, "whole number"),
    ("roi", [1], "roi is"),
])
def test_what_is_wrong_is_named(path, value, message, tmp_path):
    file = tmp_path / "camera.yaml"
    write_yaml(changed(path, value), file)
    with pytest.raises(ValueError, match=message) as error:
        read_camera_file(file)
    assert str(error.value).startswith(f"{file}: ")


@pytest.mark.parametrize(("text", "message"), [
    ("", "expected keys"), ("- 1", "expected keys"), ("a: [", "is not YAML"), ("\x00", "is not YAML"),
])
def test_what_is_no_mapping_is_refused(text, message, tmp_path):
    (tmp_path / "camera.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_camera_file(tmp_path / "camera.yaml")
    (tmp_path / "camera.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="is no text"):
        read_camera_file(tmp_path / "camera.yaml")


def test_urls(tmp_path):
    def packages(name):
        return f"/opt/share/{name}"

    for url, path in [("file:///a/b.yaml", "/a/b.yaml"), ("package://my_robot/c.yaml", "/opt/share/my_robot/c.yaml"),
                      ("file://${ROS_HOME}/camera_info/${NAME}.yaml", f"{tmp_path}/camera_info/left.yaml"),
                      ("b.yaml", "b.yaml")]:
        assert str(camera_url(url, "left", packages, tmp_path)) == path
    for url in ("http://host/b.yaml", "file://b.yaml", "package://b.yaml"):
        with pytest.raises(ValueError, match="camera_info_url is"):
            camera_url(url, "left", packages, tmp_path)


def test_radians_for_degrees_are_suspicious():
    assert "say hfov 68.8" in hfov_warning(1.2)
    assert "very narrow" in hfov_warning(9.0) and "radians" not in hfov_warning(9.0)
    assert not hfov_warning(70.0) and not hfov_warning(10.0)


def test_the_written_yaml_is_plain(tmp_path):
    """No tags of Python's: other people's readers take it."""
    for camera in CAMERAS:
        write_yaml(camera_info_yaml(camera), tmp_path / "camera.yaml")
        assert yaml.safe_load((tmp_path / "camera.yaml").read_text())["camera_name"] == camera.name
