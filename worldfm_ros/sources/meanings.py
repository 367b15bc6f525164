"""Keys of people's files that change what the numbers beside them mean: known and obeyed, or named and refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
import re

from worldfm_ros.sources.conventions import READ, units_a_metre

METRES_A_UNIT = ("integer_depth_scale", "depth_unit_scale_factor", "depth_unit_m")
UNITS_A_METRE = ("depth_scale", "png_depth_scale", "depth_factor")
CHANGES = re.compile(r"depth|scale|unit|factor|convention|axes|world_to_cam|w2c|mask|crop|invert", re.IGNORECASE)


def depth_units(facts: Mapping, known: Collection[str], where: str) -> float | None:
    """Units of the stored depth a metre, None when nothing is said. `known`: keys that mean nothing here or are read
    elsewhere. Raises ValueError for a scale that is none, two that differ, and unknown keys."""
    found = {}
    for key, value in facts.items():
        try:
            if key in UNITS_A_METRE:
                found[key] = units_a_metre(value, key)
            elif key in METRES_A_UNIT:
                found[key] = 1.0 / metres_a_unit(value, key)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if isinstance(key, str) and CHANGES.search(key) and key not in (*known, *UNITS_A_METRE, *METRES_A_UNIT):
            raise ValueError(f"{where}: the key {key} ({str(value)[:40]!r}) may change what depth or poses mean and is "
                             f"not known; known are {', '.join((*UNITS_A_METRE, *METRES_A_UNIT))}: use one of them, or "
                             "take it out")
    if len({round(value, 6) for value in found.values()}) > 1:
        raise ValueError(f"{where}: {' and '.join(found)} say different things about the depth's unit")
    return next(iter(found.values()), None)


def metres_a_unit(value: float, key: str) -> float:
    """Raises ValueError unless it is a positive length."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1e-6 <= value <= 1e3:
        raise ValueError(f"{key} is the metres of one unit of depth, such as 0.001, got {value!r}")
    return float(value)


def pose_convention(said: object, where: str) -> str:
    """One of conventions.READ, of what people write; None is camera-to-world. Raises ValueError for what says neither
    camera-to-world nor world-to-camera."""
    if said is None:
        return "camera-to-world"
    text = re.sub(r"[^a-z0-9]", "", str(said).lower())
    inverse = any(name in text for name in ("worldtocam", "w2c", "extrinsic"))
    if text == "body":
        return text
    forward = text == "opengl" or any(name in text for name in ("cameratoworld", "camtoworld", "cam2world", "c2w"))
    if inverse == forward:
        raise ValueError(f"{where}: pose_convention is one of {', '.join(READ)}, got {said!r}")
    return {(False, False): "camera-to-world", (True, False): "world-to-camera", (False, True): "opengl",
            (True, True): "opengl-world-to-camera"}[inverse, "opengl" in text]
