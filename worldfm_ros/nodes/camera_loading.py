"""A camera's generator, and how fast it is on this machine."""

from __future__ import annotations

from collections.abc import Callable
import time

from worldfm_ros.geometry import Pose
from worldfm_ros.nodes.camera_parameters import CameraParameters

WARM_UP = 4  # pictures before the drive
SLOW = 1.0  # seconds; one picture of a slower model tells enough

Say = Callable[[str, bool], None]  # a text, and whether it is bad news


def load_camera(settings: CameraParameters, again: bool, say: Say):
    """The generator of a camera's world and model. Tells how fast it is. Raises ValueError or OSError.

    `again`: whether the files may have changed; without it one that is loaded already would do, if there was one.
    """
    generator = load_generator_of(settings)
    measure(generator, settings, say)
    return growing(generator, settings, say)


def growing(generator, settings: CameraParameters, say: Say):
    """The generator; or, where the map grows, the one that lets it. Raises ValueError for an unknown completer."""
    if not settings.grow:
        return generator
    from worldfm_ros.depth.find import load_completer
    from worldfm_ros.growth import GrowingGenerator, GrowthSettings
    from worldfm_ros.world.insertion import InsertionSettings

    return GrowingGenerator(generator, load_completer(settings.completer),
                            GrowthSettings(insertion=InsertionSettings(max_anchors=settings.max_anchors)),
                            lambda text: say(text, True))


def load_generator_of(settings: CameraParameters):
    """The generator of a camera's world and model, cold. Raises ValueError or OSError."""
    if not settings.world:
        raise ValueError("the parameter world is empty; give a world folder, as `worldfm world build` makes it")
    # Imported here, because compiled code takes seconds to load and Ctrl-C must be heard meanwhile.
    from worldfm_ros.generator import load_generator
    from worldfm_ros.world.storage import load_world

    world = load_world(settings.world, settings.map_memory)
    return load_generator(world, settings.model, settings.seed, settings.preset, settings.objects)


def measure(generator, settings: CameraParameters, say: Say) -> None:
    """Warm up, and say what the generator's speed means for the rate."""
    sensor = settings.sensor
    poses = [keyframe.T_world_camera for keyframe in generator.world.keyframes] or [Pose.identity()]
    duration = warm_up(lambda i: sensor.take(generator.generate, [poses[i % len(poses)]] * len(sensor.offsets), 0))
    say(*speed_line(duration, settings.rate, settings.lockstep))


def warm_up(paint: Callable[[int], object]) -> float:
    """Seconds that a picture takes. The first compiles; ticks must not pile up behind it, and it is no measure."""
    before = 0.0
    for i in range(WARM_UP):
        started = time.perf_counter()
        paint(i)
        duration = time.perf_counter() - started
        if i and duration > SLOW and duration > 0.5 * before:  # else what took so long was compiling
            break
        before = duration
    return duration


def speed_line(duration: float, rate: float, lockstep: bool) -> tuple[str, bool]:
    """What a model that takes `duration` seconds a frame means for `rate` Hz, and whether frames will be lost."""
    text = f"this model takes {1e3 * duration:.0f} ms a frame here: "
    possible = 1.0 / duration
    if possible >= rate:
        return f"{text}enough for the {rate:g} Hz asked", False
    if lockstep:
        return f"{text}lockstep slows the simulation to about {possible / rate:.2g} of real time and loses none", False
    return f"{text}about {possible:.2g} of the {rate:g} Hz asked; lockstep:=true loses none", True
