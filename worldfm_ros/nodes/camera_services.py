"""What can be asked of a camera: an image, a pause, a new start of its TF history, its world and model again."""

from __future__ import annotations

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from worldfm_ros.ending import MENDABLE
from worldfm_ros.nodes.runner import REFUSALS

TRIGGERS = 100  # depth of the queue
ASLEEP = "the camera is not active: configure and activate it (ros2 lifecycle set)"
STEPPED = "in lockstep the simulator says when: use its own services"


def offer_camera_services(node) -> None:
    """`~/trigger`, `~/pause`, `~/reset`, `~/reload_model`, and the topic `trigger`. `node`: a FrameCamera."""
    CameraServices(node)


class CameraServices:
    """Answers in every state of the lifecycle, with a reason where it can do nothing."""

    def __init__(self, node) -> None:
        self._node = node
        # a group of its own: while an answer waits for its image, rclpy starts no other callback of its group
        node.create_service(Trigger, "~/trigger", self._trigger, callback_group=ReentrantCallbackGroup())
        node.create_service(SetBool, "~/pause", self._pause)
        node.create_service(Trigger, "~/reset", self._reset)
        node.create_service(Trigger, "~/reload_model", self._reload)
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
        session = self._node.session
        try:
            if session is None:
                raise ValueError("the camera is not configured")
            session.reload()
            response.success, response.message = True, f"{session.settings.world} with {session.settings.model}"
        except (*MENDABLE, *REFUSALS) as error:
            response.success, response.message = False, str(error)
        return response


