"""Several cameras of one YAML file in one process, for somebody else's robot or simulator; one model for all."""

from __future__ import annotations

from launch import LaunchDescription
from worldfm_ros.nodes.camera_graphs import RigArguments, rig_graph
from worldfm_ros.nodes.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Declare the rig's arguments and start it."""
    return describe(__file__, RigArguments, rig_graph)
