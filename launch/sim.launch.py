"""The simulation under ros2 launch: the nodes of worldfm_ros.nodes.graph as launch actions."""

from __future__ import annotations

from launch import LaunchDescription
from worldfm_ros.nodes.arguments import SimulationArguments
from worldfm_ros.nodes.graph import simulation_graph
from worldfm_ros.nodes.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Declare the simulation's arguments and start its nodes."""
    return describe(__file__, SimulationArguments, simulation_graph)
