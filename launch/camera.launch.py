"""The camera alone, for somebody else's robot or simulator; its mount is published as static TF."""

from __future__ import annotations

from launch import LaunchDescription
from worldfm_ros.nodes.camera_graphs import CameraArguments, camera_graph
from worldfm_ros.nodes.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Declare the camera's arguments and start it."""
    return describe(__file__, CameraArguments, camera_graph)
