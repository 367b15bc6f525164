"""The messages of a camera as serialised bytes, without ROS: those that the live camera publishes for the same shot.

Serialised by rosbags. Fast CDR leaves what lies in the gaps of alignment undefined and rosbags writes 0 there, and
between processes DDS pads a message to a multiple of 4 bytes; all other bytes are equal (test/test_replay_live.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
import sys

import numpy as np

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.encodings import compress_depth, encode_picture, metres, millimetres
from worldfm_ros.replay import truths
from worldfm_ros.replay.cameras import ReplayCamera
from worldfm_ros.replay.cdr import made, make_header, numbered, serialised
from worldfm_ros.replay.detections import DETECTIONS_2D, DETECTIONS_3D, detections_2d, detections_3d
from worldfm_ros.replay.recipe import Shot
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.camera_info import info_fields, rectified_camera

IMAGE, INFO, COMPRESSED = (f"sensor_msgs/msg/{name}" for name in ("Image", "CameraInfo", "CompressedImage"))
TF, STRING = "tf2_msgs/msg/TFMessage", "std_msgs/msg/String"
JPEG_QUALITY = 90


@dataclass(frozen=True)
class MessageMaker:
    """The messages of a shot, by topic below the camera's namespace. compressed: as JPEG and compressedDepth; truth:
    what else, of truths.TRUTHS; map_frame: that 3D boxes are in."""

    compressed: bool = False
    truth: tuple[str, ...] = ()
    map_frame: str = "map"

    @property
    def topics(self) -> dict[str, str]:
        """All topics below a namespace, and their types; a camera whose model has no confidence sends none."""
        names = {"image_raw": IMAGE, "depth/image_rect": IMAGE}
        if self.compressed:
            names = {"image_raw/compressed": COMPRESSED, "depth/image_rect/compressedDepth": COMPRESSED}
        return names | {"camera_info": INFO, "depth/camera_info": INFO, "segmentation/image_raw": IMAGE,
                        "instances/image_raw": IMAGE, "confidence/image_raw": IMAGE, "normals/image_raw": IMAGE,
                        "flow/image_raw": IMAGE, "boxes": STRING, "detections_2d": DETECTIONS_2D,
                        "detections_3d": DETECTIONS_3D, "randomization": STRING}

    def __call__(self, shot: Shot) -> dict[str, bytes]:
        frame, header = shot.taken.frame, make_header(shot.job.stamp, shot.camera.frame)
        instances = truths.instances_of(shot)
        messages = self._pictures(shot, header) | {
            "camera_info": camera_info(shot.sensor.camera, header),
            "depth/camera_info": camera_info(rectified_camera(shot.sensor.camera), header),
            "segmentation/image_raw": image(frame.labels, "mono16", header)}
        if instances is not None:
            messages["instances/image_raw"] = image(instances, "mono16", header)
        if frame.confidence is not None:
            messages["confidence/image_raw"] = image(frame.confidence, "mono8", header)
        messages |= self._further(shot, header, instances)
        if shot.taken.values:
            messages["randomization"] = text({"stamp": shot.job.stamp, "values": dict(shot.taken.values)})
        return messages

    def _pictures(self, shot: Shot, header) -> dict[str, bytes]:
        encoding = shot.camera.depth_encoding
        depth = metres(shot.taken.depth) if encoding == "32FC1" else millimetres(shot.taken.depth)
        if not self.compressed:
            return {"image_raw": image(shot.taken.frame.rgb, "rgb8", header),
                    "depth/image_rect": image(depth, encoding, header)}
        rgb = encode_picture(shot.taken.frame.rgb, "jpeg", JPEG_QUALITY)
        return {"image_raw/compressed": compressed("rgb8; jpeg compressed bgr8", rgb, header),
                "depth/image_rect/compressedDepth": compressed(f"{encoding}; compressedDepth png",
                                                               compress_depth(depth), header)}

    def _further(self, shot: Shot, header, instances: np.ndarray | None) -> dict[str, bytes]:
        """What `truth` names, but for the things, which are instances."""
        messages = {}
        if "normals" in self.truth:
            messages["normals/image_raw"] = image(truths.normals(shot), "32FC3", header)
        if "flow" in self.truth:
            messages["flow/image_raw"] = image(truths.flow(shot), "32FC2", header)
        if "boxes" in self.truth:
            boxes, stamp = truths.boxes(shot, instances), shot.job.stamp
            messages |= {"boxes": text({"stamp": stamp, "boxes": boxes}),
                         "detections_2d": detections_2d(boxes, stamp, shot.camera.frame),
                         "detections_3d": detections_3d(boxes, stamp, self.map_frame)}
        return messages


def image(pixels: np.ndarray, encoding: str, header) -> bytes:
    """(H, W) or (H, W, 3) of the encoding's type."""
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    return serialised(IMAGE, header=header, height=height, width=width, encoding=encoding,
                      is_bigendian=int(sys.byteorder == "big"), step=pixels.strides[0],
                      data=pixels.reshape(-1).view(np.uint8))


def compressed(kind: str, data: bytes, header) -> bytes:
    return serialised(COMPRESSED, header=header, format=kind, data=np.frombuffer(data, np.uint8))


def camera_info(camera: Camera, header) -> bytes:
    values = info_fields(camera)
    roi = made("sensor_msgs/msg/RegionOfInterest", **values.pop("roi"))
    arrays = {name: np.array(values[name], np.float64) for name in "dkrp"}
    return serialised(INFO, header=header, roi=roi, **values | arrays)


def names(labels: Mapping[int, str]) -> bytes:
    """The names by label."""
    return text({str(label): name for label, name in sorted(labels.items())})


def text(content: object) -> bytes:
    """JSON in a String."""
    return serialised(STRING, data=json.dumps(content))


def static_transforms(camera: ReplayCamera, stamp: int) -> bytes:
    """A camera's mount, as the live camera publishes it on /tf_static."""
    return serialised(TF, transforms=[transform(*mount, stamp) for mount in camera.mounts])


def transform(pose: Pose, parent: str, child: str, stamp: int):
    """A TransformStamped of T_parent_child."""
    return made("geometry_msgs/msg/TransformStamped", header=make_header(stamp, parent), child_frame_id=child,
                transform=made("geometry_msgs/msg/Transform", translation=numbered("Vector3", pose.translation, "xyz"),
                               rotation=numbered("Quaternion", pose.quaternion, "xyzw")))

