"""Where the nodes find the rules of TF, which are in worldfm_ros.tf.history."""

from worldfm_ros.tf.history import CACHE, SECOND, ExtrapolationFuture, TransformError, seconds

__all__ = ["CACHE", "SECOND", "ExtrapolationFuture", "TransformError", "seconds"]
