"""The camera node with a model that is slowed down: python slow_camera.py SECONDS --ros-args ..."""

import sys
import time

from worldfm_ros import generator
from worldfm_ros.nodes.frame_camera import FrameCamera
from worldfm_ros.nodes.runner import leave, run

load_generator = generator.load_generator


class Slow:
    """A generator whose every picture takes some seconds more."""

    def __init__(self, quick, seconds):
        self._quick, self._seconds, self.world = quick, seconds, quick.world

    def generate(self, *args):
        time.sleep(self._seconds)
        return self._quick.generate(*args)


if __name__ == "__main__":
    duration = float(sys.argv.pop(1))
    generator.load_generator = lambda *args: Slow(load_generator(*args), duration)
    leave(run(FrameCamera))
