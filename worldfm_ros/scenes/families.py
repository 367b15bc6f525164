"""The families of procedural scenes: a seed makes one.

    scene = make_scene("apartment", seed=0)                      # or your own Scene of Box, Cylinder, Sphere
    image = RayCaster(scene).render(T_world_camera, intrinsics)  # rgb, depth, labels, normals
    frames = observe(scene)                                      # RgbdFrames, as a robot would have recorded them
"""

from __future__ import annotations

from collections.abc import Callable

from worldfm_ros.scenes.apartment import apartment
from worldfm_ros.scenes.office import office
from worldfm_ros.scenes.rooms import rooms
from worldfm_ros.scenes.scene import Scene
from worldfm_ros.scenes.street import street
from worldfm_ros.scenes.warehouse import warehouse

SCENES: dict[str, Callable[[int], Scene]] = {
    "apartment": apartment, "rooms": rooms, "office": office, "warehouse": warehouse,
    "street": street}


def check_families(*names: str) -> None:
    """Raise ValueError, listing the families, unless all names are such and there is one at least."""
    unknown = [name for name in names if name not in SCENES]
    if unknown or not names:
        what = f"there is no family of scenes {unknown[0]!r}" if unknown else "no family of scenes is named"
        raise ValueError(f"{what}; the families: {', '.join(SCENES)}")


def make_scene(family: str, seed: int = 0) -> Scene:
    """The scene of that family and seed. Raises ValueError listing the families."""
    check_families(family)
    return SCENES[family](seed)
