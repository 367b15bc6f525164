"""The ROS 2 nodes: each converts messages, calls the core and publishes.

Only modules below this package import rclpy and messages.
"""

import os
import sys
from types import TracebackType

from worldfm_ros.ending import FAILED, take_debug, tell


def _say_in_a_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An rclpy that cannot be imported, of another Python or none, before there is a node that could say so."""
    if not isinstance(error, ImportError):
        sys.__excepthook__(kind, error, trace)
        return
    take_debug()
    try:
        raise error
    except ImportError:
        tell(error)
    sys.stderr.flush()
    os._exit(FAILED)


if any(word.startswith(f"{__name__}.") for word in sys.orig_argv):  # python -m worldfm_ros.nodes.NODE
    sys.excepthook = _say_in_a_line
