"""The camera: for the pose that TF gives at each tick, publish what the generator paints.

A lifecycle node that configures (world, model, topics) and activates (TF, ticks) itself unless autostart is false.
At every tick it asks for T_map_camera at exactly that stamp. When TF knows it, the pose goes to one worker thread that
paints and publishes. A stamp whose pose cannot be known gets no image; /diagnostics counts why. In lockstep the
simulator's steps give the ticks, and it waits for their frames.
"""

from __future__ import annotations

import gc
import os
from typing import NoReturn

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from worldfm_ros.ending import MENDABLE
from worldfm_ros.nodes.camera_loading import load_camera
from worldfm_ros.nodes.camera_parameters import CameraParameters
from worldfm_ros.nodes.camera_services import offer_camera_services
from worldfm_ros.nodes.camera_session import CameraSession
from worldfm_ros.nodes.parameters import declare_parameters, follow_changes
from worldfm_ros.nodes.qos import send_from_a_thread
from worldfm_ros.nodes.runner import FAILED, REFUSALS, leave, run
from worldfm_ros.nodes.worker import Threads

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class FrameCamera(LifecycleNode):
    """The node. Raises ValueError or OSError for a world, model or parameter that it cannot work with."""

    def __init__(self, generator=None, threads: Threads | None = None, load=load_camera, **node_options) -> None:
        """`generator`: anything with generate(T_map_camera, intrinsics) -> Frame and a world with a frame_id; by
        default what `load` makes of the parameters. `threads`: what paints, when several cameras share it.
        """
        super().__init__("frame_camera", **node_options)
        # one for all that it is configured to: each thread that paints leaves memory behind
        self._threads, self._owned = threads or Threads(), threads is None
        self._given, self._loader = generator, load
        self.session: CameraSession | None = None
        self.active = False
        self.exit_code: int | None = None
        self.settings = declare_parameters(self, CameraParameters)
        self._refusal: Exception | None = None
        offer_camera_services(self)
        if self.settings.autostart:
            self._start()
        follow_changes(self, lambda: self.settings, self._adopt)

    def _start(self) -> None:
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != SUCCESS:
                self.destroy_node()
                raise self._refusal or RuntimeError("the camera could not be activated")

    def destroy_node(self) -> None:
        if self._owned:
            self._threads.close()
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()  # it would keep the node in the graph, and its name on /rosout

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self.session = CameraSession(self, self.settings, self._load, self._threads)
        except (*MENDABLE, *REFUSALS) as error:
            self._refusal = error
            if not self.settings.autostart:  # else whoever starts it says so
                self.get_logger().error(f"the camera cannot be configured: {error}")
            return FAILURE
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.session.activate()
        self.active = True
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        self.session.deactivate()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._end()
        self.session = None
        gc.collect()  # it and its callbacks know each other, a ring in which its model would stay
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._end()
        return SUCCESS

    def close(self) -> None:
        """At the end of the process: stop painting, and tell the final accounts."""
        if not self._end():
            self.exit_code = FAILED

    def _end(self) -> bool:
        self.active = False
        return self.session is None or self.session.close()

    def _load(self, settings: CameraParameters, again: bool):
        return self._given or self._loader(settings, again, self._say)

    def _adopt(self, new: CameraParameters) -> None:
        if self.session:
            self.session.adopt(new)
        self.settings = new

    def _say(self, text: str, is_bad: bool) -> None:
        # on two lines, because rclpy refuses to change the severity of a line
        if is_bad:
            self.get_logger().warning(text)
        else:
            self.get_logger().info(text)


def main(args=None) -> NoReturn:
    send_from_a_thread(os.environ)
    leave(run(FrameCamera, args))


if __name__ == "__main__":
    main()
