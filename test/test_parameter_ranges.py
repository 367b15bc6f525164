"""Every declared parameter of every node: what is in its range is taken as it is, what is beyond is refused by name."""

from dataclasses import fields
import importlib
import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")

from worldfm_ros.nodes.parameter_fields import default_of
from worldfm_ros.nodes.parameters import checked

NODES = {"frame_camera": "CameraParameters", "camera_rig": "RigParameters", "demo_robot": "RobotParameters",
         "bag_recorder": "RecorderParameters", "viewer": "ViewerParameters"}
DECLARED = {f"{node}.{f.name}": f for node, name in NODES.items()
            for f in fields(getattr(importlib.import_module(f"worldfm_ros.nodes.{node}"), name))}
KINDS = {bool: st.booleans(), int: st.integers(-2**63, 2**63 - 1), str: st.text(max_size=8),
         float: st.floats(allow_nan=True, allow_infinity=True), list: st.lists(st.text(max_size=4), max_size=3)}


def at_the_edge(field):
    """Numbers at, just inside and just beyond the ends of a parameter's range."""
    kind = type(default_of(field))
    for end in (field.metadata["minimum"], field.metadata["maximum"]):
        if end is not None:
            yield from (end - 1, end, end + 1) if kind is int else (
                math.nextafter(end, -math.inf), float(end), math.nextafter(end, math.inf))


def is_inside(field, value) -> bool:
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    return not math.isnan(value) and (low is None or value >= low) and (high is None or value <= high)


def check(field, value) -> None:
    kind = type(default_of(field))
    of_kind = type(value) is kind or (kind is float and type(value) is int)
    ranged = field.metadata["minimum"] is not None or field.metadata["maximum"] is not None
    if of_kind and not (ranged and not is_inside(field, value)):
        taken = checked(field, kind, value)
        assert type(taken) is kind and (taken == value or value != value)
    else:
        with pytest.raises(ValueError, match=f"parameter {field.name} "):
            checked(field, kind, value)


@pytest.mark.parametrize("name", DECLARED)
def test_at_and_beyond_its_range(name):
    field = DECLARED[name]
    assert field.metadata["text"]
    check(field, default_of(field))
    for value in at_the_edge(field):
        check(field, value)
    for value in (None, object(), [1], b"x", 1j):
        check(field, value)


@given(name=st.sampled_from(sorted(DECLARED)), value=st.one_of(*KINDS.values()))
def test_any_value(name, value):
    check(DECLARED[name], value)
