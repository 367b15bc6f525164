"""How a camera's topics are offered, by name. No ROS here."""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    """depth: messages that are kept for a subscriber; latched: also for who comes late (transient local)."""

    depth: int
    reliable: bool
    latched: bool


DEPTH = 10  # frames that are kept for a subscriber; rosbag2 takes its own depth from here
PRESETS = {
    "reliable": Preset(DEPTH, reliable=True, latched=False),
    "sensor_data": Preset(5, reliable=False, latched=False),
    "latched": Preset(1, reliable=True, latched=True),
}
