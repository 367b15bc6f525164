"""How `worldfm bench generate` measures: painters in turns on the same poses; time, stages, memory, FLOPs, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
import itertools
import time
import weakref

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from worldfm_ros.bench.arms import weights_bytes
from worldfm_ros.frame_model.cuda_graphs import Eager, leaves
from worldfm_ros.generator import FrameGenerator
from worldfm_ros.geometry import Intrinsics, Pose
from worldfm_ros.painting.learned import LearnedPainter
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.keyframes import Keyframe
from worldfm_ros.world.renderer import AnchorView, render
from worldfm_ros.world.storage import World

Progress = Callable[[Sequence, str], Iterable]  # goes through the items while it tells somebody how far it is
IDENTICAL = 120.0  # dB, stands for pictures without any difference
KEYFRAME_EVERY = 8  # frames of the path


# ---- what is painted


def bench_world(intrinsics: Intrinsics, poses: Sequence[Pose], points: int = 300_000) -> World:
    """A room with patterned walls, 6 x 5 x 2.7 m, as anchors that just close, and keyframes along the path."""
    rng = np.random.default_rng(0)
    corner = np.array([3.0, 2.5, 1.35])
    axis, side = rng.integers(0, 3, points), rng.choice([-1.0, 1.0], points)
    places = rng.uniform(-corner, corner, (points, 3))
    places[np.arange(points), axis] = side * corner[axis]
    waves = np.sin(places @ rng.normal(0.0, 4.0, (3, 3)) + 3.0 * axis[:, None])
    colors = (127.5 + 90.0 * waves + rng.normal(0.0, 8.0, (points, 3))).clip(0, 255).astype(np.uint8)
    spacing = float(np.sqrt(8.0 * (corner[0] * corner[1] + corner[1] * corner[2] + corner[0] * corner[2]) / points))
    anchors = AnchorMap.from_points(places, colors, labels=axis + 1, radius=0.75 * spacing)
    keyframes = []
    for pose in poses[::KEYFRAME_EVERY]:
        view = render(anchors.visible(pose, intrinsics), pose, intrinsics)
        keyframes.append(Keyframe(len(keyframes), view.rgb, view.depth, intrinsics, pose))
    return World("room", anchors, keyframes, spacing)


def bench_path(frames: int) -> list[Pose]:
    """T_world_camera of a robot that drives 3 cm a frame through the room and turns 1 degree."""
    poses = []
    for i in range(frames):
        angle, eye = np.radians(i), np.array([-1.5 + 0.03 * (i % 100), 0.3, -0.2])
        poses.append(Pose.looking_at(eye, eye + [np.cos(angle), np.sin(angle), -0.1]))
    return poses


# ---- measuring


@dataclass(eq=False)
class StageClock:
    """When the stages of a frame ended; on a GPU by its own clock, so that nothing waits for it."""

    device: torch.device
    stamps: list[tuple[str, object]] = field(default_factory=list)

    def __call__(self, stage: str) -> None:
        if self.device.type == "cuda":
            stamp = torch.cuda.Event(enable_timing=True)
            stamp.record(torch.cuda.current_stream(self.device))
        else:
            stamp = time.perf_counter()
        self.stamps.append((stage, stamp))

    def read(self) -> dict[str, float]:
        """Milliseconds of each stage since the last read."""
        stamps, self.stamps = self.stamps, []
        start = stamps[0][1]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return of_each_stage([(stage, start.elapsed_time(stamp)) for stage, stamp in stamps])
        return of_each_stage([(stage, 1e3 * (stamp - start)) for stage, stamp in stamps])


def of_each_stage(until: Sequence[tuple[str, float]]) -> dict[str, float]:
    """What each stage added, from the sums at its end; the first entry is the start. Steps are numbered."""
    added, steps = {}, 0
    for (_, before), (stage, after) in itertools.pairwise(until):
        if stage == "step":
            steps += 1
            stage = f"step {steps}"
        added[stage] = after - before
    return added


@dataclass(eq=False)
class Contender:
    """A painter in its own generator, and what was measured of it."""

    painter: LearnedPainter
    world: World
    frames_ms: list[float] = field(default_factory=list)
    stages_ms: list[dict[str, float]] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)
    stages_flop: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self.clock = StageClock(self.painter.model.device)
        self.painter.on_stage = self.clock
        self.generator = FrameGenerator(self.world, self)

    def paint(self, drawing: AnchorView, references: Sequence[Keyframe], T_world_camera: Pose,
              intrinsics: Intrinsics) -> np.ndarray:
        self.painter.on_stage("draw")
        return self.painter.paint(drawing, references, T_world_camera, intrinsics)

    def warm_up(self, pose: Pose, intrinsics: Intrinsics) -> None:
        """One frame that counts FLOPs and memory instead of time; on a GPU some more, which record its graphs."""
        device, run, counter = self.painter.model.device, self.painter.run, flop_counter()
        flops: list[tuple[str, float]] = [("start", 0.0)]
        self.painter.run = Eager()
        self.painter.on_stage = lambda stage: flops.append((stage, counter.get_total_flops()))
        with live_bytes(device) as live, counter:
            self.generator.generate(pose, intrinsics)
        self.painter.run, self.painter.on_stage = run, self.clock
        self.stages_flop, peak = of_each_stage(flops), live()
        if device.type == "cuda":
            with live_bytes(device) as live:
                for _ in range(3):
                    self.generator.generate(pose, intrinsics)
            peak = max(peak, live())
        self.peak_bytes = weights_bytes(self.painter.model) + peak
        self.clock.stamps.clear()

    def frame(self, pose: Pose, intrinsics: Intrinsics) -> None:
        """One frame that counts. It ends with the picture on the host, so nothing is left to wait for."""
        start = time.perf_counter()
        self.clock("start")
        self.pictures.append(self.generator.generate(pose, intrinsics).rgb)
        self.frames_ms.append(1e3 * (time.perf_counter() - start))
        self.stages_ms.append(self.clock.read())

    def figures(self, exact: Contender, peak_gflops: float) -> dict:
        """The JSON entry of an arm."""
        mean, frames = float(np.mean(self.frames_ms)), len(self.frames_ms)
        happened = {stage: sum(stage in frame for frame in self.stages_ms) / frames for stage in self.stages_flop}
        gflop = sum(flop * happened[stage] for stage, flop in self.stages_flop.items()) / 1e9
        return {
            "fps": 1e3 / mean,
            "p50_ms": float(np.median(self.frames_ms)),
            "p95_ms": float(np.percentile(self.frames_ms, 95)),
            "best_ms": min(self.frames_ms),
            "stages_ms": {stage: sum(frame.get(stage, 0.0) for frame in self.stages_ms) / frames
                          for stage in self.stages_flop},
            "peak_mb": self.peak_bytes / 1e6,
            "psnr_to_exact": psnr(self.pictures, exact.pictures),
            "gflop": gflop,
            "gflops": gflop / np.median(self.frames_ms) * 1e3,
            "share_of_peak": gflop / np.median(self.frames_ms) * 1e3 / peak_gflops,
        }


def in_silence(items: Sequence, what: str) -> Iterable:
    return items


def take_turns(contenders: Sequence[Contender], poses: Sequence[Pose], intrinsics: Intrinsics,
               progress: Progress = in_silence) -> None:
    """Each frame by every contender, in an order that alternates, so that all meet the same machine."""
    for contender in progress(contenders, "warming up"):
        contender.warm_up(poses[0], intrinsics)
    for i, pose in enumerate(progress(poses, "painting")):
        for contender in contenders[::-1 if i % 2 else 1]:
            contender.frame(pose, intrinsics)


def psnr(pictures: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """dB over all pictures together; IDENTICAL when nothing differs."""
    error = np.mean([np.square(a.astype(np.float64) - b).mean() for a, b in zip(pictures, exact, strict=True)])
    return IDENTICAL if error == 0 else float(10.0 * np.log10(255.0**2 / error))


def matmul_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """What this machine reaches in a large square matrix product: the best of 6 runs."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device).to(dtype)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        product = a @ a
        product[0, 0].item()
        seconds.append(time.perf_counter() - start)
    return 2.0 * n**3 / min(seconds) / 1e9


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def torch_environment() -> dict:
    """What torch adds to the environment; it may use less than the processor's instruction set."""
    return {"torch": torch.__version__, "torch_isa": torch.backends.cpu.get_cpu_capability(),
            "diffusers": version("diffusers")}


