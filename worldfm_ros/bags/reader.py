"""Reading bags of ROS 1 and 2, any storage: what rosbags reads, with its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """The bag at a path, open. Raises FileNotFoundError, or ValueError for what is no bag."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with AnyReader([path], default_typestore=_typestore()) as reader:
            yield reader
    except AnyReaderError as error:
        raise ValueError(f"{path} is no bag that can be read: {error}") from error


def nanoseconds(stamp: Any) -> int:
    """Of a builtin_interfaces/Time."""
    return stamp.sec * 10**9 + stamp.nanosec


@cache
def _typestore() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)
