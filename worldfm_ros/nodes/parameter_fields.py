"""Parameters described as fields of frozen dataclasses, without ROS: parameters.py declares them on a node."""

from __future__ import annotations

import dataclasses


def describe(default, text: str, minimum=None, maximum=None, changes: bool = False):
    """A dataclass field that is a ROS parameter: bool, int, float, str or list of str, as `default` is. One that
    `changes` may be set while the node runs (parameters.follow_changes).
    """
    metadata = {"text": text, "minimum": minimum, "maximum": maximum, "changes": changes}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def default_of(field: dataclasses.Field):
    """The default of a field."""
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()
