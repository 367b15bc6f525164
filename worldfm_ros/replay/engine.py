"""The engine: jobs in chunks through a runner into parts on the disk, and from them, in order, into an output.

The parts lie in OUT.unfinished beside the output. The same command goes on from what is there, whatever ended the one
before; the output itself appears when it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
import hashlib
import json
from pathlib import Path
import shutil
import sys
from typing import IO

from worldfm_ros.files import LOCK, claim, write_json, write_whole
from worldfm_ros.progress import Progress
from worldfm_ros.replay.parts import unpack
from worldfm_ros.replay.recipe import Job, Painting
from worldfm_ros.replay.runners import Runner

CHUNK = 16  # jobs that a worker is given at a time
UNFINISHED = ".unfinished"
FACTS = "rendering.json"


@dataclass(frozen=True, eq=False)
class Rendering:
    """What is to be painted for the output at `out`. Raises FileExistsError when there is something.

    extra: what else decides the output's bytes, as text.
    """

    out: Path
    painting: Painting
    jobs: Sequence[Job]
    extra: str = ""
    _claims: list[IO] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        check_new(self.out)

    @property
    def folder(self) -> Path:
        """Where unfinished work is kept."""
        return self.out.with_name(self.out.name + UNFINISHED)

    @property
    def chunks(self) -> dict[int, tuple[Job, ...]]:
        return {number: tuple(self.jobs[start:start + CHUNK])
                for number, start in enumerate(range(0, len(self.jobs), CHUNK))}

    @property
    def fingerprint(self) -> str:
        """Tells whether parts that lie there are of this rendering."""
        digest = hashlib.sha256(json.dumps([self.painting.recipe.to_dict(), self.extra]).encode())
        for job in self.jobs:
            digest.update(f"{job.name} {job.camera} {job.stamp}".encode())
            for pose in job.poses:
                digest.update(pose.translation.tobytes() + pose.quaternion.tobytes())
        return digest.hexdigest()

    def paint(self, runner: Runner, progress: Progress) -> None:
        """Paint what is not there yet. Raises ValueError for parts of another rendering or while another process paints
        them, and what the runner raises."""
        self._open()
        missing = {number: jobs for number, jobs in self.chunks.items() if not self._part(number).exists()}
        if len(missing) < len(self.chunks):
            print(f"going on: {len(self.chunks) - len(missing)} of {len(self.chunks)} parts are in {self.folder}",
                  file=sys.stderr)
        results = runner(self.painting, missing)
        try:
            for _ in progress(range(len(missing))):
                number, part = next(results)
                write_whole(self._part(number), part)
        finally:
            if not any(self._part(number).exists() for number in self.chunks):
                self.close()  # it has not begun

    def made(self) -> Iterator[tuple[Job, dict[str, bytes]]]:
        """Each job, and what was made of it, in order. Raises ValueError for a damaged part, which is then removed."""
        for number, jobs in self.chunks.items():
            file = self._part(number)
            try:
                made = unpack(file.read_bytes())
            except ValueError as error:
                file.unlink()
                raise ValueError(f"{file}: {error}; it was removed, run the same command again") from None
            yield from zip(jobs, made, strict=True)

    def close(self) -> None:
        """The output is whole: nothing is unfinished any more."""
        shutil.rmtree(self.folder)
        while self._claims:
            self._claims.pop().close()

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.part"

    def _open(self) -> None:
        facts = self.folder / FACTS
        self.folder.mkdir(exist_ok=True)
        if not facts.exists() and any(file.name != LOCK for file in self.folder.iterdir()):
            raise ValueError(f"{self.folder} is in the way: it is kept for unfinished work, and holds other files")
        self._claims.append(claim(self.folder))
        if not facts.exists():
            write_json(facts, {"fingerprint": self.fingerprint})
        elif json.loads(facts.read_text()) != {"fingerprint": self.fingerprint}:
            raise ValueError(f"{self.folder} is unfinished work of another rendering (world, model, cameras, poses or "
                             "this package have changed); remove it, or choose another name for the output")


def check_new(out: Path) -> None:
    """Raise FileExistsError or FileNotFoundError, before the work, when nothing can be written there."""
    if out.exists():
        raise FileExistsError(f"{out} exists and is never overwritten; choose another name or remove it")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"cannot write {out}: there is no folder {out.absolute().parent}")
