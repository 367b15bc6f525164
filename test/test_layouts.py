"""The layouts for Foxglove and RViz name topics that a simulation has; the ROS reference is that of the code."""

from importlib.util import find_spec
import json
from pathlib import Path
import time

import pytest
import yaml

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from ros_reference import PAGE, page, simulation  # noqa: E402

CONFIG = Path(__file__).parents[1] / "config"
PATIENCE = 60.0
SHOWS = {"PointCloud2": "sensor_msgs/msg/PointCloud2", "Image": "sensor_msgs/msg/Image",
         "Odometry": "nav_msgs/msg/Odometry"}  # by RViz's class


def foxglove_topics():
    """(topic, type or None) of every panel."""
    for panel in json.loads((CONFIG / "foxglove.json").read_text())["configById"].values():
        mode = panel.get("imageMode", {})
        if mode:
            yield mode["imageTopic"], "sensor_msgs/msg/Image"
            yield mode["calibrationTopic"], "sensor_msgs/msg/CameraInfo"
        yield from ((topic, None) for topic in panel.get("topics", {}))
        yield from ((path["value"].split(".")[0], None) for path in panel.get("paths", []))
        if "topicToRender" in panel:
            yield panel["topicToRender"], "diagnostic_msgs/msg/DiagnosticArray"
        if "upButton" in panel:
            yield panel["topic"], "geometry_msgs/msg/Twist"


def rviz_topics():
    manager = yaml.safe_load((CONFIG / "worldfm.rviz").read_text())["Visualization Manager"]
    for display in manager["Displays"]:
        if "Topic" in display:
            yield display["Topic"]["Value"], SHOWS[display["Class"].split("/")[1]]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A node beside a running simulation."""
    with simulation(tmp_path_factory.mktemp("layouts")) as node:
        yield node


@pytest.fixture(scope="module")
def graph(reader):
    """The topics of the simulation, with their types."""
    wanted = {topic for topic, _ in [*foxglove_topics(), *rviz_topics()]}
    end = time.monotonic() + PATIENCE
    topics = {}
    while time.monotonic() < end and not wanted <= topics.keys():
        time.sleep(0.2)
        topics = dict(reader.get_topic_names_and_types())
    return topics


@pytest.mark.skipif(find_spec("vision_msgs") is not None, reason="with vision_msgs the labels have another topic")
def test_the_ros_reference_is_that_of_the_code(reader):
    assert page(reader) == PAGE.read_text(), "python test/ros_reference.py writes docs/ros_reference.md anew"


@pytest.mark.parametrize("of", [foxglove_topics, rviz_topics])
def test_every_topic_is_there_and_can_be_shown(graph, of):
    for topic, kind in of():
        assert topic in graph, f"{topic} is not among {sorted(graph)}"
        assert kind is None or graph[topic] == [kind], topic


def test_foxgloves_panels_all_have_a_place():
    layout = json.loads((CONFIG / "foxglove.json").read_text())

    def places(part):
        return {part} if isinstance(part, str) else places(part["first"]) | places(part["second"])

    assert places(layout["layout"]) == layout["configById"].keys()
    shown = {topic for topic, _ in foxglove_topics()}
    assert {"/camera/image_raw", "/camera/depth/image_rect", "/camera/segmentation/image_raw", "/diagnostics",
            "/camera/confidence/image_raw", "/camera/anchor_map"} <= shown


def test_rviz_keeps_what_is_latched():
    manager = yaml.safe_load((CONFIG / "worldfm.rviz").read_text())["Visualization Manager"]
    policies = {display["Topic"]["Value"]: display["Topic"]["Durability Policy"] for display in manager["Displays"]
                if "Topic" in display}
    assert policies["/camera/anchor_map"] == "Transient Local"
    assert manager["Global Options"]["Fixed Frame"] == "map"
