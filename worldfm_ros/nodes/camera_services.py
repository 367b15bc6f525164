"""What can be asked of a camera: an image, a pause, a new start of its TF history, another calibration or world, to
merge one into its own, and to write it."""

from __future__ import annotations

from pathlib import Path
from threading import Lock, Thread

from nav_msgs.srv import LoadMap
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.parameter import Parameter
from rclpy.task import Future
from sensor_msgs.srv import SetCameraInfo
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from worldfm_ros.ending import MENDABLE, explained
from worldfm_ros.nodes.calibration import keep_calibration
from worldfm_ros.nodes.runner import REFUSALS
from worldfm_ros.nodes.saving import merge_folder

TRIGGERS = 100  # depth of the queue
ASLEEP = "the camera is not active: configure and activate it (ros2 lifecycle set)"
UNCONFIGURED = "the camera is not configured (ros2 lifecycle set)"
NO_FOLDER = "map_url is empty; give a world folder"
FILE = "file://"  # before a folder in a URL
STEPPED = "in lockstep the simulator says when: use its own services"


def offer_camera_services(node) -> None:
    """All of docs/nodes.md's table, and the topic `trigger`. `node`: a FrameCamera."""
    CameraServices(node)


class CameraServices:
    """Answers in every state of the lifecycle, with a reason where it can do nothing."""

    def __init__(self, node) -> None:
        self._node, self._merging = node, Lock()
        # a group of its own: while an answer waits for its image, rclpy starts no other callback of its group
        node.create_service(Trigger, "~/trigger", self._trigger, callback_group=ReentrantCallbackGroup())
        node.create_service(SetBool, "~/pause", self._pause)
        node.create_service(Trigger, "~/reset", self._reset)
        node.create_service(Trigger, "~/reload_model", self._reload)
        node.create_service(Trigger, "~/save_map", self._save)
        node.create_service(LoadMap, "~/load_map", self._load)
        node.create_service(LoadMap, "~/merge_map", self._merge, callback_group=ReentrantCallbackGroup())
        node.create_service(SetCameraInfo, "set_camera_info", self._calibrate)  # beside camera_info, as tools expect it
        node.create_service(Trigger, "~/reset_world", self._reload)
        node.create_subscription(Bool, "trigger", self._on_trigger, TRIGGERS)

    def _problem(self) -> str:
        if not self._node.active:
            return ASLEEP
        return STEPPED if self._node.session.steps else ""

    def _take(self, done) -> None:
        stamp = self._node.get_clock().now().nanoseconds
        session = self._node.session
        session.request(stamp, session.settings.tf_timeout, done)

    async def _trigger(self, request, response):
        """Answers when the image is published, or why it is not."""
        response.success, response.message = False, self._problem()
        if not response.message:
            outcome: Future = Future()
            self._take(lambda published, text: outcome.done() or outcome.set_result((published, text)))
            response.success, response.message = await outcome
        return response

    def _on_trigger(self, message) -> None:
        problem = self._problem()
        if problem:
            self._node.get_logger().warning(f"trigger ignored: {problem}", throttle_duration_sec=5.0)
        elif message.data:
            self._take(lambda published, text: None)

    def _pause(self, request, response):
        response.message = self._problem()
        response.success = not response.message
        if response.success:
            self._node.session.paused = request.data
            response.message = "paused" if request.data else "it goes on"
        return response

    def _reset(self, request, response):
        response.message = self._problem()
        response.success = not response.message
        if response.success:
            self._node.session.listener.restart()
            response.message = "the TF history starts again"
        return response

    def _reload(self, request, response):
        def reload(session) -> str:
            session.reload()
            return f"{session.settings.world} with {session.settings.model}"

        return self._answer(response, reload)

    def _save(self, request, response):
        return self._answer(response, lambda session: f"the world is in {session.save()}")

    def _answer(self, response, work):
        """`work(session)` says what it has done, or raises why it cannot."""
        session = self._node.session
        try:
            if session is None:
                raise ValueError(UNCONFIGURED)
            response.success, response.message = True, work(session)
        except (*MENDABLE, *REFUSALS) as error:
            response.success, response.message = False, str(error)
        return response

    def _load(self, request, response):
        """As setting the parameter world. The answer has no room for a reason; the log has it."""
        folder = request.map_url.removeprefix(FILE)
        reason = self._set({"world": folder}) if folder else NO_FOLDER
        return self._told("load_map", response, folder, reason)

    async def _merge(self, request, response):
        """Answers when the map has the other world's anchors, too; images go on meanwhile."""
        folder, outcome = request.map_url.removeprefix(FILE), Future()
        Thread(target=lambda: outcome.set_result(self._merged(folder)), name="merge", daemon=True).start()
        return self._told("merge_map", response, folder, await outcome)

    def _merged(self, folder: str) -> str:
        """Why a world cannot be merged, or nothing when it has been. In a thread of its own."""
        session = self._node.session
        if session is None or not folder:
            return NO_FOLDER if session else UNCONFIGURED
        if not self._merging.acquire(blocking=False):
            return "another world is being merged; wait for its answer"
        try:
            merge_folder(session, folder)
        except Exception as error:  # whatever it is, somebody waits for the answer
            return explained(error)
        finally:
            self._merging.release()
        return ""

    def _told(self, name: str, response, folder: str, reason: str):
        """The answer, a number; its reason goes to the log."""
        response.result = LoadMap.Response.RESULT_SUCCESS
        if reason:
            is_there = folder and Path(folder).expanduser().exists()
            response.result = (LoadMap.Response.RESULT_INVALID_MAP_DATA if is_there
                               else LoadMap.Response.RESULT_MAP_DOES_NOT_EXIST)
            self._node.get_logger().warning(f"{name}: {reason}")
        return response

    def _calibrate(self, request, response):
        try:
            reason = self._set(keep_calibration(request.camera_info, self._node.settings))
            response.success, response.status_message = not reason, reason
        except (*MENDABLE, *REFUSALS) as error:
            response.success, response.status_message = False, str(error)
        return response

    def _set(self, values: dict[str, object]) -> str:
        """Set parameters together; why they are refused, or nothing."""
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        return self._node.set_parameters_atomically(parameters).reason
