"""A camera that takes a picture: asks for painted pinhole views, bends, blurs and develops them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cv2
import numpy as np

from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.sensor.camera import Camera
from worldfm_ros.sensor.exposure import Developer, linear_of_bytes
from worldfm_ros.sensor.lens import PINHOLE, Lens
from worldfm_ros.sensor.motion import MotionSampler, Path, blurred, pose_offsets, view_margin
from worldfm_ros.sensor.randomize import Randomization, jittered, varied
from worldfm_ros.sensor.settings import SensorSettings
from worldfm_ros.sensor.views import View, look_up, plan_views

AS_PAINTED = SensorSettings()
Generate = Callable[[Pose, Intrinsics], Any]  # a Frame's rgb, depth, labels, coverage; maybe more
Prepare = Callable[[Pose, Intrinsics], Callable[[], Any]]  # the same in two steps


@dataclass(frozen=True, eq=False)
class Taken:
    """frame: the picture as it was taken, with depth, labels, coverage and the like of its own pixels, so that lens and
    rolling shutter are in all of them; depth is along the z axis of the camera at the stamp.
    depth (H, W) float32: of the rectified picture at the stamp, metres along its z, 0 = none.
    values: what was randomised, by parameter.
    """

    frame: Any
    depth: np.ndarray
    values: Mapping[str, float] = field(default_factory=dict)


class Sensor:
    """A camera with its settings. Without lens and settings it is what generates: the same arrays, untouched.

    Raises ValueError for a camera whose views would be too large.
    """

    def __init__(self, camera: Camera, settings: SensorSettings = AS_PAINTED,
                 randomization: Randomization | None = None) -> None:
        self.camera, self.settings, self.randomization = camera, settings, randomization
        self.offsets = pose_offsets(settings)  # seconds from the stamp at which `take` needs poses
        self._developer = Developer(camera, settings) if settings.develops else None
        self._rectifying = None
        self.resamples = settings.moves or not camera.is_pinhole
        if not self.resamples:
            self.views: tuple[View, ...] = (View(np.eye(3), camera.picture),)
            return
        rays = pixel_rays(camera.picture, camera.lens)
        rectified = pixel_rays(camera.rectified, PINHOLE) @ camera.R
        margin = view_margin(settings, max(camera.picture.fx, camera.picture.fy))
        self.views = plan_views((rays, rectified), camera.picture, margin)
        self._rectified = look_up(self.views, rectified, camera.R[2])
        self._still = look_up(self.views, rays, np.array([0.0, 0.0, 1.0]))
        self._motion = MotionSampler(settings, self.views, rays) if settings.moves else None

    def take(self, generate: Generate, poses: Sequence[Pose], stamp: int) -> Taken:
        """poses: T_world_camera (optical axes) at the stamp + each of `offsets`; the stamp in nanoseconds, or a frame's
        number, chooses the noise. Raises ValueError for another number of poses."""
        return self.begin(lambda *view: partial(generate, *view), poses, stamp)()

    def begin(self, prepare: Prepare, poses: Sequence[Pose], stamp: int) -> Callable[[], Taken]:
        """`take` in two steps: views are prepared now; what is returned has them painted and takes the picture."""
        if len(poses) != len(self.offsets):
            raise ValueError(f"this camera needs {len(self.offsets)} poses, got {len(poses)}")
        if self.randomization is None:
            return self._begin(prepare, poses, stamp)
        name = self.camera.name
        values = self.randomization.values(name, stamp)
        develop = self._begin(prepare, [jittered(pose, values) for pose in poses], stamp)

        def vary() -> Taken:
            taken, source = develop(), self.randomization.source(name, stamp, "picture")
            return replace(taken, frame=varied(taken.frame, values, source), values=values)

        return vary

    def _begin(self, prepare: Prepare, poses: Sequence[Pose], stamp: int) -> Callable[[], Taken]:
        center = poses[len(poses) // 2]
        paints = [prepare(center @ view.T_camera_view, view.intrinsics) for view in self.views]
        return lambda: self._taken([paint() for paint in paints], poses, stamp)

    def _taken(self, frames: Sequence[Any], poses: Sequence[Pose], stamp: int) -> Taken:
        if not self.resamples:
            frame, = frames
            return Taken(self._developed(frame, stamp), frame.depth)
        depths = [frame.depth for frame in frames]
        lookups = (self._still,) * 3
        if self._motion:
            lookups = self._motion.lookups(Path(self.offsets, poses), depths)
        middle = lookups[1]
        numbers = {name: middle.nearest([getattr(frame, name) for frame in frames])
                   for name in ("labels", "coverage", "instances", "confidence")
                   if getattr(frames[0], name, None) is not None}
        frame = replace(frames[0], rgb=self._resampled(lookups, frames, stamp), depth=middle.depth(depths), **numbers)
        return Taken(frame, self._rectified.depth(depths))

    def rectified(self, rgb: np.ndarray) -> np.ndarray:
        """A picture that was taken, (H, W, 3) uint8, as image_proc rectifies it by D, R and P."""
        if self._rectifying is None:
            camera = self.camera
            rays = pixel_rays(camera.rectified, PINHOLE) @ camera.R
            points = camera.lens.project(rays) * [camera.picture.fx, camera.picture.fy]
            points += [camera.picture.cx, camera.picture.cy]
            self._rectifying = np.nan_to_num(points, nan=-1e4).clip(-1e4, 3e4).astype(np.float32)
        return cv2.remap(rgb, self._rectifying, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def _resampled(self, lookups, frames, stamp: int) -> np.ndarray:
        pictures = [frame.rgb for frame in frames]
        if self.settings.exposure_time:
            light = blurred(lookups, [linear_of_bytes()[picture] for picture in pictures])
            developer = self._developer or Developer(self.camera, self.settings)
            return developer.develop(light, stamp)
        picture = lookups[1].sample(pictures, cv2.INTER_CUBIC)
        return picture if not self._developer else self._developer.develop(linear_of_bytes()[picture], stamp)

    def _developed(self, frame, stamp: int):
        if not self._developer:
            return frame
        return replace(frame, rgb=self._developer.develop(linear_of_bytes()[frame.rgb], stamp))


def pixel_rays(picture: Intrinsics, lens: Lens) -> np.ndarray:
    """(H, W, 3) unit rays of a picture's pixels, NaN where the lens sees nothing."""
    x = (np.arange(picture.width) - picture.cx) / picture.fx
    y = (np.arange(picture.height) - picture.cy) / picture.fy
    return lens.unproject(np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1))
