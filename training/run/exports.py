"""What a run exports: whole files and folders in the place of older ones, and after which step that was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import shutil
import tempfile

from safetensors import SafetensorError

from worldfm_ros.files import write_whole

EXPORTED = ".exported"


def export(out: Path, step: int, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder, then put what is in it into `out`; `out` is the one run's whose `step` this is.

    What was there stays until the new is whole. Raises OSError, one line that names `out`, when there is no room.
    """
    for leftover in out.glob(".export.*"):  # a killed export's
        shutil.rmtree(leftover)
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".export.") as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            new.mkdir()
            old.mkdir()
            write(new)
            for file in (file for file in new.rglob("*") if file.is_file()):
                file.chmod(0o644)  # safetensors makes files that nobody else can read
            for made in sorted(new.iterdir()):
                place = out / made.name
                if place.exists():
                    place.rename(old / made.name)
                made.rename(place)
        write_whole(out / EXPORTED, str(step).encode())
    except (OSError, SafetensorError) as error:
        raise OSError(f"what was learned until step {step} cannot be exported to {out}: {error}; the step's checkpoint "
                      "is there: make room and go on with --resume") from error


def exported(out: Path, step: int) -> bool:
    """Whether the last export was made after this step."""
    file = out / EXPORTED
    return file.exists() and file.read_text() == str(step)
