"""Node parameters as frozen dataclasses: one field, one ROS parameter with a description and a range.

    @dataclass(frozen=True)
    class CameraParameters:
        rate: float = describe(10.0, "images per second", minimum=0.01, maximum=240.0)

    parameters = declare_parameters(node, CameraParameters)
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import difflib
import sys

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult

from worldfm_ros.nodes.parameter_fields import default_of, describe

__all__ = ["declare_parameters", "describe", "follow_changes"]

LIKENESS = 0.8  # 0 to 1; two letters exchanged in a word of five
_MAX_INTEGER = 2**63 - 1
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", list: "a list of strings"}


def declare_parameters(node, cls, fixed: bool = False):
    """Declare every field of dataclass `cls` on the node, read-only unless it changes (and none is `fixed`), and return
    an instance with the node's values.

    A whole number is accepted where a float is asked (`rate:=10`). Raises ValueError that names the parameter, what it
    takes and what came, and for a name that is almost one of them; another unknown name is warned of.
    """
    _check_names(node, [field.name for field in dataclasses.fields(cls)])
    return cls(**{field.name: _declare(node, field, fixed) for field in dataclasses.fields(cls)})


def follow_changes(node, current: Callable[[], object], adopt: Callable[[object], None]) -> None:
    """Let the parameters that change be set at run time: all that are set together, or none of them.

    `current()` is the dataclass's instance in force, `adopt(new)` puts another one in force; a ValueError or OSError of
    it is the reason for which the change is refused.
    """
    def on_set(parameters) -> SetParametersResult:
        known = {field.name: field for field in dataclasses.fields(current())}
        try:
            values = {p.name: checked(known[p.name], type(getattr(current(), p.name)), p.value)
                      for p in parameters if p.name in known}
            if values:
                adopt(dataclasses.replace(current(), **values))
        except (ValueError, OSError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)


def _check_names(node, names: list[str]) -> None:
    """No misspelt name passes. What resembles none may be meant for other nodes: a file's `/**` goes to all of them."""
    for given in node._parameter_overrides:  # rclpy shows those of undeclared parameters nowhere else
        if given in names or node.has_parameter(given) or given.startswith("qos_overrides."):
            continue
        near = difflib.get_close_matches(given, names, n=1, cutoff=LIKENESS)
        if near:
            raise ValueError(f"there is no parameter {given!r}; did you mean {near[0]!r}?")
        node.get_logger().warning(f"there is no parameter {given!r}; it is ignored. The parameters: {', '.join(names)}")


def _declare(node, field: dataclasses.Field, fixed: bool):
    default = default_of(field)
    # Declared twice: first with any type, because rclpy's own refusal of `rate:=10` for a float names no remedy.
    given = node.declare_parameter(field.name, default, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(field.name)
    value = checked(field, type(default), given)
    node.declare_parameter(field.name, value, _descriptor(field, type(default), fixed), ignore_override=True)
    return value


def checked(field: dataclasses.Field, kind: type, value):
    if kind is float and type(value) is int:
        value = float(value)
    if kind is list and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        value = list(value)
    if type(value) is not kind:
        hint = f"""; quote it: {field.name}:='"{value}"'""" if kind is str else ""
        raise ValueError(f"parameter {field.name} ({field.metadata['text']}) is {_KINDS[kind]}, got {value!r}{hint}")
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if not ((low is None or value >= low) and (high is None or value <= high)):
        bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
        raise ValueError(f"parameter {field.name} ({field.metadata['text']}) is {bounds}, got {value}")
    return value


def _descriptor(field: dataclasses.Field, kind: type, fixed: bool) -> ParameterDescriptor:
    read_only = fixed or not field.metadata["changes"]
    descriptor = ParameterDescriptor(description=field.metadata["text"], read_only=read_only)
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if low is None and high is None:
        return descriptor
    if kind is int:
        low, high = (-_MAX_INTEGER if low is None else low), (_MAX_INTEGER if high is None else high)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    else:
        low, high = (-sys.float_info.max if low is None else low), (sys.float_info.max if high is None else high)
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    return descriptor
