"""TF for nodes: feeds the buffer of worldfm_ros.tf from /tf and /tf_static."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
import math

from worldfm_ros.geometry import Pose
from worldfm_ros.tf.buffer import TransformBuffer
from worldfm_ros.tf.history import SECOND, TransformError

__all__ = ["TransformBuffer", "TransformError", "TransformListener"]

NEVER = 2**63 - 1  # a deadline, ns


class TransformListener:
    """Feeds a buffer from /tf and /tf_static in the node's executor; keeps its requests' deadlines on the node's clock.

    A jump of that clock back in time clears the buffer.
    """

    def __init__(self, node, buffer: TransformBuffer, on_jump: Callable[[], None] = lambda: None,
                 refused: Counter[str] | None = None) -> None:
        """`on_jump` is called after such a jump, in the node's executor; `refused` counts the transforms that are not
        taken, by reason.
        """
        from rclpy.clock import JumpThreshold
        from rclpy.duration import Duration
        from tf2_msgs.msg import TFMessage

        from worldfm_ros.nodes.offered import Subscription

        self.refused = Counter() if refused is None else refused
        self._buffer, self._clock, self._logger = buffer, node.get_clock(), node.get_logger()
        self._tell_of_jump = on_jump
        self._alarm = node.create_timer(1.0, self._expire)
        self._alarm.cancel()
        self._jump = self._clock.create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=self._on_jump)
        self.on_moved: Callable[[], None] = lambda: None  # called after each message of /tf
        Subscription(node, TFMessage, "/tf_static", lambda message: self._receive(message, static=True), 100, True)
        Subscription(node, TFMessage, "/tf", self._on_tf, 100)

    def request(self, target: str, source: str, stamp_ns: int, timeout: float, callback) -> None:
        """As TransformBuffer.request, with a timeout in seconds of the node's clock; math.inf = none. Call it in the
        node's executor.
        """
        deadline = NEVER if timeout == math.inf else self._clock.now().nanoseconds + round(timeout * SECOND)
        self._buffer.request(target, source, stamp_ns, deadline, callback)
        self._set_alarm()

    def lookup(self, target: str, source: str, stamp_ns: int) -> Pose:
        """As TransformBuffer.lookup."""
        return self._buffer.lookup(target, source, stamp_ns)

    def waiting(self) -> list[tuple[int, TransformError]]:
        """As TransformBuffer.waiting."""
        return self._buffer.waiting()

    def latest(self, target: str, source: str) -> int | None:
        """The newest stamp (ns) at which T_target_source is known; None while it is not, or does not move."""
        try:
            return self._buffer.latest_common_stamp(target, source)
        except TransformError:
            return None

    def restart(self) -> None:
        """Forget all but static transforms; what waits gets TimeJump."""
        self._buffer.clear()
        self._tell_of_jump()

    def close(self) -> None:
        """Hear of no jumps any more; the node's entities are its owner's to destroy."""
        self._jump.unregister()

    def _on_tf(self, message) -> None:
        self._receive(message, static=False)
        self.on_moved()

    def _receive(self, message, static: bool) -> None:
        for stamped in message.transforms:
            header, t, q = stamped.header, stamped.transform.translation, stamped.transform.rotation
            stamp = header.stamp.sec * SECOND + header.stamp.nanosec
            try:
                self._buffer.insert(header.frame_id, stamped.child_frame_id, stamp,
                                    (t.x, t.y, t.z), (q.x, q.y, q.z, q.w), static)
            except TransformError as error:
                self.refused[error.reason] += 1
                self._logger.warning(f"TF ignored: {error}", throttle_duration_sec=5.0)

    def _expire(self) -> None:
        self._buffer.expire(self._clock.now().nanoseconds)
        self._set_alarm()

    def _set_alarm(self) -> None:
        deadline = self._buffer.next_deadline()
        self._alarm.cancel()
        if deadline is not None and deadline != NEVER:
            self._alarm.timer_period_ns = max(1, deadline - self._clock.now().nanoseconds)
            self._alarm.reset()

    def _on_jump(self, jump) -> None:
        self._logger.warning("time jumped back: the TF history starts again")
        self.restart()
