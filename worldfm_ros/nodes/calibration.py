"""A calibration that comes as a message, from camera_calibration for example: kept in a file, as camera_info_manager
keeps it, and painted with from then on."""

from __future__ import annotations

from dataclasses import replace

from sensor_msgs.msg import CameraInfo

from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.sensor_parameters import SETTINGS
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.camera_file import camera_info_yaml, camera_of, write_yaml
from worldfm_ros.sensor.sensor import Sensor

DEFAULT_URL = "file://${ROS_HOME}/camera_info/${NAME}.yaml"  # camera_info_manager's


def camera_of_info(message: CameraInfo) -> Camera:
    """Raises ValueError naming the field of the message that will not do."""
    names = {"width": message.width, "height": message.height, "distortion_model": message.distortion_model,
             "binning_x": message.binning_x, "binning_y": message.binning_y}
    roi = {name: getattr(message.roi, name) for name in ("x_offset", "y_offset", "width", "height")}
    return camera_of(names | {"roi": roi} | {name: list(getattr(message, name)) for name in "dkrp"})


def keep_calibration(message: CameraInfo, settings: CameraParameters) -> dict[str, object]:
    """Write the file of camera_info_url, or where that is empty camera_info_manager's usual one.

    Returns the parameters that put it in force. Raises ValueError for a calibration that will not do or a file outside
    of the allowed folders, and OSError; then no file has changed.
    """
    camera, sensor = camera_of_info(message), settings.sensor
    roi = camera.roi
    values = {
        "camera": "", "camera_info_url": settings.camera_info_url or DEFAULT_URL,
        "distortion_model": "", "distortion": "", "rectification": "", "projection": "",  # the file says them
        "binning_x": camera.binning[0], "binning_y": camera.binning[1],
        "roi": f"{roi.x} {roi.y} {roi.width} {roi.height}" if roi else "",
        **{name: getattr(sensor.settings, name) for name in SETTINGS},  # a camera.yaml may have said some of these
    }
    Sensor(camera, sensor.settings)
    new = replace(settings, **values)
    new.check_folders()
    path = new.camera_path
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yaml(camera_info_yaml(replace(camera, name=new.camera_name)), path)
    return values