def flop_counter() -> FlopCounterMode:
    """Counts 2 for a multiplication and addition in linear layers, convolutions and attention, also a CPU's."""
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention(query_shape, key_shape, value_shape, *rest, **options) -> int:
        return sdpa_flop_count(query_shape, key_shape, value_shape)

    return FlopCounterMode(display=False, custom_mapping={on_cpu: attention})


@contextmanager
def live_bytes(device: torch.device) -> Iterator[Callable[[], int]]:
    """Inside, the most bytes of tensors that are alive at once, without those from before: call what is yielded."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
        return
    with LiveTensors() as tensors:
        yield lambda: tensors.peak


class LiveTensors(TorchDispatchMode):
    """Follows the storages that operations make until the last tensor on them is gone. `peak` is in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._tensors: dict[int, int] = {}  # how many live on the storage at an address

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        outside = {address_of(leaf) for leaf in leaves(arguments) if isinstance(leaf, Tensor)} - self._tensors.keys()
        for leaf in leaves(made):
            if isinstance(leaf, Tensor) and address_of(leaf) not in outside:  # weights and views of them are not new
                self._follow(leaf)
        return made

    def _follow(self, tensor: Tensor) -> None:
        address, size = address_of(tensor), tensor.untyped_storage().nbytes()
        self._tensors[address] = self._tensors.get(address, 0) + 1
        if self._tensors[address] == 1:
            self._now += size
            self.peak = max(self.peak, self._now)
        weakref.finalize(tensor, self._drop, address, size)

    def _drop(self, address: int, size: int) -> None:
        self._tensors[address] -= 1
        if self._tensors[address] == 0:
            del self._tensors[address]
            self._now -= size


def address_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
